"""`stale-edge demo`: the main job from end to end, by the commands that a user would type."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.options import CHECKPOINT, MODELS, ONNX, Quiet
from stale_edge_runtime.errors import UsageError

SEED = 0
PUBLISHED = "published.pth.tar"
INT8 = ONNX.with_suffix(".int8.onnx")
FP16 = ONNX.with_suffix(".fp16.onnx")


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("demo"),
    seconds: Annotated[float, typer.Option(min=0.1, help="Measuring time for each contender at each length.")] = 3.0,
    quiet: Quiet = False,
) -> None:
    """Run the main job: checkpoint, convert, export, quantise, benchmark against PyTorch; minutes, no downloads.

    The checkpoint has the published format and size, filled from a seed: timings are right, detections mean nothing.
    Models go to models/, the table and the picture of the benchmark to the output folder.
    """
    from stale_edge.cli.extras import require_export, require_plot

    require_export("stale-edge demo")
    require_plot("stale-edge demo")
    from stale_edge.seeded import write_published_checkpoint

    report = Reporter(quiet=quiet)
    for folder in (MODELS, output):
        _make_folder(folder)
    published = output / PUBLISHED
    start = time.monotonic()
    report.note(f"1/6 a checkpoint in the published format and size, filled from seed {SEED}: {published}")
    write_published_checkpoint(published, SEED)
    bench = ["bench", ONNX, INT8, FP16, "--threads", 1, "--lengths", "100,200,1000", "--seconds", seconds]
    outputs = ["--json", output / "bench.json", "--csv", output / "bench.csv", "--plot", output / "bench.png"]
    commands: list[list[object]] = [
        ["convert", published, "-o", CHECKPOINT],
        ["export", CHECKPOINT, "-o", ONNX],
        ["quantize", ONNX, "--int8", "-o", INT8],
        ["quantize", ONNX, "--fp16", "-o", FP16],
        [*bench, "--compare", "torch", *outputs],
    ]
    for number, words in enumerate(commands, start=2):
        _run([str(word) for word in words], f"{number}/{len(commands) + 1}", report)
    published.unlink()
    report.note(f"done in {time.monotonic() - start:.0f} s; look at {output / 'bench.png'}")


def _run(words: list[str], place: str, report: Reporter) -> None:
    """Run one command as a user would; its failure ends the demo with its exit code."""
    from stale_edge.cli.app import run

    report.note(f"{place} stale-edge {shlex.join(words)}")
    code = run([*words, *(["--quiet"] if report.quiet else [])])
    if code:
        raise typer.Exit(code)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(folder, f"cannot be made ({error.strerror})", "choose another folder with -o") from error
