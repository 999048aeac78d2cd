"""Detections made from others: the whole video, and the true class."""

from __future__ import annotations

import pytest

from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.formats.annotations import Annotations, Instance, Video
from stale_edge_runtime.metrics.baselines import (
    TRUE_CLASS,
    WHOLE_TRUE,
    WHOLE_VIDEO,
    reference_points,
    true_classes,
    whole_videos,
)

TRUTH = Annotations(
    "truth",
    (
        Video("a", "validation", 100.0, (Instance(10, 30, "run"), Instance(50, 70, "jump"))),
        Video("b", "validation", 20.0, (Instance(0, 20, "run"),)),
        Video("c", "validation", 30.0, ()),
    ),
)
FOUND = {
    "a": [
        Detection(11, 30, "swim", 0.6),
        Detection(11, 30, "run", 0.3),
        Detection(52, 70, "run", 0.5),
        Detection(80, 90, "swim", 0.2),
    ],
    "c": [Detection(0, 1, "run", 0.5)],
    "unknown": [Detection(0, 1, "run", 0.5)],
}


def test_each_label_is_kept_once_as_long_as_the_video():
    assert whole_videos(TRUTH, FOUND) == {
        "a": [Detection(0.0, 100.0, "swim", 0.6), Detection(0.0, 100.0, "run", 0.5)],
        "b": [],
        "c": [Detection(0.0, 30.0, "run", 0.5)],
    }


def test_each_segment_is_kept_once_with_the_label_of_what_it_overlaps():
    found = true_classes(TRUTH, FOUND)
    assert found["a"] == [
        Detection(11, 30, "run", pytest.approx(0.9)),
        Detection(52, 70, "jump", 0.5),
        Detection(80, 90, "run", 0.2),
    ]
    assert found["b"] == found["c"] == []


def test_reference_points_by_hand():
    truth = Annotations(
        "truth",
        (
            Video("a", "validation", 100.0, (Instance(10, 30, "jump"),)),
            Video("b", "validation", 20.0, (Instance(0, 20, "run"),)),
        ),
    )
    found = {"a": [Detection(10, 30, "run", 0.9)], "b": [Detection(0, 10, "run", 0.8)]}
    points = reference_points(truth, found, (0.5, 0.9))
    # The jump is found once it is called one; half of the run is found at the lower threshold alone.
    assert points[TRUE_CLASS] == pytest.approx((1 + 0.5) / 2)
    # The run of b is found after a false one of a, so that its precision is a half; no jump is found.
    assert points[WHOLE_VIDEO] == pytest.approx(0.5 / 2)
    # The run is as long as its video, the jump is not.
    assert points[WHOLE_TRUE] == pytest.approx(1 / 2)
    assert list(points) == [WHOLE_VIDEO, TRUE_CLASS, WHOLE_TRUE]
