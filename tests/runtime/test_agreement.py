"""Agreement of two detectors, in the task's units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.metrics.agreement import Agreement, agreement


def floats(low, high):
    """Without subnormal numbers: a session of onnxruntime switches them off for the whole thread."""
    return st.floats(low, high, allow_subnormal=False)


detections = st.lists(
    st.builds(
        lambda start, length, label, score: Detection(start, start + length, label, score),
        floats(0, 100),
        floats(0.1, 50),
        st.sampled_from("abc"),
        floats(0, 1),
    ),
    max_size=15,
)


def moved(found, *, start_s=0.0, end_s=0.0, label=None, scale=1.0):
    return Detection(found.start_s + start_s, found.end_s + end_s, label or found.label, found.score * scale)


A = [Detection(0, 10, "run", 0.9), Detection(20, 40, "jump", 0.7), Detection(50, 90, "run", 0.4)]


def test_equal_lists_agree_fully():
    same = agreement(A, A)
    assert same.matched_share == 1.0
    assert (same.flips, same.flip_share) == (0, 0.0)
    assert same.rank_correlation == 1.0
    assert same.shift_median_s == same.shift_p95_s == 0.0


def test_boundary_shifts_are_in_seconds_and_break_the_match_beyond_tiou_095():
    shifted = agreement(A, [moved(A[0]), moved(A[1], start_s=0.5, end_s=-0.25), moved(A[2], end_s=5.0)])
    assert shifted.paired == 3
    assert shifted.matched == 2  # 19.25 / 20 = 0.9625 still matches, 40 / 45 does not
    assert sorted(shifted.shifts_s) == [0, 0, 0, 0.25, 0.5, 5.0]
    assert shifted.matched_share == pytest.approx(2 / 3)


def test_tiou_of_095_itself_matches():
    assert agreement([Detection(0, 100, "run", 1)], [Detection(0, 95, "run", 1)]).matched == 1
    assert agreement([Detection(0, 100, "run", 1)], [Detection(0, 94.9, "run", 1)]).matched == 0


def test_another_class_at_the_same_place_is_a_flip():
    flipped = agreement(A, [A[0], moved(A[1], label="swim"), A[2]])
    assert flipped.flips == 1
    assert flipped.matched == 2
    assert flipped.flip_share == pytest.approx(1 / 3)


def test_a_second_class_beside_the_right_one_is_no_flip():
    extra = agreement(A, [*A, moved(A[1], label="swim")])
    assert extra.flips == 0
    assert extra.matched_share == pytest.approx(6 / 7)


def test_order_of_scores():
    reversed_scores = [moved(d, scale=s) for d, s in zip(A, (0.1, 1.0, 10.0), strict=True)]
    assert agreement(A, reversed_scores).rank_correlation == -1.0
    swapped = [moved(A[0]), Detection(20, 40, "jump", 0.3), moved(A[2])]
    assert agreement(A, swapped).rank_correlation == pytest.approx(1 / 3)


def test_nothing_found_by_both_is_full_agreement_and_by_one_is_none():
    nothing = agreement([], [])
    assert nothing.matched_share == 1.0
    assert nothing.rank_correlation is nothing.shift_median_s is nothing.shift_p95_s is None
    assert agreement(A, []).matched_share == 0.0


@given(a=detections, b=detections)
def test_agreement_is_the_same_both_ways(a, b):
    there, back = agreement(a, b), agreement(b, a)
    assert there.detections == back.detections[::-1]
    assert there.matched <= there.paired <= min(len(a), len(b))
    assert 0 <= there.matched_share <= 1
    assert 0 <= there.flip_share <= 1
    assert agreement(a, a).matched == len(a)


def test_many_videos_add_up():
    one, two = agreement(A, A), agreement(A, [moved(A[0], end_s=1.0)])
    total = Agreement.total([one, two])
    assert total.videos == 2
    assert total.detections == (6, 4)
    assert total.matched == 3
    assert total.matched_share == pytest.approx(0.6)
    assert total.concordant == one.concordant + two.concordant
    assert len(total.shifts_s) == 8
    assert np.percentile(total.shifts_s, 95) == total.shift_p95_s


def test_no_videos():
    assert Agreement.total([]).matched_share == 1.0
