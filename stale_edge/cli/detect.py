"""`stale-edge detect`: from videos, feature files, or a stream of features, to detections."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.detect_stream import FOLLOW_WINDOW, Float
from stale_edge.cli.engines import RAY, ActorGpus, ActorMemory, Jobs, Ray, chosen_jobs, engine_of
from stale_edge.cli.frames import (
    MAX_MEGAPIXELS,
    Approximate,
    FrameRate,
    ImageTowerFile,
    MaxMegapixels,
    Rotate,
    Step,
)
from stale_edge.cli.ground_truth import read_ground_truth
from stale_edge.cli.interrupt import prompt_interrupt
from stale_edge.cli.options import OUTPUT, STDOUT, JsonToStdout, NumberedClasses, Quiet
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
from stale_edge.cli.vocabulary import (  # noqa: TC001 (typer reads annotations when it runs)
    Cache,
    ClassWords,
    TextTowerFile,
)
from stale_edge_runtime.contract import MAX_MEMORY_MB
from stale_edge_runtime.errors import EXIT_BAD_DATA, UsageError, printable_json

if TYPE_CHECKING:
    from stale_edge.cli.extraction_run import Extraction
    from stale_edge_runtime.corpus import DetectionRun, Outcome, VideoDetector, VideoFile
    from stale_edge_runtime.formats.annotations import Annotations
    from stale_edge_runtime.jobs import Engine
    from stale_edge_runtime.result_folder import ResultFolder

TABLE_ROWS = 10
PICTURE_FRAMES = 16
"""Small frames of a video in a picture."""


class Format(StrEnum):
    """Kinds of result files."""

    JSON = "json"
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class Compat(StrEnum):
    """Published behaviours that can be asked for."""

    STALE = "stale"


def detect(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="File from `export` or `quantize`.")],
    features: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FEATURES-OR-VIDEOS…",
            help="Feature files, videos, URLs, folders (the files right inside, not in folders below), globs, or "
            "manifests (.csv, .jsonl, .parquet with columns path or url, id, duration_s); or one live "
            "source: rtsp://…, /dev/video0, - for a video through a pipe.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(*OUTPUT, metavar="FILE", help="Result file: .json, .csv, .jsonl or .parquet; - for stdout."),
    ] = None,
    file_format: Annotated[
        Format | None, typer.Option("--format", help="Format of the result; by default from its name, else JSON.")
    ] = None,
    annotations: AnnotationsFile = None,
    numbered_classes: NumberedClasses = None,
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
    any_features: AnyFeatures = False,
    image_tower: ImageTowerFile = None,
    step: Step = None,
    approximate: Approximate = None,
    frame_rate: FrameRate = None,
    rotate: Rotate = True,
    max_megapixels: MaxMegapixels = MAX_MEGAPIXELS,
    keep_features: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the features of videos here; a later run takes those that are there."),
    ] = None,
    jobs: Jobs = None,
    ray: Ray = None,
    actor_gpus: ActorGpus = 0,
    actor_memory: ActorMemory = 0,
    part_videos: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Make -o a folder of files with N videos each, written as they are complete; the same command goes on "
            "where a run was stopped.",
        ),
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
    names: ClassWords = None,
    text_tower: TextTowerFile = None,
    cache: Cache = True,
    top: Top = None,
    min_score: MinScore = "0",
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw timelines of the videos: .pdf with pages, .png or .svg.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(metavar="OUT.html", help="Write a page to watch the detections on; `view` adds videos to one."),
    ] = None,
    max_memory: Annotated[
        float, typer.Option(metavar="MB", min=1, help="Refuse a video predicted to need more memory.")
    ] = MAX_MEMORY_MB,
    threads: Threads = 1,
    provider: Provider = "cpu",
    as_json: JsonToStdout = False,
    quiet: Quiet = False,
) -> None:
    """Find actions in videos, or in features that were made of them.

    A file's name without ending is the video's id, in the annotations' spelling where they know it, else without `v_`.
    One bad file never stops the others: it is listed at the end, and the exit code is 65.
    """
    from stale_edge.cli.detect_stream import follow_rows, follow_video
    from stale_edge.cli.detection_run import described, open_detector, report_failures, run_all
    from stale_edge.cli.extraction_run import FrameOptions, featured
    from stale_edge.cli.vocabulary import VocabularyOptions
    from stale_edge_runtime.corpus import Clock, DetectionRun, is_manifest
    from stale_edge_runtime.feature_scale import learned_length
    from stale_edge_runtime.formats.external_scores import read_external
    from stale_edge_runtime.video.camera import is_live
    from stale_edge_runtime.windows import WindowPlan

    reporter = Reporter(quiet=quiet)
    jobs = chosen_jobs(jobs, ray, threads)
    engine = engine_of(jobs, ray, cpus=threads, gpus=actor_gpus, memory_mb=actor_memory)
    live = [name for name in features or () if is_live(name) and not is_manifest(name)]
    streams = follow or bool(live)
    whole_results = {
        "FEATURES": [name for name in features or () if name not in live],
        "--output": output,
        "--picture": picture,
        "--page": page,
        "--external": external,
        "--annotations": annotations,
        "--top": top,
        "--part-videos": part_videos,
        RAY: ray,
    }
    _check_options(live, compat, window, hop, whole_results, follow=follow)
    vocabulary = VocabularyOptions(text_embeddings, classes, tuple(names or ()), text_tower, cache)
    frames = FrameOptions(
        image_tower,
        step,
        tuple(approximate or ()),
        frame_rate,
        rotate,
        max_megapixels,
        keep_features,
        engine,
        threads,
        provider,
    )
    if dtype is not None and not follow:
        raise UsageError("--dtype", "is of a stream; files tell theirs", "leave it out, or use --follow")
    truth = None if annotations is None else read_ground_truth(annotations, reporter, class_names=numbered_classes)
    videos = [] if streams else _find(features or [], truth, keep_features, reporter, on_ray=ray is not None)
    inputs = [model, *(video.path for video in videos)]
    targets = _targets(
        ResultPlaces(output, file_format or Format.JSON, picture, page, as_json), file_format, part_videos, inputs
    )
    detector = open_detector(model, threads, provider, vocabulary, max_memory, labels_from, reporter=reporter)
    namers = {"the classes that were named": vocabulary.named, "--labels-from": labels_from}
    _check_for(detector, compat, external, namers)
    clock = Clock.of(detector.info, truth, fps, stride, videos)
    plan = None if window is None else WindowPlan.of(window, hop)
    scores = None if external is None else read_external(external)
    least = min_score_of(min_score, detector.info)
    learned = learned_length(detector.info, model) if rescale else None
    run = DetectionRun(detector, clock, plan, compat, scores, top, least, learned, any_features)
    if live:
        follow_video(live[0], run, plan or WindowPlan.of(FOLLOW_WINDOW, hop), frames, reporter)
        return
    reporter.note(f"times are in {clock.source}")
    if follow:
        follow_rows(run, plan or WindowPlan.of(FOLLOW_WINDOW, hop), dtype or Float.FLOAT32, reporter)
        return
    with featured(videos, detector.info, model, frames, reporter) as extraction:
        if targets.part_videos is not None:
            _detect_into_folder(run, described(run, model, external), videos, extraction, engine, targets, reporter)
            return
        with prompt_interrupt():
            many = engine if ray is not None or min(jobs or 1, len(extraction.featured)) > 1 else None
            outcome = run_all(run, extraction.featured, reporter, extraction.failures, engine=many)
    record = _record(run, model, truth, external, outcome, reporter)
    watched = {video.video_id: video.path for video in videos if video.is_video and video.url is None}
    _put_out(targets, run, outcome, record, watched, reporter)
    if code := report_failures(outcome, reporter):
        raise typer.Exit(code)


def _check_for(detector: VideoDetector, compat: Compat | None, external: Path | None, namers: dict[str, Any]) -> None:
    """Refuse options that do not go with the model."""
    if external is not None and detector.is_class_agnostic and (named := [name for name in namers if namers[name]]):
        raise UsageError("--external", f"and {named[0]} both say what the model finds", "leave one out")
    if compat and detector.info.detections:
        problem = "decodes inside, and --compat chooses another decoding"
        raise UsageError(detector.path, problem, "name the file that was exported without --detections")


def _find(
    names: list[str], truth: Annotations | None, keep_features: Path | None, reporter: Reporter, *, on_ray: bool
) -> list[VideoFile]:
    """Find the inputs; on a cluster, by paths that do not depend on the working folder."""
    from stale_edge_runtime.corpus import SUFFIXES, VIDEO_SUFFIXES, find_videos

    ids = [video.id for video in truth.videos] if truth else ()
    videos = find_videos(names, ids, reporter.note, suffixes={*SUFFIXES, *VIDEO_SUFFIXES})
    if on_ray and keep_features is None and any(video.is_video for video in videos):
        raise UsageError(RAY, "needs a folder for the features of videos", "give --keep-features on shared storage")
    return [replace(video, path=video.path.absolute()) for video in videos] if on_ray else videos


def _targets(
    places: ResultPlaces, file_format: Format | None, part_videos: int | None, inputs: list[Path]
) -> ResultPlaces:
    """Choose the format of the results, and find out that a place cannot be written before the work, not after it."""
    if part_videos is not None:
        _check_folder(places.output, file_format, {"--picture": places.picture, "--page": places.page})
        return replace(places, kind=file_format or Format.JSONL, part_videos=part_videos)
    _check_outputs(places.output, places.picture, places.page, inputs)
    places = replace(places, kind=_format(places.output, file_format))
    if places.kind is Format.PARQUET:
        from stale_edge_runtime.formats.result_tables import require_parquet

        require_parquet()
        if places.output in {None, STDOUT}:
            raise UsageError("--format parquet", "is for files", "name one with -o")
    if not places.as_json or places.output not in {None, STDOUT}:
        return places
    if places.kind is not Format.JSON:
        raise UsageError("--json", f"does not go with --format {places.kind} on stdout", "leave one of the two out")
    return replace(places, output=STDOUT)


def _detect_into_folder(
    run: DetectionRun,
    description: dict[str, Any],
    videos: list[VideoFile],
    extraction: Extraction,
    engine: Engine,
    targets: ResultPlaces,
    reporter: Reporter,
) -> None:
    """Detect in what a folder of results lacks, and say what is in it."""
    from stale_edge.cli.detection_run import run_into_folder
    from stale_edge_runtime.result_folder import ResultFolder

    assert targets.output is not None and targets.part_videos is not None  # noqa: S101, PT018 (`_targets` checks)
    made = {video.video_id: video for video in extraction.featured}
    inputs = [made.get(video.video_id, video) for video in videos]
    ids = [video.video_id for video in videos]
    folder = ResultFolder(targets.output, ids, description, targets.part_videos, f".{targets.kind}")
    run_into_folder(run, inputs, reporter, engine, folder, extraction.failures)
    _tell_folder(folder, len(videos), reporter, as_json=targets.as_json)


def _check_folder(output: Path | None, kind: Format | None, others: dict[str, Path | None]) -> None:
    """Refuse what does not go with a folder of results."""
    if output in {None, STDOUT} or (output is not None and output.is_file()):
        raise UsageError("--part-videos", "needs a folder for the results", "name one with -o")
    if kind in {Format.JSON, Format.CSV}:
        raise UsageError("--part-videos", f"does not go with --format {kind}", "choose jsonl or parquet")
    if given := [name for name, value in others.items() if value]:
        raise UsageError("--part-videos", f"does not go with {given[0]}", "make it with `view` from the results")


def _tell_folder(folder: ResultFolder, videos: int, reporter: Reporter, *, as_json: bool) -> None:
    """Say what is in a folder of results; end with an exit code where videos failed."""
    failed = folder.failures()
    if as_json:
        reasons = {row["id"]: row["problem"] for row in failed}
        reporter.result_json({"output": str(folder.folder), "videos": videos, "failed": reasons})
    else:
        reporter.result(f"{folder.folder}: results of {videos - len(failed):,} of {videos:,} videos")
    if failed:
        reporter.warn(f"{len(failed):,} videos could not be used; {folder.folder}/failures-* say why")
        raise typer.Exit(EXIT_BAD_DATA)


@dataclass(frozen=True)
class ResultPlaces:
    """Places for the results."""

    output: Path | None
    """Result file; `-` for stdout, None for a table."""
    kind: Format
    """Format of the result file."""
    picture: Path | None
    """Timelines."""
    page: Path | None
    """Page to watch the detections on."""
    as_json: bool
    """Print the results as JSON too."""
    part_videos: int | None = None
    """Videos of each file where the results are a folder of them; None for one file."""


def _put_out(
    targets: ResultPlaces,
    run: DetectionRun,
    outcome: Outcome,
    record: dict[str, Any],
    watched: dict[str, Path],
    reporter: Reporter,
) -> None:
    """Write and show the results."""
    from stale_edge.cli.extraction_run import write_failures
    from stale_edge_runtime.formats.files import together

    output, kind = targets.output, targets.kind
    with together():
        if output is not None and output != STDOUT:
            _write_file(output, kind, outcome, record)
            if kind in {Format.JSONL, Format.PARQUET}:
                write_failures(output.with_suffix(f".failures.{kind}"), outcome.failures)
        _write_shown(targets.picture, targets.page, run, outcome, watched, reporter)
    _show(output, kind, outcome, record, reporter)
    if targets.as_json and output != STDOUT:
        _show(STDOUT, Format.JSON, outcome, record, reporter)


def _check_options(
    live: list[str],
    compat: Compat | None,
    window: int | None,
    hop: int | None,
    whole_results: dict[str, Any],
    *,
    follow: bool,
) -> None:
    """Refuse options that do not go together."""
    streams = follow or bool(live)
    if follow and live:
        raise UsageError("--follow", "takes rows of features from stdin", f"leave it out to follow {live[0]}")
    if len(live) > 1:
        raise UsageError(live[1], "is a second live source", "run one process for each")
    if streams and (given := [name for name, value in whole_results.items() if value]):
        what = "--follow" if follow else live[0]
        raise UsageError(what, f"does not go with {' or '.join(given)}", "a stream has no end to wait for")
    if not streams and not whole_results["FEATURES"]:
        raise UsageError("FEATURES", "are missing", "name feature files, videos or folders, or use --follow")
    if compat and (streams or window is not None):
        raise UsageError("--compat", "decodes whole videos, as the published code does", "leave out windows")
    if hop is not None and window is None and not streams:
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
        cure = "name it .json, .csv, .jsonl or .parquet, or give --format"
        raise UsageError("--output", f"{output.name!r} tells no format", cure) from None


def _check_outputs(output: Path | None, picture: Path | None, page: Path | None, inputs: list[Path]) -> None:
    """Find out that an output cannot be written before the work, not after it."""
    from stale_edge_runtime.formats.files import check_target

    if picture is not None:
        from stale_edge.cli.timeline_plot import check_picture

        check_picture(picture)
    for target in (output, picture, page):
        if target is not None and target != STDOUT:
            check_target(target, inputs)


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
        sys.stdout.write(text if kind is Format.CSV else printable_json(text))


def _write_file(target: Path, kind: Format, outcome: Outcome, record: dict[str, Any]) -> None:
    from stale_edge_runtime.formats.result_tables import result_row, write_table
    from stale_edge_runtime.formats.results import write_results, write_results_csv

    if kind is Format.CSV:
        write_results_csv(target, outcome.results)
    elif kind in {Format.JSONL, Format.PARQUET}:
        rows = [result_row(video_id, outcome.lengths[video_id], found) for video_id, found in outcome.results.items()]
        write_table(target, rows, parquet=kind is Format.PARQUET)
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


def _draw(picture: Path, run: DetectionRun, outcome: Outcome, watched: dict[str, Path]) -> list[Path]:
    from stale_edge.cli.timeline_plot import TimelinePanel, write_timeline
    from stale_edge.pages.player.media import media_of
    from stale_edge_runtime.corpus import SECONDS

    media, _ = media_of(watched, picture, thumbnails=PICTURE_FRAMES)

    panels = [
        TimelinePanel(
            video_id=video_id,
            length=outcome.lengths[video_id],
            detections=found,
            truth=run.clock.truth(video_id),
            in_seconds=run.clock.unit == SECONDS,
            frames=media[video_id].sprite if video_id in media else None,
        )
        for video_id, found in outcome.results.items()
    ]
    return write_timeline(picture, panels)


def _write_shown(
    picture: Path | None,
    page: Path | None,
    run: DetectionRun,
    outcome: Outcome,
    watched: dict[str, Path],
    reporter: Reporter,
) -> None:
    """Draw and write what people look at, where they asked for it."""
    if picture is not None:
        for path in _draw(picture, run, outcome, watched):
            reporter.note(f"wrote {path}")
    if page is not None:
        _write_page(page, run, outcome, watched, reporter)


def _write_page(page: Path, run: DetectionRun, outcome: Outcome, watched: dict[str, Path], reporter: Reporter) -> None:
    from stale_edge.cli.view import write_page
    from stale_edge.pages.player.content import PlayerContent, ResultSet
    from stale_edge_runtime.corpus import SECONDS

    model = run.detector.path
    content = PlayerContent(
        [ResultSet(model.stem, outcome.results, f"{model.name}, {run.detector.info.precision}")],
        run.clock.annotations,
        outcome.lengths,
        in_seconds=run.clock.unit == SECONDS,
    )
    write_page(page, content, reporter, title=f"Detections of {model.name}", videos=watched or None)
