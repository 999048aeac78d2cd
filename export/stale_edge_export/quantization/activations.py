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

if TYPE_CHECKING:
    from collections.abc import Iterable

SMALLEST_SCALE = np.float32(1e-12)


def quantize_activation_products(model: onnx.ModelProto, names: Iterable[str]) -> None:
    """Replace products of two activations by 8-bit ones, in place.

    Args:
        model: A model of the exporter, its weight products already quantised or not.
        names: Names of `MatMul` nodes.
    """
    _Rewriter(model).replace(set(names))


class _Rewriter:
    """Builds the nodes around 8-bit products; operands that several products share are quantised once."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._producers = {output: node for node in model.graph.node for output in node.output}
        self._done: dict[tuple[str, str], tuple[str, ...]] = {}
        self._nodes: list[onnx.NodeProto] = []

    def replace(self, names: set[str]) -> None:
        for node in self._graph.node:
            if node.name in names:
                self._product(node)
            else:
                self._nodes.append(node)
        ordered = list(self._nodes)
        del self._graph.node[:]
        self._graph.node.extend(ordered)
        self._drop_unused_transposes()

    def _product(self, node: onnx.NodeProto) -> None:
        left, left_scale, left_zero = self._unsigned(node.input[0])
        right, right_scale = self._signed(node.input[1])
        base = node.name
        integer = self._add("MatMulInteger", [left, right, left_zero], f"{base}_integer")
        wide = self._add("Cast", [integer], f"{base}_wide", to=TensorProto.FLOAT)
        scale = self._add("Mul", [left_scale, right_scale], f"{base}_scale")
        self._add("Mul", [wide, scale], f"{base}_float", output=node.output[0])

    def _unsigned(self, name: str) -> tuple[str, ...]:
        key = ("unsigned", name)
        if key not in self._done:
            # Weight products quantised by onnxruntime's tool have done this tensor already.
            for node in self._nodes:
                if node.op_type == "DynamicQuantizeLinear" and node.input[0] == name:
                    self._done[key] = tuple(node.output)
                    break
            else:
                outputs = [f"{name}_u8", f"{name}_u8_scale", f"{name}_u8_zero"]
                self._nodes.append(
                    helper.make_node("DynamicQuantizeLinear", [name], outputs, name=f"{name}_quantize_u8")
                )
                self._done[key] = tuple(outputs)
        return self._done[key]

    def _signed(self, name: str) -> tuple[str, ...]:
        key = ("signed", name)
        if key not in self._done:
            producer = self._producers.get(name)
            if producer is not None and producer.op_type == "Transpose":
                source, scale = self._signed(producer.input[0])
                turned = f"{name}_s8"
                copy = helper.make_node("Transpose", [source], [turned], name=f"{producer.name}_s8")
                copy.attribute.extend(producer.attribute)
                self._nodes.append(copy)
                self._done[key] = (turned, scale)
            else:
                self._done[key] = self._quantize_signed(name)
        return self._done[key]

    def _quantize_signed(self, name: str) -> tuple[str, str]:
        size = self._add("Abs", [name], f"{name}_abs")
        largest = self._add("ReduceMax", [size], f"{name}_largest", keepdims=0)
        step = self._add("Mul", [largest, self._constant("s8_step", np.float32(1 / 127))], f"{name}_step")
        scale = self._add("Max", [step, self._constant("s8_smallest", SMALLEST_SCALE)], f"{name}_s8_scale")
        zero = self._constant("s8_zero", np.int8(0))
        return self._add("QuantizeLinear", [name, scale, zero], f"{name}_s8"), scale

    def _constant(self, name: str, value: np.generic) -> str:
        if all(item.name != name for item in self._graph.initializer):
            self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _add(self, operator: str, inputs: list[str], name: str, output: str = "", **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output or name], name=name, **attributes))
        return output or name

    def _drop_unused_transposes(self) -> None:
        used = {name for node in self._graph.node for name in node.input} | {item.name for item in self._graph.output}
        for node in [item for item in self._graph.node if item.op_type == "Transpose" and item.output[0] not in used]:
            self._graph.node.remove(node)
