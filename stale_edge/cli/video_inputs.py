"""Options of commands that take in features of videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.options import FPS, GROUND_TRUTH, PROVIDER

AnnotationsFile = Annotated[
    Path | None,
    typer.Option(
        *GROUND_TRUTH,
        metavar="FILE",
        help="ActivityNet or THUMOS JSON: durations of the videos, and the ground truth.",
    ),
]
Fps = Annotated[float | None, typer.Option(FPS, help="Frames per second of the videos; with --stride.")]
Stride = Annotated[int | None, typer.Option("--stride", help="Frames from one snippet to the next; with --fps.")]
Threads = Annotated[int, typer.Option("--threads", help="Processor threads.")]
Provider = Annotated[str, typer.Option(*PROVIDER, help="Device: cpu or cuda. Never another one silently.")]
Window = Annotated[
    int | None, typer.Option("--window", metavar="SNIPPETS", help="Run long videos in windows of this length.")
]
Hop = Annotated[
    int | None,
    typer.Option(
        "--hop", metavar="SNIPPETS", help="Snippets from one window's start to the next.", show_default="half a window"
    ),
]
AnyFeatures = Annotated[
    bool,
    typer.Option(
        "--any-features",
        help="Take features that were made another way (image tower, colours, step) than those that the model learned.",
    ),
]
TextEmbeddings = Annotated[
    Path | None,
    typer.Option(metavar="FILE.npy", help="Text to look for with an open-vocabulary model: classes x width."),
]
ClassNames = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Class names, one a line: of the rows of --text-embeddings, or for the text tower."
    ),
]
Top = Annotated[int | None, typer.Option("--top", min=1, help="Keep the best N detections of a video.")]
MinScore = Annotated[float, typer.Option("--min-score", help="Leave out detections that score less.")]
