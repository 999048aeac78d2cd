"""Films that nobody filmed, so that a demo has videos without downloading one: moving shapes, and stand-ins."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import numpy as np

from stale_edge.palette import CLASS_COLOURS, SOFT, class_colour
from stale_edge_runtime.formats.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stale_edge_runtime.formats.annotations import Instance

WIDTH, HEIGHT, RATE = 640, 360, 25
SCENE_S: Final = 3
"""Seconds from one cut to the next."""
SHAPES: Final = 6
STAND_IN_WIDTH, STAND_IN_HEIGHT, STAND_IN_RATE, LINE_WIDTH = 320, 180, 5, 4
KEYFRAME_S: Final = 10
"""Seconds from which a player can begin at the latest."""


def write_film(target: Path, seconds: int) -> None:
    """Render a film and write it as H.264 in MP4, whole or not at all.

    Raises:
        CannotWriteError: The target cannot be written.
        StorageError: The disk is full or failed.
    """
    _write(target, itertools.islice(pictures(0), seconds * RATE), (WIDTH, HEIGHT), RATE)


def write_stand_in(target: Path, seconds: float, instances: Sequence[Instance]) -> None:
    """Write a video to play in the place of one that nobody filmed, whole or not at all.

    Its picture has the colour of a class while an action of it lasts, and is grey otherwise; a white line wanders from
    the left to the right.

    Args:
        target: File to write.
        seconds: Length.
        instances: True actions; of several at once the last one is shown.

    Raises:
        CannotWriteError: The target cannot be written.
        StorageError: The disk is full or failed.
    """
    _write(target, _stand_in_pictures(seconds, instances), (STAND_IN_WIDTH, STAND_IN_HEIGHT), STAND_IN_RATE)


def _stand_in_pictures(seconds: float, instances: Sequence[Instance]) -> Iterator[NDArray[np.uint8]]:
    count = max(1, round(seconds * STAND_IN_RATE))
    for number in range(count):
        at_s = number / STAND_IN_RATE
        shown = [one.label for one in instances if one.start_s <= at_s < one.end_s]
        colour = CLASS_COLOURS[class_colour(shown[-1])] if shown else SOFT
        picture = np.empty((STAND_IN_HEIGHT, STAND_IN_WIDTH, 3), np.uint8)
        picture[:] = list(bytes.fromhex(colour[1:]))
        column = number * (STAND_IN_WIDTH - LINE_WIDTH) // count
        picture[:, column : column + LINE_WIDTH] = 255
        yield picture


def _write(target: Path, shown: Iterable[NDArray[np.uint8]], size: tuple[int, int], rate: int) -> None:
    import av

    with atomic_path(target) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "veryfast", "g": str(KEYFRAME_S * rate)})
        (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
        for picture in shown:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def pictures(seed: int) -> Iterator[NDArray[np.uint8]]:
    """Draw pictures uint8 [HEIGHT, WIDTH, 3] without end: scenes of shapes that wander over a gradient."""
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
