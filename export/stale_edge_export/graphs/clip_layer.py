"""Layers of CLIP's towers, rewritten for inference: exact in arithmetic without rounding.

- Gains and shifts of norms go into the products that follow, so that 8-bit weights and not 8-bit activations carry the
  few channels that trained towers stretch.
- A key's bias adds the same number to all scores of a query and drops out of the softmax; a value's bias passes through
  attention, whose weights sum to 1, into the output's.
- Quick GELU, x * sigmoid(1.702 x), is SiLU(1.702 x) / 1.702: both numbers go into the weights around it.
- The last layer computes the one row that the embedding is read from, and neither keys nor values:
  q (X K)^T = (q K^T) X^T, and P (X V) = (P X) V.

Query, key and value stay apart: in 8 bits they share one quantisation, and nothing has to be split.

Symbols: B images or texts, N tokens, W width, H heads, d width of a head. Source: spec of the towers in docs/towers.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stale_edge.networks.clip_layer import ACTIVATIONS, QUICK_GELU, QUICK_GELU_SLOPE

if TYPE_CHECKING:
    from stale_edge.networks.clip_layer import ClipLayer


class AffineProduct(nn.Module):
    """Product with a constant matrix, and a constant row added to it.

    Args:
        weight: [in, out], float64.
        bias: [out], float64; None adds nothing.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.to(torch.float32).contiguous())
        self.register_buffer("bias", None if bias is None else bias.to(torch.float32).contiguous())

    def forward(self, rows: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        product = rows @ self.weight
        return product if self.bias is None else product + self.bias


class PlainNorm(nn.Module):
    """Normalisation of rows without gain and shift: those are in the products that follow.

    Args:
        norm: The norm.
    """

    ones: Tensor

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.register_buffer("ones", torch.ones(norm.normalized_shape))
        self.epsilon = norm.eps

    def forward(self, rows: Tensor) -> Tensor:
        """[..., W] to the same."""
        return F.layer_norm(rows, self.ones.shape, self.ones, None, self.epsilon)


def folded_product(norm: nn.LayerNorm, linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """Fold gain and shift of a norm into the product that follows it.

    Args:
        norm: The norm.
        linear: The product.

    Returns:
        Weight [in, out] and bias [out], float64.
    """
    weight, bias = _double(linear)
    return weight * norm.weight.double()[:, None], bias + norm.bias.double() @ weight


class FoldedFeedForward(nn.Module):
    """The feed-forward part of a layer, added to what goes in.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: ClipLayer) -> None:
        super().__init__()
        self.norm = PlainNorm(layer.feed_forward_norm)
        slope = QUICK_GELU_SLOPE if layer.activation == QUICK_GELU else 1.0
        weight, bias = folded_product(layer.feed_forward_norm, layer.expand)
        self.expand = AffineProduct(weight * slope, bias * slope)
        weight, bias = _double(layer.contract)
        self.contract = AffineProduct(weight / slope, bias)
        self.activation = layer.activation

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., W] to the same."""
        inner = self.expand(self.norm(hidden))
        # ONNX has no SiLU; onnxruntime makes one operator of the two when it opens the file.
        active = inner * torch.sigmoid(inner) if self.activation == QUICK_GELU else ACTIVATIONS[self.activation](inner)
        added: Tensor = hidden + self.contract(active)
        return added


class FoldedLayer(nn.Module):
    """A layer over all tokens.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: ClipLayer) -> None:
        super().__init__()
        self.heads = layer.heads
        self.norm = PlainNorm(layer.attention_norm)
        self.query = _query(layer)
        self.key = AffineProduct(folded_product(layer.attention_norm, layer.key)[0])
        self.value = AffineProduct(folded_product(layer.attention_norm, layer.value)[0])
        self.output = _output(layer)
        self.feed_forward = FoldedFeedForward(layer)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, N, W] to the same, with a mask [N, N] added to the scores."""
        rows = self.norm(hidden)
        query, key, value = (
            part(rows).unflatten(2, (self.heads, -1)) for part in (self.query, self.key, self.value)
        )  # [B, N, H, d]
        scores = query.transpose(1, 2) @ key.permute(0, 2, 3, 1)  # [B, H, N, N]
        weights = (scores if mask is None else scores + mask).softmax(dim=3)
        attended = (weights @ value.transpose(1, 2)).transpose(1, 2).flatten(2)  # [B, N, W]
        added: Tensor = self.feed_forward(hidden + self.output(attended))
        return added


class FoldedLastLayer(nn.Module):
    """The last layer, for one token of each sequence.

    Args:
        layer: The layer.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, layer: ClipLayer) -> None:
        super().__init__()
        self.heads = layer.heads
        self.norm = PlainNorm(layer.attention_norm)
        self.query = _query(layer)
        key, value = (folded_product(layer.attention_norm, part)[0] for part in (layer.key, layer.value))  # [W, H d]
        heads = (layer.heads, -1)
        self.register_buffer("keys", key.unflatten(1, heads).permute(1, 2, 0).float().contiguous())  # [H, d, W]
        self.register_buffer("values", value.unflatten(1, heads).transpose(0, 1).float().contiguous())  # [H, W, d]
        self.output = _output(layer)
        self.feed_forward = FoldedFeedForward(layer)

    def forward(self, hidden: Tensor, place: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Compute one row of the layer.

        Args:
            hidden: [B, N, W].
            place: int64 [B], the row of each sequence; the first of all of them by default.
            mask: [B, 1, N], added to the scores.

        Returns:
            [B, W].
        """
        rows = self.norm(hidden)
        query = self.query(_row(rows, place)).unflatten(1, (self.heads, -1)).transpose(0, 1)  # [H, B, d]
        scores = (query @ self.keys).transpose(0, 1) @ rows.transpose(1, 2)  # [B, H, N]
        weights = (scores if mask is None else scores + mask).softmax(dim=2)
        context = (weights @ rows).transpose(0, 1)  # [H, B, W]
        attended = (context @ self.values).transpose(0, 1).flatten(1)  # [B, W]
        added: Tensor = self.feed_forward(_row(hidden, place) + self.output(attended))
        return added


def folded_layers(layers: nn.ModuleList) -> tuple[nn.ModuleList, FoldedLastLayer]:
    """Fold the layers of a tower: all but the last for every token, the last for one.

    Args:
        layers: Layers of a tower, `ClipLayer` each.
    """
    *most, last = cast("list[ClipLayer]", list(layers))
    return nn.ModuleList(FoldedLayer(layer) for layer in most), FoldedLastLayer(last)


def folded_projection(norm: nn.LayerNorm, projection: nn.Linear) -> nn.Sequential:
    """Fold the last norm of a tower into its projection.

    Args:
        norm: The norm.
        projection: The projection, without a bias.
    """
    return nn.Sequential(PlainNorm(norm), AffineProduct(*folded_product(norm, projection)))


def _row(rows: Tensor, place: Tensor | None) -> Tensor:
    """Take one row [B, W] of each sequence [B, N, W]."""
    if place is None:
        return rows[:, 0]
    return rows.gather(1, place[:, None, None].expand(-1, -1, rows.shape[2])).squeeze(1)


def _query(layer: ClipLayer) -> AffineProduct:
    """Query with the scale of the scores inside."""
    weight, bias = folded_product(layer.attention_norm, layer.query)
    scale = (weight.shape[1] // layer.heads) ** -0.5
    return AffineProduct(weight * scale, bias * scale)


def _output(layer: ClipLayer) -> AffineProduct:
    """Output with the bias of the values inside."""
    weight, bias = _double(layer.output)
    return AffineProduct(weight, bias + folded_product(layer.attention_norm, layer.value)[1] @ weight)


def _double(linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight [in, out] and bias [out] of a product."""
    weight = linear.weight.double().T
    return weight, weight.new_zeros(weight.shape[1]) if linear.bias is None else linear.bias.double()
