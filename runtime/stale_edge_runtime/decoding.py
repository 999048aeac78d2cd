"""Detections: the answer to one video, the same for every network."""

from __future__ import annotations

from typing import NamedTuple


class Detection(NamedTuple):
    """One action found in a video."""

    start_s: float
    """Start in seconds, from 0."""
    end_s: float
    """End in seconds, after the start, at most the duration."""
    label: str
    """Name of the class, or its index as text where no names were given."""
    score: float
    """How sure the decoding is, in [0, 1]; `compat="stale"` can exceed 1."""


def enhance(detections: list[Detection], label: str, score: float, *, unique: bool = True) -> list[Detection]:
    """Score enhancement: the label of an external classifier replaces that of every detection below its score.

    Scores stay as they are. Source: docs/protocol.md §4 (e).

    Args:
        detections: Of one video, best first.
        label: What the external classifier takes the video for.
        score: How sure it is.
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
