"""Decoding of the frames on screen at the sample times, and of no more than they need.

Frames that nothing refers to are skipped unless they are wanted; decoding stops after the last wanted frame. The frames
that come out equal those of decoding everything. One frame is held at a time.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.video.container import opened, subject
from stale_edge_runtime.video.decoder import Decoder, packets
from stale_edge_runtime.video.index import cut_short, declared_s, frame_traits, frame_warnings, stated_rate
from stale_edge_runtime.video.sampling import frames_on_screen
from stale_edge_runtime.video.sampling_live import LiveSampler

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

    from stale_edge_runtime.video.index import FrameTraits, VideoIndex
    from stale_edge_runtime.video.options import VideoOptions


@dataclass(frozen=True)
class DecodedFrame:
    """A frame that is on screen at one or more sample times."""

    samples: tuple[int, ...]
    """Positions of the sample times that it serves, ascending."""
    time_s: float
    """Time of the frame, seconds from the first."""
    frame: Any
    """PyAV's frame."""
    damaged: bool
    """Whether the decoder concealed errors in it, or another frame stands for one that is missing."""


@dataclass
class DecodingRecord:
    """Record of one pass of decoding, complete when the pass is."""

    frames: int = 0
    """Frames that came out of the decoder."""
    damaged_frames: int = 0
    """Frames with concealed errors, and packets that gave no frame."""
    duration_s: float | None = None
    """Length that was found by a pass without index."""
    start_s: float = 0.0
    """Time of the first frame in the container, found by a pass without index."""
    last_frame_s: float = 0.0
    """Seconds that the newest frame is shown, as the file states; 0 if it does not."""
    declared_s: float | None = None
    """Length that the source stated at its beginning."""
    cut: str = ""
    """Message that the source ended early, found by a pass without index; '' if it did not."""
    warnings: list[str] = field(default_factory=list)
    """Reasons to doubt the result that came up, each once."""
    notes: list[str] = field(default_factory=list)
    """Facts that came up, each once."""
    _size: tuple[int, int] | None = None

    def look_at(self, traits: FrameTraits, known: Sequence[str] = ()) -> None:
        """Note a frame of another size than the one before, and warn of what makes its features doubtful."""
        if self._size not in {None, (traits.width, traits.height)}:
            self.note("frames change their size: each is resized by itself")
        self._size = traits.width, traits.height
        for warning in frame_warnings(traits):
            if warning not in known:
                self.warn(warning)

    def warn(self, text: str) -> None:
        """Add a warning unless it is there."""
        if text not in self.warnings:
            self.warnings.append(text)

    def note(self, text: str) -> None:
        """Add a note unless it is there."""
        if text not in self.notes:
            self.notes.append(text)


@dataclass(frozen=True)
class _Wanted:
    """Frames that serve samples, in order of time."""

    positions: NDArray[np.int64]
    """[wanted], positions in the index."""
    firsts: NDArray[np.int64]
    """[wanted + 1], first sample of each; the last entry is the number of samples."""

    def samples(self, number: int) -> tuple[int, ...]:
        return tuple(range(int(self.firsts[number]), int(self.firsts[number + 1])))


def _wanted(index: VideoIndex, samples_s: NDArray[np.float64], *, keys_only: bool) -> _Wanted:
    usable = np.flatnonzero(index.key) if keys_only and np.any(index.key) else np.arange(index.frames)
    on_screen = usable[frames_on_screen(index.times_s[usable], np.asarray(samples_s, dtype=np.float64))]
    positions, firsts = np.unique(on_screen, return_index=True)
    return _Wanted(positions, np.append(firsts, len(on_screen)))


def decoded_frames(
    index: VideoIndex, samples_s: NDArray[np.float64], options: VideoOptions, record: DecodingRecord | None = None
) -> Iterator[DecodedFrame]:
    """Decode the frame on screen at each sample time.

    Args:
        index: The video's index.
        samples_s: [samples], seconds from the first frame, ascending.
        options: Settings of reading.
        record: Filled while frames come.

    Yields:
        Each frame that serves a sample once, in order of time; together they serve every sample.

    Raises:
        InputMissingError: The file is gone.
        BadDataError: No wanted frame can be decoded.
    """
    record = DecodingRecord() if record is None else record
    keys_only = "keyframes" in options.approximate
    wanted = _wanted(index, samples_s, keys_only=keys_only)
    with opened(index.path, options) as (container, stream):
        decoder = Decoder(str(index.path), stream.codec_context)
        frames = _frames(container, stream, decoder, index, wanted, keys_only=keys_only)
        watched = _watched(frames, index, options, record)
        try:
            yield from _matched(watched, index, wanted)
        finally:
            record.frames, record.damaged_frames = decoder.frames_out, decoder.damaged_frames


def _frames(
    container: Any, stream: Any, decoder: Decoder, index: VideoIndex, wanted: _Wanted, *, keys_only: bool
) -> Iterator[tuple[int, Any]]:
    """Decode as little as the wanted frames need; yield every frame that comes out with its position in the index."""
    codec = stream.codec_context
    pts = _packed(index.pts)
    ticks = _packed(index.pts[wanted.positions])
    skipping = index.has_times and not index.interlaced  # the second field of a frame may be a packet of its own
    count = -1
    for packet in packets(container, stream):
        if packet.size:
            is_wanted = packet.pts is None or not skipping or _find(ticks, packet.pts) >= 0
            if keys_only and not (packet.is_keyframe and is_wanted):
                continue
            codec.skip_frame = "DEFAULT" if is_wanted else "NONREF"
        for frame in decoder.frames(packet):
            count += 1
            if not index.has_times:
                yield min(count, index.frames - 1), frame
            elif frame.pts is not None and (position := _find(pts, frame.pts)) >= 0:
                yield position, frame


