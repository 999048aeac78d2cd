"""Detection over many videos with progress and messages, and what is recorded of it."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from stale_edge.cli.extraction_run import follow
from stale_edge_runtime import corpus
from stale_edge_runtime.contract import MAX_MEMORY_MB
from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.detection_jobs import detection_task, take
from stale_edge_runtime.errors import (
    EXIT_BAD_DATA,
    BadDataError,
    StaleEdgeError,
)
from stale_edge_runtime.feature_scale import scale_warning
from stale_edge_runtime.formats.result_tables import failure_row, result_row
from stale_edge_runtime.formats.results import MODEL, SCORE_ENHANCEMENT
from stale_edge_runtime.isolation import IsolatedDetector
from stale_edge_runtime.jobs import longest_first
from stale_edge_runtime.result_folder import ResultFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from stale_edge.cli.console import Reporter
    from stale_edge.cli.detection_output import ResultPlaces
    from stale_edge.cli.extraction_run import Extraction
    from stale_edge.cli.vocabulary import VocabularyOptions
    from stale_edge_runtime.corpus import DetectionRun, Outcome, VideoFile
    from stale_edge_runtime.detector import Detector
    from stale_edge_runtime.formats.annotations import Annotations
    from stale_edge_runtime.jobs import Engine


def open_detector(
    model: Path,
    threads: int,
    provider: str,
    vocabulary: VocabularyOptions | None = None,
    max_memory_mb: float = MAX_MEMORY_MB,
    labels_from: Path | None = None,
    *,
    reporter: Reporter,
) -> Detector | IsolatedDetector:
    """Open a model with what the options give it, in a process of its own: it may be anyone's.

    One of a network that this program registered for itself opens in this process, the only one to know it.

    Raises:
        UsageError: An open-vocabulary model without classes, or a baked one with them.
    """
    from stale_edge.cli.vocabulary import VocabularyOptions, read_vocabulary
    from stale_edge_runtime.heads.registry import SHIPPED
    from stale_edge_runtime.model_file import read_model
    from stale_edge_runtime.processor import saturation_warning

    info = read_model(model).info
    if warning := saturation_warning(info, model):
        reporter.warn(warning)
    options: dict[str, Any] = {"threads": threads, "provider": provider, "max_memory_mb": max_memory_mb}
    wanted = read_vocabulary(vocabulary or VocabularyOptions(), info, model, reporter, threads=threads)
    if wanted is not None:
        options |= {"text_embeddings": wanted.text_embeddings, "classes": wanted.classes}
    if labels_from is not None:
        options["labels_from"] = labels_from.absolute()
    if info.network in SHIPPED:
        return IsolatedDetector(model, **options)
    from stale_edge_runtime import detector

    return detector.Detector(model, **options)


def run_all(
    run: DetectionRun,
    videos: Sequence[VideoFile],
    reporter: Reporter,
    failures: Sequence[tuple[VideoFile, StaleEdgeError]] = (),
    *,
    label: str = "detect",
    engine: Engine | None = None,
) -> Outcome:
    """Detect in every video and show progress; window by window where there is one video.

    Args:
        run: Model and options.
        videos: Videos with their features.
        reporter: Reporter for progress and warnings.
        failures: Videos that have no features, and why; they count among those that could not be used.
        label: Name of the work.
        engine: Processes that work at once, longest videos first; without, one does one after the other.

    Raises:
        StaleEdgeError: The only video, or every one of them, could not be used.
    """
    if engine is not None:
        outcome = _run_engine(run, videos, reporter, label, engine)
    elif len(videos) == 1 and run.plan is not None:
        outcome = _run_windows(run, videos[0], reporter, label)
    else:
        with reporter.progress(label, len(videos)) as step:
            outcome = corpus.run_all(run, videos, step)
    outcome.failures[:0] = failures
    if not outcome.results:
        _raise_for_all(outcome, reporter)
    if warning := scale_warning(outcome.row_lengths.values(), run.detector.info, run.detector.path):
        reporter.warn(warning)
    return outcome


def _run_engine(
    run: DetectionRun, videos: Sequence[VideoFile], reporter: Reporter, label: str, engine: Engine
) -> Outcome:
    order = longest_first([video.length for video in videos])
    ended = dict(_events(run, videos, order, reporter, label, engine))
    outcome = corpus.Outcome()
    for place, video in enumerate(videos):
        told = ended[place]
        if isinstance(told, StaleEdgeError):
            outcome.failures.append((video, told))
        else:
            take(outcome, video, told)
    return outcome


def _events(
    run: DetectionRun,
    videos: Sequence[VideoFile],
    order: Sequence[int],
    reporter: Reporter,
    label: str,
    engine: Engine,
) -> Iterator[tuple[int, Mapping[str, Any] | StaleEdgeError]]:
    """Detect in videos in an order; give the place of each video with its result, as they come."""
    if isinstance(run.detector, IsolatedDetector):
        run.detector.close()  # each process opens the model for itself
    items = [videos[place] for place in order]
    with contextlib.closing(engine(detection_task(run), items)) as events:
        for index, value in follow(label, events, [video.video_id for video in items], reporter, steps=1):
            yield order[index], value


def run_into_folder(
    run: DetectionRun,
    description: Mapping[str, Any],
    videos: Sequence[VideoFile],
    extraction: Extraction,
    engine: Engine,
    places: ResultPlaces,
    reporter: Reporter,
) -> int:
    """Detect in the videos that a folder of results lacks, write its parts as they are complete, and say what is in it.

    Returns:
        Exit code of the command.
    """
    assert places.output is not None and places.part_videos is not None  # noqa: S101, PT018 (`checked_places`)
    ids = [video.video_id for video in videos]
    folder = ResultFolder(places.output, ids, description, places.part_videos, f".{places.kind}")
    made = {video.video_id: video for video in extraction.featured}
    inputs = [made.get(video.video_id, video) for video in videos]
    _fill_folder(run, inputs, reporter, engine, folder, extraction.failures)
    failed = folder.failures()
    if places.as_json:
        reasons = {row["id"]: row["problem"] for row in failed}
        reporter.result_json({"output": str(folder.folder), "videos": len(videos), "failed": reasons})
    else:
        reporter.result(f"{folder.folder}: results of {len(videos) - len(failed):,} of {len(videos):,} videos")
    if not failed:
        return 0
    reporter.warn(f"{len(failed):,} videos could not be used; {folder.folder}/failures-* say why")
    return EXIT_BAD_DATA


def _fill_folder(
    run: DetectionRun,
    videos: Sequence[VideoFile],
    reporter: Reporter,
    engine: Engine,
    folder: ResultFolder,
    failures: Sequence[tuple[VideoFile, StaleEdgeError]],
) -> None:
    failed = {video.video_id: (video, error) for video, error in failures}
    with folder.opened() as places:
        if len(places) < len(videos):
            reporter.note(f"{len(videos) - len(places):,} of {len(videos):,} videos are done already")
        todo = [place for place in places if videos[place].video_id not in failed]
        for place in places:
            if (known := failed.get(videos[place].video_id)) is not None:
                folder.put(place, failure_row(known[0].video_id, str(known[0]), known[1]))
        lengths = [videos[place].length for place in todo]
        order = [todo[index] for index in longest_first(lengths, folder.part_videos)]
        for place, told in _events(run, videos, order, reporter, "detect", engine):
            video = videos[place]
            if isinstance(told, StaleEdgeError):
                folder.put(place, failure_row(video.video_id, str(video), told))
            else:
                found = [Detection(*row) for row in told["found"]]
                folder.put(place, result_row(video.video_id, told["length"], found))


def described(run: DetectionRun, model: Path, external: Path | None) -> dict[str, Any]:
    """Describe what results depend on, as JSON values: a folder of results is resumed only with the same."""
    plan = run.plan
    return {
        MODEL: _model_record(run, model),
        "model_sha256": sha256(model.read_bytes()).hexdigest(),
        "classes_sha256": sha256("\n".join(run.detector.classes).encode()).hexdigest(),
        "time_unit": run.clock.unit,
        "window": None if plan is None else asdict(plan),
        "compat": run.compat,
        SCORE_ENHANCEMENT: None if external is None else {"source": external.name},
        "top": run.top,
        "min_score": run.min_score,
        "rescale_to": run.rescale_to,
        "any_origin": run.any_origin,
    }


def result_record(
    run: DetectionRun,
    model: Path,
    truth: Annotations | None,
    external: Path | None,
    outcome: Outcome,
    reporter: Reporter,
) -> dict[str, Any]:
    """Make the result file's `external_data`: model and settings of the detections, with warnings on them."""
    info = run.detector.info
    record: dict[str, Any] = {MODEL: _model_record(run, model), "time_unit": run.clock.unit}
    if info.untrained:
        reporter.warn(f"{model} has untrained weights: what it finds means nothing")
    if run.compat:
        record["compat"] = run.compat
    if run.external is not None and external is not None:
        labels = {
            video.id: {instance.label for instance in video.instances}
            for video in (truth.videos if truth else ())
            if video.id in outcome.results
        }
        accuracy = run.external.accuracy(labels)
        known = sum(run.external.best(video) is not None for video in outcome.results)
        shown = "" if accuracy is None else f"; its top-1 accuracy on them is {accuracy:.1%}"
        reporter.note(f"score enhancement from {external} for {known} of {len(outcome.results)} videos{shown}")
        record[SCORE_ENHANCEMENT] = {"source": external.name, "videos": known, "top1_accuracy": accuracy}
    return record


