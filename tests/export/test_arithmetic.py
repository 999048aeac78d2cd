"""int8 files are judged by the arithmetic of their target, on whatever machine they are made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from stale_edge_export.exporter import write_model
from stale_edge_export.quantization.arithmetic import Judging, exact_products, judging_for
from stale_edge_export.quantization.int8 import TARGETS, Products, to_int8
from stale_edge_export.quantization.quantize import Int8Options, quantize_file
from stale_edge_export.quantization.saturation import emulate
from stale_edge_runtime.bench.macs import model_feeds
from stale_edge_runtime.bench.vocabulary import synthetic_vocabulary
from stale_edge_runtime.contract import Kind, Precision
from stale_edge_runtime.model_file import read_model
from stale_edge_runtime.session import open_session
from stale_edge_runtime.synthetic import clip_like_features

TinyExport = Callable[..., Path]


@pytest.mark.parametrize("host", TARGETS)
@pytest.mark.parametrize("target", TARGETS)
def test_only_a_host_that_saturates_computes_what_its_target_does_not(target: str, host: str) -> None:
    exact = {"vnni", "arm64"}
    computed = target in exact and host not in exact
    assert judging_for(TARGETS[target], host) == (Judging.COMPUTED if computed else Judging.RUN)


@pytest.mark.parametrize("kind", [Kind.BAKED, Kind.OPEN])
def test_exact_products_answer_as_exact_integers_do(tiny_export: TinyExport, tmp_path: Path, kind: Kind) -> None:
    original = read_model(tiny_export(kind))
    model = onnx.load_model_from_string(original.content)
    int8 = to_int8(model, Products.of(model))
    exact = exact_products(int8)
    write_model(tmp_path / "exact.onnx", exact, original.info)
    dim = original.info.feature_dim
    feeds = model_feeds(original, clip_like_features(1, 60, dim), synthetic_vocabulary(dim, classes=5))
    expected = emulate(int8, feeds, saturate=False).outputs
    found = open_session(read_model(tmp_path / "exact.onnx")).run(None, feeds)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3 * float(np.std(other)))


def test_sums_that_saturate_elsewhere_are_exact(tmp_path: Path) -> None:
    """Pairs of 255 * 127 are far beyond 16 bits, and 4096 of them beyond what float32 counts."""
    weights = np.full((4096, 2), 127, np.int8)
    weights[:, 1] = -128
    node = helper.make_node("MatMulInteger", ["a", "w", "zero"], ["out"], name="product_integer")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [3, 4096])],
        [helper.make_tensor_value_info("out", TensorProto.INT32, [3, 2])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.uint8(3), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    left = np.full((3, 4096), 255, np.uint8)
    left[1, ::2] = 254
    left[2] = 0
    session = ort.InferenceSession(exact_products(model).SerializeToString())
    (found,) = session.run(None, {"a": left})
    np.testing.assert_array_equal(found, (left.astype(np.int64) - 3) @ weights.astype(np.int64))


def test_the_recipe_of_a_target_does_not_depend_on_the_host(tiny_export: TinyExport, tmp_path: Path) -> None:
    recipes = {}
    for host in ("avx2", "portable"):
        options = Int8Options(cpu="vnni", host=host)
        made = quantize_file(tiny_export(Kind.BAKED), tmp_path / f"{host}.onnx", Precision.INT8, int8=options)
        recipes[host] = made.info.recipe
    assert recipes["avx2"] == recipes["portable"]
    assert (recipes["avx2"]["target"], recipes["avx2"]["judged"]) == ("vnni", "computed")
    assert (tmp_path / "avx2.onnx").read_bytes() == (tmp_path / "portable.onnx").read_bytes()


def test_seven_bits_are_judged_by_running_them(tiny_export: TinyExport, tmp_path: Path) -> None:
    options = Int8Options(cpu="portable", host="avx2")
    made = quantize_file(tiny_export(Kind.BAKED), tmp_path / "a.onnx", Precision.INT8, int8=options)
    assert made.info.recipe["judged"] == "run"
    assert all(node.op_type != "MatMul" or "f64" not in node.name for node in onnx.load(tmp_path / "a.onnx").graph.node)
