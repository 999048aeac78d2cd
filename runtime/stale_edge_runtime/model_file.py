"""Reading a model file: checked against the contract before onnxruntime sees a byte of it.

The bytes are read once and the session is built from them, so what was checked is what runs. Parts that our exporter
does not write are refused: other domains, functions, control flow, external data.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from stale_edge_runtime.contract import (
    BATCH,
    BLOCKWISE,
    FEATURES,
    IMAGE_SIZE,
    INPUTS,
    OPERATORS,
    PIXELS,
    TEXT_EMBEDDINGS,
    TOKEN_IDS,
    TOWER_OUTPUTS,
    Kind,
    ModelInfo,
    Role,
)
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.formats.class_list import is_class_name
from stale_edge_runtime.formats.file_kinds import HEAD_BYTES, Wanted, misplaced
from stale_edge_runtime.formats.files import read_bytes
from stale_edge_runtime.formats.onnx_schema import (
    ATTRIBUTE_SCHEMA,
    DATA_FIELDS,
    DIMENSION_SCHEMA,
    ELEMENT_TYPES,
    ENTRY_SCHEMA,
    GRAPH_SCHEMA,
    MODEL_SCHEMA,
    NODE_SCHEMA,
    OPSET_SCHEMA,
    SHAPE_SCHEMA,
    TENSOR_SCHEMA,
    TENSOR_TYPE_SCHEMA,
    TYPE_SCHEMA,
    VALUE_INFO_SCHEMA,
)
from stale_edge_runtime.formats.protobuf import Budget, Message, WireError, properties
from stale_edge_runtime.graph_detections import detection_border
from stale_edge_runtime.heads.base import ANY_NAME, AxisRule
from stale_edge_runtime.heads.registry import HEADS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_MODEL_BYTES = (1 << 31) - 1
"""Protobuf itself goes no further."""
IR_VERSIONS = range(7, 11)
OPSETS = range(17, 22)
"""Opsets that the oldest declared onnxruntime can read."""

EXPORT_CURE = "make one with `stale-edge export`"
Axis = int | str | None


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model."""

    name: str
    """Name of the tensor."""
    element_type: str
    """Numpy's name of its element type."""
    axes: tuple[Axis, ...]
    """Axes: a size, a symbolic name, or None where nothing is known."""


@dataclass(frozen=True)
class ModelFile:
    """A model file that passed every check."""

    path: Path
    """File that was read."""
    content: bytes = field(repr=False)
    """All of it; the session is built from this."""
    info: ModelInfo
    """Metadata of the file."""
    ir_version: int
    """Version of the ONNX file format."""
    opset: int
    """Version of the operator set."""
    producer: str
    """Program that wrote it, as the file says."""
    operators: Mapping[str, int]
    """Number of uses of each operator, most used first."""
    inputs: tuple[TensorInfo, ...]
    """Inputs in order."""
    outputs: tuple[TensorInfo, ...]
    """Outputs in order."""
    weight_bytes: Mapping[str, int]
    """Bytes of weights of each element type, most first."""

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return len(self.content)


_REFUSED_IN_MODEL = {"training_info": "training graphs", "functions": "functions"}
_REFUSED_IN_GRAPH = {"sparse_initializer": "sparse weights"}
_REFUSED_IN_NODE = {"overload": "an overloaded operator"}
_REFUSED_IN_ATTRIBUTE = {
    "graphs": "a subgraph (control flow)",
    "ref_attr_name": "an attribute of a function",
    "sparse_tensor": "a sparse tensor",
    "sparse_tensors": "a sparse tensor",
}


class _RefusedError(ValueError):
    """A well-formed file that holds what no file of ours holds."""


def read_model(path: Path) -> ModelFile:
    """Read a model file and check all of it.

    Returns:
        The file: its bytes and what they say.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: It is damaged, not ours, or holds something that our files never hold.
    """
    return parse_model(read_bytes(path, limit=MAX_MODEL_BYTES), path)


