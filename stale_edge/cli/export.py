"""`stale-edge export`: a checkpoint becomes one checked ONNX file."""

from __future__ import annotations

import json as json_values
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stale_edge.cli.console import Reporter, number_columns
from stale_edge.cli.export_clip import ClipRequest, export_clip
from stale_edge.cli.options import (
    CHECKPOINT,
    MODELS,
    ONNX,
    OUTPUT,
    SNIPPET_SECONDS,
    TEXT_TOWER,
    JsonToStdout,
    Quiet,
    ready_default,
)
from stale_edge_runtime.contract import STALE_NETWORK, Kind
from stale_edge_runtime.errors import InputMissingError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from stale_edge.checkpoint import Checkpoint
    from stale_edge_export.parity import Parity
    from stale_edge_runtime.contract import ModelInfo

UNTRAINED_SEED = 0
KIND_SUFFIXES = {Kind.BAKED: "", Kind.OPEN: ".open", Kind.FULL: ".full", Kind.TEXT_TOWER: ".text-tower"}
PLAIN_SUFFIX = ".plain"
DETECTIONS_SUFFIX = ".detections"


def export(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="[MODEL.safetensors]",
            help=f"Checkpoint; {CHECKPOINT} by default, and where there is none an untrained network of the "
            "published size.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            *OUTPUT,
            help=f"Where the ONNX file goes; {ONNX} by default, with the network and the kind in its name for others.",
        ),
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Class names to bake in, one a line; the checkpoint's by default.")
    ] = None,
    open_vocabulary: Annotated[bool, typer.Option("--open", help="Take text embeddings as an input.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Keep the text tower inside and take token ids, as the thesis timed it.")
    ] = False,
    text_tower: Annotated[bool, typer.Option(TEXT_TOWER, help="Export the text tower alone.")] = False,
    fold: Annotated[
        bool, typer.Option("--fold/--no-fold", help="Apply the exact rewrites, or keep the plain graph.")
    ] = True,
    snippet_seconds: Annotated[
        float | None,
        typer.Option(SNIPPET_SECONDS, min=1e-3, help="Seconds of video behind one snippet, to record in the file."),
    ] = None,
    detections: Annotated[
        bool,
        typer.Option(
            "--detections",
            help="Decode inside the file: outputs are segments, labels and scores of one video, best first.",
        ),
    ] = False,
    decode: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Setting of the decoding inside, as in max_detections=20, min_score=0.1 or sigma=0.75; repeatable.",
        ),
    ] = None,
    network: Annotated[
        str, typer.Option(metavar="NAME", help="Network to take the default checkpoint of, or an untrained one.")
    ] = STALE_NETWORK,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Published configuration of an untrained network to export, for timing."),
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="CLIP whose towers to export instead: a Hugging Face folder or name, OpenAI's .pt, an open_clip "
            ".safetensors, a STALE checkpoint, or untrained:ViT-B/32 (or B/16, L/14) for timing; -o is then a folder.",
        ),
    ] = None,
    channels: Annotated[
        str, typer.Option(metavar="rgb|bgr", help="Order of colours that the image tower is to see, with --clip.")
    ] = "rgb",
    activation: Annotated[
        str | None,
        typer.Option(
            metavar="quick_gelu|gelu", help="Activation of the towers, where --clip's source does not say it."
        ),
    ] = None,
    json: JsonToStdout = False,
    quiet: Quiet = False,
) -> None:
    """Export a checkpoint to one self-contained ONNX file with dynamic batch and snippet axes.

    The written file is run in onnxruntime beside PyTorch, at 8 or more lengths and 2 batch sizes, on random and on
    CLIP-like features; where they differ no file is left and the exit code is not zero. With --detections, so are
    detections beside those that numpy decodes, row by row.
    """
    from stale_edge.extras import require_export

    kind = _kind(open_vocabulary=open_vocabulary, full=full, text_tower=text_tower)
    if classes and kind is not Kind.BAKED:
        raise UsageError("--classes", f"does not go with a {kind} file", "leave it out")
    if clip is None and (channels != "rgb" or activation is not None):
        raise UsageError("--channels, --activation", "go with --clip only", "leave them out")
    settings = _decode_settings(decode or [], detections=detections)
    require_export("stale-edge export")
    if clip is not None:
        given = (model, classes, snippet_seconds, preset, settings)
        if any(value is not None for value in given) or kind is not Kind.BAKED or network != STALE_NETWORK:
            raise UsageError("--clip", "exports towers, and takes no options of a network", "leave the others out")
        request = ClipRequest(clip, output, channels, activation, fold)
        export_clip(request, Reporter(quiet=quiet), as_json=json)
        return
    from stale_edge_export.detections import decoding_cases
    from stale_edge_export.exporter import export_checkpoint
    from stale_edge_export.graphs.registry import GRAPHS
    from stale_edge_runtime.formats.class_list import read_class_list
    from stale_edge_runtime.formats.files import check_target

    report = Reporter(quiet=quiet)
    names = read_class_list(classes) if classes else ()
    if output is not None:
        check_target(output, [model or CHECKPOINT])
    checkpoint = _checkpoint(model, network, preset, report)
    suffix = KIND_SUFFIXES[kind] + ("" if fold else PLAIN_SUFFIX) + (DETECTIONS_SUFFIX if detections else "")
    default = MODELS / f"{checkpoint.network_name}{suffix}.onnx"
    target = ready_default(output or default, default)
    check_target(target, [model or CHECKPOINT])
    steps = len(GRAPHS[checkpoint.network_name].cases) + 2 + detections * decoding_cases(checkpoint.network_name)
    with report.progress("export", steps) as step:
        made = export_checkpoint(
            checkpoint,
            target,
            kind=kind,
            classes=names,
            fold=fold,
            snippet_seconds=snippet_seconds,
            decode=settings,
            progress=step,
        )
    if json:
        report.result_json({"output": str(target), "size_bytes": made.size_bytes, "metadata": made.info.to_metadata()})
        return
    if not quiet:
        report.result(parity_table(made.parity))
    report.result(f"{target}: {kind}, {made.size_bytes / 1e6:.1f} MB, agrees with PyTorch at every length checked")
    if line := decoding_line(made.info):
        report.result(line)


