"""Sampling of frames whose number and times are known only as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from stale_edge_runtime.video.sampling import sample_count

if TYPE_CHECKING:
    from collections.abc import Iterator

Frame = TypeVar("Frame")


class LiveSampler(Generic[Frame]):
    """Finds the frame on screen at each `i * step_s`, holding the newest frame only.

    Whatever comes in, the result is that of `sampling.frames_on_screen` on all times.

    Args:
        step_s: Seconds between samples.
    """

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._next = 0
        self._held: tuple[float, Frame] | None = None
        self._gap_s = 0.0

    def push(self, time_s: float, frame: Frame) -> Iterator[tuple[tuple[int, ...], float, Frame]]:
        """Take in a frame; yield the one before it with the samples that it served, if there are any.

        Args:
            time_s: Time of the frame, later than that of the one before.
            frame: Anything.

        Yields:
            Samples, the frame's time, the frame.
        """
        if self._held is not None:
            held_s, held = self._held
            self._gap_s = time_s - held_s
            if samples := self._until(time_s):
                yield samples, held_s, held
        self._held = time_s, frame

    def end_s(self, default_s: float, stated_s: float = 0.0) -> float:
        """Compute when the last frame ends: as stated, else it is shown as long as the one before it.

        Args:
            default_s: Seconds that it is shown if it is the only one.
            stated_s: Seconds that it is shown as the source states; 0 if it does not.
        """
        return (self._held[0] if self._held else 0.0) + (stated_s or self._gap_s or default_s)

    def finish(self, end_s: float) -> Iterator[tuple[tuple[int, ...], float, Frame]]:
        """Serve the samples before the end; the first sample in any case."""
        if self._held is not None and (samples := self._until(end_s)):
            yield samples, *self._held

    def _until(self, before_s: float) -> tuple[int, ...]:
        """Take the next samples, up to a frame that is shown from `before_s` on."""
        end = max(self._next, sample_count(before_s, self._step_s, subject="stream"))
        samples = tuple(range(self._next, end))
        self._next = end
        return samples
