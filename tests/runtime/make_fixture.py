"""Makes the tiny models in tests/data that the runtime's tests run on: `python tests/runtime/make_fixture.py`.

Needs onnx and, for what decodes inside, torch; the tests themselves do not. The networks are small but real: attention
over snippets, masks of ten anchors, cosine scores against class rows, so that every output depends on every snippet.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "runtime"), str(ROOT / "export")]

from stale_edge_export.detections import add_decoding, decoding_of  # noqa: E402
from stale_edge_export.encoding import encode_model  # noqa: E402
from stale_edge_runtime.contract import IR_VERSION, MAX_TOKENS, OPSET, Kind, ModelInfo, Precision  # noqa: E402
from stale_edge_runtime.text.tokenizer import Tokenizer, encode_merges  # noqa: E402

DIM, ANCHORS, WIDTH = 8, 10, 16
IMAGE_SIZE = 16
GREED = 123_456_789  # found and replaced by the tests
CLASS_NAMES = ("archery", "long jump", "playing kora")


def weights(rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {
        "query_weight": rng.standard_normal((DIM, DIM)).astype(np.float32) / DIM,
        "hidden_weight": rng.standard_normal((DIM, WIDTH)).astype(np.float32) / 2,
        "mask_weight": rng.standard_normal((WIDTH, ANCHORS)).astype(np.float32),
        "background": rng.standard_normal((1, DIM)).astype(np.float32),
        "text": rng.standard_normal((rows, DIM)).astype(np.float32),
        "scale": np.float32(5).reshape(()),
        "epsilon": np.float32(1e-6).reshape(()),
        "one": np.array([1], np.int64),
        "minus_one": np.array([-1], np.int64),
        "zero": np.array([0], np.int64),
    }


def unit_rows(name: str) -> list[onnx.NodeProto]:
    """Rows of `name` scaled to length 1, as `name`_unit."""
    return [
        helper.make_node("ReduceL2", [name, "minus_one"], [f"{name}_norm"], keepdims=1),
        helper.make_node("Add", [f"{name}_norm", "epsilon"], [f"{name}_safe"]),
        helper.make_node("Div", [name, f"{name}_safe"], [f"{name}_unit"]),
    ]


def nodes(text: str) -> list[onnx.NodeProto]:
    node = helper.make_node
    return [
        node("MatMul", ["features", "query_weight"], ["query"]),
        node("Transpose", ["features"], ["key"], perm=[0, 2, 1]),
        node("MatMul", ["query", "key"], ["attention_logits"]),
        node("Softmax", ["attention_logits"], ["attention"], axis=-1),
        node("MatMul", ["attention", "features"], ["context"]),
        node("Add", ["context", "features"], ["embedded"]),
        node("MatMul", ["embedded", "hidden_weight"], ["hidden"]),
        node("Relu", ["hidden"], ["hidden_relu"]),
        node("MatMul", ["hidden_relu", "mask_weight"], ["mask_logits"]),
        node("Sigmoid", ["mask_logits"], ["masks_by_snippet"]),
        node("Transpose", ["masks_by_snippet"], ["masks"], perm=[0, 2, 1]),
        node("Concat", [text, "background"], ["rows"], axis=0),
        *unit_rows("rows"),
        node("Transpose", ["rows_unit"], ["columns"], perm=[1, 0]),
        *unit_rows("embedded"),
        node("MatMul", ["embedded_unit", "columns"], ["cosine"]),
        node("Mul", ["cosine", "scale"], ["class_logits"]),
        node("ReduceMean", ["class_logits", "one"], ["mean_logits"], keepdims=0),
        node("Slice", ["mean_logits", "zero", "minus_one", "one"], ["video_logits"]),
    ]


def build(kind: Kind) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    is_open = kind is Kind.OPEN
    inputs = [value("features", TensorProto.FLOAT, ["batch", "snippets", DIM])]
    arrays = weights(len(CLASS_NAMES))
    classes: str | int = len(CLASS_NAMES)
    rows: str | int = len(CLASS_NAMES) + 1
    if is_open:
        inputs.append(value("text_embeddings", TensorProto.FLOAT, ["classes", DIM]))
        del arrays["text"]
        classes, rows = "classes", "classes + 1"
    outputs = [
        value("class_logits", TensorProto.FLOAT, ["batch", "snippets", rows]),
        value("masks", TensorProto.FLOAT, ["batch", ANCHORS, "snippets"]),
        value("video_logits", TensorProto.FLOAT, ["batch", classes]),
    ]
    graph = helper.make_graph(
        nodes("text_embeddings" if is_open else "text"),
        "stale",
        inputs,
        outputs,
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    for number, node in enumerate(graph.node):
        node.name = f"tiny/{node.op_type}_{number}"
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="stale-edge tests",
    )
    info = ModelInfo(
        kind=kind,
        precision=Precision.FP32,
        anchors=ANCHORS,
        feature_dim=DIM,
        created_by="tests/runtime/make_fixture.py",
        classes=() if is_open else CLASS_NAMES,
        max_snippets=512,
        feature_extractor="none: a test fixture",
        snippet_seconds=None if is_open else 2.0,
        untrained=True,
        weights={"source": "seeded", "seed": 7},
        rewrites=("attention_shared_keys",),
        parity={"lengths": [1, 2, 100], "batches": [1, 3], "max_error": {"class_logits": 1.5e-6}},
    )
    helper.set_model_props(model, info.to_metadata())
    onnx.checker.check_model(model, full_check=True)
    return model


def greedy(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network plus a constant of GREED values, all zero, whose sum moves the epsilon."""
    graph = model.graph
    for node in graph.node:
        node.input[:] = ["moved_epsilon" if name == "epsilon" else name for name in node.input]
    extra = [
        helper.make_node("ConstantOfShape", ["greed"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["epsilon", "sum"], ["moved_epsilon"]),
    ]
    nodes_after = [*extra, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes_after)
    graph.initializer.append(numpy_helper.from_array(np.array([GREED], np.int64), "greed"))
    return model


def image_tower() -> onnx.ModelProto:
    """A tower that sees every pixel: a product of the whole image with fixed weights."""
    value, size = helper.make_tensor_value_info, IMAGE_SIZE
    rng = np.random.default_rng(11)
    weight = (rng.standard_normal((size * size * 3, DIM)) / 400).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["pixels"], ["numbers"], name="tiny/Cast_0", to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["numbers", "flat"], ["rows"], name="tiny/Reshape_1"),
            helper.make_node("MatMul", ["rows", "weight"], ["image_embeddings"], name="tiny/MatMul_2"),
        ],
        "clip-image",
        [value("pixels", TensorProto.UINT8, ["batch", size, size, 3])],
        [value("image_embeddings", TensorProto.FLOAT, ["batch", DIM])],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.array([0, size * size * 3], np.int64), "flat"),
        ],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="stale-edge tests")
    info = ModelInfo(
        kind=Kind.IMAGE_TOWER,
        precision=Precision.FP32,
        feature_dim=DIM,
        created_by="tests/runtime/make_fixture.py",
        feature_extractor="none: a test fixture",
        image_size=size,
        tower_sha256="5e" * 32,
        channels="rgb",
        untrained=True,
    )
    helper.set_model_props(model, info.to_metadata())
    onnx.checker.check_model(model, full_check=True)
    return model


