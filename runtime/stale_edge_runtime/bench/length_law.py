"""Law of time by video length: t = a + b T + c T², and what follows from it.

A forward has a part that does not depend on the length, one that grows with it (projections, scores) and one that grows
with its square (attention), and none of them can be negative. The law is a summary: kernels change with the size of
a product, so the interval of what it says holds both the spread of the timings and how far the law misses them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from stale_edge_runtime.bench.statistics import CONFIDENCE
from stale_edge_runtime.contract import MAX_SNIPPETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stale_edge_runtime.bench.records import Row

    FloatArray = NDArray[np.float64]

LENGTHS_TO_SAY = 3
"""A law of three numbers needs as many lengths."""
LENGTHS_TO_DOUBT = 4
"""With one more, the law can be wrong, and its uncertainty be told."""
MAX_EXTRAPOLATION = 2
"""Largest extrapolation, in multiples of the longest measured video."""
RELATIVE_FLOOR = 0.01
"""No length is taken to be known better than this: the law itself is not exact."""
RESAMPLES = 1000

Triple = tuple[float, float, float]


class Reach(StrEnum):
    """Position of an answer relative to the measured lengths."""

    MEASURED = "measured"  # between the shortest and the longest of them
    EXTRAPOLATED = "extrapolated"  # outside, and still believed
    BEYOND = "beyond"  # so far outside that only a bound is given
    NONE = "none"  # there is no such length


@dataclass(frozen=True)
class LengthLaw:
    """Time of one forward as a function of the length: a + b T + c T² milliseconds."""

    model: str
    """Name of the contender."""
    provider: str
    """Provider it ran on."""
    threads: int
    """Threads inside one operator."""
    batch: int
    """Videos in one forward."""
    lengths: tuple[int, ...]
    """Snippets that were measured."""
    coefficients_ms: Triple
    """a, b and c."""
    low_ms: Triple | None
    """Lower ends of their 95 % intervals; none with only three lengths."""
    high_ms: Triple | None
    """Upper ends."""
    misfit: float
    """Largest difference to a measured median, as a share of it."""
    draws_ms: FloatArray = field(repr=False, compare=False)
    """[draws, 3]: coefficients that the timings allow; the fit alone with only three lengths."""

    def at(self, snippets: float) -> float:
        """Milliseconds at a length."""
        return float(_powers(np.array([snippets]))[0] @ np.array(self.coefficients_ms))

    @property
    def horizon(self) -> int:
        """The longest video for which the law is believed."""
        return min(MAX_SNIPPETS, MAX_EXTRAPOLATION * max(self.lengths))


@dataclass(frozen=True)
class Budget:
    """The longest video that a contender finishes within a time."""

    model: str
    """Name of the contender."""
    provider: str
    """Provider it ran on."""
    threads: int
    """Threads inside one operator."""
    batch: int
    """Videos in one forward."""
    budget_ms: float
    """Time that it has."""
    snippets: int
    """The longest video; 0 where not even one snippet fits, and a lower bound where `reach` is beyond."""
    low: int | None
    """Lower end of the 95 % interval; none where it is not known."""
    high: int | None
    """Upper end; none where it is not known or beyond what is believed."""
    reach: Reach
    """Position relative to the measured lengths."""


@dataclass(frozen=True)
class Crossover:
    """From which length on a GPU is faster than the fastest file on the CPU."""

    gpu: str
    """Name of the contender on the GPU."""
    cpu: str
    """Name of the fastest one on the CPU at the longest length."""
    provider: str
    """Provider of the first one."""
    threads: int
    """Threads of both."""
    batch: int
    """Videos in one forward of both."""
    snippets: int | None
    """From here on the GPU is faster; none where it is not up to `horizon`."""
    low: int | None
    """Lower end of the 95 % interval; none where it is not known."""
    high: int | None
    """Upper end; `horizon` + 1 where it may not be faster at all."""
    reach: Reach
    """Position relative to the measured lengths."""
    horizon: int
    """The longest length that was looked at."""


def fit_laws(rows: Sequence[Row], *, seed: int = 0) -> list[LengthLaw]:
    """The law of every contender that was measured at enough lengths, all at once and not in windows.

    Args:
        rows: Measured configurations.
        seed: Seed of the bootstrap.
    """
    groups: dict[tuple[str, str, int, int], list[Row]] = defaultdict(list)
    for row in rows:
        if row.window is None:
            groups[row.model, row.provider, row.threads, row.batch].append(row)
    return [
        _fit(key, sorted(group, key=lambda row: row.snippets), (seed, number))
        for number, (key, group) in enumerate(groups.items())
        if len(group) >= LENGTHS_TO_SAY
    ]


def longest_within(law: LengthLaw, budget_ms: float) -> Budget:
    """The longest video that fits into a time.

    Args:
        law: Of the contender.
        budget_ms: The time.
    """
    longest = int(_longest(law, np.array([law.coefficients_ms]), budget_ms)[0])
    low, high = _interval(_longest(law, law.draws_ms, budget_ms)) if law.low_ms else (None, None)
    return Budget(
        *(law.model, law.provider, law.threads, law.batch, budget_ms),
        snippets=min(longest, law.horizon),
        low=None if low is None else min(low, law.horizon),
        high=None if high is None or high > law.horizon else high,
        reach=_reach(law, longest) if longest else Reach.NONE,
    )


def crossovers(laws: Sequence[LengthLaw]) -> list[Crossover]:
    """For every contender on a GPU, where it overtakes the one on the CPU that is fastest at the longest length.

    Args:
        laws: Of all contenders; without one on a GPU and one on the CPU there is nothing to tell.
    """
    found = []
    for gpu in laws:
        rivals = [law for law in laws if law.provider == "cpu" and (law.threads, law.batch) == (gpu.threads, gpu.batch)]
        if gpu.provider != "cpu" and rivals:
            longest = max(gpu.lengths)
            found.append(_crossover(gpu, min(rivals, key=lambda law: law.at(longest))))
    return found


def nonnegative_fit(powers: FloatArray, times: FloatArray, weights: FloatArray) -> FloatArray:
    """Weighted least squares with no negative coefficient, exactly: the best of all choices of which are zero.

    Args:
        powers: [lengths, 3].
        times: [draws, lengths].
        weights: [lengths], the inverse of how uncertain each is.

    Returns:
        [draws, 3].
    """
    scaled, target = powers * weights[:, None], times * weights
    best = np.zeros((len(times), powers.shape[1]))
    least = np.square(target).sum(axis=1)
    for chosen in product((False, True), repeat=powers.shape[1]):
        columns = np.flatnonzero(chosen)
        if not columns.size:
            continue
        found = np.zeros_like(best)
        found[:, columns] = target @ np.linalg.pinv(scaled[:, columns]).T
        error = np.square(target - found @ scaled.T).sum(axis=1)
        better = (found >= 0).all(axis=1) & (error < least)
        best[better], least[better] = found[better], error[better]
    return best


def _fit(key: tuple[str, str, int, int], rows: Sequence[Row], seed: tuple[int, int]) -> LengthLaw:
    lengths = tuple(row.snippets for row in rows)
    rounds = [np.array([float(np.median(burst)) for burst in row.samples_ms]) for row in rows]
    medians = np.array([row.median_ms for row in rows])
    size = np.array([1.0, max(lengths), float(max(lengths)) ** 2])  # keeps the columns alike
    powers = _powers(np.array(lengths)) / size
    relative = np.array([_relative_error(samples) for samples in rounds])
    weights = 1 / (medians * np.hypot(relative, RELATIVE_FLOOR))
    fitted = nonnegative_fit(powers, medians[None], weights)[0]
    residuals = powers @ fitted / medians - 1
    draws = fitted[None]
    if doubtful := len(lengths) >= LENGTHS_TO_DOUBT:
        misfit = float(np.sqrt(np.square(residuals).sum() / (len(lengths) - LENGTHS_TO_SAY)))
        draws = nonnegative_fit(powers, _redrawn(rounds, medians, misfit, seed), weights)
    low, high = (_triple(np.quantile(draws, tail, axis=0) / size) for tail in _tails())
    return LengthLaw(
        *key,
        lengths=lengths,
        coefficients_ms=_triple(fitted / size),
        low_ms=low if doubtful else None,
        high_ms=high if doubtful else None,
        misfit=float(np.abs(residuals).max()),
        draws_ms=draws / size,
    )


def _redrawn(rounds: Sequence[FloatArray], medians: FloatArray, misfit: float, seed: tuple[int, int]) -> FloatArray:
    """Medians [draws, lengths] that the same measurement might have given under a law that misses as much."""
    generator = np.random.default_rng(seed)
    drawn = np.empty((RESAMPLES, len(rounds)))
    for column, samples in enumerate(rounds):
        picked = generator.integers(len(samples), size=(RESAMPLES, len(samples)))
        # A round's median stands for the round: what is drawn is how it lies to all of them.
        drawn[:, column] = medians[column] * np.median(samples[picked], axis=1) / np.median(samples)
    disturbance = misfit * generator.standard_normal(drawn.shape)
    return np.asarray(drawn * np.maximum(1 + disturbance, RELATIVE_FLOOR))


def _relative_error(samples: FloatArray) -> float:
    """Standard error of the median of some rounds, as a share of it."""
    low, median, high = np.quantile(samples, (0.25, 0.5, 0.75))
    # Quartiles of a normal distribution are 1.35 deviations apart; a median errs 1.25 times as much as a mean.
    return float(1.25 * (high - low) / 1.35 / np.sqrt(len(samples)) / median)


def _longest(law: LengthLaw, coefficients: FloatArray, budget_ms: float) -> FloatArray:
    """The longest whole length [draws] within a time; 0 where none fits, at most one past the horizon."""
    a, b, c = coefficients.T
    left = budget_ms - a
    with np.errstate(divide="ignore", invalid="ignore"):
        # The root of c T² + b T = left, in the form that loses no digits when c is small or zero.
        root = 2 * left / (b + np.sqrt(np.maximum(b * b + 4 * c * left, 0)))
    whole = np.floor(np.nan_to_num(root, nan=np.inf, posinf=np.inf) + 1e-9)
    return np.asarray(np.where(left < 0, 0.0, np.minimum(whole, law.horizon + 1)))


def _interval(values: FloatArray) -> tuple[int, int]:
    """Both ends of the 95 % interval of whole numbers."""
    low, high = (int(np.quantile(values, tail, method="inverted_cdf")) for tail in _tails())
    return low, high


def _crossover(gpu: LengthLaw, cpu: LengthLaw) -> Crossover:
    horizon = min(gpu.horizon, cpu.horizon)
    powers = _powers(np.arange(1, horizon + 1))
    fitted = np.array(gpu.coefficients_ms) - np.array(cpu.coefficients_ms)
    first = int(_overtakes(powers, fitted[None])[0])
    known = gpu.low_ms is not None and cpu.low_ms is not None
    low, high = _interval(_overtakes(powers, gpu.draws_ms - cpu.draws_ms)) if known else (None, None)
    return Crossover(
        *(gpu.model, cpu.model, gpu.provider, gpu.threads, gpu.batch),
        snippets=first if first <= horizon else None,
        low=low,
        high=high,
        reach=_reach(gpu, first) if first <= horizon else Reach.NONE,
        horizon=horizon,
    )


def _overtakes(powers: FloatArray, differences: FloatArray) -> FloatArray:
    """First length from which a difference [draws, 3] stays below zero; one past the last where it does not."""
    lengths = np.arange(1, len(powers) + 1)
    last_slower = np.array([np.max(lengths, where=powers @ each >= 0, initial=0) for each in differences])
    return np.asarray(last_slower + 1.0)


def _reach(law: LengthLaw, snippets: int) -> Reach:
    if snippets > law.horizon:
        return Reach.BEYOND
    return Reach.MEASURED if min(law.lengths) <= snippets <= max(law.lengths) else Reach.EXTRAPOLATED


def _powers(snippets: NDArray[np.generic]) -> FloatArray:
    """[lengths, 3]: 1, T and T²."""
    return snippets.astype(np.float64)[:, None] ** np.arange(3)


def _tails() -> tuple[float, float]:
    return (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2


def _triple(values: FloatArray) -> Triple:
    a, b, c = map(float, values)
    return a, b, c