def _model_record(run: DetectionRun, model: Path) -> dict[str, Any]:
    info = run.detector.info
    return {"file": model.name, "precision": str(info.precision), "untrained": info.untrained}


def _run_windows(run: DetectionRun, video: VideoFile, reporter: Reporter, label: str) -> Outcome:
    try:
        features = run.read(video)
        windows = run.plan.count(len(features.rows)) if run.plan else 1
    except StaleEdgeError:
        return corpus.run_all(run, [video])
    with reporter.progress(label, windows) as step:
        return corpus.run_all(
            run, [video], after_window=lambda _first, last: step(f"snippet {last:,}"), read=lambda _video: features
        )


def report_failures(outcome: Outcome, reporter: Reporter) -> int:
    """List the videos that failed; return the exit code of the command."""
    if not outcome.failures:
        return 0
    total = len(outcome.results) + len(outcome.failures)
    reporter.warn(f"{len(outcome.failures)} of {total} videos could not be used; the others are complete:")
    for _, error in outcome.failures:
        reporter.warn(str(error))
    return EXIT_BAD_DATA


def _raise_for_all(outcome: Outcome, reporter: Reporter) -> None:
    """End a command that has nothing to show: with the one error, or after listing all of them."""
    if len(outcome.failures) > 1:
        report_failures(outcome, reporter)
        raise BadDataError("FEATURES", f"none of the {len(outcome.failures)} videos could be used", "see above")
    raise outcome.failures[0][1]
