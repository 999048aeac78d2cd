"""Processor time by stage, from a video file to detections."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

DECODE, COLOUR, RESIZE, TOWER, NETWORK, SEGMENTS = "decode", "colour", "resize", "tower", "network", "segments"
STAGES: Final = (DECODE, COLOUR, RESIZE, TOWER, NETWORK, SEGMENTS)
"""Reading and decoding, conversion to RGB, resizing and cropping, the image tower, the network, its decoding."""

T = TypeVar("T")


class StageClock:
    """Adds up the processor time of this thread.

    Attributes:
        seconds: Processor seconds of each stage so far.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block as part of a stage.

        Args:
            name: One of `STAGES`.
        """
        begin = time.thread_time()
        try:
            yield
        finally:
            self.seconds[name] += time.thread_time() - begin

    def each(self, name: str, items: Iterator[T]) -> Iterator[T]:
        """Pass items on, and count what it takes to get each as part of a stage.

        Args:
            name: One of `STAGES`.
            items: Items as they come.
        """
        while True:
            with self.stage(name):
                item = next(items, None)
            if item is None:
                return
            yield item
