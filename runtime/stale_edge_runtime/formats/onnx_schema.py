"""The fields of an ONNX file that may be there, for `protobuf.Message`; all others are refused.

Fields that no file of ours holds are listed where refusing them by name makes a better message.

Source: field numbers from the ONNX intermediate representation (onnx.proto3).
"""

from __future__ import annotations

from dataclasses import dataclass

from stale_edge_runtime.formats.protobuf import Field, Schema, Wire


@dataclass(frozen=True)
class ElementType:
    """A type of numbers that weights may have."""

    name: str
    """Numpy's name of it."""
    bytes: int
    """Size of one number."""
    values: str
    """Field that holds the numbers where they are not raw bytes."""
    wire: Wire
    """Wire format of one number in that field."""


ELEMENT_TYPES = {
    1: ElementType("float32", 4, "float_data", Wire.FIXED32),
    2: ElementType("uint8", 1, "int32_data", Wire.VARINT),
    3: ElementType("int8", 1, "int32_data", Wire.VARINT),
    6: ElementType("int32", 4, "int32_data", Wire.VARINT),
    7: ElementType("int64", 8, "int64_data", Wire.VARINT),
    9: ElementType("bool", 1, "int32_data", Wire.VARINT),
    10: ElementType("float16", 2, "int32_data", Wire.VARINT),
    11: ElementType("float64", 8, "double_data", Wire.FIXED64),
}
DATA_FIELDS = {"float_data", "int32_data", "int64_data", "double_data", "raw_data"}


def _integer(name: str, *, repeated: bool = False) -> Field:
    return Field(name, Wire.VARINT, repeated)


def _bytes(name: str, *, repeated: bool = False) -> Field:
    return Field(name, Wire.BYTES, repeated)


ENTRY_SCHEMA: Schema = {1: _bytes("key"), 2: _bytes("value")}
OPSET_SCHEMA: Schema = {1: _bytes("domain"), 2: _integer("version")}
MODEL_SCHEMA: Schema = {
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
GRAPH_SCHEMA: Schema = {
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
NODE_SCHEMA: Schema = {
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
ATTRIBUTE_SCHEMA: Schema = {
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
TENSOR_SCHEMA: Schema = {
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
VALUE_INFO_SCHEMA: Schema = {
    1: _bytes("name"),
    2: _bytes("type"),
    3: _bytes("doc_string"),
    4: _bytes("metadata_props", repeated=True),
}
TYPE_SCHEMA: Schema = {1: _bytes("tensor_type"), 6: _bytes("denotation")}
TENSOR_TYPE_SCHEMA: Schema = {1: _integer("elem_type"), 2: _bytes("shape")}
SHAPE_SCHEMA: Schema = {1: _bytes("dim", repeated=True)}
DIMENSION_SCHEMA: Schema = {1: _integer("dim_value"), 2: _bytes("dim_param"), 3: _bytes("denotation")}
