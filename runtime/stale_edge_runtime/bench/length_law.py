"""Summary of time by video length: t = a + b T + c T², and the length from which a GPU is faster.

A forward has a part that does not depend on the length, one that grows with it (projections, scores) and one that grows
with its square (attention), and none of them can be negative. The law only summarises the measured lengths: kernels
change with the size of a product, so `bench --budget` measures and asks no law.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stale_edge_runtime.bench.records import Row

    FloatArray = NDArray[np.float64]

LENGTHS_TO_FIT = 3
"""Fewest measured lengths; a law has as many coefficients."""

SettingKey = tuple[str, str, int, int]
"""Contender, provider, threads and batch."""


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
    """Measured snippets, ascending."""
    a_ms: float
    """Constant part."""
    b_ms: float
    """Part for each snippet."""
    c_ms: float
    """Part for each pair of snippets."""
    misfit: float
    """Largest difference to a measured median, as a share of it."""


@dataclass(frozen=True)
class Crossover:
    """Measured length from which a GPU is faster than the fastest contender on the CPU."""

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
    """Shortest measured length from which on the GPU is always faster; none where it is not faster at `horizon`."""
    low: int | None
    """Longest measured length at which the GPU is slower; none where it is faster at all of them."""
    horizon: int
    """Longest length at which both were measured."""


def by_setting(rows: Sequence[Row]) -> dict[SettingKey, list[Row]]:
    """Group the rows of videos in one piece by contender, provider, threads and batch, shortest video first."""
    groups: dict[SettingKey, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.snippets):
        if row.window is None:
            groups[row.model, row.provider, row.threads, row.batch].append(row)
    return groups


def fit_laws(rows: Sequence[Row]) -> list[LengthLaw]:
    """Fit the law of every contender that was measured at three lengths or more, in one piece.

    Args:
        rows: Measured configurations.
    """
    return [_fit(key, group) for key, group in by_setting(rows).items() if len(group) >= LENGTHS_TO_FIT]


def crossovers(rows: Sequence[Row]) -> list[Crossover]:
    """Find where each contender on a GPU overtakes the one on the CPU that is fastest at the longest length.

    Args:
        rows: Measured configurations; without a GPU and a CPU among them the answer is empty.
    """
    groups = by_setting(rows)
    found = []
    for (gpu, provider, threads, batch), group in groups.items():
        rivals = [key for key in groups if key[1:] == ("cpu", threads, batch)]
        if provider != "cpu" and rivals:
            cpu = min(rivals, key=lambda key: groups[key][-1].median_ms)
            rival_ms = {row.snippets: row.median_ms for row in groups[cpu]}
            faster = {row.snippets: row.median_ms < rival_ms[row.snippets] for row in group if row.snippets in rival_ms}
            low = max((snippets for snippets, ahead in faster.items() if not ahead), default=None)
            first = min((snippets for snippets in faster if low is None or snippets > low), default=None)
            found.append(Crossover(gpu, cpu[0], provider, threads, batch, first, low, max(faster)))
    return found


def nonnegative_fit(powers: FloatArray, times: FloatArray) -> FloatArray:
    """Solve least squares of relative errors with no negative coefficient: the best of all choices of which are zero.

    Args:
        powers: [lengths, coefficients].
        times: [lengths], positive.

    Returns:
        [coefficients].
    """
    scaled = powers / times[:, None]
    best, least = np.zeros(powers.shape[1]), float(len(times))
    for chosen in product((False, True), repeat=powers.shape[1]):
        if any(chosen):
            found = np.zeros(powers.shape[1])
            found[list(chosen)] = np.linalg.lstsq(scaled[:, list(chosen)], np.ones(len(times)), rcond=None)[0]
            error = float(np.square(scaled @ found - 1).sum())
            if (found >= 0).all() and error < least:
                best, least = found, error
    return best


def _fit(key: SettingKey, rows: Sequence[Row]) -> LengthLaw:
    lengths = np.array([row.snippets for row in rows], dtype=np.float64)
    medians = np.array([row.median_ms for row in rows])
    size = lengths[-1] ** np.arange(3)  # keeps the columns alike
    powers = lengths[:, None] ** np.arange(3) / size
    fitted = nonnegative_fit(powers, medians)
    misfit = float(np.abs(powers @ fitted / medians - 1).max())
    a, b, c = map(float, fitted / size)
    return LengthLaw(*key, tuple(row.snippets for row in rows), a, b, c, misfit)
