"""Model files: what is read, and what is refused before onnxruntime sees it.

Hostile files are made by taking a good one apart into protobuf fields and putting it together again, so that no
test needs the onnx package.
"""

from __future__ import annotations

import json
import os
import random
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_edge_runtime.contract import IR_VERSION, OPSET, Kind, ModelInfo, Precision, Role, TextMode
from stale_edge_runtime.detector import Detector
from stale_edge_runtime.errors import EXIT_BAD_DATA, BadDataError, InputMissingError
from stale_edge_runtime.formats.protobuf import Budget, Field, Message, Wire, WireError
from stale_edge_runtime.model_file import MAX_MODEL_BYTES, read_model

DATA = Path(__file__).parents[1] / "data"
BAKED = (DATA / "tiny_baked.onnx").read_bytes()
OPEN = (DATA / "tiny_open.onnx").read_bytes()
INSIDE = (DATA / "tiny_baked_detections.onnx").read_bytes()
TOWER = (DATA / "tiny_text_tower.onnx").read_bytes()
# Files of 0.1 name a kind alone: no role contradicts another one, so that the inputs and outputs must.
OLD_BAKED = (DATA / "v0_1" / "tiny_baked.onnx").read_bytes()
OLD_OPEN = (DATA / "v0_1" / "tiny_open.onnx").read_bytes()

Fields = list[tuple[int, int, "int | bytes"]]

# Field numbers of onnx.proto3, written here a second time on purpose.
MODEL_IR, MODEL_GRAPH, MODEL_OPSET, MODEL_METADATA, MODEL_TRAINING, MODEL_FUNCTIONS = 1, 7, 8, 14, 20, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_SPARSE = 1, 5, 11, 12, 15
NODE_OP, NODE_ATTRIBUTE, NODE_DOMAIN, NODE_OVERLOAD = 4, 5, 7, 8
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS, ATTRIBUTE_REF, ATTRIBUTE_SPARSE = 5, 6, 11, 21, 22
TENSOR_DIMS, TENSOR_TYPE, TENSOR_FLOATS, TENSOR_NAME, TENSOR_RAW, TENSOR_EXTERNAL, TENSOR_LOCATION = (
    1,
    2,
    4,
    8,
    9,
    13,
    14,
)


