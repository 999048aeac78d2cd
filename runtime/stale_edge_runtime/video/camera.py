"""Live sources: cameras, network streams and pipes, sampled while they run.

A thread captures and decodes; a bounded queue hands over. Where the reader is slower than a camera, the newest frame
wins: older ones are dropped from the queue, the next crop serves their samples too, and the report lists the gap. Times
are those of capture, as the source states them; the clock's where it states none.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from stale_edge_runtime.errors import BadDataError, StaleEdgeError
from stale_edge_runtime.video.container import is_pipe, live, opened
from stale_edge_runtime.video.cutting import CropSameness, FrameCrop, FrameCutter
from stale_edge_runtime.video.decode import DecodingRecord, timed_frames
from stale_edge_runtime.video.decoder import Decoder
from stale_edge_runtime.video.reader import VideoReport
from stale_edge_runtime.video.sampling_live import LiveSampler
from stale_edge_runtime.video.stages import StageClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray

    from stale_edge_runtime.video.options import VideoOptions

QUEUE_CROPS: Final = 2
"""Crops that wait for the reader at most."""
STILL_S: Final = 1.0
"""Shortest time without frames that is reported, seconds; never less than two steps."""
_ADDRESS: Final = re.compile(r"(rtsps?|rtmps?|srt|udp|rtp|tcp|https?)://", re.IGNORECASE)
_DEVICE: Final = re.compile(r"/dev/video\d+")
_POLL_S: Final = 0.1
_JOIN_S: Final = 5.0


class CapturedFrame(Protocol):
    """A frame as a source gives it."""

    @property
    def time_s(self) -> float | None:
        """Time of capture, seconds from the first frame; None if the source does not tell."""

    @property
    def damaged(self) -> bool:
        """Whether errors in it were concealed."""

    def pixels(self, size: int) -> NDArray[np.uint8]:
        """Cut the crop `[size, size, 3]`, RGB."""


@dataclass(frozen=True)
class StreamGap:
    """A stretch of a live source that was not seen frame by frame."""

    start_s: float
    """Seconds from the first frame."""
    end_s: float
    reason: str
    """`source` where no frames came, `reader` where they came faster than they were used."""


def is_live(text: str) -> bool:
    """Tell whether a name stands for a live source: an address, a camera, `-` or a pipe."""
    return text == "-" or bool(_ADDRESS.match(text) or _DEVICE.fullmatch(text)) or is_pipe(Path(text))


class LiveSource:
    """Samples a live source every `options.step_s`.

    Args:
        source: Address (`rtsp://…`), camera (`/dev/video0`), pipe, `-` for standard input, or a file, which is played
            at its own pace.
        options: Settings of reading.
        clock: Seconds, never backwards.
        drop: Whether frames are dropped when the reader is slow; None for yes with cameras and addresses, no with pipes
            and files, where the writer can wait.
        frames: Other source of frames, for tests and for cameras that FFmpeg does not know.
        sleep: Waits a number of seconds.
    """

    def __init__(
        self,
        source: str,
        options: VideoOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        drop: bool | None = None,
        frames: Callable[[], Iterator[CapturedFrame]] | None = None,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._name = "stdin" if source == "-" else source
        self._options = options
        self._clock = clock
        self._record = DecodingRecord()
        self._stopping = threading.Event()
        self._sleep: Callable[[float], object] = self._stopping.wait if sleep is None else sleep
        remote = bool(_ADDRESS.match(source) or _DEVICE.fullmatch(source))
        self._drop = remote if drop is None else drop
        self._frames: Callable[[], Iterator[CapturedFrame]] = frames or (lambda: self._decoded(source, remote=remote))
        self._queue: deque[FrameCrop] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._gaps: list[StreamGap] = []
        self._served = 0
        self._damaged: list[int] = []
        self._end_s = 0.0

    @property
    def gaps(self) -> tuple[StreamGap, ...]:
        """Gaps so far, in order of their discovery."""
        with self._changed:
            return tuple(self._gaps)

    @property
    def report(self) -> VideoReport:
        """Outcome so far."""
        gaps = self.gaps
        lost_s = sum(gap.end_s - gap.start_s for gap in gaps)
        warnings = list(self._record.warnings)
        if gaps:
            warnings.append(f"{len(gaps)} gaps, {lost_s:.1f} s together, first at {gaps[0].start_s:.1f} s")
        if self._damaged:
            warnings.append(f"{len(self._damaged)} of {self._served} samples damaged")
        return VideoReport(
            samples=self._served,
            damaged_samples=tuple(self._damaged),
            frames=None,
            decoded_frames=self._record.frames,
            damaged_frames=self._record.damaged_frames,
            duration_s=self._end_s,
            declared_s=None,
            start_s=self._record.start_s,
            warnings=tuple(warnings),
            notes=(*self._record.notes, *self._options.notes),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop capturing; what waits in the queue is dropped, and `crops` ends."""
        self._stopping.set()
        with self._changed:
            self._queue.clear()
            self._ended = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)  # a read that hangs ends by its own timeout; the thread dies with the process

    def crops(self, size: int) -> Iterator[FrameCrop]:
        """Start capturing and yield crops as time goes, until the source ends or `stop` is called.

        Args:
            size: Pixels of the sides of a crop.

        Yields:
            Crops in order of time; together they serve every sample, those of gaps included.

        Raises:
            InputMissingError: The source cannot be opened.
            BadDataError: It is no video.
            UnavailableError: PyAV or Pillow is not installed.
        """
        if self._thread is not None:
            raise RuntimeError("a live source is read once")
        self._thread = threading.Thread(target=self._capture, args=(size,), name="capture", daemon=True)
        self._thread.start()
        try:
            while (found := self._take()) is not None:
                self._served += len(found.samples)
                if found.damaged:
                    self._damaged.extend(found.samples)
                yield found
        finally:
            self.stop()
        if self._failure is not None:
            raise self._failure

    def _take(self) -> FrameCrop | None:
        with self._changed:
            while not self._queue and not self._ended:
                self._changed.wait(_POLL_S)
            if not self._queue:
                return None
            found = self._queue.popleft()
            self._changed.notify_all()
            return found

    def _put(self, new: FrameCrop) -> None:
        with self._changed:
            while len(self._queue) >= QUEUE_CROPS and not self._stopping.is_set():
                if self._drop:
                    old = self._queue.popleft()
                    follower = self._queue.popleft() if self._queue else new
                    merged = replace(follower, samples=old.samples + follower.samples)
                    if follower is new:
                        new = merged
                    else:
                        self._queue.appendleft(merged)
                    self._note_gap(StreamGap(old.time_s, follower.time_s, "reader"))
                else:
                    self._changed.wait(_POLL_S)
            if not self._stopping.is_set():
                self._queue.append(new)
                self._changed.notify_all()

    def _note_gap(self, gap: StreamGap) -> None:
        """Add a gap, joined to the last one where they touch. The caller holds the lock."""
        if self._gaps and self._gaps[-1].reason == gap.reason and self._gaps[-1].end_s >= gap.start_s:
            gap = StreamGap(self._gaps.pop().start_s, gap.end_s, gap.reason)
        self._gaps.append(gap)

    def _capture(self, size: int) -> None:
        try:
            sameness = CropSameness(self._options)
            for samples, time_s, frame in self._sampled():
                self._put(sameness.crop(samples, time_s, frame.pixels(size), damaged=frame.damaged))
                if self._stopping.is_set():
                    break
        except StaleEdgeError as error:
            self._failure = error
        except Exception as error:  # noqa: BLE001  raised again by the thread that reads
            self._failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _sampled(self) -> Iterator[tuple[tuple[int, ...], float, CapturedFrame]]:
        sampler: LiveSampler[CapturedFrame] = LiveSampler(self._options.step_s)
        started: float | None = None
        last_s: float | None = None
        silence_s = max(STILL_S, 2 * self._options.step_s)
        for frame in self._frames():
            if self._stopping.is_set():
                return
            now = self._clock()
            started = now if started is None else started
            time_s = now - started if frame.time_s is None else frame.time_s
            if last_s is not None:
                if time_s <= last_s:
                    continue
                if time_s - last_s > silence_s:
                    with self._changed:
                        self._note_gap(StreamGap(last_s, time_s, "source"))
            last_s = self._end_s = time_s
            yield from sampler.push(time_s, frame)
        self._end_s = sampler.end_s(self._options.step_s)
        yield from sampler.finish(self._end_s)

    def _decoded(self, source: str, *, remote: bool) -> Iterator[CapturedFrame]:
        """Decode a source by FFmpeg; a file at its own pace."""
        pipe = source == "-" or is_pipe(Path(source))
        cutter: FrameCutter | None = None
        started = 0.0
        with (
            live(source, options=self._options)
            if remote
            else opened(sys.stdin.buffer if source == "-" else Path(source), self._options)
        ) as (container, stream):
            decoder = Decoder(self._name, stream.codec_context)
            try:
                for time_s, frame in timed_frames(container, stream, decoder, self._options, self._record):
                    if cutter is None:
                        cutter, started = FrameCutter(self._options, StageClock()), self._clock()
                    early_s = time_s - (self._clock() - started)
                    if early_s > 0 and not (remote or pipe):
                        self._sleep(early_s)
                    yield _VideoFrame(time_s, frame, cutter)
            finally:
                self._record.frames, self._record.damaged_frames = decoder.frames_out, decoder.damaged_frames
            if not decoder.frames_out:
                raise BadDataError(self._name, f"no frame can be decoded ({decoder.reason})", "check the source")


@dataclass(frozen=True)
class _VideoFrame:
    """A frame of PyAV."""

    time_s: float
    frame: Any
    cutter: FrameCutter

    @property
    def damaged(self) -> bool:
        return bool(self.frame.is_corrupt)

    def pixels(self, size: int) -> NDArray[np.uint8]:
        return self.cutter.pixels(self.frame, size)
