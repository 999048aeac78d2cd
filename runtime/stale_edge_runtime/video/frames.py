"""A few frames of many videos, to judge an image tower by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.video.options import VideoOptions
from stale_edge_runtime.video.reader import VideoReader

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MAX_FRAMES: Final = 48
"""Frames of all files together: enough to judge by, and seconds to run."""
MAX_OF_ONE: Final = 16
"""Frames of one file."""


def varied_frames(paths: Sequence[Path], size: int) -> NDArray[np.uint8]:
    """Read frames of videos and images, spread over each, as an image tower takes them.

    Args:
        paths: Files; of more than `MAX_FRAMES` the first ones are read.
        size: Edge of a crop, in pixels.

    Returns:
        uint8 [frames, size, size, 3].

    Raises:
        StaleEdgeError: A file cannot be read.
        BadDataError: All of them together give one frame: nothing tells it apart.
    """
    each = max(1, min(MAX_OF_ONE, MAX_FRAMES // len(paths)))
    found: list[NDArray[np.uint8]] = []
    for path in paths[:MAX_FRAMES]:
        reader = VideoReader(path, VideoOptions())
        duration_s = 0.0 if reader.index is None else reader.index.duration_s
        places = (np.arange(each) + 0.5) * duration_s / each
        samples_s = None if reader.index is None else places
        found.extend(crop.pixels for crop in reader.crops(size, samples_s))
    if len(found) < 2:
        raise BadDataError(paths[0], f"gives {len(found)} frames", "name more videos or images")
    return np.stack(found[:MAX_FRAMES])
