"""Progress and messages of a detection over many videos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stale_edge_runtime import corpus
from stale_edge_runtime.contract import MAX_MEMORY_MB
from stale_edge_runtime.errors import (
    EXIT_BAD_DATA,
    BadDataError,
    StaleEdgeError,
)
from stale_edge_runtime.feature_scale import scale_warning

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stale_edge.cli.console import Reporter
    from stale_edge.cli.vocabulary import VocabularyOptions
    from stale_edge_runtime.corpus import DetectionRun, Outcome, VideoDetector, VideoFile


def open_detector(
    model: Path,
    threads: int,
    provider: str,
    vocabulary: VocabularyOptions | None = None,
    max_memory_mb: float = MAX_MEMORY_MB,
    labels_from: Path | None = None,
    *,
    reporter: Reporter,
) -> VideoDetector:
    """Open a model with what the options give it, in a process of its own: it may be anyone's.

    One of a network that this program registered for itself opens in this process, the only one to know it.

    Args:
        model: File of the model.
        threads: Threads inside an operator.
        provider: Device to run on.
        vocabulary: Options that say what to look for.
        max_memory_mb: Largest memory that a run may need.
        labels_from: Model whose classes name what a class-agnostic model finds.
        reporter: Reporter for a note on the source of the text.

    Raises:
        UsageError: An open-vocabulary model without classes, or a baked one with them.
    """
    from stale_edge.cli.vocabulary import VocabularyOptions, read_vocabulary
    from stale_edge_runtime.heads.registry import SHIPPED
    from stale_edge_runtime.isolation import IsolatedDetector
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
    from stale_edge_runtime.detector import Detector

    return Detector(model, **options)


def run_all(
    run: DetectionRun,
    videos: Sequence[VideoFile],
    reporter: Reporter,
    failures: Sequence[tuple[VideoFile, StaleEdgeError]] = (),
    *,
    label: str = "detect",
) -> Outcome:
    """Detect in every video and show progress; window by window where there is one video.

    Args:
        run: Model and options.
        videos: Videos with their features.
        reporter: Reporter for progress and warnings.
        failures: Videos that have no features, and why; they count among those that could not be used.
        label: Name of the work.

    Raises:
        StaleEdgeError: The only video, or every one of them, could not be used.
    """
    if len(videos) == 1 and run.plan is not None:
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
