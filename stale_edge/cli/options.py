"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

GROUND_TRUTH = ("--ground-truth", "--annotations", "-g")
FEATURES = ("--features", "-f")
OUTPUT = ("--output", "-o")
PROVIDER = ("--provider", "--providers")
SNIPPET_SECONDS = "--snippet-seconds"
FPS = "--fps"
TEXT_TOWER = "--text-tower"
FORCE = "--force"
STRICT = "--strict"
"""Names of options whose help differs between commands; help shows all of them."""

Providers = Annotated[
    str | None,
    typer.Option(*PROVIDER, help="Devices to run on, as in cpu,cuda; everything this machine has by default."),
]
SnippetSeconds = Annotated[
    float | None,
    typer.Option(SNIPPET_SECONDS, min=1e-6, help="Seconds a snippet, where the annotations lack durations."),
]
Quick = Annotated[bool, typer.Option("--quick", help="A short look in minutes; its figures are not to cite.")]
NumberedClasses = Annotated[
    Path | None,
    typer.Option("--class-names", metavar="FILE", help="Names of classes that annotations number from 0, one a line."),
]
Strict = Annotated[
    bool,
    typer.Option(STRICT, help="Refuse a file that holds an entry nobody can use, instead of leaving it out."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")]
JsonToStdout = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
JsonToFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON; - is stdout.")
]
LatexFile = Annotated[
    Path | None, typer.Option("--latex", metavar="FILE.tex", help="Write the tables as LaTeX, for a paper.")
]
MarkdownFile = Annotated[
    Path | None, typer.Option("--markdown", metavar="FILE.md", help="Write the tables as Markdown, for a note.")
]
STDOUT = Path("-")

MODELS = Path("models")
RUNS = Path("runs")
CHECKPOINT = MODELS / "stale.safetensors"
ONNX = MODELS / "stale.onnx"
INT8 = MODELS / "stale.int8.onnx"
FP16 = MODELS / "stale.fp16.onnx"


def check_tables(*targets: Path | None) -> None:
    """Find out before any work that a table could not be written.

    Raises:
        CannotWriteError: A target cannot be written.
    """
    from stale_edge_runtime.formats.files import check_target

    for target in targets:
        if target is not None:
            check_target(target)


def ready_default(target: Path, *defaults: Path) -> Path:
    """Make the folder of a target that the user did not choose; a folder that was named must exist already.

    Args:
        target: Target of a result.
        defaults: Targets that commands choose by themselves.
    """
    if target in defaults:
        with contextlib.suppress(OSError):
            target.parent.mkdir(parents=True, exist_ok=True)
    return target
