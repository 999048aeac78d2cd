"""`stale-edge quantize`: an fp32 ONNX file becomes an int8 or fp16 one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.export import decoding_line
from stale_edge.cli.ground_truth import read_ground_truth
from stale_edge.cli.options import FEATURES, ONNX, OUTPUT, JsonToStdout, NumberedClasses, Quiet
from stale_edge.cli.video_inputs import (  # noqa: TC001 (typer reads annotations when it runs)
    AnnotationsFile,
    AnyFeatures,
    ClassNames,
    Fps,
    Stride,
    TextEmbeddings,
)
from stale_edge_runtime.contract import Precision, Role
from stale_edge_runtime.errors import InputMissingError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stale_edge_export.quantization.acceptance import Trial
    from stale_edge_export.quantization.quantize import QuantizationReport

STEPS = 3
GAIN_SECONDS = 2.0
HALF_ON_ARM = (
    "errors are measured with float32 arithmetic; Arm cores with half arithmetic (Cortex-A76 of a Raspberry Pi 5, "
    "phones) are about twice as far from fp32: check there with `stale-edge compare`, or take int8"
)


def quantize(
    model: Annotated[
        Path, typer.Argument(metavar="[MODEL.onnx]", help="fp32 file to quantise.", show_default=True)
    ] = ONNX,
    int8: Annotated[bool, typer.Option("--int8", help="8-bit products, for CPUs.")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Half-precision products, for GPUs.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(*OUTPUT, help="File to write; MODEL.int8.onnx or MODEL.fp16.onnx by default."),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            help="Processors the int8 file is for: vnni, arm64, avx2 (x86 without VNNI, 7-bit right operands), "
            "portable (right on all of them: for files that travel); auto takes what this machine has."
        ),
    ] = "auto",
    exclude: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Products whose names match stay in fp32 (int8 only).")
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            *FEATURES,
            metavar="FEATURES",
            help="Files, folders or globs, as for `detect`; repeatable. What int8 does to detections on them decides "
            "what is quantised; CLIP-like features otherwise.",
        ),
    ] = None,
    annotations: AnnotationsFile = None,
    numbered_classes: NumberedClasses = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="POINTS", help="Write no file that loses more average mAP than this; 0.5 is 34.5 to 34.0."
        ),
    ] = None,
    report: Annotated[
        bool,
        typer.Option(
            "--report", help="List every product: change of the output, saturation on old processors, decision."
        ),
    ] = False,
    measure_gain: Annotated[
        bool,
        typer.Option(
            "--measure-gain",
            help="Time every product on this machine, and keep in fp32 what saves nothing. The file then depends on "
            "the timings; without, the same input gives the same file.",
        ),
    ] = False,
    fps: Fps = None,
    stride: Stride = None,
    any_features: AnyFeatures = False,
    frames: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Video or image; repeatable. Error of an image tower on frames of them decides what is quantised; "
            "synthetic images otherwise. Give several videos: frames of one hardly differ.",
        ),
    ] = None,
    text_embeddings: TextEmbeddings = None,
    classes: ClassNames = None,
    json: JsonToStdout = False,
    quiet: Quiet = False,
) -> None:
    """Quantise an exported file, and say what it does to the outputs and, on given videos, to detections and mAP."""
    from stale_edge.extras import require_export

    if int8 == fp16:
        raise UsageError("--int8, --fp16", "exactly one is needed", "choose one")
    if fp16 and (exclude or target != "auto" or report or measure_gain):
        raise UsageError("--exclude, --target, --report, --measure-gain", "go with --int8 only", "leave them out")
    if max_drop is not None and annotations is None:
        raise UsageError("--max-drop", "needs ground truth", "give --ground-truth as well")
    if annotations is not None and not features:
        raise UsageError("--ground-truth", "needs videos", "give their --features as well")
    if (text_embeddings is None) != (classes is None):
        raise UsageError("--text-embeddings and --classes", "belong together", "give both, or neither")
    if frames and (features or annotations is not None):
        raise UsageError("--frames", "is for image towers, --features for what reads features", "give one of them")
    require_export("stale-edge quantize")
    precision = Precision.INT8 if int8 else Precision.FP16
    if not model.exists():
        raise InputMissingError(model, "no such file", "make one with `stale-edge export`")
    from stale_edge_export.quantization.quantize import Int8Options, quantize_file
    from stale_edge_runtime.formats.files import check_target

    reporter = Reporter(quiet=quiet)
    options = Int8Options(
        cpu=_target(target), exclude=exclude, gain_seconds=GAIN_SECONDS if measure_gain else None, report=report
    )
    result_path = output or model.with_suffix(f".{precision}.onnx")
    check_target(result_path, [model])
    trial, images = None, _frames(model, frames, reporter) if frames else None
    _check_role(model, features)
    if features:
        texts = (text_embeddings, classes)
        given = (annotations, numbered_classes)
        trial = _trial(model, features, given, fps, stride, texts, reporter, any_features=any_features)
    steps = STEPS + bool(trial) + report + measure_gain
    with reporter.progress(f"quantize to {precision}", steps) as step:
        made = quantize_file(
            model,
            result_path,
            precision,
            int8=options,
            trial=trial,
            images=images,
            max_drop_points=max_drop,
            progress=step,
        )
    if json:
        reporter.result_json(_json(made, result_path))
    else:
        _show(made, result_path, reporter, on_given=bool(features or frames))
        _note_target(made, result_path, reporter)


def _note_target(made: QuantizationReport, path: Path, reporter: Reporter) -> None:
    """Recommend a portable file where one is for processors of one kind that others saturate on."""
    from stale_edge_runtime.processor import EXACT_TARGETS

    if (target := made.info.recipe.get("target")) in EXACT_TARGETS:
        reporter.note(f"{path} is for {target}; for a file that travels, use --target portable")


def _check_role(model: Path, features: list[str] | None) -> None:
    """Refuse features for a tower, which does not read any."""
    from stale_edge_runtime.model_file import read_model

    role = read_model(model).info.role if features else Role.DETECTOR
    if role is not Role.DETECTOR:
        cure = "give videos or images with --frames" if role is Role.IMAGE_TOWER else "leave it out"
        raise UsageError("--features", f"does not go with {model}, a {role} file", cure)


def _frames(model: Path, frames: list[Path], reporter: Reporter) -> NDArray[np.uint8]:
    """Read frames of the files that the option names."""
    from stale_edge_runtime.contract import Kind
    from stale_edge_runtime.tower_files import read_tower
    from stale_edge_runtime.video.frames import varied_frames

    info = read_tower(model, Kind.IMAGE_TOWER).info
    found = varied_frames(frames, info.image_size)
    if len(frames) == 1 and len(found) > 1:
        reporter.warn(f"all {len(found)} frames are of {frames[0]}: they may differ too little to judge by; give more")
    return found


def _trial(
    model: Path,
    features: list[str],
    given: tuple[Path | None, Path | None],
    fps: float | None,
    stride: int | None,
    texts: tuple[Path | None, Path | None],
    reporter: Reporter,
    *,
    any_features: bool,
) -> Trial:
    """Read the videos that the options name, with all that they give."""
    from stale_edge_export.quantization.acceptance import Trial, TrialVideo
    from stale_edge_runtime.corpus import Clock, check_record, find_videos
    from stale_edge_runtime.feature_scale import scale_warning
    from stale_edge_runtime.formats.class_list import read_class_list
    from stale_edge_runtime.formats.feature_record import VideoFeatures
    from stale_edge_runtime.formats.features import median_row_length, read_features
    from stale_edge_runtime.model_file import read_model

    info = read_model(model).info
    text_embeddings, classes = texts
    annotations, numbered = given
    truth = None if annotations is None else read_ground_truth(annotations, reporter, class_names=numbered)
    files = find_videos(features, [video.id for video in truth.videos] if truth else (), reporter.note)
    clock = Clock.of(info, truth, fps, stride, files)
    videos = []
    for video in files:
        read = VideoFeatures(video.read(info.feature_dim), video.record())
        check_record(video, read, info, model, any_origin=any_features)
        videos.append(TrialVideo(video.video_id, read.rows, clock.duration(video, len(read.rows), read.record)))
    lengths = [median_row_length(video.features) for video in videos]
    if warning := scale_warning(lengths, info, model):
        reporter.warn(warning)
    return Trial(
        tuple(videos),
        truth,
        None if text_embeddings is None else read_features(text_embeddings, info.feature_dim),
        None if classes is None else tuple(read_class_list(classes)),
    )


def _target(name: str) -> str:
    from stale_edge_export.quantization.int8 import TARGETS, this_machine

    if name == "auto":
        return this_machine()
    if name not in TARGETS:
        raise UsageError("--target", f"{name!r} is not known", f"use auto, {', '.join(TARGETS)}")
    return name


def _json(made: QuantizationReport, path: Path) -> dict[str, Any]:
    content = {
        "output": str(path),
        "size_bytes": made.size_bytes,
        "original_bytes": made.original_bytes,
        "recipe": dict(made.info.recipe),
    }
    if made.layers:
        content["layers"] = [layer.to_json() for layer in made.layers.layers]
        content["old_processors"] = made.layers.old_processors.to_json()
    return content


def _show(made: QuantizationReport, path: Path, reporter: Reporter, *, on_given: bool) -> None:
    from stale_edge.cli.quantize_table import detections_line, harm_table, layer_table, old_processors_table

    if not reporter.quiet:
        reporter.result(harm_table(made, on_given=on_given))
    if made.layers:
        reporter.result(layer_table(made.layers))
        reporter.result(old_processors_table(made.layers))
    for name, reason in made.info.recipe.get("kept_because", {}).items():
        reporter.note(f"{name} stays in fp32: {reason}")
    for line in filter(None, (detections_line(made), decoding_line(made.info))):
        reporter.result(line)
    where = " at 200 snippets" if made.info.role is Role.DETECTOR else ""
    reporter.result(
        f"{path}: {made.size_bytes / 1e6:.1f} MB, {made.size_bytes / made.original_bytes:.2f} of fp32; "
        f"{100 * made.low_precision_share:.0f} % of the multiply-accumulates{where} in {made.info.precision}"
    )
    if made.info.precision is Precision.FP16:
        reporter.note(HALF_ON_ARM)
