"""Frames of the decoder as upright RGB images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image


def quarter_turns(rotation: float) -> int:
    """Round a rotation to quarter turns counterclockwise, 0 to 3.

    Args:
        rotation: Degrees counterclockwise, as PyAV gives them.
    """
    return round(rotation / 90) % 4


class Converter:
    """Converts frames to RGB on one thread, with the colour matrix and range that each frame states.

    Args:
        rotate: Whether frames are turned upright.
    """

    def __init__(self, *, rotate: bool) -> None:
        from av.video.reformatter import VideoReformatter

        self._rotate = rotate
        self._reformatter = VideoReformatter()

    def image(self, frame: Any) -> Image:
        """Convert a frame.

        Returns:
            RGB, upright if so wanted.
        """
        return self._upright(frame, self._rgb(self._reformatter.reformat(frame, format="rgb24", threads=1)))

    def reduced(self, frame: Any, shorter: int) -> Image:
        """Shrink a frame by area averaging while its colours are converted.

        Args:
            frame: PyAV's frame.
            shorter: Pixels of the shorter side.

        Returns:
            RGB, upright if so wanted; the longer side in proportion, cut to an integer.
        """
        from av.video.reformatter import Interpolation

        scale = min(frame.width, frame.height)
        width, height = (shorter * side // scale for side in (frame.width, frame.height))
        small = self._reformatter.reformat(frame, width, height, "rgb24", interpolation=Interpolation.AREA, threads=1)
        return self._upright(frame, self._rgb(small))

    def _rgb(self, frame: Any) -> Image:
        from PIL import Image

        plane = frame.planes[0]
        return Image.frombytes("RGB", (frame.width, frame.height), memoryview(plane), "raw", "RGB", plane.line_size, 1)

    def _upright(self, frame: Any, image: Image) -> Image:
        from PIL.Image import Transpose

        turns = quarter_turns(frame.rotation) if self._rotate else 0
        if not turns:
            return image
        return image.transpose((Transpose.ROTATE_90, Transpose.ROTATE_180, Transpose.ROTATE_270)[turns - 1])
