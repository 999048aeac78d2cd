"""Small videos for tests, ordinary and odd, written by PyAV: 64×48 pixels, a second or two."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np

SIZE = (64, 48)
QUIET = {"libx265": {"x265-params": "log-level=none"}, "libsvtav1": {"preset": "12"}, "libvpx-vp9": {"cpu-used": "8"}}


def picture(number, size=SIZE):
    """A frame, uint8 [height, width, 3], unlike all others: a shade, a slope and a square that moves."""
    width, height = size
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    shade = np.stack([(x * 3 + number * 7) % 256, (y * 4 + number * 5) % 256, (x + y + number * 3) % 256], axis=-1)
    left, top = number * 5 % max(1, width - 8), number * 3 % max(1, height - 8)
    shade[top : top + 8, left : left + 8] = (number * 40 + 90) % 256
    return shade.astype(np.uint8)


def encoded(stream, pts, *, tick, size=SIZE, first=0, still=False):
    """Packets of pictures at the given ticks."""
    import av

    for number, at in enumerate(pts):
        shown = picture(first if still else first + number, size)
        frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
        frame.pts, frame.time_base = at, tick
        yield from stream.encode(frame)
    yield from stream.encode(None)


def write_video(
    path,
    codec="libx264",
    *,
    frames=50,
    rate=25,
    size=SIZE,
    pts=None,
    tick=None,
    pixels="yuv420p",
    options=None,
    container=None,
    still=False,
    setup=None,
):
    """Write a video and return its path.

    Args:
        path: File, or a binary stream with the format in `container`.
        pts: Ticks of the frames; default 0, 1, 2… at `rate`.
        setup: Called with the stream before the first frame.
    """
    import av

    tick = tick or Fraction(1, rate)
    container = dict(container or {})
    target = str(path) if isinstance(path, str | Path) else path
    with av.open(target, "w", format=container.pop("format", None), options=container) as file:
        stream = file.add_stream(codec, rate=rate, options=QUIET.get(codec, {}) | (options or {}))
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.time_base = stream.codec_context.time_base = tick
        if setup:
            setup(stream)
        for packet in encoded(stream, range(frames) if pts is None else pts, tick=tick, size=size, still=still):
            file.mux(packet)
    return path


def write_long(path, seconds, *, rate=5, size=(320, 240)):
    """Write ten pictures over and over: hours in seconds."""
    import av

    tick = Fraction(1, rate)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=rate, options={"bf": "0", "g": "10", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        loop = list(encoded(stream, range(10), tick=tick, size=size))
        for number in range(seconds * rate):
            packet = loop[number % 10]
            packet.pts = packet.dts = number
            packet.time_base, packet.duration = tick, 1
            packet.stream = stream
            file.mux(packet)
    return path


ORDINARY = {
    "h264.mp4": {"codec": "libx264", "options": {"bf": "3", "g": "20"}},
    "h264.mkv": {"codec": "libx264", "options": {"bf": "2"}},
    "h264.ts": {"codec": "libx264", "options": {"bf": "3", "x264-params": "open-gop=1:keyint=12"}},
    "h264.flv": {"codec": "libx264", "options": {"bf": "2"}},
    "pyramid.mp4": {"codec": "libx264", "options": {"bf": "7", "x264-params": "b-pyramid=normal"}},
    "hevc.mp4": {"codec": "libx265"},
    "hevc.mkv": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=10:bframes=4"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"lag-in-frames": "16", "auto-alt-ref": "1"}},
    "vp9.mp4": {"codec": "libvpx-vp9"},
    "av1.mp4": {"codec": "libsvtav1"},
    "av1.mkv": {"codec": "libsvtav1"},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4_b.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "vp8.webm": {"codec": "libvpx", "options": {"cpu-used": "8"}},
    "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
}
"""Arguments of `write_video` by file name."""


def full_decode(path):
    """All frames of a file, decoded without any skipping: list of (seconds from the first, RGB image)."""
    import av

    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        stream.codec_context.thread_type = "NONE"
        frames = [(frame.pts, frame.to_image(threads=1)) for frame in file.decode(stream)]
        first = min(pts for pts, _ in frames)
        return sorted(((pts - first) * stream.time_base, image) for pts, image in frames)


def rotated(path, degrees):
    """Make players turn an MP4 video clockwise, by the matrix in its track header."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4
    assert content[at] == 0
    matrix = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    a, b, c, d = (value * 0x10000 for value in matrix)
    content[at + 40 : at + 76] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(content)
    return path


