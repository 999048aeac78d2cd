"""Parts of a forward: products by shape, what each reaches of the ceiling, and what is lost to shapes and to passes.

A product of bytes that onnxruntime fused with its quantisation and its rescaling is timed again alone: the operator
itself, its quantisation, and the bare product, on operands of the same sizes. Its time in the run is split in these
shares. Sums are exact: every operator is in one part, and what the medians leave of the run is noise.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stale_edge_runtime.bench.profiles import KERNEL, end_profile
from stale_edge_runtime.bench.rewritten_graph import INTEGER_PRODUCTS, made_node, typed_shape
from stale_edge_runtime.contract import Precision
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.session import ORT_ERRORS, open_content

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from stale_edge_runtime.bench.rewritten_graph import RewrittenGraph, RunNode, TypedShape

FLOAT_PRODUCTS: Final = frozenset({"MatMul", "Gemm", "Conv", "FusedMatMul", "FusedGemm", "FusedConv"})
"""Operators that multiply floats, onnxruntime's fused ones among them."""
_CONVOLUTIONS: Final = frozenset({"Conv", "FusedConv", "ConvInteger", "QLinearConv"})
_OPERANDS: Final = {
    "DynamicQuantizeMatMul": (0, 1, None, 3),
    "MatMulIntegerToFloat": (0, 1, 4, 5),
    "QLinearMatMul": (0, 3, 2, 5),
}
"""Places of the two matrices and of their zero points in the operators that do more than multiply."""
_RIGHT: Final = {"QLinearMatMul": 3, "QLinearConv": 3}
_REFUSALS: Final[tuple[type[Exception], ...]] = (BadDataError, *ORT_ERRORS)
SECONDS: Final = 0.1
MIN_RUNS: Final = 10
_WHOLE, _QUANTISE, _PRODUCT = "whole", "alone_quantise", "alone_product"

Events = list[dict[str, Any]]


class PartKind(StrEnum):
    """Part of a forward."""

    ARITHMETIC = "arithmetic at the ceiling"
    SHAPES = "lost to shapes"
    RUN = "slower in the run than alone"
    QUANTISING = "quantising"
    RESCALING = "rescaling"
    PASSES = "other passes over memory"
    OUTSIDE = "outside operators"
    NOISE = "disturbed by other work"


@dataclass(frozen=True)
class Part:
    """One part of a forward; all of them sum to it."""

    kind: PartKind
    """Part of the forward."""
    operator: str
    """Type of operator, of other passes; empty otherwise."""
    ms: float
    """Time in one forward; below zero where a product is faster than the ceiling, or than alone."""
    share: float
    """Share of the forward."""


@dataclass(frozen=True)
class ProductShape:
    """Kernel and sizes of a product."""

    operator: str
    """Type of operator, as onnxruntime runs it."""
    precision: Precision
    """int8, or fp32 for all floats: what a CPU multiplies."""
    rows: int
    """Rows of the left matrix."""
    inner: int
    """Columns of the left matrix, which are rows of the right one."""
    columns: int
    """Columns of the right matrix."""
    matrices: int
    """Products of this shape in one call."""
    constant: bool
    """Whether the right matrix is a weight, which is packed before the run."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one call."""
        return self.rows * self.inner * self.columns * self.matrices


@dataclass(frozen=True)
class Alone:
    """Best times of a product on its own, in milliseconds a call."""

    quantising_ms: float
    """Quantisation; 0 where the operator has none."""
    product_ms: float
    """The bare product."""
    rescaling_ms: float
    """Rest of the operator."""