def decoding_line(info: ModelInfo) -> str:
    """Say how the decoding inside a file was checked; '' for a file that does not decode."""
    checked = info.parity.get("detections")
    if not checked:
        return ""
    first, last = checked["lengths"][0], checked["lengths"][-1]
    return (
        f"decodes inside: {checked['rows']:,} detections of {checked['videos']} videos of {first:,} to {last:,} "
        "snippets are those of numpy, in order"
    )


def _decode_settings(words: list[str], *, detections: bool) -> dict[str, Any] | None:
    """Read `NAME=VALUE` settings of a decoding inside the file; None where it does not decode."""
    if words and not detections:
        raise UsageError("--decode", "sets what --detections puts into the file", "give --detections as well")
    if not detections:
        return None
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name or name in found:
            raise UsageError("--decode", f"{word!r} is no NAME=VALUE of its own", "write it as in sigma=0.75")
        try:
            found[name] = json_values.loads(text)
        except ValueError:
            found[name] = text
    return found


def parity_table(parity: Parity) -> Table:
    """Lay out the check as a table: one row per size, the tolerance last."""
    from rich.table import Table

    names, title = list(parity.max_error), "Largest difference from PyTorch, over all batches and inputs"
    table = Table("size", *number_columns(*names), title=title, title_justify="left")
    for size, errors in parity.by_size().items():
        table.add_row(size, *(f"{errors[name]:.1e}" for name in names))
    table.add_section()
    table.add_row("allowed", *(f"{parity.tolerance[name]:.0e}" for name in names))
    return table


def _kind(*, open_vocabulary: bool, full: bool, text_tower: bool) -> Kind:
    chosen = [
        kind
        for kind, wanted in ((Kind.OPEN, open_vocabulary), (Kind.FULL, full), (Kind.TEXT_TOWER, text_tower))
        if wanted
    ]
    if len(chosen) > 1:
        raise UsageError("--open, --full, --text-tower", "exclude each other", "choose one")
    return chosen[0] if chosen else Kind.BAKED


def _checkpoint(model: Path | None, network: str, preset: str | None, report: Reporter) -> Checkpoint:
    """Load the network to export: of a file, of the default one, or an untrained one.

    Raises:
        InputMissingError: There is no such file.
        UsageError: Options that do not go together, or an unknown name.
    """
    from stale_edge.checkpoint import load_checkpoint
    from stale_edge.cli.networks import network_spec
    from stale_edge.seeded import untrained_checkpoint

    if model is not None and (preset is not None or network != STALE_NETWORK):
        given = "--network" if preset is None else "--preset"
        raise UsageError(given, "chooses a network where no checkpoint is named", f"leave it out, or {model}")
    network_spec(network, preset)
    path = model or MODELS / f"{network}.safetensors"
    if path.exists() and preset is None:
        report.note(f"reading {path}")
        return load_checkpoint(path)
    if model is not None:
        raise InputMissingError(model, "no such file", "make one with `stale-edge convert`")
    report.warn(
        (f"there is no {path}: " if preset is None else "")
        + "exporting an UNTRAINED network of the published size with seeded weights. Its file is right for timing and "
        "useless for detection."
    )
    return untrained_checkpoint(UNTRAINED_SEED, network, preset=preset)
