"""Inputs that hurt: what a user gets from each, as docs/video.md lists them."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import subprocess
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")
Image = pytest.importorskip("PIL.Image")

from stale_edge_runtime.errors import BadDataError, InputMissingError  # noqa: E402
from stale_edge_runtime.video.crop import crop  # noqa: E402
from stale_edge_runtime.video.decoder import packets  # noqa: E402
from stale_edge_runtime.video.options import VideoOptions  # noqa: E402
from stale_edge_runtime.video.reader import VideoReader  # noqa: E402

_spec = importlib.util.spec_from_file_location("video_examples", Path(__file__).with_name("video_examples.py"))
examples = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(examples)
write = examples.write_video

SIDE = 32
MILLISECOND = Fraction(1, 1000)
PHONE_MS = [0, 40, 80, 2080, 2100, 2160, 4160, 4960]
"""Times of a video with gaps of two seconds; the last frame lasts 40 ms."""


def read(path, step_s=0.2, **settings):
    """Read all; return the reader, its crops and its report, after checking that every sample is served once."""
    reader = VideoReader(path, VideoOptions(step_s=step_s, **settings))
    found = list(reader.crops(SIDE))
    assert [sample for one in found for sample in one.samples] == list(range(reader.report.samples))
    assert reader.samples in {None, reader.report.samples}
    return reader, found, reader.report


def refused(path, **settings):
    """Message of the error that reading ends with: one line that names the file, exit 65."""
    with pytest.raises(BadDataError) as caught:
        read(path, **settings)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert caught.value.exit_code == 65
    return message.removeprefix(f"{path}: ")


# 1, 2: no video, or none yet


def test_empty_file(tmp_path):
    (tmp_path / "a.mp4").touch()
    assert refused(tmp_path / "a.mp4") == "is empty (0 bytes); get it again"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"dear diary\n" * 100, "is not a video that FFmpeg reads (no known video format)"),
        (b"<html><body>404</body></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "Git LFS pointer"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.ts\n#EXT-X-ENDLIST\n", "is not a video"),
        (b"ffconcat version 1.0\nfile secret.ts\n", "is not a video"),
        (np.random.default_rng(0).bytes(3000), "is not a video"),
        (b"\0" * 3000, "is not a video"),
        (b"\x1aE\xdf\xa3" + b"\0" * 3000, "is not a video that FFmpeg reads"),
        (b"\x89PNG" + b"\0" * 3000, "is not a video that FFmpeg reads"),
    ],
    ids=["text", "web page", "pointer", "playlist", "list", "noise", "zeros", "Matroska", "PNG"],
)
def test_what_is_no_video(tmp_path, content, words):
    write(tmp_path / "secret.ts", frames=5)
    (tmp_path / "a.mp4").write_bytes(content)
    assert words in refused(tmp_path / "a.mp4")


def test_unfinished_mp4(tmp_path):
    message = refused(examples.cut(write(tmp_path / "a.mp4"), 0.6))
    assert message.startswith("is unfinished: index missing")


def test_missing_and_unreadable(tmp_path, monkeypatch):
    with pytest.raises(InputMissingError, match="no such file"):
        read(tmp_path / "a.mp4")
    with pytest.raises(InputMissingError, match="Is a directory"):
        read(tmp_path)
    with pytest.raises((InputMissingError, BadDataError), match="name"):
        read(tmp_path / ("x" * 3000))
    with pytest.raises(BadDataError, match="null byte"):
        read(tmp_path / "a\0b.mp4")
    path = write(tmp_path / "a.mp4", frames=2)

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(InputMissingError, match="Permission denied"):
        read(path)


# 3: cut in half


def test_cut_matroska(tmp_path):
    path = examples.cut(write(tmp_path / "a.mkv"))
    reader, _, report = read(path)
    held = reader.index.duration_s
    assert 0.5 < held < 1.5
    assert report.declared_s == 2.0
    assert report.warnings[0] == f"cut: the file states 2.0 s and holds {held:.1f} s"
    assert refused(path, strict=True).startswith("cut: the file states 2.0 s")


def test_cut_mp4_with_index_in_front(tmp_path):
    path = examples.cut(write(tmp_path / "a.mp4", container={"movflags": "faststart"}), 0.7)
    _, _, report = read(path)
    assert report.warnings[0].startswith("cut: the file states 2.0 s and holds 1.")


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts", "a.avi", "a.flv", "a.webm"])
def test_whole_files_are_not_called_cut(tmp_path, name):
    codec = {"a.webm": "libvpx-vp9", "a.avi": "mpeg4"}.get(name, "libx264")
    _, _, report = read(write(tmp_path / name, codec, pts=range(100, 150)), strict=True)
    assert report.warnings == ()


# 4: damage


def test_damaged_packets_are_counted_and_samples_listed(tmp_path):
    path = write(tmp_path / "a.mp4", options={"bf": "0"}, container={"movflags": "faststart"})
    examples.damaged(path)
    _, found, report = read(path, 0.04)
    assert report.samples == 50
    assert 1 <= report.damaged_frames <= 4
    assert report.damaged_samples
    assert report.damaged_samples == tuple(sample for one in found if one.damaged for sample in one.samples)
    count = len(report.damaged_samples)
    assert report.warnings == (f"{report.damaged_frames} of 50 frames damaged, {count} of 50 samples",)
    assert "damaged" in refused(path, strict=True, step_s=0.04)


def test_damage_leaves_other_samples_alone(tmp_path):
    """Key frames only: damage of one says nothing of the next."""
    path = write(tmp_path / "a.mkv", options={"g": "1"})
    _, whole, _ = read(path, 0.04)
    examples.damaged(path, at=(0.5,), length=30)
    _, found, report = read(path, 0.04)
    damaged = set(report.damaged_samples)
    equal = [one.digest == other.digest for one, other in zip(found, whole, strict=False)]
    assert sum(equal) >= 47
    assert 1 <= len(damaged) <= 3


def test_times_that_run_backwards(tmp_path):
    path = examples.flv_times(write(tmp_path / "a.flv", options={"bf": "0"}), {20: 100, 21: 120, 30: 999_999})
    reader, _, report = read(path)
    assert reader.index.frames == 47
    assert reader.index.duration_s == 2.0
    assert report.warnings == ("times run backwards: 3 of 50 frames are left out",)
    assert refused(path, strict=True).startswith("times run backwards")


@pytest.mark.parametrize("share", [0.02, 0.2, 0.4, 0.6, 0.8, 0.95])
@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.ts", "libx264"), ("a.avi", "mpeg4")])
def test_damage_anywhere_is_survived_or_refused(tmp_path, name, codec, share):
    path = examples.damaged(write(tmp_path / name, codec), at=(share,), length=40)
    with contextlib.suppress(BadDataError):
        _, found, _ = read(path)
        assert all(one.pixels.shape == (SIDE, SIDE, 3) for one in found)


@pytest.mark.parametrize("flushed", [True, False])
def test_end_of_streams_that_turn_up_on_the_way(flushed):
    """PyAV fails at the end of damaged transport streams, after or before it says that there is no more."""

    class Container:
        def demux(self, _):
            yield av.Packet(5)
            if flushed:
                yield av.Packet()
            raise IndexError("list index out of range")

    assert [packet.size for packet in packets(Container(), None)] == [5, 0]


# 5: no pictures


@pytest.mark.parametrize("name", ["a.m4a", "a.mp3", "a.wav"])
def test_sound_only(tmp_path, name):
    codec = {"a.m4a": "aac", "a.mp3": "mp3", "a.wav": "pcm_s16le"}[name]
    assert refused(examples.write_audio(tmp_path / name, codec)).startswith("has no video stream, only audio")


def test_cover_art_is_no_video(tmp_path):
    message = refused(examples.write_cover_art(tmp_path / "a.mp3"))
    assert message.startswith("has no video stream, only a cover picture")


# 6, 7: times by hand


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_variable_frame_rate(tmp_path, name):
    reader, found, report = read(write(tmp_path / name, pts=PHONE_MS, tick=MILLISECOND), 0.5)
    np.testing.assert_allclose(reader.index.times_s, np.array(PHONE_MS) / 1000, atol=1e-9)
    assert report.duration_s == pytest.approx(5.0)
    # Samples at 0, 0.5, … 4.5 s; on screen: 0 | 0.08 four times | 2.16 four times | 4.16
    assert [(one.samples, round(one.time_s, 3)) for one in found] == [
        ((0,), 0.0),
        ((1, 2, 3, 4), 0.08),
        ((5, 6, 7, 8), 2.16),
        ((9,), 4.16),
    ]
    assert report.warnings == ()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_late_start(tmp_path, name):
    reader, found, report = read(write(tmp_path / name, pts=range(125, 175)), 0.5)
    assert report.start_s == 5.0
    assert (reader.index.times_s[0], report.duration_s) == (0.0, 2.0)
    assert [round(one.time_s, 3) for one in found] == [0.0, 0.48, 1.0, 1.48]
    assert report.notes == ("first frame at 5.000 s of the file: times count from it",)
    early, _, _ = read(write(tmp_path / f"early_{name}"), 0.5)
    np.testing.assert_allclose(early.index.times_s, reader.index.times_s, atol=1e-9)


# 8: rotation


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_frames_are_turned_upright(tmp_path, degrees):
    path = write(tmp_path / "a.mp4", frames=10)
    plain = examples.full_decode(path)[0][1]
    reader, found, report = read(examples.rotated(path, degrees))
    upright = Image.fromarray(np.rot90(np.asarray(plain), -degrees // 90))  # players turn clockwise
    assert (reader.index.width, reader.index.height) == upright.size
    np.testing.assert_array_equal(found[0].pixels, crop(upright, SIDE))
    assert report.notes[0].startswith("turned upright by")
    reader, found, report = read(path, rotate=False)
    assert (reader.index.width, reader.index.height) == (64, 48)
    np.testing.assert_array_equal(found[0].pixels, crop(plain, SIDE))
    assert report.notes == ("left unrotated",)


# 9: odd sizes


def test_odd_size(tmp_path):
    path = write(tmp_path / "a.mp4", size=(161, 121), pixels="yuv444p", frames=10)
    _, found, report = read(path)
    np.testing.assert_array_equal(found[0].pixels, crop(examples.full_decode(path)[0][1], SIDE))
    assert report.warnings == ()


def test_oblong_pixels_are_told_of(tmp_path):
    def wide(stream):
        stream.sample_aspect_ratio = stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    _, _, report = read(write(tmp_path / "a.mp4", frames=3, setup=wide))
    assert report.notes == ("pixels of 4:3 are read as if they were square",)


@pytest.mark.parametrize("size", [(16, 1600), (1600, 16)])
def test_strips_are_warned_of(tmp_path, size):
    _, found, report = read(write(tmp_path / "a.mp4", size=size, frames=3))
    assert report.warnings == (f"the centre crop sees 1% of a {size[0]}×{size[1]} frame",)
    assert found[0].pixels.shape == (SIDE, SIDE, 3)


# 10: stills


def test_one_frame(tmp_path):
    _, found, report = read(write(tmp_path / "a.mp4", frames=1), 0.5)
    assert (len(found), report.samples, report.duration_s) == (1, 1, pytest.approx(0.04))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "series%03d.png"])
def test_images(tmp_path, name):
    _, found, _ = read(examples.write_image(tmp_path / name))
    assert len(found) == 1
    if name.endswith(("png", "bmp")):
        np.testing.assert_array_equal(found[0].pixels, crop(Image.fromarray(examples.picture(0)), SIDE))


def test_image_with_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    reader, _, _ = read(examples.write_image(tmp_path / "a.jpg", exif=exif))
    assert (reader.index.width, reader.index.height) == (48, 64)


def test_gif(tmp_path):
    _, found, report = read(examples.write_image(tmp_path / "a.gif"))
    assert [round(one.time_s, 3) for one in found] == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert report.duration_s == pytest.approx(1.0)


# 11: raw streams


@pytest.mark.parametrize(("codec", "name"), [("libx264", "h264"), ("libx265", "hevc")])
def test_raw_stream(tmp_path, codec, name):
    path = write(tmp_path / f"a.{name}", codec, container={"format": name})
    reader, found, report = read(path, 0.5)
    assert report.duration_s == 2.0
    assert not reader.index.has_times
    assert report.warnings[0].startswith("no times in the file: frames are counted at 25 per second")
    assert "--frame-rate" in report.warnings[0]
    full = list(av.open(str(path)).decode(video=0))
    for one, number in zip(found, [0, 12, 25, 37], strict=True):
        np.testing.assert_array_equal(one.pixels, crop(full[number].to_image(), SIDE))
    _, found, report = read(path, 0.5, fps=10.0)
    assert (report.duration_s, len(found)) == (5.0, 10)
    assert "(as given)" in report.warnings[0]


# 12: read once


def piped(path):
    """A stream of a file's bytes that cannot be wound back."""
    process = subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE)
    return contextlib.closing(process.stdout), process


