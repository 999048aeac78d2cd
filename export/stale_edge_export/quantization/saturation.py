"""Saturation of an int8 file on an x86 processor without VNNI, told on any machine.

Its instruction (vpmaddubsw) multiplies pairs of unsigned and signed bytes and keeps their sum in 16 bits: a sum beyond
that is cut off, and the product is wrong without any error. ONNX's reference evaluator runs the file here with such a
product in place of the exact one, so the activations are real and the damage goes on from layer to layer as it would.

Weights of 7 bits cannot saturate: 255 * 64 * 2 = 32640. Source: onnxruntime issues 5849 and 6004.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_scan import Scan as ReferenceScan

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx
    from numpy.typing import NDArray

LARGEST_SUM = 2**15 - 1
SMALLEST_SUM = -(2**15)
PRODUCT_SUFFIXES = ("_quant", "_integer")
"""Endings that quantisation appends to the name of a product."""


@dataclass(frozen=True)
class Saturation:
    """Effect of 16-bit sums on one product."""

    share: float
    """Share of the pairs of bytes whose sum does not fit."""
    relative_error: float
    """Root mean square of the change over that of the exact product."""

    @property
    def happens(self) -> bool:
        """Whether any sum does not fit."""
        return self.share > 0


@dataclass(frozen=True)
class Emulation:
    """An int8 file as a processor without VNNI runs it."""

    outputs: tuple[NDArray[np.float32], ...]
    """Outputs in the order of the file."""
    products: dict[str, Saturation]
    """Saturation of each product, by the name it had before quantisation."""


def emulate(model: onnx.ModelProto, feeds: dict[str, np.ndarray], *, saturate: bool = True) -> Emulation:
    """Run an int8 model with 16-bit saturating products.

    Args:
        model: An int8 model of ours.
        feeds: Inputs of the file; a hundred snippets take a second or two.
        saturate: Let sums saturate; otherwise all is exact, as with VNNI.
    """
    records: dict[str, list[_Record]] = {}
    evaluator = ReferenceEvaluator(model, new_ops=[_integer_product(records, saturate=saturate), _scan()])
    outputs = tuple(np.asarray(value, dtype=np.float32) for value in evaluator.run(None, feeds))
    return Emulation(outputs, {name: _combine(items) for name, items in records.items()})


def saturating_product(
    left: NDArray[np.uint8], right: NDArray[np.int8]
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Compute a product as vpmaddubsw and vpmaddwd do, before zero points are taken into account.

    Args:
        left: [M, K].
        right: [K, N].

    Returns:
        The product [M, N], the exact one [M, N], and how many pairs were cut off.
    """
    # Products and sums of bytes are whole numbers far below 2^53: float64 is exact, and fast.
    exact = (left.astype(np.float64) @ right.astype(np.float64)).astype(np.int64)
    found, cut = exact.copy(), 0
    a, b = left.astype(np.int32), right.astype(np.int32)
    limits = _largest_pairs(a, b)
    for first in range(0, a.shape[1] - 1, 2):  # an odd last column has no partner: 255 * 127 fits
        if limits[first // 2] <= LARGEST_SUM:
            continue
        sums = np.multiply.outer(a[:, first], b[first]) + np.multiply.outer(a[:, first + 1], b[first + 1])
        beyond = sums - np.clip(sums, SMALLEST_SUM, LARGEST_SUM)  # [M, N]
        found -= beyond
        cut += int(np.count_nonzero(beyond))
    return found, exact, cut


def _largest_pairs(a: NDArray[np.int32], b: NDArray[np.int32]) -> NDArray[np.int32]:
    """Bound the sums of each pair of columns, [K // 2], from the largest entries of each."""
    columns = a.shape[1] // 2 * 2
    largest = a.max(axis=0)[:columns] * np.abs(b).max(axis=1)[:columns]
    bounds: NDArray[np.int32] = largest.reshape(-1, 2).sum(axis=1)
    return bounds


@dataclass(frozen=True)
class _Record:
    """One run of one product: what `Saturation` is made from."""

    pairs: int
    cut: int
    square_error: float
    square_product: float


def _combine(records: Sequence[_Record]) -> Saturation:
    pairs, cut = sum(item.pairs for item in records), sum(item.cut for item in records)
    error, product = (sum(getattr(item, key) for item in records) for key in ("square_error", "square_product"))
    return Saturation(cut / pairs if pairs else 0.0, float(np.sqrt(error / product)) if product else 0.0)


def _integer_product(records: dict[str, list[_Record]], *, saturate: bool) -> type[OpRun]:
    """Make the operator MatMulInteger with saturating sums, which writes down what it does."""

    class MatMulInteger(OpRun):
        def _run(
            self, left: np.ndarray, right: np.ndarray, left_zero: Any = None, right_zero: Any = None
        ) -> tuple[np.ndarray]:
            left_zero = np.int64(0 if left_zero is None else left_zero)
            right_zero = np.asarray(0 if right_zero is None else right_zero, dtype=np.int64)  # [] or [N]
            batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
            lefts = np.broadcast_to(left, batch + left.shape[-2:]).reshape(-1, *left.shape[-2:])
            rights = np.broadcast_to(right, batch + right.shape[-2:]).reshape(-1, *right.shape[-2:])
            name = _product_name(self.onnx_node.name)
            results = []
            for a, b in zip(lefts, rights, strict=True):
                if a.dtype != np.uint8 or b.dtype != np.int8:
                    raise TypeError(f"{name} multiplies {a.dtype} by {b.dtype}, not uint8 by int8")
                found, exact, cut = saturating_product(a, b)
                # Zero points are subtracted afterwards from exact sums of rows and columns.
                zeros = (
                    left_zero * b.sum(axis=0, dtype=np.int64)
                    + a.sum(axis=1, dtype=np.int64)[:, None] * right_zero
                    - a.shape[1] * left_zero * right_zero
                )
                records.setdefault(name, []).append(_record(a, found - zeros, exact - zeros, cut))
                results.append((found if saturate else exact) - zeros)
            product = np.stack(results) if results else np.zeros((0, left.shape[-2], right.shape[-1]))
            return (product.reshape(*batch, left.shape[-2], right.shape[-1]).astype(np.int32),)

    return MatMulInteger


def _record(left: np.ndarray, found: np.ndarray, exact: np.ndarray, cut: int) -> _Record:
    return _Record(
        pairs=found.size * (left.shape[1] // 2),
        cut=cut,
        square_error=float(np.square(found - exact, dtype=np.float64).sum()),
        square_product=float(np.square(exact, dtype=np.float64).sum()),
    )


def _product_name(node: str) -> str:
    for suffix in PRODUCT_SUFFIXES:
        node = node.removesuffix(suffix)
    return node


def _scan() -> type[OpRun]:
    """Make the operator Scan along any axes; the reference knows the first one only."""

    class Scan(ReferenceScan):
        def __init__(self, node: onnx.NodeProto, *rest: Any) -> None:
            axes = {item.name: list(item.ints) for item in node.attribute if item.name.endswith("_axes")}
            plain = type(node)()
            plain.CopyFrom(node)
            del plain.attribute[:]
            plain.attribute.extend(item for item in node.attribute if item.name not in axes)
            super().__init__(plain, *rest)  # type: ignore[no-untyped-call]
            self.scanned = next(int(item.i) for item in node.attribute if item.name == "num_scan_inputs")
            self.axes_in, self.axes_out = axes.get("scan_input_axes", []), axes.get("scan_output_axes", [])

        def _run(self, *inputs: np.ndarray, **keywords: Any) -> tuple[np.ndarray, ...]:
            states = len(inputs) - self.scanned
            moved = [np.moveaxis(value, axis, 0) for value, axis in _paired(inputs[states:], self.axes_in)]
            found = super()._run(*inputs[:states], *moved, **keywords)  # type: ignore[no-untyped-call]
            results = [np.moveaxis(value, 0, axis) for value, axis in _paired(found[states:], self.axes_out)]
            return (*found[:states], *results)

    return Scan


def _paired(values: Sequence[np.ndarray], axes: Sequence[int]) -> list[tuple[np.ndarray, int]]:
    return list(zip(values, axes or [0] * len(values), strict=True))