def text_tower() -> onnx.ModelProto:
    """A tower that sees every token up to the first end: a sum of their vectors, each weighed by its place."""
    value = helper.make_tensor_value_info
    tokenizer = Tokenizer(np.array([[64, 65], [512, 322], [65, 321]], np.uint16))
    rng = np.random.default_rng(13)
    arrays = {
        "vectors": rng.standard_normal((tokenizer.size, DIM)).astype(np.float32),
        "weights": np.linspace(1, 2, MAX_TOKENS, dtype=np.float32)[:, None],
        "end": np.array(tokenizer.end, np.int64),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
    }
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Equal", ["token_ids", "end"], ["is_end"], name="tiny/Equal_0"),
            node("Not", ["is_end"], ["inside"], name="tiny/Not_1"),
            node("Cast", ["inside"], ["counted"], name="tiny/Cast_2", to=TensorProto.FLOAT),
            node("Unsqueeze", ["counted", "minus_one"], ["mask"], name="tiny/Unsqueeze_3"),
            node("Gather", ["vectors", "token_ids"], ["looked_up"], name="tiny/Gather_4"),
            node("Shape", ["token_ids"], ["length"], name="tiny/Shape_5", start=1),
            node("Slice", ["weights", "zero", "length"], ["weighed"], name="tiny/Slice_6"),
            node("Mul", ["looked_up", "weighed"], ["placed"], name="tiny/Mul_7"),
            node("Mul", ["placed", "mask"], ["masked"], name="tiny/Mul_8"),
            node("ReduceSum", ["masked", "one"], ["text_embeddings"], name="tiny/ReduceSum_9", keepdims=0),
        ],
        "clip-text",
        [value("token_ids", TensorProto.INT64, ["classes", "tokens"])],
        [value("text_embeddings", TensorProto.FLOAT, ["classes", DIM])],
        [numpy_helper.from_array(array, name) for name, array in (arrays | {"minus_one": np.array([-1])}).items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="stale-edge tests")
    info = ModelInfo(
        kind=Kind.TEXT_TOWER,
        precision=Precision.FP32,
        feature_dim=DIM,
        created_by="tests/runtime/make_fixture.py",
        merges=encode_merges(tokenizer.merges),
        untrained=True,
    )
    helper.set_model_props(model, info.to_metadata())
    onnx.checker.check_model(model, full_check=True)
    return model


