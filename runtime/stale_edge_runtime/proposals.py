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
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.segments import runs, runs_at

if TYPE_CHECKING:
    from stale_edge_runtime.segments import BoolArray, IntArray

Float32Array: TypeAlias = NDArray[np.float32]
Float64Array: TypeAlias = NDArray[np.float64]

_CURVE_LEVELS = np.array([0.0, 0.02, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9], dtype=np.float32)
_MASK_LEVELS = np.array([0.2, 0.4, 0.6, 0.8], dtype=np.float32)
_SMOOTHING = 5
_MARGIN_SHARE = 16
_LOWEST_PRIOR = 0.1
_FIXED_POINT = 2**24
_LOWEST_MASK_WEIGHT = 0.1
_SHORTNESS_SHARE = 0.04
_SHORTNESS_LIMIT = 4.0


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
    odds, scale = _odds(class_logits)  # [T, C+1], [T]
    labels, prior = _candidate_classes(odds, scale, video_logits, options)
    curves = np.empty((len(labels) + 1, len(class_logits)), dtype=np.float32)  # [K+1, T]
    np.multiply(odds[:, labels].T, scale, out=curves[:-1])
    np.subtract(1.0, odds[:, -1] * scale, out=curves[-1])
    cumulative = _cumulative(curves)  # [T+1, K+1]
    segments = _distinct(
        np.concatenate([_curve_segments(curves, cumulative), _mask_segments(masks, curves[:-1], options.mask_rows)]),
        curves.shape[1],
    )
    scores = _class_fit(cumulative[:, :-1], segments) * prior
    scores *= (_LOWEST_MASK_WEIGHT + (1.0 - _LOWEST_MASK_WEIGHT) * _mask_fit(masks, segments))[:, None]
    return _best(segments, labels, scores, options)


