"""Detection in streams: rows of features from stdin, or a video while it runs."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING

from stale_edge.cli.interrupt import prompt_interrupt
from stale_edge_runtime.errors import BadDataError, printable_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stale_edge.cli.console import Reporter
    from stale_edge.cli.extraction_run import FrameOptions
    from stale_edge_runtime.corpus import DetectionRun
    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.segments import FloatArray
    from stale_edge_runtime.stream import DetectionStream
    from stale_edge_runtime.windows import WindowPlan

FOLLOW_WINDOW = 200
SCALE_ROWS = 16
"""Rows of a stream that tell its scale."""


class Float(StrEnum):
    """Types of numbers in a stream."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"


def follow_rows(run: DetectionRun, plan: WindowPlan, dtype: Float, reporter: Reporter) -> None:
    """Print detections in rows of features from stdin as they settle, one JSON object a line.

    Raises:
        BadDataError: The stream ends inside a row, or holds NaN; what came before was told.
    """
    from stale_edge_runtime.feature_scale import scale_warning, watched
    from stale_edge_runtime.stream import DetectionStream, read_rows

    info = run.detector.info

    def see(row_length: float) -> float:
        if run.rescale_to is not None:
            return run.rescale_to / row_length if row_length > 0 else 1.0
        if warning := scale_warning([row_length], info, run.detector.path):
            reporter.warn(f"{warning}; is the stream {dtype}? --dtype tells")
        return 1.0

    # A window of rows tells the scale well, and nothing can be said before it is full; the warning needs fewer.
    enough = plan.window if run.rescale_to is not None else min(plan.window, SCALE_ROWS)
    stream = DetectionStream(run.detect_piece, plan, run.clock.snippet_s or 1.0)
    with prompt_interrupt():
        _tell(run, stream, watched(read_rows(sys.stdin.buffer, info.feature_dim, dtype=dtype), enough, see))


def follow_video(source: str, run: DetectionRun, plan: WindowPlan, frames: FrameOptions, reporter: Reporter) -> None:
    """Print detections in a video as they settle while it runs, one JSON object a line.

    One frame and one window of features are held, however long it runs. Where the tower is slower than a camera, the
    newest frame stands for those that were missed; gaps are told at the end.

    Raises:
        StaleEdgeError: The source or the tower cannot be used, or the tower is another than the model learned with.
    """
    from pathlib import Path

    from stale_edge.cli.extraction_run import settings_for, tower_for
    from stale_edge_runtime.corpus import VideoFile, check_record
    from stale_edge_runtime.formats.feature_record import FeatureRecord, VideoFeatures
    from stale_edge_runtime.stream import DetectionStream
    from stale_edge_runtime.video.camera import LiveSource
    from stale_edge_runtime.video.features import FeatureExtractor
    from stale_edge_runtime.video.tower import ImageTower

    info = run.detector.info
    settings = settings_for(info, frames)
    found = tower_for(info, run.detector.path, frames)
    tower = ImageTower(found.path, threads=frames.threads, provider=frames.provider)
    extractor = FeatureExtractor(tower, settings, "")
    empty = VideoFeatures(extractor.rows_of(()), FeatureRecord(extractor.origin, 0.0, 0))
    check_record(VideoFile(source, Path(source)), empty, info, run.detector.path, any_origin=run.any_origin)
    for price in settings.video.notes:
        reporter.warn(price)
    stream = DetectionStream(run.detect_piece, plan, settings.video.step_s)
    reporter.note(f"following {source}, a row every {settings.video.step_s:g} s, windows of {plan.window}")
    with prompt_interrupt(), LiveSource(source, settings.video) as live:
        _tell(run, stream, (extractor.rows_of([crop]) for crop in live.crops(tower.size)))
        for warning in live.report.warnings:
            reporter.warn(f"{source}: {warning}")


def _tell(run: DetectionRun, stream: DetectionStream, blocks: Iterable[FloatArray]) -> None:
    """Detect in blocks of rows as they come, and print what settles."""
    try:
        for rows in blocks:
            _say(run.select(stream.push(rows)))
    except BadDataError:  # what came before is whole, and so are its detections
        _say(run.select(stream.finish()))
        raise
    _say(run.select(stream.finish()))


def _say(settled: list[Detection]) -> None:
    for found in settled:
        row = {"label": found.label, "score": found.score, "segment": [found.start_s, found.end_s]}
        sys.stdout.write(printable_json(json.dumps(row, ensure_ascii=False, allow_nan=False)) + "\n")
    if settled:
        sys.stdout.flush()
