"""16-bit pair sums of x86 without VNNI: by hand, against onnxruntime, and ruled out by 7 bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper

from stale_edge_export.graphs.stale_spec import STALE_GRAPH
from stale_edge_export.quantization.activations import LARGEST_REDUCED
from stale_edge_export.quantization.int8 import Products, to_int8
from stale_edge_export.quantization.saturation import LARGEST_SUM, SMALLEST_SUM, emulate, saturating_product
from stale_edge_runtime.contract import Kind
from stale_edge_runtime.synthetic import clip_like_features

TinyExport = Callable[..., Path]
SIZES = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 4))


def bytes_of(shape: tuple[int, ...], dtype: type, low: int, high: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(dtype, shape, elements=st.integers(low, high))


def pairs(largest: int) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    return SIZES.flatmap(
        lambda n: st.tuples(
            bytes_of((n[0], n[1]), np.uint8, 0, 255), bytes_of((n[1], n[2]), np.int8, -largest, largest)
        )
    )


def slowly(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, int]:
    """The instruction, word by word."""
    result, cut = np.zeros((left.shape[0], right.shape[1]), np.int64), 0
    for row in range(left.shape[0]):
        for column in range(right.shape[1]):
            terms = [int(a) * int(b) for a, b in zip(left[row], right[:, column], strict=True)]
            for first in range(0, len(terms), 2):
                total = sum(terms[first : first + 2])
                kept = min(max(total, SMALLEST_SUM), LARGEST_SUM)
                cut += kept != total
                result[row, column] += kept
    return result, cut


@pytest.mark.parametrize(
    ("right", "found", "exact", "cut"),
    [
        ([127, 127], 32767, 64770, 1),
        ([-127, -127], -32768, -64770, 1),
        ([127, -127], 0, 0, 0),
        ([64, 64], 32640, 32640, 0),
        ([65, 64], 32767, 32895, 1),
        ([127, 127, 127], 32767 + 32385, 97155, 1),
        ([127, 127, 127, 127], 2 * 32767, 129540, 2),
    ],
)
def test_a_case_by_hand(right: list[int], found: int, exact: int, cut: int) -> None:
    left = np.full((1, len(right)), 255, np.uint8)
    product, wanted, count = saturating_product(left, np.array(right, np.int8)[:, None])
    assert (product.item(), wanted.item(), count) == (found, exact, cut)


@given(pairs(127))
def test_it_is_what_the_instruction_does(operands: tuple[np.ndarray, np.ndarray]) -> None:
    product, exact, cut = saturating_product(*operands)
    assert (product == slowly(*operands)[0]).all()
    assert cut == slowly(*operands)[1]
    assert (exact == operands[0].astype(np.int64) @ operands[1].astype(np.int64)).all()


@given(pairs(LARGEST_REDUCED))
def test_seven_bits_never_saturate(operands: tuple[np.ndarray, np.ndarray]) -> None:
    product, exact, cut = saturating_product(*operands)
    assert cut == 0
    assert (product == exact).all()


def test_seven_bits_cannot_saturate() -> None:
    assert 2 * 255 * LARGEST_REDUCED <= LARGEST_SUM < 2 * 255 * (LARGEST_REDUCED + 1)


def product_model(left: tuple[int, ...], right: tuple[int, ...]) -> onnx.ModelProto:
    shapes = {"a": (TensorProto.UINT8, left), "b": (TensorProto.INT8, right), "zero": (TensorProto.UINT8, [])}
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in shapes.items()]
    node = helper.make_node("MatMulInteger", ["a", "b", "zero"], ["y"], name="stage/MatMul_0_integer")
    output = helper.make_tensor_value_info("y", TensorProto.INT32, None)
    graph = helper.make_graph([node], "product", inputs, [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(
    ("left", "right"),
    [((3, 17), (17, 5)), ((1, 1), (1, 1)), ((2, 4, 33), (33, 7)), ((2, 4, 6), (2, 6, 3)), ((100, 512), (512, 64))],
)
def test_agrees_with_onnxruntime_where_nothing_saturates(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(left))
    model = product_model(left, right)
    feeds = {
        "a": rng.integers(0, 256, left).astype(np.uint8),
        "b": rng.integers(-64, 65, right).astype(np.int8),
        "zero": np.array(131, np.uint8),
    }
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(None, feeds)[0]
    seen = emulate(model, feeds)
    assert (seen.outputs[0] == wanted).all()
    assert not seen.products["stage/MatMul_0"].happens


def test_share_and_error_of_a_product() -> None:
    feeds = {
        "a": np.array([[255, 255], [1, 1]], np.uint8),
        "b": np.array([[127], [127]], np.int8),
        "zero": np.array(5, np.uint8),
    }
    seen = emulate(product_model((2, 2), (2, 1)), feeds)
    exact = np.array([64770, 254]) - 5 * 254
    assert seen.outputs[0].ravel().tolist() == [32767 - 5 * 254, exact[1]]
    found = seen.products["stage/MatMul_0"]
    assert found.share == 0.5
    assert found.relative_error == pytest.approx((64770 - 32767) / np.linalg.norm(exact))
    assert emulate(product_model((2, 2), (2, 1)), feeds, saturate=False).outputs[0].ravel().tolist() == exact.tolist()


@pytest.mark.parametrize("snippets", [1, 100, 257])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_a_seven_bit_file_is_the_same_everywhere(snippets: int, scale: float, tiny_export: TinyExport) -> None:
    model = onnx.load(tiny_export(Kind.BAKED))
    feeds = {"features": clip_like_features(2, snippets, 32) * np.float32(scale)}
    reduced = to_int8(model, Products.of(model, STALE_GRAPH.quantization), reduce_range=True)
    seen = emulate(reduced, feeds)
    assert set(seen.products) == set(Products.of(model, STALE_GRAPH.quantization))
    assert not any(item.happens for item in seen.products.values())
    session = ort.InferenceSession(reduced.SerializeToString(), providers=["CPUExecutionProvider"])
    masks = session.run(["masks"], feeds)[0]
    # A rounding that falls the other way moves one step of 127, no more.
    assert np.abs(seen.outputs[1] - masks).max() < 0.02


def test_eight_bits_saturate_and_the_outputs_show_it(tiny_export: TinyExport) -> None:
    model = onnx.load(tiny_export(Kind.BAKED))
    products = Products.of(model, STALE_GRAPH.quantization)
    feeds = {"features": clip_like_features(1, 100, 32)}
    made = to_int8(model, products)
    spoiled, exact = emulate(made, feeds), emulate(made, feeds, saturate=False)
    wrong = {name for name, item in spoiled.products.items() if item.happens}
    assert wrong & set(products.activations), "keys and values reach 127 beside weights of 255"
    assert np.abs(spoiled.outputs[1] - exact.outputs[1]).max() > 1e-3