def number(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def take_apart(content: bytes) -> Fields:
    found: Fields = []
    at = 0

    def varint() -> int:
        nonlocal at
        result = shift = 0
        while True:
            byte = content[at]
            at += 1
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result

    while at < len(content):
        tag = varint()
        if tag & 7 == 0:
            found.append((tag >> 3, 0, varint()))
        else:
            length = varint() if tag & 7 == 2 else {1: 8, 5: 4}[tag & 7]
            found.append((tag >> 3, tag & 7, content[at : at + length]))
            at += length
    return found


def put_together(fields: Fields) -> bytes:
    parts = []
    for field, wire, value in fields:
        parts.append(number(field << 3 | wire))
        if isinstance(value, int):
            parts.append(number(value))
        else:
            parts += [number(len(value))] * (wire == 2) + [value]
    return b"".join(parts)


def message(*fields: tuple[int, int | bytes | str]) -> bytes:
    """A message of integers and bytes."""
    encoded = [(field, value.encode() if isinstance(value, str) else value) for field, value in fields]
    return put_together([(field, 0 if isinstance(value, int) else 2, value) for field, value in encoded])


def edited(content: bytes, *path: int | tuple[int, int], add=(), drop=(), replace=None) -> bytes:
    """Change one message inside a file.

    `path` leads to it by field numbers, or (number, which one); then fields numbered in `drop` and those that
    `replace` gives anew are taken out, and `add` is put at the end.
    """
    fields = take_apart(content)
    if path:
        wanted, which = path[0] if isinstance(path[0], tuple) else (path[0], 0)
        index = [i for i, (field, _, _) in enumerate(fields) if field == wanted][which]
        field, wire, value = fields[index]
        fields[index] = (field, wire, edited(value, *path[1:], add=add, drop=drop, replace=replace))
        return put_together(fields)
    replace = replace or {}
    kept = [item for item in fields if item[0] not in drop and item[0] not in replace]
    new = [*replace.items(), *add]
    return put_together(kept) + message(*new)


def with_metadata(key: str, value: str | None, content: bytes = BAKED) -> bytes:
    entries = [
        item
        for item in take_apart(content)
        if not (item[0] == MODEL_METADATA and take_apart(item[2])[0][2] == f"stale_edge.{key}".encode())
    ]
    entry = () if value is None else ((MODEL_METADATA, message((1, f"stale_edge.{key}"), (2, value))),)
    return put_together(entries) + message(*entry)


def with_attribute(*fields: tuple[int, int | bytes | str]) -> bytes:
    """An attribute more on the first operator, which has none."""
    return edited(BAKED, MODEL_GRAPH, GRAPH_NODE, add=[(NODE_ATTRIBUTE, message((1, "extra"), *fields))])


def with_weight(*fields: tuple[int, int | bytes | str]) -> bytes:
    """One more weight."""
    return edited(BAKED, MODEL_GRAPH, add=[(GRAPH_INITIALIZER, message(*fields))])


def tensor_value(name: str, element: int, *axes: int | str) -> bytes:
    dims = [(1, message((1, axis) if isinstance(axis, int) else (2, axis))) for axis in axes]
    return message((1, name), (2, message((1, message((1, element), (2, message(*dims)))))))


def with_border(field: int, *values: bytes, content: bytes = BAKED) -> bytes:
    return edited(content, MODEL_GRAPH, drop=(field,), add=[(field, value) for value in values])


def constant(*tensor: tuple[int, int | bytes | str]) -> bytes:
    node = message(
        (2, "c"), (NODE_OP, "Constant"), (NODE_ATTRIBUTE, message((1, "value"), (5, message(*tensor)), (20, 4)))
    )
    return edited(BAKED, MODEL_GRAPH, add=[(GRAPH_NODE, node)])


def deep(levels: int) -> bytes:
    """Graphs within graphs."""
    inner = b""
    for _ in range(levels):
        inner = message((ATTRIBUTE_GRAPH, message((GRAPH_NODE, message((NODE_ATTRIBUTE, inner))))))
    return with_attribute((ATTRIBUTE_GRAPH, inner))


def blockwise(*bodies: bytes) -> bytes:
    """An operator with bodies in place of the first one."""
    body = [(NODE_ATTRIBUTE, message((1, "body"), (ATTRIBUTE_GRAPH, graph), (20, 5))) for graph in bodies]
    return edited(BAKED, MODEL_GRAPH, GRAPH_NODE, replace={NODE_OP: "Scan"}, add=body)


def inner(operator: str, *attributes: bytes) -> bytes:
    """A body of one operator."""
    fields = [(NODE_ATTRIBUTE, message((1, "body"), (ATTRIBUTE_GRAPH, graph), (20, 5))) for graph in attributes]
    return message((GRAPH_NODE, message((NODE_OP, operator), *fields)))


LOGITS = tensor_value("class_logits", 1, "batch", "snippets", 4)
MASKS = tensor_value("masks", 1, "batch", 10, "snippets")
VIDEO = tensor_value("video_logits", 1, "batch", 3)
FEATURES = tensor_value("features", 1, "batch", "snippets", 8)
SEQUENCE = message((1, "features"), (2, message((4, message((1, b""))))))
OPSET_18 = message((2, 18))

REFUSED = {
    "empty file": (b"", "IR version 0"),
    "text": (b"# not a model\n" * 50, "not an ONNX file"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "is an image"),
    "archive": (b"PK\x03\x04" + bytes(100), "is a ZIP archive"),
    "zeros": (bytes(1000), "unknown field 0"),
    "IR version 99": (edited(BAKED, replace={MODEL_IR: 99}), "IR version 99"),
    "no opset": (edited(BAKED, drop=(MODEL_OPSET,)), "names 0 operator sets"),
    "two opsets": (edited(BAKED, add=[(MODEL_OPSET, OPSET_18)]), "names 2 operator sets"),
    "opset 99": (edited(BAKED, replace={MODEL_OPSET: message((2, 99))}), "opset 99"),
    "opset of another domain": (
        edited(BAKED, add=[(MODEL_OPSET, message((1, "com.microsoft"), (2, 1)))]),
        "domain 'com.microsoft'",
    ),
    "operator of another domain": (
        edited(BAKED, MODEL_GRAPH, GRAPH_NODE, add=[(NODE_DOMAIN, "ai.evil")]),
        "'MatMul' of the domain 'ai.evil'",
    ),
    "If": (edited(BAKED, MODEL_GRAPH, GRAPH_NODE, replace={NODE_OP: "If"}), "operator 'If'"),
    "Loop": (edited(BAKED, MODEL_GRAPH, GRAPH_NODE, replace={NODE_OP: "Loop"}), "operator 'Loop'"),
    "Scan": (edited(BAKED, MODEL_GRAPH, GRAPH_NODE, replace={NODE_OP: "Scan"}), "operator 'Scan'"),
    "outputs of a network in a file that decodes": (with_metadata("detections", '{"sigma": 1}'), "has features of"),
    "detections in a file that does not decode": (with_metadata("detections", None, INSIDE), r"has features of \[1, "),
    "seconds of no known length": (with_metadata("snippet_seconds", None, INSIDE), "'segments_s'"),
    "detections of a text tower": (with_metadata("detections", '{"sigma": 1}', TOWER), "text_tower file that gives"),
    "detections that are no object": (with_metadata("detections", "[1]"), "detections"),
    "Scan with two bodies": (blockwise(inner("Relu"), inner("Relu")), "operator 'Scan' with 2 bodies"),
    "Scan of an unknown operator": (blockwise(inner("If")), "operator 'If'"),
    "Scan in a Scan": (blockwise(inner("Scan", inner("Relu"))), "subgraph"),
    "Scan with weights": (blockwise(message((5, b""))), "weights in a subgraph"),
    "body of a MatMul": (blockwise(inner("MatMul", inner("Relu"))), "subgraph"),
    "operator without a name": (edited(BAKED, MODEL_GRAPH, GRAPH_NODE, drop=(NODE_OP,)), "operator ''"),
    "operator name of a megabyte": (
        edited(BAKED, MODEL_GRAPH, GRAPH_NODE, replace={NODE_OP: "A" * (1 << 20)}),
        "operator 'AAA",
    ),
    "operator name of escape codes": (
        edited(BAKED, MODEL_GRAPH, GRAPH_NODE, replace={NODE_OP: "\x1b[31mred\n"}),
        "operator '",
    ),
    "operator name not UTF-8": (edited(BAKED, MODEL_GRAPH, GRAPH_NODE, replace={NODE_OP: b"\xff\xfe"}), "not UTF-8"),
    "overloaded operator": (edited(BAKED, MODEL_GRAPH, GRAPH_NODE, add=[(NODE_OVERLOAD, "x")]), "overloaded"),
    "functions": (edited(BAKED, add=[(MODEL_FUNCTIONS, message((1, "MatMul")))]), "holds functions"),
    "empty function": (edited(BAKED, add=[(MODEL_FUNCTIONS, b"")]), "holds functions"),
    "training graph": (edited(BAKED, add=[(MODEL_TRAINING, b"")]), "holds training graphs"),
    "subgraph": (with_attribute((ATTRIBUTE_GRAPH, b""), (20, 5)), "subgraph"),
    "subgraphs": (with_attribute((ATTRIBUTE_GRAPHS, b""), (20, 10)), "subgraph"),
    "subgraphs a thousand deep": (deep(1000), "subgraph"),
    "attribute of a function": (with_attribute((ATTRIBUTE_REF, "x")), "attribute of a function"),
    "sparse attribute": (with_attribute((ATTRIBUTE_SPARSE, b"")), "sparse tensor"),
    "sparse weight": (edited(BAKED, MODEL_GRAPH, add=[(GRAPH_SPARSE, b"")]), "sparse weights"),
    "external data": (
        edited(
            BAKED,
            MODEL_GRAPH,
            GRAPH_INITIALIZER,
            add=[(TENSOR_EXTERNAL, message((1, "location"), (2, "/etc/passwd"))), (TENSOR_LOCATION, 1)],
        ),
        "another file",
    ),
    "external data, entries only": (
        edited(BAKED, MODEL_GRAPH, (GRAPH_INITIALIZER, 3), add=[(TENSOR_EXTERNAL, message((1, "location"), (2, "w")))]),
        "another file",
    ),
    "external data, place only": (edited(BAKED, MODEL_GRAPH, GRAPH_INITIALIZER, add=[(TENSOR_LOCATION, 1)]), "another"),
    "external data, beyond 32 bits": (
        edited(BAKED, MODEL_GRAPH, GRAPH_INITIALIZER, add=[(TENSOR_LOCATION, 2**32 + 1)]),
        "another file",
    ),
    "external data in a constant": (
        constant(
            (1, 2), (2, 1), (TENSOR_EXTERNAL, message((1, "location"), (2, "../../secret"))), (TENSOR_LOCATION, 1)
        ),
        "another file",
    ),
    "place given twice": (
        edited(BAKED, MODEL_GRAPH, GRAPH_INITIALIZER, add=[(TENSOR_LOCATION, 1), (TENSOR_LOCATION, 0)]),
        "two fields 'data_location'",
    ),
    "weight of 32 GiB, no data": (
        with_weight((1, 2**33), (2, 1), (8, "w")),
        "with 0 values or bytes, not 8,589,934,592",
    ),
    "weight of 2^124 values": (with_weight((1, 2**62), (1, 2**62), (2, 1), (8, "w"), (9, b"1234")), "weight 'w'"),
    "weight of negative size": (with_weight((1, -4), (2, 1), (8, "w"), (9, b"")), "negative size"),
    "weight with too little data": (
        with_weight((1, 2), (2, 1), (8, "w"), (9, b"1234567")),
        "with 7 values or bytes, not 8",
    ),
    "weight with too much data": (with_weight((1, 2), (2, 1), (8, "w"), (9, b"123456789")), "with 9 values"),
    "weight with data twice": (
        with_weight((1, 1), (2, 1), (8, "w"), (9, b"1234"), (4, b"1234")),
        "data of another type",
    ),
    "weight with data of another type": (with_weight((1, 1), (2, 1), (8, "w"), (7, b"\x01")), "data of another type"),
    "weight of broken packed data": (with_weight((1, 1), (2, 1), (8, "w"), (4, b"12345")), "middle of a number"),
    "weight of broken packed integers": (with_weight((1, 1), (2, 7), (8, "w"), (7, b"\xff")), "middle of a number"),
    "weight of strings": (with_weight((1, 1), (2, 8), (8, "w"), (6, b"text")), "unknown field 6"),
    "weight of no type": (with_weight((1, 1), (8, "w"), (9, b"1234")), "element type 0"),
    "weight of type 2^32 + 1": (with_weight((1, 1), (2, 2**32 + 1), (8, "w"), (9, b"1234")), "element type 4294967297"),
    "weight in pieces": (with_weight((1, 1), (2, 1), (3, message((1, 0))), (8, "w"), (9, b"1234")), "unknown field 3"),
    "weight in place of an input": (
        with_weight((1, 1), (2, 1), (8, "features"), (9, b"1234")),
        "in place of the input",
    ),
    "no graph": (edited(BAKED, drop=(MODEL_GRAPH,)), "has no graph"),
    "empty graph": (edited(BAKED, replace={MODEL_GRAPH: b""}), "has the inputs none"),
    "two graphs": (edited(BAKED, add=[(MODEL_GRAPH, b"")]), "two fields 'graph'"),
    "unknown field": (edited(BAKED, add=[(99, b"x")]), "unknown field 99"),
    "unknown field in a tensor": (edited(BAKED, MODEL_GRAPH, GRAPH_INITIALIZER, add=[(77, 1)]), "unknown field 77"),
    "field of another wire type": (BAKED + number(MODEL_GRAPH << 3 | 0) + b"\x01", "malformed field 'graph'"),
    "wire group": (BAKED + number(30 << 3 | 3) + number(30 << 3 | 4), "wire type 3"),
    "number of eleven bytes": (b"\x08" + b"\xff" * 10 + b"\x01" + BAKED, "middle of a number"),
    "number beyond 64 bits": (b"\x08" + b"\xff" * 9 + b"\x7f" + BAKED, "middle of a number"),
    "length beyond the file": (BAKED + b"\x32\xff\xff\xff\xff\x0f", "cut off: 4,294,967,295 bytes announced"),
    "length beyond 63 bits": (BAKED + b"\x32" + number(2**64 - 1), "cut off"),
    "a field too many, a quarter million times": (BAKED + b"\x42\x00" * 300_000, "too many fields"),
    "no metadata": (edited(BAKED, drop=(MODEL_METADATA,)), "no metadata 'stale_edge.format'"),
    "metadata twice": (
        BAKED + message((MODEL_METADATA, message((1, "stale_edge.kind"), (2, "open")))),
        "two properties",
    ),
    "format 2": (with_metadata("format", "2"), "format '2'"),
    "kind unknown": (with_metadata("kind", "cloud"), "'cloud', not one of baked"),
    "precision unknown": (with_metadata("precision", "fp12"), "'fp12'"),
    "anchors not a number": (with_metadata("anchors", "many"), "not JSON"),
    "anchors of five thousand digits": (with_metadata("anchors", "9" * 5000), "stale_edge.anchors"),
    "anchors true": (with_metadata("anchors", "true"), "an integer"),
    "anchors other than in the file": (with_metadata("anchors", "11"), r"masks of \[batch, 10, snippets\]"),
    "width other than in the file": (with_metadata("feature_dim", "9"), r"features of \[batch, snippets, 8\]"),
    "longest video beyond all": (with_metadata("max_snippets", "1000000000"), "max_snippets"),
    "classes missing": (with_metadata("classes", None), "lists 0 classes"),
    "classes too few": (with_metadata("classes", '["a", "b"]'), r"class_logits of \[batch, snippets, 4\]"),
    "classes not text": (with_metadata("classes", "[1, 2, 3]"), "list of strings"),
    "classes twice the same": (with_metadata("classes", '["a", "a", "b"]'), "a class twice"),
    "classes without names": (with_metadata("classes", '["a", "", "b"]'), "without a name"),
    "classes of half characters": (with_metadata("classes", '["a", "\\ud800", "b"]'), "not Unicode"),
    "metadata nested deeply": (with_metadata("parity", "[" * 100_000), "stale_edge.parity"),
    "metadata nested a little less deeply": (with_metadata("parity", '{"a":' * 900 + "1" + "}" * 900), "nested"),
    "metadata not a number": (with_metadata("parity", '{"error": NaN}'), "NaN"),
    "metadata infinite": (with_metadata("recipe", '{"scale": 1e999}'), "infinity"),
    "seconds negative": (with_metadata("snippet_seconds", "-1"), "positive number"),
    "open file that says baked": (
        with_metadata("classes", '["a"]', with_metadata("kind", "baked", OLD_OPEN)),
        "inputs 'features', 'text_embeddings', not features",
    ),
    "baked file that says open": (
        with_metadata("kind", "open", OLD_BAKED),
        "inputs 'features', not features, text_embeddings",
    ),
    "text tower that is none": (with_metadata("kind", "text_tower", OLD_BAKED), "not token_ids"),
    "input of another name": (with_border(GRAPH_INPUT, tensor_value("x", 1, "batch", "snippets", 8)), "inputs 'x'"),
    "one input more": (with_border(GRAPH_INPUT, FEATURES, tensor_value("path", 8, 1)), "element type 8"),
    "two thousand inputs": (with_border(GRAPH_INPUT, *[FEATURES] * 2000), "has the inputs"),
    "input that is a sequence": (with_border(GRAPH_INPUT, SEQUENCE), "unknown field 4"),
    "input without a type": (with_border(GRAPH_INPUT, message((1, "features"))), "no tensor of known shape"),
    "input of halves": (with_border(GRAPH_INPUT, tensor_value("features", 10, "batch", "snippets", 8)), "float16, not"),
    "fixed length": (with_border(GRAPH_INPUT, tensor_value("features", 1, "batch", 100, 8)), r"\[batch, 100, 8\]"),
    "fixed batch": (with_border(GRAPH_INPUT, tensor_value("features", 1, 1, "snippets", 8)), r"\[1, snippets, 8\]"),
    "axis of another name": (with_border(GRAPH_INPUT, tensor_value("features", 1, "batch", "time", 8)), "time"),
    "unnamed axis": (with_border(GRAPH_INPUT, tensor_value("features", 1, "batch", "", 8)), "None"),
    "axis missing": (with_border(GRAPH_INPUT, tensor_value("features", 1, "batch", "snippets")), "batch, snippets.,"),
    "axes a thousand": (with_border(GRAPH_INPUT, tensor_value("features", 1, *["batch"] * 1000)), "batch, batch"),
    "outputs in another order": (with_border(GRAPH_OUTPUT, MASKS, LOGITS, VIDEO), "outputs 'masks', 'class_logits'"),
    "output missing": (with_border(GRAPH_OUTPUT, LOGITS, MASKS), "outputs 'class_logits', 'masks', not"),
    "output twice": (with_border(GRAPH_OUTPUT, LOGITS, MASKS, VIDEO, VIDEO), "outputs"),
    "output of integers": (
        with_border(GRAPH_OUTPUT, LOGITS, MASKS, tensor_value("video_logits", 7, "batch", 3)),
        "int64, not float32",
    ),
    "output of another shape": (
        with_border(GRAPH_OUTPUT, LOGITS, tensor_value("masks", 1, "batch", "snippets", 10), VIDEO),
        r"masks of \[batch, snippets, 10\], not \[batch, 10, snippets\]",
    ),
}


def test_take_apart_and_put_together_are_inverse():
    assert put_together(take_apart(BAKED)) == BAKED
    assert edited(BAKED, MODEL_GRAPH, GRAPH_NODE) == BAKED


@pytest.mark.parametrize("kind", REFUSED)
def test_hostile_files_are_refused_in_one_line(tmp_path, kind):
    content, pattern = REFUSED[kind]
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    begin = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(BadDataError, match=pattern) as caught:
            read_model(path)
        assert tracemalloc.get_traced_memory()[1] < (80 << 20) + 4 * len(content)
    finally:
        tracemalloc.stop()
    assert time.process_time() - begin < 10
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.isprintable()
    assert len(text) < len(str(path)) + 400
    assert caught.value.exit_code == EXIT_BAD_DATA
    assert list(tmp_path.iterdir()) == [path]


def test_every_kind_differs_from_the_good_file():
    contents = [content for content, _ in REFUSED.values()]
    assert BAKED not in contents
    assert len(set(contents)) == len(contents) >= 90


def test_what_a_good_file_says():
    model = read_model(DATA / "tiny_baked.onnx")
    assert model.content == BAKED
    assert model.size_bytes == len(BAKED)
    assert model.info.kind is Kind.BAKED
    assert model.info.precision is Precision.FP32
    assert model.info.classes == ("archery", "long jump", "playing kora")
    assert (model.ir_version, model.opset) == (IR_VERSION, OPSET)
    assert [(tensor.name, tensor.element_type, tensor.axes) for tensor in model.inputs + model.outputs] == [
        ("features", "float32", ("batch", "snippets", 8)),
        ("class_logits", "float32", ("batch", "snippets", 4)),
        ("masks", "float32", ("batch", 10, "snippets")),
        ("video_logits", "float32", ("batch", 3)),
    ]
    assert model.operators["MatMul"] == 6
    assert sum(model.operators.values()) == sum(field == GRAPH_NODE for field, _, _ in take_apart(graph_of(BAKED)))
    assert model.weight_bytes == {"float32": 4 * (8 * 8 + 8 * 16 + 16 * 10 + 8 + 3 * 8 + 2), "int64": 3 * 8}


def graph_of(content: bytes) -> bytes:
    return next(value for field, _, value in take_apart(content) if field == MODEL_GRAPH)


def test_open_file_names_its_classes_axis():
    model = read_model(DATA / "tiny_open.onnx")
    assert model.inputs[1].axes == ("classes", 8)
    assert model.outputs[0].axes == ("batch", "snippets", "classes + 1")
    assert model.outputs[2].axes == ("batch", "classes")


def test_weights_may_be_numbers_instead_of_raw_bytes(tmp_path):
    path = tmp_path / "model.onnx"
    floats = np.arange(6, dtype="<f4").tobytes()
    unpacked = put_together([(1, 0, 2), (1, 0, 3), (2, 0, 1), (8, 2, b"w")] + [(4, 5, floats[:4])] * 6)
    integers = message((1, number(2) + number(2)), (2, 7), (8, "i"), (7, number(-1) + number(300) + b"\0\0"))
    for weight in (message((1, 2), (1, 3), (2, 1), (8, "w"), (4, floats)), unpacked, integers):
        path.write_bytes(edited(BAKED, MODEL_GRAPH, add=[(GRAPH_INITIALIZER, weight)]))
        before = sum(read_model(DATA / "tiny_baked.onnx").weight_bytes.values())
        assert sum(read_model(path).weight_bytes.values()) == before + (32 if weight is integers else 24)


def test_files_that_are_none(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(BadDataError, match="not a regular file"):
            read_model(path)
    with pytest.raises(InputMissingError, match="no such file"):
        read_model(tmp_path / "missing.onnx")


def test_file_beyond_protobuf_is_refused_unread(tmp_path):
    path = tmp_path / "large.onnx"
    path.touch()
    os.truncate(path, MAX_MODEL_BYTES + 1)
    tracemalloc.start()
    with pytest.raises(BadDataError, match="more than the 2,147,483,647 allowed"):
        read_model(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_large_weights_are_neither_copied_nor_walked(tmp_path):
    path = tmp_path / "large.onnx"
    count = 40 << 20
    weight = message((1, count), (2, 3), (8, "w"), (9, bytes(count)))
    path.write_bytes(edited(BAKED, MODEL_GRAPH, add=[(GRAPH_INITIALIZER, weight)]))
    tracemalloc.start()
    begin = time.process_time()
    model = read_model(path)
    assert time.process_time() - begin < 2
    assert tracemalloc.get_traced_memory()[1] < model.size_bytes + (1 << 20)
    tracemalloc.stop()
    assert model.weight_bytes["int8"] == count


@pytest.mark.parametrize("content", [BAKED, OPEN], ids=["baked", "open"])
def test_every_truncation_is_refused(tmp_path, content):
    path = tmp_path / "model.onnx"
    fields = take_apart(content)
    between_fields = {len(put_together(fields[:count])) for count in range(len(fields))}
    for length in {*range(0, len(content), 7), *between_fields}:
        path.write_bytes(content[:length])
        with pytest.raises(BadDataError):
            read_model(path)


def damaged(content: bytes, seed: int) -> bytes:
    rng = random.Random(seed)
    changed = bytearray(content)
    change = rng.choice(("flip", "overwrite", "cut", "insert"))
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(changed))
        if change == "flip":
            changed[at] ^= 1 << rng.randrange(8)
        elif change == "overwrite":
            changed[at] = rng.randrange(256)
        elif change == "cut":
            del changed[at : at + rng.randrange(1, 9)]
        else:
            changed[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(changed)


@pytest.mark.parametrize("kind", ["baked", "open"])
def test_damaged_files_give_an_error_or_an_answer(tmp_path, kind):
    path, outcomes = tmp_path / "model.onnx", {"refused": 0, "answered": 0}
    text = {"text_embeddings": np.eye(3, 8), "classes": "abc"} if kind == "open" else {}
    features = np.random.default_rng(0).standard_normal((5, 8))
    for seed in range(400):
        path.write_bytes(damaged(OPEN if kind == "open" else BAKED, seed))
        try:
            Detector(path, **text).detect(features)
            outcomes["answered"] += 1
        except BadDataError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 200
    assert outcomes["answered"] > 20
    assert list(tmp_path.iterdir()) == [path]


def test_seeded_swaps_of_operators_and_inputs_give_an_error_or_an_answer(tmp_path):
    """Well-formed files that mean nonsense: what the wire format cannot show, onnxruntime must survive."""
    path = tmp_path / "model.onnx"
    operators = sorted(
        {value for node in nodes(BAKED) for field, _, value in node if field == NODE_OP} | {b"Range", b"Tile"}
    )
    names = sorted({value for node in nodes(BAKED) for field, _, value in node if field in {1, 2}})
    features = np.random.default_rng(0).standard_normal((5, 8))
    refused = 0
    for seed in range(300):
        rng = random.Random(seed)
        which = rng.randrange(len(nodes(BAKED)))
        node = nodes(BAKED)[which]
        field = rng.choice((1, 1, NODE_OP))
        index = rng.choice([i for i, item in enumerate(node) if item[0] == field])
        node[index] = (field, 2, rng.choice(operators if field == NODE_OP else names))
        graph = take_apart(graph_of(BAKED))
        position = [i for i, item in enumerate(graph) if item[0] == GRAPH_NODE][which]
        graph[position] = (GRAPH_NODE, 2, put_together(node))
        path.write_bytes(edited(BAKED, replace={MODEL_GRAPH: put_together(graph)}))
        try:
            Detector(path, max_memory_mb=512).detect(features)
        except BadDataError:
            refused += 1
    assert 50 < refused < 300


def nodes(content: bytes) -> list[Fields]:
    return [take_apart(value) for field, _, value in take_apart(graph_of(content)) if field == GRAPH_NODE]


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_are_a_message_or_an_error(content):
    schema = {1: Field("a", Wire.VARINT), 2: Field("b", Wire.BYTES, repeated=True), 3: Field("c", Wire.FIXED32)}
    try:
        found = Message(memoryview(content), schema, Budget())
        found.integer("a")
        found.texts("b")
    except WireError:
        return
    assert found.names() <= {"a", "b", "c"}


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30), st.booleans())
def test_integers_come_back_as_they_went(values, packed):
    schema = {5: Field("n", Wire.VARINT, repeated=True)}
    content = message((5, b"".join(map(number, values)))) if packed else message(*((5, value) for value in values))
    found = Message(memoryview(content), schema, Budget())
    assert found.integers("n") == values
    assert found.count("n", Wire.VARINT) == len(values)


def test_metadata_of_another_program_does_not_disturb(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(BAKED + message((MODEL_METADATA, message((1, "note"), (2, json.dumps({"a": 1}))))))
    assert read_model(path).info == read_model(DATA / "tiny_baked.onnx").info


class TestGrowth:
    """Files of 0.1 load for ever; what a later version adds is kept or refused by name."""

    @pytest.mark.parametrize("name", ["tiny_baked.onnx", "tiny_open.onnx"])
    def test_files_of_0_1_load(self, name):
        info = read_model(DATA / "v0_1" / name).info
        assert (info.network, info.role, info.text) == ("stale", Role.DETECTOR, TextMode(info.kind))
        assert (info.anchors, info.feature_dim, info.extra) == (10, 8, {})

    def test_files_of_0_1_detect(self):
        features = np.random.default_rng(0).standard_normal((40, 8))
        found = Detector(DATA / "v0_1" / "tiny_baked.onnx").detect(features, 40.0)
        assert found
        assert found == Detector(DATA / "tiny_baked.onnx").detect(features, 40.0)

    def test_a_key_of_a_later_version_is_kept(self, tmp_path):
        path = tmp_path / "later.onnx"
        path.write_bytes(with_metadata("of_2030", "abc"))
        info = read_model(path).info
        assert info.extra == {"of_2030": "abc"}
        assert info.to_metadata()["stale_edge.of_2030"] == "abc"

    def test_what_is_written_is_read_again(self, tmp_path):
        info = replace(read_model(DATA / "tiny_open.onnx").info, extra={"later": "[1, 2]"}, strides=(1, 2), offset=2.0)
        info = replace(info, tower_sha256="ab", channels="bgr", prompt="a video of ", suggested_min_score=0.25)
        assert ModelInfo.from_metadata(tmp_path, info.to_metadata()) == info

    def test_role_and_text_suffice_without_a_kind(self, tmp_path):
        metadata = read_model(DATA / "tiny_open.onnx").info.to_metadata()
        del metadata["stale_edge.kind"]
        assert ModelInfo.from_metadata(tmp_path, metadata).kind == "open"
        metadata |= {"stale_edge.role": "text-tower"}
        assert ModelInfo.from_metadata(tmp_path, metadata).kind == "text_tower"

    def test_an_unknown_network_is_refused_with_the_cure(self, tmp_path):
        path = tmp_path / "later.onnx"
        path.write_bytes(with_metadata("network", "transformer-of-2030"))
        with pytest.raises(BadDataError, match=r"'transformer-of-2030'; this version knows .*stale.*: use a newer one"):
            read_model(path)

    def test_a_network_that_needs_anchors_has_them(self, tmp_path):
        path = tmp_path / "bare.onnx"
        path.write_bytes(with_metadata("anchors", None))
        with pytest.raises(BadDataError, match=r"stale_edge\.anchors"):
            read_model(path)

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"role": "text-tower"}, r"stale_edge\.kind' is 'open', not 'text_tower' as its role and text mode say"),
            ({"text": "baked"}, r"stale_edge\.kind' is 'open', not 'baked' as its role and text mode say"),
            ({"text": "spoken"}, r"stale_edge\.text' is 'spoken', not one of baked, open, full"),
            ({"role": "image-tower"}, r"'open', not 'image_tower' as its role and text mode say"),
            ({"role": "oracle"}, "has the role 'oracle', this version reads detector, text-tower, image-tower"),
            ({"channels": "yuv"}, "'yuv', not one of rgb, bgr"),
            ({"format": "2"}, "has format '2', this version reads '1'; use a newer stale-edge"),
        ],
    )
    def test_what_this_version_does_not_read_is_refused_by_name(self, tmp_path, changes, problem):
        metadata = read_model(DATA / "tiny_open.onnx").info.to_metadata()
        metadata |= {f"stale_edge.{key}": value for key, value in changes.items()}
        with pytest.raises(BadDataError, match=problem):
            ModelInfo.from_metadata(tmp_path, metadata)

    def test_a_missing_text_mode_follows_the_kind(self, tmp_path):
        metadata = read_model(DATA / "tiny_open.onnx").info.to_metadata()
        del metadata["stale_edge.text"]
        assert ModelInfo.from_metadata(tmp_path, metadata).text is TextMode.OPEN
