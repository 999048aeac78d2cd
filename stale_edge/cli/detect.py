"""`stale-edge detect`: from feature files, or a stream of features, to detections."""

from __future__ import annotations

import json
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.ground_truth import read_ground_truth
from stale_edge.cli.interrupt import prompt_interrupt
from stale_edge.cli.options import OUTPUT, STDOUT, JsonToStdout, Quiet
from stale_edge.cli.video_inputs import (  # noqa: TC001 (typer reads annotations when it runs)
    AnnotationsFile,
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
)
from stale_edge_runtime.contract import MAX_MEMORY_MB
from stale_edge_runtime.errors import BadDataError, UsageError, printable_json

if TYPE_CHECKING:
    from stale_edge_runtime.corpus import DetectionRun, Outcome
    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.formats.annotations import Annotations
    from stale_edge_runtime.windows import WindowPlan

FOLLOW_WINDOW = 200
TABLE_ROWS = 10
SCALE_ROWS = 16
"""Rows of a stream that tell its scale."""


class Format(StrEnum):
    """Kinds of result files."""

    JSON = "json"
    CSV = "csv"


class Float(StrEnum):
    """Types of numbers in a stream."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"


class Compat(StrEnum):
    """Published behaviours that can be asked for."""

    STALE = "stale"


def detect(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="File from `export` or `quantize`.")],
    features: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FEATURES…",
            help="Feature files, folders (the .npy and .npz files right inside, not in folders below), or globs.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(*OUTPUT, metavar="FILE", help="Result file, .json or .csv; - for stdout."),
    ] = None,
    file_format: Annotated[
        Format | None, typer.Option("--format", help="Format of the result; by default from its name, else JSON.")
    ] = None,
    annotations: AnnotationsFile = None,
    fps: Fps = None,
    stride: Stride = None,
    window: Window = None,
    hop: Hop = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Read snippets from stdin as they arrive (--dtype, little-endian, one row after the other) and "
            f"print detections as they settle, one JSON object a line. Windows of {FOLLOW_WINDOW} unless --window is "
            "given.",
        ),
    ] = False,
    dtype: Annotated[
        Float | None, typer.Option(help="Type of the numbers of --follow.", show_default="float32")
    ] = None,
    rescale: Annotated[
        bool,
        typer.Option(
            "--rescale", help="Multiply the features of a video to the scale that the model learned: normalised ones."
        ),
    ] = False,
    external: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Score enhancement by an external classifier's scores; recorded in the result."
        ),
    ] = None,
    labels_from: Annotated[
        Path | None,
        typer.Option(
            metavar="MAP.onnx", help="Boundary map whose classes name what a model finds that tells when and not what."
        ),
    ] = None,
    compat: Annotated[Compat | None, typer.Option(help="Decode as the published code does, defects included.")] = None,
    text_embeddings: TextEmbeddings = None,
    classes: ClassNames = None,
    top: Top = None,
    min_score: MinScore = 0.0,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw a timeline of the videos, .png or .svg.")
    ] = None,
    max_memory: Annotated[
        float, typer.Option(metavar="MB", min=1, help="Refuse a video predicted to need more memory.")
    ] = MAX_MEMORY_MB,
    threads: Threads = 1,
    provider: Provider = "cpu",
    as_json: JsonToStdout = False,
    quiet: Quiet = False,
) -> None:
    """Find actions in videos, given their features.

    A file's name without ending is the video's id, in the annotations' spelling where they know it, else without `v_`.
    One bad file never stops the others: it is listed at the end, and the exit code is 65.
    """
    from stale_edge.cli.detection_run import open_detector, report_failures, run_all
    from stale_edge_runtime.corpus import Clock, DetectionRun, find_videos
    from stale_edge_runtime.feature_scale import learned_length
    from stale_edge_runtime.formats.external_scores import read_external
    from stale_edge_runtime.formats.files import together
    from stale_edge_runtime.windows import WindowPlan

    reporter = Reporter(quiet=quiet)
    whole_results = {
        "FEATURES": features,
        "--output": output,
        "--picture": picture,
        "--external": external,
        "--annotations": annotations,
        "--top": top,
    }
    _check_options(follow, compat, window, hop, whole_results)
    if dtype is not None and not follow:
        raise UsageError("--dtype", "is of a stream; files tell theirs", "leave it out, or use --follow")
    truth = None if annotations is None else read_ground_truth(annotations, reporter)
    videos = (
        []
        if follow
        else find_videos(features or [], [video.id for video in truth.videos] if truth else (), reporter.note)
    )
    _check_outputs(output, picture, [model, *(video.path for video in videos)])
    kind = _format(output, file_format)
    if as_json and output in {None, STDOUT}:
        if kind is Format.CSV:
            raise UsageError("--json", "does not go with --format csv on stdout", "leave one of the two out")
        output = STDOUT
    detector = open_detector(model, threads, provider, text_embeddings, classes, max_memory, labels_from)
    namers = {"--text-embeddings": text_embeddings, "--labels-from": labels_from}
    if external is not None and detector.is_class_agnostic and (named := [name for name in namers if namers[name]]):
        raise UsageError("--external", f"and {named[0]} both name what the model finds", "leave one out")
    clock = Clock.of(detector.info, truth, fps, stride)
    plan = None if window is None else WindowPlan.of(window, hop)
    scores = None if external is None else read_external(external)
    learned = learned_length(detector.info, model) if rescale else None
    run = DetectionRun(detector, clock, plan, compat, scores, top, min_score, learned)
    reporter.note(f"times are in {clock.source}")
    if follow:
        _follow(run, plan or WindowPlan.of(FOLLOW_WINDOW, hop), dtype or Float.FLOAT32, reporter)
        return
    with prompt_interrupt():
        outcome = run_all(run, videos, reporter)
    record = _record(run, model, truth, external, outcome, reporter)
    with together():
        if output is not None and output != STDOUT:
            _write_file(output, kind, outcome, record)
        if picture is not None:
            _draw(picture, run, outcome)
    _show(output, kind, outcome, record, reporter)
    if as_json and output != STDOUT:
        _show(STDOUT, Format.JSON, outcome, record, reporter)
    if code := report_failures(outcome, reporter):
        raise typer.Exit(code)


def _check_options(
    follow: bool, compat: Compat | None, window: int | None, hop: int | None, whole_results: dict[str, Any]
) -> None:
    """Refuse options that do not go together."""
    if follow and (given := [name for name, value in whole_results.items() if value]):
        raise UsageError("--follow", f"does not go with {' or '.join(given)}", "a stream has no end to wait for")
    if not follow and not whole_results["FEATURES"]:
        raise UsageError("FEATURES", "are missing", "name feature files or folders, or use --follow")
    if compat and (follow or window is not None):
        raise UsageError("--compat", "decodes whole videos, as the published code does", "leave out windows")
    if hop is not None and window is None and not follow:
        raise UsageError("--hop", "moves windows, and there are none", "give --window as well")


def _format(output: Path | None, wanted: Format | None) -> Format:
    """Choose the format that was asked for, or that the result file's ending names; JSON otherwise.

    Raises:
        UsageError: The ending is another one.
    """
    if wanted or output is None or not output.suffix:
        return wanted or Format.JSON
    try:
        return Format(output.suffix.lower().removeprefix("."))
    except ValueError:
        cure = "name it .json or .csv, or give --format"
        raise UsageError("--output", f"{output.name!r} tells no format", cure) from None


def _check_outputs(output: Path | None, picture: Path | None, inputs: list[Path]) -> None:
    """Find out that an output cannot be written before the work, not after it."""
    from stale_edge_runtime.formats.files import check_target

    if picture is not None:
        from stale_edge.cli.timeline_plot import check_picture

        check_picture(picture, len(inputs) - 1)
    for target in (output, picture):
        if target is not None and target != STDOUT:
            check_target(target, inputs)


def _follow(run: DetectionRun, plan: WindowPlan, dtype: Float, reporter: Reporter) -> None:
    """Print detections of a stream as they settle, one JSON object a line."""
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
        try:
            for rows in watched(read_rows(sys.stdin.buffer, info.feature_dim, dtype=dtype), enough, see):
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


def _record(
    run: DetectionRun,
    model: Path,
    truth: Annotations | None,
    external: Path | None,
    outcome: Outcome,
    reporter: Reporter,
) -> dict[str, Any]:
    """Make the result file's `external_data`: model and settings of the detections."""
    from stale_edge_runtime.formats.results import MODEL, SCORE_ENHANCEMENT

    info = run.detector.info
    record: dict[str, Any] = {
        MODEL: {"file": model.name, "precision": str(info.precision), "untrained": info.untrained},
        "time_unit": run.clock.unit,
    }
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


