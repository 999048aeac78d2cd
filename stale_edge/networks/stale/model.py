"""The STALE network: from snippet features and text embeddings to class logits and masks, for any length.

Symbols: B batch, T snippets, D feature width, H heads, C classes, A anchors.

Source: Nag et al., "Zero-Shot Temporal Action Detection via Vision-Language Prompting" (ECCV 2022), as docs/network.md
records it. The published network fixes T = A; here anchor a stands for the relative time (a + 1/2) / A and T is free.
At T = A the two agree to the last digit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stale_edge.networks.clip_text import TextTower
from stale_edge.networks.stale.representation_mask import RepresentationMask

if TYPE_CHECKING:
    from stale_edge.networks.stale.config import ModelConfig

LOGIT_SCALE = 100.0
CLAMP_MIN = 1e-4


class DetectionTensors(NamedTuple):
    """Inputs of the decoding, and the embedded features that the loss looks at."""

    class_logits: Tensor
    """[B, T, C + 1], background last."""
    masks: Tensor
    """[B, A, T], in (0, 1): row a says which snippets belong to the action that covers anchor a."""
    video_logits: Tensor
    """[B, C]."""
    embedded: Tensor
    """[B, T, D], the features after temporal attention."""


class NetworkOutput(NamedTuple):
    """The published forward pass: everything that training needs."""

    class_logits: Tensor
    """[B, T, C + 1], background last."""
    masks: Tensor
    """[B, A, T], in (0, 1)."""
    video_logits: Tensor
    """[B, C]."""
    embedded: Tensor
    """[B, T, D]."""
    representation_mask: Tensor
    """[B, T], in (0, 1): foreground; only the loss uses it."""


class STALE(nn.Module):
    """The whole network.

    Args:
        config: Sizes; without a text tower the network runs on stored text embeddings.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.feature_dim
        self.temporal_embedding = WideAttention(dim, config.heads, dropout=0.2)
        self.mask_head = MaskHead(dim, config.mask_channels, config.anchors)
        self.cross_attention = WideAttention(dim, config.heads, dropout=0.3)
        self.background_embedding = nn.Parameter(torch.zeros(1, dim))
        self.representation_mask = RepresentationMask(config)
        self.text_tower = TextTower(config.text, dim) if config.text else None
        self.common = CommonDirections(dim) if config.ours.centring else None

    def forward(self, features: Tensor, token_ids: Tensor) -> NetworkOutput:
        """Run the published forward pass, text tower and representation mask included.

        Args:
            features: [B, T, D].
            token_ids: int64 [C, L].
        """
        detection = self.detect(features, self.encode_text(token_ids))
        return NetworkOutput(*detection, self.representation_mask(features, detection.embedded))

    def encode_text(self, token_ids: Tensor) -> Tensor:
        """Text embeddings [C, D] of tokenised prompts [C, L].

        Raises:
            ValueError: This network has no text tower.
        """
        if self.text_tower is None:
            raise ValueError("this network has no text tower: give it text embeddings")
        embeddings: Tensor = self.text_tower(token_ids)
        return embeddings

    def with_background(self, text_embeddings: Tensor) -> Tensor:
        """Append the learned background row: [C, D] to [C + 1, D]."""
        return torch.cat((text_embeddings, self.background_embedding))

    def detect(self, features: Tensor, text_embeddings: Tensor) -> DetectionTensors:
        """Compute all that detection needs.

        Args:
            features: [B, T, D].
            text_embeddings: [C, D], not normalised, without the background row.
        """
        ours = self.config.ours
        if self.common is not None:
            features, text_embeddings = self.common(features, text_embeddings)
        embedded = self.temporal_embedding(features, features)  # [B, T, D]
        masks = self.mask_head(embedded)  # [B, A, T]
        gated = embedded if ours.no_gate else embedded * foreground_gate(masks)  # [B, T, D]
        text = self.with_background(text_embeddings)[None]  # [1, C + 1, D]
        text = F.normalize(self.cross_attention(text, gated), dim=2)  # [B, C + 1, D]
        class_logits, video_logits = similarity_logits(gated, text, signed=ours.signed_similarity)
        return DetectionTensors(class_logits, masks, video_logits, embedded)


