"""Kinds of detection errors, and reasons for missed instances.

After Alwassel et al., "Diagnosing Error in Temporal Action Detectors" (ECCV 2018): of every class the k·G
best-scoring detections are sorted into true positives and five kinds of false positives, G being the number of
instances of the class. With k = 10 the long tail of low scores counts, with k = 1 what hurts the mAP most.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.metrics.evaluation import tiou_text
from stale_edge_runtime.metrics.matching import UNMATCHED, Pairs, Table, match, overlapping, tabulate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.formats.annotations import Annotations
    from stale_edge_runtime.segments import FloatArray, IntArray

NEAR_TIOU: Final = 0.1
"""Below it two segments have nothing to do with each other."""
MULTIPLES: Final = (1, 10)
"""Number of detections looked at for each class, in multiples of its instances."""


class Verdict(StrEnum):
    """Kind of a detection: the first that holds, among the instances of its video."""

    TRUE_POSITIVE = "true positive"
    """Match of an instance of its class."""
    DOUBLE = "double"
    """Overlap with an instance of its class by the threshold or more, which a better-scoring detection has."""
    WRONG_CLASS = "wrong class"
    """Overlap with an instance of another class by the threshold or more."""
    POOR_OVERLAP = "poor overlap"
    """Overlap with an instance of its class by `NEAR_TIOU` or more, but less than the threshold."""
    CONFUSION = "wrong class, poor overlap"
    """Overlap with an instance of another class by `NEAR_TIOU` or more, but less than the threshold."""
    BACKGROUND = "background"
    """Overlap with nothing by `NEAR_TIOU` or more."""


class Fate(StrEnum):
    """Fate of an instance: the first that holds, among all detections of its video."""

    FOUND = "found"
    """A detection of its class matches it."""
    SHARED = "shared"
    """A detection of its class overlaps it by the threshold or more, and is matched to another instance."""
    WRONG_CLASS = "only as another class"
    """A detection of another class overlaps it by the threshold or more."""
    POOR_OVERLAP = "only with poor overlap"
    """A detection of its class overlaps it by `NEAR_TIOU` or more, but less than the threshold."""
    UNSEEN = "not at all"
    """Miss that is none of these."""


_Kind = TypeVar("_Kind", bound=StrEnum)


@dataclass(frozen=True)
class Breakdown:
    """Outcomes of the best-scoring detections."""

    multiple: int
    """Number of detections counted for each class, in multiples of its instances."""
    counts: Mapping[Verdict, int]
    """Number of detections of each outcome, every outcome present."""

    @property
    def detections(self) -> int:
        """Number of detections counted."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Diagnosis:
    """Errors of detections at one tIoU threshold."""

    tiou: float
    """The threshold."""
    breakdowns: tuple[Breakdown, ...]
    """Outcomes of few detections, then of more."""
    fates: Mapping[Fate, int]
    """Number of instances of each fate, over all detections; every fate present."""

    @property
    def missed(self) -> int:
        """Number of instances that no detection matches."""
        return sum(self.fates.values()) - self.fates[Fate.FOUND]

    def to_json(self) -> dict[str, Any]:
        """Give the diagnosis as JSON values."""
        return {
            "tiou": tiou_text(self.tiou),
            "top": {str(b.multiple): {kind.value: n for kind, n in b.counts.items()} for b in self.breakdowns},
            "instances": {fate.value: count for fate, count in self.fates.items()},
        }


@dataclass(frozen=True)
class Judgement:
    """Verdict on every detection, and the finder of every instance, at one tIoU threshold."""

    verdicts: Mapping[str, tuple[Verdict | None, ...]]
    """Verdicts on the detections of each video, in their order; None where the ground truth lacks label or video."""
    finders: Mapping[str, tuple[int | None, ...]]
    """Positions of the detections that match the instances of each video, in the order of the annotations; None where
    none does."""


def judge(ground_truth: Annotations, results: Mapping[str, Sequence[Detection]], tiou: float = 0.5) -> Judgement:
    """Tell for every detection what it is and for every instance which detection finds it.

    Better-scoring detections are served first, so that a verdict holds whatever is left out below a score.

    Args:
        ground_truth: The videos that count.
        results: Detections of each video, in any order.
        tiou: The threshold, at least `NEAR_TIOU` and at most 1.

    Raises:
        UsageError: The threshold is out of range.
    """
    table, own, other = _overlaps(ground_truth, results, tiou)
    matched = match(own, tiou, len(table.detections), len(table.instances))
    known, classes = {video.id for video in ground_truth.videos}, frozenset(table.classes)
    counted = [
        (video, index)
        for video, found in results.items()
        if video in known
        for index, detection in enumerate(found)
        if detection.label in classes
    ]
    kinds = tuple(Verdict)
    verdicts: dict[str, list[Verdict | None]] = {video: [None] * len(found) for video, found in results.items()}
    outcomes = _outcomes(own, other, matched, tiou)
    for place, outcome in zip(table.detections.place.tolist(), outcomes.tolist(), strict=True):
        video, index = counted[place]
        verdicts[video][index] = kinds[outcome]
    instances = [(video.id, index) for video in ground_truth.videos for index in range(len(video.instances))]
    finders: dict[str, list[int | None]] = {video.id: [None] * len(video.instances) for video in ground_truth.videos}
    places = table.detections.place, table.instances.place
    for row in np.flatnonzero(matched != UNMATCHED).tolist():
        video, index = instances[places[1][matched[row]]]
        finders[video][index] = counted[places[0][row]][1]
    return Judgement(
        {video: tuple(found) for video, found in verdicts.items()},
        {video: tuple(found) for video, found in finders.items()},
    )