@pytest.mark.parametrize("name", ["h264.mkv", "vp9.webm", "h264.ts", "hevc.mkv", "mpeg4.avi", "h264.flv"])
def test_pipe_gives_what_the_file_gives(tmp_path, name):
    path = write(tmp_path / name, **examples.ORDINARY[name])
    _, whole, _ = read(path, 0.13)
    stream, process = piped(path)
    with stream as source:
        reader, found, report = read(source, 0.13)
    process.wait()
    assert reader.index is None
    assert reader.samples is None
    assert report.frames is None
    assert report.duration_s == pytest.approx(2.0)
    assert [(one.samples, one.digest) for one in found] == [(one.samples, one.digest) for one in whole]


def test_live_webm(tmp_path):
    path = write(tmp_path / "a.webm", "libvpx-vp9", container={"live": "1"})
    reader, _, report = read(path)
    assert (reader.index.declared_s, report.duration_s) == (None, 2.0)


def test_named_pipe(tmp_path):
    path = write(tmp_path / "a.mkv")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(path.read_bytes()))
    writer.start()
    reader, _, report = read(fifo, 0.5)
    writer.join()
    assert (reader.index, report.samples) == (None, 4)


def test_standard_input(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mkv", pts=PHONE_MS, tick=MILLISECOND)
    stream, process = piped(path)
    with stream as source:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(source))
        _, found, report = read("-", 0.5)
    process.wait()
    assert [one.samples for one in found] == [(0,), (1, 2, 3, 4), (5, 6, 7, 8), (9,)]
    assert report.duration_s == pytest.approx(5.0)


