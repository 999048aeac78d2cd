"""The network arranged for export: the stages between features and logits, each replaceable by a faster equal.

The network itself knows nothing of ONNX. A `DetectionGraph` borrows its parts; `rewrites` swaps them.

Symbols: B batch, T snippets, D feature width, C classes, A anchors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stale_edge.model import CLAMP_MIN, LOGIT_SCALE, STALE, foreground_gate

if TYPE_CHECKING:
    from collections.abc import Callable


class DetectionGraph(nn.Module):
    """From features to the three outputs of the contract, in stages.

    Args:
        network: The network whose parts to use.
        text: Gives text embeddings [C, D] from the inputs that follow the features.
    """

    def __init__(self, network: STALE, text: Callable[..., Tensor]) -> None:
        super().__init__()
        self.network = network
        self.text = text
        self.temporal: Callable[[Tensor], Tensor] = SelfAttention(network)
        self.mask_head: Callable[[Tensor], Tensor] = network.mask_head
        self.score: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] = Scores(network)

    def forward(self, features: Tensor, *text_inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits [B, T, C + 1], masks [B, A, T], video logits [B, C] from features [B, T, D]."""
        embedded = self.temporal(features)  # [B, T, D]
        masks = self.mask_head(embedded)  # [B, A, T]
        keep = foreground_gate(masks)  # [B, T, 1]
        class_logits, video_logits = self.score(embedded, keep, self.text(*text_inputs))
        return class_logits, masks, video_logits


class SelfAttention(nn.Module):
    """The temporal embedding as the network computes it."""

    def __init__(self, network: STALE) -> None:
        super().__init__()
        self.attention = network.temporal_embedding

    def forward(self, features: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        embedded: Tensor = self.attention(features, features)
        return embedded


class Scores(nn.Module):
    """Cross attention and similarities as the network computes them."""

    def __init__(self, network: STALE) -> None:
        super().__init__()
        self.network = network

    def forward(self, embedded: Tensor, keep: Tensor, text_embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits and video logits from embedded features [B, T, D], the gate [B, T, 1] and text [C, D]."""
        gated = embedded * keep
        text = self.network.with_background(text_embeddings).expand(embedded.shape[0], -1, -1)
        text = F.normalize(self.network.cross_attention(text, gated), dim=2)
        return scaled_similarities(gated, text)


def scaled_similarities(gated: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """Class and video logits, with the length of a snippet divided out after the product rather than before.

    Args:
        gated: [B, T, D], background snippets zero.
        text: [B, C + 1, D], rows of length one, background last.
    """
    clamped = gated.clamp(min=CLAMP_MIN)  # [B, T, D]
    transposed = text.transpose(1, 2)  # [B, D, C + 1]
    scale = LOGIT_SCALE / clamped.norm(dim=2, keepdim=True)  # [B, T, 1]
    # A product with ones sums in blocks; onnxruntime's mean over a middle axis adds one by one, and at 1000
    # snippets its rounding alone is 2e-4 on the logits.
    video = torch.ones_like(scale).transpose(1, 2) @ clamped  # [B, 1, D]
    video_logits = (F.normalize(video, dim=2) @ transposed[:, :, :-1]).squeeze(1)
    return clamped @ transposed * scale, LOGIT_SCALE * video_logits


class StoredText(nn.Module):
    """Text embeddings fixed at export.

    Args:
        embeddings: [C, D].
    """

    embeddings: Tensor

    def __init__(self, embeddings: Tensor) -> None:
        super().__init__()
        self.register_buffer("embeddings", embeddings)

    def forward(self) -> Tensor:
        """[C, D]."""
        return self.embeddings


class GivenText(nn.Module):
    """Text embeddings as an input."""

    def forward(self, text_embeddings: Tensor) -> Tensor:
        """[C, D], as given."""
        return text_embeddings


def text_embeddings(network: STALE, class_names: tuple[str, ...]) -> Tensor:
    """Text embeddings [C, D] of class names, computed once by the network's own tower."""
    from stale_edge.text import tokenize

    config = network.config.text
    context = config.context if config else 77
    with torch.inference_mode():
        embeddings = network.encode_text(torch.from_numpy(tokenize(class_names, context)))
    return embeddings.clone()