def diagnose(
    ground_truth: Annotations,
    results: Mapping[str, Sequence[Detection]],
    tiou: float = 0.5,
    multiples: Sequence[int] = MULTIPLES,
) -> Diagnosis:
    """Sort detections and instances by what went wrong.

    Detections whose label or video is not in the ground truth are left out, as in `evaluate`.

    Args:
        ground_truth: The videos that count.
        results: Detections of each video, in any order.
        tiou: The threshold, at least `NEAR_TIOU` and at most 1.
        multiples: Number of detections of each class to count, in multiples of its instances.

    Raises:
        UsageError: The threshold is out of range, or a multiple is below 1.
    """
    if any(multiple < 1 for multiple in multiples):
        raise UsageError("diagnosis", "needs multiples from 1")
    table, own, other = _overlaps(ground_truth, results, tiou)
    matched = match(own, tiou, len(table.detections), len(table.instances))
    outcomes = _outcomes(own, other, matched, tiou)
    rank = _rank_in_class(table)
    counts = np.bincount(table.instances.label, minlength=len(table.classes))[table.detections.label]
    breakdowns = tuple(
        Breakdown(multiple, _tally(Verdict, outcomes[rank < multiple * counts])) for multiple in multiples
    )
    return Diagnosis(tiou, breakdowns, _tally(Fate, _fates(own, other, matched, len(table.instances), tiou)))


def _overlaps(
    ground_truth: Annotations, results: Mapping[str, Sequence[Detection]], tiou: float
) -> tuple[Table, Pairs, Pairs]:
    """Tabulate, and pair detections with instances of their own class and with those of others."""
    if not NEAR_TIOU <= tiou <= 1:
        raise UsageError("diagnosis", f"needs a tIoU from {NEAR_TIOU} to 1")
    table = tabulate(ground_truth, results, keep_unknown_videos=False)
    pairs = overlapping(table.detections, table.instances, NEAR_TIOU, same_class=False)
    same_class = table.detections.label[pairs.detection] == table.instances.label[pairs.instance]
    return table, _select(pairs, same_class), _select(pairs, ~same_class)


def _select(pairs: Pairs, kept: NDArray[np.bool_]) -> Pairs:
    return Pairs(pairs.detection[kept], pairs.instance[kept], pairs.tiou[kept])


def _outcomes(own: Pairs, other: Pairs, matched: IntArray, tiou: float) -> IntArray:
    """Verdict of every detection, `[N]`: index into `Verdict`."""
    best_own = _best(own.detection, own.tiou, len(matched))
    best_other = _best(other.detection, other.tiou, len(matched))
    conditions = (
        matched != UNMATCHED,
        best_own >= tiou,
        best_other >= tiou,
        best_own >= NEAR_TIOU,
        best_other >= NEAR_TIOU,
    )
    return _first_that_holds(conditions)


def _fates(own: Pairs, other: Pairs, matched: IntArray, instances: int, tiou: float) -> IntArray:
    """Fate of every instance, `[M]`: index into `Fate`."""
    found = np.zeros(instances, dtype=np.bool_)
    found[matched[matched != UNMATCHED]] = True
    best_own = _best(own.instance, own.tiou, instances)
    best_other = _best(other.instance, other.tiou, instances)
    return _first_that_holds((found, best_own >= tiou, best_other >= tiou, best_own >= NEAR_TIOU))


def _first_that_holds(conditions: Sequence[NDArray[np.bool_]]) -> IntArray:
    """Index of the first condition that is true at each place; one past the last where none is."""
    return np.asarray(np.argmax(np.stack([*conditions, np.ones_like(conditions[0])]), axis=0))


def _best(rows: IntArray, tiou: FloatArray, count: int) -> FloatArray:
    """Highest tIoU of each row, `[count]`; 0 where a row is in no pair."""
    best = np.zeros(count)
    np.maximum.at(best, rows, tiou)
    return best


def _rank_in_class(table: Table) -> IntArray:
    """Position of every detection among those of its class, best score first."""
    label = table.detections.label
    return np.arange(len(label)) - np.searchsorted(label, label, side="left")


def _tally(kinds: type[_Kind], codes: IntArray) -> dict[_Kind, int]:
    counts = np.bincount(codes, minlength=len(kinds)).tolist()
    return dict(zip(kinds, counts, strict=True))
