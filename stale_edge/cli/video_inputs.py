"""Options of commands that take in features of videos."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stale_edge.cli.options import FPS, GROUND_TRUTH, PROVIDER
from stale_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from stale_edge_runtime.contract import ModelInfo

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
AUTO = "auto"


def _score(text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise UsageError("--min-score", f"{text[:40]!r} is no score", "give a number, or auto")
    return score


def _checked_score(text: str) -> str:
    """Refuse what is no score before any work is done."""
    if text != AUTO:
        _score(text)
    return text


MinScore = Annotated[
    str,
    typer.Option(
        "--min-score",
        metavar="SCORE|auto",
        callback=_checked_score,
        help="Leave out detections that score less; auto: less than the file suggests, by the best F1 in its training.",
    ),
]


def min_score_of(text: str, info: ModelInfo) -> float:
    """Read the score that `--min-score` names.

    Args:
        text: A number, or `auto` for the one that the file suggests.
        info: Metadata of the file.

    Raises:
        UsageError: It is neither, or the file suggests none.
    """
    if text != AUTO:
        return _score(text)
    if info.suggested_min_score is None:
        raise UsageError("--min-score auto", "needs a file that suggests a score, and this one does not", "name one")
    return info.suggested_min_score
