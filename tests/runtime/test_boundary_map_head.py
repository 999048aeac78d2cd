"""Decoding of the boundary map on cases made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from stale_edge_runtime.contract import Kind, ModelInfo, Precision
from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.heads.base import Choices
from stale_edge_runtime.heads.boundary_map import (
    CLASS_GRAM,
    GUIDE,
    MAX_CELLS,
    PAIR_LOGITS,
    cell_count,
    cell_size,
    class_shares,
    decode,
    peaks,
    refine,
    segment_logits,
)
from stale_edge_runtime.labelling import Labeller

CLASSES = ("run", "jump", "swim")
INFO = ModelInfo(Kind.OPEN, Precision.FP32, 512, "test", network="boundary-map")


def planted(snippets, actions):
    """Outputs for actions (first cell, edge after the last, class, logit)."""
    cells = cell_count(snippets)
    pairs = np.full((cells, cells), -12.0, np.float32)
    vectors = np.zeros((cells, 3), np.float32)
    for first, end, label, logit in actions:
        pairs[first, end - 1] = logit
        vectors[first:end, label] = 1
    guide = np.zeros(snippets, np.float32)
    return {PAIR_LOGITS: pairs, "class_logits": 50 * vectors, CLASS_GRAM: vectors @ vectors.T, GUIDE: guide}


def found(outputs, duration_s=100.0):
    return decode(outputs, duration_s, classes=CLASSES, info=INFO)


def likely(outputs, duration_s=100.0, above=0.1):
    return sorted(item[:3] for item in found(outputs, duration_s) if item.score > above)


@pytest.mark.parametrize(
    "actions",
    [
        [(10, 30, 0, 4.0)],
        [(10, 30, 1, 4.0), (30, 50, 1, 3.0)],  # adjacent
        [(10, 60, 2, 4.0), (20, 30, 2, 3.0)],  # nested
        [(0, 100, 0, 4.0)],  # the whole video
        [(40, 41, 1, 4.0)],  # one snippet
        [(99, 100, 1, 4.0)],
    ],
)
def test_planted_actions_are_found_with_their_edges_and_classes(actions):
    assert likely(planted(100, actions)) == [(float(a), float(b), CLASSES[label]) for a, b, label, _ in sorted(actions)]


def test_segments_of_several_classes_get_each_its_own_class_likelier():
    outputs = planted(100, [(10, 30, 0, 4.0), (60, 80, 2, 3.0)])
    best = {}
    for item in found(outputs):
        best.setdefault((item.start_s, item.end_s), set()).add(item.label)
    assert {"run"} <= best[10.0, 30.0]
    assert {"swim"} <= best[60.0, 80.0]


def test_a_pair_beside_a_higher_one_is_no_peak():
    pairs = np.full((50, 50), -12.0, np.float32)
    pairs[10, 20], pairs[11, 21], pairs[30, 40] = 3.0, 2.0, 1.0
    cells, scores = peaks(pairs, 2)
    assert cells.tolist() == [[10, 21], [30, 41]]
    assert scores == pytest.approx(1 / (1 + np.exp([-3.0, -1.0])))


def test_what_lies_below_the_diagonal_means_nothing():
    outputs = planted(100, [(10, 30, 0, 4.0)])
    before = found(outputs)
    outputs[PAIR_LOGITS][np.tri(100, k=-1, dtype=bool)] = 50.0
    assert found(outputs) == before


def test_segment_logits_are_cosines_of_pooled_features():
    rng = np.random.default_rng(0)
    cells, texts = rng.standard_normal((40, 6)), rng.standard_normal((5, 6))
    segments = np.array([[0, 40], [3, 4], [10, 25]])
    pooled = np.stack([cells[start:end].mean(axis=0) for start, end in segments])
    expected = pooled @ texts.T / np.linalg.norm(pooled, axis=1, keepdims=True)
    got = segment_logits((cells @ texts.T).astype(np.float32), (cells @ cells.T).astype(np.float32), segments)
    assert got == pytest.approx(expected, abs=1e-4)


def test_long_videos_get_edges_between_cells():
    snippets = 1000
    size = cell_size(snippets)
    guide = np.full(snippets, -1.0, np.float32)
    guide[203:517] = 1.0
    segments = np.array([[round(203 / size), round(517 / size)], [0, cell_count(snippets)]])
    assert refine(guide, segments).tolist() == [[203, 517], [0, 1000]]


@pytest.mark.parametrize("snippets", [1, 2, 127, 128, 129, 255, 257, 8192])
def test_cells_cover_the_video_and_are_few(snippets):
    size, count = cell_size(snippets), cell_count(snippets)
    assert count <= MAX_CELLS
    assert size * (count - 1) < snippets <= size * count


def test_there_is_no_published_decoding():
    with pytest.raises(UsageError, match="no published decoding"):
        decode(planted(10, []), 1.0, classes=CLASSES, info=INFO, choices=Choices("stale"))


def test_an_external_classifier_names_segments_that_the_map_finds():
    outputs = planted(100, [(10, 30, 0, 4.0), (50, 60, 1, 2.0)])
    own = [item for item in found(outputs) if item.score > 0.1]
    named = decode(outputs, 100.0, classes=CLASSES, info=INFO, choices=Choices(external=("swim", 0.81)))
    assert {item.label for item in named} == {"swim"}
    assert {item[:2] for item in named[:2]} == {item[:2] for item in own}
    assert named[0].score == pytest.approx((0.81 * sum(x.score for x in found(outputs) if x[:2] == own[0][:2])) ** 0.5)
    assert len({item[:2] for item in named}) == len(named)


@pytest.mark.parametrize("snippets", [100, 1000])
def test_segments_of_another_network_get_the_classes_of_what_they_show(snippets):
    cells = cell_count(snippets)
    outputs = planted(snippets, [(0, cells // 2, 0, 4.0), (cells // 2, cells, 2, 2.0)])
    half = cell_size(snippets) * (cells // 2)
    shares = class_shares(outputs, np.array([[0.0, half], [half + 0.5, snippets], [snippets - 0.1, snippets + 9.0]]))
    assert shares.shape == (3, 3)
    assert np.allclose(shares.sum(axis=1), 1)
    assert shares[0].argmax() == 0
    assert shares[1, 2] == pytest.approx(shares[2, 2])
    assert shares[1, 2] > shares[0, 2]
    labeller = Labeller(lambda _, segments: class_shares(outputs, segments), CLASSES)
    times = [Detection(0.0, half, "action", 0.81), Detection(float(half), float(snippets), "action", 0.5)]
    named = labeller.label(times, np.zeros((snippets, 1), np.float32), float(snippets))
    assert named[0] == Detection(0.0, half, "run", pytest.approx((0.81 * shares[0, 0]) ** 0.5))
    assert len(named) == 4
    assert labeller.label([], np.zeros((snippets, 1), np.float32), 1.0) == []
