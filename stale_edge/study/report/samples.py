"""Measurements of a run sorted into samples, and what a sample says."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from stale_edge_runtime.bench.statistics import Ratio, ratio_of_medians

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import TypeVar

    from numpy.typing import NDArray

    from stale_edge.study.design import Measurement
    from stale_edge.study.store import StudyRun

    Key = TypeVar("Key", bound=Hashable)

Rounds: TypeAlias = tuple[tuple[float, ...], ...]
"""Values, [rounds, runs]."""


@dataclass(frozen=True)
class Spread:
    """The middle of a sample and how far it reaches."""

    middle: float
    """Mean or median."""
    low: float
    """Mean less the standard deviation, or the lower quartile; the middle where there is one value only."""
    high: float
    """The same upwards."""
    count: int
    """Values."""


class Sample:
    """All values of one metric under the same factors."""

    def __init__(self) -> None:
        self._rounds: dict[int, dict[int, float]] = defaultdict(dict)

    def add(self, measurement: Measurement) -> None:
        """Take one value in."""
        runs = self._rounds[measurement.repeat]
        runs[measurement.run if measurement.run not in runs else max(runs) + 1] = measurement.value

    def values(self) -> NDArray[np.float64]:
        """Return all values in the order of their repetitions."""
        return np.array([value for runs in self._rounds.values() for value in runs.values()])

    def mean(self, scale: float = 1.0) -> Spread:
        """Mean and sample standard deviation.

        Args:
            scale: Factor to multiply with.
        """
        values = scale * self.values()
        middle = float(values.mean())
        deviation = float(values.std(ddof=1)) if values.size > 1 else 0.0
        return Spread(middle, middle - deviation, middle + deviation, values.size)

    def median(self, scale: float = 1.0) -> Spread:
        """Median and quartiles.

        Args:
            scale: Factor to multiply with.
        """
        values = scale * self.values()
        low, middle, high = (float(part) for part in np.quantile(values, (0.25, 0.5, 0.75)))
        return Spread(middle, low, high, values.size)

    def rounds(self) -> tuple[tuple[int, ...], Rounds]:
        """Names of the rounds and their values, [rounds, runs].

        A round is a repetition; with one repetition only, each of its runs is a round. Where repetitions have different
        numbers of runs, the median of each stands for it.
        """
        if len(self._rounds) == 1:
            runs = next(iter(self._rounds.values()))
            order = tuple(sorted(runs))
            return order, tuple((runs[number],) for number in order)
        order = tuple(sorted(self._rounds))
        rows = tuple(tuple(self._rounds[number].values()) for number in order)
        if len({len(row) for row in rows}) > 1:
            rows = tuple((float(np.median(row)),) for row in rows)
        return order, rows


def samples(run: StudyRun, metric: str, key: Callable[[Measurement], Key]) -> dict[Key, Sample]:
    """Samples of a metric, in the order in which they were measured.

    Args:
        run: Run of the measurements.
        metric: Name of the metric.
        key: Factors that measurements of one sample share.
    """
    found: dict[Key, Sample] = {}
    for measurement in run.measurements:
        if measurement.metric == metric:
            found.setdefault(key(measurement), Sample()).add(measurement)
    return found


def ratio(slow: Sample, fast: Sample) -> tuple[Ratio, bool]:
    """Compute how many times longer one takes than the other, and whether the interval is one.

    Without the same rounds on both sides, or with a single one, there is nothing to draw from: the ratio of the medians
    stands alone.
    """
    value = float(np.median(slow.values()) / np.median(fast.values()))
    (ours, slow_rounds), (theirs, fast_rounds) = slow.rounds(), fast.rounds()
    if ours != theirs or len(ours) == 1:
        return Ratio(value, value, value), False
    drawn = _drawn(slow_rounds, fast_rounds)
    return Ratio(value, min(value, drawn.low), max(value, drawn.high)), True


@lru_cache(maxsize=4096)
def _drawn(slow: Rounds, fast: Rounds) -> Ratio:
    """Compute the ratio with its interval; cached, since tables, figures and headlines ask for the same ones."""
    return ratio_of_medians(np.array(slow), np.array(fast))
