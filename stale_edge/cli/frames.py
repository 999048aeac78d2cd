"""Options of commands that make features of videos."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stale_edge_runtime.video.options import MAX_PIXELS, VideoOptions, approximate_modes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stale_edge_runtime.video.features import FeatureSettings

DEFAULT_STEP_S = VideoOptions.step_s
PUBLISHED_STEP_S = 0.1
MAX_MEGAPIXELS = MAX_PIXELS / 1e6


class Channels(StrEnum):
    """Orders of the colours of frames."""

    RGB = "rgb"
    BGR = "bgr"


ImageTowerFile = Annotated[
    Path | None,
    typer.Option(
        "--image-tower",
        metavar="FILE.onnx",
        help="CLIP image tower from `export --clip`; by default clip-image*.onnx beside the model or in models/.",
    ),
]
Step = Annotated[
    float | None,
    typer.Option("--step", min=1e-3, metavar="SECONDS", help="Seconds of video from one row of features to the next."),
]
FrameRate = Annotated[
    float | None,
    typer.Option("--frame-rate", min=1e-3, help="Frames per second of videos that hold no times, as raw .h264."),
]
ColourOrder = Annotated[
    Channels | None,
    typer.Option("--channels", help="Order of colours that the tower gets: bgr as some published features were made."),
]
Approximate = Annotated[
    list[str] | None,
    typer.Option(
        "--approximate",
        metavar="MODE",
        help="Faster and not exact, repeatable: keyframes, loopfilter, area, still=N; what each costs is said.",
    ),
]
Rotate = Annotated[bool, typer.Option("--rotate/--no-rotate", help="Turn frames upright as the file says.")]
MaxMegapixels = Annotated[
    float, typer.Option("--max-megapixels", min=0.01, help="Refuse videos whose frames are larger.")
]


def feature_settings(
    step_s: float | None,
    *,
    frame_rate: float | None = None,
    approximate: Sequence[str] | None = None,
    rotate: bool = True,
    max_megapixels: float = MAX_MEGAPIXELS,
    strict: bool = False,
    positions: int = 0,
    channels: Channels | None = None,
) -> FeatureSettings:
    """Gather the options that features of videos depend on.

    Raises:
        UsageError: A mode has no meaning.
    """
    from stale_edge_runtime.video.features import FeatureSettings

    options = VideoOptions(
        step_s=step_s or DEFAULT_STEP_S,
        fps=frame_rate,
        rotate=rotate,
        max_pixels=round(max_megapixels * 1e6),
        strict=strict,
        approximate=approximate_modes(approximate or ()),
    )
    return FeatureSettings(options, positions, "" if channels is None else str(channels))
