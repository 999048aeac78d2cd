"""Element types of the operands of each operator, read from the file.

The profile of a run cannot tell them: a CPU without half-precision products casts to float32 behind the scenes, and
weights that were packed beforehand do not show up at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

from stale_edge_runtime.formats.onnx_schema import (
    ATTRIBUTE_SCHEMA,
    ELEMENT_TYPES,
    GRAPH_SCHEMA,
    MODEL_SCHEMA,
    NODE_SCHEMA,
    TENSOR_SCHEMA,
    VALUE_INFO_SCHEMA,
)
from stale_edge_runtime.formats.protobuf import Budget, Message
from stale_edge_runtime.model_file import tensor_info

if TYPE_CHECKING:
    from collections.abc import Iterable

_FIXED_OUTPUT = {
    "MatMulInteger": "int32",
    "ConvInteger": "int32",
    "Shape": "int64",
    "ArgMax": "int64",
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Not"), "bool"),
}
_TYPE_FROM_INPUT = {"Where": 1, "QuantizeLinear": 2, "QLinearMatMul": 7}
_BYTES = frozenset({"int8", "uint8"})
_LAYOUT = frozenset(
    {"Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Tile"}
    | {"Transpose", "Unsqueeze"}
)
"""Operators that move elements and compute nothing: bytes stay bytes."""


@dataclass(frozen=True)
class Operands:
    """One operator of a graph."""

    operator: str
    """Type of the operator."""
    types: tuple[str, ...]
    """Element type of each input; empty for one that is left out. Bytes that were only dequantised stay bytes."""
    shapes: tuple[tuple[int, ...] | None, ...]
    """Shape of each input that is a weight; none for the others."""


def read_operands(content: bytes) -> dict[str, Operands]:
    """Read the inputs of every operator but `Constant`, by the name of its node.

    Args:
        content: A model file that `read_model` accepted.
    """
    budget = Budget()
    graph = _required(Message(memoryview(content), MODEL_SCHEMA, budget).message("graph", GRAPH_SCHEMA))
    weights = graph.messages("initializer", TENSOR_SCHEMA)
    types = {tensor.text("name"): _element(tensor) for tensor in weights}
    shapes = {tensor.text("name"): tuple(tensor.integers("dims")) for tensor in weights}
    inputs = (tensor_info(value) for value in graph.messages("input", VALUE_INFO_SCHEMA))
    types.update({tensor.name: tensor.element_type for tensor in inputs})
    found: dict[str, Operands] = {}
    _read_nodes(graph, types, shapes, found)
    return found


def _read_nodes(
    graph: Message, types: dict[str, str], shapes: dict[str, tuple[int, ...]], found: dict[str, Operands]
) -> None:
    """Read the operators of a graph, and of the bodies in it; a body sees the values around it."""
    for node in graph.messages("node", NODE_SCHEMA):
        operator = node.text("op_type")
        operands = tuple(types.get(name, "") for name in node.texts("input"))
        for attribute in node.messages("attribute", ATTRIBUTE_SCHEMA):
            if body := attribute.message("g", GRAPH_SCHEMA):
                rows = (tensor_info(value) for value in body.messages("input", VALUE_INFO_SCHEMA))
                types.update({tensor.name: tensor.element_type for tensor in rows})
                _read_nodes(body, types, shapes, found)
        types.update(zip(node.texts("output"), _output_types(node, operator, operands), strict=False))
        if operator != "Constant":
            found[node.text("name")] = Operands(operator, operands, tuple(map(shapes.get, node.texts("input"))))


def product_type(operands: Operands) -> str:
    """Tell the type of a product of these operands: int8, float16 or float32.

    Args:
        operands: Operands of a MatMul, Gemm, Conv or one of their integer kin.
    """
    # QLinearMatMul has scales and zero points between its two matrices.
    factors = operands.types[0::3][:2] if operands.operator == "QLinearMatMul" else operands.types[:2]
    if set(factors) <= _BYTES:
        return "int8"
    return "float16" if "float16" in factors else "float32"


def _output_types(node: Message, operator: str, operands: tuple[str, ...]) -> Iterable[str]:
    if operator == "DynamicQuantizeLinear":
        return ("uint8", "float32", "uint8")
    return repeat(_output_type(node, operator, operands))


def _output_type(node: Message, operator: str, operands: tuple[str, ...]) -> str:
    if operator in _FIXED_OUTPUT:
        return _FIXED_OUTPUT[operator]
    if operator == "Cast":
        return ELEMENT_TYPES[_attribute(node, "to").integer("i")].name
    if operator in {"Constant", "ConstantOfShape"}:
        tensor = _tensor_attribute(node)
        return _element(tensor) if tensor else "float32"
    if operator == "DequantizeLinear":
        return operands[0] if operands[0] in _BYTES else "float32"
    if operator in {"QuantizeLinear", "QLinearMatMul"}:
        return operands[_TYPE_FROM_INPUT[operator]] if len(operands) > _TYPE_FROM_INPUT[operator] else "uint8"
    found = operands[_TYPE_FROM_INPUT.get(operator, 0)]
    # What is computed from dequantised bytes is no longer worth only a byte.
    return "float32" if found in _BYTES and operator not in _LAYOUT else found


def _element(tensor: Message) -> str:
    return ELEMENT_TYPES[tensor.integer("data_type")].name


def _tensor_attribute(node: Message) -> Message | None:
    for attribute in node.messages("attribute", ATTRIBUTE_SCHEMA):
        if tensor := attribute.message("t", TENSOR_SCHEMA):
            return tensor
    return None


def _attribute(node: Message, name: str) -> Message:
    return _required(next((a for a in node.messages("attribute", ATTRIBUTE_SCHEMA) if a.text("name") == name), None))


def _required(message: Message | None) -> Message:
    if message is None:
        raise ValueError("not a graph that read_model accepted")
    return message
