"""Mean average precision of temporal action localization, as ActivityNet defines it (docs/protocol.md §5).

Per class and tIoU, detections in descending order of score each take the free instance of highest tIoU at or above
the threshold in their video; average precision is interpolated (every precision is raised to the best one at any
higher recall); the mean goes over the classes of the ground truth. Differences to the published evaluator:

* every ground-truth video counts; the published one drops those without detections (`compat="stale"`);
* detections in videos that the ground truth has not are ignored and counted; the published one takes them as false
  positives (`compat="stale"`);
* equal scores are ordered by video, start and end; the published order is that of the file, unstably sorted;
* a threshold of 0.9 is 0.9; the published one is 0.8999999999999999.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.heads.stale import STALE
from stale_edge_runtime.metrics.matching import UNMATCHED, match, overlapping, tabulate
from stale_edge_runtime.metrics.threshold import best_f1_score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.formats.annotations import Annotations

ACTIVITYNET_TIOUS: Final = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
THUMOS_TIOUS: Final = (0.3, 0.4, 0.5, 0.6, 0.7)
MAX_TIOUS: Final = 1000


@dataclass(frozen=True)
class EvaluationResult:
    """Average precision of every class at every tIoU, and what was counted."""

    tious: tuple[float, ...]
    """The thresholds, as given."""
    classes: tuple[str, ...]
    """Classes of the ground truth, sorted."""
    average_precision: NDArray[np.float64]
    """`[classes, tious]`, in [0, 1]."""
    instances: Mapping[str, int]
    """Number of ground-truth instances of each class."""
    videos: int
    """Number of ground-truth videos that counted."""
    silent_videos: int
    """Number of videos without a detection; none in compat, which leaves them out."""
    dropped_videos: int
    """Ground-truth videos that compat left out because they have no detection."""
    detections: int
    """Number of detections that were judged."""
    ignored_labels: Mapping[str, int]
    """Labels that are not in the ground truth, and how many detections carry each; they count for no class."""
    unknown_videos: Mapping[str, int]
    """Videos that are not in the ground truth, and how many detections each has."""
    compat: str | None
    """Published code whose rules were followed; None for ours."""
    suggested_min_score: float = 0.0
    """Score to cut at for the highest F1 over all classes at the first tIoU; 0 where nothing is found."""

    @property
    def map(self) -> tuple[float, ...]:
        """Mean average precision at each tIoU, in [0, 1]."""
        return tuple(float(value) for value in self.average_precision.mean(axis=0))

    @property
    def average_map(self) -> float:
        """Mean of `map` over the thresholds, in [0, 1]."""
        return float(np.mean(self.map))

    def to_json(self) -> dict[str, Any]:
        """Give the result as JSON values; mAP as fractions, thresholds as text with two digits or more."""
        keys = [tiou_text(tiou) for tiou in self.tious]
        return {
            "average_map": self.average_map,
            "map": dict(zip(keys, self.map, strict=True)),
            "classes": {
                name: {
                    "average": float(row.mean()),
                    "ap": dict(zip(keys, row.tolist(), strict=True)),
                    "instances": self.instances[name],
                }
                for name, row in zip(self.classes, self.average_precision, strict=True)
            },
            "videos": self.videos,
            "videos_without_detections": self.silent_videos,
            "instances": sum(self.instances.values()),
            "detections": self.detections,
            "ignored": {
                "labels": dict(self.ignored_labels),
                "videos": {} if self.compat else dict(self.unknown_videos),
                "ground_truth_videos": self.dropped_videos,
            },
            "compat": self.compat,
        }


def evaluate(
    ground_truth: Annotations,
    results: Mapping[str, Sequence[Detection]],
    tious: Sequence[float] = ACTIVITYNET_TIOUS,
    *,
    compat: str | None = None,
) -> EvaluationResult:
    """Mean average precision of detections against ground truth.

    Args:
        ground_truth: The videos that count: usually one subset, perhaps restricted to some classes.
        results: Detections of each video, in any order, scores finite.
        tious: Thresholds in (0, 1].
        compat: `"stale"` follows the published evaluator as the module says.

    Raises:
        UsageError: The thresholds are not in (0, 1], or an unknown `compat`.
        BadDataError: The ground truth has no instances, or in compat none in a video with detections.
    """
    if not 0 < len(tious) <= MAX_TIOUS or not all(0 < tiou <= 1 for tiou in tious):
        raise UsageError("tIoU", f"needs 1 to {MAX_TIOUS} thresholds above 0 and up to 1")
    if compat not in {None, STALE}:
        raise UsageError("compat", f"is {compat!r}", f"give {STALE!r}, or leave it out")
    judged = shrunk_to(ground_truth, results) if compat else ground_truth
    if not judged.instance_count:
        problem = "has no instances" + (" in videos with detections" if compat else "")
        raise BadDataError(ground_truth.source, problem, "check the subset, the classes and the video ids")
    table = tabulate(judged, results, keep_unknown_videos=compat is not None)
    pairs = overlapping(table.detections, table.instances, min(tious), same_class=True)
    true_positive = np.stack(
        [match(pairs, tiou, len(table.detections), len(table.instances)) != UNMATCHED for tiou in tious]
    )  # [tious, detections]
    edges = np.arange(len(table.classes) + 1)
    detection_edges = np.searchsorted(table.detections.label, edges)
    instances = np.diff(np.searchsorted(table.instances.label, edges))
    average_precision = [
        interpolated_average_precision(true_positive[:, first:end], int(count), table.over_ambiguous[first:end])
        for first, end, count in zip(detection_edges[:-1], detection_edges[1:], instances, strict=True)
    ]
    return EvaluationResult(
        tious=tuple(tious),
        classes=table.classes,
        average_precision=np.stack(average_precision),
        instances=dict(zip(table.classes, instances.tolist(), strict=True)),
        videos=table.videos,
        silent_videos=table.silent_videos,
        dropped_videos=len(ground_truth.videos) - len(judged.videos),
        detections=len(table.detections),
        ignored_labels=table.unknown_labels,
        unknown_videos=table.unknown_videos,
        compat=compat,
        suggested_min_score=best_f1_score(table.detections.score, true_positive[0], judged.instance_count),
    )


def interpolated_average_precision(
    true_positive: NDArray[np.bool_], instances: int, excused: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Area under the precision envelope, of several rankings at once.

    Args:
        true_positive: `[K, N]`, in descending order of score.
        instances: Number of instances that could be found, at least 1.
        excused: `[N]`; a detection that matches nothing is no false positive where this is true.

    Returns:
        `[K]`, in [0, 1]; exactly 1 when all instances come first.
    """
    hits = np.cumsum(true_positive, axis=1)
    if excused is None or not excused.any():
        counted = np.arange(1, true_positive.shape[1] + 1)
    else:
        counted = np.maximum(np.cumsum(true_positive | ~excused, axis=1), 1)
    precision = hits / counted
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # Recall rises by 1 / instances at every hit and nowhere else.
    return np.asarray((envelope * true_positive).sum(axis=1) / instances, dtype=np.float64)


def shrunk_to(ground_truth: Annotations, results: Mapping[str, Sequence[Detection]]) -> Annotations:
    """Keep the ground-truth videos that have detections: the published evaluator's view."""
    return replace(ground_truth, videos=tuple(v for v in ground_truth.videos if results.get(v.id)))


def tiou_text(tiou: float) -> str:
    """Write a threshold as text: two digits, more where two would not tell it."""
    short = f"{tiou:.2f}"
    return short if float(short) == tiou else repr(tiou)
