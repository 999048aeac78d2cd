"""The score to cut at."""

from __future__ import annotations

import numpy as np
import pytest

from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.formats.annotations import Annotations, Instance, Video
from stale_edge_runtime.metrics.evaluation import evaluate
from stale_edge_runtime.metrics.threshold import best_f1_score


@pytest.mark.parametrize(
    ("is_true", "instances", "expected"),
    [((1, 1, 0, 1, 0), 3, 0.2), ((0, 1, 0, 0, 1), 2, 0.9), ((0, 0, 1, 1, 0), 9, 0.5), ((0, 0, 0, 0, 0), 3, 0.0)],
)
def test_the_cut_has_the_highest_f1(is_true, instances, expected):
    scores = np.array([0.2, 0.9, 0.5, 0.5, 0.1])
    cut = best_f1_score(scores, np.array(is_true, bool), instances)
    assert cut == expected

    def f1(least):
        kept = scores >= least
        return 2 * np.array(is_true)[kept].sum() / (kept.sum() + instances)

    assert f1(cut) == max(map(f1, scores))


def test_nothing_found_suggests_nothing():
    assert best_f1_score(np.zeros(0), np.zeros(0, bool), 3) == 0


def test_an_evaluation_suggests_a_score_over_all_classes():
    truth = Annotations("gt", (Video("a", "test", 9.0, (Instance(0, 4, "x"), Instance(5, 9, "y"))),))
    found = [Detection(0, 4, "x", 0.8), Detection(5, 9, "y", 0.3), Detection(0, 9, "y", 0.2), Detection(0, 9, "x", 0.1)]
    assert evaluate(truth, {"a": found}).suggested_min_score == 0.3