@dataclass(frozen=True)
class ProductShare:
    """All products of one shape and kernel in a forward."""

    operator: str
    """Type of operator, as onnxruntime runs it."""
    precision: Precision
    """int8, or fp32 for all floats: what a CPU multiplies, and the ceiling that it is held against."""
    stages: tuple[str, ...]
    """Parts of the network that they are in."""
    rows: int
    """Rows of the left matrix."""
    inner: int
    """Columns of the left matrix."""
    columns: int
    """Columns of the right matrix."""
    is_constant: bool
    """Whether the right matrix is a weight."""
    times: int
    """Number of them in one forward."""
    gmacs: float
    """Multiply-accumulates of all, 10^9."""
    ms: float
    """Time of all in one forward: the three that follow."""
    quantising_ms: float
    """Quantising in the operator itself."""
    product_ms: float
    """Multiplying."""
    rescaling_ms: float
    """Rescaling in the operator itself."""
    alone_ms: float | None
    """Multiplying, measured alone; none where the operator does not run alone."""
    of_ceiling: float
    """Share of the product ceiling that multiplying reaches in the run."""
    of_ceiling_alone: float | None
    """The same, measured alone."""


def break_down(
    runs: Sequence[Events],
    graph: RewrittenGraph,
    ceilings: Mapping[Precision, float],
    alone: Callable[[ProductShape, dict[str, Any]], Alone | None],
    stage: Callable[[dict[str, Any]], str],
) -> tuple[tuple[ProductShare, ...], tuple[Part, ...]]:
    """Split a forward into its products by shape, and into parts that sum to its median.

    Args:
        runs: Operators of each run, and the run itself as the last.
        graph: The graph that was run.
        ceilings: Multiply-accumulates a second, 10^9, of each precision.
        alone: Times a product alone, of which it gets the shape and an event.
        stage: Tells the stage of an event.

    Returns:
        Products, most time first, and parts.
    """
    quantising, rescaling = graph.helpers()
    keys: list[ProductShape | PartKind | str] = []
    for event in runs[0][:-1]:
        name, operator = str(event["name"]).removesuffix(KERNEL), event["args"]["op_name"]
        shape = product_shape(graph, event)
        helper = PartKind.QUANTISING if name in quantising else PartKind.RESCALING if name in rescaling else operator
        keys.append(shape or helper)
    # Medians of single operators: other work on the machine hits few of them in each run, and most runs somewhere.
    calls_ms = np.array([[event["dur"] / 1e3 for event in run[:-1]] for run in runs])
    runs_ms = np.array([run[-1]["dur"] / 1e3 for run in runs])
    medians: dict[ProductShape | PartKind | str, float] = defaultdict(float)
    for key, ms in zip(keys, np.median(calls_ms, axis=0), strict=True):
        medians[key] += float(ms)
    medians[PartKind.OUTSIDE] = float(np.median(runs_ms - calls_ms.sum(axis=1)))
    products = []
    for key in [key for key in medians if isinstance(key, ProductShape)]:
        events = [event for other, event in zip(keys, runs[0], strict=False) if other == key]
        stages = tuple(dict.fromkeys(map(stage, events)))
        split = alone(key, events[0])
        products.append(_share(key, stages, len(events), medians[key], split, ceilings[key.precision]))
    ordered = sorted(products, key=lambda one: -one.ms)
    return tuple(ordered), tuple(_parts(ordered, medians, float(np.median(runs_ms)), ceilings))


def _share(
    key: ProductShape, stages: tuple[str, ...], calls: int, ms: float, alone: Alone | None, ceiling: float
) -> ProductShare:
    gmacs = key.macs * calls / 1e9
    whole = alone.quantising_ms + alone.product_ms + alone.rescaling_ms if alone else 1.0
    quantising, rescaling = (alone.quantising_ms / whole, alone.rescaling_ms / whole) if alone else (0.0, 0.0)
    product_ms = ms * (1 - quantising - rescaling)
    alone_ms = alone.product_ms * calls if alone else None
    ideal_ms = gmacs / ceiling * 1e3
    return ProductShare(
        operator=key.operator,
        precision=key.precision,
        stages=stages,
        rows=key.rows,
        inner=key.inner,
        columns=key.columns,
        is_constant=key.constant,
        times=calls * key.matrices,
        gmacs=gmacs,
        ms=ms,
        quantising_ms=ms * quantising,
        product_ms=product_ms,
        rescaling_ms=ms * rescaling,
        alone_ms=alone_ms,
        of_ceiling=_over(ideal_ms, product_ms),
        of_ceiling_alone=None if alone_ms is None else _over(ideal_ms, alone_ms),
    )


