"""Arithmetic of segments: arrays `[N, 2]` of start and end in one common unit."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.floating]
IntArray: TypeAlias = NDArray[np.integer]
BoolArray: TypeAlias = NDArray[np.bool_]


def tiou(a: FloatArray, b: FloatArray) -> NDArray[np.float64]:
    """Temporal intersection over union of every segment of `a` with every segment of `b`.

    Args:
        a: `[N, 2]`, start and end.
        b: `[M, 2]`, start and end, in the same unit.

    Returns:
        `[N, M]` in [0, 1]. Two segments whose union is empty overlap by 0, equal ones included.
    """
    first = np.asarray(a, dtype=np.float64).reshape(-1, 1, 2)  # [N, 1, 2]
    second = np.asarray(b, dtype=np.float64).reshape(1, -1, 2)  # [1, M, 2]
    return paired_tiou(first, second)


def paired_tiou(a: FloatArray, b: FloatArray) -> NDArray[np.float64]:
    """Temporal intersection over union of segments that are paired by broadcasting.

    Args:
        a: `[…, 2]`, start and end.
        b: `[…, 2]`, start and end, in the same unit.

    Returns:
        The broadcast shape without the last axis, in [0, 1]; 0 where the union is empty.
    """
    start_a, end_a, start_b, end_b = a[..., 0], a[..., 1], b[..., 0], b[..., 1]
    intersection = np.maximum(np.minimum(end_a, end_b) - np.maximum(start_a, start_b), 0.0)
    union = (end_a - start_a) + (end_b - start_b) - intersection
    overlap = np.zeros(np.broadcast_shapes(intersection.shape, union.shape))
    np.divide(intersection, union, out=overlap, where=union > 0)
    return np.minimum(overlap, 1.0)


def runs(active: BoolArray) -> tuple[IntArray, IntArray, IntArray]:
    """Maximal runs of true values along the last axis, of all rows at once.

    Args:
        active: `[R, T]`.

    Returns:
        Row, first index and one past the last index of every run, in row order, then in time order.
    """
    width = active.shape[1]
    lanes = Lanes(*active.shape)
    lanes.rows[...] = active
    edges = lanes.edges()
    row, first = np.divmod(edges[0::2], width + 1)
    return row, first, edges[1::2] - row * (width + 1)


class Lanes:
    """Rows of true and false to fill, laid end to end with one false after each: no run crosses a border."""

    def __init__(self, rows: int, width: int) -> None:
        self._padded = np.zeros(rows * (width + 1) + 1, dtype=np.bool_)  # one false before the first row too
        self.rows: BoolArray = self._padded[1:].reshape(rows, width + 1)[:, :width]
        """`[R, T]`, false until filled."""

    def edges(self) -> IntArray:
        """Find where runs begin and end, in turn; column t of row r is at r · (T+1) + t."""
        return np.flatnonzero(self._padded[1:] != self._padded[:-1])


def around(edges: IntArray, positions: IntArray) -> tuple[IntArray, IntArray]:
    """Find the runs around those positions that lie in one.

    Args:
        edges: Edges of `Lanes`.
        positions: `[M]`, as in `edges`.

    Returns:
        Start of each, `[N]`, and one past its end, `[N]`.
    """
    after = edges.searchsorted(positions, side="right")
    after = after[after % 2 == 1]
    return edges[after - 1], edges[after]
