"""`stale-edge export --clip`: the towers of a CLIP become two checked ONNX files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stale_edge.cli.options import MODELS

if TYPE_CHECKING:
    from pathlib import Path

    from stale_edge.cli.console import Reporter
    from stale_edge.networks.clip_sources import ClipSource
    from stale_edge_export.exporter import ExportReport

IMAGE_TOWER, TEXT_TOWER = "clip-image.onnx", "clip-text.onnx"
STEPS = 2 + 2
"""Steps that the exports of both towers report at least."""


@dataclass(frozen=True)
class ClipRequest:
    """Options of `export --clip`."""

    source: str
    """Weights: a folder, a file, or a name on Hugging Face's hub."""
    folder: Path | None
    """Folder that the towers go to; `models/` without."""
    channels: str
    """Order of colours that the image tower sees."""
    activation: str | None
    """Activation, where the source does not tell it."""
    fold: bool
    """Apply the exact rewrites."""


def export_clip(request: ClipRequest, report: Reporter, *, as_json: bool) -> None:
    """Export the image tower of a CLIP, and its text tower where it has one.

    Raises:
        UsageError: An option's value is not known.
        BadDataError: The source holds no CLIP, or a file does not agree with PyTorch.
        StaleEdgeError: The source cannot be had, or a target cannot be written.
    """
    from stale_edge.networks.clip_sources import read_clip
    from stale_edge_runtime.contract import CHANNELS
    from stale_edge_runtime.errors import UsageError

    if request.channels not in CHANNELS:
        raise UsageError("--channels", f"{request.channels!r} is not known", f"use {', '.join(CHANNELS)}")
    folder = request.folder or MODELS
    if folder.suffix or folder.is_file():
        raise UsageError(f"-o {folder}", "must be a folder: --clip writes two files", f"use -o {folder.parent}")
    report.note(f"reading {request.source}")
    source = read_clip(request.source, request.activation)
    for note in source.notes:
        report.warn(note)
    if source.untrained:
        report.warn(
            "exporting UNTRAINED towers with seeded weights. Their files are right for timing, useless for detection."
        )
    made = _export(source, request, folder, report)
    if as_json:
        report.result_json([_summary(path, item) for path, item in made.items()])
    else:
        _show(made, report)


def _export(source: ClipSource, request: ClipRequest, folder: Path, report: Reporter) -> dict[Path, ExportReport]:
    """Export the towers; give what was written."""
    from stale_edge.cli.export import PLAIN_SUFFIX
    from stale_edge.networks.clip_sources import CLIP_VOCABULARY
    from stale_edge_export.towers import export_image_tower, export_text_tower
    from stale_edge_runtime.formats.files import check_target, make_folder

    make_folder(folder)
    suffix = "" if request.fold else PLAIN_SUFFIX
    image, text = (folder / name.replace(".onnx", f"{suffix}.onnx") for name in (IMAGE_TOWER, TEXT_TOWER))
    for target in (image, text):
        check_target(target)
    made: dict[Path, ExportReport] = {}
    with report.progress("export", STEPS) as step:
        made[image] = export_image_tower(source, image, channels=request.channels, fold=request.fold, progress=step)
        if source.text_config is None:
            report.note(f"{request.source} has no text tower")
        elif source.text_config.vocabulary != CLIP_VOCABULARY:
            words = f"{source.text_config.vocabulary:,} tokens, not CLIP's {CLIP_VOCABULARY:,}"
            report.warn(f"{request.source} has a text tower of {words}: it is left out")
        elif exported := export_text_tower(source, text, fold=request.fold, progress=step):
            made[text] = exported
    return made


def _show(made: dict[Path, ExportReport], report: Reporter) -> None:
    from stale_edge.cli.export import parity_table

    for path, item in made.items():
        if not report.quiet:
            report.result(parity_table(item.parity))
        report.result(f"{path}: {item.info.feature_extractor}, {item.size_bytes / 1e6:.1f} MB, agrees with PyTorch")


def _summary(path: Path, made: ExportReport) -> dict[str, Any]:
    return {"output": str(path), "size_bytes": made.size_bytes, "metadata": made.info.to_metadata()}
