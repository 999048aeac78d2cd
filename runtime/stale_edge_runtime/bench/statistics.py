"""Statistics of timings: medians, percentiles and intervals, only where the number of runs allows.

No sample is ever dropped: a slow run happened. A 90th percentile needs 64 runs before it means anything (the
early-stopping rule of MLPerf inference); with fewer it is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

P90_RUNS = 64
CONFIDENCE = 0.95
RESAMPLES = 2000
_CHUNK_VALUES = 1 << 22


@dataclass(frozen=True)
class Summary:
    """Timings of one configuration."""

    runs: int
    """Number of measured runs."""
    median_ms: float
    """Half of the runs were faster."""
    min_ms: float
    """The fastest run."""
    low_ms: float
    """A quarter of the runs were faster."""
    high_ms: float
    """Three quarters of the runs were faster."""
    p90_ms: float | None
    """Nine tenths of the runs were faster; none with fewer than 64 runs."""


@dataclass(frozen=True)
class Ratio:
    """Ratio of two times, with its interval."""

    value: float
    """Ratio of the medians."""
    low: float
    """Lower end of the 95 % bootstrap interval."""
    high: float
    """Upper end of the 95 % bootstrap interval."""


def summarize(samples_ms: NDArray[np.float64]) -> Summary:
    """Describe the timings of one configuration.

    Args:
        samples_ms: All runs in milliseconds, any shape, at least one.

    Raises:
        ValueError: There is no sample, or one is not a finite number.
    """
    samples = np.asarray(samples_ms, dtype=np.float64).ravel()
    if samples.size == 0 or not np.isfinite(samples).all():
        raise ValueError(f"{samples.size} timings, of which {int(np.isfinite(samples).sum())} are finite")
    low, median, high = np.quantile(samples, (0.25, 0.5, 0.75))
    # "higher" never states a percentile below a run that was really seen.
    p90 = float(np.quantile(samples, 0.9, method="higher")) if samples.size >= P90_RUNS else None
    return Summary(samples.size, float(median), float(samples.min()), float(low), float(high), p90)


def ratio_of_medians(
    slow_ms: NDArray[np.float64], fast_ms: NDArray[np.float64], *, seed: int = 0, resamples: int = RESAMPLES
) -> Ratio:
    """Ratio of the medians of two interleaved measurements, with a bootstrap interval.

    The rounds are drawn, not the single runs, and the same ones for both: what disturbed the machine during a round
    disturbed both.

    Args:
        slow_ms: [rounds, runs per round], the numerator.
        fast_ms: [rounds, runs per round], the denominator; the same number of rounds.
        seed: Seed of the draws.
        resamples: Number of draws.

    Raises:
        ValueError: The two do not have the same number of rounds.
    """
    rounds = len(slow_ms)
    if rounds == 0 or rounds != len(fast_ms):
        raise ValueError(f"{rounds} rounds against {len(fast_ms)}: the runs were not interleaved")
    generator = np.random.default_rng(seed)
    per_draw = rounds * max(slow_ms.shape[1], fast_ms.shape[1])
    chunk = max(1, _CHUNK_VALUES // per_draw)
    draws = []
    for start in range(0, resamples, chunk):
        picked = generator.integers(rounds, size=(min(chunk, resamples - start), rounds))
        draws.append(_medians(slow_ms, picked) / _medians(fast_ms, picked))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(draws), (tail, 1 - tail))
    value = float(np.median(slow_ms) / np.median(fast_ms))
    return Ratio(value, min(value, float(low)), max(value, float(high)))


def _medians(samples: NDArray[np.float64], picked: NDArray[np.int64]) -> NDArray[np.float64]:
    """Median of each draw: samples [rounds, runs], picked [draws, rounds] to [draws]."""
    medians: NDArray[np.float64] = np.median(samples[picked].reshape(len(picked), -1), axis=1)
    return medians


def number(value: float | None) -> str:
    """Write a figure with three significant digits and without an exponent; '' for None."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1g}"
