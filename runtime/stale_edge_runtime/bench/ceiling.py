"""Rate of one matrix product on this machine: the measured ceiling that utilisation is a share of.

The product runs through onnxruntime with the same session options as a model, so that threads and kernels are those
of the measured files. The right operand is a constant, as weights are: onnxruntime packs it once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from stale_edge_runtime.bench.records import Ceiling
from stale_edge_runtime.bench.small_files import message, value_info
from stale_edge_runtime.contract import IR_VERSION, OPSET, Precision
from stale_edge_runtime.session import open_content

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS, INNER, COLUMNS = 512, 1024, 1024
SECONDS = 0.4
MIN_RUNS = 5

_FLOAT, _UINT8, _INT8, _INT32 = 1, 2, 3, 6  # onnx.TensorProto.DataType
_CEILINGS: dict[str, Precision] = {
    Precision.FP32: Precision.FP32,
    Precision.FP16: Precision.FP32,
    Precision.INT8: Precision.INT8,
}
_OPERATORS = {Precision.FP32: ("MatMul", _FLOAT, _FLOAT), Precision.INT8: ("MatMulInteger", _UINT8, _INT32)}


def ceiling_precision(precision: str) -> Precision | None:
    """Choose the precision whose ceiling products of `precision` are held against; none where it cannot be measured.

    An fp16 file is held against fp32: that is what its products run in on a CPU. Onnxruntime has no bf16 product.
    """
    return _CEILINGS.get(precision)


def measure_ceiling(precision: Precision, threads: int, *, seconds: float = SECONDS) -> Ceiling:
    """Time a large matrix product; the best run counts.

    Args:
        precision: fp32, or int8 for unsigned bytes times signed ones.
        threads: Threads inside the product.
        seconds: Time to keep trying.
    """
    left, right = _operands(precision)
    session = open_content(product_model(precision, right), subject="matrix product", threads=threads)
    best, runs, end = float("inf"), 0, time.perf_counter() + seconds
    while runs < MIN_RUNS or time.perf_counter() < end:
        begin = time.perf_counter()
        session.run(None, {"left": left})
        best = min(best, time.perf_counter() - begin)
        runs += 1
    return Ceiling(str(precision), threads, ROWS * INNER * COLUMNS / best / 1e9)


def product_model(precision: Precision, right: NDArray[np.float32] | NDArray[np.int8]) -> bytes:
    """Write an ONNX file of one product.

    Args:
        precision: fp32 (`MatMul`) or int8 (`MatMulInteger`).
        right: The constant right operand [inner, columns].

    Returns:
        The encoded file: input `left` [rows, inner], output `product` [rows, columns].
    """
    operator, left_type, product_type = _OPERATORS[precision]
    right_type = _INT8 if precision is Precision.INT8 else _FLOAT
    node = message((1, "left"), (1, "right"), (2, "product"), (4, operator))
    constant = message(*((1, size) for size in right.shape), (2, right_type), (8, "right"), (9, right.tobytes()))
    graph = message(
        (1, node),
        (2, "product"),
        (5, constant),
        (11, value_info("left", left_type, ROWS, right.shape[0])),
        (12, value_info("product", product_type, ROWS, right.shape[1])),
    )
    return message((1, IR_VERSION), (7, graph), (8, message((1, ""), (2, OPSET))))


def _operands(precision: Precision) -> tuple[NDArray[np.generic], NDArray[np.float32] | NDArray[np.int8]]:
    generator = np.random.default_rng(0)
    if precision is Precision.INT8:
        left = generator.integers(0, 256, (ROWS, INNER), dtype=np.uint8)
        return left, generator.integers(-127, 128, (INNER, COLUMNS), dtype=np.int8)
    return (
        generator.standard_normal((ROWS, INNER), dtype=np.float32),
        generator.standard_normal((INNER, COLUMNS), dtype=np.float32),
    )
