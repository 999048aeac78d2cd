"""Windows over long videos: no seams, no doubles, nothing lost."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.heads.stale import decode
from stale_edge_runtime.stream import DetectionStream
from stale_edge_runtime.windows import WindowMerger, WindowPlan, detect_in_windows

SNIPPET_S = 0.5


def floats(low, high):
    """Without subnormal numbers: a session of onnxruntime switches them off for the whole thread."""
    return st.floats(low, high, allow_subnormal=False)


def ruler(snippets):
    """Features that know their place, so that a made-up detector can look up what was planted there."""
    return np.arange(snippets, dtype=np.float32)[:, None]


def planted(actions, *, jitter=0.0, seed=0, least=1):
    """A detector that sees of every action what lies in its window, its own borders off by up to `jitter`."""

    def detect(features, duration_s):
        first, last = int(features[0, 0]), int(features[-1, 0]) + 1
        rng = np.random.default_rng([seed, first])
        snippet_s = duration_s / len(features)
        found = []
        for start, end, label, score in actions:
            a, b = max(start, first), min(end, last)
            if b - a < least:
                continue
            if jitter:
                a = a if a == first else float(np.clip(a + rng.uniform(-jitter, jitter), first, b - 0.5))
                b = b if b == last else float(np.clip(b + rng.uniform(-jitter, jitter), a + 0.5, last))
            found.append(
                Detection((a - first) * snippet_s, (b - first) * snippet_s, label, score * rng.uniform(0.9, 1))
            )
        return sorted(found, key=lambda d: -d.score)

    return detect


def detect(actions, snippets, plan, **kwargs):
    return detect_in_windows(planted(actions, **kwargs), ruler(snippets), plan, duration_s=snippets * SNIPPET_S)


plans = st.integers(2, 60).flatmap(lambda w: st.integers(1, w).map(lambda h: WindowPlan(w, h)))


@st.composite
def spaced_actions(draw):
    """Actions of one label never closer than 4 snippets: what a person would call separate."""
    actions = []
    for label in draw(st.sampled_from([["run"], ["run", "jump"]])):
        position = draw(st.integers(0, 12))
        for _ in range(draw(st.integers(0, 5))):
            length = draw(st.integers(3, 90))
            actions.append((position, position + length, label, draw(floats(0.2, 1.0))))
            position += length + draw(st.integers(4, 40))
    return actions


@given(plan=plans, snippets=st.integers(1, 400))
def test_spans_cover_every_snippet_and_end_with_the_video(plan, snippets):
    spans = list(plan.spans(snippets))
    assert len(spans) == plan.count(snippets)
    assert spans[0][0] == 0
    assert spans[-1][1] == snippets
    for (first, last), (next_first, next_last) in itertools.pairwise(spans):
        assert next_first - first == plan.hop
        assert next_first <= last < next_last
        assert last - first == plan.window


def test_no_windows_without_snippets():
    plan = WindowPlan.of(10)
    assert plan.hop == 5
    assert list(plan.spans(0)) == []
    assert plan.count(0) == 0


@pytest.mark.parametrize(("window", "hop"), [(0, 1), (10, 0), (10, 11), (-3, None)])
def test_a_plan_that_cannot_be_is_refused(window, hop):
    with pytest.raises(UsageError, match=r"--window|--hop"):
        WindowPlan.of(window, hop)


@given(
    found=st.lists(st.tuples(floats(0, 40), floats(0.01, 10), st.sampled_from("ab"), floats(0, 1)), max_size=12),
    extra=st.integers(0, 5),
)
def test_one_window_is_no_windows(found, extra):
    detections = [Detection(start, start + length, label, score) for start, length, label, score in found]
    same = detect_in_windows(
        lambda _features, duration_s: detections if duration_s == 50.0 else [],
        ruler(100),
        WindowPlan.of(100 + extra),
        duration_s=50.0,
    )
    assert same == detections


@given(found=st.lists(st.tuples(floats(0, 40), floats(0.01, 10), st.sampled_from("ab"), floats(0, 1)), max_size=12))
def test_the_merger_leaves_a_single_window_alone(found):
    detections = [Detection(start, start + length, label, score) for start, length, label, score in found]
    merger = WindowMerger(WindowPlan(100, 50), 0.5)
    merged = merger.add(0, 100, detections) + merger.finish()
    key = lambda d: (d.start_s, d.end_s, d.label, d.score)  # noqa: E731
    assert sorted(merged, key=key) == sorted(detections, key=key)


@given(actions=spaced_actions(), window=st.integers(6, 60), share=floats(0.1, 0.8))
@settings(max_examples=300)
def test_planted_actions_are_found_once_and_whole(actions, window, share):
    plan = WindowPlan(window, max(1, int(window * share)))
    snippets = max([end for _, end, _, _ in actions], default=0) + 7
    merged = detect(actions, snippets, plan)
    found = sorted((round(d.start_s, 6), round(d.end_s, 6), d.label) for d in merged)
    assert found == sorted((start * SNIPPET_S, end * SNIPPET_S, label) for start, end, label, _ in actions)


@given(actions=spaced_actions(), window=st.integers(24, 60), seed=st.integers(0, 1000))
@settings(max_examples=200)
def test_windows_that_disagree_a_little_still_find_every_action_once(actions, window, seed):
    actions = [action for action in actions if action[1] - action[0] >= 8]
    snippets = max([end for _, end, _, _ in actions], default=0) + 7
    merged = detect(actions, snippets, WindowPlan.of(window), jitter=1.0, seed=seed, least=3)
    assert len(merged) == len(actions)
    for start, end, label, score in actions:
        (found,) = [d for d in merged if d.label == label and abs(d.start_s - start * SNIPPET_S) <= 1.1]
        assert abs(found.end_s - end * SNIPPET_S) <= 1.1
        assert 0.9 * score <= found.score <= score


@given(actions=spaced_actions(), window=st.integers(6, 60))
def test_windows_that_only_touch_join_what_they_cut(actions, window):
    snippets = max([end for _, end, _, _ in actions], default=0) + 7
    merged = detect(actions, snippets, WindowPlan(window, window))
    assert len(merged) == len(actions)


@given(actions=spaced_actions(), plan=plans)
def test_results_are_sorted_inside_the_video_and_of_positive_length(actions, plan):
    snippets = 150
    merged = detect(actions, snippets, plan, jitter=2.0)
    assert [d.score for d in merged] == sorted((d.score for d in merged), reverse=True)
    assert all(0 <= d.start_s < d.end_s <= snippets * SNIPPET_S for d in merged)


def test_an_action_longer_than_many_windows_is_one_detection():
    (found,) = detect([(30, 970, "run", 0.8)], 1000, WindowPlan.of(100))
    assert (found.start_s, found.end_s) == (15.0, 485.0)


def test_two_labels_at_one_place_stay_two():
    actions = [(90, 130, "run", 0.8), (90, 130, "jump", 0.6)]
    assert {d.label for d in detect(actions, 200, WindowPlan.of(100))} == {"run", "jump"}


def test_a_cut_piece_with_a_rival_seen_whole_is_dropped_even_when_borders_differ():
    merger = WindowMerger(WindowPlan(100, 50), 1.0)
    early = merger.add(0, 100, [Detection(88, 100, "run", 0.4), Detection(95.5, 100, "run", 0.2)])
    late = merger.add(50, 150, [Detection(40, 70, "run", 0.9)])
    assert early == []
    assert late + merger.finish() == [Detection(90, 120, "run", 0.9)]


def test_a_piece_that_the_next_window_holds_whole_and_does_not_confirm_is_dropped():
    merger = WindowMerger(WindowPlan(100, 50), 1.0)
    merger.add(0, 100, [Detection(88, 100, "run", 0.4)])
    assert merger.add(50, 150, []) + merger.finish() == []


def test_a_border_that_no_window_sees_lies_in_the_middle_of_what_two_windows_see():
    merger = WindowMerger(WindowPlan(100, 50), 1.0)
    merger.add(0, 100, [Detection(20, 100, "run", 0.4)])
    found = merger.add(50, 150, [Detection(0, 90, "swim", 0.6)])
    found += merger.add(100, 200, []) + merger.finish()
    assert found == [Detection(20, 75, "run", 0.4), Detection(75, 140, "swim", 0.6)]


def test_pieces_that_hardly_overlap_are_one_action_which_ends_where_the_later_one_does():
    merger = WindowMerger(WindowPlan(100, 50), 1.0)
    merger.add(0, 100, [Detection(20, 100, "run", 0.8)])
    found = merger.add(50, 150, [Detection(0, 8, "run", 0.1)])
    assert found + merger.finish() == [Detection(20, 58, "run", 0.8)]


def test_a_chain_of_pieces_that_nobody_ends_ends_between_windows():
    merger = WindowMerger(WindowPlan(100, 50), 1.0)
    merger.add(0, 100, [Detection(20, 100, "run", 0.8)])
    merger.add(50, 150, [Detection(0, 100, "run", 0.7)])
    merger.add(100, 200, [])
    assert merger.finish() == [Detection(20, 125, "run", 0.8)]


def test_windows_that_do_not_overlap_keep_what_they_cut():
    merger = WindowMerger(WindowPlan(100, 100), 1.0)
    merger.add(0, 100, [Detection(20, 100, "run", 0.8)])
    assert merger.add(100, 200, []) + merger.finish() == [Detection(20, 100, "run", 0.8)]


def test_what_has_settled_comes_out_at_once_and_the_rest_waits():
    merger = WindowMerger(WindowPlan(100, 50), 1.0)
    first = merger.add(0, 100, [Detection(5, 20, "run", 0.5), Detection(60, 80, "run", 0.5)])
    assert first == [Detection(5, 20, "run", 0.5)]
    second = merger.add(50, 150, [Detection(10, 31, "run", 0.7)])
    assert second == [Detection(60, 81, "run", 0.7)]
    assert merger.finish() == []


@given(actions=spaced_actions(), plan=plans)
def test_what_has_settled_is_never_said_twice(actions, plan):
    merger = WindowMerger(plan, SNIPPET_S)
    find = planted(actions, jitter=1.5)
    said = []
    for first, last in plan.spans(200):
        rows = ruler(200)[first:last]
        said += merger.add(first, last, find(rows, (last - first) * SNIPPET_S))
    said += merger.finish()
    whole = detect_in_windows(find, ruler(200), plan, duration_s=200 * SNIPPET_S)
    if plan.count(200) > 1:
        key = lambda d: (-d.score, d.start_s, d.end_s, d.label)  # noqa: E731
        assert sorted(said, key=key) == whole


def test_what_the_merger_holds_does_not_grow_with_the_video():
    plan = WindowPlan(20, 10)
    merger = WindowMerger(plan, 1.0)
    held = []
    for first, last in plan.spans(20_000):
        # One action that never ends, and short ones around it.
        found = [Detection(0, 20, "run", 0.3), Detection(4, 7, "run", 0.9), Detection(12, 16, "jump", 0.5)]
        merger.add(first, last, found)
        held.append(sum(map(len, merger._live.values())) + sum(map(len, merger._settled.values())))
    assert max(held[-100:]) <= max(held[:100]) <= 20


def labels_the_clip(actions):
    """A detector that gives a window to the label that fills most of it, from the window's start to its end."""

    def detect(features, duration_s):
        first, last = int(features[0, 0]), int(features[-1, 0]) + 1
        shares = {label: max(0, min(end, last) - max(start, first)) for start, end, label, _ in actions}
        label = max(shares, key=lambda label: shares[label])
        return [Detection(0.0, duration_s, label, shares[label] / len(features))]

    return detect


