"""Decoding: the published numbers in compat, planted actions by default, and what must hold for any input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_edge_runtime import Detection, decode
from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.heads.stale_proposals import DecodeOptions, _summed, fixed_point
from stale_edge_runtime.heads.stale_published import published_proposals
from stale_edge_runtime.segments import tiou

DATA = Path(__file__).parents[1] / "data"
GOLDEN = json.loads((DATA / "decode_golden.json").read_text())
LENGTHS = [1, 2, 3, 50, 99, 100, 101, 257, 1000]


def golden_outputs(case):
    if case.startswith("planted"):
        arrays = np.load(DATA / "decode_planted.npz")
        scores, masks, video = (arrays[f"{case}_{part}"] for part in ("scores", "masks", "video"))
    else:
        arrays = np.load(DATA / f"decode_forward{case[-1]}.npz")
        scores, masks, video = (arrays[part] for part in ("scores", "masks", "video"))
    return scores.T, masks, video


def plant(actions, snippets, *, classes=20, anchors=100, noise=0.5, seed=0):
    """Outputs of a network that sees `actions`, (first snippet, one past the last, class), nearly clearly."""
    rng = np.random.default_rng(seed)
    class_logits = rng.normal(0, noise, (snippets, classes + 1)).astype(np.float32)
    class_logits[:, -1] += 10
    masks = rng.uniform(0, 0.2, (anchors, snippets)).astype(np.float32)
    video_logits = rng.normal(0, noise, classes).astype(np.float32)
    for first, end, label in actions:
        class_logits[first:end, -1] -= 10
        class_logits[first:end, label] += 10
        rows = slice(first * anchors // snippets, (end - 1) * anchors // snippets + 1)
        masks[rows, first:end] = rng.uniform(0.8, 1, masks[rows, first:end].shape)
        video_logits[label] = 8
    return class_logits, masks, video_logits


def random_outputs(seed, snippets, classes, anchors, scale=5.0):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(0, scale, (snippets, classes + 1)).astype(np.float32),
        rng.uniform(0, 1, (anchors, snippets)).astype(np.float32),
        rng.normal(0, scale, classes).astype(np.float32),
    )


def assert_sound(found, duration_s, limit=100):
    assert len(found) <= limit
    for detection in found:
        assert 0.0 <= detection.start_s < detection.end_s <= duration_s
        assert 0.0 <= detection.score <= 1.0
    scores = [detection.score for detection in found]
    assert scores == sorted(scores, reverse=True)
    assert len({(d.start_s, d.end_s, d.label) for d in found}) == len(found)


def as_table(found):
    return np.array([(d.start_s, d.end_s, d.score, int(d.label)) for d in found])


@pytest.mark.parametrize("case", GOLDEN)
def test_published_proposals_are_golden(case):
    class_logits, masks, _ = golden_outputs(case)
    ours = published_proposals(class_logits, masks)
    golden = np.array(GOLDEN[case]["proposals"])
    assert np.all(golden[:, 4] == ours.label)
    table = np.column_stack([ours.segments, ours.class_scores, ours.snippet_scores])
    assert table.shape == golden[:, :4].shape
    np.testing.assert_allclose(table, golden[:, :4], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("case", GOLDEN)
def test_published_detections_are_golden(case):
    found = as_table(decode(*golden_outputs(case), 100.0, compat="stale"))
    golden = np.array(GOLDEN[case]["detections"])
    assert found.shape == golden.shape
    np.testing.assert_allclose(found[:, [0, 1, 3]], golden[:, [0, 1, 3]], atol=1e-9)
    np.testing.assert_allclose(found[:, 2], golden[:, 2], rtol=1e-5, atol=1e-300)


@pytest.mark.parametrize("case", GOLDEN)
def test_published_enhancement_is_golden(case):
    enhanced = GOLDEN[case]["enhanced"]
    external = (str(enhanced["external_class"]), enhanced["external_score"])
    found = as_table(decode(*golden_outputs(case), 100.0, compat="stale", external=external))
    golden = np.array(enhanced["detections"])
    assert set(golden[:, 3]) != {enhanced["external_class"]}  # some labels stay, some do not
    assert found.shape == golden.shape
    np.testing.assert_allclose(found, golden, rtol=1e-5, atol=1e-300)


@pytest.mark.parametrize("snippets", [1, 2, 3, 7, 101, 257])
def test_published_decoding_takes_any_length(snippets):
    found = decode(*random_outputs(snippets, snippets, 5, 10), 60.0, compat="stale")
    for detection in found:
        assert 0.0 <= detection.start_s < detection.end_s <= 60.0
        assert np.isfinite(detection.score)


PLANTED = [
    pytest.param(100, [(10, 25, 3), (40, 60, 3), (80, 95, 3)], id="one class, three times"),
    pytest.param(100, [(0, 30, 3), (50, 60, 7), (61, 100, 3)], id="two classes, touching the borders"),
    pytest.param(57, [(5, 12, 0), (20, 28, 19), (30, 50, 0)], id="fewer snippets than anchors"),
    pytest.param(200, [(8, 20, 3), (24, 40, 7), (44, 60, 3), (100, 110, 7), (112, 150, 3)], id="close runs"),
    pytest.param(1000, [(100, 120, 3), (300, 700, 7), (720, 800, 3)], id="short and long"),
    pytest.param(3000, [(k * 100, k * 100 + 40 + k, k % 2) for k in range(29)], id="many"),
    pytest.param(8192, [(1000, 2500, 3), (2600, 2700, 3), (6000, 8192, 7)], id="longest"),
    pytest.param(100, [(0, 100, 4)], id="whole video"),
]


@pytest.mark.parametrize(("snippets", "actions"), PLANTED)
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_actions_come_first(snippets, actions, seed):
    duration_s = 2.0 * snippets
    found = decode(*plant(actions, snippets, seed=seed), duration_s)
    assert_sound(found, duration_s)
    best = as_table(found[: len(actions)])
    truth = 2.0 * np.array([action[:2] for action in actions], dtype=np.float64)
    overlap = tiou(truth, best[:, :2])
    assert np.all(overlap.max(axis=1) > 0.9)
    assert sorted(overlap.argmax(axis=1)) == list(range(len(actions)))
    assert best[overlap.argmax(axis=1), 3].tolist() == [label for *_, label in actions]


def test_planted_boundaries_are_snippet_borders():
    found = decode(*plant([(30, 45, 2)], 90, noise=0.1), 45.0, classes=[f"class {i}" for i in range(20)])
    assert (found[0].start_s, found[0].end_s, found[0].label) == (15.0, 22.5, "class 2")
    assert isinstance(found[0].score, float)


@pytest.mark.parametrize(("anchors", "snippets"), [(1, 1), (1, 5), (3, 1), (7, 101), (100, 257)])
def test_differences_of_the_table_are_sums_of_masks(anchors, snippets):
    rng = np.random.default_rng(anchors * snippets)
    masks = rng.random((anchors, snippets), dtype=np.float32)
    masks[0, 0] = 1.0
    table = _summed(masks)
    for _ in range(200):
        first, end = np.sort(rng.integers(0, snippets + 1, 2))
        top, bottom = np.sort(rng.integers(0, anchors + 1, 2))
        inside, before = (table[column * anchors + bottom] - table[column * anchors + top] for column in (end, first))
        expected = masks[top:bottom, first:end].sum(dtype=np.float64)
        assert (inside - before) / fixed_point(anchors) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_published_merges_what_default_keeps_apart():
    outputs = plant([(10, 25, 3), (70, 90, 3)], 100)
    published = decode(*outputs, 100.0, compat="stale")[0]
    assert published.start_s <= 10.0
    assert published.end_s >= 89.0
    assert {(d.start_s, d.end_s) for d in decode(*outputs, 100.0)[:2]} == {(10.0, 25.0), (70.0, 90.0)}


@pytest.mark.parametrize("snippets", LENGTHS)
@pytest.mark.parametrize("fill", ["equal", "high", "low"])
def test_flat_outputs(snippets, fill):
    value = {"equal": 0.0, "high": 1e4, "low": -1e4}[fill]
    logits = np.full((snippets, 6), value, dtype=np.float32)
    found = decode(logits, np.full((100, snippets), 0.5, dtype=np.float32), logits[0, :5], 10.0)
    assert_sound(found, 10.0)
    assert {(d.start_s, d.end_s) for d in found} == {(0.0, 10.0)}
    assert len({d.score for d in found}) == 1


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    snippets=st.one_of(st.sampled_from([1, 2, 3]), st.integers(1, 130)),
    classes=st.integers(1, 12),
    anchors=st.sampled_from([1, 7, 100]),
    scale=st.sampled_from([0.0, 1e-3, 3.0, 100.0, 1e4]),
    duration_s=st.floats(1e-3, 1e6),
    external=st.one_of(st.none(), st.tuples(st.just("0"), st.floats(-2, 2))),
)
def test_any_input_gives_sound_detections(seed, snippets, classes, anchors, scale, duration_s, external):
    outputs = random_outputs(seed, snippets, classes, anchors, scale)
    before = [array.copy() for array in outputs]
    found = decode(*outputs, duration_s, external=external)
    assert_sound(found, duration_s)
    assert found == decode(*outputs, duration_s, external=external)
    for array, copy in zip(outputs, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), snippets=st.integers(1, 120), classes=st.integers(2, 9))
def test_order_of_classes_does_not_matter(seed, snippets, classes):
    class_logits, masks, video_logits = random_outputs(seed, snippets, classes, 100)
    order = np.random.default_rng(seed).permutation(classes)
    names = [f"class {index}" for index in range(classes)]
    plain = decode(class_logits, masks, video_logits, 50.0, classes=names)
    shuffled = decode(
        np.column_stack([class_logits[:, order], class_logits[:, -1]]),
        masks,
        video_logits[order],
        50.0,
        classes=[names[index] for index in order],
    )
    # Sums run in another order: scores agree up to rounding, which may swap neighbours far down the list.
    np.testing.assert_allclose([d.score for d in shuffled], [d.score for d in plain], rtol=1e-3)
    assert [d.label for d in shuffled[:1]] == [d.label for d in plain[:1]]


def test_scores_grow_with_evidence():
    strong, weak = (decode(*plant([(20, 50, 1)], 100, noise=noise), 100.0)[0] for noise in (0.1, 2.5))
    assert strong.score > weak.score


def test_video_logits_lower_a_class_without_a_veto():
    class_logits, masks, video_logits = plant([(10, 30, 3), (60, 80, 7)], 100)
    video_logits[7] = -1e4
    found = decode(class_logits, masks, video_logits, 100.0)
    best = {label: max(d.score for d in found if d.label == label) for label in ("3", "7")}
    assert 0 < best["7"] < best["3"]
    assert (60.0, 80.0, "7") in {(d.start_s, d.end_s, d.label) for d in found}


def test_options():
    outputs = random_outputs(0, 100, 5, 100)
    assert len(decode(*outputs, 10.0, options=DecodeOptions(max_detections=3))) == 3
    assert len({d.label for d in decode(*outputs, 10.0, options=DecodeOptions(max_classes=1))}) == 1
    floor = decode(*outputs, 10.0, options=DecodeOptions(min_score=0.02))
    assert min(d.score for d in floor) > 0.02
    for wrong in ({"max_detections": 0}, {"min_score": -0.1}, {"sigma": 0.0}, {"sigma": float("nan")}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            DecodeOptions(**wrong)
    with pytest.raises(UsageError, match="compat='stale'"):
        decode(*outputs, 10.0, compat="stale", options=DecodeOptions())
    with pytest.raises(UsageError, match="'STALE'"):
        decode(*outputs, 10.0, compat="STALE")


def test_enhancement_replaces_labels_of_lower_scores_only():
    outputs = plant([(10, 30, 3), (60, 80, 7)], 100)
    plain = decode(*outputs, 100.0)
    level = plain[0].score - 1e-6
    enhanced = decode(*outputs, 100.0, external=("diving", level))
    assert enhanced[0] == plain[0]
    assert {d.label for d in enhanced[1:]} == {"diving"}
    assert [d.score for d in enhanced[:2]] == [d.score for d in plain[:2]]
    assert decode(*outputs, 100.0, external=("diving", 0.0)) == plain
    assert_sound(enhanced, 100.0)


def test_enhancement_leaves_no_doubles():
    logits = np.zeros((10, 4), dtype=np.float32)
    masks = np.full((100, 10), 0.5, dtype=np.float32)
    assert len(decode(logits, masks, logits[0, :3], 10.0)) == 3
    one = decode(logits, masks, logits[0, :3], 10.0, external=("diving", 1.0))
    assert [(d.start_s, d.end_s, d.label) for d in one] == [(0.0, 10.0, "diving")]


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types(dtype):
    outputs = plant([(10, 30, 3)], 100)
    first = decode(*(array.astype(dtype) for array in outputs), 100.0)[0]
    assert (first.start_s, first.end_s, first.label) == (10.0, 30.0, "3")


def changed(position, change):
    outputs = list(random_outputs(0, 10, 4, 20))
    outputs[position] = change(outputs[position])
    return outputs


def put(value):
    def change(array):
        array.flat[3] = value
        return array

    return change


@pytest.mark.parametrize("compat", [None, "stale"])
@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (changed(0, put(np.nan)), "class_logits: holds 1 values that are not finite"),
        (changed(0, put(-np.inf)), "class_logits: holds 1 values that are not finite"),
        (changed(0, lambda a: a.astype(np.float64) * 1e300), "class_logits: holds 50 values that are not finite"),
        (changed(1, put(np.nan)), "masks: holds 1 values"),
        (changed(1, put(1.5)), r"masks: reach from \S+ to 1.5"),
        (changed(1, put(-0.5)), "masks: reach from -0.5"),
        (changed(2, put(np.inf)), "video_logits: holds 1 values"),
        (changed(0, lambda a: a[:, :-1]), "class_logits: has 4 columns, video_logits has 4 classes"),
        (changed(0, lambda a: a[None]), r"class_logits: has shape \(1, 10, 5\)"),
        (changed(0, lambda a: a[:0]), r"class_logits: has shape \(0, 5\)"),
        (changed(1, lambda a: a[:, :-1]), "masks: cover 9 snippets, class_logits 10"),
        (changed(1, lambda a: a[:0]), r"masks: has shape \(0, 10\)"),
        (changed(2, lambda a: a[:, None]), r"video_logits: has shape \(4, 1\)"),
        (changed(2, lambda a: a.astype(object)), "video_logits: has shape .* and type object"),
        (changed(2, lambda a: a.astype(complex)), "type complex128"),
    ],
)
def test_bad_outputs_are_refused(outputs, message, compat):
    with pytest.raises(BadDataError, match=message) as caught:
        decode(*outputs, 10.0, compat=compat)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("duration_s", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_duration_is_refused(duration_s):
    with pytest.raises(BadDataError, match="duration_s"):
        decode(*random_outputs(0, 10, 4, 20), duration_s)


def test_bad_names_are_refused():
    with pytest.raises(BadDataError, match="classes: are 3 names for 4 classes"):
        decode(*random_outputs(0, 10, 4, 20), 1.0, classes=["a", "b", "c"])
    with pytest.raises(BadDataError, match="external: has score nan"):
        decode(*random_outputs(0, 10, 4, 20), 1.0, external=("a", float("nan")))


def test_detections_do_not_change():
    detection = Detection(0.0, 1.0, "diving", 0.5)
    with pytest.raises(AttributeError):
        detection.score = 1.0
    assert not hasattr(detection, "__dict__")