def parse_model(content: bytes, path: Path) -> ModelFile:
    """Check the bytes of a model file, before or without writing them.

    Raises:
        BadDataError: They are damaged, not ours, or hold something that our files never hold.
    """
    try:
        return _parse(path, content)
    except WireError as error:
        if (other := misplaced(path, content[:HEAD_BYTES], Wanted.ONNX)) is not None:
            raise other from error
        raise BadDataError(path, f"is not an ONNX file, or damaged: {error}", EXPORT_CURE) from error
    except _RefusedError as error:
        raise BadDataError(path, str(error), EXPORT_CURE) from error


def _parse(path: Path, content: bytes) -> ModelFile:
    budget = Budget()
    model = Message(memoryview(content), MODEL_SCHEMA, budget)
    _refuse(model, _REFUSED_IN_MODEL)
    ir_version, opset = _check_versions(model)
    graph = model.message("graph", GRAPH_SCHEMA)
    if graph is None:
        raise _RefusedError("has no graph")
    _refuse(graph, _REFUSED_IN_GRAPH)
    info = ModelInfo.from_metadata(path, properties(model.messages("metadata_props", ENTRY_SCHEMA)))
    _check_texts(info)
    _check_network(info)
    weights: Counter[str] = Counter()
    operators: Counter[str] = Counter()
    constants = [_check_tensor(tensor, weights) for tensor in graph.messages("initializer", TENSOR_SCHEMA)]
    for node in graph.messages("node", NODE_SCHEMA):
        _check_node(node, weights, operators)
    inputs = tuple(tensor_info(value) for value in graph.messages("input", VALUE_INFO_SCHEMA))
    outputs = tuple(tensor_info(value) for value in graph.messages("output", VALUE_INFO_SCHEMA))
    if shadowed := {tensor.name for tensor in inputs} & set(constants):
        raise _RefusedError(f"has a weight in place of the input {_quoted(min(shadowed))}")
    _check_border("inputs", inputs, _expected_inputs(info))
    _check_border("outputs", outputs, _expected_outputs(info))
    return ModelFile(
        path=path,
        content=content,
        info=info,
        ir_version=ir_version,
        opset=opset,
        producer=" ".join(filter(None, (model.text("producer_name"), model.text("producer_version")))),
        operators=dict(operators.most_common()),
        inputs=inputs,
        outputs=outputs,
        weight_bytes=dict(weights.most_common()),
    )


def _refuse(message: Message, refused: Mapping[str, str]) -> None:
    if found := message.names() & set(refused):
        raise _RefusedError(f"holds {refused[min(found)]}, which no file of stale-edge does")


def _check_versions(model: Message) -> tuple[int, int]:
    ir_version = model.integer("ir_version")
    if ir_version not in IR_VERSIONS:
        raise _RefusedError(f"has IR version {ir_version}, not {IR_VERSIONS[0]} to {IR_VERSIONS[-1]}")
    imports = model.messages("opset_import", OPSET_SCHEMA)
    domains = sorted({entry.text("domain") for entry in imports} - {""})
    if domains:
        raise _RefusedError(f"uses operators of the domain {_quoted(domains[0])}; only the default one may be used")
    if len(imports) != 1:
        raise _RefusedError(f"names {len(imports)} operator sets, not one")
    opset = imports[0].integer("version")
    if opset not in OPSETS:
        raise _RefusedError(f"has opset {opset}, not {OPSETS[0]} to {OPSETS[-1]}")
    return ir_version, opset


