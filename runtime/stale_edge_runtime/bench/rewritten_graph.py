"""The graph that onnxruntime really runs, after its fusions: its operators, and files of some of them alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stale_edge_runtime.bench.small_files import message, value_info
from stale_edge_runtime.contract import IR_VERSION
from stale_edge_runtime.formats.onnx_schema import (
    ATTRIBUTE_SCHEMA,
    ELEMENT_TYPES,
    GRAPH_SCHEMA,
    MODEL_SCHEMA,
    NODE_SCHEMA,
    TENSOR_SCHEMA,
)
from stale_edge_runtime.formats.protobuf import Budget, Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

INTEGER_PRODUCTS: Final = frozenset(
    {"MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QLinearMatMul", "QLinearConv"}
)
"""Operators that multiply bytes, onnxruntime's own among them."""
_QUANTISERS: Final = frozenset({"DynamicQuantizeLinear", "QuantizeLinear"})
_TYPE_NAMES: Final = {"float": "float32", "double": "float64"}
_CODES: Final = {element.name: code for code, element in ELEMENT_TYPES.items()}

TypedShape = tuple[str, tuple[int, ...]]
"""Element type, by numpy's name, and sizes."""


@dataclass(frozen=True)
class RunNode:
    """One operator that onnxruntime runs."""

    operator: str
    """Type of operator, which may be one of onnxruntime's own."""
    inputs: tuple[str, ...]
    """Names of its inputs; empty for one that is left out."""
    outputs: tuple[str, ...]
    """Names of its outputs."""
    content: bytes
    """The encoded operator, with its attributes."""


@dataclass(frozen=True)
class RewrittenGraph:
    """Operators and constants of a graph and of the bodies in it."""

    nodes: Mapping[str, RunNode]
    """Operators by the name that a profile gives them."""
    constants: Mapping[str, tuple[TypedShape, bytes]]
    """Type, sizes and encoding of each constant."""
    operator_sets: tuple[bytes, ...]
    """Encoded versions of the operator sets."""

    def input_shapes(self, node: RunNode, listed: Sequence[Mapping[str, list[int]]]) -> dict[str, TypedShape]:
        """Tell type and sizes of each input of an operator.

        Args:
            node: The operator.
            listed: Inputs as a profile lists them: without constants that were packed when the file was opened.
        """
        found: dict[str, TypedShape] = {}
        rest = [typed_shape(entry) for entry in listed]
        for name in filter(None, node.inputs):
            constant = self.constants.get(name)
            if constant is None or rest[:1] == [constant[0]]:
                found[name] = rest.pop(0)
            else:
                found[name] = constant[0]
        return found

    def alone(self, nodes: Sequence[RunNode], shapes: Mapping[str, TypedShape]) -> tuple[bytes, dict[str, TypedShape]]:
        """Encode a file of some operators, with the constants that they use.

        Args:
            nodes: Operators, those that others use first.
            shapes: Type and sizes of every input that none of them computes.

        Returns:
            The encoded file, and its inputs. All outputs of the operators are outputs of the file.
        """
        made = {name for node in nodes for name in node.outputs if name}
        used = dict.fromkeys(name for node in nodes for name in node.inputs if name and name not in made)
        inputs = {name: shapes[name] for name in used if name not in self.constants}
        graph = message(
            *((1, node.content) for node in nodes),
            (2, "alone"),
            *((5, self.constants[name][1]) for name in used if name in self.constants),
            *((11, value_info(name, _CODES[kind], *shape)) for name, (kind, shape) in inputs.items()),
            *((12, message((1, name))) for name in sorted(made)),
        )
        return message((1, IR_VERSION), (7, graph), *((8, entry) for entry in self.operator_sets)), inputs

    def helpers(self) -> tuple[frozenset[str], frozenset[str]]:
        """Name the operators that only quantise, their search for a range included, and those that only rescale."""
        quantising = {name for name, node in self.nodes.items() if node.operator in _QUANTISERS}
        readers: dict[str, list[tuple[str, int]]] = defaultdict(list)
        makers: dict[str, str] = {}
        for name, node in self.nodes.items():
            makers.update(dict.fromkeys(node.outputs, name))
            for place, value in enumerate(node.inputs):
                readers[value].append((name, place))

        def serves(reader: str, place: int) -> bool:
            """Whether an input is a scale or zero point, or of an operator that computes nothing else."""
            operator = self.nodes[reader].operator
            if operator in _QUANTISERS or operator in INTEGER_PRODUCTS:
                return place >= (2 if operator in INTEGER_PRODUCTS else 1)
            return reader in quantising

        waiting = [value for name in quantising for value in self.nodes[name].inputs[1:]]
        while waiting:
            maker = makers.get(waiting.pop())
            if maker is None or maker in quantising:
                continue
            if all(serves(*reader) for value in self.nodes[maker].outputs for reader in readers[value]):
                quantising.add(maker)
                waiting += self.nodes[maker].inputs
        return frozenset(quantising), self._rescaling(readers)

    def _rescaling(self, readers: Mapping[str, Sequence[tuple[str, int]]]) -> frozenset[str]:
        """Name what follows a product of bytes: `Cast` and `Mul` where they are not fused, and `DequantizeLinear`."""
        found = {name for name, node in self.nodes.items() if node.operator == "DequantizeLinear"}
        step = [node for node in self.nodes.values() if node.operator in {"MatMulInteger", "ConvInteger"}]
        for operator in ("Cast", "Mul"):
            names = {reader for node in step for value in node.outputs for reader, _ in readers.get(value, ())}
            names = {name for name in names if self.nodes[name].operator == operator}
            found |= names
            step = [self.nodes[name] for name in names]
        return frozenset(found)


