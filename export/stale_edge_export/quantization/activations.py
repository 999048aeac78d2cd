"""8-bit products of two activations: attention scores and attended values.

The left operand is quantised unsigned, the right one signed around zero: that is the pair for which processors have
their fast instruction, and onnxruntime a kernel of more than twice the speed. `quantize_dynamic` would take both
unsigned. Attention weights get a scale from their own maximum, since uniform attention over 3000 snippets is 0.0003.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stale_edge_export.encoding import inner_nodes

if TYPE_CHECKING:
    from collections.abc import Iterable

SMALLEST_SCALE = np.float32(1e-12)
LARGEST_SIGNED = 127
LARGEST_REDUCED = 64
"""Largest value of the right operand; as onnxruntime keeps weights to 7 bits: 255 * 64 * 2 fits 16 bits."""


def quantize_activation_products(model: onnx.ModelProto, names: Iterable[str], *, reduce_range: bool = False) -> None:
    """Replace products of two activations by 8-bit ones, in place.

    Args:
        model: A model of the exporter, its weight products already quantised or not.
        names: Names of `MatMul` nodes.
        reduce_range: Keep the right operands to 7 bits.
    """
    _Rewriter(model, LARGEST_REDUCED if reduce_range else LARGEST_SIGNED).replace(set(names))


class _Rewriter:
    """Builds the nodes around 8-bit products; operands that several products share are quantised once."""

    def __init__(self, model: onnx.ModelProto, largest: int) -> None:
        self._graph = model.graph
        self._largest = largest
        self._producers = {output: node for node in model.graph.node for output in node.output}
        self._unsigned: dict[str, tuple[str, ...]] = {}
        self._signed: dict[str, tuple[str, str]] = {}
        self._outer: list[onnx.NodeProto] = []
        self._constants = {item.name: item for item in model.graph.initializer}

    def replace(self, names: set[str]) -> None:
        for node in self._graph.node:
            if node.op_type == "DynamicQuantizeLinear":
                self._unsigned[node.input[0]] = tuple(node.output)
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    self._replace_in_body(attribute.g, names)
            if node.name in names:
                self._product(node, self._outer)
            else:
                self._outer.append(node)
        self._take(self._graph, self._outer)
        self._drop_unused()

    def _replace_in_body(self, body: onnx.GraphProto, names: set[str]) -> None:
        """Quantise inside a body: what it takes from outside is quantised there, once for all blocks."""
        inner: list[onnx.NodeProto] = []
        for node in body.node:
            if node.name in names:
                self._product(node, inner)
            else:
                inner.append(node)
        self._take(body, inner)

    @staticmethod
    def _take(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)

    def _product(self, node: onnx.NodeProto, nodes: list[onnx.NodeProto]) -> None:
        left, left_scale, left_zero = self._quantize_left(node.input[0], nodes)
        right, right_scale = self._quantize_right(node.input[1])
        base = node.name
        integer = _append(nodes, "MatMulInteger", [left, right, left_zero], f"{base}_integer")
        wide = _append(nodes, "Cast", [integer], f"{base}_wide", to=TensorProto.FLOAT)
        scale = _append(nodes, "Mul", [left_scale, right_scale], f"{base}_scale")
        _append(nodes, "Mul", [wide, scale], f"{base}_float", output=node.output[0])

    def _quantize_left(self, name: str, nodes: list[onnx.NodeProto]) -> tuple[str, ...]:
        """Unsigned, in the graph that holds the product; weight products may have done this tensor already."""
        if name not in self._unsigned and name in self._constants:
            self._unsigned[name] = self._quantize_constant(name)
        if name not in self._unsigned:
            outputs = (f"{name}_u8", f"{name}_u8_scale", f"{name}_u8_zero")
            nodes.append(helper.make_node("DynamicQuantizeLinear", [name], outputs, name=f"{name}_quantize_u8"))
            self._unsigned[name] = outputs
        return self._unsigned[name]

    def _quantize_constant(self, name: str) -> tuple[str, ...]:
        """Quantise a constant now as `DynamicQuantizeLinear` would do it on every run."""
        values = numpy_helper.to_array(self._constants[name])
        low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
        scale = np.float32((high - low) / 255) or np.float32(1)
        zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
        parts = np.clip(np.rint(values / scale) + zero, 0, 255).astype(np.uint8), scale, zero
        outputs = (f"{name}_u8", f"{name}_u8_scale", f"{name}_u8_zero")
        for output, part in zip(outputs, parts, strict=True):
            self._constant(output, np.asarray(part))
        return outputs

    def _quantize_right(self, name: str) -> tuple[str, str]:
        """Signed around zero, in the outer graph; a transposed operand is transposed as bytes."""
        if name not in self._signed:
            producer = self._producers.get(name)
            if producer is not None and producer.op_type == "Transpose":
                source, scale = self._quantize_right(producer.input[0])
                copy = helper.make_node("Transpose", [source], [f"{name}_s8"], name=f"{producer.name}_s8")
                copy.attribute.extend(producer.attribute)
                self._outer.append(copy)
                self._signed[name] = (f"{name}_s8", scale)
            else:
                self._signed[name] = self._around_zero(name)
        return self._signed[name]

    def _around_zero(self, name: str) -> tuple[str, str]:
        ends = []
        for operator, side in (("ReduceMax", 1), ("ReduceMin", -1)):  # no copy of the tensor is written, as with Abs
            end = _append(self._outer, operator, [name], f"{name}_{operator.lower()}", keepdims=0)
            step = self._constant(f"s8_step_{operator.lower()}", np.float32(side / self._largest))
            ends.append(_append(self._outer, "Mul", [end, step], f"{end}_step"))
        smallest = self._constant("s8_smallest", SMALLEST_SCALE)
        scale = _append(self._outer, "Max", [*ends, smallest], f"{name}_s8_scale")
        zero = self._constant("s8_zero", np.int8(0))
        return _append(self._outer, "QuantizeLinear", [name, scale, zero], f"{name}_s8"), scale

    def _constant(self, name: str, value: np.generic | np.ndarray) -> str:
        if all(item.name != name for item in self._graph.initializer):
            self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _drop_unused(self) -> None:
        """Transposes and constants that only the replaced products needed."""
        nodes = [part for node in self._graph.node for part in (node, *inner_nodes(node))]
        used = {name for node in nodes for name in node.input} | {item.name for item in self._graph.output}
        for node in [item for item in self._graph.node if item.op_type == "Transpose" and item.output[0] not in used]:
            self._graph.node.remove(node)
        for constant in [item for item in self._graph.initializer if item.name not in used]:
            self._graph.initializer.remove(constant)


def _append(
    nodes: list[onnx.NodeProto], operator: str, inputs: list[str], name: str, output: str = "", **attributes: Any
) -> str:
    nodes.append(helper.make_node(operator, inputs, [output or name], name=name, **attributes))
    return output or name
