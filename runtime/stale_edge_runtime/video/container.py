"""Opening of videos by FFmpeg: what may be opened, the stream that is read, and errors that say what a file lacks.

FFmpeg's own log lines stay off, as PyAV leaves them.
"""

from __future__ import annotations

import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from stale_edge_runtime.errors import BadDataError, InputMissingError, missing_extra, reading
from stale_edge_runtime.formats.file_kinds import Wanted, misplaced, read_head

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stale_edge_runtime.video.options import VideoOptions

FORMATS: Final = (
    "mov,mp4,m4a,3gp,3g2,mj2;matroska,webm;avi;mpegts;mpeg;mpegvideo;h264;hevc;vvc;av1;obu;ivf;m4v;flv;live_flv;asf;ogg;"
    "nut;mxf;dv;rm;wtv;vc1;mjpeg;yuv4mpegpipe;gif;apng;png_pipe;jpeg_pipe;webp_pipe;bmp_pipe;tiff_pipe;image2;"
    "mp3;wav;flac;aac;aiff;amr;ac3"
).replace(";", ",")
"""Formats that are opened; none of them names other files or addresses, as playlists do."""
PLAIN_STREAMS: Final = frozenset({"h264", "hevc", "vvc", "mpegvideo", "m4v", "vc1", "mjpeg", "obu", "av1"})
"""Formats without times."""
CONNECT_S: Final = 15.0
"""Longest wait for a live source to open."""
SILENCE_S: Final = 30.0
"""Longest wait for the next packet of a live source."""
_AGAIN: Final = "get it again"
_BOX_HEAD: Final = 16
_MAX_BOXES: Final = 10_000
_MP4_BEGINNINGS: Final = frozenset({b"ftyp", b"mdat", b"free", b"wide", b"skip"})


