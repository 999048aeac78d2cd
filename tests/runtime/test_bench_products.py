"""Products by shape, and parts of a forward that sum to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from stale_edge_runtime.bench.explain import Explanation, explain
from stale_edge_runtime.bench.onnx_contender import OnnxContender, vocabulary_for
from stale_edge_runtime.bench.product_parts import (
    Alone,
    PartKind,
    ProductShape,
    break_down,
    measure_alone,
    split_alone,
)
from stale_edge_runtime.bench.rewritten_graph import RewrittenGraph, RunNode, read_rewritten
from stale_edge_runtime.bench.small_files import message, value_info
from stale_edge_runtime.contract import Precision
from stale_edge_runtime.model_file import read_model

DATA = Path(__file__).parents[1] / "data"
FLOAT, UINT8, INT8 = 1, 2, 3
CEILINGS = {Precision.FP32: 50.0, Precision.INT8: 200.0}


def event(name: str, operator: str, us: int, inputs: list[Any], output: list[int]) -> dict[str, Any]:
    listed = [{"float": shape} if isinstance(shape, list) else shape for shape in inputs]
    details = {"op_name": operator, "input_type_shape": listed, "output_type_shape": [{"float": output}]}
    return {"name": f"{name}_kernel_time", "dur": us, "args": details}


def node(operator: str, *inputs: str, output: str = "") -> RunNode:
    return RunNode(operator, inputs, (output or operator.lower(),), b"")


WEIGHT = (("int8", (512, 64)), b"")
SCALE = (("float32", (64,)), b"")
GRAPH = RewrittenGraph(
    {
        "a/Abs": node("Abs", "x", output="abs"),
        "a/ReduceMax": node("ReduceMax", "abs", output="range"),
        "a/Mul": node("Mul", "range", "step", output="scale"),
        "a/QuantizeLinear": node("QuantizeLinear", "x", "scale", "zero", output="bytes"),
        "a/Add": node("Add", "y", "y"),
        "a/one": node("DynamicQuantizeMatMul", "x", "weight", "weight_scale", "", ""),
        "b/two": node("DynamicQuantizeMatMul", "y", "bytes", "scale", "", ""),
        "b/three": node("MatMul", "y", "y"),
        "c/Integer": node("MatMulInteger", "u", "weight", output="sums"),
        "c/Cast": node("Cast", "sums", output="floats"),
        "c/Mul": node("Mul", "floats", "weight_scale", output="rescaled"),
    },
    {"weight": WEIGHT, "weight_scale": SCALE, "step": (("float32", ()), b""), "zero": (("int8", ()), b"")},
    (),
)


def forward(slower: int = 0) -> list[dict[str, Any]]:
    """A forward of 1,000 µs, in which a body with two operators runs three times."""
    body = [
        event("a/one", "DynamicQuantizeMatMul", 100 + slower, [[1, 200, 512], [64]], [1, 200, 64]),
        event("a/Add", "Add", 10, [[1, 200, 64], [1, 200, 64]], [1, 200, 64]),
    ]
    others = [
        event("a/Abs", "Abs", 20, [[1, 200, 512]], [1, 200, 512]),
        event("a/ReduceMax", "ReduceMax", 20, [[1, 200, 512]], []),
        event("a/Mul", "Mul", 5, [[], []], []),
        event("a/QuantizeLinear", "QuantizeLinear", 30, [[1, 200, 512], [], {"int8": []}], [1, 200, 512]),
        event("b/two", "DynamicQuantizeMatMul", 90, [[2, 8, 512], {"int8": [2, 512, 200]}, []], [2, 8, 200]),
        event("b/three", "MatMul", 70, [[1, 1, 300], [1, 300, 128]], [1, 1, 128]),
        event("c/Integer", "MatMulInteger", 60, [{"uint8": [1, 7, 512]}], [1, 7, 64]),
        event("c/Cast", "Cast", 6, [{"int32": [1, 7, 64]}], [1, 7, 64]),
        event("c/Mul", "Mul", 4, [[1, 7, 64], [64]], [1, 7, 64]),
    ]
    run = [*body, *body, *body, *others, {"name": "model_run", "dur": 1000 + 3 * slower, "args": {}}]
    return [dict(one) for one in run]


def half_quantising(shape: ProductShape, _event: dict[str, Any]) -> Alone | None:
    if shape.operator == "MatMul":
        return None
    return Alone(0.04, 0.04, 0.0) if shape.operator == "DynamicQuantizeMatMul" else Alone(0.0, 0.05, 0.0)


def test_parts_sum_to_the_run_and_every_operator_is_in_one() -> None:
    runs = [forward(), forward(900), forward()]  # a slow run changes no median
    products, parts = break_down(runs, GRAPH, CEILINGS, half_quantising, lambda one: one["name"].partition("/")[0])
    ms = {(part.kind, part.operator): part.ms for part in parts}
    assert sum(ms.values()) == pytest.approx(1.0)
    assert sum(part.share for part in parts) == pytest.approx(1.0)
    assert ms[PartKind.PASSES, "Add"] == pytest.approx(0.03)
    assert {operator for kind, operator in ms if kind is PartKind.PASSES} == {"Add"}  # not what serves a product
    # Half of the fused ones, and the search for the range of the tensor that is quantised apart.
    assert ms[PartKind.QUANTISING, ""] == pytest.approx(0.15 + 0.045 + 0.075)
    assert ms[PartKind.RESCALING, ""] == pytest.approx(0.01)
    assert ms[PartKind.NOISE, ""] == pytest.approx(0)
    assert ms[PartKind.OUTSIDE, ""] == pytest.approx(1.0 - 0.3 - 0.03 - 0.075 - 0.09 - 0.07 - 0.06 - 0.01)
    macs = 3 * 200 * 512 * 64 + 2 * 8 * 512 * 200 + 7 * 512 * 64
    ideal = macs / 200e6 + 300 * 128 / 50e6
    assert ms[PartKind.ARITHMETIC, ""] == pytest.approx(ideal)
    # Alone: three and one calls of 0.04 ms, one of 0.05, and 0.07 of the one that does not run alone.
    assert ms[PartKind.SHAPES, ""] == pytest.approx(0.12 + 0.04 + 0.05 + 0.07 - ideal)
    assert ms[PartKind.RUN, ""] == pytest.approx(0.15 + 0.045 + 0.06 + 0.07 - (0.12 + 0.04 + 0.05 + 0.07))
    assert [one.ms for one in products] == sorted((one.ms for one in products), reverse=True)


def test_what_disturbs_another_operator_in_every_run_is_no_part_of_them() -> None:
    runs = [forward() for _ in range(5)]
    for place, run in enumerate(runs):
        run[place]["dur"] += 400
        run[-1]["dur"] += 400
    quiet, disturbed = (
        {(part.kind, part.operator): part.ms for part in break_down(each, GRAPH, CEILINGS, half_quantising, str)[1]}
        for each in ([forward()], runs)
    )
    assert disturbed.pop((PartKind.NOISE, "")) == pytest.approx(0.4)
    assert quiet.pop((PartKind.NOISE, "")) == pytest.approx(0)
    assert disturbed == pytest.approx(quiet)


def test_products_are_grouped_by_shape_and_counted_with_blocks() -> None:
    products, _ = break_down([forward()], GRAPH, CEILINGS, half_quantising, lambda one: one["name"][0])
    by_shape = {(one.rows, one.inner, one.columns): one for one in products}
    assert len(by_shape) == len(products) == 4
    weight = by_shape[200, 512, 64]
    assert (weight.times, weight.is_constant, weight.stages) == (3, True, ("a",))
    assert weight.gmacs == pytest.approx(3 * 200 * 512 * 64 / 1e9)
    assert (weight.ms, weight.quantising_ms, weight.product_ms) == pytest.approx((0.3, 0.15, 0.15))
    assert weight.of_ceiling == pytest.approx(weight.gmacs / 200 / 0.15e-3)
    assert weight.of_ceiling_alone == pytest.approx(weight.gmacs / 200 / 0.12e-3)
    dynamic = by_shape[8, 512, 200]
    assert (dynamic.times, dynamic.is_constant) == (2, False)  # two videos in one call
    single = by_shape[1, 300, 128]
    assert (single.precision, single.alone_ms, single.of_ceiling_alone) == (Precision.FP32, None, None)


@pytest.mark.parametrize(
    ("whole", "quantise", "product", "expected"),
    [
        (1.0, 0.2, 0.7, (0.2, 0.7, 0.1)),
        (1.0, 0.5, 0.75, (0.4, 0.6, 0.0)),  # less together than apart
        (1.0, 0.0, None, (0.0, 1.0, 0.0)),
        (0.0, 0.0, 0.0, (0.0, 0.0, 0.0)),  # faster than the profile's clock
    ],
)
def test_what_the_parts_of_an_operator_leave_is_rescaling(
    whole: float, quantise: float, product: float | None, expected: tuple[float, float, float]
) -> None:
    split = split_alone(whole, quantise, product)
    assert (split.quantising_ms, split.product_ms, split.rescaling_ms) == pytest.approx(expected)


def fused_product() -> bytes:
    """A file of one operator that quantises, multiplies by a weight and rescales."""
    weight = np.random.default_rng(0).integers(-9, 9, (16, 5), dtype=np.int8)
    fused = message(
        *((1, name) for name in ("left", "weight", "scale")),
        *((2, "out"), (3, "stage/product"), (4, "DynamicQuantizeMatMul"), (7, "com.microsoft")),
    )
    graph = message(
        *((1, fused), (2, "g")),
        (5, message((1, 16), (1, 5), (2, INT8), (8, "weight"), (9, weight.tobytes()))),
        (5, message((2, FLOAT), (8, "scale"), (9, np.float32(0.5).tobytes()))),
        *((11, value_info("left", FLOAT, 3, 16)), (12, value_info("out", FLOAT, 3, 5))),
    )
    versions = [(8, message((1, ""), (2, 18))), (8, message((1, "com.microsoft"), (2, 1)))]
    return message((1, 8), (7, graph), *versions)


def test_a_product_runs_alone_with_its_quantisation_and_the_bare_product_beside_it(tmp_path: Path) -> None:
    rewritten = tmp_path / "rewritten.onnx"
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(rewritten)
    ort.InferenceSession(fused_product(), options, providers=["CPUExecutionProvider"])
    graph = read_rewritten(rewritten.read_bytes())
    told = event("stage/product", "DynamicQuantizeMatMul", 10, [[3, 16], []], [3, 5])
    found = measure_alone(graph, told, 1, seconds=0.01)
    assert found is not None
    assert min(found.quantising_ms, found.product_ms, found.rescaling_ms) >= 0
    unknown = event("stage/other", "DynamicQuantizeMatMul", 10, [[3, 16], []], [3, 5])
    assert measure_alone(graph, unknown, 1, seconds=0) is None
    wrong = event("stage/product", "DynamicQuantizeMatMul", 10, [[3, 17], []], [3, 5])
    assert measure_alone(graph, wrong, 1, seconds=0) is None


def explained(path: Path, length: int, *, batch: int = 1) -> tuple[Explanation, float]:
    """An explanation, and the multiply-accumulates that the benchmark counts, 10^9."""
    model = read_model(path)
    vocabulary = vocabulary_for(model, classes=5)
    (found,) = explain(model, "tiny", (length,), vocabulary, batch=batch)
    return found, OnnxContender(model, "tiny", "cpu", vocabulary).macs(batch, length) / 1e9


@pytest.mark.usefixtures("brief_ceiling")
@pytest.mark.parametrize("name", ["tiny_baked", "tiny_open", "tiny_boundary_map", "tiny_actionformer"])
def test_a_real_run_is_explained_for_every_network(name: str) -> None:
    found, gmacs = explained(DATA / f"{name}.onnx", 64)
    assert sum(part.ms for part in found.parts) == pytest.approx(found.run_ms)
    noise = next(part.share for part in found.parts if part.kind is PartKind.NOISE)
    assert -0.5 < noise < 0.9  # nothing is counted twice; a run of microseconds is noisy
    assert found.plain_ms > 0
    assert all(one.precision is Precision.FP32 for one in found.products)
    assert all(one.of_ceiling_alone is not None for one in found.products)  # each kernel ran alone
    assert sum(one.gmacs for one in found.products) == pytest.approx(gmacs)