def cut(path, share=0.5):
    """Cut a file's end off."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def damaged(path, at=(0.5, 0.7), length=12):
    """Overwrite a few bytes at the given shares of a file."""
    content = bytearray(path.read_bytes())
    for share in at:
        start = int(len(content) * share)
        content[start : start + length] = bytes((200 + number) % 256 for number in range(length))
    path.write_bytes(content)
    return path


def flv_times(path, times_ms):
    """Replace times of the video packets of an FLV file: {number of the packet: milliseconds}."""
    content = bytearray(path.read_bytes())
    at, number = 13, 0
    while at + 11 <= len(content):
        size = int.from_bytes(content[at + 1 : at + 4], "big")
        is_picture = content[at] == 9 and content[at + 12] == 1  # not the codec's header
        if is_picture:
            if number in times_ms:
                content[at + 4 : at + 7] = (times_ms[number] & 0xFFFFFF).to_bytes(3, "big")
            number += 1
        at += 11 + size + 4
    path.write_bytes(content)
    return path


def write_audio(path, codec="aac"):
    """Write a second of sound."""
    import av

    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=44100)
        add_sound(file, stream)
    return path


def add_sound(file, stream, seconds=1.0):
    import av

    wave = np.sin(np.arange(int(44100 * seconds)) / 20)[None].astype(np.float32)
    frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
    frame.sample_rate = 44100
    for packet in [*stream.encode(frame), *stream.encode(None)]:
        file.mux(packet)


def write_cover_art(path):
    """Write an MP3 file with a cover picture and sound."""
    import av
    from av.stream import Disposition

    with av.open(str(path), "w") as file:
        sound = file.add_stream("mp3", rate=44100)
        cover = file.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        for packet in encoded(cover, [0], tick=Fraction(1, 25)):
            file.mux(packet)
        add_sound(file, sound)
    return path


def write_two_streams(path, default):
    """Write two video streams, 64×48 and 32×32; `default` is the one that players show."""
    import av
    from av.stream import Disposition

    with av.open(str(path), "w") as file:
        streams = []
        for number, size in enumerate([SIZE, (32, 32)]):
            stream = file.add_stream("libx264", rate=25, options={"bf": "0"})
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            stream.disposition = Disposition.default if number == default else Disposition(0)
            streams.append((stream, size))
        for stream, size in streams:
            for packet in encoded(stream, range(10), tick=Fraction(1, 25), size=size):
                file.mux(packet)
    return path


def write_size_change(path, sizes=((64, 48), (96, 48))):
    """Write a transport stream whose frames change their size: 25 frames of each."""
    import av

    tick = Fraction(1, 25)
    with av.open(str(path), "w", format="mpegts") as file:
        shown = file.add_stream("libx264", rate=25)
        shown.width, shown.height, shown.pix_fmt = *sizes[0], "yuv420p"
        for number, size in enumerate(sizes):
            codec = av.CodecContext.create("libx264", "w")
            codec.width, codec.height, codec.pix_fmt, codec.time_base = *size, "yuv420p", tick
            codec.framerate = 25
            codec.options = {"bf": "0", "g": "10"}
            for packet in encoded(codec, range(25 * number, 25 * number + 25), tick=tick, size=size, first=25 * number):
                packet.stream = shown
                packet.time_base = tick
                file.mux(packet)
    return path


def claim_png_size(path, width, height):
    """Change the size that a PNG file states."""
    content = bytearray(path.read_bytes())
    at = content.index(b"IHDR")
    content[at + 4 : at + 12] = struct.pack(">II", width, height)
    content[at + 17 : at + 21] = struct.pack(">I", zlib.crc32(content[at : at + 17]))
    path.write_bytes(content)
    return path


def write_image(path, **settings):
    """Write a still image by Pillow, or an animation of five pictures, 0.2 s each, if it is named .gif."""
    from PIL import Image

    images = [Image.fromarray(picture(number)) for number in range(5)]
    if path.suffix == ".gif":
        settings |= {"save_all": True, "append_images": images[1:], "duration": 200}
    images[0].save(path, **settings)
    return path


def write_hdr(path):
    """Write ten frames of 10 bits, tagged PQ and BT.2020."""

    def tag(stream):
        codec = stream.codec_context
        codec.color_trc, codec.color_primaries, codec.colorspace = 16, 9, 9

    return write_video(path, frames=10, pixels="yuv420p10le", setup=tag)


def write_unknown_codec(path):
    """Write a Matroska file of a codec that does not exist."""
    write_video(path)
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/XYZ"))
    return path
