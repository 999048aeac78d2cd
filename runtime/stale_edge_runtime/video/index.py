"""Index of a video, made by demuxing: exact times of all frames before any is decoded."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.video.colour import quarter_turns
from stale_edge_runtime.video.container import PLAIN_STREAMS, check_pixels, opened, other_streams
from stale_edge_runtime.video.crop import crop_share
from stale_edge_runtime.video.decoder import Decoder, packets

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stale_edge_runtime.video.options import VideoOptions

DEFAULT_RATE: Final = 25.0
"""Frames per second of a stream that states no rate, as FFmpeg takes it."""
MIN_CROP_SHARE: Final = 0.25
HDR_CURVES: Final = {16: "PQ", 18: "HLG"}
PROBED_PACKETS: Final = 2000
"""Packets in which the first frame is looked for."""


@dataclass(frozen=True)
class FrameTraits:
    """Properties of a frame that the container does not tell, or not reliably."""

    width: int
    """Pixels of the upright frame."""
    height: int
    rotation: int
    """Degrees counterclockwise that turn the stored frame upright: 0, 90, 180 or 270."""
    interlaced: bool
    curve: int
    """Transfer characteristic, numbered as in ITU-T H.273."""


@dataclass(frozen=True)
class VideoIndex:
    """Frames of a video and their times."""

    path: Path
    codec: str
    """FFmpeg's name of the codec."""
    width: int
    """Pixels of the first frame, upright."""
    height: int
    rotation: int
    """Degrees counterclockwise that turn stored frames upright: 0, 90, 180 or 270."""
    times_s: NDArray[np.float64]
    """[frames], when each frame appears, seconds from the first, ascending."""
    pts: NDArray[np.int64]
    """[frames], the same in ticks of the container; positions where there are no times."""
    key: NDArray[np.bool_]
    """[frames], whether the frame can be decoded alone."""
    start_s: float
    """Time of the first frame in the container."""
    last_frame_s: float
    """Seconds that the last frame is shown."""
    declared_s: float | None
    """Length that the file states, seconds; None if it states none."""
    has_times: bool
    """Whether the container has times; else frames are counted at a constant rate."""
    interlaced: bool
    """Whether frames are two fields."""
    damaged_packets: int
    """Packets that the container marks as damaged."""
    warnings: tuple[str, ...]
    """Reasons to doubt the result, one line each."""
    notes: tuple[str, ...]
    """Facts worth knowing, one line each."""

    @property
    def duration_s(self) -> float:
        """Length of what the file holds: the last frame's time and how long it is shown."""
        return float(self.times_s[-1]) + self.last_frame_s

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.times_s)


def index_video(path: Path, options: VideoOptions) -> VideoIndex:
    """Read the times of all frames of a file, and decode its first frame to see which way up it is.

    Raises:
        InputMissingError: There is no such file, or it may not be read.
        BadDataError: It is no video, no frame of it can be decoded, or it is cut and `options.strict` is set.
        UnavailableError: PyAV or Pillow is not installed.
    """
    traits: FrameTraits | None = None
    with opened(path, options) as (container, stream):
        found, decoder = _Packets(), Decoder(str(path), stream.codec_context)
        for packet in packets(container, stream):
            if traits is None and len(found) < PROBED_PACKETS:
                traits = _first_traits(path, decoder, packet, options)
            if packet.size:
                found.add(packet)
        if traits is None:
            raise BadDataError(
                path,
                f"no frame of at most {options.max_pixels:,} pixels can be decoded ({decoder.reason})",
                "get it again, convert it to H.264, or raise --max-megapixels",
            )
        return _index(path, container, stream, found, traits, options)


class _Packets:
    """Times and flags of packets in the order of the file, packed, as a video of ten hours has a million."""

    def __init__(self) -> None:
        self.pts = array("q")
        self.dts = array("q")
        self.has_pts = bytearray()
        self.has_dts = bytearray()
        self.key = bytearray()
        self.shown = bytearray()
        self.duration = array("q")
        self.corrupt = 0

    def add(self, packet: Any) -> None:
        self.pts.append(packet.pts or 0)
        self.has_pts.append(packet.pts is not None)
        self.dts.append(packet.dts or 0)
        self.has_dts.append(packet.dts is not None)
        self.key.append(packet.is_keyframe)
        self.shown.append(not packet.is_discard)
        self.duration.append(packet.duration or 0)
        self.corrupt += packet.is_corrupt

    def __len__(self) -> int:
        return len(self.pts)


