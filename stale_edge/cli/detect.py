"""`stale-edge detect`: from videos, feature files, or a stream of features, to detections."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.detect_stream import FOLLOW_WINDOW, Float
from stale_edge.cli.detection_output import Format, ResultPlaces, checked_places, write_out
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
from stale_edge.cli.options import OUTPUT, JsonToStdout, NumberedClasses, Quiet
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
from stale_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from stale_edge_runtime.corpus import VideoFile
    from stale_edge_runtime.detector import Detector
    from stale_edge_runtime.formats.annotations import Annotations
    from stale_edge_runtime.isolation import IsolatedDetector


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
    from stale_edge.cli.detection_run import (
        described,
        open_detector,
        report_failures,
        result_record,
        run_all,
        run_into_folder,
    )
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
    targets = checked_places(
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
            description = described(run, model, external)
            raise typer.Exit(run_into_folder(run, description, videos, extraction, engine, targets, reporter))
        with prompt_interrupt():
            many = engine if ray is not None or min(jobs or 1, len(extraction.featured)) > 1 else None
            outcome = run_all(run, extraction.featured, reporter, extraction.failures, engine=many)
    record = result_record(run, model, truth, external, outcome, reporter)
    write_out(targets, run, outcome, record, videos, reporter)
    if code := report_failures(outcome, reporter):
        raise typer.Exit(code)


def _check_for(
    detector: Detector | IsolatedDetector, compat: Compat | None, external: Path | None, namers: dict[str, Any]
) -> None:
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
