"""Matching of detections to instances: ground truth and detections as columns, and their one-to-one matching.

Everything is ordered by content (class, score, video, segment), never by position in a file, so that what is
computed from it does not depend on how files are written.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.segments import FloatArray, IntArray, paired_tiou

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.formats.annotations import Annotations

UNMATCHED: Final = -1
MAX_PAIRS: Final = 1 << 23
"""Small files can hold any number of pairs; beyond these memory would run out."""
_ANY_OVERLAP: Final = 1e-12
_PAIRS_AT_ONCE: Final = 1 << 20


@dataclass(frozen=True)
class Columns:
    """Segments of many videos, a row each."""

    label: IntArray
    """Class of each row, `[N]`: index into the classes of the ground truth."""
    video: IntArray
    """Video of each row, `[N]`: rank of its id among all ids in play."""
    segment: FloatArray
    """Start and end in seconds, `[N, 2]`."""
    score: FloatArray
    """Score of each row, `[N]`; zeros for ground truth."""
    place: IntArray
    """Position of each row in the order it was given in, `[N]`: that of the file, without rows that do not count."""

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Columns:
        """Select the rows of an index or a mask."""
        return Columns(self.label[rows], self.video[rows], self.segment[rows], self.score[rows], self.place[rows])


@dataclass(frozen=True)
class Table:
    """Ground truth and the detections that are judged by it."""

    classes: tuple[str, ...]
    """Classes of the ground truth, sorted."""
    instances: Columns
    """Ground truth, by class, video, start and end."""
    detections: Columns
    """Detections by class, then descending score; equal scores by video, start and end."""
    over_ambiguous: NDArray[np.bool_]
    """Whether each detection overlaps an ambiguous segment, `[detections]`: if so it is no false positive."""
    videos: int
    """Videos of the ground truth."""
    silent_videos: int
    """Number of videos without a detection of any label."""
    unknown_labels: Mapping[str, int]
    """Labels that the ground truth has not, and how many detections carry each."""
    unknown_videos: Mapping[str, int]
    """Videos that the ground truth has not, and how many detections each has."""


@dataclass(frozen=True)
class Pairs:
    """Detections and instances of one video that overlap."""

    detection: IntArray
    """Row of the detection, `[P]`, ascending."""
    instance: IntArray
    """Row of the instance, `[P]`; of one detection the best overlap first, of equal ones the last."""
    tiou: FloatArray
    """Temporal intersection over union of the pairs, `[P]`."""


def tabulate(
    ground_truth: Annotations, results: Mapping[str, Sequence[Detection]], *, keep_unknown_videos: bool
) -> Table:
    """Ground truth and detections as sorted columns.

    Args:
        ground_truth: The videos that count.
        results: Detections of each video.
        keep_unknown_videos: Whether detections in videos that the ground truth has not are judged too (as
            false positives: nothing can match them).
    """
    known = {video.id for video in ground_truth.videos}
    classes = ground_truth.classes
    label_of = {label: index for index, label in enumerate(classes)}
    rank_of = {video: rank for rank, video in enumerate(sorted(known | results.keys()))}
    unknown_labels: Counter[str] = Counter()
    rows: list[tuple[int, int, float, float, float]] = []
    for video, found in results.items():
        if video not in known and not keep_unknown_videos:
            continue
        rank = rank_of[video]
        for detection in found:
            label = label_of.get(detection.label)
            if label is None:
                unknown_labels[detection.label] += 1
            else:
                rows.append((label, rank, detection.start_s, detection.end_s, detection.score))
    instances = (
        (label_of[instance.label], rank_of[video.id], instance.start_s, instance.end_s, 0.0)
        for video in ground_truth.videos
        for instance in video.instances
    )
    detections = _sorted_columns(rows)
    return Table(
        classes,
        _sorted_columns(instances),
        detections,
        _over_ambiguous(ground_truth, rank_of, detections),
        videos=len(known),
        silent_videos=sum(not results.get(video) for video in known),
        unknown_labels=unknown_labels,
        unknown_videos={video: len(found) for video, found in results.items() if video not in known},
    )


def _over_ambiguous(ground_truth: Annotations, rank_of: Mapping[str, int], detections: Columns) -> NDArray[np.bool_]:
    """Tell which detections overlap an ambiguous segment of their video, however little."""
    segments = _sorted_columns(
        (0, rank_of[video.id], segment.start_s, segment.end_s, 0.0)
        for video in ground_truth.videos
        for segment in video.ambiguous
    )
    over = np.zeros(len(detections), dtype=np.bool_)
    if len(segments):
        over[overlapping(detections, segments, _ANY_OVERLAP, same_class=False).detection] = True
    return over


def overlapping(detections: Columns, instances: Columns, min_tiou: float, *, same_class: bool) -> Pairs:
    """Find all pairs of a detection and an instance of its video whose tIoU is at least `min_tiou`.

    Args:
        detections: Any order.
        instances: Any order.
        min_tiou: Above 0; pairs below it are left out.
        same_class: Whether the two must be of one class.

    Raises:
        BadDataError: There are more than `MAX_PAIRS`; a whole validation set has less than a tenth of it.
    """
    videos = 1 + max(detections.video.max(initial=0), instances.video.max(initial=0))
    groups = [columns.label * (videos * same_class) + columns.video for columns in (detections, instances)]
    by_group = np.argsort(groups[1], kind="stable")
    first = np.searchsorted(groups[1][by_group], groups[0], side="left")
    counts = np.searchsorted(groups[1][by_group], groups[0], side="right") - first
    found, total = [], 0
    for rows in _blocks(counts):
        found.append(_pairs_of_block(detections, instances, by_group, first, counts, rows, min_tiou))
        total += len(found[-1][0])
        if total > MAX_PAIRS:
            problem = f"more than {MAX_PAIRS:,} pairs of a detection and an instance overlap"
            raise BadDataError("results", problem, "keep fewer detections of a video")
    detection, instance, tiou = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((-instance, -tiou, detection))
    return Pairs(detection[order], instance[order], tiou[order])


def match(pairs: Pairs, min_tiou: float, detections: int, instances: int) -> IntArray:
    """Match one to one: in order of rows each detection takes the best instance that is still free.

    Computed without a loop over detections: every detection asks for its best instance, an instance keeps the
    first detection (in row order) that asked, the others ask for their next best, until nobody asks any more.
    As all instances prefer detections in the same order, the outcome is that of serving them one by one.

    Args:
        pairs: Overlapping pairs of one class each.
        min_tiou: Pairs below it do not match.
        detections: Number of detections, by rank: a lower row goes first.
        instances: Number of instances.

    Returns:
        Row of the instance of each detection or `UNMATCHED`, `[detections]`.
    """
    good = pairs.tiou >= min_tiou
    wanted = pairs.instance[good]
    rows = np.arange(detections)
    asking = np.searchsorted(pairs.detection[good], rows, side="left")
    last = np.searchsorted(pairs.detection[good], rows, side="right")
    holder = np.full(instances, detections)
    active = np.flatnonzero(asking < last)
    while active.size:
        choice = wanted[asking[active]]
        displaced = holder[np.unique(choice)]
        np.minimum.at(holder, choice, active)
        losers = active[holder[choice] != active]
        displaced = displaced[displaced < detections]
        displaced = displaced[holder[wanted[asking[displaced]]] != displaced]
        active = np.concatenate((losers, displaced))
        asking[active] += 1
        active = active[asking[active] < last[active]]
    matched = np.full(detections, UNMATCHED)
    taken = np.flatnonzero(holder < detections)
    matched[holder[taken]] = taken
    return matched


def _sorted_columns(rows: Iterable[tuple[int, int, float, float, float]]) -> Columns:
    """Rows of class, video, start, end and score as columns: by class, descending score, video, start, end."""
    table = np.array(list(rows), dtype=np.float64).reshape(-1, 5)
    label, video, start, end, score = table.T
    order = np.lexsort((end, start, video, -score, label))
    table = table[order]
    whole = table[:, :2].astype(np.int64)
    return Columns(whole[:, 0], whole[:, 1], table[:, 2:4], table[:, 4], order)


def _blocks(counts: IntArray) -> list[IntArray]:
    """Rows of detections in blocks of about `_PAIRS_AT_ONCE` pairs, so that memory stays bounded."""
    rows = np.flatnonzero(counts)
    block = (np.cumsum(counts[rows]) - 1) // _PAIRS_AT_ONCE
    return np.split(rows, np.flatnonzero(np.diff(block)) + 1)


def _pairs_of_block(
    detections: Columns,
    instances: Columns,
    by_group: IntArray,
    first: IntArray,
    counts: IntArray,
    rows: IntArray,
    min_tiou: float,
) -> tuple[IntArray, IntArray, FloatArray]:
    """Detection, instance and tIoU of the pairs of some detections that overlap enough."""
    counts = counts[rows]
    detection = np.repeat(rows, counts)
    offset = np.arange(len(detection)) - np.repeat(np.cumsum(counts) - counts, counts)
    instance = by_group[np.repeat(first[rows], counts) + offset]
    mine, theirs = detections.segment[detection], instances.segment[instance]
    # An instance of length zero has no union to divide by; a detection of the same instant finds it.
    tiou = np.where((mine == theirs).all(axis=1), 1.0, paired_tiou(mine, theirs))
    enough = tiou >= min_tiou
    return detection[enough], instance[enough], tiou[enough]
