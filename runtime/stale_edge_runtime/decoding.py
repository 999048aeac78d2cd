"""Detections: the answer to one video, the same for every network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from stale_edge_runtime.contract import ACTION
from stale_edge_runtime.errors import BadDataError

if TYPE_CHECKING:
    from collections.abc import Sequence

FUSED_CLASSES: Final = 2
"""Classes that a segment without one is given."""
FUSED_SEGMENTS: Final = 200
"""Segments of a video that are given classes of an external classifier."""


LONGEST_S: Final = 1e9
"""Seconds that no video is longer than."""


def check_duration(duration_s: float) -> None:
    """Refuse a duration that no video has.

    Raises:
        BadDataError: It is not positive, or too long.
    """
    if not 0.0 < duration_s <= LONGEST_S:
        raise BadDataError("duration_s", f"is {duration_s}", f"give seconds, above 0 and up to {LONGEST_S:g}")


class Detection(NamedTuple):
    """One action found in a video."""

    start_s: float
    """Start in seconds, from 0."""
    end_s: float
    """End in seconds, after the start, at most the duration."""
    label: str
    """Name of the class, or its index as text where no names were given."""
    score: float
    """Confidence of the decoding, in [0, 1]; `compat="stale"` can exceed 1."""


def plain_rows(detections: Sequence[Detection]) -> list[list[float | str]]:
    """Give detections as JSON values; `Detection(*row)` reads them back."""
    return [[float(one.start_s), float(one.end_s), one.label, float(one.score)] for one in detections]


def fuse(detections: Sequence[Detection], ranking: Sequence[tuple[str, float]]) -> list[Detection]:
    """Score fusion: segments without classes are copied for each of the best classes of the video.

    Source: the published evaluation of ActionFormer on ActivityNet.

    Args:
        detections: Detections of one video, best first.
        ranking: Classes of the video and their scores as an external classifier sees them, best first.

    Returns:
        The best `FUSED_SEGMENTS`, each with `FUSED_CLASSES` labels, by descending score.
    """
    copied = [
        fused(found, label, score) for label, score in ranking[:FUSED_CLASSES] for found in detections[:FUSED_SEGMENTS]
    ]
    return sorted(copied, key=lambda found: -found.score)


def localized(detections: Sequence[Detection]) -> list[Detection]:
    """Leave out the classes of a network whose scores of a segment's labels sum up to the segment's own.

    Returns:
        Each segment once, labelled `ACTION`, with the sum of its scores (at most 1), best first.
    """
    scores: dict[tuple[float, float], float] = {}
    for found in detections:
        segment = (found.start_s, found.end_s)
        scores[segment] = min(1.0, scores.get(segment, 0.0) + found.score)
    segments = [Detection(start, end, ACTION, score) for (start, end), score in scores.items()]
    return sorted(segments, key=lambda found: -found.score)


def fused(detection: Detection, label: str, score: float) -> Detection:
    """Give a segment a class; the score is the geometric mean of both."""
    return Detection(detection.start_s, detection.end_s, label, math.sqrt(max(0.0, score) * detection.score))


def enhance(detections: list[Detection], label: str, score: float, *, unique: bool = True) -> list[Detection]:
    """Score enhancement: the label of an external classifier replaces that of every detection below its score.

    Scores stay as they are. Source: docs/protocol.md §4 (e).

    Args:
        detections: Detections of one video, best first.
        label: Label that the external classifier gives the video.
        score: Confidence of that classifier.
        unique: Leave out a detection that so becomes a repetition of a better one.
    """
    replaced = [
        Detection(found.start_s, found.end_s, label if score > found.score else found.label, found.score)
        for found in detections
    ]
    if not unique:
        return replaced
    best: dict[tuple[float, float, str], Detection] = {}
    for found in replaced:
        best.setdefault((found.start_s, found.end_s, found.label), found)
    return list(best.values())
