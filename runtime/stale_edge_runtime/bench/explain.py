"""Time of a forward by operator: operators by time, from a profiled run of its own.

Profiling slows a run down, so its times are never those of the benchmark; what it tells are shares. Nodes of our files
carry the stage of the network in their name, as in `temporal/MatMul_1`, and keep it through onnxruntime's own fusions.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stale_edge_runtime.bench.macs import KERNEL, model_feeds
from stale_edge_runtime.bench.profiles import end_profile
from stale_edge_runtime.contract import BLOCKWISE
from stale_edge_runtime.session import open_session
from stale_edge_runtime.synthetic import clip_like_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from stale_edge_runtime.bench.vocabulary import Vocabulary
    from stale_edge_runtime.model_file import ModelFile

WARM_RUNS, RUNS = 2, 5
BETWEEN = "between"
"""Stage of what belongs to none: operators that onnxruntime or the quantiser added between two."""

_Events = list[dict[str, Any]]


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


def explain(
    model: ModelFile, name: str, lengths: Sequence[int], vocabulary: Vocabulary, *, threads: int = 1, batch: int = 1
) -> list[Explanation]:
    """Profile a file on the CPU at some lengths.

    Args:
        model: The file.
        name: Name in tables.
        lengths: Snippets of a video.
        vocabulary: Text inputs for a file that does not have its classes inside.
        threads: Threads inside an operator.
        batch: Videos in one forward.

    Raises:
        UnavailableError: There are not that many threads here.
        BadDataError: Onnxruntime does not accept the file.
    """
    with tempfile.TemporaryDirectory(prefix="stale-edge-") as folder:
        session = open_session(model, threads=threads, profile=Path(folder) / "profile")
        for length in lengths:
            feeds = model_feeds(model, clip_like_features(batch, length, model.info.feature_dim), vocabulary)
            for _ in range(WARM_RUNS + RUNS):
                session.run(None, feeds)
        runs = _runs(end_profile(session))
    every = WARM_RUNS + RUNS
    measured = [runs[place * every + WARM_RUNS : (place + 1) * every] for place in range(len(lengths))]
    return [
        Explanation(
            *(name, threads, batch, length),
            run_ms=float(np.median([run[-1]["dur"] for run in group])) / 1e3,
            stages=_shares(group, lambda event: (_stage(event), "")),
            operators=_shares(group, lambda event: (_stage(event), event["args"]["op_name"])),
        )
        for length, group in zip(lengths, measured, strict=True)
    ]


def _runs(events: Iterable[dict[str, Any]]) -> list[_Events]:
    """Operators of each run, and the run itself as the last."""
    runs: list[_Events] = [[]]
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


def _shares(runs: Sequence[_Events], key: Callable[[dict[str, Any]], tuple[str, str]]) -> tuple[Share, ...]:
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
