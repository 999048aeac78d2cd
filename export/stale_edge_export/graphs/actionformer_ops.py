"""Operators of ActionFormer's graph whose lengths follow from the video's, in PyTorch and in ONNX.

The published network runs on a padded video, and a tail beyond the video changes answers by being there, though not by
its length or content: behind every layer norm its rows are one constant. So the graph holds the rows of the video
alone; where a convolution looks beyond the last one it finds that constant, or zero on a level without a tail.

For PyTorch each is one operator with shapes of its own, so that tracing takes no length for a fact.

Symbols: B batch, n snippets, D feature width, E width, L levels, v rows of a level, P rows of all levels, H heads.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stale_edge.networks.actionformer.attention import INVALID, block_length, global_attention, local_attention

if TYPE_CHECKING:
    from collections.abc import Callable


@torch.library.custom_op("stale_edge::tails", mutates_args=())
def tails(features: Tensor, shortest: int, multiple: int, levels: int) -> Tensor:
    """Tell which levels of the padded video are longer than the video.

    Args:
        features: [B, n, D].
        shortest: Length that shorter videos are padded to.
        multiple: Multiple that longer ones are padded to.
        levels: L.

    Returns:
        float [L], 1 or 0.
    """
    snippets = features.shape[1]
    padded = max(shortest, -(-snippets // multiple) * multiple)
    strides = [1 << level for level in range(levels)]
    return features.new_tensor([float(padded // stride > -(-snippets // stride)) for stride in strides])


@tails.register_fake
def _(features: Tensor, shortest: int, multiple: int, levels: int) -> Tensor:
    del shortest, multiple
    return features.new_empty(levels)


@torch.library.custom_op("stale_edge::table_rows", mutates_args=())
def table_rows(features: Tensor, table: Tensor, multiple: int) -> Tensor:
    """Give the position table's rows for a video, interpolated where the padded video is longer than the table.

    Args:
        features: [B, n, D].
        table: [T, E].
        multiple: Multiple that videos longer than T are padded to.

    Returns:
        [n, E].
    """
    snippets, longest = features.shape[1], len(table)
    padded = max(longest, -(-snippets // multiple) * multiple)
    at = ((torch.arange(snippets) + 0.5) * (longest / padded) - 0.5).clamp(0, longest - 1)
    left = at.long()
    share = (at - left)[:, None]
    return table[left] + (table[(left + 1).clamp(max=longest - 1)] - table[left]) * share


@table_rows.register_fake
def _(features: Tensor, table: Tensor, multiple: int) -> Tensor:
    del multiple
    return table.new_empty(features.shape[1], table.shape[1])


@torch.library.custom_op("stale_edge::gelu", mutates_args=())
def gelu(features: Tensor) -> Tensor:
    """Gaussian error linear units, in the form that onnxruntime runs in one pass.

    Args:
        features: Any shape.
    """
    return torch.nn.functional.gelu(features)


@gelu.register_fake
def _(features: Tensor) -> Tensor:
    return torch.empty_like(features)


@torch.library.custom_op("stale_edge::neighbours", mutates_args=())
def neighbours(rows: Tensor, before: Tensor, after: Tensor, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Give what a convolution of three sees at each of its outputs.

    Args:
        rows: [B, v, E].
        before: Row before the first, [B, 1, E].
        after: Row after the last, [B, 1, E].
        stride: Rows from one output to the next.

    Returns:
        The rows before, at and after every output, [B, ceil(v / stride), E] each.
    """
    count = rows.shape[1]
    padded = torch.cat((before, rows, after), dim=1)
    return tuple(padded[:, shift : count + shift : stride].clone() for shift in range(3))  # type: ignore[return-value]