@given(lengths=st.lists(st.integers(40, 400), min_size=2, max_size=10), window=st.integers(20, 120))
def test_joined_videos_that_are_labelled_as_clips_show_no_window(lengths, window):
    """Ten videos in a row, and a network that only knows what a window is about: no seam of the windows shows."""
    ends = np.cumsum(lengths)
    actions = [
        (int(end - length), int(end), f"label {k}", 0.9)
        for k, (end, length) in enumerate(zip(ends, lengths, strict=True))
    ]
    snippets, plan = int(ends[-1]), WindowPlan.of(window)
    find = labels_the_clip(actions)
    found = detect_in_windows(find, ruler(snippets), plan, duration_s=float(snippets))
    seams = {edge for span in plan.spans(snippets) for edge in span} - {0, snippets}
    if plan.window % 4 == 0:  # else the middle of an overlap lies between snippets
        assert not seams & {edge for one in found for edge in (one.start_s, one.end_s)}
    stream, said = DetectionStream(find, plan, 1.0), []
    for first in range(0, snippets, 37):
        said += stream.push(ruler(snippets)[first : first + 37])
    said += stream.finish()
    assert sorted(said) == sorted(found)
    # Every video is found, as far as a window can tell: to a quarter of a window at either end.
    for start, end, label, _ in actions:
        if end - start > 2 * window:
            best = max((one for one in found if one.label == label), key=lambda one: one.end_s - one.start_s)
            assert abs(best.start_s - start) <= 0.75 * window
            assert abs(best.end_s - end) <= 0.75 * window


