"""Reading a model file: checked against the contract before onnxruntime sees a byte of it.

The bytes are read once and the session is built from them, so what was checked is what runs. Nothing is
accepted that our exporter does not write: other domains, functions, control flow, external data.

Source: field numbers from the ONNX intermediate representation (onnx.proto3).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from stale_edge_runtime.contract import (
    BATCH,
    CLASS_LOGITS,
    CLASSES,
    FEATURES,
    INPUTS,
    MASKS,
    OPERATORS,
    OUTPUTS,
    SNIPPETS,
    TEXT_EMBEDDINGS,
    TOKEN_IDS,
    VIDEO_LOGITS,
    Kind,
    ModelInfo,
)
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.files import read_bytes
from stale_edge_runtime.protobuf import Budget, Field, Message, Schema, Wire, WireError, properties

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_MODEL_BYTES = (1 << 31) - 1
"""Protobuf itself goes no further."""
IR_VERSIONS = range(7, 11)
OPSETS = range(17, 22)
"""What the oldest onnxruntime that we declare can read."""

EXPORT_CURE = "make one with `stale-edge export`"
Axis = int | str | None


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model."""

    name: str
    """Its name."""
    element_type: str
    """Numpy's name of its element type."""
    axes: tuple[Axis, ...]
    """Its axes: a size, a symbolic name, or None where nothing is known."""


@dataclass(frozen=True)
class ModelFile:
    """A model file that passed every check."""

    path: Path
    """Where it was read from."""
    content: bytes = field(repr=False)
    """All of it; the session is built from this."""
    info: ModelInfo
    """What it says about itself."""
    ir_version: int
    """Version of the ONNX file format."""
    opset: int
    """Version of the operator set."""
    producer: str
    """Program that wrote it, as the file says."""
    operators: Mapping[str, int]
    """How often each operator is used, most used first."""
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


@dataclass(frozen=True)
class _ElementType:
    name: str
    bytes: int
    values: str
    """Field that holds the numbers where they are not raw bytes."""
    wire: Wire


_ELEMENT_TYPES = {
    1: _ElementType("float32", 4, "float_data", Wire.FIXED32),
    2: _ElementType("uint8", 1, "int32_data", Wire.VARINT),
    3: _ElementType("int8", 1, "int32_data", Wire.VARINT),
    6: _ElementType("int32", 4, "int32_data", Wire.VARINT),
    7: _ElementType("int64", 8, "int64_data", Wire.VARINT),
    9: _ElementType("bool", 1, "int32_data", Wire.VARINT),
    10: _ElementType("float16", 2, "int32_data", Wire.VARINT),
    11: _ElementType("float64", 8, "double_data", Wire.FIXED64),
}
_DATA_FIELDS = {"float_data", "int32_data", "int64_data", "double_data", "raw_data"}


def _integer(name: str, *, repeated: bool = False) -> Field:
    return Field(name, Wire.VARINT, repeated)


def _bytes(name: str, *, repeated: bool = False) -> Field:
    return Field(name, Wire.BYTES, repeated)