def is_pipe(path: Path) -> bool:
    """Tell whether a path is a pipe or a character device, which can be read only once."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


@contextmanager
def opened(source: Path | BinaryIO, options: VideoOptions) -> Iterator[tuple[Any, Any]]:
    """Open a video and close it at the end.

    Yields:
        PyAV's container and its video stream, whose decoder is set as the options say and not yet started.

    Raises:
        InputMissingError: There is no such file, or it may not be read.
        BadDataError: It is not a video that this build of FFmpeg decodes.
        UnavailableError: PyAV or Pillow is not installed.
    """
    name = subject(source)
    av = _packages(name)
    if isinstance(source, Path):
        _check_readable(source)
    try:
        container = av.open(
            # The prefix keeps names such as `pipe:0` or `concat:a|b` from being read as addresses.
            f"file:{source.absolute()}" if isinstance(source, Path) else source,
            container_options={
                "format_whitelist": FORMATS,
                "protocol_whitelist": "file,pipe",
                "pattern_type": "none",  # no series of images by a pattern in the name
            },
            options={"max_pixels": str(options.max_pixels)},
            metadata_errors="replace",
        )
    except (av.error.FFmpegError, ValueError, MemoryError) as error:
        raise _opening_error(source, error) from error
    with _read(name, container, options) as stream:
        yield container, stream


@contextmanager
def live(address: str, options: VideoOptions) -> Iterator[tuple[Any, Any]]:
    """Open a camera or a network stream and close it at the end.

    Args:
        address: Address as FFmpeg takes it, or a camera's device as `/dev/video0`.
        options: Settings of reading.

    Yields:
        PyAV's container and its video stream, as `opened` does.

    Raises:
        InputMissingError: It cannot be reached.
        BadDataError: It has no video that this build decodes.
        UnavailableError: PyAV or Pillow is not installed.
    """
    av = _packages(address)
    try:
        container = av.open(
            address,
            format="v4l2" if address.startswith("/dev/") else None,
            options={"max_pixels": str(options.max_pixels), "rtsp_transport": "tcp"},
            metadata_errors="replace",
            timeout=(CONNECT_S, SILENCE_S),
        )
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputMissingError(address, f"cannot be opened ({reason})", "check the address and the network") from error
    with _read(address, container, options) as stream:
        yield container, stream


@contextmanager
def _read(name: str, container: Any, options: VideoOptions) -> Iterator[Any]:
    import av

    try:
        stream = video_stream(name, container)
        check_pixels(name, stream.codec_context.width, stream.codec_context.height, options.max_pixels)
        _prepare(stream.codec_context, options)
        yield stream
    except av.error.FFmpegError as error:
        raise BadDataError(name, f"cannot be read on ({error.strerror or error})", "check the source") from error
    finally:
        container.close()


def subject(source: Path | BinaryIO) -> str:
    """Name a source in messages."""
    return str(source) if isinstance(source, Path) else "stdin"


def video_stream(name: str, container: Any) -> Any:
    """Choose the stream to read: the default one of those that are no cover art.

    Raises:
        BadDataError: There is none, or this build has no decoder for it.
    """
    found = _moving(container)
    if not found:
        kinds = sorted({stream.type for stream in container.streams})
        held = "only a cover picture" if container.streams.video else f"only {', '.join(kinds)}" if kinds else "nothing"
        raise BadDataError(name, f"has no video stream, {held}", "name a file that has pictures")
    stream = next((one for one in found if one.disposition & 1), found[0])
    if stream.codec_context is None:
        raise BadDataError(
            name, f"no decoder for the codec of stream {stream.index} in this build of FFmpeg", "convert it to H.264"
        )
    return stream


def other_streams(container: Any, stream: Any) -> int:
    """Count the video streams beside the one that is read."""
    return len([one for one in _moving(container) if one.index != stream.index])


def _moving(container: Any) -> list[Any]:
    from av.stream import Disposition

    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    return [stream for stream in container.streams.video if not stream.disposition & pictures]


def check_pixels(name: str, width: int, height: int, limit: int) -> None:
    """Refuse frames beyond the limit, before memory is taken for one.

    Raises:
        BadDataError: The frame has more pixels.
    """
    if width * height > limit:
        raise BadDataError(
            name, f"frames of {width}×{height} are more than {limit:,} pixels", "raise --max-megapixels if you trust it"
        )


def _prepare(codec: Any, options: VideoOptions) -> None:
    codec.options = {"max_pixels": str(options.max_pixels)} | (
        {"skip_loop_filter": "all"} if "loopfilter" in options.approximate else {}
    )
    codec.thread_count = options.threads
    codec.thread_type = "NONE" if options.threads == 1 else "AUTO"


def _packages(name: str) -> Any:
    try:
        import av
        import PIL.Image  # noqa: F401  frames become Pillow images
    except ImportError as error:
        raise missing_extra(_package(error), "video", f"reading {name}") from None
    return av


def _package(error: ImportError) -> str:
    return "Pillow" if (error.name or "").startswith("PIL") else "PyAV"


def _check_readable(path: Path) -> None:
    if is_pipe(path):
        return
    try:
        with reading(path), path.open("rb") as file:
            size = file.seek(0, 2)
    except ValueError as error:  # a name that no file system takes
        raise BadDataError(path, f"is not a name of a file ({error})") from error
    if not size:
        raise BadDataError(path, "is empty (0 bytes)", _AGAIN)


def _opening_error(source: Path | BinaryIO, error: Exception) -> BadDataError:
    name = subject(source)
    if isinstance(error, MemoryError):
        return BadDataError(name, "needs more memory than there is before its first frame", "do not use it")
    if not isinstance(source, Path):
        return BadDataError(
            name,
            "is not a video, or one that can only be read from a file, as an .mp4 whose index is at its end",
            "save it first, or make it with -movflags +faststart or as .mkv",
        )
    head = read_head(source) if not is_pipe(source) else b""
    if head[4:8] in _MP4_BEGINNINGS and not _has_index(source):
        return BadDataError(source, "is unfinished: index missing (no moov box)", "get it again or finish recording")
    return misplaced(source, head, Wanted.VIDEO) or BadDataError(
        source, f"is not a video that FFmpeg reads ({_reason(error)})", _AGAIN
    )


def _reason(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return "no known video format" if "Invalid" in reason else reason


def _has_index(path: Path) -> bool:
    """Look for the index among the outermost boxes of an MP4 file."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        at = 0
        for _ in range(_MAX_BOXES):
            file.seek(at)
            head = file.read(_BOX_HEAD)
            if len(head) < 8:
                return False
            if head[4:8] == b"moov":
                return True
            length = int.from_bytes(head[:4])
            length = int.from_bytes(head[8:16]) if length == 1 else length or size
            if length < 8:
                return False
            at += length
    return False
