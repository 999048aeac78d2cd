"""int8 towers of CLIP: weight products, the product of pixels, and the table of tokens.

The pixels are bytes already: their product needs no scale and makes no error of activations. Pixels have a large mean,
so rounding errors of weights would add up to an error that follows brightness: weights are rounded so that the sum of
each colour is kept. That costs nothing and nearly halves the error of the whole tower (docs/towers.md).

A tower is converted in one pass of our own: weights are quantised once, however many variants are measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from stale_edge_export.quantization.int8 import Products

LARGEST, LARGEST_REDUCED = 127, 63
"""Largest weight in 8 bits, and in 7, which cannot overflow a 16-bit sum of two products with bytes."""
COLOUR_COUNT = 3
SMALLEST_WEIGHT_SCALE = 1e-12


class TowerQuantizer:
    """Makes int8 variants of a tower.

    Args:
        model: The fp32 tower; it is not changed.
        reduce_range: Keep weights to 7 bits.
    """

    def __init__(self, model: onnx.ModelProto, *, reduce_range: bool) -> None:
        self._model = model
        self._largest = LARGEST_REDUCED if reduce_range else LARGEST
        self._weights = {item.name: item for item in model.graph.initializer}
        self._makers = {output: node for node in model.graph.node for output in node.output}
        self._made: dict[str, list[onnx.TensorProto]] = {}

    def convert(self, products: Products) -> onnx.ModelProto:
        """Quantise some parts of the tower.

        Args:
            products: Parts to quantise, of `Products.of`.
        """
        made: dict[str, Callable[[onnx.NodeProto, _Additions], Iterator[onnx.NodeProto]]] = {
            **dict.fromkeys(products.weights, self._product),
            **dict.fromkeys(products.pixels, self._pixel_product),
            **dict.fromkeys(products.tables, self._lookup),
        }
        added = _Additions()
        nodes: list[onnx.NodeProto] = []
        for node in self._model.graph.node:
            nodes.extend(made[node.name](node, added) if node.name in made else [node])
        return self._assembled(nodes, added)

    def _assembled(self, nodes: list[onnx.NodeProto], added: _Additions) -> onnx.ModelProto:
        """Put nodes and the constants that they use into a model like the first one."""
        graph = self._model.graph
        outputs = {output.name for output in graph.output}
        nodes = _used(nodes, outputs)
        wanted = {name for node in nodes for name in node.input}
        constants = [item for item in graph.initializer if item.name in wanted]
        constants += [item for item in added.constants.values() if item.name in wanted]
        made = helper.make_graph(nodes, graph.name, graph.input, graph.output, constants)
        return helper.make_model(made, opset_imports=list(self._model.opset_import))

    def _product(self, node: onnx.NodeProto, added: _Additions) -> Iterator[onnx.NodeProto]:
        """Quantise a product with a weight: activations per tensor, quantised once for all products of them."""
        rows, base = node.input[0], node.name
        quantised = [f"{rows}_u8", f"{rows}_u8_scale", f"{rows}_u8_zero"]
        if rows not in added.quantised:
            added.quantised.add(rows)
            yield helper.make_node("DynamicQuantizeLinear", [rows], quantised, name=f"{base}_quantize")
        weight, scale = added.take(self._quantised(node.input[1], self._rounded))
        yield helper.make_node(
            "MatMulInteger", [quantised[0], weight, quantised[2]], [f"{base}_i32"], name=f"{base}_quant"
        )
        yield helper.make_node("Cast", [f"{base}_i32"], [f"{base}_wide"], name=f"{base}_wide", to=TensorProto.FLOAT)
        yield helper.make_node("Mul", [quantised[1], scale], [f"{base}_scale"], name=f"{base}_scale")
        yield helper.make_node("Mul", [f"{base}_wide", f"{base}_scale"], list(node.output), name=f"{base}_float")

    def _pixel_product(self, node: onnx.NodeProto, added: _Additions) -> Iterator[onnx.NodeProto]:
        """Quantise the product of bytes, which it takes as they are."""
        pixels, base = self._makers[node.input[0]].input[0], node.name
        weight, scale = added.take(self._quantised(node.input[1], self._rounded_by_colour))
        yield helper.make_node("MatMulInteger", [pixels, weight], [f"{base}_i32"], name=f"{base}_quant")
        yield helper.make_node("Cast", [f"{base}_i32"], [f"{base}_wide"], name=f"{base}_wide", to=TensorProto.FLOAT)
        yield helper.make_node("Mul", [f"{base}_wide", scale], list(node.output), name=f"{base}_float")

    def _lookup(self, node: onnx.NodeProto, added: _Additions) -> Iterator[onnx.NodeProto]:
        """Rows of a table, each with a scale of its own."""
        table, places, base = node.input[0], node.input[1], node.name
        rows, scales = added.take(self._quantised(table, self._rounded_rows))
        yield helper.make_node("Gather", [rows, places], [f"{base}_s8"], name=f"{base}_quant", axis=0)
        yield helper.make_node("Gather", [scales, places], [f"{base}_scale"], name=f"{base}_scale", axis=0)
        yield helper.make_node("Cast", [f"{base}_s8"], [f"{base}_wide"], name=f"{base}_wide", to=TensorProto.FLOAT)
        yield helper.make_node("Mul", [f"{base}_wide", f"{base}_scale"], list(node.output), name=f"{base}_float")

    def _quantised(self, name: str, rounding: Callable[[NDArray[Any]], tuple[Any, Any]]) -> list[onnx.TensorProto]:
        """Weight in 8 bits and its scales, made once."""
        if name not in self._made:
            values = numpy_helper.to_array(self._weights[name]).astype(np.float64)
            whole, scale = rounding(values)
            self._made[name] = [
                numpy_helper.from_array(whole.astype(np.int8), f"{name}_s8"),
                numpy_helper.from_array(scale.astype(np.float32), f"{name}_s8_scale"),
            ]
        return self._made[name]

    def _rounded(self, weight: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Round a weight [K, N] by column: whole numbers [K, N] and scales [N]."""
        scale = np.maximum(np.abs(weight).max(axis=0) / self._largest, SMALLEST_WEIGHT_SCALE)
        return np.rint(weight / scale), scale

    def _rounded_by_colour(self, weight: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Round a weight [K, N] whose rows go through the colours in turn, keeping the sum of each colour."""
        whole, scale = self._rounded(weight)
        for colour in range(COLOUR_COUNT):
            part = slice(colour, None, COLOUR_COUNT)
            whole[part] = keep_sums(weight[part] / scale, whole[part], self._largest)
        return whole, scale

    def _rounded_rows(self, table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Round a table [V, W] by row: whole numbers [V, W] and scales [V, 1]."""
        scale = np.maximum(np.abs(table).max(axis=1, keepdims=True) / LARGEST, SMALLEST_WEIGHT_SCALE)
        return np.rint(table / scale), scale


def keep_sums(exact: NDArray[np.float64], whole: NDArray[np.float64], largest: int) -> NDArray[np.float64]:
    """Move rounded numbers by one so that columns sum up to what they did, those first that were nearly rounded so.

    Args:
        exact: [K, N], before rounding.
        whole: [K, N], rounded.
        largest: Largest size of a number.

    Returns:
        [K, N], whole numbers.
    """
    missing = np.rint((exact - whole).sum(axis=0))  # [N]
    direction = np.sign(missing)
    gain = (exact - whole) * direction  # how near the number was to the next one in that direction
    gain[np.abs(whole + direction) > largest] = -np.inf
    order = np.argsort(np.argsort(-gain, axis=0, kind="stable"), axis=0)
    moved = (order < np.abs(missing)) & np.isfinite(gain)
    return np.asarray(whole + moved * direction)


class _Additions:
    """Constants and quantised activations of a variant."""

    def __init__(self) -> None:
        self.constants: dict[str, onnx.TensorProto] = {}
        self.quantised: set[str] = set()

    def take(self, tensors: list[onnx.TensorProto]) -> list[str]:
        self.constants.update({tensor.name: tensor for tensor in tensors})
        return [tensor.name for tensor in tensors]


def _used(nodes: list[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """Leave out nodes that no output depends on."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]
