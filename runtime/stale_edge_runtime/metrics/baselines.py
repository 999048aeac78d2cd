"""Detections made from others, to read their mAP beside: without their segments, and without their mistakes in class.

* *whole video, same labels*: each label that was found, from the start of the video to its end, with the score of its
  best detection. Actions are long in ActivityNet: what this keeps of the mAP was not localised.
* *true class*: the segments that were found, each with a label of the ground truth and all of its score. What this adds
  to the mAP is lost by classification.
* *whole video, true classes*: nothing that was found; each true class of a video, from its start to its end. What a
  perfect classifier reaches that localises nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stale_edge_runtime.decoding import Detection, localized
from stale_edge_runtime.metrics.evaluation import evaluate
from stale_edge_runtime.segments import tiou

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stale_edge_runtime.formats.annotations import Annotations, Video

WHOLE_VIDEO: Final = "whole video, same labels"
TRUE_CLASS: Final = "true class"
WHOLE_TRUE: Final = "whole video, true classes"


def reference_points(
    ground_truth: Annotations, results: Mapping[str, Sequence[Detection]], tious: Sequence[float]
) -> dict[str, float]:
    """Evaluate what detections must be read beside, as far as ground truth and detections alone tell it.

    Returns:
        Average mAP by name, as a fraction.

    Raises:
        UsageError: The thresholds are not in (0, 1].
        BadDataError: The ground truth has no instances.
    """
    known = {
        video.id: [Detection(one.start_s, one.end_s, one.label, 1.0) for one in video.instances]
        for video in ground_truth.videos
    }
    beside = {
        WHOLE_VIDEO: whole_videos(ground_truth, results),
        TRUE_CLASS: true_classes(ground_truth, results),
        WHOLE_TRUE: whole_videos(ground_truth, known),
    }
    return {name: evaluate(ground_truth, found, tious).average_map for name, found in beside.items()}


def whole_videos(ground_truth: Annotations, results: Mapping[str, Sequence[Detection]]) -> dict[str, list[Detection]]:
    """Replace the detections of each label of a video by one as long as the video, with the highest score.

    Args:
        ground_truth: Videos; detections of others are left out. One without a duration is as long as all that is known
            in it.
        results: Detections of each video.
    """
    found = {}
    for video in ground_truth.videos:
        detections = results.get(video.id, ())
        best: dict[str, float] = {}
        for detection in detections:
            best[detection.label] = max(best.get(detection.label, 0.0), detection.score)
        known = [detection.end_s for detection in detections] + [instance.end_s for instance in video.instances]
        end_s = max(known, default=0.0) if video.duration_s is None else video.duration_s
        whole = [Detection(0.0, end_s, label, score) for label, score in best.items()]
        found[video.id] = sorted(whole, key=lambda detection: -detection.score)
    return found


def true_classes(ground_truth: Annotations, results: Mapping[str, Sequence[Detection]]) -> dict[str, list[Detection]]:
    """Give each segment the label of the true instance that it overlaps most, and the scores of all of its labels.

    A segment that overlaps none takes the label of the video's first instance: it stays a mistake.
    """
    return {video.id: _relabelled(video, results.get(video.id, ())) for video in ground_truth.videos}


def _relabelled(video: Video, detections: Sequence[Detection]) -> list[Detection]:
    if not video.instances:
        return []
    segments = localized(detections)
    if not segments:
        return []
    true = np.array([(instance.start_s, instance.end_s) for instance in video.instances], dtype=np.float64)
    spans = np.array([(found.start_s, found.end_s) for found in segments], dtype=np.float64)
    nearest = tiou(spans, true).argmax(axis=1).tolist()
    return [found._replace(label=video.instances[index].label) for found, index in zip(segments, nearest, strict=True)]
