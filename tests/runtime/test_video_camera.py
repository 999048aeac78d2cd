"""Live sources: the newest frame wins, every sample is served once, gaps are told, stopping is clean."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import io
import os
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from stale_edge_runtime.errors import BadDataError, InputMissingError
from stale_edge_runtime.video.camera import QUEUE_CROPS, LiveSource, StreamGap, is_live
from stale_edge_runtime.video.options import VideoOptions

_spec = importlib.util.spec_from_file_location("video_examples", Path(__file__).with_name("video_examples.py"))
examples = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(examples)

OPTIONS = VideoOptions(step_s=0.5)


@dataclass
class FakeFrame:
    time_s: float | None
    number: int = 0
    damaged: bool = False

    def pixels(self, size):
        return np.full((size, size, 3), self.number, np.uint8)


class FakeClock:
    """Time that passes only when something sleeps."""

    def __init__(self):
        self.now = 100.0
        self.naps = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.naps.append(seconds)
        self.now += seconds


def source(frames, **settings):
    return LiveSource("camera", OPTIONS, frames=lambda: iter(frames), **settings)


def camera(seconds, rate=25):
    return [FakeFrame(number / rate, number) for number in range(int(seconds * rate))]


def served(crops):
    return [sample for one in crops for sample in one.samples]


def shown(crops):
    return [int(one.pixels[0, 0, 0]) for one in crops]


def test_samples_of_a_reader_that_keeps_up():
    live = source(camera(2))
    found = list(live.crops(4))
    assert [(one.samples, one.time_s) for one in found] == [((0,), 0.0), ((1,), 0.48), ((2,), 1.0), ((3,), 1.48)]
    assert shown(found) == [0, 12, 25, 37]
    report = live.report
    assert (report.samples, report.warnings, live.gaps) == (4, (), ())
    assert report.duration_s == pytest.approx(2.0)


def test_newest_frame_wins_where_the_reader_is_slow():
    ended = threading.Event()

    def frames():
        yield from camera(10)
        ended.set()

    live = LiveSource("camera", OPTIONS, frames=frames, drop=True)
    crops = live.crops(4)
    found = [next(crops)]
    assert ended.wait(10)  # the camera did not wait
    live._thread.join(10)
    assert len(live._queue) <= QUEUE_CROPS
    found += crops
    assert served(found) == list(range(20))
    assert len(found) <= 1 + QUEUE_CROPS
    assert found[-1].time_s == 9.48  # the newest frame that a sample wants
    (gap,) = live.gaps
    assert gap.reason == "reader"
    assert gap.end_s > 8
    assert live.report.warnings[0].startswith("1 gaps")


def test_queue_is_bounded_where_the_source_can_wait():
    taken = []

    def frames():
        for frame in camera(10):
            taken.append(frame.number)
            yield frame

    live = LiveSource("camera", OPTIONS, frames=frames, drop=False)
    found = []
    for one in live.crops(4):
        found.append(one)
        # One crop in hand, the queue, one that waits to get in, and the frame after it that tells that it is due.
        assert max(taken) <= found[-1].time_s * 25 + 13 * (QUEUE_CROPS + 3)
    assert len(found) == 20
    assert live.gaps == ()


def test_gap_of_the_source_is_told_and_its_samples_served():
    live = source([FakeFrame(0.0, 1), FakeFrame(0.04, 2), FakeFrame(3.04, 3), FakeFrame(3.08, 4)])
    found = list(live.crops(4))
    assert [(one.samples, shown([one])[0]) for one in found] == [((0,), 1), ((1, 2, 3, 4, 5, 6), 2)]
    assert live.gaps == (StreamGap(0.04, 3.04, "source"),)
    assert live.report.warnings == ("1 gaps, 3.0 s together, first at 0.0 s",)


def test_clock_stands_in_for_times():
    clock = FakeClock()

    def frames():
        for number in range(50):
            yield FakeFrame(None, number)
            clock.sleep(0.04)

    found = list(LiveSource("camera", OPTIONS, clock=clock, frames=frames, drop=False).crops(4))
    assert shown(found) == [0, 12, 25, 37]
    assert found[2].time_s == pytest.approx(1.0)


def test_times_that_run_backwards_are_left_out():
    found = list(source([FakeFrame(0.0, 1), FakeFrame(0.6, 2), FakeFrame(0.2, 3), FakeFrame(1.2, 4)]).crops(4))
    assert served(found) == list(range(4))
    assert 3 not in shown(found)


def test_damage_is_counted():
    live = source([FakeFrame(0.0, 1), FakeFrame(0.4, 2, damaged=True), FakeFrame(0.8, 3)])
    list(live.crops(4))
    assert live.report.damaged_samples == (1,)
    assert live.report.warnings == ("1 of 3 samples damaged",)


@pytest.mark.parametrize("drop", [True, False])
def test_stop_ends_an_endless_source(drop):
    closed = threading.Event()

    def frames():
        try:
            number = 0
            while True:
                yield FakeFrame(number / 25, number % 256)
                number += 1
        finally:
            closed.set()

    with LiveSource("camera", OPTIONS, frames=frames, drop=drop) as live:
        for count, _ in enumerate(live.crops(4)):
            if count == 3:
                live.stop()
    assert not live._thread.is_alive()
    assert closed.wait(5)
    assert list(live._queue) == []


def test_leaving_the_loop_stops_the_thread():
    live = source(camera(10), drop=False)
    crops = live.crops(4)
    next(crops)
    crops.close()
    assert not live._thread.is_alive()
    with pytest.raises(RuntimeError, match="read once"):
        next(live.crops(4))


@pytest.mark.parametrize("error", [BadDataError("camera", "is on fire"), KeyError("bug")])
def test_failure_is_raised_after_what_came_before(error):
    def frames():
        yield from camera(1.2)
        raise error

    crops = LiveSource("camera", OPTIONS, frames=frames).crops(4)
    assert served([next(crops) for _ in range(3)]) == [0, 1, 2]
    with pytest.raises(type(error)):
        next(crops)


def test_nearly_equal_crops_are_shared():
    frames = [FakeFrame(number / 2, 100 + number) for number in range(6)]
    options = VideoOptions(step_s=0.5, approximate=frozenset({"still=3"}))
    live = LiveSource("camera", options, frames=lambda: iter(frames), drop=False)
    assert shown(live.crops(32)) == [100, 100, 100, 100, 104, 104]
    assert live.report.notes[0].startswith("approximate still=3")


def test_names_of_live_sources(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file.mp4").touch()
    for name in ("-", "rtsp://camera/1", "RTSP://camera", "/dev/video0", "https://a/b.m3u8", str(tmp_path / "pipe")):
        assert is_live(name), name
    for name in (str(tmp_path / "file.mp4"), "video.mp4", "rtsp", str(tmp_path), "gone.mkv", "a:b"):
        assert not is_live(name), name


def video(tmp_path):
    pytest.importorskip("av")
    pytest.importorskip("PIL")
    return examples.write_video(tmp_path / "a.mkv")


def test_file_is_played_at_its_own_pace(tmp_path):
    clock = FakeClock()
    found = list(LiveSource(str(video(tmp_path)), OPTIONS, clock=clock, sleep=clock.sleep).crops(32))
    assert served(found) == [0, 1, 2, 3]
    assert sum(clock.naps) == pytest.approx(49 / 25)


def test_pipe_of_a_video_loses_nothing(tmp_path, monkeypatch):
    from stale_edge_runtime.video.reader import VideoReader

    path = video(tmp_path)
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as process:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(process.stdout))
        live = LiveSource("-", OPTIONS)
        found = list(live.crops(32))
    whole = list(VideoReader(path, OPTIONS).crops(32))
    assert [(one.samples, one.digest) for one in found] == [(one.samples, one.digest) for one in whole]
    assert live.report.decoded_frames == 50


def test_approximate_modes_of_files_hold_for_live_sources(tmp_path):
    from stale_edge_runtime.video.reader import VideoReader

    options = VideoOptions(step_s=0.5, approximate=frozenset({"area"}))
    path, clock = video(tmp_path), FakeClock()
    live = [one.digest for one in LiveSource(str(path), options, clock=clock, sleep=clock.sleep).crops(32)]
    assert live == [one.digest for one in VideoReader(path, options).crops(32)]
    assert live != [one.digest for one in VideoReader(path, OPTIONS).crops(32)]


def test_named_pipe(tmp_path):
    path = video(tmp_path)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(path.read_bytes()))
    writer.start()
    assert served(LiveSource(str(fifo), OPTIONS).crops(32)) == [0, 1, 2, 3]
    writer.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_network_stream(tmp_path):
    video(tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            found = list(LiveSource(f"{address}/a.mkv", OPTIONS, drop=False).crops(32))
            with pytest.raises(InputMissingError, match="cannot be opened"):
                list(LiveSource(f"{address}/gone.mkv", OPTIONS).crops(32))
        finally:
            server.shutdown()
            thread.join()
    assert served(found) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["rtsp://127.0.0.1:1/camera", "/dev/video99"])
def test_source_that_is_not_there(name, capfd):
    pytest.importorskip("av")
    pytest.importorskip("PIL")
    with pytest.raises(InputMissingError, match="cannot be opened"):
        list(LiveSource(name, OPTIONS).crops(32))
    assert capfd.readouterr() == ("", "")


def test_stream_that_is_no_video(tmp_path, monkeypatch):
    pytest.importorskip("av")
    pytest.importorskip("PIL")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"text\n" * 999)))
    with pytest.raises(BadDataError, match="stdin: is not a video"):
        list(LiveSource("-", OPTIONS).crops(32))