def _over(ms: float, other_ms: float) -> float:
    """Divide two times; a profile rounds to microseconds, and the smallest products to none."""
    return ms / max(other_ms, 1e-3)


def _parts(
    products: Sequence[ProductShare],
    medians: Mapping[ProductShape | PartKind | str, float],
    run_ms: float,
    ceilings: Mapping[Precision, float],
) -> list[Part]:
    ideal = sum(one.gmacs / ceilings[one.precision] * 1e3 for one in products)
    alone = sum(one.product_ms if one.alone_ms is None else one.alone_ms for one in products)
    passes = {key: ms for key, ms in medians.items() if not isinstance(key, ProductShape | PartKind)}
    found: list[tuple[PartKind, str, float]] = [
        (PartKind.ARITHMETIC, "", ideal),
        (PartKind.SHAPES, "", alone - ideal),
        (PartKind.RUN, "", sum(one.product_ms for one in products) - alone),
        (PartKind.QUANTISING, "", sum(one.quantising_ms for one in products) + medians.get(PartKind.QUANTISING, 0.0)),
        (PartKind.RESCALING, "", sum(one.rescaling_ms for one in products) + medians.get(PartKind.RESCALING, 0.0)),
        *((PartKind.PASSES, name, passes[name]) for name in sorted(passes, key=lambda name: (-passes[name], name))),
        (PartKind.OUTSIDE, "", medians[PartKind.OUTSIDE]),
        (PartKind.NOISE, "", run_ms - sum(medians.values())),
    ]
    return [Part(kind, operator, ms, ms / run_ms) for kind, operator, ms in found]


