"""Sample times, frames on screen, samples that a resizing network reads; without PyAV."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.resampling import resize
from stale_edge_runtime.video.crop import StillCheck, crop_box
from stale_edge_runtime.video.options import VideoOptions, approximate_modes
from stale_edge_runtime.video.sampling import MAX_SAMPLES, SLACK_S, frames_on_screen, published_samples, sample_times
from stale_edge_runtime.video.sampling_live import LiveSampler


@pytest.mark.parametrize(
    ("duration_s", "step_s", "samples"),
    [
        (10, 0.5, 20),
        (10.0000000001, 0.5, 20),
        (10.02, 0.5, 21),
        (0.04, 0.5, 1),
        (0.3, 0.1, 3),
        (0, 0.5, 1),
        (60, 1, 60),
    ],
)
def test_samples_lie_before_the_end(duration_s, step_s, samples):
    times_s = sample_times(duration_s, step_s)
    assert len(times_s) == samples
    np.testing.assert_array_equal(times_s, np.arange(samples) * step_s)


@pytest.mark.parametrize("duration_s", [1e12, math.inf, math.nan])
def test_damaged_times_are_refused_before_memory_is_taken(duration_s):
    with pytest.raises(BadDataError, match=f"more than {MAX_SAMPLES:,} samples"):
        sample_times(duration_s, 0.5)


def test_frames_on_screen_by_hand():
    times_s = np.array([0, 0.04, 0.08, 2.08, 2.1])
    samples_s = np.array([0, 0.5, 1, 1.5, 2, 2.08, 2.5])
    assert frames_on_screen(times_s, samples_s).tolist() == [0, 2, 2, 2, 2, 3, 4]


def test_rounding_never_takes_the_frame_before():
    """0.3 is stored below 3/10, so that 0.3 × i may lie just before the frame that it means."""
    times_s = np.arange(3000) * 3 / 10
    assert frames_on_screen(times_s, np.arange(3000) * 0.3).tolist() == list(range(3000))


ticks = st.lists(st.integers(1, 5000), min_size=1, max_size=60)
steps = st.sampled_from([0.04, 0.1, 0.3, 0.5, 1.0, 1 / 3])


@given(gaps=ticks, step_s=steps)
def test_frame_on_screen_is_the_last_that_began(gaps, step_s):
    times_s = np.cumsum([0, *gaps]) / 1000
    samples_s = sample_times(float(times_s[-1]) + 0.04, step_s)
    found = frames_on_screen(times_s, samples_s)
    for sample_s, frame in zip(samples_s, found, strict=True):
        assert frame == max(i for i, time_s in enumerate(times_s) if time_s <= sample_s + SLACK_S)


@given(gaps=ticks, step_s=steps)
def test_one_pass_finds_what_an_index_finds(gaps, step_s):
    times_s = np.cumsum([0, *gaps]) / 1000
    end_s = float(times_s[-1]) + gaps[-1] / 1000
    sampler: LiveSampler[int] = LiveSampler(step_s)
    served = [one for number, time_s in enumerate(times_s) for one in sampler.push(float(time_s), number)]
    assert sampler.end_s(0.04) == pytest.approx(end_s)
    served += sampler.finish(end_s)
    frames = [frame for samples, _, frame in served for _ in samples]
    assert [sample for samples, _, _ in served for sample in samples] == list(range(len(frames)))
    assert frames == frames_on_screen(times_s, sample_times(end_s, step_s)).tolist()
    assert [time_s for _, time_s, _ in served] == [times_s[frame] for _, _, frame in served]


@given(samples=st.integers(1, 3000), length=st.sampled_from([1, 2, 3, 99, 100, 101, 192, 257]))
def test_published_samples_suffice(samples, length):
    rows = np.random.default_rng(samples).standard_normal((samples, 3)).astype(np.float32)
    read = published_samples(samples, length)
    assert len(read) <= 2 * length
    assert np.all(np.diff(read) > 0)
    sparse = np.full_like(rows, 7.0)
    sparse[read] = rows[read]
    np.testing.assert_array_equal(resize(sparse, length), resize(rows, length))


def test_published_samples_of_spec_examples():
    assert len(published_samples(6000, 100)) == 200
    assert len(published_samples(921, 100)) <= 200


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"step_s": 0.0}, "not a step"),
        ({"step_s": math.nan}, "not a step"),
        ({"fps": -1.0}, "not a frame rate"),
        ({"fps": math.inf}, "not a frame rate"),
        ({"threads": 0}, "threads"),
        ({"max_pixels": 0}, "leaves no frame"),
        ({"approximate": frozenset({"quick"})}, "'quick' is no mode"),
        ({"approximate": frozenset({"still=0"})}, "is no mode"),
        ({"approximate": frozenset({"still"})}, "is no mode"),
        ({"approximate": frozenset({"still=4", "still=8"})}, "more than once"),
    ],
)
def test_options_are_checked(settings, words):
    with pytest.raises(UsageError, match=words):
        VideoOptions(**settings)


def test_approximate_modes_tell_their_price():
    options = VideoOptions(approximate=approximate_modes(["keyframes, area", "still=4"]))
    assert options.still == 4
    assert [note.split(":")[0] for note in options.notes] == [
        "approximate area",
        "approximate keyframes",
        "approximate still=4",
    ]
    assert VideoOptions().notes == ()
    assert VideoOptions().still is None


@pytest.mark.parametrize(
    ("width", "height", "size", "box"),
    [
        (1280, 720, 224, (87 * 1280 / 398, 0, 311 * 1280 / 398, 720)),  # 398 columns, rest 174
        (720, 1280, 224, (0, 87 * 1280 / 398, 720, 311 * 1280 / 398)),
        (224, 224, 224, (0, 0, 224, 224)),
        (161, 121, 224, (37 * 161 / 298, 0, 261 * 161 / 298, 121)),  # 298.05 columns
    ],
)
def test_crop_box_by_hand(width, height, size, box):
    assert crop_box(width, height, size) == pytest.approx(box)


@pytest.mark.parametrize(("rest", "first"), [(1, 0), (3, 2), (5, 2), (7, 4)])
def test_odd_rests_are_rounded_half_to_even(rest, first):
    size = 10
    assert crop_box(size + rest, size, size)[0] == pytest.approx(first)
    assert crop_box(size, size + rest, size)[1] == pytest.approx(first)


def test_still_compares_with_the_last_that_differed():
    check = StillCheck(4)
    grey = np.full((32, 32, 3), 100, np.uint8)
    assert not check.same(grey)
    assert check.same(grey + 3)
    assert not check.same(grey + 6)  # drift adds up, as it is compared with the first
    assert check.same(grey + 8)
    spot = grey + 8
    spot[:2, :2] += 40  # one cell
    assert not check.same(spot)


def test_package_is_imported_without_pyav_and_pillow():
    program = (
        "import sys; sys.modules['av'] = sys.modules['PIL'] = None\n"
        "from pathlib import Path\n"
        "from stale_edge_runtime.errors import UnavailableError\n"
        "from stale_edge_runtime.video import camera, reader, options\n"
        "try: reader.VideoReader(Path(sys.argv[1]), options.VideoOptions())\n"
        "except UnavailableError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, __file__], capture_output=True, text=True, check=True)
    assert "pip install 'stale-edge[video]'" in done.stdout
    assert done.stderr == ""
