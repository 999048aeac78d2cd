"""mAP: the published numbers, a plain second implementation, and properties that any evaluator must have."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.formats.annotations import Annotations, Instance, Video, read_annotations
from stale_edge_runtime.formats.results import read_results
from stale_edge_runtime.metrics.evaluation import (
    ACTIVITYNET_TIOUS,
    THUMOS_TIOUS,
    evaluate,
    interpolated_average_precision,
    tiou_text,
)
from stale_edge_runtime.metrics.matching import UNMATCHED, Pairs, match


def ground_truth(videos):
    """Annotations of `{id: [(start, end, label), …]}`."""
    return Annotations(
        "gt.json",
        tuple(Video(name, "test", None, tuple(Instance(*i) for i in found)) for name, found in videos.items()),
    )


def perfect_copy(annotations):
    """The ground truth as detections, their scores distinct and in no particular order."""
    scores = [(k + 1) / (annotations.instance_count + 1) for k in range(annotations.instance_count)]
    random.Random(7).shuffle(scores)
    score = iter(scores)
    return {
        v.id: [Detection(i.start_s, i.end_s, i.label, next(score)) for i in v.instances] for v in annotations.videos
    }


def tiou_of(a, b):
    if (a.start_s, a.end_s) == (b.start_s, b.end_s):
        return 1.0
    shared = max(0.0, min(a.end_s, b.end_s) - max(a.start_s, b.start_s))
    union = (a.end_s - a.start_s) + (b.end_s - b.start_s) - shared
    return shared / union if union > 0 else 0.0


def plain_map(annotations, results, tiou):
    """mAP by the book: one detection after the other, one class after the other."""
    precisions = []
    for label in annotations.classes:
        free = {
            v.id: sorted((i for i in v.instances if i.label == label), key=lambda i: (i.start_s, i.end_s))
            for v in annotations.videos
        }
        count = sum(map(len, free.values()))
        ranking = [(name, d) for name, found in results.items() if name in free for d in found if d.label == label]
        ranking.sort(key=lambda nd: (-nd[1].score, nd[0], nd[1].start_s, nd[1].end_s))
        hits = []
        for name, detection in ranking:
            overlaps = [tiou_of(detection, instance) for instance in free[name]]
            best = max(range(len(overlaps)), key=lambda k: (overlaps[k], k), default=None)
            hit = best is not None and overlaps[best] >= tiou
            hits.append(hit)
            if hit:
                del free[name][best]
        precision = [sum(hits[: k + 1]) / (k + 1) for k in range(len(hits))]
        recall = [0.0, *(sum(hits[: k + 1]) / count for k in range(len(hits)))]
        steps = (
            (recall[k + 1] - recall[k]) * max(precision[k:]) for k in range(len(hits)) if recall[k + 1] != recall[k]
        )
        precisions.append(sum(steps))
    return sum(precisions) / len(precisions)


# Few ids, labels, times and scores: ties, duplicates, overlaps and empty segments are the rule.
IDS, LABELS = st.sampled_from(["a", "b", "c"]), st.sampled_from(["x", "y", "z"])
SPANS = st.tuples(st.integers(0, 6), st.integers(0, 6)).map(sorted)
VIDEOS = st.dictionaries(
    IDS, st.lists(st.builds(lambda s, label: (*s, label), SPANS, LABELS), max_size=5), min_size=1
).filter(lambda videos: any(videos.values()))
RESULTS = st.dictionaries(
    IDS,
    st.lists(st.builds(lambda s, label, k: Detection(*s, label, k / 4), SPANS, LABELS, st.integers(0, 4)), max_size=8),
)


@pytest.fixture(scope="module")
def golden(shared):
    folder = shared / "golden"
    truth = read_annotations(folder / "evaluate_ground_truth.json")
    expected = json.loads((folder / "evaluate.json").read_text())
    return truth, read_results(folder / "evaluate_predictions.json").detections, expected


def test_published_numbers(golden):
    truth, results, expected = golden
    result = evaluate(truth, results)
    assert list(result.map) == pytest.approx(list(expected["map"].values()), abs=1e-9)
    assert result.average_map == pytest.approx(expected["average"], abs=1e-9)
    assert (result.videos, sum(result.instances.values()), result.silent_videos) == (600, 941, 29)


def test_compat_leaves_out_videos_without_detections(golden):
    truth, results, _ = golden
    result = evaluate(truth, results, compat="stale")
    assert (result.videos, result.dropped_videos, result.silent_videos) == (571, 29, 0)
    shrunk = replace(truth, videos=tuple(v for v in truth.videos if v.id in results))
    assert result.map == evaluate(shrunk, results).map
    assert result.average_map > evaluate(truth, results).average_map


@pytest.mark.parametrize(
    ("name", "tious"),
    [
        ("activitynet/validation_ground_truth.json", ACTIVITYNET_TIOUS),
        ("activitynet/anet_anno_action.json", ACTIVITYNET_TIOUS),
        ("thumos14/thumos_gt.json", THUMOS_TIOUS),
        ("thumos14/thumos_fps.json", THUMOS_TIOUS),
    ],
)
def test_perfect_copy_of_real_annotations_scores_exactly_one(shared, name, tious):
    annotations = read_annotations(shared / "data" / name)
    annotations = annotations.subset(annotations.default_subset)
    result = evaluate(annotations, perfect_copy(annotations), tious)
    assert result.average_map == 1.0
    assert (result.average_precision == 1.0).all()


@given(videos=VIDEOS)
@example(videos={"a": [(2, 2, "x"), (2, 2, "x"), (3, 3, "x")], "b": [(0, 1, "y"), (0, 1, "y"), (0, 1, "z")]})
def test_perfect_copy_scores_exactly_one_with_duplicates_and_empty_segments(videos):
    truth = ground_truth(videos)
    assert evaluate(truth, perfect_copy(truth), (0.1, 0.5, 1.0)).map == (1.0, 1.0, 1.0)


@settings(max_examples=300)
@given(videos=VIDEOS, results=RESULTS)
def test_agrees_with_a_plain_implementation(videos, results):
    truth, tious = ground_truth(videos), (0.1, 0.3, 0.5, 0.75, 1.0)
    expected = [plain_map(truth, results, tiou) for tiou in tious]
    assert list(evaluate(truth, results, tious).map) == pytest.approx(expected, abs=1e-12)


@given(videos=VIDEOS, results=RESULTS, seed=st.integers(0, 1000))
def test_order_in_files_does_not_matter(videos, results, seed):
    def shuffled(items):
        items = list(items)
        random.Random(seed).shuffle(items)
        return items

    mixed_videos = {name: shuffled(found) for name, found in shuffled(videos.items())}
    mixed_results = {name: shuffled(found) for name, found in shuffled(results.items())}
    one, other = evaluate(ground_truth(videos), results), evaluate(ground_truth(mixed_videos), mixed_results)
    assert one.map == other.map
    assert one.to_json() == other.to_json()


@given(videos=VIDEOS, results=RESULTS)
def test_map_stays_in_range(videos, results):
    maps = evaluate(ground_truth(videos), results, (0.1, 0.5, 0.9)).map
    assert all(0 <= value <= 1 for value in maps)


@given(videos=VIDEOS, results=RESULTS)
def test_a_detection_below_all_others_never_lowers_the_map(videos, results):
    truth = ground_truth(videos)
    more = {**results, "a": [*results.get("a", []), Detection(0, 6, "x", -1.0)]}
    assert evaluate(truth, more).average_map >= evaluate(truth, results).average_map - 1e-12


@settings(max_examples=300)
@given(
    overlaps=st.lists(st.lists(st.integers(0, 4), min_size=5, max_size=5), max_size=8),
    threshold=st.sampled_from([0.25, 0.5, 1.0]),
)
def test_matching_serves_detections_one_by_one(overlaps, threshold):
    table = np.array(overlaps, dtype=float).reshape(-1, 5) / 4
    detection, instance = np.nonzero(table)
    tiou = table[detection, instance]
    order = np.lexsort((-instance, -tiou, detection))
    matched = match(Pairs(detection[order], instance[order], tiou[order]), threshold, len(table), 5)
    free = set(range(5))
    for row, found in zip(table, matched, strict=True):
        best = max(free, key=lambda k: (row[k], k), default=None)
        if best is None or row[best] < threshold:
            assert found == UNMATCHED
        else:
            assert found == best
            free.remove(best)


def test_second_detection_takes_the_next_best_instance():
    truth = ground_truth({"a": [(0, 10, "x"), (1, 11, "x")]})
    found = {"a": [Detection(0, 10, "x", 0.9), Detection(0, 10.1, "x", 0.8)]}
    assert evaluate(truth, found, (0.5,)).map == (1.0,)


def test_average_precision_is_interpolated():
    hits = np.array([[True, False, True, False], [False, False, False, True], [False, False, False, False]])
    assert interpolated_average_precision(hits, 2).tolist() == pytest.approx([(1 + 2 / 3) / 2, 0.25 / 2, 0.0])
    assert interpolated_average_precision(np.zeros((3, 0), dtype=bool), 2).tolist() == [0.0, 0.0, 0.0]


def test_unknown_labels_and_videos_are_reported_and_count_for_nothing():
    truth = ground_truth({"a": [(0, 10, "x")], "b": [(0, 10, "y")]})
    good = {"a": [Detection(0, 10, "x", 0.5)], "b": [Detection(0, 10, "y", 0.5)]}
    noisy = {"a": [*good["a"], Detection(0, 9, "new", 0.9)], "b": good["b"], "c": [Detection(0, 10, "x", 0.9)]}
    result = evaluate(truth, noisy)
    assert result.average_map == evaluate(truth, good).average_map == 1.0
    assert result.ignored_labels == {"new": 1}
    assert result.unknown_videos == {"c": 1}
    assert result.detections == 2


def test_compat_takes_detections_in_unknown_videos_as_false_positives():
    truth = ground_truth({"a": [(0, 10, "x")]})
    found = {"a": [Detection(0, 10, "x", 0.5)], "c": [Detection(0, 10, "x", 0.9)]}
    assert evaluate(truth, found, compat="stale").average_map == 0.5


def test_videos_without_detections_count():
    truth = ground_truth({"a": [(0, 10, "x")], "b": [(0, 10, "x")], "c": [(0, 1, "y")]})
    result = evaluate(truth, {"a": [Detection(0, 10, "x", 0.5)], "b": []})
    assert result.average_precision[:, 0].tolist() == [0.5, 0.0]
    assert (result.average_map, result.silent_videos) == (0.25, 2)
    assert evaluate(truth, {}).average_map == 0.0


def test_detections_in_videos_without_instances_are_false_positives():
    truth = ground_truth({"a": [(0, 10, "x")], "empty": []})
    found = {"a": [Detection(0, 10, "x", 0.5)], "empty": [Detection(0, 10, "x", 0.9)]}
    assert evaluate(truth, found).average_map == 0.5


def test_result_as_json():
    truth = ground_truth({"a": [(0, 10, "x"), (20, 30, "y")]})
    result = evaluate(truth, {"a": [Detection(0, 10, "x", 0.5), Detection(0, 1, "z", 0.5)]}, (0.5, 0.125))
    assert json.loads(json.dumps(result.to_json())) == {
        "average_map": 0.5,
        "map": {"0.50": 0.5, "0.125": 0.5},
        "classes": {
            "x": {"average": 1.0, "ap": {"0.50": 1.0, "0.125": 1.0}, "instances": 1},
            "y": {"average": 0.0, "ap": {"0.50": 0.0, "0.125": 0.0}, "instances": 1},
        },
        "videos": 1,
        "videos_without_detections": 0,
        "instances": 2,
        "detections": 1,
        "ignored": {"labels": {"z": 1}, "videos": {}, "ground_truth_videos": 0},
        "compat": None,
    }


def test_thresholds_as_text():
    assert [tiou_text(tiou) for tiou in (*THUMOS_TIOUS, 1.0, 0.123)] == [
        *("0.30", "0.40", "0.50", "0.60", "0.70", "1.00", "0.123")
    ]


@pytest.mark.parametrize("tious", [(), (0.0,), (1.1,), (0.5, float("nan")), (0.5,) * 1001])
def test_thresholds_out_of_range_are_refused(tious):
    with pytest.raises(UsageError, match="tIoU"):
        evaluate(ground_truth({"a": [(0, 1, "x")]}), {}, tious)


def test_ground_truth_without_instances_is_refused():
    with pytest.raises(BadDataError, match=r"gt\.json: has no instances; "):
        evaluate(ground_truth({"a": []}), {})
    with pytest.raises(BadDataError, match="in videos with detections"):
        evaluate(ground_truth({"a": [(0, 1, "x")]}), {}, compat="stale")


def test_unknown_compat_is_refused():
    with pytest.raises(UsageError, match="'other'"):
        evaluate(ground_truth({"a": [(0, 1, "x")]}), {}, compat="other")


def test_a_small_file_cannot_ask_for_all_memory():
    truth = ground_truth({"a": [(0, 10, "x")] * 3000})
    with pytest.raises(BadDataError, match="keep fewer detections"):
        evaluate(truth, {"a": [Detection(0, 10, "x", 0.5)] * 3000})


@pytest.mark.slow
def test_a_whole_validation_set_takes_seconds():
    random_ = random.Random(0)
    videos, results = {}, {}
    for index in range(4728):
        name, start = f"v{index}", random_.uniform(0, 50)
        videos[name] = [(start, start + 20, f"class {index % 200}")]
        results[name] = [
            Detection(s := random_.uniform(0, 50), s + 20, f"class {(index + k // 70) % 200}", random_.random())
            for k in range(100)
        ]
    truth = ground_truth(videos)
    began = time.process_time()
    evaluate(truth, results)
    assert time.process_time() - began < 20


def thumos(tmp_path, annotations):
    path = tmp_path / "gt.json"
    path.write_text(json.dumps({"database": {"video_test_0000001": {"subset": "test", "annotations": annotations}}}))
    return read_annotations(path)


def test_detections_over_ambiguous_segments_are_no_false_positives(tmp_path):
    jump = {"segment": [10, 20], "label": "jump"}
    truth = thumos(tmp_path, [jump, {"segment": [0, 3], "label": "Ambiguous"}])
    assert truth.classes == ("jump",)
    assert truth.ambiguous_count == 1
    right, touching = Detection(10.0, 20.0, "jump", 0.5), Detection(2.9, 8.0, "jump", 0.9)
    beside = touching._replace(start_s=3.1)
    assert evaluate(truth, {"video_test_0000001": [right, touching]}).average_map == 1.0
    assert evaluate(truth, {"video_test_0000001": [right, beside]}).average_map == 0.5
    plain = thumos(tmp_path, [jump])
    assert evaluate(plain, {"video_test_0000001": [right, touching]}).average_map == 0.5


def test_ambiguous_is_a_class_like_others_outside_thumos(tmp_path):
    path = tmp_path / "gt.json"
    entry = {"subset": "test", "annotations": [{"segment": [0, 3], "label": "Ambiguous"}]}
    path.write_text(json.dumps({"database": {"home": entry}}))
    assert read_annotations(path).classes == ("Ambiguous",)
