"""Folded self-attention, a block of snippets at a time.

The scores of a whole video would take 4 T² numbers: 1 GB at 8192 snippets. A block of snippets needs little memory and
stays in the cache. For PyTorch this is one operator; in ONNX it becomes a `Scan` over blocks, whose body holds the four
products, the softmax, and what follows row by row: residual and norm.

Symbols: B batch, T snippets, D feature width, H heads, N blocks of r snippets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from stale_edge_runtime.contract import BLOCK_SNIPPETS

if TYPE_CHECKING:
    from collections.abc import Callable


LONG_BLOCK = 100
"""Snippets of a block in long videos. Scores of more leave the cache; the right operands are packed anew for every
block, which takes longer for fewer."""
EPSILON = 1e-5
"""Smallest variance of a norm, as in `torch.nn.LayerNorm`."""


@torch.library.custom_op("stale_edge::self_attend", mutates_args=())
def self_attend(
    features: Tensor,
    memory: Tensor,
    query_key: Tensor,
    value_output: Tensor,
    bias: Tensor,
    gain: Tensor,
    shift: Tensor,
) -> Tensor:
    """Folded self-attention with residual and norm.

    Args:
        features: Queries, [B, T, D].
        memory: Keys and values alike, [B, T, D].
        query_key: [D, H D], see `WideAttention.folded`.
        value_output: [H D, D], see `WideAttention.folded`.
        bias: Added to what is attended, [B, 1, D].
        gain: Weights of the norm, [D].
        shift: Bias of the norm, [D].

    Returns:
        [B, T, D].
    """
    batch, snippets, dim = features.shape
    query = (features @ query_key).reshape(batch, -1, dim)  # [B, T H, D]
    attended = (query @ memory.transpose(1, 2)).softmax(dim=2) @ memory  # [B, T H, D]
    rows = attended.reshape(batch, snippets, -1) @ value_output + bias + features
    return functional.layer_norm(rows, (dim,), gain, shift, EPSILON)


@self_attend.register_fake
def _(features: Tensor, *others: Tensor) -> Tensor:
    del others
    return torch.empty_like(features)


def translate_self_attend(
    features: Any, memory: Any, query_key: Any, value_output: Any, bias: Any, gain: Any, shift: Any
) -> Any:
    """Write the operator in ONNX, for the exporter's table of translations.

    Args:
        features: Value [B, T, D].
        memory: Value [B, T, D].
        query_key: Value [D, H D].
        value_output: Value [H D, D].
        bias: Value [B, 1, D].
        gain: Value [D].
        shift: Value [D].

    Returns:
        Value [B, T, D].
    """
    from onnxscript import opset18
    from torch.onnx._internal.exporter._torchlib.ops.hop import call_op

    op: Any = opset18  # typed for scripts, used here while the exporter records

    def integers(*values: int) -> Any:
        return op.Constant(value_ints=list(values))

    none, one, dim = op.Constant(value_int=0), op.Constant(value_int=1), features.shape[2]
    snippets = op.Shape(features, start=1, end=2)
    # As many scores as a square of the largest block has, as far as that is more rows than a long video's blocks have.
    most = op.Max(op.Div(integers(BLOCK_SNIPPETS**2), snippets), integers(LONG_BLOCK))
    blocks = op.Div(op.Sub(op.Add(snippets, most), one), most)  # N
    block = op.Div(op.Sub(op.Add(snippets, blocks), one), blocks)  # r
    # Blocks are numbers of rows, because a `Scan` over another axis than the first copies all that it cuts. Rows beyond
    # the last one repeat it.
    rows = op.Min(op.Range(none, op.Squeeze(op.Mul(blocks, block)), one), op.Sub(snippets, one))
    rows = op.Reshape(rows, op.Concat(blocks, integers(-1), axis=0))  # [N, r]
    keys = op.Transpose(memory, perm=[0, 2, 1])  # [B, D, T]
    shapes = integers(0, -1, dim), integers(0, -1, query_key.shape[1])
    body = _body((features, memory, keys, query_key, value_output, bias, gain, shift), shapes)
    (output,) = call_op("Scan", rows, body=body, num_scan_inputs=1, scan_output_axes=[1])  # [B, N, r, D]
    return op.Slice(op.Reshape(output, integers(0, -1, dim)), integers(0), snippets, integers(1))


def _body(around: tuple[Any, ...], shapes: tuple[Any, Any]) -> Any:
    """Build the graph of one block: numbers of snippets [r] in, [B, r, D] out; all else comes from around it."""
    import onnx_ir as ir

    features, memory, keys, query_key, value_output, bias, gain, shift = around
    floats = ir.TensorType(ir.DataType.FLOAT)
    rows = ir.Value(name="block_rows", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([None]))
    nodes: list[Any] = []

    def add(operator: str, *inputs: Any, **attributes: float) -> Any:
        node = ir.node(operator, inputs=inputs, attributes=attributes)
        node.outputs[0].name = f"block_{operator.lower()}_{len(nodes)}"
        node.outputs[0].type, node.outputs[0].shape = floats, ir.Shape([None, None, None])
        nodes.append(node)
        return node.outputs[0]

    part = add("Gather", features, rows, axis=1)  # [B, r, D]
    query = add("Reshape", add("MatMul", part, query_key), shapes[0])  # [B, r H, D]
    weights = add("Softmax", add("MatMul", query, keys), axis=-1)  # [B, r H, T]
    attended = add("Reshape", add("MatMul", weights, memory), shapes[1])  # [B, r, H D]
    summed = add("Add", add("Add", add("MatMul", attended, value_output), bias), part)
    embedded = add("LayerNormalization", summed, gain, shift, axis=-1, epsilon=EPSILON)
    return ir.Graph([rows], [embedded], nodes=nodes, name="self_attend_block")


TRANSLATIONS: dict[Any, Callable[..., Any]] = {torch.ops.stale_edge.self_attend.default: translate_self_attend}
"""Table for `torch.onnx.export(custom_translation_table=…)`."""
