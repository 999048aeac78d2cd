"""Proposals of the default decoding: which segments a video may hold, of which classes, and how sure that is.

Where the published code (see `published_proposals`) merges all runs into one span of one class, ours keeps runs
apart and lets every class speak for itself:

1. Classes whose best snippet stands out are candidates; the video logits lower a class, they never veto it.
2. Segments are the runs above many levels of the candidate classes' curves, raw and smoothed, of the foreground
   curve, and, in the mask rows of the strongest snippets, the run around that snippet.
3. A segment fits a curve when the curve is high inside and low just outside (the outer-inner contrast of Shou et
   al., "AutoLoc", ECCV 2018). Every segment is scored for every candidate class, from the fit of the class
   curve, the fit of the mask rows of its own anchors, and the video logits.

All of it is array arithmetic over cumulative sums: time does not grow with the number of actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.segments import Lanes, around

if TYPE_CHECKING:
    from stale_edge_runtime.segments import IntArray

Float32Array: TypeAlias = NDArray[np.float32]
Float64Array: TypeAlias = NDArray[np.float64]

CURVE_LEVELS = np.array([0.0, 0.02, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9], dtype=np.float32)
MASK_LEVELS = np.array([0.2, 0.4, 0.6, 0.8], dtype=np.float32)
SMOOTHING = 5
MARGIN_SHARE = 16
LOWEST_PRIOR = 0.1
_SAFE_EXPONENT = 40.0
LOWEST_MASK_WEIGHT = 0.1
SHORTNESS_SHARE = 0.04
SHORTNESS_LIMIT = 4.0


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """Choices of the default decoding."""

    max_detections: int = 100
    """Most detections of one video."""
    min_score: float = 1e-4
    """Detections that score this or less are left out."""
    max_classes: int = 5
    """Most classes of one video."""
    class_share: float = 0.02
    """A class takes part when its evidence is at least this share of the strongest one's."""
    video_weight: float = 0.25
    """Exponent of the video's class probability, relative to the highest one, in a detection's score."""
    mask_rows: int = 32
    """Most mask rows that give segments."""
    max_candidates: int = 150
    """Most pairs of segment and class that enter soft-NMS, the best ones."""
    sigma: float = 0.5
    """Width of soft-NMS; small suppresses more."""

    def __post_init__(self) -> None:
        for name in ("max_detections", "max_classes", "mask_rows", "max_candidates"):
            if not getattr(self, name) >= 1:
                raise UsageError(f"decode option {name}", f"is {getattr(self, name)}", "give 1 or more")
        for name in ("min_score", "class_share", "video_weight"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(f"decode option {name}", f"is {getattr(self, name)}", "give 0 to 1")
        if not 0.0 < self.sigma < np.inf:
            raise UsageError("decode option sigma", f"is {self.sigma}", "give a positive number")


@dataclass(frozen=True)
class Proposals:
    """Pairs of a segment and a class, best first."""

    segments: IntArray
    """`[N, 2]`, first snippet and one past the last."""
    labels: IntArray
    """`[N]`, class index."""
    scores: Float64Array
    """`[N]` in [0, 1]."""


def propose(
    class_logits: Float32Array, masks: Float32Array, video_logits: Float32Array, options: DecodeOptions
) -> Proposals:
    """Make and score the proposals of one video.

    Args:
        class_logits: `[T, C+1]`, finite, background last.
        masks: `[A, T]` in [0, 1]; row a belongs to the snippets t with floor(t · A / T) = a.
        video_logits: `[C]`, finite.
        options: Choices.
    """
    labels, prior, curves = _candidate_classes(class_logits, video_logits, options)
    cumulative = _cumulative(curves)  # [K+1, T+1]
    start, end = _segments(curves, cumulative, masks, _seeds(curves[:-1], len(masks), options.mask_rows))
    fit = _fit(cumulative[:-1], masks, start, end)  # [K+1, N]
    weight = fit[-1]
    weight *= 1.0 - LOWEST_MASK_WEIGHT
    weight += LOWEST_MASK_WEIGHT
    scores = fit[:-1]
    scores *= prior[:, None]
    scores *= weight
    return _best(start, end, labels, scores, options)


def _probabilities(logits: Float32Array) -> Float32Array:
    """Softmax of each row of the logits `[T, C+1]`."""
    if logits.min() > -_SAFE_EXPONENT and logits.max() < _SAFE_EXPONENT:  # no need to subtract the row's highest
        odds: Float32Array = np.exp(logits)
    else:
        odds = logits - logits.max(axis=1, keepdims=True)
        np.exp(odds, out=odds)
    odds *= (1.0 / np.einsum("tc->t", odds))[:, None]
    return odds


def _candidate_classes(
    class_logits: Float32Array, video_logits: Float32Array, options: DecodeOptions
) -> tuple[IntArray, Float64Array, Float32Array]:
    """Choose the classes that take part.

    Returns:
        Their indices, `[K]`; what the video logits say of each, `[K]` in (0, 1]; the curves of their probabilities
        and of the foreground's, `[K+1, T]`.
    """
    probabilities = _probabilities(class_logits)  # [T, C+1]
    relative = (video_logits - video_logits.max()).astype(np.float64)
    prior = np.maximum(np.exp(options.video_weight * relative), LOWEST_PRIOR)  # [C]
    evidence = probabilities.max(axis=0)[:-1] * prior
    labels = np.flatnonzero(evidence >= options.class_share * evidence.max())
    labels = labels[(-evidence[labels]).argsort(kind="stable")[: options.max_classes]]
    curves = np.empty((len(labels) + 1, len(class_logits)), dtype=np.float32)
    curves[:-1] = probabilities[:, labels].T
    np.subtract(1.0, probabilities[:, -1], out=curves[-1])
    return labels, prior[labels], curves


def _cumulative(curves: Float32Array) -> Float64Array:
    """Sums of the curves `[R, T]` before each snippet: `[R, T+1]`."""
    sums = np.zeros((curves.shape[0], curves.shape[1] + 1))
    np.cumsum(curves, axis=1, dtype=np.float64, out=sums[:, 1:])
    return sums


def _seeds(curves: Float32Array, anchors: int, limit: int) -> IntArray:
    """Find the strongest snippet of each anchor, of the strongest ones only: `[S]`."""
    strength = curves.max(axis=0)  # [T]
    snippets = len(strength)
    weakest_first = strength.argsort(kind="stable")
    strongest = np.full(anchors, -1)
    # Where an index repeats, the last assignment holds: each anchor keeps its strongest snippet.
    strongest[weakest_first * anchors // snippets] = weakest_first
    seeds = strongest[strongest >= 0]
    strongest_first: IntArray = seeds[(-strength[seeds]).argsort(kind="stable")]
    return strongest_first[:limit]


def _segments(
    curves: Float32Array, cumulative: Float64Array, masks: Float32Array, seeds: IntArray
) -> tuple[IntArray, IntArray]:
    """Runs above all levels of the curves `[R, T]`, raw and smoothed, and around the seeds in their mask rows.

    Returns:
        Starts and ends, `[N]` each, without repetitions, in the order of the starts.
    """
    anchors, snippets = masks.shape
    count, width = len(curves), snippets + 1
    signals = np.empty((2 * count + len(seeds), snippets), dtype=np.float32)
    signals[:count] = curves
    _smooth(cumulative, out=signals[count : 2 * count])
    masks.take(seeds * anchors // snippets, axis=0, out=signals[2 * count :])
    lowest = signals.min(axis=1, keepdims=True)
    height = signals.max(axis=1, keepdims=True) - lowest
    of_curves, of_masks = slice(2 * count), slice(2 * count, None)
    split = 2 * count * len(CURVE_LEVELS)
    lanes = Lanes(split + len(seeds) * len(MASK_LEVELS), snippets)
    for rows, levels, above in (
        (of_curves, CURVE_LEVELS, lanes.rows[:split]),
        (of_masks, MASK_LEVELS, lanes.rows[split:]),
    ):
        thresholds = lowest[rows] + height[rows] * levels  # [R, L]
        out = above.reshape(len(thresholds), len(levels), snippets)
        np.greater_equal(signals[rows, None], thresholds[:, :, None], out=out)
    edges = lanes.edges()
    border = split * width
    positions = np.arange(border, len(lanes.rows) * width, width).reshape(-1, len(MASK_LEVELS)) + seeds[:, None]
    last = edges.searchsorted(border)
    begin, end = np.concatenate([edges[:last].reshape(-1, 2).T, around(edges, positions.ravel())], axis=1)
    begin, length = begin % width, end - begin
    begin *= width
    begin += length
    begin.sort()  # start · width + length
    changes = np.ones(len(begin), dtype=np.bool_)
    np.not_equal(begin[1:], begin[:-1], out=changes[1:])
    start, length = np.divmod(begin[changes], width)
    return start, start + length


def _smooth(cumulative: Float64Array, out: Float32Array) -> None:
    """Write the moving means of the curves, `[R, T]`; `cumulative` is `[R, T+1]`."""
    low, high = _windows(out.shape[1])
    means = cumulative.take(high, axis=1)
    means -= cumulative.take(low, axis=1)
    np.divide(means, high - low, out=out, casting="same_kind")


@lru_cache(maxsize=8)
def _windows(snippets: int) -> tuple[IntArray, IntArray]:
    """First snippet and one past the last that the moving mean takes for each snippet."""
    middle = np.arange(snippets)
    half = SMOOTHING // 2
    return np.maximum(middle - half, 0), np.minimum(middle + half + 1, snippets)


def _fit(cumulative: Float64Array, masks: Float32Array, start: IntArray, end: IntArray) -> Float64Array:
    """Score how well each segment fits each curve, and last the mask rows of its own anchors: `[K+1, N]` in [0, 1].

    One snippet is easily high by chance, ten are not: for a curve, a segment is trusted as if some empty snippets
    were added.

    Args:
        cumulative: `[K, T+1]`, sums of the curves before each snippet.
        masks: `[A, T]`.
        start: `[N]`, first snippets.
        end: `[N]`, one past the last ones.
    """
    anchors, snippets = masks.shape
    length = end - start
    margin = (length + (MARGIN_SHARE - 1)) // MARGIN_SHARE
    columns = np.array([np.maximum(start - margin, 0), start, end, np.minimum(end + margin, snippets)])  # [4, N]
    above, below = start * anchors // snippets, (end - 1) * anchors // snippets + 1
    sums = np.empty((len(cumulative) + 1, *columns.shape))  # [K+1, 4, N]
    cumulative.take(columns, axis=1, out=sums[:-1], mode="clip")
    columns *= anchors
    table = _summed(masks)
    np.subtract(table.take(columns + below), table.take(columns + above), out=sums[-1])
    sums[-1] /= fixed_point(anchors)
    rows = np.ones((len(sums), len(start)), dtype=np.intp)
    rows[-1] = below - above
    margins = np.maximum((columns[3] - columns[0]) // anchors - length, 1)
    fit = _contrast(sums, rows * length, rows * margins)
    fit[:-1] *= length / (length + min(SHORTNESS_SHARE * snippets, SHORTNESS_LIMIT))
    return fit


def _summed(masks: Float32Array) -> NDArray[np.int64]:
    """Make a table, `[(T+1) · A + 1]`, whose differences are sums of the masks `[A, T]`, times `fixed_point`.

    Entry t · A + a less entry t · A + b is the sum of the rows from b to a before column t, and an amount that is the
    same for every t. Running sums from the end of one row or column into the next, over integers, which may overflow
    on the way, take half the time of those that begin at each anew.
    """
    anchors, snippets = masks.shape
    fixed = np.multiply(masks, np.float32(fixed_point(anchors))).astype(np.int32)
    along = np.empty(fixed.size + 1, dtype=np.int64)
    along[0] = 0
    np.cumsum(fixed, out=along[1:])
    table = np.empty((snippets + 1) * anchors + 1, dtype=np.int64)
    table[0] = 0
    before = table[1:].reshape(snippets + 1, anchors)
    before[:snippets] = along[:-1].reshape(anchors, snippets).T
    before[snippets] = along[snippets::snippets]
    np.cumsum(table, out=table)
    return table


def fixed_point(anchors: int) -> int:
    """Choose the integer that stands for 1 in a mask: as much as lets a column's sum be a 32-bit integer."""
    return 1 << (31 - anchors.bit_length())


def _contrast(sums: Float64Array, size: IntArray, outer_size: IntArray) -> Float64Array:
    """Mean inside times its share of inside and just outside, squared: a quarter where both means are the same.

    Args:
        sums: `[R, 4, N]`, of R curves before the margin, the segment, what follows the segment, and the margin's end.
        size: `[R, N]`, numbers summed inside.
        outer_size: `[R, N]`, numbers summed in the margins, at least 1.
    """
    means = np.empty((2, *size.shape))
    inside, outside = means
    np.subtract(sums[:, 2], sums[:, 1], out=inside)
    np.subtract(sums[:, 3], sums[:, 0], out=outside)
    outside -= inside
    inside /= size
    outside /= outer_size
    np.maximum(means, 0.0, out=means)
    np.minimum(means, 1.0, out=means)
    outside += inside
    np.maximum(outside, np.finfo(np.float64).tiny, out=outside)
    share: Float64Array = inside / outside
    share *= share
    share *= inside
    return share


def _best(start: IntArray, end: IntArray, labels: IntArray, scores: Float64Array, options: DecodeOptions) -> Proposals:
    """Find the best pairs of segment, `[N]`, and class, `[K]`; `scores` is `[K, N]`."""
    flat = scores.T.ravel()
    floor, limit = options.min_score, options.max_candidates
    if flat.size > limit:
        # Sorting few is faster than sorting all; those that equal the last one must stay for their order to decide.
        floor = max(floor, np.nextafter(np.partition(flat, -limit)[-limit], 0.0))
    chosen = (flat > floor).nonzero()[0]
    kept = flat[chosen]
    order = (-kept).argsort(kind="stable")[:limit]
    segment, label = np.divmod(chosen[order], len(labels))
    return Proposals(np.array([start[segment], end[segment]]).T, labels[label], kept[order])
