"""Options of reading a video, and the price of the approximate ones."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stale_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PIXELS: Final = 36_000_000
"""Default limit of a frame's size; a frame of 8192×4320 pixels fits."""
MIN_STEP_S: Final = 0.001
MAX_STILL: Final = 255

PRICES: Final = {
    "keyframes": "only key frames are decoded: samples show moments up to several seconds away (10 s with a key frame "
    "each 250 frames), good for an overview only",
    "loopfilter": "the loop filter is left out: features are off by about 0.1 of what distinguishes frames, more than "
    "8-bit weights cost",
    "area": "frames are shrunk by area averaging without RGB in between: features are off by 0.13 to 0.27 of what "
    "distinguishes frames",
    "still": "crops that nearly equal the last one that was kept share its features: small motion is not seen",
}
"""Cost of each approximate mode, as told to the user; docs/video.md has the figures."""
_STILL: Final = re.compile(r"still=(\d{1,3})")


@dataclass(frozen=True)
class VideoOptions:
    """Settings of reading one video."""

    step_s: float = 0.5
    """Seconds between samples."""
    fps: float | None = None
    """Frames per second of a raw stream without times; None for the rate that the stream states."""
    rotate: bool = True
    """Whether frames are turned upright, as players do."""
    max_pixels: int = MAX_PIXELS
    """Largest frame that is decoded, width × height."""
    threads: int = 1
    """Threads of the decoder."""
    strict: bool = False
    """Whether a cut or damaged video is refused instead of read with a warning."""
    approximate: frozenset[str] = frozenset()
    """Modes that trade exactness for time: `keyframes`, `loopfilter`, `area`, `still=N`."""

    def __post_init__(self) -> None:
        """Check all values.

        Raises:
            UsageError: A value is out of range, or a mode is unknown.
        """
        if not (math.isfinite(self.step_s) and self.step_s >= MIN_STEP_S):
            raise UsageError("step", f"{self.step_s:g} s is not a step between samples", f"at least {MIN_STEP_S:g} s")
        if self.fps is not None and not (math.isfinite(self.fps) and 0 < self.fps <= 1000):
            raise UsageError("fps", f"{self.fps:g} is not a frame rate", "more than 0, at most 1000")
        if self.max_pixels < 1:
            raise UsageError("max-pixels", f"{self.max_pixels} leaves no frame", f"the default is {MAX_PIXELS:,}")
        if self.threads < 1:
            raise UsageError("threads", f"{self.threads} is not a number of threads", "at least 1")
        for mode in self.approximate:
            _check_mode(mode)
        if len([mode for mode in self.approximate if mode.startswith("still")]) > 1:
            raise UsageError("approximate", "`still` is given more than once", "give it once")

    @property
    def still(self) -> int | None:
        """Largest difference of a luma cell between crops that share features; None for equal crops only."""
        found = [int(match[1]) for mode in self.approximate if (match := _STILL.fullmatch(mode))]
        return found[0] if found else None

    @property
    def notes(self) -> tuple[str, ...]:
        """Price of each approximate mode that is on, one line each."""
        return tuple(f"approximate {mode}: {PRICES[mode.partition('=')[0]]}" for mode in sorted(self.approximate))


def approximate_modes(texts: Iterable[str]) -> frozenset[str]:
    """Read the modes that a user typed, separated by commas or given several times.

    Raises:
        UsageError: A mode is unknown.
    """
    modes = frozenset(mode.strip() for text in texts for mode in text.split(",") if mode.strip())
    for mode in modes:
        _check_mode(mode)
    return modes


def _check_mode(mode: str) -> None:
    match = _STILL.fullmatch(mode)
    if match and 1 <= int(match[1]) <= MAX_STILL:
        return
    if mode in PRICES and mode != "still":
        return
    raise UsageError("approximate", f"{mode!r} is no mode", "keyframes, loopfilter, area or still=N with N from 1")