def _index(
    path: Path, container: Any, stream: Any, found: _Packets, traits: FrameTraits, options: VideoOptions
) -> VideoIndex:
    has_times = container.format.name not in PLAIN_STREAMS and sum(found.has_pts) * 2 > len(found)
    warnings, notes = list(frame_warnings(traits)), []
    if others := other_streams(container, stream):
        notes.append(f"{others + 1} video streams: stream {stream.index} is read")
    if traits.rotation:
        notes.append(f"turned upright by {_turn(traits.rotation)}" if options.rotate else "left unrotated")
    if (shape := stream.sample_aspect_ratio) and shape != 1:
        notes.append(f"pixels of {shape.numerator}:{shape.denominator} are read as if they were square")
    backwards = 0
    if has_times:
        chosen, backwards = _displayed(found)
        pts = np.asarray(found.pts, dtype=np.int64)[chosen]
        tick = stream.time_base
        times_s = (pts - pts[0]).astype(np.float64) * tick.numerator / tick.denominator
        start_s = float(pts[0] * tick)
        key = np.frombuffer(found.key, dtype=np.uint8)[chosen] > 0
        last_frame_s = _last_frame_s(found.duration[int(chosen[-1])] * float(tick), times_s, stream)
    else:
        rate = options.fps or stated_rate(stream)
        pts = np.arange(len(found), dtype=np.int64)
        times_s, start_s, last_frame_s = pts / rate, 0.0, 1 / rate
        key = np.frombuffer(found.key, dtype=np.uint8) > 0
        origin = "as given" if options.fps else "its stated or usual rate; --frame-rate sets the true one"
        warnings.append(f"no times in the file: frames are counted at {rate:g} per second ({origin})")
    if backwards:
        text = f"times run backwards: {backwards} of {len(found)} frames are left out"
        if options.strict:
            raise BadDataError(path, text, "get it again, or read what is there without --strict")
        warnings.append(text)
    if start_s:
        notes.append(f"first frame at {start_s:.3f} s of the file: times count from it")
    index = VideoIndex(
        path=path,
        codec=stream.codec_context.codec.canonical_name,
        width=traits.width,
        height=traits.height,
        rotation=traits.rotation,
        times_s=times_s,
        pts=pts,
        key=key,
        start_s=start_s,
        last_frame_s=last_frame_s,
        declared_s=declared_s(container, stream),
        has_times=has_times,
        interlaced=traits.interlaced,
        damaged_packets=found.corrupt,
        warnings=(),
        notes=tuple(notes),
    )
    if has_times and (cut := cut_short(index.duration_s, start_s, container, stream)):
        if options.strict:
            raise BadDataError(path, cut, "get it again, or read what is there without --strict")
        warnings.append(cut)
    return replace(index, warnings=tuple(warnings))


def _displayed(packets: _Packets) -> tuple[NDArray[np.int64], int]:
    """Choose the packets that become frames on screen, in order of display, one for each time.

    Returns:
        Positions of the packets, and how many were left out because their times run backwards.
    """
    pts = np.asarray(packets.pts, dtype=np.int64)
    usable = (np.frombuffer(packets.has_pts, dtype=np.uint8) > 0) & (np.frombuffer(packets.shown, dtype=np.uint8) > 0)
    forward = np.ones(len(pts), dtype=bool)
    has_dts = np.frombuffer(packets.has_dts, dtype=np.uint8) > 0
    ordered = np.flatnonzero(has_dts)
    dts = np.asarray(packets.dts, dtype=np.int64)[ordered]
    if np.any(np.diff(dts) < 0):
        forward[ordered] = _longest_ascent(dts)
    keys = np.flatnonzero(np.frombuffer(packets.key, dtype=np.uint8))
    if len(keys):
        usable[: keys[0]] = False  # without a key frame before them they cannot be decoded
    if not np.any(usable & forward):
        usable = np.frombuffer(packets.has_pts, dtype=np.uint8) > 0
        forward[:] = True
    chosen = np.flatnonzero(usable & forward)
    _, first = np.unique(pts[chosen], return_index=True)
    return chosen[first], int(np.count_nonzero(usable & ~forward))