class CommonDirections(nn.Module):
    """Mean of all features and mean of all texts: zero until `set` is called; not trained.

    Args:
        dim: Width D.
    """

    features: Tensor
    texts: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("features", torch.zeros(dim))
        self.register_buffer("texts", torch.zeros(dim))

    def set(self, features: Tensor, texts: Tensor) -> None:
        """Take over the mean feature of videos, and the mean text embedding, [D] each."""
        self.features.copy_(features)
        self.texts.copy_(texts)

    def forward(self, features: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, T, D] and text embeddings [C, D] without it."""
        return features - self.features, texts - self.texts


class WideAttention(nn.Module):
    """Multi-head attention whose every head is as wide as the features, with a residual and a layer norm.

    Args:
        dim: Feature width D.
        heads: Number of heads H.
        dropout: Dropout after the output projection; 0.1 on the attention itself.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, heads * dim, bias=False)
        self.key = nn.Linear(dim, heads * dim, bias=False)
        self.value = nn.Linear(dim, heads * dim, bias=False)
        self.output = nn.Linear(heads * dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.attention_dropout = nn.Dropout(0.1)
        self.output_dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        """Attend from a query [B, Q, D], or one [1, Q, D] for all, to a memory [B, T, D]; returns [B, Q, D].

        In training the same products are taken in another order, which is less work; the two differ by rounding.
        """
        attended = self._attend_folded(query, memory) if self.training else self._attend(query, memory)
        residual: Tensor = self.norm(self.output_dropout(attended) + query)
        return residual

    def folded(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Fold the projections into two: scores = (query A) memory^T, and output = concat_h(P_h memory) M + bias.

        Args:
            dtype: Type of the products, and of the result.

        Returns:
            A, the query and key projections, scaled, [D, H D]; M, the value and output projections, [H D, D].
        """
        query, key, value = (
            part.weight.to(dtype).unflatten(0, (self.heads, -1)) for part in (self.query, self.key, self.value)
        )  # [H, D, D] each
        output = self.output.weight.to(dtype).unflatten(1, (self.heads, -1)).permute(1, 2, 0)  # [H, D, D]
        query_key = (query.transpose(1, 2) @ key).permute(1, 0, 2).flatten(1)  # [D, H D]
        return query_key / math.sqrt(query.shape[2]), (value.transpose(1, 2) @ output).flatten(0, 1)

    def _attend(self, query: Tensor, memory: Tensor) -> Tensor:
        heads_q = self._split(self.query(query))  # [B, H, Q, D]
        heads_k, heads_v = self._split(self.key(memory)), self._split(self.value(memory))  # [B, H, T, D]
        scores = heads_q @ heads_k.transpose(2, 3) / math.sqrt(query.shape[2])  # [B, H, Q, T]
        attended = self.attention_dropout(scores.softmax(dim=3)) @ heads_v  # [B, H, Q, D]
        output: Tensor = self.output(attended.transpose(1, 2).flatten(2))  # [B, Q, D]
        return output

    def _attend_folded(self, query: Tensor, memory: Tensor) -> Tensor:
        query_key, value_output = self.folded()
        stacked = (query @ query_key).reshape(len(query), -1, query.shape[2])  # [B, Q H, D]
        weights = self.attention_dropout((stacked @ memory.transpose(1, 2)).softmax(dim=2))  # [B, Q H, T]
        attended = (weights @ memory).reshape(len(memory), query.shape[1], -1)  # [B, Q, H D]
        output: Tensor = attended @ value_output + self.output.bias
        return output

    def _split(self, projected: Tensor) -> Tensor:
        heads: Tensor = projected.unflatten(2, (self.heads, -1)).transpose(1, 2)
        return heads


class MaskHead(nn.Module):
    """Layers from embedded features to one mask over time for each anchor.

    Args:
        dim: Feature width D.
        channels: Channels between its two convolutions.
        anchors: Number of masks A.
    """

    def __init__(self, dim: int, channels: int, anchors: int) -> None:
        super().__init__()
        self.context = nn.Conv1d(dim, channels, kernel_size=3, padding=1)
        self.anchors = nn.Conv1d(channels, anchors, kernel_size=1, bias=False)

    def forward(self, embedded: Tensor) -> Tensor:
        """Masks [B, A, T] of embedded features [B, T, D]."""
        masks: Tensor = self.anchors(F.relu(self.context(embedded.transpose(1, 2)))).sigmoid()
        return masks


def foreground_gate(masks: Tensor) -> Tensor:
    """Mark the foreground: 1 where an anchor's mean mask, resampled to the snippets, reaches its mean.

    Args:
        masks: [B, A, T].

    Returns:
        [B, T, 1], zeros and ones.
    """
    strength = masks.mean(dim=2)  # [B, A]
    strength = F.interpolate(strength[:, None], size=masks.shape[2], mode="linear", align_corners=False)  # [B, 1, T]
    return (strength >= strength.mean(dim=2, keepdim=True)).to(masks.dtype).transpose(1, 2)


def similarity_logits(gated: Tensor, text: Tensor, *, signed: bool = False) -> tuple[Tensor, Tensor]:
    """Scaled cosines between snippets and classes, and between the video and classes.

    Args:
        gated: [B, T, D], background snippets zero.
        text: [B, C + 1, D], rows of length one, background last.
        signed: Keep negative entries; the published network raises them to `CLAMP_MIN`.

    Returns:
        Class logits [B, T, C + 1] and video logits [B, C].
    """
    clamped = gated if signed else gated.clamp(min=CLAMP_MIN)  # [B, T, D]
    transposed = text.transpose(1, 2)  # [B, D, C + 1]
    class_logits = LOGIT_SCALE * (F.normalize(clamped, dim=2) @ transposed)
    video = F.normalize(clamped.mean(dim=1, keepdim=True), dim=2)  # [B, 1, D]
    return class_logits, LOGIT_SCALE * (video @ transposed[:, :, :-1]).squeeze(1)
