"""Time of a forward by operator: operators by time, from a profiled run of its own.

Profiling slows a run down, so its times are never those of the benchmark; what it tells are shares. Nodes of our files
carry the stage of the network in their name, as in `temporal/MatMul_1`, and keep it through onnxruntime's own fusions.
`product_parts` goes into the products.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stale_edge_runtime.bench.ceiling import measure_ceiling
from stale_edge_runtime.bench.macs import model_feeds
from stale_edge_runtime.bench.measure import time_ms
from stale_edge_runtime.bench.product_parts import FLOAT_PRODUCTS, Events, break_down, measure_alone
from stale_edge_runtime.bench.profiles import KERNEL, end_profile
from stale_edge_runtime.bench.rewritten_graph import INTEGER_PRODUCTS, read_rewritten
from stale_edge_runtime.contract import BLOCKWISE, Precision
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.formats.protobuf import WireError
from stale_edge_runtime.session import open_session
from stale_edge_runtime.synthetic import clip_like_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from stale_edge_runtime.bench.product_parts import Alone, Part, ProductShape, ProductShare
    from stale_edge_runtime.bench.rewritten_graph import RewrittenGraph
    from stale_edge_runtime.bench.vocabulary import Vocabulary
    from stale_edge_runtime.model_file import ModelFile

WARM_RUNS, MIN_RUNS, MAX_RUNS = 2, 5, 25
SECONDS = 1.0
"""Longest time for the runs of a length, beyond the fewest."""
BETWEEN = "between"
"""Stage of what belongs to none: operators that onnxruntime or the quantiser added between two."""


@dataclass(frozen=True)
class Share:
    """One stage, or one type of operator in a stage."""

    stage: str
    """Part of the network."""
    operator: str
    """Type of operator, as onnxruntime runs it; empty for a whole stage."""
    calls: int
    """Number of them in one forward."""
    ms: float
    """Time of all of them in one forward, median over the profiled runs."""
    share: float
    """Share of the time of all operators."""


@dataclass(frozen=True)
class Explanation:
    """Time by operator of one file at one length."""

    model: str
    """Name of the contender."""
    threads: int
    """Threads inside one operator."""
    batch: int
    """Videos in one forward."""
    snippets: int
    """Length of each."""
    run_ms: float
    """Median of a profiled forward; slower than a measured one."""
    stages: tuple[Share, ...]
    """Time by stage, most time first."""
    operators: tuple[Share, ...]
    """Time by stage and type of operator, most time first."""
    plain_ms: float
    """Median of a forward that is not profiled, in turn with the profiled ones."""
    products: tuple[ProductShare, ...]
    """Products by kernel and shape, most time first."""
    parts: tuple[Part, ...]
    """Parts that sum to `run_ms`."""


def explain(
    model: ModelFile,
    name: str,
    lengths: Sequence[int],
    vocabulary: Vocabulary,
    *,
    threads: int = 1,
    batch: int = 1,
    ceilings: Mapping[Precision, float] | None = None,
) -> list[Explanation]:
    """Profile a file on the CPU at some lengths.

    Args:
        model: The file.
        name: Name in tables.
        lengths: Snippets of a video.
        vocabulary: Text inputs for a file that does not have its classes inside.
        threads: Threads inside an operator.
        batch: Videos in one forward.
        ceilings: Product ceilings with that many threads, 10^9 multiply-accumulates a second; measured where missing.

    Raises:
        UnavailableError: There are not that many threads here.
        BadDataError: Onnxruntime does not accept the file, or writes its graph in an unknown form.
    """
    plain: list[list[float]] = []
    with tempfile.TemporaryDirectory(prefix="stale-edge-") as folder:
        rewritten = Path(folder) / "rewritten.onnx"
        session = open_session(model, threads=threads, profile=Path(folder) / "profile", rewritten=rewritten)
        try:
            graph = read_rewritten(rewritten.read_bytes())
        except (WireError, KeyError) as error:
            problem = f"is rewritten by onnxruntime in a form that is not known here ({error})"
            raise BadDataError(model.path, problem, "leave --explain out") from error
        unprofiled = open_session(model, threads=threads)
        for length in lengths:
            feeds = model_feeds(model, clip_like_features(batch, length, model.info.feature_dim), vocabulary)
            took: list[float] = []
            end = time.perf_counter() + SECONDS
            while len(took) < WARM_RUNS + (MIN_RUNS if time.perf_counter() >= end else MAX_RUNS):
                session.run(None, feeds)
                took.append(time_ms(partial(unprofiled.run, None, feeds)))
            plain.append(took)
        runs = iter(_runs(end_profile(session)))
    measured = [list(islice(runs, len(took)))[WARM_RUNS:] for took in plain]
    known = _ceilings(graph, threads, ceilings or {})
    times: dict[ProductShape, Alone | None] = {}

    def alone(shape: ProductShape, event: dict[str, Any]) -> Alone | None:
        if shape not in times:
            times[shape] = measure_alone(graph, event, threads)
        return times[shape]

    found = []
    for length, group, unprofiled_ms in zip(lengths, measured, plain, strict=True):
        products, parts = break_down(group, graph, known, alone, _stage)
        found.append(
            Explanation(
                *(name, threads, batch, length),
                run_ms=float(np.median([run[-1]["dur"] for run in group])) / 1e3,
                stages=_shares(group, lambda event: (_stage(event), "")),
                operators=_shares(group, lambda event: (_stage(event), event["args"]["op_name"])),
                plain_ms=float(np.median(unprofiled_ms[WARM_RUNS:])),
                products=products,
                parts=parts,
            )
        )
    return found


def _ceilings(graph: RewrittenGraph, threads: int, known: Mapping[Precision, float]) -> dict[Precision, float]:
    """Measure the ceilings of products in a graph that are not known yet."""
    kinds = {node.operator for node in graph.nodes.values()}
    wanted = {Precision.FP32: FLOAT_PRODUCTS, Precision.INT8: INTEGER_PRODUCTS}
    return {
        precision: known.get(precision) or measure_ceiling(precision, threads).gmacs_per_s
        for precision, operators in wanted.items()
        if kinds & operators
    }


def _runs(events: Iterable[dict[str, Any]]) -> list[Events]:
    """Operators of each run, and the run itself as the last."""
    runs: list[Events] = [[]]
    for event in events:
        if event["name"] == "model_run":  # comes after the operators of its run
            runs[-1].append(event)
            runs.append([])
        elif event["name"].endswith(KERNEL) and event["args"].get("op_name") != BLOCKWISE:
            # A blockwise operator only holds others, which are there themselves.
            runs[-1].append(event)
    return runs[:-1]


def _stage(event: dict[str, Any]) -> str:
    stage, found, _ = str(event["name"]).partition("/")
    return stage if found else BETWEEN


def _shares(runs: Sequence[Events], key: Callable[[dict[str, Any]], tuple[str, str]]) -> tuple[Share, ...]:
    """Median time of each group of operators over some runs."""
    calls: Counter[tuple[str, str]] = Counter(key(event) for event in runs[0][:-1])
    times: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * len(runs))
    for number, run in enumerate(runs):
        for event in run[:-1]:
            times[key(event)][number] += event["dur"] / 1e3
    medians = {group: float(np.median(values)) for group, values in times.items()}
    total = sum(medians.values()) or 1.0
    ordered = sorted(medians, key=lambda group: (-medians[group], group))
    return tuple(Share(*group, calls[group], medians[group], medians[group] / total) for group in ordered)