def _check_node(node: Message, weights: Counter[str], operators: Counter[str], *, inside: bool = False) -> None:
    """Check one operator and the body of a blockwise one; count operators and the weights in them."""
    operator, domain = node.text("op_type"), node.text("domain")
    if domain:
        raise _RefusedError(f"uses {_quoted(operator)} of the domain {_quoted(domain)}")
    if operator not in OPERATORS and operator != BLOCKWISE:
        raise _RefusedError(f"uses the operator {_quoted(operator)}, which no file of stale-edge does")
    _refuse(node, _REFUSED_IN_NODE)
    _check_names(node.text("name"), *node.texts("input"), *node.texts("output"))
    bodies: list[Message] = []
    for attribute in node.messages("attribute", ATTRIBUTE_SCHEMA):
        _refuse(attribute, _REFUSED_IN_ATTRIBUTE)
        if tensor := attribute.message("t", TENSOR_SCHEMA):
            _check_tensor(tensor, weights)
        if attribute.has("g"):
            if operator != BLOCKWISE or inside:
                raise _RefusedError("holds a subgraph (control flow), which no file of stale-edge does")
            bodies += attribute.messages("g", GRAPH_SCHEMA)
    if len(bodies) != (operator == BLOCKWISE):
        raise _RefusedError(f"uses the operator {_quoted(operator)} with {len(bodies)} bodies")
    for body in bodies:
        _refuse(body, {**_REFUSED_IN_GRAPH, "initializer": "weights in a subgraph"})
        for part in body.messages("node", NODE_SCHEMA):
            _check_node(part, weights, operators, inside=True)
    operators[operator] += 1


def _check_names(*names: str) -> None:
    """Refuse names that a terminal could act on: profiles and messages of onnxruntime show them."""
    if odd := [name for name in names if not name.isprintable()]:
        raise _RefusedError(f"has the name {_quoted(odd[0])}, which is not printable")


def _check_tensor(tensor: Message, weights: Counter[str]) -> str:
    """Check that a tensor carries its own data, count its bytes, and return its name."""
    name = tensor.text("name")
    _check_names(name)
    if tensor.has("external_data") or tensor.integer("data_location"):
        raise _RefusedError(f"keeps the weight {_quoted(name)} in another file (external data)")
    element = ELEMENT_TYPES.get(tensor.integer("data_type"))
    if element is None:
        raise _RefusedError(f"has a weight {_quoted(name)} of element type {tensor.integer('data_type')}")
    dims = tensor.integers("dims")
    if any(size < 0 for size in dims):
        raise _RefusedError(f"has a weight {_quoted(name)} of negative size")
    fields = tensor.names() & DATA_FIELDS
    if len(fields) > 1 or not fields <= {"raw_data", element.values}:
        raise _RefusedError(f"has a weight {_quoted(name)} with data of another type")
    if "raw_data" in fields:
        found, wanted = len(tensor.chunks("raw_data")[0]), math.prod(dims) * element.bytes
    else:
        found, wanted = tensor.count(element.values, element.wire), math.prod(dims)
    if found != wanted:
        raise _RefusedError(
            f"has a weight {_quoted(name)} of {dims[:8]} with {found:,} values or bytes, not {wanted:,}"
        )
    weights[element.name] += math.prod(dims) * element.bytes
    return name


def tensor_info(value: Message) -> TensorInfo:
    """Name, element type and axes of an input or output.

    Args:
        value: Read with `VALUE_INFO_SCHEMA`.

    Raises:
        ValueError: It is no tensor of known shape and type.
    """
    name = value.text("name")
    _check_names(name)
    kind = value.message("type", TYPE_SCHEMA)
    tensor = kind.message("tensor_type", TENSOR_TYPE_SCHEMA) if kind else None
    shape = tensor.message("shape", SHAPE_SCHEMA) if tensor else None
    if tensor is None or shape is None:
        raise _RefusedError(f"has an input or output {_quoted(name)} that is no tensor of known shape")
    element = ELEMENT_TYPES.get(tensor.integer("elem_type"))
    if element is None:
        raise _RefusedError(f"has an input or output {_quoted(name)} of element type {tensor.integer('elem_type')}")
    axes = tuple(_axis(name, dim) for dim in shape.messages("dim", DIMENSION_SCHEMA))
    return TensorInfo(name, element.name, axes)


