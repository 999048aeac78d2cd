"""Small frames of videos, read by FFmpeg through PyAV where that is installed, in a process of their own."""

from __future__ import annotations

import base64
import functools
import io
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from stale_edge.pages.player.content import Sprite
from stale_edge_runtime.errors import BadDataError, StaleEdgeError
from stale_edge_runtime.jobs import Result, run_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from stale_edge_runtime.jobs import Task

HEIGHT: Final = 54
"""Height of a small frame in pixels."""
MAX_WIDTH: Final = 160
"""Largest width of a small frame in pixels."""
REACH: Final = 60
"""Most frames that are decoded for one small frame."""
QUALITY: Final = 60
"""JPEG quality."""


def has_frame_reader() -> bool:
    """Whether frames can be read: the extra `video` is installed."""
    return all(find_spec(package) is not None for package in ("av", "PIL"))


def look_into_all(paths: Sequence[Path], frames: int) -> Iterator[tuple[float, Sprite] | StaleEdgeError]:
    """Look into videos in another process, which a damaged one may end: its successor goes on with the next video.

    Yields:
        Length in seconds and frames of each video, or the reason that there are none.
    """
    for event in run_jobs(functools.partial(_make_task, frames), paths, 1):
        if not isinstance(event, Result):
            continue
        if isinstance(event.value, StaleEdgeError):
            yield event.value
            continue
        told = dict(event.value)
        yield told.pop("length_s"), Sprite(base64.b64decode(told.pop("jpeg")), **told)


def _make_task(frames: int) -> Task:
    def task(item: Path, progress: Callable[[int, int | None], None]) -> Mapping[str, Any]:
        del progress
        length_s, sprite = look_into(item, frames)
        size = {"frames": sprite.frames, "width": sprite.width, "height": sprite.height}
        return {"length_s": length_s, "jpeg": base64.b64encode(sprite.jpeg).decode(), **size}

    return task


def look_into(path: Path, frames: int) -> tuple[float, Sprite]:
    """Read the length of a video, and small frames at equal steps.

    Where key frames are far apart a frame may be earlier than its time, so that long videos take no longer.

    Returns:
        Length in seconds, and the frames.

    Raises:
        BadDataError: The file holds no video that FFmpeg reads, or tells no length.
    """
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BadDataError(path, "holds no video")
            stream = container.streams.video[0]
            length_s = _length_s(container, stream)
            if length_s <= 0:
                raise BadDataError(path, "tells no length")
            images = list(_images(container, stream, [length_s * (place + 0.5) / frames for place in range(frames)]))
    except (FFmpegError, OSError, ValueError) as error:
        if isinstance(error, BadDataError):
            raise
        raise BadDataError(path, f"is no video that FFmpeg reads ({error})") from error
    if not images:
        raise BadDataError(path, "holds no frame that can be read")
    return length_s, _sprite(images)


def _length_s(container: Any, stream: Any) -> float:
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    return 0.0 if container.duration is None else container.duration / 1e6


def _images(container: Any, stream: Any, times_s: list[float]) -> Iterator[Any]:
    """Decode on where the next time is near, else from the key frame before it, and not far."""
    start_s = float((stream.start_time or 0) * stream.time_base)
    reach_s = REACH / float(stream.average_rate or 25)
    decoder, frame = container.decode(stream), None
    for time_s in times_s:
        if (0.0 if frame is None or frame.time is None else frame.time - start_s) + reach_s < time_s:
            container.seek(int((start_s + time_s) / stream.time_base), stream=stream)
            decoder = container.decode(stream)
        for _ in range(REACH):
            frame = next(decoder, None) or frame
            if frame is None or frame.time is None or frame.time - start_s >= time_s:
                break
        if frame is not None:
            yield _small(frame)


def _small(frame: Any) -> Any:
    """Make a frame small and upright."""
    wide = max(16, round(frame.width * HEIGHT / frame.height))
    image = frame.to_image(width=2 * wide, height=2 * HEIGHT)
    if frame.rotation:
        image = image.rotate(frame.rotation, expand=True)
    width = min(MAX_WIDTH, max(16, round(image.width * HEIGHT / image.height)))
    return image.resize((width, HEIGHT))


def _sprite(images: list[Any]) -> Sprite:
    from PIL import Image

    width, height = images[0].size
    strip = Image.new("RGB", (width * len(images), height))
    for place, image in enumerate(images):
        strip.paste(image.resize((width, height)), (place * width, 0))
    content = io.BytesIO()
    strip.save(content, "JPEG", quality=QUALITY, optimize=True)
    return Sprite(content.getvalue(), len(images), width, height)
