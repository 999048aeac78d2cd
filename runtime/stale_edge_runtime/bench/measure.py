"""Timing contenders against each other: warmed up, interleaved, never alone.

Disturbances of a machine come and go over seconds. Contenders that are compared therefore take turns, in the order
A B B A, so that each meets the same disturbances and a slow drift cancels out.
"""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from stale_edge_runtime.windows import WindowPlan


class Contender(Protocol):
    """Network on some engine."""

    @property
    def name(self) -> str:
        """Name in tables; no two contenders share one."""

    @property
    def kind(self) -> str:
        """Inputs besides features."""

    @property
    def engine(self) -> str:
        """Library that runs it."""

    @property
    def precision(self) -> str:
        """Number format of its products: a `Precision`, or bf16."""

    @property
    def provider(self) -> str:
        """Provider it runs on."""

    @property
    def feature_dim(self) -> int:
        """Width of the features it takes."""

    @property
    def windows(self) -> WindowPlan | None:
        """Windows that it cuts a video into; none where it takes one in one piece."""

    def prepare(self, features: NDArray[np.float32], threads: int) -> Callable[[], Sequence[Any]]:
        """Make it ready for one input.

        Args:
            features: [batch, snippets, feature_dim].
            threads: Threads inside an operator.

        Returns:
            A function that runs one forward and returns its outputs, class logits first.
        """

    def macs(self, batch: int, snippets: int) -> int | None:
        """Multiply-accumulates of one forward; none where they cannot be counted."""

    def cold_start_words(self, threads: int, batch: int, snippets: int) -> Sequence[str]:
        """Module and arguments of the process that measures its cold start."""


@dataclass(frozen=True)
class Effort:
    """Measuring time."""

    seconds: float = 2.0
    """Time for each contender at each configuration, shared by all that take turns."""
    runs: int | None = None
    """Exact number of runs of each contender instead."""
    rounds: int | None = None
    """Exact number of turns of each contender instead; a fast one still runs several times in each."""
    warm_up: bool = True
    """Run until it stops improving before anything counts."""
    min_rounds: int = 6
    """Fewest turns of each contender, however slow; even, so that every A B has its B A."""
    turn_s: float = 0.05
    """A fast contender runs several times in one turn, up to about this long."""
    turn_share: float = 0.2
    """Share of the slowest contender's run that a turn may take, where that is longer."""
    max_turn_runs: int = 16
    """Most runs in one turn."""
    max_rounds: int = 200
    """Most turns of each contender, however fast."""


@dataclass(frozen=True)
class Timing:
    """Measured runs of one contender at one configuration."""

    samples_ms: NDArray[np.float64]
    """[rounds, runs per round]."""
    warmup_runs: int
    """Forwards before them."""


WARM_PATIENCE = 3
WARM_GAIN = 0.98
MAX_WARM_RUNS = 50


def time_together(
    forwards: Sequence[Callable[[], object]], effort: Effort, *, best_s: Sequence[float] | None = None
) -> list[Timing]:
    """Warm up each contender, then let them take turns.

    Args:
        forwards: One function per contender that runs it once.
        effort: Measuring time.
        best_s: Best time of a run of each, in seconds, where they are warm already from other inputs of this size.

    Returns:
        Timings in the order of `forwards`, all with the same number of rounds.
    """
    with _no_garbage_collection():
        if best_s is not None:
            warm = [(0, best) for best in best_s]
        else:
            warm = [warm_up(forward, effort.seconds) if effort.warm_up else (0, 0.0) for forward in forwards]
        turns = _turn_runs([best_s for _, best_s in warm], effort)
        rounds: list[list[list[float]]] = [[] for _ in forwards]
        deadline = time.perf_counter() + effort.seconds * len(forwards)
        done = 0
        while not _enough(done, time.perf_counter() >= deadline, effort):
            order = range(len(forwards)) if done % 2 == 0 else reversed(range(len(forwards)))
            for index in order:
                rounds[index].append([time_ms(forwards[index]) for _ in range(turns[index])])
            done += 1
    return [Timing(np.array(samples), runs) for samples, (runs, _) in zip(rounds, warm, strict=True)]


def warm_up(forward: Callable[[], object], seconds: float) -> tuple[int, float]:
    """Run until three runs in a row bring no new best worth mentioning, or time is up.

    Args:
        forward: Runs the contender once.
        seconds: Longest time to spend; at least two runs are made.

    Returns:
        Number of runs, and the best time of one in seconds.
    """
    best, stale, runs = float("inf"), 0, 0
    end = time.perf_counter() + seconds
    while stale < WARM_PATIENCE and runs < MAX_WARM_RUNS and (runs < 2 or time.perf_counter() < end):
        took = time_ms(forward) / 1e3
        stale = 0 if took < best * WARM_GAIN else stale + 1
        best = min(best, took)
        runs += 1
    return runs, best


def _enough(rounds: int, time_is_up: bool, effort: Effort) -> bool:
    exact = effort.rounds if effort.runs is None else effort.runs
    if exact is not None:
        return rounds >= exact
    if rounds % 2:  # a turn order is always followed by its mirror image
        return False
    return rounds >= effort.max_rounds or (time_is_up and rounds >= effort.min_rounds)


def _turn_runs(best_s: Sequence[float], effort: Effort) -> list[int]:
    """Runs of each contender in one turn, from the best time of each."""
    if effort.runs is not None:
        return [1] * len(best_s)
    turn_s = max(effort.turn_s, effort.turn_share * max(best_s))
    return [max(1, min(effort.max_turn_runs, round(turn_s / max(best, 1e-9)))) for best in best_s]


def time_ms(forward: Callable[[], object]) -> float:
    """Time one call.

    Args:
        forward: Function to call.
    """
    begin = time.perf_counter_ns()
    forward()
    return (time.perf_counter_ns() - begin) / 1e6


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep the collector out of the timings."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
