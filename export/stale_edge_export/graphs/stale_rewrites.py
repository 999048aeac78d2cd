"""Exact rewrites of the detection graph: the same outputs from fewer operations.

Each rewrite replaces one stage of a `DetectionGraph` and is tested alone against the network. None is an
approximation; what remains is the rounding of float32. Source of the algebra: docs/speed.md.

Symbols: B batch, T snippets, D feature width, H heads, C classes, A anchors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stale_edge_export.graphs.blocked_attention import self_attend
from stale_edge_export.graphs.stale import SHORTEST, lengths
from stale_edge_export.graphs.text import StoredText

if TYPE_CHECKING:
    from collections.abc import Callable

    from stale_edge.networks.stale.model import STALE, MaskHead, WideAttention
    from stale_edge_export.graphs.stale import DetectionGraph


def mask_head_as_product(graph: DetectionGraph, network: STALE) -> None:
    """Compute the mask head's convolutions as matrix products over three shifted copies of the features."""
    graph.mask_head = MaskHeadAsProduct(network.mask_head)


def fold_self_attention(graph: DetectionGraph, network: STALE) -> None:
    """Merge query with key and value with output projections; keys and values become the centred features."""
    graph.temporal = FoldedSelfAttention(network.temporal_embedding)


def fold_cross_attention(graph: DetectionGraph, network: STALE) -> None:
    """Merge the projections of the cross attention; with stored text its query side becomes a constant."""
    stored = graph.text.embeddings if isinstance(graph.text, StoredText) else None
    graph.cross_attention = FoldedCrossAttention(network, stored)


REWRITES: dict[str, Callable[[DetectionGraph, STALE], None]] = {
    "mask-head-as-product": mask_head_as_product,
    "fold-self-attention": fold_self_attention,
    "fold-cross-attention": fold_cross_attention,
}
"""All rewrites by name, in the order in which they are applied."""


def folded_projections(attention: WideAttention) -> tuple[Tensor, Tensor]:
    """`WideAttention.folded`, multiplied in double precision and rounded once: [D, H D] and [H D, D]."""
    query_key, value_output = attention.folded(torch.float64)
    return query_key.float(), value_output.float()