def test_cut_pipe(tmp_path):
    path = examples.cut(write(tmp_path / "a.mkv"))
    stream, process = piped(path)
    with stream as source:
        _, _, report = read(source)
    process.wait()
    assert report.warnings[0].startswith("cut: the file states 2.0 s and holds 0.")


def test_mp4_that_a_pipe_cannot_give(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video" * 50)
    stream, process = piped(tmp_path / "a.mp4")
    with stream as source, pytest.raises(BadDataError, match=r"stdin: is not a video.*faststart"):
        read(source)
    process.wait()


# 13, 14: frames that change, frames that look wrong


def test_size_change(tmp_path):
    _, found, report = read(examples.write_size_change(tmp_path / "a.ts"))
    assert report.notes == ("frames change their size: each is resized by itself",)
    assert report.damaged_frames == 0
    wide = crop(Image.fromarray(examples.picture(25, (96, 48))), SIDE)
    assert np.abs(found[5].pixels.astype(int) - wide).mean() < 12
    assert np.abs(found[4].pixels.astype(int) - wide).mean() > 25


def test_hdr_is_warned_of_once(tmp_path):
    _, _, report = read(examples.write_hdr(tmp_path / "a.mp4"), 0.04)
    assert report.warnings == ("HDR (PQ) is shown without tone mapping: colours are washed out",)


def test_interlaced_is_warned_of_once(tmp_path):
    path = write(tmp_path / "a.mp4", options={"x264-params": "tff=1"}, frames=20)
    _, found, report = read(path, 0.04)
    assert report.warnings == ("interlaced: moving edges are combed",)
    full = examples.full_decode(path)
    for one, (_, image) in zip(found, full, strict=True):
        np.testing.assert_array_equal(one.pixels, crop(image, SIDE))


# 15: too much


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.webm"])
def test_frames_beyond_the_limit(tmp_path, name):
    path = write(tmp_path / name, "libvpx-vp9" if name == "a.webm" else "libx264", frames=5)
    assert "3,071 pixels" in refused(path, max_pixels=3071)
    assert read(path, max_pixels=64 * 48)


def test_image_that_claims_gigapixels(tmp_path):
    path = examples.claim_png_size(examples.write_image(tmp_path / "a.png"), 60_000, 60_000)
    assert "36,000,000 pixels" in refused(path)


def test_codec_without_decoder(tmp_path):
    assert refused(examples.write_unknown_codec(tmp_path / "a.mkv")).startswith("no decoder for")


def test_absurd_times(tmp_path):
    path = write(tmp_path / "a.mkv", pts=[0, 40, 10**13], tick=MILLISECOND)
    assert "more than 2,000,000 samples" in refused(path)


# names, streams, noise


@pytest.mark.parametrize(
    "name",
    ["-dash.mp4", "pipe:0.mp4", "concat:a|b.mp4", "with space.mp4", "ü.mp4", "%d.mp4", os.fsdecode(b"\xff.mp4")],
    ids=["dash", "protocol", "list", "space", "umlaut", "pattern", "bytes"],
)
def test_names_that_look_like_something_else(tmp_path, name, monkeypatch):
    write(tmp_path / "plain.mp4", frames=5)
    (tmp_path / "plain.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    _, _, report = read(Path(name))
    assert report.samples == 1


@pytest.mark.parametrize("default", [0, 1])
def test_default_stream_is_read(tmp_path, default):
    reader, _, report = read(examples.write_two_streams(tmp_path / "a.mkv", default))
    assert reader.index.width == (64, 32)[default]
    assert report.notes == (f"2 video streams: stream {default} is read",)


def test_file_that_grows_while_it_is_read(tmp_path):
    path = write(tmp_path / "a.ts")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    reader = VideoReader(path, VideoOptions(step_s=0.2))
    path.write_bytes(content)
    found = list(reader.crops(SIDE))
    assert [sample for one in found for sample in one.samples] == list(range(reader.samples))


def test_file_that_shrinks_while_it_is_read(tmp_path):
    path = write(tmp_path / "a.ts")
    reader = VideoReader(path, VideoOptions(step_s=0.2))
    examples.cut(path)
    found = list(reader.crops(SIDE))
    assert [sample for one in found for sample in one.samples] == list(range(10))
    assert reader.report.damaged_samples


def test_ffmpeg_stays_silent(tmp_path, capfd):
    for name in ("a.mkv", "a.ts", "b.mkv"):
        path = examples.damaged(write(tmp_path / name, options={"bf": "0"}), at=(0.3, 0.5, 0.7), length=60)
        capfd.readouterr()
        with contextlib.suppress(BadDataError):
            read(path)
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["h264.mp4", "hevc.mp4", "vp9.webm", "av1.mp4"])
def test_one_thread_works(tmp_path, name):
    def threads():
        return len(list(Path("/proc/self/task").iterdir()))

    path = write(tmp_path / name, **examples.ORDINARY[name])
    before = threads()
    for _ in VideoReader(path, VideoOptions(step_s=0.2)).crops(SIDE):
        assert threads() <= before


def test_containers_are_closed(tmp_path):
    path = write(tmp_path / "a.mkv")

    def open_files():
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    for _ in range(3):
        crops = VideoReader(path, VideoOptions()).crops(SIDE)
        next(crops)
        crops.close()
    with contextlib.suppress(BadDataError):
        read(examples.cut(write(tmp_path / "a.mp4")))
    assert open_files() <= before