def _odds(logits: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Exponentials of the logits `[T, C+1]`, and what makes each row's probabilities of them, `[T]`."""
    odds: Float32Array = logits - logits.max(axis=1, keepdims=True)
    np.exp(odds, out=odds)
    scale: Float32Array = 1.0 / odds.sum(axis=1)
    return odds, scale


def _candidate_classes(
    odds: Float32Array, scale: Float32Array, video_logits: Float32Array, options: DecodeOptions
) -> tuple[IntArray, Float64Array]:
    """Indices of the classes that take part, `[K]`, and what the video logits say of each, `[K]` in (0, 1]."""
    relative = (video_logits - video_logits.max()).astype(np.float64)
    prior = np.maximum(np.exp(options.video_weight * relative), _LOWEST_PRIOR)  # [C]
    evidence = (odds * scale[:, None]).max(axis=0)[:-1] * prior
    labels = np.argsort(-evidence, kind="stable")[: options.max_classes]
    labels = labels[evidence[labels] >= options.class_share * evidence[labels[0]]]
    return labels, prior[labels]


def _cumulative(curves: Float32Array) -> Float64Array:
    """Sums of the curves `[R, T]` before each snippet: `[T+1, R]`."""
    sums = np.zeros((curves.shape[1] + 1, curves.shape[0]))
    np.cumsum(curves.T, axis=0, dtype=np.float64, out=sums[1:])
    return sums


def _curve_segments(curves: Float32Array, cumulative: Float64Array) -> IntArray:
    """Runs of all curves `[R, T]`, raw and smoothed, above all levels: `[N, 2]`."""
    snippets = curves.shape[1]
    middle = np.arange(snippets)
    low = np.maximum(middle - _SMOOTHING // 2, 0)
    high = np.minimum(middle + _SMOOTHING // 2 + 1, snippets)
    smooth = ((cumulative[high] - cumulative[low]) / (high - low)[:, None]).T.astype(np.float32)
    above = _above(np.concatenate([curves, smooth]), _CURVE_LEVELS)
    _, first, end = runs(above)
    return np.stack([first, end], axis=1)


def _mask_segments(masks: Float32Array, curves: Float32Array, limit: int) -> IntArray:
    """In the mask row of each strong snippet's anchor, the run around that snippet: `[N, 2]`."""
    anchors, snippets = masks.shape
    strength = curves.max(axis=0)  # [T]
    weakest_first = np.argsort(strength, kind="stable")
    strongest = np.full(anchors, -1)
    # Where an index repeats, the last assignment holds: each anchor keeps its strongest snippet.
    strongest[weakest_first * anchors // snippets] = weakest_first
    seeds = strongest[strongest >= 0]
    seeds = seeds[np.argsort(-strength[seeds], kind="stable")[:limit]]
    above = _above(masks[seeds * anchors // snippets], _MASK_LEVELS)
    return runs_at(above, np.repeat(seeds, len(_MASK_LEVELS)))


def _above(curves: Float32Array, levels: Float32Array) -> BoolArray:
    """Where each curve `[R, T]` reaches each level between its own lowest and highest value: `[R · L, T]`."""
    lowest = curves.min(axis=1, keepdims=True)
    height = curves.max(axis=1, keepdims=True) - lowest
    thresholds = lowest + height * levels  # [R, L]
    above: BoolArray = curves[:, None] >= thresholds[:, :, None]
    return above.reshape(-1, curves.shape[1])


def _distinct(segments: IntArray, snippets: int) -> IntArray:
    """The segments without repetitions, in the order of their starts."""
    keys = segments[:, 0] * (snippets + 1) + segments[:, 1]
    keys.sort()
    keys = keys[np.flatnonzero(np.diff(keys, prepend=-1))]
    return np.stack(np.divmod(keys, snippets + 1), axis=1)


def _surroundings(segments: IntArray, snippets: int) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Start, end, and how far the margins reach before and after each segment."""
    start, end = segments[:, 0], segments[:, 1]
    margin = -((start - end) // _MARGIN_SHARE)
    return start, end, np.maximum(start - margin, 0), np.minimum(end + margin, snippets)


def _class_fit(cumulative: Float64Array, segments: IntArray) -> Float64Array:
    """How well each segment fits each curve, `[N, K]` in [0, 1]; `cumulative` is `[T+1, K]`.

    One snippet is easily high by chance, ten are not: a segment is trusted as if some empty snippets were added.
    """
    snippets = len(cumulative) - 1
    start, end, before, after = _surroundings(segments, snippets)
    inner = cumulative[end] - cumulative[start]
    outer = cumulative[after] - cumulative[before] - inner
    length = (end - start)[:, None]
    trust = length / (length + min(_SHORTNESS_SHARE * snippets, _SHORTNESS_LIMIT))
    return _contrast(inner, outer, length, (after - before)[:, None]) * trust


def _mask_fit(masks: Float32Array, segments: IntArray) -> Float64Array:
    """How well each segment fits the mask rows of the anchors inside it, `[N]` in [0, 1]."""
    anchors, snippets = masks.shape
    table = _summed(masks).ravel()
    start, end, before, after = _surroundings(segments, snippets)
    rows = (snippets + 1) * np.stack([start * anchors // snippets, (end - 1) * anchors // snippets + 1])  # [2, N]
    columns = np.stack([start, end, before, after])  # [4, N]
    top, bottom = table[rows[:, None] + columns]  # [4, N]
    of_start, of_end, of_before, of_after = bottom - top
    inner = (of_end - of_start) / _FIXED_POINT
    whole = (of_after - of_before) / _FIXED_POINT
    height = (rows[1] - rows[0]) // (snippets + 1)
    return _contrast(inner, whole - inner, (end - start) * height, (after - before) * height)


def _summed(masks: Float32Array) -> NDArray[np.int64]:
    """Sums of the masks `[A, T]` over rows and columns before each index: `[A+1, T+1]`, times `_FIXED_POINT`.

    Sums of integers down a column take a third of the time of float sums along a row.
    """
    table = np.zeros((masks.shape[0] + 1, masks.shape[1] + 1), dtype=np.int64)
    columns = (masks.T * np.float32(_FIXED_POINT)).astype(np.int64, order="C")  # [T, A]
    table[1:, 1:] = np.cumsum(columns, axis=0).T
    np.cumsum(table, axis=0, out=table)
    return table


def _contrast(inner: Float64Array, outer: Float64Array, inner_size: IntArray, size: IntArray) -> Float64Array:
    """Mean inside times its share of inside and outside, squared: a quarter where both means are the same."""
    inside = np.clip(inner / inner_size, 0.0, 1.0)
    outside = np.clip(outer / np.maximum(size - inner_size, 1), 0.0, 1.0)
    share = inside / np.maximum(inside + outside, np.finfo(np.float64).tiny)
    fit: Float64Array = inside * share * share
    return fit


def _best(segments: IntArray, labels: IntArray, scores: Float64Array, options: DecodeOptions) -> Proposals:
    """The best pairs of segment and class; `scores` is `[N, K]`."""
    flat = scores.ravel()
    floor = options.min_score
    if flat.size > options.max_candidates:
        # Sorting few is faster than sorting all; those that equal the last one must stay for their order to decide.
        floor = max(floor, np.nextafter(np.partition(flat, -options.max_candidates)[-options.max_candidates], 0.0))
    chosen = np.flatnonzero(flat > floor)
    chosen = chosen[np.argsort(-flat[chosen], kind="stable")[: options.max_candidates]]
    segment, label = np.divmod(chosen, len(labels))
    return Proposals(segments[segment], labels[label], flat[chosen])
