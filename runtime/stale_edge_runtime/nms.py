"""Soft non-maximum suppression: of many overlapping segments, which to keep and how far to trust the rest.

Source: Bodla et al., "Soft-NMS" (ICCV 2017), the Gaussian form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stale_edge_runtime.segments import FloatArray, IntArray

PUBLISHED_LIMIT = 100
_BLOCK_FACTORS = 2**15  # a quarter of a megabyte
_PUBLISHED_SHARPNESS = 10.0
_PUBLISHED_DIVISOR = 0.6


def soft_nms(
    segments: FloatArray | IntArray,
    scores: FloatArray,
    labels: IntArray | None = None,
    *,
    sigma: float = 0.5,
    min_score: float = 0.0,
    limit: int | None = None,
) -> tuple[IntArray, NDArray[np.float64]]:
    """Gaussian soft-NMS: the best segment is taken, those it overlaps fade by exp(-tIoU² / sigma), again.

    Segments of different labels do not touch each other. The first of equal scores wins. A segment that is never taken
    never fades another, so the kept segments with their scores of before give themselves again, in the same order, with
    the same faded scores.

    Args:
        segments: `[N, 2]`, start and end in any unit.
        scores: `[N]`, not negative.
        labels: `[N]`, class of each segment; all of one class without it.
        sigma: Width of the Gaussian; small suppresses more.
        min_score: Score at or below which a faded segment is dropped.
        limit: Most segments to keep; all without it.

    Returns:
        Indices of the kept segments, `[K]`, and their faded scores, `[K]`, best first.
    """
    start, end = _apart(np.asarray(segments, dtype=np.float64).reshape(-1, 2), labels)
    remaining = np.array(scores, dtype=np.float64)
    count = len(remaining)
    few = count * count <= _BLOCK_FACTORS
    fading: list[NDArray[np.float64] | None] = [*_factors_of_all(start, end, sigma)] if few else [None] * count
    kept: list[int] = []
    kept_scores: list[float] = []
    floor = max(min_score, 0.0)
    highest, score_of, multiply = remaining.argmax, remaining.item, np.multiply
    for _ in range(count if limit is None else min(limit, count)):
        best = int(highest())
        score = score_of(best)
        if not score > floor:
            break
        kept.append(best)
        kept_scores.append(score)
        factors = fading[best]
        if factors is None:
            block = _likely_next(remaining)  # the taken one, the first of the highest, comes first
            rows = _fading(start, end, block, sigma)
            factors = rows[0]
            for index, row in zip(block.tolist(), rows, strict=True):
                fading[index] = row
        multiply(remaining, factors, remaining)
    return np.array(kept, dtype=np.intp), np.array(kept_scores, dtype=np.float64)


def _likely_next(remaining: NDArray[np.float64]) -> IntArray:
    """Choose the best segments, whose factors are worth working out now: as many as fit, `[B]`."""
    return np.argsort(-remaining, kind="stable")[: max(_BLOCK_FACTORS // len(remaining), 1)]


def _factors_of_all(start: NDArray[np.float64], end: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Compute the factors by which each segment lowers all, `[N, N]`, as `_fading` does, for pairs that overlap only.

    In the order of their starts, those that overlap segment i from the right follow it in one piece.
    """
    count = len(start)
    order = start.argsort(kind="stable")
    first_start, first_end = start[order], end[order]
    after = np.arange(1, count + 1)
    followers = np.maximum(first_start.searchsorted(first_end) - after, 0)
    left = np.arange(count).repeat(followers)  # [P]
    right = np.arange(len(left)) + (after - followers.cumsum() + followers).repeat(followers)  # [P]
    length = np.maximum(first_end - first_start, np.finfo(np.float64).tiny)
    overlap = np.minimum(first_end[left], first_end[right])
    overlap -= first_start[right]
    union = length[left]
    union += length[right]
    union -= overlap
    left, right = order[left], order[right]
    factors = np.ones(count * count)
    factors[left * count + right] = factors[right * count + left] = _factor(overlap, union, sigma)
    factors[:: count + 1] = 0.0
    return factors.reshape(count, count)


def _factor(overlap: NDArray[np.float64], union: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """exp(-tIoU² / sigma), in the place of `overlap`."""
    overlap /= union
    overlap *= overlap
    overlap *= -1.0 / sigma
    return np.exp(overlap, out=overlap)


def _fading(start: NDArray[np.float64], end: NDArray[np.float64], block: IntArray, sigma: float) -> NDArray[np.float64]:
    """Compute the factors by which each of `block`, `[B]`, lowers all, `[B, N]`: exp(-tIoU² / sigma); 0 for itself."""
    column = block[:, None]
    length = np.maximum(end - start, np.finfo(np.float64).tiny)
    overlap = np.minimum(end, end[column])
    overlap -= np.maximum(start, start[column])
    np.maximum(overlap, 0.0, out=overlap)
    union = length + length[column]
    union -= overlap
    _factor(overlap, union, sigma)
    overlap[np.arange(len(block)), block] = 0.0
    return overlap


def published_soft_nms(segments: FloatArray, scores: FloatArray) -> tuple[IntArray, NDArray[np.float64]]:
    """Apply the published soft-NMS with its defects, for published numbers only.

    The intersection reaches from the *smaller* start to the smaller end; the union is the other segment's
    length less that, plus the hull of both instead of the taken segment's length (found from the golden
    numbers); overlapping segments fade by exp(-10 · overlap²) / 0.6, which exceeds 1 for small overlaps; the
    last one left is never kept. Source: docs/protocol.md §4 (d).

    Args:
        segments: `[N, 2]`, start and end relative to the video.
        scores: `[N]`; of equal ones the first wins.

    Returns:
        Indices of the kept segments, `[K]`, and their scores, `[K]`, in the order in which they were taken.
    """
    start, end = np.asarray(segments, dtype=np.float64).reshape(-1, 2).T
    remaining = np.array(scores, dtype=np.float64)
    left = np.arange(len(remaining))
    kept: list[int] = []
    kept_scores: list[float] = []
    while len(left) > 1 and len(kept) < PUBLISHED_LIMIT and remaining[left].max() > 0:
        best = left[int(remaining[left].argmax())]
        kept.append(int(best))
        kept_scores.append(float(remaining[best]))
        left = left[left != best]
        first_start = np.minimum(start[left], start[best])
        intersection = np.minimum(end[left], end[best]) - first_start
        hull = np.maximum(end[left], end[best]) - first_start
        union = (end[left] - start[left]) - intersection + hull
        overlap = np.divide(intersection, union, out=np.zeros(len(left)), where=union != 0)
        decay = np.exp(-_PUBLISHED_SHARPNESS * overlap**2) / _PUBLISHED_DIVISOR
        remaining[left] *= np.where(overlap > 0, decay, 1.0)
    return np.array(kept, dtype=np.intp), np.array(kept_scores, dtype=np.float64)


def _apart(segments: NDArray[np.float64], labels: IntArray | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Starts and ends with every label moved to a stretch of time of its own, so that labels never overlap."""
    start, end = segments.T
    if labels is None or not len(segments):
        return start, end
    lane = (labels - labels.min()) * (float(end.max() - start.min()) + 1.0)
    return start + lane, end + lane
