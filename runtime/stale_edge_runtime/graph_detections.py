"""Detections that come out of a file which decodes inside: declared outputs, and their arrays as detections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stale_edge_runtime.contract import FOUND, LABELS, SCORES, SEGMENTS, SEGMENTS_S
from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.errors import BadDataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stale_edge_runtime.contract import ModelInfo

READ: Final = (SEGMENTS, LABELS, SCORES)
"""Outputs that detections are made from; seconds follow from the duration of a video."""
MAX_FOUND: Final = 1_000_000
"""Most detections of one video; no setting of a decoding allows more."""


def detection_border(info: ModelInfo) -> dict[str, tuple[str, tuple[str | int, ...]]]:
    """Give element type and axes of each output of such a file, in order.

    Seconds are among them where the file knows how long a snippet is; a file that resizes videos does not.
    """
    seconds: dict[str, tuple[str, tuple[str | int, ...]]] = {SEGMENTS_S: ("float32", (FOUND, 2))}
    return {
        SEGMENTS: ("float32", (FOUND, 2)),
        **(seconds if info.snippet_seconds is not None and not info.resize_to else {}),
        LABELS: ("int64", (FOUND,)),
        SCORES: ("float32", (FOUND,)),
    }


def read_detections(
    outputs: Mapping[str, NDArray[Any]], step_s: float, duration_s: float, names: Sequence[str], path: Path
) -> list[Detection]:
    """Make detections of the outputs of such a file, in its order.

    Args:
        outputs: Arrays by name, those of `READ`.
        step_s: Seconds from one snippet to the next.
        duration_s: Seconds of the video; what lies behind is cut off.
        names: Names of the classes.
        path: The file, for messages.

    Raises:
        BadDataError: The arrays do not go together, or hold what no detection is.
    """
    segments, labels, scores = (outputs[name] for name in READ)
    count = len(scores) if scores.ndim == 1 else -1
    if segments.shape != (count, 2) or labels.shape != (count,) or count > MAX_FOUND:
        shapes = ", ".join(f"{name} {list(outputs[name].shape)}" for name in READ)
        raise BadDataError(path, f"gives {shapes}", "export it again")
    if not (np.isfinite(segments).all() and np.isfinite(scores).all()):
        raise BadDataError(path, "gives detections with NaN or infinity", "scale the features, or try the fp32 file")
    if count and not (int(labels.min()) >= 0 and int(labels.max()) < len(names)):
        problem = f"gives labels from {labels.min()} to {labels.max()} for {len(names)} classes"
        raise BadDataError(path, problem, "export it again")
    times_s = np.clip(segments.astype(np.float64) * step_s, 0.0, duration_s)
    rows = zip(times_s.tolist(), labels.tolist(), scores.tolist(), strict=True)
    return [Detection(start, end, names[label], score) for (start, end), label, score in rows if start < end]
