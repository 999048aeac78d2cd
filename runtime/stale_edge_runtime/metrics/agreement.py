"""Agreement of two detectors on the same videos, in the task's own units.

Detections of one video are paired one to one, the best overlaps first: within a label at tIoU >= 0.5, then
what is left across labels. Pairs within a label give the share matched (tIoU >= 0.95), the boundary shift and
the order of scores; pairs across labels are class flips.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stale_edge_runtime.segments import tiou

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from stale_edge_runtime.decoding import Detection

MATCHED_TIOU = 0.95
PAIRED_TIOU = 0.5


@dataclass(frozen=True)
class Agreement:
    """Agreement of two lists of detections, or of many such lists taken together."""

    videos: int
    """Videos compared."""
    detections: tuple[int, int]
    """Detections on either side."""
    matched: int
    """Pairs of one label with tIoU >= 0.95."""
    paired: int
    """Pairs of one label with tIoU >= 0.5."""
    flips: int
    """Pairs of different labels with tIoU >= 0.5, neither of which has a partner of its own label."""
    concordant: int
    """Couples of pairs, within a video, that both sides put in the same order of score."""
    discordant: int
    """Couples of pairs that the two sides put in opposite order."""
    shifts_s: NDArray[np.float64] = field(repr=False)
    """Distance of starts and of ends of every pair of one label, in seconds."""

    @property
    def matched_share(self) -> float:
        """Matched detections over all detections of both sides; 1 where neither found anything."""
        total = sum(self.detections)
        return 2 * self.matched / total if total else 1.0

    @property
    def flip_share(self) -> float:
        """Class flips over all pairs."""
        return self.flips / (self.paired + self.flips) if self.flips else 0.0

    @property
    def rank_correlation(self) -> float | None:
        """Kendall's rank correlation of scores within videos, couples tied on a side left out.

        (concordant - discordant) / (concordant + discordant): 1 in the same order, -1 reversed. None where no
        video has two pairs.
        """
        couples = self.concordant + self.discordant
        return (self.concordant - self.discordant) / couples if couples else None

    @property
    def shift_median_s(self) -> float | None:
        """Median boundary shift; None without pairs."""
        return float(np.median(self.shifts_s)) if self.shifts_s.size else None

    @property
    def shift_p95_s(self) -> float | None:
        """95th percentile of the boundary shift; None without pairs."""
        return float(np.percentile(self.shifts_s, 95)) if self.shifts_s.size else None

    @classmethod
    def total(cls, parts: Iterable[Agreement]) -> Agreement:
        """Agreement over many videos: counts are added, shifts pooled."""
        listed = list(parts)
        shifts = [part.shifts_s for part in listed]
        counts = ("videos", "matched", "paired", "flips", "concordant", "discordant")
        return cls(
            detections=(sum(part.detections[0] for part in listed), sum(part.detections[1] for part in listed)),
            shifts_s=np.concatenate(shifts) if shifts else np.zeros(0),
            **{name: sum(getattr(part, name) for part in listed) for name in counts},
        )


def agreement(a: Sequence[Detection], b: Sequence[Detection]) -> Agreement:
    """Compare the detections of one video."""
    spans_a, spans_b = _spans(a), _spans(b)
    overlap = tiou(spans_a, spans_b)  # [A, B]
    same = np.array([[x.label == y.label for y in b] for x in a], dtype=np.bool_).reshape(len(a), len(b))
    rows, columns = _pair(np.where(same, overlap, 0.0))
    left = overlap.copy()
    left[rows] = 0.0
    left[:, columns] = 0.0
    flips, _ = _pair(np.where(same, 0.0, left))
    scores_a = np.array([a[row].score for row in rows])
    scores_b = np.array([b[column].score for column in columns])
    concordant, discordant = _order(scores_a, scores_b)
    return Agreement(
        videos=1,
        detections=(len(a), len(b)),
        matched=int((overlap[rows, columns] >= MATCHED_TIOU).sum()),
        paired=len(rows),
        flips=len(flips),
        concordant=concordant,
        discordant=discordant,
        shifts_s=np.abs(spans_a[rows] - spans_b[columns]).ravel(),
    )


def _pair(overlap: NDArray[np.float64]) -> tuple[list[int], list[int]]:
    """Pair one to one, greedily by descending overlap (ties: the earlier row, then column)."""
    rows: list[int] = []
    columns: list[int] = []
    candidates = np.flatnonzero(overlap >= PAIRED_TIOU)
    order = candidates[np.argsort(-overlap.flat[candidates], kind="stable")]
    free_row, free_column = np.ones(overlap.shape[0], np.bool_), np.ones(overlap.shape[1], np.bool_)
    for row, column in zip(*np.unravel_index(order, overlap.shape), strict=True):
        if free_row[row] and free_column[column]:
            free_row[row] = free_column[column] = False
            rows.append(int(row))
            columns.append(int(column))
    return rows, columns


def _order(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[int, int]:
    """Couples ordered alike and ordered oppositely by the two score lists, of one length."""
    product = np.sign(a[:, None] - a[None, :]) * np.sign(b[:, None] - b[None, :])
    return int((product > 0).sum()) // 2, int((product < 0).sum()) // 2


def _spans(detections: Sequence[Detection]) -> NDArray[np.float64]:
    return np.array([(d.start_s, d.end_s) for d in detections], dtype=np.float64).reshape(-1, 2)
