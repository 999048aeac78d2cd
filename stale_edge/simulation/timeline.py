"""Timeline of a video: its length, its instances, its shots. Drawn from the figures in `measured`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stale_edge.simulation.measured import (
    INSTANCE_COUNTS,
    LEAD_SHARE,
    LEVELS,
    SHORTEST_S,
    THUMOS_COUNTS,
    THUMOS_SHORTEST_S,
    TimelineFigures,
    figures,
    thumos_figures,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

Segments: TypeAlias = NDArray[np.float64]

ACTIVITYNET: Final = "activitynet"
THUMOS: Final = "thumos14"
LAYOUTS: Final = (ACTIVITYNET, THUMOS)
"""Data sets whose figures a timeline can follow: few long actions, or many short ones."""
_COUNTS = np.array(list(INSTANCE_COUNTS))
_COUNT_LEVELS = np.cumsum(list(INSTANCE_COUNTS.values())) / sum(INSTANCE_COUNTS.values())
_SHORTEST_SHARE = 0.1


def draw_timeline(rng: np.random.Generator, layout: str = ACTIVITYNET) -> tuple[float, Segments]:
    """Draw the length of a video and its instances.

    Args:
        rng: Source of randomness.
        layout: Data set whose figures to follow, one of `LAYOUTS`.

    Returns:
        Seconds, and instances `[N, 2]` in seconds, in order, apart, inside the video.
    """
    if layout == ACTIVITYNET:
        count = int(_COUNTS[np.searchsorted(_COUNT_LEVELS, rng.random(), side="right").clip(max=len(_COUNTS) - 1)])
        real, shortest_s = figures(count), SHORTEST_S
    else:
        count = round(_quantile(rng, THUMOS_COUNTS))
        real, shortest_s = thumos_figures(count), THUMOS_SHORTEST_S
    duration_s = max(_quantile(rng, real.durations_s), shortest_s * (2 * count + 1))
    shortest = shortest_s / duration_s
    covered = float(np.clip(_quantile(rng, real.coverage), count * shortest, 1.0))
    lengths = _lengths(rng, count, covered, real.length_variation, shortest)
    free = _free(rng, count, 1.0 - float(lengths.sum()), real)
    ends = np.cumsum(free[:-1] + lengths)
    segments = np.stack([ends - lengths, ends], axis=1).clip(0.0, 1.0) * duration_s
    return duration_s, segments


def jittered(rng: np.random.Generator, duration_s: float, segments: Segments, share: float) -> Segments:
    """Move each boundary as an annotator might.

    Args:
        rng: Source of randomness.
        duration_s: Length of the video.
        segments: Instances `[N, 2]`, seconds.
        share: Standard deviation, in lengths of the instance.

    Returns:
        `[N, 2]`, in order of time within each instance, inside the video; an instance that would turn round stays.
    """
    lengths = segments[:, 1:] - segments[:, :1]
    moved = (segments + share * lengths * rng.standard_normal(segments.shape)).clip(0.0, duration_s)
    stays = moved[:, 1] - moved[:, 0] < np.minimum(0.5 * lengths[:, 0], SHORTEST_S)
    return np.where(stays[:, None], segments, moved)


def draw_cuts(rng: np.random.Generator, duration_s: float, mean_s: float) -> NDArray[np.float64]:
    """Seconds at which a new shot starts, in order, inside the video; shots last `mean_s` on average."""
    return np.sort(rng.random(int(rng.poisson(duration_s / mean_s)))) * duration_s


def overlap(segments: Segments, duration_s: float, snippets: int) -> NDArray[np.float32]:
    """Compute the share of each snippet that each segment covers.

    Args:
        segments: `[N, 2]`, seconds.
        duration_s: Seconds that the snippets cover.
        snippets: Number of snippets T.

    Returns:
        `[N, T]` in [0, 1].
    """
    edges = np.linspace(0.0, duration_s, snippets + 1)
    low = np.maximum(segments[:, :1], edges[:-1])
    high = np.minimum(segments[:, 1:], edges[1:])
    return np.asarray((high - low).clip(min=0.0) * (snippets / duration_s), dtype=np.float32)


def _quantile(rng: np.random.Generator, values: Sequence[float]) -> float:
    """Draw from a distribution given by its values at `LEVELS`."""
    return float(np.interp(rng.random(), LEVELS, values))


def _lengths(
    rng: np.random.Generator, count: int, covered: float, variation: Sequence[float], shortest: float
) -> NDArray[np.float64]:
    """Lengths that sum up to what is covered and vary as drawn, `[count]`."""
    if count == 1:
        return np.array([covered])
    draws = np.exp(0.5 * rng.standard_normal(count))
    deviations = (draws - draws.mean()) / max(float(draws.std()), 1e-9)
    shares = np.maximum(1.0 + _quantile(rng, variation) * deviations, _SHORTEST_SHARE)
    lengths: NDArray[np.float64] = np.maximum(covered * shares / shares.sum(), shortest)
    return lengths * min(1.0, 1.0 / float(lengths.sum()))


def _free(rng: np.random.Generator, count: int, free: float, real: TimelineFigures) -> NDArray[np.float64]:
    """Time before, between and after the instances, `[count + 1]`."""
    free = max(free, 0.0)
    if count == 1:
        lead = _quantile(rng, LEAD_SHARE)
        return free * np.array([lead, 1.0 - lead])
    gaps = rng.standard_exponential(count + 1)
    gaps[[0, -1]] *= real.border_weight
    gaps[0] *= rng.random() >= real.starts_at_once
    gaps[-1] *= rng.random() >= real.ends_at_last
    return np.asarray(free * gaps / gaps.sum(), dtype=np.float64)
