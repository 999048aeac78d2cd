"""Frames out of ordinary videos: equal to decoding everything, at the right times, with the crop that CLIP cuts."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")
Image = pytest.importorskip("PIL.Image")

from stale_edge_runtime.video.colour import Converter  # noqa: E402
from stale_edge_runtime.video.crop import crop  # noqa: E402
from stale_edge_runtime.video.decode import DecodingRecord, decoded_frames  # noqa: E402
from stale_edge_runtime.video.index import index_video  # noqa: E402
from stale_edge_runtime.video.options import VideoOptions  # noqa: E402
from stale_edge_runtime.video.reader import VideoReader  # noqa: E402
from stale_edge_runtime.video.sampling import frames_on_screen, sample_times  # noqa: E402

_spec = importlib.util.spec_from_file_location("video_examples", Path(__file__).with_name("video_examples.py"))
examples = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(examples)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


def ordinary(folder, name):
    path = folder / name
    return path if path.exists() else examples.write_video(path, **examples.ORDINARY[name])


def pixels(image):
    return np.asarray(image)


@pytest.mark.parametrize("name", examples.ORDINARY)
@pytest.mark.parametrize("step_s", [0.13, 0.5])
def test_decoded_frames_equal_full_decoding(folder, name, step_s):
    path = ordinary(folder, name)
    full = examples.full_decode(path)
    options = VideoOptions(step_s=step_s)
    index = index_video(path, options)
    np.testing.assert_allclose(index.times_s, [float(time_s) for time_s, _ in full], atol=1e-12)
    times_s = sample_times(index.duration_s, step_s)
    record = DecodingRecord()
    found, converter = list(decoded_frames(index, times_s, options, record)), Converter(rotate=True)
    assert [sample for one in found for sample in one.samples] == list(range(len(times_s)))
    for one in found:
        assert not one.damaged
        for sample in one.samples:
            exact = max(number for number, (time_s, _) in enumerate(full) if time_s <= Fraction(times_s[sample] + 1e-6))
            assert one.time_s == pytest.approx(float(full[exact][0]), abs=1e-12)
            np.testing.assert_array_equal(pixels(converter.image(one.frame)), pixels(full[exact][1]))
    assert record.frames <= index.frames
    assert record.damaged_frames == 0


@pytest.mark.parametrize("name", ["pyramid.mp4", "hevc.mp4", "mpeg4.mp4"])
def test_unreferenced_frames_are_skipped(folder, name):
    path = ordinary(folder, name)
    record = DecodingRecord()
    index = index_video(path, VideoOptions())
    list(decoded_frames(index, np.array([1.9]), VideoOptions(), record))
    assert record.frames < 0.85 * index.frames


def test_decoding_stops_after_the_last_wanted_frame(folder):
    record = DecodingRecord()
    index = index_video(ordinary(folder, "vp9.webm"), VideoOptions())
    list(decoded_frames(index, np.array([0.0, 0.2]), VideoOptions(), record))
    assert record.frames == 6


@pytest.mark.parametrize("name", ["h264.mp4", "hevc.mkv", "av1.mp4", "vp9.webm"])
def test_threads_change_nothing(folder, name):
    path = ordinary(folder, name)
    one, two = (
        [found.digest for found in VideoReader(path, VideoOptions(step_s=0.2, threads=threads)).crops(32)]
        for threads in (1, 2)
    )
    assert one == two


@pytest.mark.parametrize(
    "size", [(64, 48), (48, 64), (161, 121), (121, 161), (64, 64), (20, 90), (360, 640), (240, 426)]
)
@pytest.mark.parametrize("side", [32, 224])
def test_crop_is_that_of_resizing_the_whole_frame(size, side):
    image = Image.fromarray(np.random.default_rng(sum(size)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    short, long = sorted(size)
    longer = int(side * long / short)
    whole = image.resize((side, longer) if size[0] < size[1] else (longer, side), Image.Resampling.BICUBIC)
    left, top = (round((length - side) / 2) for length in whole.size)
    wanted = pixels(whole)[top : top + side, left : left + side].astype(int)
    found = crop(image, side)
    assert found.shape == (side, side, 3)
    assert found.dtype == np.uint8
    difference = np.abs(found.astype(int) - wanted)
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 0.001


def test_reader_yields_crops_and_reports(folder):
    path = ordinary(folder, "h264.mp4")
    reader = VideoReader(path, VideoOptions())
    with pytest.raises(RuntimeError, match="when all crops were taken"):
        _ = reader.report
    assert reader.samples == 4
    found = list(reader.crops(32))
    assert [one.samples for one in found] == [(0,), (1,), (2,), (3,)]
    assert [one.time_s for one in found] == pytest.approx([0, 0.48, 1.0, 1.48])  # 25 frames a second
    full = {round(float(time_s), 6): image for time_s, image in examples.full_decode(path)}
    for one in found:
        np.testing.assert_array_equal(one.pixels, crop(full[round(one.time_s, 6)], 32))
    report = reader.report
    assert (report.samples, report.frames, report.damaged_samples) == (4, 50, ())
    assert (report.duration_s, report.declared_s, report.start_s) == (2.0, 2.0, 0.0)
    assert (report.warnings, report.notes) == ((), ())


def test_chosen_sample_times(folder):
    reader = VideoReader(ordinary(folder, "h264.mp4"), VideoOptions())
    found = list(reader.crops(16, np.array([0.1, 0.11, 1.7])))
    assert [(one.samples, round(one.time_s, 3)) for one in found] == [((0, 1), 0.08), ((2,), 1.68)]


def test_equal_crops_have_equal_digests(folder):
    still = examples.write_video(folder / "still.mkv", "ffv1", still=True, frames=50)
    assert len({one.digest for one in VideoReader(still, VideoOptions()).crops(32)}) == 1
    moving = list(VideoReader(ordinary(folder, "h264.mp4"), VideoOptions()).crops(32))
    assert len({one.digest for one in moving}) == len(moving)


def test_colours_follow_the_matrix_of_the_file(folder):
    def tagged(stream):
        stream.codec_context.colorspace = 1  # BT.709

    plain = examples.write_video(folder / "plain.mp4", frames=2)
    bt709 = examples.write_video(folder / "bt709.mp4", frames=2, setup=tagged)
    (one,), (two,) = (list(VideoReader(path, VideoOptions()).crops(32)) for path in (plain, bt709))
    assert np.abs(one.pixels.astype(int) - two.pixels).max() > 3


def approximate(path, *modes, step_s=0.2):
    reader = VideoReader(path, VideoOptions(step_s=step_s, approximate=frozenset(modes)))
    return list(reader.crops(32)), reader.report


@pytest.mark.parametrize("name", ["h264.mp4", "hevc.mkv", "vp9.webm", "av1.mp4", "mpeg4.avi"])
def test_key_frames_only(folder, name):
    path = ordinary(folder, name)
    found, report = approximate(path, "keyframes")
    index = index_video(path, VideoOptions())
    keys = index.times_s[index.key]
    keys = keys[np.unique(frames_on_screen(keys, sample_times(2.0, 0.2)))]
    assert [one.time_s for one in found] == pytest.approx(keys.tolist())
    assert [sample for one in found for sample in one.samples] == list(range(10))
    assert report.decoded_frames == len(keys)
    assert report.notes[-1].startswith("approximate keyframes: only key frames are decoded")
    full = {round(float(time_s), 6): image for time_s, image in examples.full_decode(path)}
    for one in found:
        np.testing.assert_array_equal(one.pixels, crop(full[round(one.time_s, 6)], 32))


def test_loop_filter_left_out(folder):
    path = examples.write_video(folder / "coarse.mp4", options={"crf": "45"})
    exact, _ = approximate(path)
    found, report = approximate(path, "loopfilter")
    assert [one.samples for one in found] == [one.samples for one in exact]
    assert any(one.digest != other.digest for one, other in zip(found, exact, strict=True))
    assert "loop filter" in report.notes[-1]


@pytest.mark.parametrize("degrees", [0, 90])
def test_area_averaging(folder, degrees):
    path = examples.write_video(folder / f"area{degrees}.mp4", size=(256, 192), frames=20)
    if degrees:
        examples.rotated(path, degrees)
    exact, _ = approximate(path)
    found, _ = approximate(path, "area")
    for one, other in zip(found, exact, strict=True):
        assert one.pixels.shape == (32, 32, 3)
        difference = np.abs(one.pixels.astype(int) - other.pixels)
        assert 0 < difference.mean() < 12


def test_still_shares_nearly_equal_crops(folder):
    path = folder / "noise.mkv"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        for number in range(10):
            shade = 100 if number < 6 else 140
            noisy = np.clip(shade + rng.normal(0, 1, (48, 64, 3)), 0, 255).astype(np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")):
                file.mux(packet)
        for packet in stream.encode(None):
            file.mux(packet)
    exact, _ = approximate(path)
    assert len({one.digest for one in exact}) == 10
    found, _ = approximate(path, "still=8")
    assert [one.digest == found[0].digest for one in found] == [True] * 6 + [False] * 4
    np.testing.assert_array_equal(found[5].pixels, found[0].pixels)


MEMORY = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from stale_edge_runtime.video.options import VideoOptions
from stale_edge_runtime.video.reader import VideoReader
reader = VideoReader(Path(sys.argv[1]), VideoOptions(step_s=float(sys.argv[3])))
count = sum(1 for _ in reader.crops(224))
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_kb(path, step_s):
    import stale_edge_runtime

    home = str(Path(stale_edge_runtime.__file__).parents[1])
    words = [sys.executable, "-c", MEMORY, str(path), home, str(step_s)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def check_memory(folder, seconds, step_s, limit_kb):
    """Compare the peaks of a short video and a long one."""
    peaks = []
    for length in (20, seconds):
        found, peak = peak_kb(examples.write_long(folder / f"long{length}.mp4", length), step_s)
        assert found == length / step_s
        peaks.append(peak)
    assert peaks[1] - peaks[0] < limit_kb


def test_memory_does_not_grow_with_length(folder):
    """One crop more is 150 kB: 400 more would be 60 MB, and as many frames 46 MB."""
    check_memory(folder, 100, 0.2, 8_000)


@pytest.mark.slow
def test_memory_over_ten_hours(folder):
    """The index takes some bytes a frame; 7,200 crops would be 1 GB, 180,000 frames 20 GB."""
    check_memory(folder, 36_000, 5, 32_000)