def typed_shape(entry: Mapping[str, list[int]]) -> TypedShape:
    """Read type and sizes in an entry of a profile, which looks like `{"float": [1, 100, 512]}`.

    Args:
        entry: The entry.
    """
    ((kind, shape),) = entry.items()
    return _TYPE_NAMES.get(kind, kind), tuple(shape)


def made_node(operator: str, inputs: Sequence[str], outputs: Sequence[str], name: str) -> RunNode:
    """Make an operator of ONNX without attributes.

    Args:
        operator: Type of operator.
        inputs: Names of its inputs.
        outputs: Names of its outputs.
        name: Name in a profile.
    """
    fields: list[tuple[int, Any]] = [*((1, value) for value in inputs), *((2, value) for value in outputs)]
    return RunNode(operator, tuple(inputs), tuple(outputs), message(*fields, (3, name), (4, operator)))


def read_rewritten(content: bytes) -> RewrittenGraph:
    """Read a graph that onnxruntime wrote.

    Args:
        content: The encoded file.
    """
    budget = Budget()
    model = Message(memoryview(content), MODEL_SCHEMA, budget)
    nodes: dict[str, RunNode] = {}
    constants: dict[str, tuple[TypedShape, bytes]] = {}
    _read(model.messages("graph", GRAPH_SCHEMA), budget, nodes, constants)
    return RewrittenGraph(nodes, constants, tuple(map(bytes, model.chunks("opset_import"))))


def _read(
    graphs: Iterable[Message],
    budget: Budget,
    nodes: dict[str, RunNode],
    constants: dict[str, tuple[TypedShape, bytes]],
) -> None:
    """Read the operators and constants of graphs, and of the bodies in them."""
    for graph in graphs:
        for chunk in graph.chunks("initializer"):
            tensor = Message(chunk, TENSOR_SCHEMA, budget)
            kind = ELEMENT_TYPES[tensor.integer("data_type")].name
            constants[tensor.text("name")] = ((kind, tuple(tensor.integers("dims"))), bytes(chunk))
        for chunk in graph.chunks("node"):
            node = Message(chunk, NODE_SCHEMA, budget)
            for attribute in node.messages("attribute", ATTRIBUTE_SCHEMA):
                _read(attribute.messages("g", GRAPH_SCHEMA), budget, nodes, constants)
            inputs, outputs = tuple(node.texts("input")), tuple(node.texts("output"))
            nodes[node.text("name")] = RunNode(node.text("op_type"), inputs, outputs, bytes(chunk))
