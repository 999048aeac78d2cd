"""int8 files: matrix products in 8 bits, activations quantised as they come.

Products with a weight go through onnxruntime's `quantize_dynamic`: weights per output channel, signed; activations per
tensor, unsigned, quantised once where several products share them. The exporter writes the mask head's convolutions as
matrix products, so these are covered too. Products of two activations are the work of `activations`.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import re
import tempfile
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic

from stale_edge_export.encoding import inner_nodes
from stale_edge_export.quantization.activations import quantize_activation_products
from stale_edge_export.quantization.movement import quantize_before_movement
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.processor import cpu_flags

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stale_edge_export.graphs.base import QuantizationRules


TABLE_ROWS = 1024
"""Rows from which on a table is worth 8 bits."""
_MOVERS = ("Reshape", "Transpose", "Identity")


@dataclass(frozen=True)
class Target:
    """A family of processors, by what its 8-bit products can bear."""

    reduce_range: bool
    """Keep right operands to 7 bits, because pairs of 8-bit products overflow a 16-bit sum."""
    reason: str
    """Reason, for people."""


TARGETS: Mapping[str, Target] = {
    "vnni": Target(reduce_range=False, reason="x86 with VNNI sums 8-bit products in 32 bits"),
    "arm64": Target(reduce_range=False, reason="ARM sums 8-bit products in 32 bits"),
    "avx2": Target(reduce_range=True, reason="x86 without VNNI sums pairs of 8-bit products in 16 bits"),
    "portable": Target(reduce_range=True, reason="right on every processor"),
}


@dataclass(frozen=True)
class Products:
    """The matrix products of a model that can be quantised, by name."""

    weights: tuple[str, ...]
    """Products whose right operand is a weight."""
    activations: tuple[str, ...]
    """Products of two activations."""
    pixels: tuple[str, ...] = ()
    """Products of bytes that come in, with a weight."""
    tables: tuple[str, ...] = ()
    """Tables of embeddings that are looked up."""

    @classmethod
    def of(cls, model: onnx.ModelProto, rules: QuantizationRules) -> Products:
        """List the products of an fp32 model of the exporter.

        Args:
            model: The model.
            rules: Rules of the file's network.
        """
        if rules.is_tower:
            return cls._of_tower(model)
        constants = {item.name for item in model.graph.initializer}
        sums = {item.name for item in model.graph.initializer if item.dims[-1:] == [1]}  # 8 bits gain nothing there
        nodes = [part for node in model.graph.node for part in (node, *inner_nodes(node)) if part.op_type == "MatMul"]
        products = [node for node in nodes if node.input[1] not in sums and not _is_kept(node, rules)]
        stages = rules.int8_activation_stages
        activations = [node for node in products if _stage(node).split(".")[0] in stages]
        return cls(
            tuple(node.name for node in products if node.input[1] in constants),
            tuple(node.name for node in activations if node.input[1] not in constants),
        )

    @classmethod
    def _of_tower(cls, model: onnx.ModelProto) -> Products:
        shapes = {item.name: tuple(item.dims) for item in model.graph.initializer}
        flat = {name for name, shape in shapes.items() if len(shape) == 2}
        bytes_in = {item.name for item in model.graph.input if item.type.tensor_type.elem_type == TensorProto.UINT8}
        pixels = _cast_bytes(model, bytes_in)
        products = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in flat]
        lookups = [node for node in model.graph.node if node.op_type == "Gather" and node.input[0] in flat]
        return cls(
            weights=tuple(node.name for node in products if node.input[0] not in pixels),
            activations=(),
            pixels=tuple(node.name for node in products if node.input[0] in pixels),
            tables=tuple(node.name for node in lookups if shapes[node.input[0]][0] >= TABLE_ROWS),
        )

    @property
    def _groups(self) -> tuple[tuple[str, ...], ...]:
        return (self.weights, self.activations, self.pixels, self.tables)

    def __iter__(self) -> Iterator[str]:
        return iter(name for group in self._groups for name in group)

    def kind_of(self, name: str) -> str:
        """Name the group that one of the products is in: weights, activations, pixels or tables."""
        kinds = ("weights", "activations", "pixels", "tables")
        return next(kind for kind, group in zip(kinds, self._groups, strict=True) if name in group)

    def without(self, names: Sequence[str]) -> Products:
        """Leave out the products that are in `names`."""
        return Products(*(tuple(name for name in group if name not in names) for group in self._groups))

    def only(self, names: Sequence[str]) -> Products:
        """Keep the products that are in `names`."""
        return self.without([name for name in self if name not in names])

    def matching(self, pattern: str) -> list[str]:
        """Names that a regular expression finds.

        Raises:
            UsageError: It is no regular expression, or finds nothing.
        """
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise UsageError("--exclude", f"{pattern!r} is no regular expression ({error})") from error
        found = [name for name in self if expression.search(name)]
        if not found:
            raise UsageError("--exclude", f"{pattern!r} matches none of {', '.join(self)}")
        return found


def _cast_bytes(model: onnx.ModelProto, bytes_in: set[str]) -> set[str]:
    """Names of the values that are bytes which came in, moved about and cast to numbers."""
    moved, cast = set(bytes_in), set()
    for node in model.graph.node:
        if node.input and node.input[0] in moved and node.op_type in _MOVERS:
            moved.update(node.output)
        elif node.op_type == "Cast" and node.input[0] in moved:
            cast.update(node.output)
    return cast


def _is_kept(node: onnx.NodeProto, rules: QuantizationRules) -> bool:
    return any(fnmatchcase(_stage(node), pattern) for pattern in rules.int8_kept_stages)


def _stage(node: onnx.NodeProto) -> str:
    return str(node.name.split("/")[0])


def this_machine() -> str:
    """Choose the target that fits the processor of this machine; `portable` where that is not known."""
    if platform.machine().lower() in {"aarch64", "arm64"}:
        return "arm64"
    flags = cpu_flags()
    if any("vnni" in flag for flag in flags):
        return "vnni"
    return "avx2" if "avx2" in flags else "portable"


def to_int8(model: onnx.ModelProto, products: Products, *, reduce_range: bool = False) -> onnx.ModelProto:
    """Quantise some products of a model.

    Args:
        model: An fp32 model of the exporter; it is not changed.
        products: Products to quantise, of `Products.of`.
        reduce_range: Keep right operands, weights or not, to 7 bits.

    Returns:
        The int8 model.
    """
    if products.weights:
        quantised = _quantize_weights(model, products.weights, reduce_range=reduce_range)
    else:
        quantised = onnx.ModelProto()
        quantised.CopyFrom(model)
    quantize_activation_products(quantised, products.activations, reduce_range=reduce_range)
    quantize_before_movement(quantised.graph)
    return quantised


def _quantize_weights(model: onnx.ModelProto, names: Sequence[str], *, reduce_range: bool) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder, _quiet_tools():
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=list(names),
            extra_options={"MatMulConstBOnly": True, "EnableSubgraph": True},
        )
        return onnx.load(path)


@contextlib.contextmanager
def _quiet_tools() -> Iterator[None]:
    """Keep the advice of onnxruntime's tool to run other tools first from the user."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
