"""ActionFormer arranged for export: the rows of the video alone, convolutions as products, levels in one piece.

Symbols: B batch, n snippets, D feature width, E width, C classes, L levels, v rows of a level, P rows of all levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stale_edge.networks.actionformer.config import GLOBAL
from stale_edge.networks.actionformer.model import EPSILON, position_table
from stale_edge_export.graphs.actionformer_ops import around, attend, gelu, level_edges, neighbours, table_rows, tails

if TYPE_CHECKING:
    from stale_edge.networks.actionformer.model import ActionFormer

LOWEST = 6e4
"""Beyond what a feature can be, and within half precision: what a maximum finds where there is nothing."""


class ActionFormerGraph(nn.Module):
    """Graph from features to the two outputs of the contract, in stages.

    Args:
        network: The network whose parts to use.
        text: Not used: text plays no part.
    """

    def __init__(self, network: ActionFormer, text: nn.Module) -> None:
        super().__init__()
        del text
        backbone: Any = network.backbone
        config = network.config
        self.padding = (config.max_length, config.multiple, len(config.windows))
        self.embedding = Embedding(network)
        tail, stem = self.embedding.tail, []
        for block in backbone.stem:
            stem.append(BlockRows(block, tail))
            tail = torch.zeros_like(tail)
        self.stem = nn.ModuleList(stem)
        self.branch = nn.ModuleList([BlockRows(block, tail) for block in backbone.branch])
        self.pyramid = PyramidHeads(network)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits [B, P, C] and offsets [B, P, 2] from features [B, n, D]."""
        has_tail = tails(features, *self.padding)  # [L]
        nothing = features[:, :1, :1] * 0  # [B, 1, 1], the shape of a row for each video
        rows = self.embedding(features, Edge(nothing, has_tail[0]))
        for block in self.stem:
            rows = block(rows, Edge(nothing, has_tail[0]))
        levels = [rows]
        for level, block in enumerate(self.branch):
            levels.append(block(levels[-1], Edge(nothing, has_tail[level])))
        logits, offsets = self.pyramid(levels, features, has_tail)
        return logits, offsets