def network(features):
    """What a perfect network would answer: column c of the features is 1 where class c happens."""
    anchors = 20
    snippets, classes = features.shape
    action = np.where(features.any(axis=1), features.argmax(axis=1) + 1, 0)
    run = np.cumsum(np.r_[True, action[1:] != action[:-1]]) * (action > 0)
    anchor_run = run[(np.arange(anchors) * snippets) // anchors]
    masks = np.where((anchor_run[:, None] == run[None]) & (run > 0), 0.95, 0.02)
    rng = np.random.default_rng(snippets)
    class_logits = 8.0 * np.c_[features, action == 0] + rng.normal(0, 0.1, (snippets, classes + 1))
    return class_logits, masks, class_logits[:, :classes].mean(axis=0)


@pytest.mark.parametrize(("window", "hop"), [(60, None), (60, 45), (50, 13), (80, None)])
def test_real_decoding_finds_planted_actions_across_seams_once_and_whole(window, hop):
    actions = [(20, 50, 0), (55, 62, 1), (80, 105, 0), (130, 290, 1), (330, 345, 2), (352, 368, 2)]
    features = np.zeros((400, 3), np.float32)
    for start, end, index in actions:
        features[start:end, index] = 1.0
    names = ("run", "jump", "swim")
    found = detect_in_windows(
        lambda rows, duration_s: decode(*network(rows), duration_s, classes=names),
        features,
        WindowPlan.of(window, hop),
        duration_s=200.0,
    )
    best = found[: len(actions)]
    assert {(d.start_s, d.end_s, d.label) for d in best} == {
        (start / 2, end / 2, names[index]) for start, end, index in actions
    }
    assert min(d.score for d in best) > 1.4 * found[len(actions)].score
