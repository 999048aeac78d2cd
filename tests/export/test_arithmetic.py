"""int8 files are judged by the arithmetic of their target, on whatever machine they are made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from stale_edge_export.encoding import encode_model
from stale_edge_export.graphs.stale_spec import STALE_GRAPH
from stale_edge_export.quantization.arithmetic import Judging, exact_products, judging_for
from stale_edge_export.quantization.int8 import TARGETS, Products, to_int8
from stale_edge_export.quantization.quantize import Int8Options, quantize_file
from stale_edge_export.quantization.saturation import emulate
from stale_edge_export.quantization.sensitivity import HarmBudget
from stale_edge_runtime.bench.macs import model_feeds
from stale_edge_runtime.bench.vocabulary import synthetic_vocabulary
from stale_edge_runtime.contract import Kind, Precision
from stale_edge_runtime.model_file import parse_model, read_model
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
def test_exact_products_answer_as_exact_integers_do(tiny_export: TinyExport, kind: Kind) -> None:
    original = read_model(tiny_export(kind))
    model = onnx.load_model_from_string(original.content)
    int8 = to_int8(model, Products.of(model, STALE_GRAPH.quantization))
    exact = exact_products(int8)
    judged = parse_model(encode_model(exact, original.info), Path("exact.onnx"))
    dim = original.info.feature_dim
    feeds = model_feeds(original, clip_like_features(1, 60, dim), synthetic_vocabulary(dim, classes=5))
    expected = emulate(int8, feeds, saturate=False).outputs
    found = open_session(judged).run(None, feeds)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3 * float(np.std(other)))


def product(weights: np.ndarray, zero: int) -> onnx.ModelProto:
    """A file of one integer product [rows, K] x [K, N]."""
    node = helper.make_node("MatMulInteger", ["a", "w", "zero"], ["out"], name="product_integer")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, ["rows", len(weights)])],
        [helper.make_tensor_value_info("out", TensorProto.INT32, ["rows", weights.shape[1]])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.uint8(zero), "zero")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_sums_that_saturate_elsewhere_are_exact() -> None:
    """Pairs of 255 * 127 are far beyond 16 bits, and 4096 of them beyond what float32 counts."""
    weights = np.full((4096, 2), 127, np.int8)
    weights[:, 1] = -128
    left = np.full((3, 4096), 255, np.uint8)
    left[1, ::2] = 254
    left[2] = 0
    session = ort.InferenceSession(exact_products(product(weights, 3)).SerializeToString())
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


def sums_exactly(bits: int) -> bool:
    """Whether this machine's integer products of unsigned bytes and signed ones of so many bits are exact."""
    for rows, inner in ((1, 512), (7, 33), (64, 512)):
        left, right = np.full((rows, inner), 255, np.uint8), np.full((inner, 32), 2 ** (bits - 1) - 1, np.int8)
        (found,) = ort.InferenceSession(product(right, 0).SerializeToString()).run(None, {"a": left})
        if (found != left.astype(np.int64) @ right.astype(np.int64)).any():
            return False
    return True


def test_every_machine_sums_seven_bits_exactly() -> None:
    assert sums_exactly(7)


@pytest.mark.parametrize("relative_error", [0.25, 0.01])
def test_a_machine_that_sums_exactly_finds_what_is_computed(
    relative_error: float, tiny_export: TinyExport, tmp_path: Path
) -> None:
    if not sums_exactly(8):
        pytest.skip("this machine's 8-bit products saturate")
    recipes = {}
    for host in ("vnni", "avx2"):
        options = Int8Options(cpu="arm64", host=host, budget=HarmBudget(relative_error=relative_error))
        made = quantize_file(tiny_export(Kind.BAKED), tmp_path / "a.onnx", Precision.INT8, int8=options)
        recipes[made.info.recipe["judged"]] = {**made.info.recipe, "judged": "", "harm": ""}
    assert recipes["run"] == recipes["computed"]


def test_seven_bits_are_judged_by_running_them(tiny_export: TinyExport, tmp_path: Path) -> None:
    options = Int8Options(cpu="portable", host="avx2")
    made = quantize_file(tiny_export(Kind.BAKED), tmp_path / "a.onnx", Precision.INT8, int8=options)
    assert made.info.recipe["judged"] == "run"
    assert all(node.op_type != "MatMul" or "f64" not in node.name for node in onnx.load(tmp_path / "a.onnx").graph.node)