class Centre(nn.Module):
    """The mean row of a video, and what a product with weights adds for it when the rows lack it.

    x W = (x - m) W + m W for any row m. Rows of one video share most of their length: what remains without their mean
    is smaller, and so is the rounding of 8-bit products. In attention the centre costs no score, because a softmax does
    not see what is added to all scores of a row, and its weights sum to one.

    Args:
        weights: [P D, N], of a product that takes P such rows side by side.
        parts: Number of parts P.
        bias: [N], added to the product.
    """

    def __init__(self, weights: Tensor, parts: int = 1, bias: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weights", weights.unflatten(0, (parts, -1)).sum(dim=0))  # [D, N]
        self.register_buffer("bias", weights.new_zeros(weights.shape[1]) if bias is None else bias)

    weights: Tensor
    bias: Tensor

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Centre [B, 1, D] and bias [B, 1, N] of rows [B, T, D]."""
        # A product is ten times as fast as onnxruntime's mean over a middle axis; shares, because the sum of a long
        # video is beyond half precision.
        shares = rows.new_ones(rows.shape[0], 1, rows.shape[1]) / rows.shape[1]  # [B, 1, T], the same for all centres
        centre = shares @ rows
        return centre, centre @ self.weights + self.bias


class MaskHeadAsProduct(nn.Module):
    """The mask head on rows: neighbours side by side, then two matrix products, of centred rows both.

    Args:
        head: The mask head of the network.
    """

    def __init__(self, head: MaskHead) -> None:
        super().__init__()
        context = head.context.weight.permute(2, 1, 0)  # [3, D, c]
        self.register_buffer("context", context.flatten(0, 1).contiguous())  # [3 D, c]
        self.register_buffer("anchors", head.anchors.weight.squeeze(2).t().contiguous())  # [c, A]
        own = head.state_dict()["context.bias"]  # comes with the row itself, which is always there
        bias = torch.cat((torch.zeros_like(own), own, torch.zeros_like(own)))
        self.centre = Centre(context.transpose(0, 1).flatten(1), bias=bias)
        self.hidden_centre = Centre(self.anchors)

    context: Tensor
    anchors: Tensor

    def forward(self, embedded: Tensor) -> Tensor:
        """Masks [B, A, T] of embedded features [B, T, D]."""
        centre, added = self.centre(embedded)  # [B, 1, D], [B, 1, 3 c]
        neighbours = _with_neighbours(embedded - centre)  # [B, T, 3 D]
        # Beyond the ends of a video there is nothing, and so no centre to add for it.
        present = _with_neighbours(embedded.new_ones(embedded.shape[0], embedded.shape[1], 1))  # [B, T, 3]
        added = present @ added.reshape(embedded.shape[0], 3, -1)  # [B, T, c]
        hidden = F.relu(neighbours @ self.context + added)  # [B, T, c]
        centre, added = self.hidden_centre(hidden)  # [B, 1, c], [B, 1, A]
        masks: Tensor = ((hidden - centre) @ self.anchors + added).sigmoid()
        return masks.transpose(1, 2)


def _with_neighbours(rows: Tensor) -> Tensor:
    """Join each row with the one before and the one after it, [B, T, 3 D]; zeros beyond the ends."""
    padded = F.pad(rows, (0, 0, 1, 1))  # [B, T + 2, D]
    # One gathering of rows, which int8 does on bytes.
    places = torch.arange(rows.shape[1], device=rows.device)[:, None] + torch.arange(3, device=rows.device)
    return padded.index_select(1, places.flatten()).reshape(rows.shape[0], rows.shape[1], -1)


class FoldedSelfAttention(nn.Module):
    """Self-attention with one projection on each side; keys and values are the centred features.

    Args:
        attention: The temporal embedding of the network.
    """

    def __init__(self, attention: WideAttention) -> None:
        super().__init__()
        query_key, value_output = folded_projections(attention)
        self.register_buffer("query_key", query_key)
        self.register_buffer("value_output", value_output)
        self.centre = Centre(value_output, attention.heads, attention.output.bias)
        self.norm = attention.norm

    query_key: Tensor
    value_output: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        centre, bias = self.centre(features)  # [B, 1, D] each
        embedded: Tensor = self_attend(
            features, features - centre, self.query_key, self.value_output, bias, self.norm.weight, self.norm.bias
        )
        return embedded


class FoldedCrossAttention(nn.Module):
    """Cross attention with one projection on each side; heads are stacked as rows, keys and values are centred.

    Args:
        network: The network.
        text_embeddings: [C, D] where they are known at export; otherwise they are an input.
    """

    def __init__(self, network: STALE, text_embeddings: Tensor | None = None) -> None:
        super().__init__()
        attention = network.cross_attention
        self.heads = attention.heads
        self.register_buffer("background", network.background_embedding.detach())
        query_key, value_output = folded_projections(attention)
        self.register_buffer("value_output", value_output)
        self.centre = Centre(value_output, attention.heads, attention.output.bias)
        self.norm = attention.norm
        self.stored = text_embeddings is not None
        if text_embeddings is None:
            self.register_buffer("query_key", query_key)
        else:
            if network.common is not None:
                text_embeddings = text_embeddings - network.common.texts
            text = network.with_background(text_embeddings).detach()
            self.register_buffer("stored_text", text)
            self.register_buffer("stored_query", self._stack_heads(text @ query_key))

    background: Tensor
    value_output: Tensor
    query_key: Tensor
    stored_text: Tensor
    stored_query: Tensor

    def forward(self, gated: Tensor, text_embeddings: Tensor) -> Tensor:
        """Text [B, C + 1, D], rows of length one, from gated features [B, T, D] and text embeddings [C, D]."""
        text, query = self._text_side(text_embeddings)  # [C + 1, D], [(C + 1) H, D]
        centre, bias = self.centre(gated)  # [B, 1, D] each
        memory = gated - centre  # [B, T, D]
        weights = (query @ memory.transpose(1, 2)).softmax(dim=2)  # [B, (C + 1) H, T]
        attended = (weights @ memory).reshape(gated.shape[0], -1, self.heads * gated.shape[2])  # [B, C + 1, H D]
        rows: Tensor = self.norm(attended @ self.value_output + bias + text)  # [B, C + 1, D]
        return rows / lengths(rows).clamp(min=SHORTEST)

    def _text_side(self, text_embeddings: Tensor) -> tuple[Tensor, Tensor]:
        if self.stored:
            return self.stored_text, self.stored_query
        text = torch.cat((text_embeddings, self.background))
        return text, self._stack_heads(text @ self.query_key)

    def _stack_heads(self, query: Tensor) -> Tensor:
        return query.reshape(-1, query.shape[1] // self.heads)