def _longest_ascent(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark a longest subsequence that never falls, so that single wild values do not hide all that follow."""
    tails: list[int] = []
    at: list[int] = []
    before = np.full(len(values), -1, dtype=np.int64)
    for position, value in enumerate(values.tolist()):
        place = bisect_right(tails, value)
        if place:
            before[position] = at[place - 1]
        if place == len(tails):
            tails.append(value)
            at.append(position)
        else:
            tails[place], at[place] = value, position
    marked = np.zeros(len(values), dtype=bool)
    position = at[-1]
    while position >= 0:
        marked[position] = True
        position = int(before[position])
    return marked


def _last_frame_s(stated_s: float, times_s: NDArray[np.float64], stream: Any) -> float:
    if stated_s > 0:
        return stated_s
    if len(times_s) > 1:
        return float(np.median(np.diff(times_s)))
    return 1 / stated_rate(stream)


def stated_rate(stream: Any) -> float:
    """Read the frame rate that a stream states, per second; a usual one where it states none."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and math.isfinite(rate) and 0 < rate <= 1000:
            return float(rate)
    return DEFAULT_RATE


def declared_s(container: Any, stream: Any) -> float | None:
    """Read the length that a file states for its video, seconds; None if it states none."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if (tag := stream.metadata.get("DURATION")) and (length := _clock_s(tag)):
        return length
    return float(Fraction(container.duration, 1_000_000)) if container.duration and container.duration > 0 else None


def _clock_s(text: str) -> float | None:
    """Read hours:minutes:seconds."""
    try:
        hours, minutes, seconds = text.split(":")
        length = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return None
    return length if math.isfinite(length) and length > 0 else None


def cut_short(duration_s: float, start_s: float, container: Any, stream: Any) -> str:
    """Describe how much of a source is missing; '' if nothing is."""
    stated_s = declared_s(container, stream)
    if stated_s is None or container.format.name in PLAIN_STREAMS:
        return ""
    own = bool(stream.duration) or "DURATION" in stream.metadata
    slack_s = 0.2 + 0.01 * stated_s if own or len(container.streams) == 1 else 2 + 0.05 * stated_s
    held_s = duration_s + (0 if stream.duration else max(0.0, start_s))
    return "" if held_s >= stated_s - slack_s else f"cut: the file states {stated_s:.1f} s and holds {duration_s:.1f} s"


def frame_warnings(traits: FrameTraits) -> list[str]:
    """List the reasons to doubt features of such frames, one line each."""
    found = []
    if curve := HDR_CURVES.get(traits.curve):
        found.append(f"HDR ({curve}) is shown without tone mapping: colours are washed out")
    if traits.interlaced:
        found.append("interlaced: moving edges are combed")
    share = crop_share(traits.width, traits.height)
    if share < MIN_CROP_SHARE:
        found.append(f"the centre crop sees {share:.0%} of a {traits.width}×{traits.height} frame")
    return found


def _turn(rotation: int) -> str:
    return {90: "90° counterclockwise", 180: "180°", 270: "90° clockwise"}[rotation]


def frame_traits(frame: Any, options: VideoOptions) -> FrameTraits:
    """Read the properties of a decoded frame."""
    rotation = 90 * quarter_turns(frame.rotation)
    turned = rotation in {90, 270} and options.rotate
    width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
    return FrameTraits(width, height, rotation, frame.interlaced_frame, int(frame.color_trc))


def _first_traits(path: Path, decoder: Decoder, packet: Any, options: VideoOptions) -> FrameTraits | None:
    """Decode a packet for its first frame; None if it gives none."""
    for frame in decoder.frames(packet):
        check_pixels(str(path), frame.width, frame.height, options.max_pixels)
        return frame_traits(frame, options)
    return None
