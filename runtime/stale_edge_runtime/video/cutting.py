"""Crops of decoded frames, with hashes that tell which of them share features."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stale_edge_runtime.video.colour import Converter
from stale_edge_runtime.video.crop import StillCheck, crop
from stale_edge_runtime.video.stages import COLOUR, RESIZE, StageClock

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stale_edge_runtime.video.options import VideoOptions


def digest(pixels: NDArray[np.uint8]) -> bytes:
    """Hash the pixels of a crop."""
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()


@dataclass(frozen=True)
class FrameCrop:
    """Pixels for an image tower, and the samples that they serve."""

    samples: tuple[int, ...]
    """Positions of the sample times that it serves, ascending."""
    time_s: float
    """Time of the frame, seconds from the first."""
    pixels: NDArray[np.uint8]
    """[size, size, 3], RGB."""
    damaged: bool
    """Whether the decoder concealed errors in it, or another frame stands for one that is missing."""
    digest: bytes
    """Hash of `pixels`: crops with equal digests have equal features, so that one run of the tower serves both."""


class FrameCutter:
    """Cuts crops of decoded frames.

    Args:
        options: Settings of reading.
        stages: Clock of the processor time that colours and resizing take.
    """

    def __init__(self, options: VideoOptions, stages: StageClock) -> None:
        self._stages = stages
        self._area = "area" in options.approximate
        self._converter = Converter(rotate=options.rotate)

    def pixels(self, frame: Any, size: int) -> NDArray[np.uint8]:
        """Cut the crop of a frame of PyAV.

        Returns:
            uint8 [size, size, 3], RGB.
        """
        with self._stages.stage(COLOUR):
            image = self._converter.reduced(frame, size) if self._area else self._converter.image(frame)
        with self._stages.stage(RESIZE):
            return crop(image, size)


class CropSameness:
    """Makes crops of pixels; with `still=N`, nearly equal ones become the same.

    Args:
        options: Settings of reading.
    """

    def __init__(self, options: VideoOptions) -> None:
        self._still = None if options.still is None else StillCheck(options.still)
        self._kept: tuple[NDArray[np.uint8], bytes] | None = None

    def crop(self, samples: tuple[int, ...], time_s: float, pixels: NDArray[np.uint8], *, damaged: bool) -> FrameCrop:
        """Make the crop of the pixels `[size, size, 3]`, or of those before them that they nearly equal."""
        is_same = self._still is not None and self._still.same(pixels)
        if self._kept is None or not is_same:
            self._kept = pixels, digest(pixels)
        return FrameCrop(samples, time_s, self._kept[0], damaged, self._kept[1])