class Edge(NamedTuple):
    """Rows beyond the ends of a level."""

    nothing: Tensor
    """Zero for each video, [B, 1, 1]."""
    has_tail: Tensor
    """1 where the padded level is longer than the video's, else 0; a scalar."""

    def around(self, rows: Tensor, tail: Tensor, stride: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        """Gather three neighbours, [B, ceil(v / stride), E] each, of rows [B, v, E] before a tail [E]."""
        found: tuple[Tensor, Tensor, Tensor] = neighbours(rows, *self._beyond(tail), stride)
        return found

    def joined(self, rows: Tensor, tail: Tensor) -> Tensor:
        """Put rows [B, v, E] before a tail [E] side by side with their neighbours, [B, v, 3 E]."""
        found: Tensor = around(rows, *self._beyond(tail))
        return found

    def _beyond(self, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Give the rows before the first and after the last, [B, 1, E] each."""
        return self.nothing + torch.zeros_like(tail), self.nothing + tail * self.has_tail


class Embedding(nn.Module):
    """Two convolutions, and the position of every row.

    Args:
        network: The network.

    Attributes:
        tail: Row [E] beyond the video.
    """

    tail: Tensor
    hidden_tail: Tensor

    def __init__(self, network: ActionFormer) -> None:
        super().__init__()
        backbone: Any = network.backbone
        config = network.config
        self.centre, self.centred_conv = FeatureCentre(backbone.embd[0]), CentredProduct(backbone.embd[0])
        self.conv = Product(backbone.embd[1])
        self.norms = nn.ModuleList([RowNorm(norm) for norm in backbone.embd_norm])
        self.register_buffer("hidden_tail", backbone.embd_norm[0].bias.detach().flatten().relu())
        self.register_buffer("tail", backbone.embd_norm[1].bias.detach().flatten().relu())
        self.multiple = config.multiple
        table = position_table(config.width, config.max_length, config.max_length).T.contiguous()
        self.register_buffer("table", table if config.position_table else None)

    table: Tensor | None

    def forward(self, features: Tensor, edge: Edge) -> Tensor:
        """[B, n, D] to [B, n, E]."""
        mean, common = self.centre(features)
        hidden = self.norms[0](self.centred_conv(features, mean) + common).relu()
        rows: Tensor = self.norms[1](self.conv(hidden, self.hidden_tail, edge)).relu()
        if self.table is None:
            return rows
        placed: Tensor = rows + table_rows(features, self.table, self.multiple)
        return placed


class Product(nn.Module):
    """Convolution of three without bias as one product.

    Args:
        conv: The convolution.
    """

    weight: Tensor

    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.register_buffer("weight", _product_weight(conv))

    def forward(self, rows: Tensor, tail: Tensor, edge: Edge) -> Tensor:
        """[B, v, in] before a tail [in] to [B, v, out]."""
        return edge.joined(rows, tail) @ self.weight


class CentredProduct(nn.Module):
    """Convolution of three without bias on features that share most of their length.

    What the rows of a video have in common goes through a product of its own, of one row, so that the large product has
    small numbers to round. Beyond the video there are zeros, which is less than nothing of what is common.

    Args:
        conv: The convolution.
    """

    weight: Tensor

    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.register_buffer("weight", _product_weight(conv))

    def forward(self, features: Tensor, mean: Tensor) -> Tensor:
        """[B, n, in] and its mean [B, 1, in] to [B, n, out]."""
        convolved: Tensor = around(features - mean, -mean, -mean) @ self.weight
        return convolved


class FeatureCentre(nn.Module):
    """Mean of a video's rows, and what a convolution makes of it.

    Args:
        conv: The convolution.
    """

    weight: Tensor

    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.register_buffer("weight", conv.conv.weight.detach().sum(dim=2).T.contiguous())  # [in, out]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Give the mean [B, 1, in] and its part of the output [B, 1, out] for rows [B, n, in]."""
        mean = features.mean(dim=1, keepdim=True)
        return mean, mean @ self.weight


class RowNorm(nn.Module):
    """Layer norm over the last axis.

    Args:
        norm: The network's, over channels.
    """

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(norm.weight.numel(), EPSILON)
        with torch.no_grad():
            self.norm.weight.copy_(norm.weight.flatten())
            self.norm.bias.copy_(norm.bias.flatten())

    def forward(self, rows: Tensor) -> Tensor:
        """[…, E] to […, E]."""
        normed: Tensor = self.norm(rows)
        return normed


class BlockRows(nn.Module):
    """Transformer block on rows, the scales of its branches folded into their last products.

    Args:
        block: The network's.
        tail: Row [E] of its input beyond the video.
    """

    tail: Tensor
    normed_tail: Tensor

    def __init__(self, block: Any, tail: Tensor) -> None:
        super().__init__()
        self.stride = block.stride
        self.first_norm, self.second_norm = RowNorm(block.ln1), RowNorm(block.ln2)
        with torch.no_grad():
            self.register_buffer("normed_tail", self.first_norm(tail).detach())
        self.register_buffer("tail", tail)
        self.attention = AttentionRows(block.attn, block.stride, _scale(block.drop_path_attn))
        self.first = _linear(block.mlp[0].weight[:, :, 0], block.mlp[0].bias)
        scale = _scale(block.drop_path_mlp)
        self.second = _linear(block.mlp[3].weight[:, :, 0] * scale[:, None], block.mlp[3].bias * scale)

    def forward(self, rows: Tensor, edge: Edge) -> Tensor:
        """[B, v, E] to [B, ceil(v / stride), E]."""
        attended = self.attention(self.first_norm(rows), self.normed_tail, edge)
        if self.stride == 2:
            lowest = edge.nothing + torch.full_like(self.tail, -LOWEST)
            beyond = edge.nothing + (self.tail * edge.has_tail + (edge.has_tail - 1) * LOWEST)
            parts = neighbours(rows, lowest, beyond, 2)
            rows = torch.maximum(torch.maximum(parts[0], parts[1]), parts[2])
        hidden = rows + attended
        out: Tensor = hidden + self.second(gelu(self.first(self.second_norm(hidden))))
        return out


class AttentionRows(nn.Module):
    """Attention on rows; norms after the depthwise convolutions are folded into the projections.

    Args:
        attention: The network's.
        stride: 1 or 2.
        scale: Scale of the branch, [E].
    """

    taps: Tensor

    def __init__(self, attention: Any, stride: int, scale: Tensor) -> None:
        super().__init__()
        self.stride, self.heads = stride, attention.heads
        self.reach = 0 if attention.window <= GLOBAL else attention.window // 2
        names = ("query", "key", "value")
        convs = [attention.get_submodule(f"{name}_conv").conv.weight[:, 0] for name in names]  # [E, 3] each
        self.register_buffer("taps", torch.stack(convs).permute(2, 0, 1)[:, :, None].detach().contiguous())
        width = attention.proj.weight.shape[0]
        factors = (float((width // self.heads) ** -0.5), 1.0, 1.0)
        self.projections = nn.ModuleList(
            [
                _after_norm(attention.get_submodule(f"{name}_norm"), attention.get_submodule(name), factor)
                for name, factor in zip(names, factors, strict=True)
            ]
        )
        self.output = _linear(attention.proj.weight[:, :, 0] * scale[:, None], attention.proj.bias * scale)

    def forward(self, rows: Tensor, tail: Tensor, edge: Edge) -> Tensor:
        """[B, v, E] before a tail [E] to [B, ceil(v / stride), E]."""
        before, here, behind = (part[:, None] for part in edge.around(rows, tail, self.stride))  # [B, 1, v, E]
        mixed = before * self.taps[0] + here * self.taps[1] + behind * self.taps[2]  # [B, 3, v, E]
        normed = F.layer_norm(mixed, mixed.shape[3:], eps=EPSILON)
        query, key, value = (project(normed[:, part]) for part, project in enumerate(self.projections))
        attended: Tensor = self.output(attend(query, key, value, self.heads, self.reach))
        return attended


class PyramidHeads(nn.Module):
    """Neck and both heads, all levels in one piece.

    Args:
        network: The network.
    """

    first_weight: Tensor
    neck_tails: Tensor
    scales: Tensor

    def __init__(self, network: ActionFormer) -> None:
        super().__init__()
        neck: Any = network.neck
        classes: Any = network.cls_head
        offsets: Any = network.reg_head
        self.levels = len(network.config.windows)
        self.width = network.config.head_width
        self.norms = nn.ModuleList([RowNorm(norm) for norm in neck.fpn_norms])
        biases = torch.stack([norm.bias.detach().flatten() for norm in neck.fpn_norms])  # [L, E]
        self.register_buffer("neck_tails", biases)
        weights = [_product_weight(head.head[0]) for head in (classes, offsets)]
        self.register_buffer("first_weight", torch.cat(weights, dim=1))
        self.class_head = HeadRows(classes.norm, classes.head[1], classes.cls_head)
        self.offset_head = HeadRows(offsets.norm, offsets.head[1], offsets.offset_head)
        self.register_buffer("scales", torch.stack([part.scale.detach() for part in offsets.scale]))

    def forward(self, levels: list[Tensor], features: Tensor, has_tail: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits [B, P, C] and offsets [B, P, 2] from rows [B, v, E] of every level.

        Args:
            levels: The finest first.
            features: The input [B, n, D], for its length.
            has_tail: Whether each level has a tail, [L].
        """
        edges = level_edges(features, self.levels)
        rows = torch.cat([norm(level) for norm, level in zip(self.norms, levels, strict=True)], dim=1)  # [B, P, E]
        hidden = _around(rows, self.neck_tails * has_tail[:, None], edges) @ self.first_weight  # [B, P, 2 W]
        logits = self.class_head(hidden[:, :, : self.width], has_tail, edges)
        distances = self.offset_head(hidden[:, :, self.width :], has_tail, edges)
        scales = [level[0, :, :1] * 0 + self.scales[index] for index, level in enumerate(levels)]
        return logits, (distances * torch.cat(scales)).relu()


class HeadRows(nn.Module):
    """The rest of a head behind its first product.

    Args:
        norms: Two.
        second: Second convolution.
        last: Last one, with bias.
    """

    second_weight: Tensor
    last_weight: Tensor
    last_bias: Tensor
    last_tail: Tensor
    tails: Tensor

    def __init__(self, norms: Any, second: Any, last: Any) -> None:
        super().__init__()
        self.norms = nn.ModuleList([RowNorm(norm) for norm in norms])
        self.register_buffer("tails", torch.stack([norm.bias.detach().flatten().relu() for norm in norms]))
        self.register_buffer("second_weight", _product_weight(second))
        taps = last.conv.weight.detach()  # [out, W, 3]
        self.outputs = len(taps)
        self.register_buffer("last_weight", taps.permute(1, 2, 0).flatten(1).contiguous())  # [W, 3 out]
        self.register_buffer("last_tail", self.tails[1] @ self.last_weight)
        assert last.conv.bias is not None  # noqa: S101 (a last convolution has one)
        self.register_buffer("last_bias", last.conv.bias.detach())

    def forward(self, hidden: Tensor, has_tail: Tensor, edges: tuple[Tensor, Tensor]) -> Tensor:
        """[B, P, W] to [B, P, out]; the last convolution multiplies first and looks around afterwards."""
        rows = self.norms[0](hidden).relu()
        around = _around(rows, self.tails[0] * has_tail[:, None], edges)
        rows = self.norms[1](around @ self.second_weight).relu()
        taps = rows @ self.last_weight  # [B, P, 3 out]
        before, here, behind = _sides(taps, self.last_tail * has_tail[:, None], edges)
        count = self.outputs
        return before[:, :, :count] + here[:, :, count : 2 * count] + behind[:, :, 2 * count :] + self.last_bias


def _sides(rows: Tensor, beyond: Tensor, edges: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Rows before, at and after every row, [B, P, E] each; `beyond` [L, E] is what follows each level."""
    more = torch.cat((torch.zeros_like(beyond[:1]), beyond)).expand(rows.shape[0], -1, -1)
    everything = torch.cat((rows, more), dim=1)
    here = everything[:, : rows.shape[1]]  # of the same tensor as the others, see `quantize_before_movement`
    return everything.index_select(1, edges[0]), here, everything.index_select(1, edges[1])


def _around(rows: Tensor, beyond: Tensor, edges: tuple[Tensor, Tensor]) -> Tensor:
    """Rows side by side with those before and after them, [B, P, 3 E]."""
    return torch.cat(_sides(rows, beyond, edges), dim=2)


def _product_weight(conv: Any) -> Tensor:
    """Weights [out, in, 3] of a convolution as [3 in, out]."""
    weight: Tensor = conv.conv.weight.detach().permute(2, 1, 0).flatten(0, 1).contiguous()
    return weight


def _scale(branch: nn.Module) -> Tensor:
    """Scale [E] of a residual branch, or a number for one that has none."""
    scale = getattr(branch, "scale", None)
    return torch.ones(1) if scale is None else scale.detach().flatten()


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def _after_norm(norm: Any, projection: Any, factor: float) -> nn.Linear:
    """Make a projection with the weights of the norm before it inside, times a factor."""
    weight, bias = projection.weight[:, :, 0].double(), projection.bias.double()
    scale, shift = norm.weight.flatten().double(), norm.bias.flatten().double()
    return _linear((weight * scale * factor).float(), ((weight @ shift + bias) * factor).float())