_ENTRY: Schema = {1: _bytes("key"), 2: _bytes("value")}
_OPSET: Schema = {1: _bytes("domain"), 2: _integer("version")}
_MODEL: Schema = {
    1: _integer("ir_version"),
    2: _bytes("producer_name"),
    3: _bytes("producer_version"),
    4: _bytes("domain"),
    5: _integer("model_version"),
    6: _bytes("doc_string"),
    7: _bytes("graph"),
    8: _bytes("opset_import", repeated=True),
    14: _bytes("metadata_props", repeated=True),
    20: _bytes("training_info", repeated=True),
    25: _bytes("functions", repeated=True),
}
_GRAPH: Schema = {
    1: _bytes("node", repeated=True),
    2: _bytes("name"),
    5: _bytes("initializer", repeated=True),
    10: _bytes("doc_string"),
    11: _bytes("input", repeated=True),
    12: _bytes("output", repeated=True),
    13: _bytes("value_info", repeated=True),
    15: _bytes("sparse_initializer", repeated=True),
    16: _bytes("metadata_props", repeated=True),
}
_NODE: Schema = {
    1: _bytes("input", repeated=True),
    2: _bytes("output", repeated=True),
    3: _bytes("name"),
    4: _bytes("op_type"),
    5: _bytes("attribute", repeated=True),
    6: _bytes("doc_string"),
    7: _bytes("domain"),
    8: _bytes("overload"),
    9: _bytes("metadata_props", repeated=True),
}
_ATTRIBUTE: Schema = {
    1: _bytes("name"),
    2: Field("f", Wire.FIXED32),
    3: _integer("i"),
    4: _bytes("s"),
    5: _bytes("t"),
    6: _bytes("g"),
    7: Field("floats", Wire.FIXED32, repeated=True),
    8: _integer("ints", repeated=True),
    9: _bytes("strings", repeated=True),
    11: _bytes("graphs", repeated=True),
    13: _bytes("doc_string"),
    20: _integer("type"),
    21: _bytes("ref_attr_name"),
    22: _bytes("sparse_tensor"),
    23: _bytes("sparse_tensors", repeated=True),
}
_TENSOR: Schema = {
    1: _integer("dims", repeated=True),
    2: _integer("data_type"),
    4: Field("float_data", Wire.FIXED32, repeated=True),
    5: _integer("int32_data", repeated=True),
    7: _integer("int64_data", repeated=True),
    8: _bytes("name"),
    9: _bytes("raw_data"),
    10: Field("double_data", Wire.FIXED64, repeated=True),
    12: _bytes("doc_string"),
    13: _bytes("external_data", repeated=True),
    14: _integer("data_location"),
    16: _bytes("metadata_props", repeated=True),
}
_VALUE_INFO: Schema = {
    1: _bytes("name"),
    2: _bytes("type"),
    3: _bytes("doc_string"),
    4: _bytes("metadata_props", repeated=True),
}
_TYPE: Schema = {1: _bytes("tensor_type"), 6: _bytes("denotation")}
_TENSOR_TYPE: Schema = {1: _integer("elem_type"), 2: _bytes("shape")}
_SHAPE: Schema = {1: _bytes("dim", repeated=True)}
_DIMENSION: Schema = {1: _integer("dim_value"), 2: _bytes("dim_param"), 3: _bytes("denotation")}

_REFUSED_IN_MODEL = {"training_info": "training graphs", "functions": "functions"}
_REFUSED_IN_GRAPH = {"sparse_initializer": "sparse weights"}
_REFUSED_IN_NODE = {"overload": "an overloaded operator"}
_REFUSED_IN_ATTRIBUTE = {
    "g": "a subgraph (control flow)",
    "graphs": "a subgraph (control flow)",
    "ref_attr_name": "an attribute of a function",
    "sparse_tensor": "a sparse tensor",
    "sparse_tensors": "a sparse tensor",
}


class _RefusedError(ValueError):
    """A well-formed file that holds what no file of ours holds."""


def read_model(path: Path) -> ModelFile:
    """Read a model file and check all of it.

    Args:
        path: An `.onnx` file that stale-edge exported.

    Returns:
        The file: its bytes and what they say.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: It is damaged, not ours, or holds something that our files never hold.
    """
    content = read_bytes(path, limit=MAX_MODEL_BYTES)
    try:
        return _parse(path, content)
    except WireError as error:
        raise BadDataError(path, f"is not an ONNX file, or damaged: {error}", EXPORT_CURE) from error
    except _RefusedError as error:
        raise BadDataError(path, str(error), EXPORT_CURE) from error


def _parse(path: Path, content: bytes) -> ModelFile:
    budget = Budget()
    model = Message(memoryview(content), _MODEL, budget)
    _refuse(model, _REFUSED_IN_MODEL)
    ir_version, opset = _check_versions(model)
    graph = model.message("graph", _GRAPH)
    if graph is None:
        raise _RefusedError("has no graph")
    _refuse(graph, _REFUSED_IN_GRAPH)
    info = ModelInfo.from_metadata(path, properties(model.messages("metadata_props", _ENTRY)))
    _check_texts(info)
    weights: Counter[str] = Counter()
    operators: Counter[str] = Counter()
    constants = [_check_tensor(tensor, weights) for tensor in graph.messages("initializer", _TENSOR)]
    for node in graph.messages("node", _NODE):
        operators[_check_node(node, weights)] += 1
    inputs = tuple(_tensor_info(value) for value in graph.messages("input", _VALUE_INFO))
    outputs = tuple(_tensor_info(value) for value in graph.messages("output", _VALUE_INFO))
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
    imports = model.messages("opset_import", _OPSET)
    domains = sorted({entry.text("domain") for entry in imports} - {""})
    if domains:
        raise _RefusedError(f"uses operators of the domain {_quoted(domains[0])}; only the default one may be used")
    if len(imports) != 1:
        raise _RefusedError(f"names {len(imports)} operator sets, not one")
    opset = imports[0].integer("version")
    if opset not in OPSETS:
        raise _RefusedError(f"has opset {opset}, not {OPSETS[0]} to {OPSETS[-1]}")
    return ir_version, opset


