"""Arithmetic of segments against its definition, written out in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from stale_edge_runtime.segments import Lanes, around, paired_tiou, runs, tiou

times = st.floats(0, 1e4, allow_nan=False)
segments = st.lists(st.tuples(times, times).map(sorted), min_size=1, max_size=8).map(np.array)


def test_known_overlaps():
    ours = tiou(np.array([[0.0, 10.0], [5.0, 5.0]]), np.array([[5.0, 15.0], [0.0, 10.0], [20.0, 30.0], [5.0, 5.0]]))
    np.testing.assert_allclose(ours, [[5 / 15, 1, 0, 0], [0, 0, 0, 0]])


def test_no_segments():
    assert tiou(np.zeros((0, 2)), np.ones((3, 2))).shape == (0, 3)
    assert tiou(np.ones((3, 2)), np.zeros((0, 2))).shape == (3, 0)


@given(segments, segments)
def test_tiou_is_its_definition(a, b):
    for row, (start_a, end_a) in zip(tiou(a, b), a, strict=True):
        for value, (start_b, end_b) in zip(row, b, strict=True):
            inside = max(0.0, min(end_a, end_b) - max(start_a, start_b))
            whole = (end_a - start_a) + (end_b - start_b) - inside
            assert value == pytest.approx(inside / whole if whole > 0 else 0.0)
            assert 0.0 <= value <= 1.0


@given(segments)
def test_tiou_is_symmetric_and_full_with_itself(a):
    np.testing.assert_allclose(tiou(a, a), tiou(a, a).T)
    long = a[:, 1] > a[:, 0]
    np.testing.assert_allclose(np.diag(tiou(a, a))[long], 1.0)
    np.testing.assert_array_equal(paired_tiou(a, a), np.diag(tiou(a, a)))


@given(npst.arrays(np.bool_, st.tuples(st.integers(1, 6), st.integers(1, 12))))
def test_runs_are_its_definition(active):
    expected = []
    for row, values in enumerate(active):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], values, [False]]).astype(int)))
        expected += [(row, first, end) for first, end in edges.reshape(-1, 2).tolist()]
    assert list(zip(*(part.tolist() for part in runs(active)), strict=True)) == expected


@given(npst.arrays(np.bool_, npst.array_shapes(min_dims=2, max_dims=2, max_side=12)), st.integers(0, 2**32 - 1))
def test_edges_tell_the_runs_around_a_column(active, seed):
    columns = np.random.default_rng(seed).integers(0, active.shape[1], len(active))
    row, first, end = runs(active)
    inside = (first <= columns[row]) & (columns[row] < end)
    lanes = Lanes(*active.shape)
    lanes.rows[...] = active
    lane = np.arange(len(active)) * (active.shape[1] + 1)
    found = np.stack(around(lanes.edges(), lane + columns), axis=1) - lane[row[inside], None]
    assert found.tolist() == np.stack([first[inside], end[inside]], axis=1).tolist()