@neighbours.register_fake
def _(rows: Tensor, before: Tensor, after: Tensor, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    del before, after
    batch, count, width = rows.shape
    made = [rows.new_empty(batch, count if stride == 1 else (count + 1) // 2, width) for _ in range(3)]
    return made[0], made[1], made[2]


@torch.library.custom_op("stale_edge::around", mutates_args=())
def around(rows: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Put every row side by side with those before and after it.

    Args:
        rows: [B, v, E].
        before: Row before the first, [B, 1, E].
        after: Row after the last, [B, 1, E].

    Returns:
        [B, v, 3 E].
    """
    return torch.cat(neighbours(rows, before, after, 1), dim=2)


@around.register_fake
def _(rows: Tensor, before: Tensor, after: Tensor) -> Tensor:
    del before, after
    return rows.new_empty(rows.shape[0], rows.shape[1], 3 * rows.shape[2])


@torch.library.custom_op("stale_edge::level_edges", mutates_args=())
def level_edges(features: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Give the row before and the row after every row of a pyramid whose levels are concatenated.

    Args:
        features: [B, n, D].
        levels: L.

    Returns:
        int64 [P] each. P stands for what is before a first row, P + 1 + l for what is after the last one of level l.
    """
    snippets = features.shape[1]
    counts = [-(-snippets // (1 << level)) for level in range(levels)]
    total, first = sum(counts), 0
    before, after = [], []
    for level, count in enumerate(counts):
        before += [total, *range(first, first + count - 1)]
        after += [*range(first + 1, first + count), total + 1 + level]
        first += count
    return torch.tensor(before), torch.tensor(after)


@level_edges.register_fake
def _(features: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    snippets = features.shape[1]
    total = sum((snippets + (1 << level) - 1) // (1 << level) for level in range(levels))
    made = [features.new_empty(total, dtype=torch.int64) for _ in range(2)]
    return made[0], made[1]


@torch.library.custom_op("stale_edge::attend", mutates_args=())
def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, reach: int) -> Tensor:
    """Attend to rows that are at most `reach` away, or to all.

    Args:
        query: [B, v, E], scaled already.
        key: [B, v, E].
        value: [B, v, E].
        heads: H.
        reach: Rows to each side; 0 for all.

    Returns:
        [B, v, E].
    """
    batch, count, width = query.shape
    scale = (width // heads) ** 0.5  # the network's functions scale the query themselves
    rows, keys, values = (query * scale).transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    function = local_attention if reach else global_attention
    attended = function(rows, keys, values, query.new_ones(batch, 1, count), heads, reach)
    return attended.transpose(1, 2).contiguous()


@attend.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, heads: int, reach: int) -> Tensor:
    del key, value, heads, reach
    return torch.empty_like(query)


def _op() -> Any:
    """ONNX operators, typed for scripts and used here while the exporter records."""
    from onnxscript import opset18

    return opset18


def _integers(*values: int) -> Any:
    return _op().Constant(value_ints=list(values))


def _snippets(features: Any) -> Any:
    """Value int64 [1], the length of axis 1."""
    return _op().Shape(features, start=1, end=2)


def _padded(snippets: Any, shortest: int, multiple: int) -> Any:
    op = _op()
    blocks = op.Div(op.Add(snippets, _integers(multiple - 1)), _integers(multiple))
    return op.Max(_integers(shortest), op.Mul(blocks, _integers(multiple)))


def translate_tails(features: Any, shortest: int, multiple: int, levels: int) -> Any:
    """`tails` in ONNX, for the exporter's table of translations."""
    op, snippets = _op(), _snippets(features)
    strides = _integers(*(1 << level for level in range(levels)))
    rest = _integers(*((1 << level) - 1 for level in range(levels)))
    whole = op.Div(_padded(snippets, shortest, multiple), strides)
    return op.Cast(op.Greater(whole, op.Div(op.Add(snippets, rest), strides)), to=1)


def translate_table_rows(features: Any, table: Any, multiple: int) -> Any:
    """`table_rows` in ONNX."""
    op, snippets = _op(), _snippets(features)
    longest = table.shape[0]
    padded = op.Cast(_padded(snippets, longest, multiple), to=1)
    scalar = op.Squeeze(snippets, _integers(0))
    steps = op.Cast(op.Range(op.Constant(value_int=0), scalar, op.Constant(value_int=1)), to=1)
    half = op.Constant(value_float=0.5)
    scale = op.Div(op.Constant(value_float=float(longest)), padded)
    at = op.Sub(op.Mul(op.Add(steps, half), scale), half)
    at = op.Clip(at, op.Constant(value_float=0.0), op.Constant(value_float=float(longest - 1)))
    floor = op.Floor(at)
    left = op.Cast(floor, to=7)
    right = op.Min(op.Add(left, _integers(1)), _integers(longest - 1))
    share = op.Unsqueeze(op.Sub(at, floor), _integers(1))
    low = op.Gather(table, left)
    return op.Add(low, op.Mul(op.Sub(op.Gather(table, right), low), share))


def translate_neighbours(rows: Any, before: Any, after: Any, stride: int) -> tuple[Any, Any, Any]:
    """`neighbours` in ONNX."""
    op, count = _op(), _snippets(rows)
    padded = op.Concat(before, rows, after, axis=1)

    def part(shift: int) -> Any:
        end = op.Add(count, _integers(shift))
        return op.Slice(padded, _integers(shift), end, _integers(1), _integers(stride))

    return part(0), rows if stride == 1 else part(1), part(2)


def translate_around(rows: Any, before: Any, after: Any) -> Any:
    """`around` in ONNX; all three parts come from the same rows, so that an int8 file can quantise these once."""
    op, count = _op(), _snippets(rows)
    padded = op.Concat(before, rows, after, axis=1)
    parts = [
        op.Slice(padded, _integers(shift), op.Add(count, _integers(shift)) if shift else count, _integers(1))
        for shift in range(3)
    ]
    return op.Concat(*parts, axis=2)


def translate_gelu(features: Any) -> Any:
    """`gelu` in ONNX."""
    op = _op()
    share = op.Add(op.Erf(op.Div(features, op.Constant(value_float=math.sqrt(2)))), op.Constant(value_float=1.0))
    return op.Mul(op.Mul(features, share), op.Constant(value_float=0.5))


def translate_level_edges(features: Any, levels: int) -> tuple[Any, Any]:
    """`level_edges` in ONNX."""
    op, snippets = _op(), _snippets(features)
    one, axis = _integers(1), _integers(0)
    strides = [1 << level for level in range(levels)]
    counts = [snippets if s == 1 else op.Div(op.Add(snippets, _integers(s - 1)), _integers(s)) for s in strides]
    bounds = [_integers(0)]
    for count in counts:
        bounds.append(op.Add(bounds[-1], count))
    total = bounds[-1]

    def span(first: Any, last: Any) -> Any:
        return op.Range(op.Squeeze(first, axis), op.Squeeze(last, axis), op.Constant(value_int=1))

    before, after = [], []
    for level in range(levels):
        first, last = bounds[level], bounds[level + 1]
        before += [total, span(first, op.Sub(last, one))]
        after += [span(op.Add(first, one), last), op.Add(total, _integers(1 + level))]
    return op.Concat(*before, axis=0), op.Concat(*after, axis=0)


def translate_attend(query: Any, key: Any, value: Any, heads: int, reach: int) -> Any:
    """`attend` in ONNX: products of whole videos, or of blocks with the rows around them."""
    op = _op()
    width = query.shape[2]
    split, joined = _integers(0, 0, heads, width // heads), _integers(0, 0, width)
    if not reach:
        rows, keys, values = (op.Reshape(part, split) for part in (query, key, value))
        rows, values = (op.Transpose(part, perm=[0, 2, 1, 3]) for part in (rows, values))
        weights = op.Softmax(op.MatMul(rows, op.Transpose(keys, perm=[0, 2, 3, 1])), axis=-1)
        return op.Reshape(op.Transpose(op.MatMul(weights, values), perm=[0, 2, 1, 3]), joined)
    block, count = block_length(reach), _snippets(query)
    seen = block + 2 * reach
    blocks = op.Div(op.Add(count, _integers(block - 1)), _integers(block))
    surplus = op.Sub(op.Mul(blocks, _integers(block)), count)
    stacked = op.Concat(_integers(0), blocks, _integers(block, heads, width // heads), axis=0)
    padded = op.Pad(query, op.Concat(_integers(0, 0, 0, 0), surplus, _integers(0), axis=0))
    rows = op.Transpose(op.Reshape(padded, stacked), perm=[0, 1, 3, 2, 4])  # [B, N, H, b, E/H]
    behind = op.Add(surplus, _integers(reach))
    pads = op.Concat(_integers(0, reach, 0, 0), behind, _integers(0), axis=0)
    first = op.Range(op.Constant(value_int=0), op.Squeeze(blocks, _integers(0)), op.Constant(value_int=1))
    first = op.Mul(op.Unsqueeze(first, _integers(1)), _integers(block))  # [N, 1]
    at = op.Add(first, op.Constant(value_ints=list(range(seen))))  # rows of the padded keys, [N, K]
    keys, values = (op.Gather(op.Pad(part, pads), at, axis=1) for part in (key, value))  # [B, N, K, E]
    shape = _integers(0, 0, 0, heads, width // heads)
    keys = op.Transpose(op.Reshape(keys, shape), perm=[0, 1, 3, 4, 2])
    values = op.Transpose(op.Reshape(values, shape), perm=[0, 1, 3, 2, 4])
    scores = op.Add(op.MatMul(rows, keys), _hidden(at, count, block, reach))  # [B, N, H, b, K]
    attended = op.Transpose(op.MatMul(op.Softmax(scores, axis=-1), values), perm=[0, 1, 3, 2, 4])
    whole = op.Reshape(attended, op.Concat(_integers(0), op.Mul(blocks, _integers(block)), _integers(width), axis=0))
    return op.Slice(whole, _integers(0), count, _integers(1))


def _hidden(at: Any, count: Any, block: int, reach: int) -> Any:
    """Make the addition to scores, [N, 1, b, K]: nothing where a query sees a key of the video, else very little."""
    import onnx

    op, seen = _op(), block + 2 * reach
    band = torch.arange(seen) - torch.arange(block)[:, None]
    outside = torch.where((band >= 0) & (band <= 2 * reach), 0.0, INVALID)  # [b, K]
    values = onnx.helper.make_tensor("band", onnx.TensorProto.FLOAT, list(outside.shape), outside.flatten().tolist())
    beyond = op.Or(op.Less(at, _integers(reach)), op.GreaterOrEqual(at, op.Add(count, _integers(reach))))
    hidden = op.Mul(op.Cast(beyond, to=1), op.Constant(value_float=INVALID))  # [N, K]
    return op.Add(op.Unsqueeze(hidden, _integers(1, 2)), op.Constant(value=values))


TRANSLATIONS: dict[Any, Callable[..., Any]] = {
    torch.ops.stale_edge.tails.default: translate_tails,
    torch.ops.stale_edge.table_rows.default: translate_table_rows,
    torch.ops.stale_edge.gelu.default: translate_gelu,
    torch.ops.stale_edge.neighbours.default: translate_neighbours,
    torch.ops.stale_edge.around.default: translate_around,
    torch.ops.stale_edge.level_edges.default: translate_level_edges,
    torch.ops.stale_edge.attend.default: translate_attend,
}
"""Table for `torch.onnx.export(custom_translation_table=…)`."""
