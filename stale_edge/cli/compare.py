"""`stale-edge compare`: what a change of precision or export means in the task's own units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stale_edge.cli.console import Reporter, number_columns
from stale_edge.cli.ground_truth import read_ground_truth
from stale_edge.cli.interrupt import prompt_interrupt
from stale_edge.cli.options import FEATURES, JsonToStdout, NumberedClasses, Quiet
from stale_edge.cli.video_inputs import (
    AnnotationsFile,
    AnyFeatures,
    ClassNames,
    Fps,
    Hop,
    MinScore,
    Provider,
    Stride,
    TextEmbeddings,
    Threads,
    Top,
    Window,
    min_score_of,
)
from stale_edge_runtime.errors import BadDataError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from stale_edge_runtime.corpus import Outcome
    from stale_edge_runtime.formats.annotations import Annotations


@dataclass(frozen=True)
class Limit:
    """A bound that the user set on one figure of the comparison."""

    option: str
    """The option that set it."""
    figure: str
    """Key of the figure."""
    bound: float | None
    """The bound; None where the option was not given."""
    at_least: bool = False
    """Whether the figure must reach the bound, rather than stay within it."""
    scale: int = 1
    """Units of the bound in one of the figure: 100 for points and a fraction."""

    def broken_by(self, figures: dict[str, Any]) -> str:
        """Return the violation message, or ''. A figure that cannot be measured is a violation."""
        value = figures[self.figure]
        if self.bound is None:
            return ""
        if value is None:
            return f"{self.figure} cannot be measured: too few detections match ({self.option} {self.bound:g})"
        value *= self.scale
        if (value < self.bound) if self.at_least else (value > self.bound):
            return f"{self.figure} is {value:.4g}, {self.option} {self.bound:g}"
        return ""


def compare(
    a: Annotated[Path, typer.Argument(metavar="A.onnx", help="The model to measure against.")],
    b: Annotated[Path, typer.Argument(metavar="B.onnx", help="The model that changed.")],
    features: Annotated[
        list[str],
        typer.Option(*FEATURES, metavar="FEATURES", help="Files, folders or globs, as for `detect`; repeatable."),
    ],
    annotations: AnnotationsFile = None,
    numbered_classes: NumberedClasses = None,
    min_matched: Annotated[float | None, typer.Option(min=0, max=1, help="Least share of detections matched.")] = None,
    max_shift_s: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Largest 95th percentile of the boundary shift.")
    ] = None,
    max_flips: Annotated[float | None, typer.Option(min=0, max=1, help="Largest share of class flips.")] = None,
    min_rank: Annotated[float | None, typer.Option(min=-1, max=1, help="Least rank correlation of scores.")] = None,
    max_drop: Annotated[
        float | None, typer.Option(min=0, max=100, help="Largest drop of average mAP from A to B, in points.")
    ] = None,
    fps: Fps = None,
    stride: Stride = None,
    window: Window = None,
    hop: Hop = None,
    text_embeddings: TextEmbeddings = None,
    classes: ClassNames = None,
    any_features: AnyFeatures = False,
    top: Top = None,
    min_score: MinScore = "0",
    threads: Threads = 1,
    provider: Provider = "cpu",
    json: JsonToStdout = False,
    quiet: Quiet = False,
) -> None:
    """Compare the detections of two models on the same videos.

    Exits with 65 when a figure is beyond a bound that was given.
    """
    from stale_edge.cli.detection_run import open_detector, report_failures, run_all
    from stale_edge.cli.vocabulary import VocabularyOptions
    from stale_edge_runtime.corpus import Clock, DetectionRun, find_videos
    from stale_edge_runtime.windows import WindowPlan

    reporter = Reporter(quiet=quiet)
    if hop is not None and window is None:
        raise UsageError("--hop", "moves windows, and there are none", "give --window as well")
    if max_drop is not None and annotations is None:
        raise UsageError("--max-drop", "needs ground truth", "give --ground-truth as well")
    truth = None if annotations is None else read_ground_truth(annotations, reporter, class_names=numbered_classes)
    videos = find_videos(features, [video.id for video in truth.videos] if truth else (), reporter.note)
    plan = None if window is None else WindowPlan.of(window, hop)
    vocabulary = VocabularyOptions(text_embeddings, classes)
    detector = open_detector(a, threads, provider, vocabulary, reporter=reporter)
    clock = Clock.of(detector.info, truth, fps, stride, videos)
    least = min_score_of(min_score, detector.info)
    run = DetectionRun(detector, clock, plan, top=top, min_score=least, any_origin=any_features)
    with prompt_interrupt():
        first = run_all(run, videos, reporter, label=a.name)
        changed = open_detector(b, threads, provider, vocabulary, reporter=reporter)
        if changed.classes != detector.classes:
            reporter.warn(f"{a} and {b} have different classes: labels of one cannot match in the other")
        run = replace(run, detector=changed)
        second = run_all(run, videos, reporter, label=b.name)
    figures = {"unit": clock.unit, **_figures(first, second, truth, a)}
    limits = (
        Limit("--min-matched", "matched_share", min_matched, at_least=True),
        Limit("--max-shift-s", "shift_p95", max_shift_s),
        Limit("--max-flips", "flip_share", max_flips),
        Limit("--min-rank", "rank_correlation", min_rank, at_least=True),
        Limit("--max-drop", "map_drop", max_drop, scale=100),
    )
    broken = [problem for limit in limits if (problem := limit.broken_by(figures))]
    if json:
        reporter.result_json({"a": str(a), "b": str(b), **figures, "broken": broken})
    else:
        reporter.result(_table(figures, a, b))
    failed = report_failures(first.with_failures_of(second), reporter)
    if broken:
        raise BadDataError(b, "; ".join(broken), f"it does not agree with {a}")
    if failed:
        raise typer.Exit(failed)


def _figures(first: Outcome, second: Outcome, truth: Annotations | None, a: Path) -> dict[str, Any]:
    """Compute the figures of the comparison, over the videos that both models could use."""
    from stale_edge_runtime.metrics.agreement import Agreement, agreement

    both = [video_id for video_id in first.results if video_id in second.results]
    if not both:
        raise BadDataError(a, "shares no usable video with the other model", "see the errors above")
    total = Agreement.total(agreement(first.results[video], second.results[video]) for video in both)
    maps = _average_maps(first, second, truth, both)
    return {
        "videos": total.videos,
        "detections_a": total.detections[0],
        "detections_b": total.detections[1],
        "matched_share": total.matched_share,
        "shift_median": total.shift_median_s,
        "shift_p95": total.shift_p95_s,
        "class_flips": total.flips,
        "flip_share": total.flip_share,
        "rank_correlation": total.rank_correlation,
        "map_a": maps[0] if maps else None,
        "map_b": maps[1] if maps else None,
        "map_drop": maps[0] - maps[1] if maps else None,
    }


def _average_maps(
    first: Outcome, second: Outcome, truth: Annotations | None, videos: list[str]
) -> tuple[float, float] | None:
    """Average mAP of both on the annotated ones of these videos; None without ground truth."""
    if truth is None:
        return None
    from stale_edge_runtime.metrics.evaluation import ACTIVITYNET_TIOUS, THUMOS_TIOUS, evaluate

    wanted = frozenset(videos)
    judged = replace(truth, videos=tuple(video for video in truth.videos if video.id in wanted))
    tious = THUMOS_TIOUS if judged.is_thumos else ACTIVITYNET_TIOUS
    known = {video.id for video in judged.videos}
    results = [{video: outcome.results[video] for video in videos if video in known} for outcome in (first, second)]
    judged = judged.for_labels({each.label for found in results for items in found.values() for each in items})
    return evaluate(judged, results[0], tious).average_map, evaluate(judged, results[1], tious).average_map


def _points_gained(drop: float) -> str:
    return f"{0.0 - 100 * drop:+.2f} points"


ROWS = (
    ("videos", "videos", "{}".format),
    ("detections of A", "detections_a", "{}".format),
    ("detections of B", "detections_b", "{}".format),
    ("detections matched (same class, tIoU 0.95)", "matched_share", "{:.1%}".format),
    ("boundary shift, median ({unit})", "shift_median", "{:.3f}".format),
    ("boundary shift, 95th percentile ({unit})", "shift_p95", "{:.3f}".format),
    ("class flips (same place, another class)", "class_flips", "{}".format),
    ("class flips, share of pairs", "flip_share", "{:.1%}".format),
    ("order of scores (Kendall, 1 is unchanged)", "rank_correlation", "{:.3f}".format),
    ("average mAP of A", "map_a", "{:.2%}".format),
    ("average mAP of B", "map_b", "{:.2%}".format),
    ("change of average mAP from A to B", "map_drop", _points_gained),
)
"""Rows of the table: name, figure, and how it is written."""


def _table(figures: dict[str, Any], a: Path, b: Path) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("figure", *number_columns("value"), title=f"{escape(b.name)} against {escape(a.name)}")
    for name, figure, write in ROWS:
        if figures[figure] is not None:
            table.add_row(name.format(unit=figures["unit"]), write(figures[figure]))
    return table
