"""Streams: the same answers as for the whole video, as soon as they are certain."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.stream import DetectionStream, read_rows
from stale_edge_runtime.windows import WindowPlan, detect_in_windows


def bright_runs(features, duration_s):
    """A detector without a network: runs of positive features, in the scale of the window."""
    snippet_s = duration_s / len(features)
    active = np.r_[False, features[:, 0] > 0, False]
    edges = np.flatnonzero(active[1:] != active[:-1]).reshape(-1, 2)
    return [Detection(a * snippet_s, b * snippet_s, "run", float(features[a:b, 0].max()) / 2) for a, b in edges]


class Trickle(io.RawIOBase):
    """A pipe that gives what it likes."""

    def __init__(self, content, sizes):
        self._content, self._sizes = content, sizes

    def read1(self, limit):
        size = min(limit, self._sizes.pop(0) if self._sizes else 7)
        block, self._content = self._content[:size], self._content[size:]
        return block


def by_score(detections):
    return sorted(detections, key=lambda d: (-d.score, d.start_s, d.end_s, d.label))


@given(
    seed=st.integers(0, 500),
    snippets=st.integers(1, 300),
    window=st.integers(2, 40),
    hop=st.integers(1, 40),
    pieces=st.lists(st.integers(1, 120), min_size=1, max_size=8),
)
def test_a_stream_finds_what_the_whole_video_holds(seed, snippets, window, hop, pieces):
    rng = np.random.default_rng(seed)
    features = np.repeat(rng.uniform(-1, 1, snippets), 5)[:snippets, None].astype(np.float32)
    plan = WindowPlan(window, min(window, hop))
    stream = DetectionStream(bright_runs, plan, 0.5)
    found, start, turn = [], 0, 0
    while start < snippets:
        size = pieces[turn % len(pieces)]
        found += stream.push(features[start : start + size])
        start, turn = start + size, turn + 1
    found += stream.finish()
    assert stream.snippets == snippets
    whole = detect_in_windows(bright_runs, features, plan, duration_s=snippets * 0.5)
    assert by_score(found) == by_score(whole)


def test_detections_come_before_the_end():
    features = np.full((1000, 1), -1.0, np.float32)
    features[10:20] = 1.0
    stream = DetectionStream(bright_runs, WindowPlan(50, 25), 1.0)
    early = stream.push(features[:50])
    assert early == [Detection(10.0, 20.0, "run", 0.5)]
    assert stream.push(features[50:]) == []
    assert stream.finish() == []


def test_nothing_pushed_nothing_found():
    stream = DetectionStream(bright_runs, WindowPlan(50, 25), 1.0)
    assert stream.finish() == []
    assert stream.snippets == 0


def test_a_stream_holds_one_window_of_features():
    stream = DetectionStream(bright_runs, WindowPlan(50, 25), 1.0)
    for _ in range(200):
        stream.push(np.ones((7, 3), np.float32))
        assert len(stream._rows) < 50
        assert stream._rows.base is None


@given(snippets=st.integers(0, 40), sizes=st.lists(st.integers(1, 200), max_size=30))
def test_rows_arrive_whole_however_the_pipe_cuts_them(snippets, sizes):
    features = np.random.default_rng(0).standard_normal((snippets, 3)).astype("<f4")
    got = list(read_rows(Trickle(features.tobytes(), list(sizes)), 3))
    assert all(len(rows) for rows in got)
    assert np.array_equal(np.concatenate([np.zeros((0, 3), np.float32), *got]), features)


def test_rows_do_not_wait_for_a_full_block():
    features = np.ones((5, 3), "<f4")
    rows = read_rows(Trickle(features.tobytes(), [12 * 2, 12, 24]), 3)
    assert len(next(rows)) == 2
    assert len(next(rows)) == 1


def test_a_stream_that_ends_inside_a_row_gives_the_whole_rows_first():
    rows = read_rows(io.BytesIO(np.ones((2, 3), "<f4").tobytes() + b"12345"), 3, name="stdin")
    assert len(next(rows)) == 2
    with pytest.raises(BadDataError, match=r"stdin: ends inside snippet 2: 5 of 12 bytes"):
        next(rows)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused_after_the_rows_before_it(bad):
    features = np.ones((4, 3), "<f4")
    features[2, 1] = bad
    rows = read_rows(io.BytesIO(features.tobytes()), 3)
    assert len(next(rows)) == 2
    with pytest.raises(BadDataError, match="snippet 2 holds NaN or infinity"):
        next(rows)


def test_an_npy_file_in_a_pipe_is_named_as_such():
    file = io.BytesIO()
    np.save(file, np.ones((40, 3), np.float32))
    file.seek(0)
    with pytest.raises(BadDataError, match=r"is an \.npy file"):
        next(read_rows(file, 3))