def _packed(ticks: NDArray[np.int64]) -> array[int]:
    """Copy numbers to where a single one is read fast."""
    return array("q", ticks.astype(np.int64).tobytes())


def _find(ascending: array[int], value: int) -> int:
    """Find a value's position; -1 where it is not."""
    position = bisect_left(ascending, value)
    return position if position < len(ascending) and ascending[position] == value else -1


def _watched(
    frames: Iterator[tuple[int, Any]], index: VideoIndex, options: VideoOptions, record: DecodingRecord
) -> Iterator[tuple[int, Any]]:
    """Look out for frames that are unlike the first one."""
    for position, frame in frames:
        record.look_at(frame_traits(frame, options), index.warnings)
        yield position, frame


def _matched(frames: Iterator[tuple[int, Any]], index: VideoIndex, wanted: _Wanted) -> Iterator[DecodedFrame]:
    """Give each wanted frame its samples; where one is missing, the frame before it stands for it."""
    number = 0
    held: tuple[int, Any] | None = None

    def served(position: int, frame: Any, *, missing: bool) -> DecodedFrame:
        time_s = float(index.times_s[position])
        return DecodedFrame(wanted.samples(number), time_s, frame, damaged=missing or bool(frame.is_corrupt))

    for position, frame in frames:
        if held is not None and position < held[0]:
            continue
        while number < len(wanted.positions) and wanted.positions[number] < position:
            at, shown = held or (position, frame)
            yield served(at, shown, missing=not index.interlaced)
            number += 1
        if number < len(wanted.positions) and wanted.positions[number] == position:
            yield served(position, frame, missing=False)
            number += 1
        if number == len(wanted.positions):
            return
        held = position, frame
    if held is None:
        raise BadDataError(index.path, "no frame can be decoded", "get it again, or convert it to H.264")
    while number < len(wanted.positions):
        yield served(*held, missing=not index.interlaced)
        number += 1


def one_pass_frames(
    source: Path | BinaryIO, options: VideoOptions, record: DecodingRecord | None = None
) -> Iterator[DecodedFrame]:
    """Decode the frames on screen at every `options.step_s` of a source that can be read only once.

    Args:
        source: A pipe, or a binary stream.
        options: Settings of reading.
        record: Filled while frames come; it has the length at the end.

    Yields:
        Each frame that serves a sample once, in order of time.

    Raises:
        BadDataError: It is no video that can be read in one pass, or no frame of it can be decoded.
    """
    record = DecodingRecord() if record is None else record
    sampler: LiveSampler[Any] = LiveSampler(options.step_s)
    with opened(source, options) as (container, stream):
        decoder = Decoder(subject(source), stream.codec_context)
        try:
            for time_s, frame in timed_frames(container, stream, decoder, options, record):
                for samples, at_s, shown in sampler.push(time_s, frame):
                    yield DecodedFrame(samples, at_s, shown, bool(shown.is_corrupt))
            record.duration_s = sampler.end_s(1 / stated_rate(stream), record.last_frame_s)
            record.declared_s = declared_s(container, stream)
            record.cut = cut_short(record.duration_s, record.start_s, container, stream)
            for samples, at_s, shown in sampler.finish(record.duration_s):
                yield DecodedFrame(samples, at_s, shown, bool(shown.is_corrupt))
        finally:
            record.frames, record.damaged_frames = decoder.frames_out, decoder.damaged_frames
        if not decoder.frames_out:
            raise BadDataError(subject(source), f"no frame can be decoded ({decoder.reason})", "send another format")


def timed_frames(
    container: Any, stream: Any, decoder: Decoder, options: VideoOptions, record: DecodingRecord
) -> Iterator[tuple[float, Any]]:
    """Decode a stream from front to end; yield frames with their times, seconds from the first, ascending."""
    keys_only = "keyframes" in options.approximate
    rate = options.fps or stated_rate(stream)
    tick = stream.time_base
    first: int | None = None
    last_s = -1.0
    counted, counted_from_s = 0, 0.0
    for packet in packets(container, stream):
        if keys_only and packet.size and not packet.is_keyframe:
            continue
        for frame in decoder.frames(packet):
            if frame.pts is None:
                time_s = counted_from_s + counted / rate
                record.warn(f"frames without times are counted at {rate:g} per second")
            else:
                if first is None:
                    first = frame.pts
                    record.start_s = float(first * tick)
                time_s = (frame.pts - first) * tick.numerator / tick.denominator
            counted += 1
            if frame.pts is not None:
                counted_from_s, counted = time_s, 1
            if time_s <= last_s:
                record.warn("times run backwards: such frames are left out")
                continue
            last_s = time_s
            record.last_frame_s = float((frame.duration or 0) * tick) if frame.pts is not None else 0.0
            record.look_at(frame_traits(frame, options))
            yield time_s, frame
