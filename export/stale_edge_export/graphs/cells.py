"""Cells of a video as one operator, so that their number is a size of its own to whoever traces the graph.

It follows from the number of snippets by two rounded divisions. Carried through every shape, these expressions take
most of the time of tracing a boundary map.

Symbols: B batch, T snippets, M cells, D feature width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stale_edge.networks.boundary_map.model import pool_cells
from stale_edge_runtime.heads.boundary_map import MAX_CELLS

if TYPE_CHECKING:
    from collections.abc import Callable


@torch.library.custom_op("stale_edge::pooled_cells", mutates_args=())
def pooled_cells(features: Tensor) -> Tensor:
    """Average features [B, T, D] over cells, [B, M, D]; see `pool_cells`."""
    return pool_cells(features)


@pooled_cells.register_fake
def _(features: Tensor) -> Tensor:
    cells = torch.library.get_ctx().new_dynamic_size(min=1, max=MAX_CELLS)
    return features.new_empty((features.shape[0], cells, features.shape[2]))


def translate_pooled_cells(features: Any) -> Any:
    """Write the operator in ONNX, for the exporter's table of translations.

    Args:
        features: Value [B, T, D].

    Returns:
        Value [B, M, D].
    """
    from onnxscript import opset18

    op: Any = opset18  # typed for scripts, used here while the exporter records

    def integers(*values: int) -> Any:
        return op.Constant(value_ints=list(values))

    one, none = integers(1), op.Constant(value_int=0)
    snippets = op.Shape(features, start=1, end=2)
    size = op.Div(op.Add(snippets, integers(MAX_CELLS - 1)), integers(MAX_CELLS))
    cells = op.Div(op.Sub(op.Add(snippets, size), one), size)
    surplus = op.Sub(op.Mul(cells, size), snippets)
    padded = op.Pad(features, op.Concat(integers(0, 0, 0, 0), surplus, integers(0), axis=0))
    stacked = op.Reshape(padded, op.Concat(integers(0), cells, size, integers(features.shape[2]), axis=0))
    sums = op.ReduceSum(stacked, integers(2), keepdims=0)  # [B, M, D]
    first = op.Mul(op.Range(none, op.Squeeze(cells), op.Constant(value_int=1)), size)
    held = op.Min(op.Sub(snippets, first), size)  # [M], snippets of each cell
    return op.Div(sums, op.Cast(op.Unsqueeze(held, one), to=1))


TRANSLATIONS: dict[Any, Callable[..., Any]] = {torch.ops.stale_edge.pooled_cells.default: translate_pooled_cells}
"""Table for `torch.onnx.export(custom_translation_table=…)`."""
