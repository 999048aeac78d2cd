"""Longest video within a time, by measured bisection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from stale_edge_runtime.bench.length_law import by_setting
from stale_edge_runtime.bench.runner import time_contenders
from stale_edge_runtime.contract import MIN_SNIPPETS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stale_edge_runtime.bench.measure import Contender
    from stale_edge_runtime.bench.records import Row
    from stale_edge_runtime.bench.runner import Plan

PRECISION = 0.01
"""Bisection ends when the bracket is this share of its length wide, or one snippet."""
STEP_SECONDS = 0.5
"""Longest measuring time of one step."""


class Reach(StrEnum):
    """Outcome of the search."""

    MEASURED = "measured"  # a longer video was measured and does not fit
    BEYOND = "beyond"  # the longest video that the file takes still fits
    NONE = "none"  # not even the shortest one fits


@dataclass(frozen=True)
class LongestVideo:
    """Longest video that a contender finishes within a time."""

    model: str
    """Name of the contender."""
    provider: str
    """Provider it ran on."""
    threads: int
    """Threads inside one operator."""
    batch: int
    """Videos in one forward."""
    budget_ms: float
    """Time limit of one forward."""
    snippets: int
    """Longest measured video whose median fits; 0 where none does."""
    high: int | None
    """Shortest measured video above `snippets` whose median does not fit; none where all do."""

    @property
    def reach(self) -> Reach:
        """Outcome of the search."""
        if self.high is None:
            return Reach.BEYOND
        return Reach.MEASURED if self.snippets else Reach.NONE


def find_budgets(
    contenders: Sequence[Contender],
    rows: Sequence[Row],
    plan: Plan,
    budget_ms: float,
    longest: int,
    step: Callable[[str], None] = lambda _text: None,
) -> list[LongestVideo]:
    """Measure the longest video of every contender that takes one in one piece, at each thread count and batch.

    Args:
        contenders: Contenders to measure.
        rows: Measured configurations, where the search begins.
        plan: Seeds and effort of a step.
        budget_ms: Time limit of one forward.
        longest: Most snippets that all contenders take.
        step: Called after each contender, with its name.

    Raises:
        BadDataError: A file does not run.
    """
    by_name = {contender.name: contender for contender in contenders}
    effort = replace(plan.effort, seconds=min(plan.effort.seconds, STEP_SECONDS))
    step_plan = replace(plan, effort=effort)
    found = []
    for key, group in by_setting(rows).items():
        model, _, threads, batch = key

        def measure(snippets: int, model: str = model, threads: int = threads, batch: int = batch) -> float:
            (timing,) = time_contenders([by_name[model]], step_plan, threads, batch, snippets)
            return float(np.median(timing.samples_ms))

        known = {row.snippets: row.median_ms for row in group}
        found.append(LongestVideo(*key, budget_ms, *longest_within(measure, known, budget_ms, longest)))
        step(model)
    return found


def longest_within(
    measure: Callable[[int], float], known: Mapping[int, float], budget_ms: float, longest: int
) -> tuple[int, int | None]:
    """Bracket the longest length within a time, by doubling and bisection.

    Args:
        measure: Returns the milliseconds of a length.
        known: Milliseconds of lengths that were measured before.
        budget_ms: Time limit.
        longest: Largest length to try.

    Returns:
        The longest length that fits (0 where none does), and the shortest above it that does not (None where
        `longest` fits).
    """
    high = min((snippets for snippets, took in known.items() if took > budget_ms), default=None)
    fitting = (snippets for snippets, took in known.items() if took <= budget_ms)
    low = max((snippets for snippets in fitting if high is None or snippets < high), default=MIN_SNIPPETS - 1)
    while high is None and low < longest:
        tried = min(max(2 * low, MIN_SNIPPETS), longest)
        low, high = (tried, None) if measure(tried) <= budget_ms else (low, tried)
    while high is not None and high - low > max(1, PRECISION * low):
        middle = (low + high) // 2
        low, high = (middle, high) if measure(middle) <= budget_ms else (low, middle)
    return low, high
