"""Running a detector over many videos: in windows where wanted, one bad file never stopping the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stale_edge_runtime.contract import MAX_MEMORY_MB
from stale_edge_runtime.errors import (
    EXIT_BAD_DATA,
    BadDataError,
    InputMissingError,
    StaleEdgeError,
    StorageError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stale_edge.cli.console import Reporter
    from stale_edge.cli.video_inputs import Clock, VideoFile
    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.detector import Detector
    from stale_edge_runtime.formats.external_scores import ExternalScores
    from stale_edge_runtime.segments import FloatArray
    from stale_edge_runtime.windows import WindowPlan


def open_detector(
    model: Path,
    threads: int,
    provider: str,
    text_embeddings: Path | None = None,
    classes: Path | None = None,
    max_memory_mb: float = MAX_MEMORY_MB,
) -> Detector:
    """Open a model with what the options give it.

    Raises:
        UsageError: An open-vocabulary model without embeddings and class names, or a baked one with them.
    """
    from stale_edge_runtime.detector import Detector
    from stale_edge_runtime.formats.class_list import read_class_list
    from stale_edge_runtime.formats.features import read_features
    from stale_edge_runtime.model_file import read_model

    if (text_embeddings is None) != (classes is None):
        raise UsageError("--text-embeddings and --classes", "belong together", "give both, or neither")
    if text_embeddings is None or classes is None:
        return Detector(model, threads, provider, max_memory_mb=max_memory_mb)
    return Detector(
        model,
        threads,
        provider,
        text_embeddings=read_features(text_embeddings, read_model(model).info.feature_dim),
        classes=read_class_list(classes),
        max_memory_mb=max_memory_mb,
    )


@dataclass(frozen=True)
class DetectionRun:
    """How videos are run: everything that the options decide."""

    detector: Detector
    """The model."""
    clock: Clock
    """Turns snippets into seconds."""
    plan: WindowPlan | None = None
    """Windows; None runs every video in one piece."""
    compat: str | None = None
    """`"stale"` for the published decoding."""
    external: ExternalScores | None = None
    """External classifier for score enhancement."""
    top: int | None = None
    """Most detections of a video; all without it."""
    min_score: float = 0.0
    """Detections that score less are left out."""

    def read(self, video: VideoFile) -> FloatArray:
        """Features `[snippets, width]` of a video, checked."""
        from stale_edge_runtime.formats.features import read_features
        from stale_edge_runtime.formats.results import VIDEO_ID

        if not VIDEO_ID.fullmatch(video.video_id):
            raise BadDataError(
                video.path, "has no name that a video can have", "use 1 to 128 letters, digits, '_', '.' or '-'"
            )
        return read_features(video.path, self.detector.info.feature_dim)

    def detect(
        self, video: VideoFile, features: FloatArray, after_window: Callable[[int, int], None] | None = None
    ) -> list[Detection]:
        """Detections of one video, best first.

        Args:
            video: The video.
            features: What `read` gave.
            after_window: Called with the first snippet and one past the last of every window that is done.

        Raises:
            BadDataError: The features do not fit the model or the memory that is allowed, or the clock has no
                duration for them.
        """
        duration = self.clock.duration(video, len(features))
        if self.plan is None:
            found = self.detect_piece(features, duration)
        else:
            from stale_edge_runtime.windows import detect_in_windows

            found = detect_in_windows(
                self.detect_piece, features, self.plan, duration_s=duration, after_window=after_window
            )
        return self.select(self._enhance(video.video_id, found))

    def detect_piece(self, features: FloatArray, duration: float) -> list[Detection]:
        """Detections of a video or a window of one, before enhancement and selection."""
        return self.detector.detect(features, duration, compat=self.compat)

    def select(self, found: Sequence[Detection]) -> list[Detection]:
        """What `top` and `min_score` leave."""
        return [d for d in found if d.score >= self.min_score][: self.top]

    def _enhance(self, video_id: str, found: list[Detection]) -> list[Detection]:
        best = None if self.external is None else self.external.best(video_id)
        if best is None:
            return found
        from stale_edge_runtime.decoding import enhance

        return enhance(found, *best, unique=self.compat is None)


@dataclass
class Outcome:
    """What came of many videos."""

    results: dict[str, list[Detection]] = field(default_factory=dict)
    """Detections of every video that could be used."""
    lengths: dict[str, float] = field(default_factory=dict)
    """Length of each of them, in the clock's unit."""
    failures: list[tuple[VideoFile, StaleEdgeError]] = field(default_factory=list)
    """The others, and why."""

    def with_failures_of(self, other: Outcome) -> Outcome:
        """The videos that both could use, and each failure once."""
        results = {video: found for video, found in self.results.items() if video in other.results}
        known = {str(error) for _, error in self.failures}
        new = [(video, error) for video, error in other.failures if str(error) not in known]
        return Outcome(results, self.lengths, self.failures + new)

    def report_failures(self, reporter: Reporter) -> int:
        """List what could not be used; the exit code of the command."""
        if not self.failures:
            return 0
        total = len(self.results) + len(self.failures)
        reporter.warn(f"{len(self.failures)} of {total} videos could not be used; the others are complete:")
        for _, error in self.failures:
            reporter.warn(str(error))
        return EXIT_BAD_DATA


def run_all(run: DetectionRun, videos: Sequence[VideoFile], reporter: Reporter, *, label: str = "detect") -> Outcome:
    """Detect in every video; what is wrong with one is kept for the end.

    Raises:
        StaleEdgeError: The only video, or every one of them, could not be used.
    """
    outcome = Outcome()
    if len(videos) == 1 and run.plan is not None:
        _run_one(run, videos[0], outcome, reporter, label)
    else:
        with reporter.progress(label, len(videos)) as step:
            for video in videos:
                _run_one(run, video, outcome)
                step(video.video_id)
    if not outcome.results:
        _raise_for_all(outcome, reporter)
    return outcome


def _run_one(
    run: DetectionRun, video: VideoFile, outcome: Outcome, reporter: Reporter | None = None, label: str = ""
) -> None:
    """Detect in one video and file what comes of it; a reporter shows progress window by window."""
    try:
        features = run.read(video)
        if reporter is None or run.plan is None:
            found = run.detect(video, features)
        else:
            with reporter.progress(label, run.plan.count(len(features))) as step:
                found = run.detect(video, features, lambda _first, last: step(f"snippet {last:,}"))
        outcome.results[video.video_id] = found
        outcome.lengths[video.video_id] = run.clock.duration(video, len(features))
    except (BadDataError, InputMissingError, StorageError) as error:
        outcome.failures.append((video, _naming(video, error)))
    except MemoryError:
        problem = BadDataError(video.path, "needs more memory than there is", "run it in windows with --window")
        outcome.failures.append((video, problem))


def _raise_for_all(outcome: Outcome, reporter: Reporter) -> None:
    """End a command that has nothing to show: with the one error, or after listing all of them."""
    if len(outcome.failures) > 1:
        outcome.report_failures(reporter)
        raise BadDataError("FEATURES", f"none of the {len(outcome.failures)} videos could be used", "see above")
    raise outcome.failures[0][1]


def _naming(video: VideoFile, error: StaleEdgeError) -> StaleEdgeError:
    """The same error, naming the file where it named an array."""
    if str(video.path) in str(error):
        return error
    return type(error)(video.path, f"{error.subject} {error.problem}", error.cure)