def _axis(name: str, dim: Message) -> Axis:
    if dim.has("dim_value") and dim.has("dim_param"):
        raise _RefusedError(f"has an axis of {_quoted(name)} with both a size and a name")
    if dim.has("dim_value"):
        return dim.integer("dim_value")
    return dim.text("dim_param") or None


_Border = dict[str, tuple[str, tuple[AxisRule, ...]]]


def _expected_inputs(info: ModelInfo) -> _Border:
    element = {FEATURES: "float32", TEXT_EMBEDDINGS: "float32", TOKEN_IDS: "int64", PIXELS: "uint8"}
    return {name: (element[name], _sized(info, axes)) for name, axes in INPUTS[info.kind].items()}


def _expected_outputs(info: ModelInfo) -> _Border:
    if info.kind in TOWER_OUTPUTS:
        name, tower_axes = TOWER_OUTPUTS[info.kind]
        return {name: ("float32", _sized(info, tower_axes))}
    if info.detections:
        return {**detection_border(info)}
    head = HEADS[info.network]
    axes = head.axes(info)
    return {name: ("float32", axes[name]) for name in head.outputs}


def _sized(info: ModelInfo, axes: tuple[str | int, ...]) -> tuple[AxisRule, ...]:
    """Put the sizes that the metadata holds in the place of their names."""
    sizes: dict[str | int, int] = {"feature_dim": info.feature_dim, IMAGE_SIZE: info.image_size}
    if info.detections:
        sizes[BATCH] = 1
    return tuple(sizes.get(axis, axis) for axis in axes)


def _check_border(what: str, found: tuple[TensorInfo, ...], expected: _Border) -> None:
    names = [tensor.name for tensor in found]
    if names != list(expected):
        raise _RefusedError(f"has the {what} {', '.join(map(_quoted, names[:8])) or 'none'}, not {', '.join(expected)}")
    for tensor in found:
        element, axes = expected[tensor.name]
        if tensor.element_type != element:
            raise _RefusedError(f"has {tensor.name} of {tensor.element_type}, not {element}")
        if len(axes) != len(tensor.axes) or not all(map(_fits, tensor.axes, axes)):
            shown = ", ".join(str(axis)[:40] for axis in tensor.axes[:8])
            raise _RefusedError(f"has {tensor.name} of [{shown}], not [{', '.join(map(str, axes))}]")


def _fits(axis: Axis, wanted: AxisRule) -> bool:
    return isinstance(axis, str) if wanted is ANY_NAME else axis == wanted


def _check_network(info: ModelInfo) -> None:
    """Refuse a detector of a network that this version does not know, and what cannot hold a decoding."""
    if info.detections and info.kind not in {Kind.BAKED, Kind.OPEN}:
        raise _RefusedError(f"is a {info.kind} file that gives detections, which no file of stale-edge does")
    if info.role is not Role.DETECTOR:
        return
    if info.network not in HEADS:
        known = ", ".join(sorted(HEADS))
        raise _RefusedError(f"holds the network {_quoted(info.network)}; this version knows {known}: use a newer one")
    try:
        HEADS[info.network].check_info(info)
    except BadDataError as error:
        raise _RefusedError(f"has metadata {_quoted(error.subject)} that {error.problem}") from None


def _check_texts(info: ModelInfo) -> None:
    """Refuse metadata that cannot be printed or written again."""
    try:
        json.dumps(asdict(info), ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise _RefusedError("has metadata with NaN, infinity, text that is not Unicode, or nested too deeply") from None
    if info.kind is not Kind.BAKED:
        return
    if len(set(info.classes)) != len(info.classes) or not all(info.classes):
        raise _RefusedError("lists a class twice or without a name")
    if odd := [name for name in info.classes if not is_class_name(name)]:
        raise _RefusedError(f"lists the class {_quoted(odd[0])}, which is no printable name")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
