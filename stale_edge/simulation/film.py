"""A short film that nobody filmed: moving shapes, so that a demo has a video without downloading one."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import numpy as np

from stale_edge_runtime.formats.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

WIDTH, HEIGHT, RATE = 640, 360, 25
SCENE_S: Final = 3
"""Seconds from one cut to the next."""
SHAPES: Final = 6


def write_film(target: Path, seconds: int, seed: int = 0) -> None:
    """Render a film and write it as H.264 in MP4, whole or not at all.

    Args:
        target: File to write.
        seconds: Length.
        seed: Seed of its scenes.

    Raises:
        CannotWriteError: The target cannot be written.
        StorageError: The disk is full or failed.
    """
    import av

    with atomic_path(target) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in itertools.islice(pictures(seed), seconds * RATE):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def pictures(seed: int) -> Iterator[NDArray[np.uint8]]:
    """Draw pictures uint8 [HEIGHT, WIDTH, 3] without end: scenes of shapes that wander over a gradient.

    Args:
        seed: Seed of the scenes.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    while True:
        sky, ground = rng.uniform(20, 235, (2, 3))
        share = (rows / HEIGHT)[..., None]
        background = sky * (1 - share) + ground * share  # [H, W, 3]
        background += rng.normal(0, 6, (HEIGHT, WIDTH, 1))
        colours = rng.uniform(0, 255, (SHAPES, 3))
        places, speeds = rng.uniform(0.1, 0.9, (SHAPES, 2)), rng.normal(0, 0.25, (SHAPES, 2))
        sizes = rng.uniform(0.05, 0.2, SHAPES) * HEIGHT
        for number in range(SCENE_S * RATE):
            picture = background.copy()
            at = np.abs((places + speeds * number / RATE) % 2 - 1) * (HEIGHT, WIDTH)  # back at the borders
            for (row, column), size, colour in zip(at, sizes, colours, strict=True):
                inside = (rows - row) ** 2 + (columns - column) ** 2 < size**2
                picture[inside] = colour
            yield np.clip(picture, 0, 255).astype(np.uint8)
