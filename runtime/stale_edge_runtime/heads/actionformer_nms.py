"""Non-maximum suppression and voting as published for ActionFormer, in float32.

The published soft suppression works in place: the first best of the rest is swapped to the front, and what fades below
the least score is replaced by the last entry. Where scores are equal, these swaps decide the order, so they are
followed there; elsewhere the order of entries plays no part, and overlaps are computed for many entries at once.

Symbols: N segments, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from stale_edge_runtime.heads.actionformer_options import DecodeSettings

Floats: TypeAlias = NDArray[np.float32]
Indices: TypeAlias = NDArray[np.intp]

LENGTH_MARGIN: Final = np.float32(1e-6)
"""Added to lengths, as published, so that a union is never 0."""
ROWS: Final = 32
"""Segments whose overlaps with all others are computed at once."""


def suppress(segments: Floats, scores: Floats, labels: Indices, settings: DecodeSettings) -> tuple[Indices, Floats]:
    """Suppress overlapping segments as the settings say.

    Where the scores of a class are distinct, it goes with all others of its kind; else by itself, as published.

    Args:
        segments: [N, 2].
        scores: [N].
        labels: [N].
        settings: Method and its numbers.

    Returns:
        Indices of what is kept, the best first, and their scores; at most `settings.limit`.
    """
    everything = np.arange(len(scores))
    if settings.method == "none" or not len(scores):
        return everything, scores
    lanes = labels if settings.per_class else np.zeros_like(labels)
    by_hand = np.unique(lanes) if settings.method == "hard" else _intricate(lanes, scores, settings.min_score)
    kept, found = [], []
    for lane in by_hand:
        group = everything[lanes == lane]
        method = hard_nms if settings.method == "hard" else soft_nms
        chosen, lowered = method(segments[group], scores[group], settings)
        kept.append(group[chosen])
        found.append(lowered)
    rest = everything[~np.isin(lanes, by_hand)] if len(by_hand) else everything
    if len(rest):
        chosen, lowered = soft_nms_distinct(segments[rest], scores[rest], lanes[rest], settings)
        kept.append(rest[chosen])
        found.append(lowered)
    joined, joined_scores = np.concatenate(kept), np.concatenate(found)
    order = np.lexsort((lanes[joined], -joined_scores)) if settings.per_class else slice(None)
    return joined[order], joined_scores[order]


def _intricate(lanes: Indices, scores: Floats, least: float) -> Indices:
    """Lanes in which scores are equal or below the least, so that the order of entries plays a part."""
    order = np.lexsort((scores, lanes))
    ordered, values = lanes[order], scores[order]
    tied = (values[1:] == values[:-1]) & (ordered[1:] == ordered[:-1])
    return np.unique(np.concatenate((ordered[1:][tied], ordered[values < least])))


def soft_nms(segments: Floats, scores: Floats, settings: DecodeSettings) -> tuple[Indices, Floats]:
    """Lower the scores of segments that overlap a better one, entry by entry as published.

    Args:
        segments: [N, 2].
        scores: [N].
        settings: Sigma, least score and limit.

    Returns:
        Indices of what is kept, in order, and their scores; at most the limit.
    """
    order, left = np.arange(len(scores)), scores.astype(np.float32)
    boxes = segments.astype(np.float32)
    live, at = len(left), 0
    while at < min(live, settings.limit):
        best = at + int(left[at:live].argmax())
        for array in (order, left, boxes):
            array[[at, best]] = array[[best, at]]
        rest = slice(at + 1, live)
        left[rest] *= _decay(boxes[at : at + 1], boxes[rest], settings)[0]
        gone = left[rest] < settings.min_score
        kept = int(np.count_nonzero(~gone))
        holes = at + 1 + np.flatnonzero(gone[:kept])
        fillers = at + 1 + kept + np.flatnonzero(~gone[kept:])[::-1]
        for array in (order, left, boxes):
            array[holes] = array[fillers]
        at, live = at + 1, at + 1 + kept
    return order[:at], left[:at]


def soft_nms_distinct(
    segments: Floats, scores: Floats, lanes: Indices, settings: DecodeSettings
) -> tuple[Indices, Floats]:
    """Do what `soft_nms` does to every lane, for scores of which no two are equal; the lanes are merged by score.

    Args:
        segments: [N, 2].
        scores: [N], at least the least score of the settings.
        lanes: Segments of different lanes leave each other alone, [N].
        settings: Sigma, least score and limit.

    Returns:
        Indices of what is kept, the best first, and their scores; at most the limit.
    """
    order = np.argsort(lanes, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(lanes[order]) != 0])
    bounds = np.repeat(np.stack((starts, np.r_[starts[1:], len(order)]), axis=1), np.diff(np.r_[starts, len(order)]), 0)
    boxes, left = segments[order], scores[order]
    rows: dict[int, Floats] = {}
    kept: list[int] = []
    found: list[float] = []
    while len(kept) < settings.limit:
        best = int(left.argmax())
        score = left[best]
        if score < settings.min_score:
            break
        if best not in rows:
            rows |= _rows(boxes, left, bounds, best, settings)
        kept.append(best)
        found.append(score)
        first, last = bounds[best]
        lane = left[first:last]
        lane *= rows.pop(best)
        left[best] = 0.0
    return order[np.array(kept, dtype=np.intp)], np.array(found, dtype=np.float32)


def _rows(
    boxes: Floats, left: Floats, bounds: NDArray[np.intp], best: int, settings: DecodeSettings
) -> dict[int, Floats]:
    """Decay that the best entries of one lane bring to all of it, by entry."""
    first, last = bounds[best]
    lane = left[first:last]
    count = min(ROWS, len(lane))
    chosen = np.argpartition(-lane, count - 1)[:count]
    chosen = chosen[lane[chosen] > 0]
    decay = _decay(boxes[first + chosen], boxes[first:last], settings)
    return dict(zip((first + chosen).tolist(), decay, strict=True))


def _decay(chosen: Floats, others: Floats, settings: DecodeSettings) -> Floats:
    """Factors that `chosen` [M, 2] lower the scores of `others` [N, 2] by, [M, N]."""
    overlap = _shared(chosen, others)
    lengths = others[:, 1] - others[:, 0] + LENGTH_MARGIN
    union = (chosen[:, 1] - chosen[:, 0] + LENGTH_MARGIN)[:, None] + lengths
    union -= overlap
    overlap /= union
    if settings.method == "linear":
        return np.where(overlap >= settings.overlap, 1 - overlap, np.float32(1))
    overlap *= overlap
    overlap /= np.float32(-settings.sigma)
    return np.exp(overlap, out=overlap)


def hard_nms(segments: Floats, scores: Floats, settings: DecodeSettings) -> tuple[Indices, Floats]:
    """Remove segments that overlap a better one.

    Args:
        segments: [N, 2].
        scores: [N].
        settings: Overlap, from which on a segment goes, and least score.

    Returns:
        Indices of what is kept, in order, and their scores.
    """
    order = np.flatnonzero(scores > settings.min_score)
    order = order[np.argsort(-scores[order], kind="stable")]
    kept: list[int] = []
    while len(order) and len(kept) < settings.limit:
        best, order = order[0], order[1:]
        kept.append(best)
        shared = _shared(segments[[best]], segments[order])[0]
        lengths = segments[:, 1] - segments[:, 0] + LENGTH_MARGIN
        order = order[shared / (lengths[best] + lengths[order] - shared) < settings.overlap]
    indices = np.array(kept, dtype=np.intp)
    return indices, scores[indices]


def vote(kept: Floats, candidates: Floats, scores: Floats, threshold: float) -> Floats:
    """Move segments to the mean of the candidates that they overlap, by score and overlap.

    Args:
        kept: [K, 2].
        candidates: [N, 2].
        scores: Scores of the candidates, before suppression, [N].
        threshold: IoU from which a candidate counts.

    Returns:
        Segments [K, 2].
    """
    shared = _shared(kept, candidates)
    union = (kept[:, 1] - kept[:, 0])[:, None] + (candidates[:, 1] - candidates[:, 0])
    overlap = shared / (union - shared)
    weights = np.where(overlap >= threshold, overlap * scores, np.float32(0))  # [K, N]
    total = weights.sum(axis=1, keepdims=True)
    voted: Floats = np.divide(weights @ candidates, total, out=kept.copy(), where=total > 0)
    return voted


def _shared(first: Floats, second: Floats) -> Floats:
    """Time that `first` [M, 2] and `second` [N, 2] have in common, [M, N]."""
    shared = np.minimum(first[:, 1:], second[:, 1])
    shared -= np.maximum(first[:, :1], second[:, 0])
    return np.maximum(shared, 0, out=shared)
