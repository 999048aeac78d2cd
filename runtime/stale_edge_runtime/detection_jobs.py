"""Detection as a task of many processes: the same `corpus` code, one video at a time."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stale_edge_runtime.corpus import run_all
from stale_edge_runtime.decoding import Detection, plain_rows
from stale_edge_runtime.isolation import IsolatedDetector

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stale_edge_runtime.corpus import DetectionRun, Outcome, VideoFile
    from stale_edge_runtime.jobs import Task


def detection_task(run: DetectionRun) -> Callable[[], Task]:
    """Give a picklable function that makes the task `VideoFile` to detections, for an engine."""
    return functools.partial(_make_task, run)


def _make_task(run: DetectionRun) -> Task:
    if isinstance(run.detector, IsolatedDetector):
        run = replace(run, detector=run.detector.opened_here())

    def task(item: VideoFile, progress: Callable[[int, int | None], None]) -> Mapping[str, Any]:
        outcome = run_all(run, [item], after_window=lambda _first, last: progress(last, None))
        for _, error in outcome.failures:
            raise error
        found = plain_rows(outcome.results[item.video_id])
        lengths = outcome.lengths[item.video_id], outcome.row_lengths[item.video_id]
        return {"length": float(lengths[0]), "row_length": float(lengths[1]), "found": found}

    return task


def take(outcome: Outcome, video: VideoFile, told: Mapping[str, Any]) -> None:
    """Put what the task tells into an outcome."""
    outcome.results[video.video_id] = [Detection(*row) for row in told["found"]]
    outcome.lengths[video.video_id] = told["length"]
    outcome.row_lengths[video.video_id] = told["row_length"]