def product_shape(graph: RewrittenGraph, event: Mapping[str, Any]) -> ProductShape | None:
    """Read the shape of a product in the profile; none where an operator is no product.

    Args:
        graph: The graph that was run.
        event: An operator of the profile.
    """
    details = event["args"]
    operator = details["op_name"]
    if operator not in FLOAT_PRODUCTS and operator not in INTEGER_PRODUCTS:
        return None
    left, out = typed_shape(details["input_type_shape"][0])[1], typed_shape(details["output_type_shape"][0])[1]
    node = graph.nodes.get(str(event["name"]).removesuffix(KERNEL))
    right, constant = _right(graph, node, details)
    precision = Precision.INT8 if operator in INTEGER_PRODUCTS else Precision.FP32
    if operator in _CONVOLUTIONS:  # [batch, channels, places] by [channels out, channels in a group, kernel]
        sizes = (math.prod(out) // out[1], math.prod(right[1:]), out[1], 1)
    elif len(left) < 2 or len(out) < 2:
        sizes = (math.prod(out), left[-1], 1, 1)
    else:  # the left matrix may be transposed: its elements over the rows of the output are its inner size
        inner = math.prod(left[-2:]) // max(1, out[-2])
        flat = len(right) <= 2
        sizes = (math.prod(out[:-1]) if flat else out[-2], inner, out[-1], 1 if flat else math.prod(out[:-2]))
    return ProductShape(operator, precision, *sizes, constant)


def _right(graph: RewrittenGraph, node: RunNode | None, details: Mapping[str, Any]) -> tuple[tuple[int, ...], bool]:
    """Sizes of the right operand, and whether it is a weight; a packed one is not in the profile."""
    if node is None:
        listed = details["input_type_shape"]
        return (typed_shape(listed[1])[1], False) if len(listed) > 1 else ((), True)
    name = node.inputs[_RIGHT.get(node.operator, 1)]
    return graph.input_shapes(node, details["input_type_shape"])[name][1], name in graph.constants


def measure_alone(
    graph: RewrittenGraph, event: Mapping[str, Any], threads: int, *, seconds: float = SECONDS
) -> Alone | None:
    """Time a product alone, in a session like that of the run, and its quantisation and bare product beside it.

    Args:
        graph: The graph that was run.
        event: One of its products in the profile.
        threads: Threads inside the operator.
        seconds: Time to keep trying; the best run counts.

    Returns:
        None where it does not run alone.
    """
    node = graph.nodes.get(str(event["name"]).removesuffix(KERNEL))
    if node is None:
        return None
    content, inputs = graph.alone(*_lone_nodes(graph, node, event))
    generator = np.random.default_rng(0)
    feeds = {name: _values(generator, *typed) for name, typed in inputs.items()}
    try:
        with tempfile.TemporaryDirectory(prefix="stale-edge-") as folder:
            session = open_content(content, threads=threads, profile=Path(folder) / "profile")
            runs, end = 0, time.perf_counter() + seconds
            while runs < MIN_RUNS or time.perf_counter() < end:
                session.run(None, feeds)
                runs += 1
            events = end_profile(session)
    except _REFUSALS:
        return None
    best: dict[str, float] = {}
    for one in events:
        if str(one["name"]).endswith(KERNEL):
            name = str(one["name"]).removesuffix(KERNEL)
            name = name if name in {_QUANTISE, _PRODUCT} else _WHOLE
            best[name] = min(best.get(name, math.inf), one["dur"] / 1e3)
    return split_alone(best[_WHOLE], best.get(_QUANTISE, 0.0), best.get(_PRODUCT))


def split_alone(whole_ms: float, quantise_ms: float, product_ms: float | None) -> Alone:
    """Split the time of an operator by its parts measured apart; what they leave is rescaling.

    Args:
        whole_ms: Time of the operator.
        quantise_ms: Time of its quantisation, 0 where it has none.
        product_ms: Time of the bare product; none where the operator does nothing else.
    """
    if product_ms is None:
        return Alone(0.0, whole_ms, 0.0)
    apart = quantise_ms + product_ms
    scale = min(1.0, whole_ms / apart) if apart else 1.0  # together they may take less than apart
    return Alone(quantise_ms * scale, product_ms * scale, max(0.0, whole_ms - apart))


def _lone_nodes(
    graph: RewrittenGraph, node: RunNode, event: Mapping[str, Any]
) -> tuple[list[RunNode], dict[str, TypedShape]]:
    """Choose the operators to time for a product, and sizes of what they take."""
    shapes = graph.input_shapes(node, event["args"]["input_type_shape"])
    if node.operator not in _OPERANDS:
        return [node], shapes
    left, right, left_zero, right_zero = _OPERANDS[node.operator]
    names = dict(enumerate(node.inputs))
    nodes, matrix, zero = [node], names[left], "" if left_zero is None else names.get(left_zero, "")
    if left_zero is None:
        matrix, zero = "alone_bytes", "alone_zero"
        nodes.append(made_node("DynamicQuantizeLinear", [names[left]], [matrix, "alone_scale", zero], _QUANTISE))
    operands = [matrix, names[right], zero, names.get(right_zero, "")]
    while not operands[-1]:
        operands.pop()
    return [*nodes, made_node("MatMulInteger", operands, ["alone_sums"], _PRODUCT)], shapes


def _values(generator: np.random.Generator, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Make up an operand; a scale or zero point is a small number of its type."""
    if kind in {"int8", "uint8"}:
        info = np.iinfo(kind)
        return generator.integers(info.min // 2, info.max // 2 + 1, shape, dtype=kind)
    return np.asarray(generator.uniform(0.01, 1.0, shape)).astype(kind)
