"""Soft-NMS against a plain loop, and the published variant's known numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_edge_runtime.nms import published_soft_nms, soft_nms
from stale_edge_runtime.segments import tiou


@st.composite
def candidates(draw):
    count = draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    start = rng.integers(0, 50, count)
    segments = np.stack([start, start + rng.integers(1, 20, count)], axis=1).astype(np.float64)
    scores = rng.choice([0.2, 0.5, 0.9], count) if draw(st.booleans()) else rng.random(count)
    return segments, scores, rng.integers(0, 3, count)


def loop(segments, scores, labels, sigma, min_score):
    remaining = dict(enumerate(scores.tolist()))
    overlap = tiou(segments, segments)
    kept = []
    while remaining and max(remaining.values()) > min_score:
        best = max(remaining, key=remaining.__getitem__)
        kept.append((best, remaining.pop(best)))
        for other in remaining:
            if labels[other] == labels[best]:
                remaining[other] *= math.exp(-(overlap[best, other] ** 2) / sigma)
    return kept


@given(candidates(), st.floats(0.05, 2.0), st.sampled_from([0.0, 1e-3, 0.4]))
def test_is_the_plain_loop(given_candidates, sigma, min_score):
    segments, scores, labels = given_candidates
    kept, faded = soft_nms(segments, scores, labels, sigma=sigma, min_score=min_score)
    expected = loop(segments, scores, labels, sigma, min_score)
    np.testing.assert_allclose(faded, [score for _, score in expected], rtol=1e-9)
    assert np.all(faded <= scores[kept])
    if len(set(scores.tolist())) == len(scores):  # rounding may order ties of the faded differently
        assert kept.tolist() == [index for index, _ in expected]


@pytest.mark.parametrize("count", [181, 182, 600])
def test_many_segments_are_the_plain_loop(count):
    """From 182 segments on, factors are worked out in blocks."""
    rng = np.random.default_rng(count)
    start = rng.integers(0, 200, count)
    segments = np.stack([start, start + rng.integers(1, 60, count)], axis=1).astype(np.float64)
    scores, labels = rng.random(count), rng.integers(0, 3, count)
    kept, faded = soft_nms(segments, scores, labels, min_score=1e-4)
    expected = loop(segments, scores, labels, 0.5, 1e-4)
    assert kept.tolist() == [index for index, _ in expected]
    np.testing.assert_allclose(faded, [score for _, score in expected], rtol=1e-9)


@given(candidates(), st.integers(1, 10))
def test_kept_segments_give_themselves_again(given_candidates, limit):
    segments, scores, labels = given_candidates
    kept, faded = soft_nms(segments, scores, labels, limit=limit)
    again, faded_again = soft_nms(segments[kept], scores[kept], labels[kept], limit=limit)
    assert again.tolist() == list(range(len(kept)))
    np.testing.assert_array_equal(faded_again, faded)


@given(candidates())
def test_labels_do_not_touch_each_other(given_candidates):
    segments, scores, labels = given_candidates
    together = dict(zip(*(part.tolist() for part in soft_nms(segments, scores, labels)), strict=True))
    apart = {}
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        kept, faded = soft_nms(segments[own], scores[own])
        apart |= dict(zip(own[kept].tolist(), faded.tolist(), strict=True))
    assert together == pytest.approx(apart)


def test_a_double_fades_and_a_neighbour_does_not():
    segments = np.array([[0.0, 10.0], [0.0, 10.0], [10.0, 20.0]])
    kept, faded = soft_nms(segments, np.array([0.9, 0.8, 0.7]), sigma=0.5)
    assert kept.tolist() == [0, 2, 1]
    np.testing.assert_allclose(faded, [0.9, 0.7, 0.8 * math.exp(-2.0)])


def test_limit_and_nothing():
    segments = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    assert soft_nms(segments, np.array([0.1, 0.3, 0.2]), limit=2)[0].tolist() == [1, 2]
    assert soft_nms(np.zeros((0, 2)), np.zeros(0))[0].tolist() == []
    assert soft_nms(np.zeros((0, 2)), np.zeros(0), np.zeros(0, dtype=int))[0].tolist() == []
    assert soft_nms(segments, np.zeros(3))[0].tolist() == []


def test_zero_length_segments_are_finite():
    _, faded = soft_nms(np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 2.0]]), np.array([0.9, 0.8, 0.7]))
    np.testing.assert_allclose(faded, [0.9, 0.8, 0.7])


def test_published_variant_drops_the_last_and_raises_scores():
    segments = np.array([[0.0, 0.5], [0.4, 0.45], [0.9, 1.0]])
    kept, scores = published_soft_nms(segments, np.array([0.9, 0.5, 0.0]))
    assert kept.tolist()[0] == 0
    assert len(kept) < len(segments)
    lone, _ = published_soft_nms(segments[:1], np.array([0.9]))
    assert lone.tolist() == []
    raised, raised_scores = published_soft_nms(
        np.array([[0.0, 0.02], [0.5, 1.0], [0.99, 1.0]]), np.array([0.9, 0.8, 0.1])
    )
    assert raised.tolist()[:2] == [0, 1]
    assert raised_scores[1] > 0.8
    assert np.all(np.isfinite(scores))
