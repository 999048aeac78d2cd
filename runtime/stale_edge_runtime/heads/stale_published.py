"""Proposals exactly as the published code makes them, so that published results can be reproduced.

Source: docs/protocol.md §4 (a)-(c). Known defects, kept on purpose: one class labels the whole video, and all
runs of an action are merged into one span. The default decoding is in `proposals`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stale_edge_runtime.segments import FloatArray, IntArray, runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CLASS_LEVELS = np.arange(10, dtype=np.float32) / np.float32(10)
_MASK_LEVELS = np.arange(0, 10, 2, dtype=np.float32) / np.float32(10)
_TOP_SNIPPETS = 10
_MIN_SPAN = 1
_MIN_RUN_SHARE = 0.02


@dataclass(frozen=True)
class PublishedProposals:
    """Proposals of one video, sorted by start, end and both scores."""

    segments: NDArray[np.float64]
    """`[N, 2]`, start and end relative to the video."""
    class_scores: NDArray[np.float64]
    """`[N]`, the published `clr`: class probability times mask value, or a mask value alone."""
    snippet_scores: NDArray[np.float64]
    """`[N]`, the published `reg`: class probability times that of the seed snippet, or that of a span."""
    label: int
    """Index of the one class that labels all of them."""

    @property
    def scores(self) -> NDArray[np.float64]:
        """`[N]`, the product of both scores."""
        return self.class_scores * self.snippet_scores


def published_proposals(class_logits: FloatArray, masks: FloatArray) -> PublishedProposals:
    """Make the proposals of one video.

    Args:
        class_logits: `[T, C+1]`, background last.
        masks: `[A, T]`.
    """
    snippets = len(class_logits)
    logits = np.asarray(class_logits, dtype=np.float32)
    probabilities = _softmax(logits)[:, :-1]  # [T, C]
    label = int(logits[:, :-1].mean(axis=0).argmax())
    curve = probabilities.max(axis=1)  # [T]
    seeds = np.argsort(-curve, kind="stable")[:_TOP_SNIPPETS]
    rows = np.asarray(masks, dtype=np.float32)[seeds * len(masks) // snippets]  # [S, T]
    spans = _class_spans(curve)
    from_masks = _mask_proposals(rows, curve[seeds], probabilities[:, label])
    used = np.unique(from_masks[:, 0].astype(np.intp))
    from_spans = _span_proposals(rows[used], *spans)
    table = np.unique(np.concatenate([from_masks[:, 1:], from_spans]), axis=0)  # sorted, duplicates removed
    return PublishedProposals(table[:, :2] / snippets, table[:, 2], table[:, 3], label)


def _class_spans(curve: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """First and last snippet above each level, holes filled, and the highest value before the last."""
    above = curve > _CLASS_LEVELS[:, None]  # [L, T]
    first, last = _extent(above)
    keep = above.any(axis=1) & (last - first > _MIN_SPAN)
    first, last = first[keep], last[keep]
    return first, last, _max_within(curve[None], first, last)


def _mask_proposals(rows: FloatArray, seed_scores: FloatArray, class_curve: FloatArray) -> FloatArray:
    """Proposals from the mask rows of the seeds: `[N, 5]`, seed row, first, last, clr, reg."""
    snippets = rows.shape[1]
    above = (rows[:, None] > _MASK_LEVELS[:, None]).reshape(-1, snippets)  # [S · L, T]
    run_row, run_first, run_end = runs(above)
    order = np.lexsort((run_first, run_first - run_end, run_row))  # longest first, then earliest
    which, position = np.unique(run_row[order], return_index=True)
    run_first, run_last = run_first[order][position], run_end[order][position] - 1
    used = (run_last - run_first) / snippets > _MIN_RUN_SHARE
    which, run_first, run_last = which[used], run_first[used], run_last[used]
    first, last = _extent(above[which])
    seed = which // len(_MASK_LEVELS)
    mask_score = _max_within(rows[seed], run_first + 1, run_last - 1)
    class_score = _max_within(class_curve[None], run_first, run_last)
    clr, reg = class_score * mask_score, class_score * seed_scores[seed]
    return np.stack([seed, first, last, clr, reg], axis=1).astype(np.float64).reshape(-1, 5)


def _span_proposals(rows: FloatArray, first: IntArray, last: IntArray, scores: FloatArray) -> FloatArray:
    """Combine every class span with every mask row: `[N, 4]`, first, last, clr, reg."""
    row, span = (index.ravel() for index in np.indices((len(rows), len(first))))
    clr = _max_within(rows[row], first[span], last[span])
    table = np.stack([first[span], last[span], clr, scores[span]], axis=1)
    return table.astype(np.float64).reshape(-1, 4)


def _extent(above: NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    """First and last true index of each row; meaningless where there is none."""
    return above.argmax(axis=1), above.shape[1] - 1 - above[:, ::-1].argmax(axis=1)


def _max_within(rows: FloatArray, first: IntArray, end: IntArray) -> FloatArray:
    """Highest value of each row over [first, end), 0 where that is empty.

    The published code fails on an empty range, which takes fewer snippets than it was written for.
    """
    index = np.arange(rows.shape[1])
    inside = (index >= first[:, None]) & (index < end[:, None])
    highest: FloatArray = np.where(inside, rows, np.float32(0)).max(axis=1)
    return highest


def _softmax(logits: FloatArray) -> FloatArray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    normalised: FloatArray = shifted / shifted.sum(axis=1, keepdims=True)
    return normalised
