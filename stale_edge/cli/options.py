"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")]
JsonToStdout = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
JsonToFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")]

MODELS = Path("models")
CHECKPOINT = MODELS / "stale.safetensors"
ONNX = MODELS / "stale.onnx"
