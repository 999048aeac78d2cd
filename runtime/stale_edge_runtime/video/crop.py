"""The square in the middle of a frame, at a tower's size, as CLIP's own preprocessing cuts it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image


FILTER_RADIUS: Final = 2
"""Reach of the bicubic filter, in pixels of the smaller of the two images."""
CELLS: Final = 16
"""Cells a side of the comparison of still frames."""
LUMA: Final = (0.299, 0.587, 0.114)


def crop_box(width: int, height: int, size: int) -> tuple[float, float, float, float]:
    """Find the part of a frame that survives resizing the shorter side to `size` and cropping the centre.

    Rounding is torchvision's: the longer side is cut to an integer, the margin is rounded half to even.

    Returns:
        Left, upper, right, lower in pixels of the frame.
    """
    short, long = min(width, height), max(width, height)
    resized = size * long // short
    first = round((resized - size) / 2)
    start, end = first * long / resized, (first + size) * long / resized
    return (start, 0, end, height) if width >= height else (0, start, width, end)


def crop(image: Image, size: int) -> NDArray[np.uint8]:
    """Resize and crop a frame: bicubic with antialiasing, computing only the pixels that survive.

    Args:
        image: RGB, upright.
        size: Pixels of the sides.

    Returns:
        uint8 [size, size, 3].
    """
    from PIL.Image import Resampling

    left, top, right, bottom = crop_box(image.width, image.height, size)
    if image.height > image.width:
        # Pillow 13 swaps its two passes by the height of the image, not of the box; rows beyond the filter's reach go.
        reach = math.ceil(FILTER_RADIUS * max(1, image.width / size)) + 1
        first, last = max(0, math.floor(top) - reach), min(image.height, math.ceil(bottom) + reach)
        image = image.crop((0, first, image.width, last))
        top, bottom = top - first, bottom - first
    return np.asarray(image.resize((size, size), Resampling.BICUBIC, box=(left, top, right, bottom)))


def crop_share(width: int, height: int) -> float:
    """Compute the part of a frame's area that the crop sees, 0 to 1."""
    return min(width, height) / max(width, height)


class StillCheck:
    """Comparison of crops with the last one that differed, by 16 × 16 cells of luma.

    Args:
        limit: Largest difference of a cell, of 255, between crops that are taken for the same.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._cells: NDArray[np.float32] | None = None

    def same(self, pixels: NDArray[np.uint8]) -> bool:
        """Tell whether a crop `[size, size, 3]` is nearly the last one that differed; if not, it takes its place."""
        cells = _luma_cells(pixels)
        if self._cells is not None and float(np.abs(cells - self._cells).max()) <= self._limit:
            return True
        self._cells = cells
        return False


def _luma_cells(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    luma = pixels @ np.array(LUMA, dtype=np.float32)
    edges = np.linspace(0, len(luma), CELLS + 1).astype(np.int64)[:-1]
    sums = np.add.reduceat(np.add.reduceat(luma, edges, axis=0), edges, axis=1)
    sides = np.diff(np.append(edges, len(luma)))
    cells: NDArray[np.float32] = (sums / np.outer(sides, sides)).astype(np.float32)
    return cells
