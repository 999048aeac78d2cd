"""Reading of one video as crops for an image tower."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.video.container import is_pipe, subject
from stale_edge_runtime.video.cutting import CropSameness, FrameCutter
from stale_edge_runtime.video.decode import DecodingRecord, decoded_frames, one_pass_frames
from stale_edge_runtime.video.index import index_video
from stale_edge_runtime.video.sampling import sample_times
from stale_edge_runtime.video.stages import DECODE, StageClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    import numpy as np
    from numpy.typing import NDArray

    from stale_edge_runtime.video.cutting import FrameCrop
    from stale_edge_runtime.video.decode import DecodedFrame
    from stale_edge_runtime.video.index import VideoIndex
    from stale_edge_runtime.video.options import VideoOptions


@dataclass(frozen=True)
class VideoReport:
    """Outcome of reading a video to its end."""

    samples: int
    """Samples served."""
    damaged_samples: tuple[int, ...]
    """Samples whose frame is damaged or missing."""
    frames: int | None
    """Frames of the file; None for a pipe."""
    decoded_frames: int
    """Frames that came out of the decoder."""
    damaged_frames: int
    """Damaged ones among all frames that were looked at."""
    duration_s: float
    """Length that was found, seconds."""
    declared_s: float | None
    """Length that the file states, seconds; None if it states none."""
    start_s: float
    """Time of the first frame in the container."""
    warnings: tuple[str, ...]
    """Reasons to doubt the result, one line each."""
    notes: tuple[str, ...]
    """Facts worth knowing, one line each; the price of approximate modes is among them."""


class VideoReader:
    """Reads one video.

    Args:
        source: A file, a pipe, `-` for standard input, or a binary stream. Files are indexed at once; what can be
            read only once is not.
        options: Settings of reading.
        stages: Clock of the processor time that decoding, colours and resizing take.

    Raises:
        InputMissingError: There is no such file, or it may not be read.
        BadDataError: It is no video, or it is cut and `options.strict` is set.
        UnavailableError: PyAV or Pillow is not installed.
    """

    def __init__(self, source: Path | str | BinaryIO, options: VideoOptions, stages: StageClock | None = None) -> None:
        self._stages = stages or StageClock()
        self._source: Path | BinaryIO = _source(source)
        self._options = options
        self._report: VideoReport | None = None
        self.index: VideoIndex | None = None
        """Frames and times; None for what can be read only once."""
        if isinstance(self._source, Path) and not is_pipe(self._source):
            with self._stages.stage(DECODE):
                self.index = index_video(self._source, options)

    @property
    def samples_s(self) -> NDArray[np.float64] | None:
        """Sample times, float64 [samples]; None where the length is not known."""
        if self.index is None:
            return None
        return sample_times(self.index.duration_s, self._options.step_s, subject=self.index.path)

    @property
    def samples(self) -> int | None:
        """Number of samples; None where the length is not known."""
        samples_s = self.samples_s
        return None if samples_s is None else len(samples_s)

    @property
    def report(self) -> VideoReport:
        """Outcome; there is one after `crops` has ended."""
        if self._report is None:
            raise RuntimeError("the report is complete when all crops were taken")
        return self._report

    def crops(self, size: int, samples_s: NDArray[np.float64] | None = None) -> Iterator[FrameCrop]:
        """Read the video; one frame is held at a time.

        Args:
            size: Pixels of the sides of a crop.
            samples_s: Other sample times than every `step_s`, ascending, seconds from the first frame; for files only.

        Yields:
            Each frame that serves a sample once, in order of time; together they serve every sample.

        Raises:
            BadDataError: No frame can be decoded, or a frame is damaged and `options.strict` is set.
        """
        record = DecodingRecord()
        damaged: list[int] = []
        served = 0
        cutter, sameness = FrameCutter(self._options, self._stages), CropSameness(self._options)
        for one in self._stages.each(DECODE, self._frames(samples_s, record)):
            if one.damaged:
                damaged.extend(one.samples)
            served += len(one.samples)
            yield sameness.crop(one.samples, one.time_s, cutter.pixels(one.frame, size), damaged=one.damaged)
        self._report = self._summary(record, served, tuple(damaged))

    def _frames(self, samples_s: NDArray[np.float64] | None, record: DecodingRecord) -> Iterator[DecodedFrame]:
        chosen_s = self.samples_s if samples_s is None else samples_s
        if self.index is not None and chosen_s is not None:
            return decoded_frames(self.index, chosen_s, self._options, record)
        if samples_s is not None:
            raise ValueError("sample times can be chosen for files only")
        return one_pass_frames(self._source, self._options, record)

    def _summary(self, record: DecodingRecord, served: int, damaged: tuple[int, ...]) -> VideoReport:
        index = self.index
        frames = index.frames if index else None
        if record.cut and self._options.strict:
            raise BadDataError(subject(self._source), record.cut, "get it again, or read it without --strict")
        count = max(record.damaged_frames, index.damaged_packets if index else 0)  # a packet may be marked by both
        warnings = [*(index.warnings if index else ()), *record.warnings, *([record.cut] if record.cut else [])]
        if count or damaged:
            text = f"{max(count, 1)} of {frames or record.frames} frames damaged, {len(damaged)} of {served} samples"
            if self._options.strict:
                raise BadDataError(subject(self._source), text, "get it again, or read it without --strict")
            warnings.append(text)
        return VideoReport(
            samples=served,
            damaged_samples=damaged,
            frames=frames,
            decoded_frames=record.frames,
            damaged_frames=count,
            duration_s=index.duration_s if index else record.duration_s or 0.0,
            declared_s=index.declared_s if index else record.declared_s,
            start_s=index.start_s if index else record.start_s,
            warnings=tuple(warnings),
            notes=(*(index.notes if index else ()), *record.notes, *self._options.notes),
        )


def _source(source: Path | str | BinaryIO) -> Path | BinaryIO:
    if isinstance(source, str | Path):
        return sys.stdin.buffer if str(source) == "-" else Path(source)
    return source
