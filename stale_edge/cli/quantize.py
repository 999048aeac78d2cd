"""`stale-edge quantize`: an fp32 ONNX file becomes an int8 or fp16 one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.options import ONNX, JsonToStdout, Quiet
from stale_edge_runtime.contract import Precision
from stale_edge_runtime.errors import InputMissingError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from stale_edge_export.quantization.quantize import QuantizationReport

STEPS = 3


def quantize(
    model: Annotated[
        Path, typer.Argument(metavar="[MODEL.onnx]", help="fp32 file to quantise.", show_default=True)
    ] = ONNX,
    int8: Annotated[bool, typer.Option("--int8", help="8-bit weight products, for CPUs.")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Half-precision products, for GPUs.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where it goes; MODEL.int8.onnx or MODEL.fp16.onnx by default."),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            help="Processors the int8 file is for: vnni, arm64, avx2 (x86 without VNNI, 7-bit weights), portable "
            "(right on all of them); auto takes what this machine has."
        ),
    ] = "auto",
    exclude: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Products whose names match stay in fp32 (int8 only).")
    ] = None,
    features: Annotated[
        list[Path] | None,
        typer.Option(help="Feature file to measure the change on, several times if wanted; CLIP-like ones otherwise."),
    ] = None,
    json: JsonToStdout = False,
    quiet: Quiet = False,
) -> None:
    """Quantise an exported file with onnxruntime's tools, and say what it does to the outputs."""
    from stale_edge.cli.extras import require_export

    if int8 == fp16:
        raise UsageError("--int8, --fp16", "exactly one is needed", "choose one")
    if fp16 and (exclude or target != "auto"):
        raise UsageError("--exclude, --target", "go with --int8 only", "leave them out")
    require_export("stale-edge quantize")
    precision = Precision.INT8 if int8 else Precision.FP16
    if not model.exists():
        raise InputMissingError(model, "no such file", "make one with `stale-edge export`")
    from stale_edge_export.quantization.quantize import quantize_file
    from stale_edge_runtime.features import read_features
    from stale_edge_runtime.model_file import read_model

    report = Reporter(quiet=quiet)
    given = [read_features(path, read_model(model).info.feature_dim) for path in features or []]
    result_path = output or model.with_suffix(f".{precision}.onnx")
    with report.progress(f"quantize to {precision}", STEPS) as step:
        made = quantize_file(
            model, result_path, precision, cpu=_target(target), exclude=exclude, features=given, progress=step
        )
    if json:
        report.result_json(
            {
                "output": str(result_path),
                "size_bytes": made.size_bytes,
                "original_bytes": made.original_bytes,
                "recipe": dict(made.info.recipe),
            }
        )
        return
    if not quiet:
        report.result(_harm_table(made, on_given=bool(given)))
    report.result(
        f"{result_path}: {made.size_bytes / 1e6:.1f} MB, {made.size_bytes / made.original_bytes:.2f} of fp32; "
        f"{100 * made.low_precision_share:.0f} % of the multiply-accumulates at 200 snippets in {precision}"
    )


def _target(name: str) -> str:
    from stale_edge_export.quantization.int8 import TARGETS, this_machine

    if name == "auto":
        return this_machine()
    if name not in TARGETS:
        raise UsageError("--target", f"{name!r} is not known", f"use auto, {', '.join(TARGETS)}")
    return name


def _harm_table(made: QuantizationReport, *, on_given: bool) -> Table:
    from rich.table import Table

    table = Table(title=f"Change against fp32, on {'the given' if on_given else 'CLIP-like'} features")
    for column in ("output", "relative error", "largest change", "changed decisions"):
        table.add_column(column, justify="left" if column == "output" else "right")
    for name, harm in made.harm.items():
        changed = "" if harm.changed_decisions is None else f"{100 * harm.changed_decisions:.2f} %"
        table.add_row(name, f"{harm.relative_error:.2e}", f"{harm.largest_change:.3g}", changed)
    table.caption_justify = "left"
    table.caption = (
        "Relative error: root mean square over the spread of fp32. Changed decisions: snippets (videos) whose top "
        "class changed; for masks, values that crossed 1/2."
    )
    return table