def actionformer() -> onnx.ModelProto:
    """Moments of two levels, each a product of the features of every snippet, or of every second one."""
    value, node, classes = helper.make_tensor_value_info, helper.make_node, len(CLASS_NAMES)
    rng = np.random.default_rng(17)
    arrays = {
        "class_weight": rng.standard_normal((DIM, classes)).astype(np.float32),
        "offset_weight": rng.standard_normal((DIM, 2)).astype(np.float32),
        "bias": np.full(classes, -4, np.float32),
        **{name: np.array([number]) for name, number in (("zero", 0), ("one", 1), ("two", 2), ("end", 10**6))},
    }
    nodes = [
        node("Slice", ["features", "zero", "end", "one", "two"], ["coarse"]),
        node("Concat", ["features", "coarse"], ["moments"], axis=1),
        node("MatMul", ["moments", "class_weight"], ["products"]),
        node("Add", ["products", "bias"], ["class_logits"]),
        node("MatMul", ["moments", "offset_weight"], ["signed"]),
        node("Abs", ["signed"], ["offsets"]),
    ]
    axes = {"class_logits": ["batch", "points", classes], "offsets": ["batch", "points", 2]}
    outputs = [value(name, TensorProto.FLOAT, sizes) for name, sizes in axes.items()]
    return small(nodes, arrays, outputs, network="actionformer", strides=(1, 2), offset=2.0)


def boundary_map() -> onnx.ModelProto:
    """One cell for each of up to 128 snippets; everything is a product of features."""
    value, node, classes = helper.make_tensor_value_info, helper.make_node, len(CLASS_NAMES)
    rng = np.random.default_rng(19)
    arrays = {
        "class_weight": rng.standard_normal((DIM, classes)).astype(np.float32),
        "pair_weight": rng.standard_normal((DIM, DIM)).astype(np.float32) / 2,
        "guide_weight": rng.standard_normal((DIM, 1)).astype(np.float32),
        "last": np.array([2]),
    }
    nodes = [
        node("Transpose", ["features"], ["columns"], perm=[0, 2, 1]),
        node("MatMul", ["features", "pair_weight"], ["turned"]),
        node("MatMul", ["turned", "columns"], ["pair_logits"]),
        node("MatMul", ["features", "class_weight"], ["class_logits"]),
        node("MatMul", ["features", "columns"], ["class_gram"]),
        node("MatMul", ["features", "guide_weight"], ["column"]),
        node("Squeeze", ["column", "last"], ["guide"]),
    ]
    axes = {
        "pair_logits": ["batch", "cells", "cells"],
        "class_logits": ["batch", "cells", classes],
        "class_gram": ["batch", "cells", "cells"],
        "guide": ["batch", "snippets"],
    }
    outputs = [value(name, TensorProto.FLOAT, sizes) for name, sizes in axes.items()]
    return small(nodes, arrays, outputs, network="boundary-map", max_snippets=128)


def small(
    nodes: list[onnx.NodeProto],
    arrays: dict[str, np.ndarray],
    outputs: list[onnx.ValueInfoProto],
    **metadata: object,
) -> onnx.ModelProto:
    """A baked file that takes features."""
    for number, each in enumerate(nodes):
        each.name = f"tiny/{each.op_type}_{number}"
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", "snippets", DIM])]
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="stale-edge tests")
    info = ModelInfo(
        kind=Kind.BAKED,
        precision=Precision.FP32,
        feature_dim=DIM,
        created_by="tests/runtime/make_fixture.py",
        classes=CLASS_NAMES,
        untrained=True,
        **metadata,
    )
    helper.set_model_props(model, info.to_metadata())
    onnx.checker.check_model(model, full_check=True)
    return model


def decoding_inside(model: onnx.ModelProto) -> bytes:
    """The same network with its decoding inside, as `export --detections` makes it."""
    info = ModelInfo.from_metadata(Path("tiny"), {entry.key: entry.value for entry in model.metadata_props})
    info = replace(info, detections=decoding_of(info.network).settings(info, {}), parity={})
    made = add_decoding(model, info)
    onnx.checker.check_model(made, full_check=True)
    return encode_model(made, info)


def main() -> None:
    folder = ROOT / "tests" / "data"
    folder.mkdir(exist_ok=True)
    for kind in (Kind.BAKED, Kind.OPEN):
        (folder / f"tiny_{kind}.onnx").write_bytes(build(kind).SerializeToString(deterministic=True))
    (folder / "tiny_image_tower.onnx").write_bytes(image_tower().SerializeToString(deterministic=True))
    (folder / "tiny_text_tower.onnx").write_bytes(text_tower().SerializeToString(deterministic=True))
    for name, model in (("actionformer", actionformer()), ("boundary_map", boundary_map())):
        (folder / f"tiny_{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
        (folder / f"tiny_{name}_detections.onnx").write_bytes(decoding_inside(model))
    for kind in (Kind.BAKED, Kind.OPEN):
        (folder / f"tiny_{kind}_detections.onnx").write_bytes(decoding_inside(build(kind)))
    (folder / "greedy.onnx").write_bytes(greedy(build(Kind.BAKED)).SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