def _check_node(node: Message, weights: Counter[str]) -> str:
    """Check one operator, count the weights in it, and return its name."""
    operator, domain = node.text("op_type"), node.text("domain")
    if domain:
        raise _RefusedError(f"uses {_quoted(operator)} of the domain {_quoted(domain)}")
    if operator not in OPERATORS:
        raise _RefusedError(f"uses the operator {_quoted(operator)}, which no file of stale-edge does")
    _refuse(node, _REFUSED_IN_NODE)
    for attribute in node.messages("attribute", _ATTRIBUTE):
        _refuse(attribute, _REFUSED_IN_ATTRIBUTE)
        if tensor := attribute.message("t", _TENSOR):
            _check_tensor(tensor, weights)
    return operator


def _check_tensor(tensor: Message, weights: Counter[str]) -> str:
    """Check that a tensor carries its own data, count its bytes, and return its name."""
    name = tensor.text("name")
    if tensor.has("external_data") or tensor.integer("data_location"):
        raise _RefusedError(f"keeps the weight {_quoted(name)} in another file (external data)")
    element = _ELEMENT_TYPES.get(tensor.integer("data_type"))
    if element is None:
        raise _RefusedError(f"has a weight {_quoted(name)} of element type {tensor.integer('data_type')}")
    dims = tensor.integers("dims")
    if any(size < 0 for size in dims):
        raise _RefusedError(f"has a weight {_quoted(name)} of negative size")
    fields = tensor.names() & _DATA_FIELDS
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


def _tensor_info(value: Message) -> TensorInfo:
    name = value.text("name")
    kind = value.message("type", _TYPE)
    tensor = kind.message("tensor_type", _TENSOR_TYPE) if kind else None
    shape = tensor.message("shape", _SHAPE) if tensor else None
    if tensor is None or shape is None:
        raise _RefusedError(f"has an input or output {_quoted(name)} that is no tensor of known shape")
    element = _ELEMENT_TYPES.get(tensor.integer("elem_type"))
    if element is None:
        raise _RefusedError(f"has an input or output {_quoted(name)} of element type {tensor.integer('elem_type')}")
    axes = tuple(_axis(name, dim) for dim in shape.messages("dim", _DIMENSION))
    return TensorInfo(name, element.name, axes)


def _axis(name: str, dim: Message) -> Axis:
    if dim.has("dim_value") and dim.has("dim_param"):
        raise _RefusedError(f"has an axis of {_quoted(name)} with both a size and a name")
    if dim.has("dim_value"):
        return dim.integer("dim_value")
    return dim.text("dim_param") or None


class _Symbolic:
    """Stands for an axis that may have any name, but no fixed size."""

    def __str__(self) -> str:
        return "any name"


_SYMBOLIC = _Symbolic()
_Border = dict[str, tuple[str, tuple[int | str | _Symbolic, ...]]]


def _expected_inputs(info: ModelInfo) -> _Border:
    element = {FEATURES: "float32", TEXT_EMBEDDINGS: "float32", TOKEN_IDS: "int64"}
    sizes: dict[str, int] = {"feature_dim": info.feature_dim}
    return {
        name: (element[name], tuple(sizes.get(axis, axis) for axis in axes)) for name, axes in INPUTS[info.kind].items()
    }


def _expected_outputs(info: ModelInfo) -> _Border:
    classes, rows = (len(info.classes), len(info.classes) + 1) if info.classes else (CLASSES, _SYMBOLIC)
    axes: Mapping[str, tuple[int | str | _Symbolic, ...]] = {
        CLASS_LOGITS: (BATCH, SNIPPETS, rows),
        MASKS: (BATCH, info.anchors, SNIPPETS),
        VIDEO_LOGITS: (BATCH, classes),
        TEXT_EMBEDDINGS: (CLASSES, info.feature_dim),
    }
    return {name: ("float32", axes[name]) for name in OUTPUTS[info.kind]}


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


def _fits(axis: Axis, wanted: int | str | _Symbolic) -> bool:
    return isinstance(axis, str) if wanted is _SYMBOLIC else axis == wanted


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


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