def _show(output: Path | None, kind: Format, outcome: Outcome, record: dict[str, Any], reporter: Reporter) -> None:
    if output is None:
        reporter.result(_table(outcome, record["time_unit"]))
        reporter.note(f"{_counted(outcome)}, the best {TABLE_ROWS} of each shown; -o FILE writes all")
        return
    if output != STDOUT:
        reporter.note(f"wrote {output}: {_counted(outcome)}")
        return
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "results"
        _write_file(target, kind, outcome, record)
        text = target.read_text(encoding="utf-8")
        sys.stdout.write(printable_json(text) if kind is Format.JSON else text)


def _write_file(target: Path, kind: Format, outcome: Outcome, record: dict[str, Any]) -> None:
    from stale_edge_runtime.formats.results import write_results, write_results_csv

    if kind is Format.CSV:
        write_results_csv(target, outcome.results)
    else:
        write_results(target, outcome.results, external=record)


def _counted(outcome: Outcome) -> str:
    videos = len(outcome.results)
    return f"{sum(map(len, outcome.results.values()))} detections in {videos} video{'' if videos == 1 else 's'}"


def _table(outcome: Outcome, unit: str) -> Any:
    """Lay out the best detections of every video, for reading."""
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for heading in ("video", "label"):
        table.add_column(heading)
    for heading in (f"start ({unit})", f"end ({unit})", "score"):
        table.add_column(heading, justify="right")
    for video_id, found in outcome.results.items():
        for d in found[:TABLE_ROWS]:
            table.add_row(escape(video_id), escape(d.label), f"{d.start_s:.2f}", f"{d.end_s:.2f}", f"{d.score:.3f}")
    return table


def _draw(picture: Path, run: DetectionRun, outcome: Outcome) -> None:
    from stale_edge.cli.timeline_plot import TimelinePanel, write_timeline
    from stale_edge_runtime.corpus import SECONDS

    panels = [
        TimelinePanel(
            video_id=video_id,
            length=outcome.lengths[video_id],
            detections=found,
            truth=run.clock.truth(video_id),
            in_seconds=run.clock.unit == SECONDS,
        )
        for video_id, found in outcome.results.items()
    ]
    write_timeline(picture, panels)
