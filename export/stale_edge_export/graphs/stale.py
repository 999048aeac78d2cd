"""The network arranged for export: the stages between features and logits, each replaceable by a faster equal.

The network itself knows nothing of ONNX. A `DetectionGraph` borrows its parts; `rewrites` swaps them.

Symbols: B batch, T snippets, D feature width, C classes, A anchors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stale_edge.networks.stale.model import CLAMP_MIN, LOGIT_SCALE, STALE, foreground_gate

SHORTEST = 1e-12
"""Smallest divisor for a length, as in `torch.nn.functional.normalize`."""


class DetectionGraph(nn.Module):
    """Graph from features to the three outputs of the contract, in stages.

    Args:
        network: The network whose parts to use.
        text: Gives text embeddings [C, D] from the inputs that follow the features.
    """

    def __init__(self, network: STALE, text: nn.Module) -> None:
        super().__init__()
        self.text = text
        self.common = network.common
        self.temporal: nn.Module = SelfAttention(network)
        self.mask_head: nn.Module = network.mask_head
        self.gate = None if network.config.ours.no_gate else Gate()
        self.cross_attention: nn.Module = CrossAttention(network)
        self.similarities = Similarities(signed=network.config.ours.signed_similarity)

    def forward(self, features: Tensor, *text_inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits [B, T, C + 1], masks [B, A, T], video logits [B, C] from features [B, T, D]."""
        text_embeddings = self.text(*text_inputs)  # [C, D]
        if self.common is not None:
            features, text_embeddings = self.common(features, text_embeddings)
        embedded = self.temporal(features)  # [B, T, D]
        masks = self.mask_head(embedded)  # [B, A, T]
        gated = embedded if self.gate is None else embedded * self.gate(masks)  # [B, T, D]
        text = self.cross_attention(gated, text_embeddings)  # [B, C + 1, D]
        class_logits, video_logits = self.similarities(gated, text)
        return class_logits, masks, video_logits


def lengths(rows: Tensor) -> Tensor:
    """Length of each row of [B, N, D], [B, N, 1]: onnxruntime sums fast along the last axis, but squares are slow."""
    return (rows * rows).sum(dim=2, keepdim=True).sqrt()


class SelfAttention(nn.Module):
    """The temporal embedding as the network computes it."""

    def __init__(self, network: STALE) -> None:
        super().__init__()
        self.attention = network.temporal_embedding

    def forward(self, features: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        embedded: Tensor = self.attention(features, features)
        return embedded


class Gate(nn.Module):
    """The foreground gate."""

    def forward(self, masks: Tensor) -> Tensor:
        """[B, A, T] to [B, T, 1], zeros and ones."""
        return foreground_gate(masks)


class CrossAttention(nn.Module):
    """The cross attention as the network computes it, rows brought to length one."""

    def __init__(self, network: STALE) -> None:
        super().__init__()
        self.attention = network.cross_attention
        self.register_buffer("background", network.background_embedding.detach())

    background: Tensor

    def forward(self, gated: Tensor, text_embeddings: Tensor) -> Tensor:
        """Text [B, C + 1, D] from gated features [B, T, D] and text embeddings [C, D]."""
        text = torch.cat((text_embeddings, self.background)).expand(gated.shape[0], -1, -1)
        return F.normalize(self.attention(text, gated), dim=2)


class Similarities(nn.Module):
    """Scaled cosines, with the length of a snippet divided out after the product rather than before.

    Args:
        signed: Keep negative entries, see `similarity_logits`.
    """

    def __init__(self, *, signed: bool) -> None:
        super().__init__()
        self.signed = signed

    def forward(self, gated: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits [B, T, C + 1] and video logits [B, C].

        Args:
            gated: [B, T, D], background snippets zero.
            text: [B, C + 1, D], rows of length one, background last.
        """
        clamped = gated if self.signed else gated.clamp(min=CLAMP_MIN)  # [B, T, D]
        transposed = text.transpose(1, 2)  # [B, D, C + 1]
        length = lengths(clamped)  # [B, T, 1], zero only where a gate sets signed entries to zero
        scale = LOGIT_SCALE / (length.clamp(min=SHORTEST) if self.signed else length)
        # A transposed column of ones sums in blocks; onnxruntime's mean over a middle axis, and its product with a row,
        # add one by one, and at 1000 snippets that rounding alone is 2e-4 on the logits.
        ones = clamped.new_ones(clamped.shape[0], clamped.shape[1], 1)  # [B, T, 1]
        video = ones.transpose(1, 2) @ clamped  # [B, 1, D]
        video_logits = (F.normalize(video, dim=2) @ transposed).squeeze(1)[:, :-1]
        return clamped @ transposed * scale, LOGIT_SCALE * video_logits
