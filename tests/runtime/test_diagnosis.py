"""Kinds of errors: one planted case of each, and sums that must hold."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.formats.annotations import Annotations, Instance, Video
from stale_edge_runtime.metrics.diagnosis import Fate, Verdict, diagnose, judge
from stale_edge_runtime.metrics.evaluation import evaluate


def truth_of(videos):
    return Annotations(
        "gt.json",
        tuple(Video(name, "test", None, tuple(Instance(*i) for i in found)) for name, found in videos.items()),
    )


PLANTED = {
    Verdict.TRUE_POSITIVE: Detection(0, 10, "x", 0.9),
    Verdict.DOUBLE: Detection(0, 9, "x", 0.8),
    Verdict.WRONG_CLASS: Detection(20, 30, "x", 0.7),
    Verdict.POOR_OVERLAP: Detection(8, 18, "x", 0.6),
    Verdict.CONFUSION: Detection(28, 38, "x", 0.5),
    Verdict.BACKGROUND: Detection(50, 60, "x", 0.4),
}


@pytest.mark.parametrize("kind", list(Verdict))
def test_each_kind_is_told(kind):
    truth = truth_of({"a": [(0, 10, "x"), (20, 30, "y")]})
    best = PLANTED[Verdict.TRUE_POSITIVE]
    found = [best] if kind is Verdict.TRUE_POSITIVE else [best, PLANTED[kind]]
    counts = diagnose(truth, {"a": found}).breakdowns[1].counts
    assert {name: count for name, count in counts.items() if count} == {Verdict.TRUE_POSITIVE: 1, kind: 1}


def test_only_the_best_of_each_class_count():
    truth = truth_of({"a": [(0, 10, "x"), (20, 30, "y")]})
    few, more = diagnose(truth, {"a": list(PLANTED.values())}, multiples=(1, 5)).breakdowns
    assert (few.multiple, few.detections, few.counts[Verdict.TRUE_POSITIVE]) == (1, 1, 1)
    assert (more.multiple, more.detections, more.counts[Verdict.BACKGROUND]) == (5, 5, 0)


def test_each_fate_is_told():
    truth = truth_of(
        {"a": [(0, 10, "x"), (0, 10, "x"), (20, 30, "x"), (40, 50, "x"), (60, 70, "x")], "b": [(0, 10, "y")]}
    )
    found = {"a": [Detection(0, 10, "x", 0.9), Detection(21, 30, "y", 0.5), Detection(48, 58, "x", 0.4)]}
    diagnosis = diagnose(truth, found)
    assert diagnosis.fates == {
        Fate.FOUND: 1,
        Fate.SHARED: 1,
        Fate.WRONG_CLASS: 1,
        Fate.POOR_OVERLAP: 1,
        Fate.UNSEEN: 2,
    }
    assert diagnosis.missed == 5


def test_threshold_moves_the_border():
    truth, found = truth_of({"a": [(0, 10, "x")]}), {"a": [Detection(0, 6, "x", 0.9)]}
    assert diagnose(truth, found, 0.6).missed == 0
    assert diagnose(truth, found, 0.61).breakdowns[0].counts[Verdict.POOR_OVERLAP] == 1


def test_nothing_found():
    diagnosis = diagnose(truth_of({"a": [(0, 10, "x")]}), {})
    assert diagnosis.breakdowns[0].detections == 0
    assert diagnosis.fates[Fate.UNSEEN] == diagnosis.missed == 1
    assert json.loads(json.dumps(diagnosis.to_json()))["tiou"] == "0.50"


@pytest.mark.parametrize(("tiou", "multiples"), [(0.05, (1,)), (1.1, (1,)), (float("nan"), (1,)), (0.5, (0,))])
def test_choices_out_of_range_are_refused(tiou, multiples):
    with pytest.raises(UsageError, match="diagnosis"):
        diagnose(truth_of({"a": [(0, 1, "x")]}), {}, tiou, multiples)


SPANS = st.tuples(st.integers(0, 6), st.integers(0, 6)).map(sorted)
LABELS = st.sampled_from(["x", "y"])


@given(
    instances=st.lists(st.tuples(SPANS, LABELS), min_size=1, max_size=6),
    detections=st.lists(st.tuples(SPANS, LABELS, st.integers(0, 9)), max_size=10),
)
def test_sums_hold_and_agree_with_the_evaluation(instances, detections):
    truth = truth_of({"a": [(*span, label) for span, label in instances]})
    found = {"a": [Detection(*span, label, score / 9) for span, label, score in detections]}
    diagnosis = diagnose(truth, found, multiples=(1, 100))
    result = evaluate(truth, found, (0.5,))
    outcomes = diagnosis.breakdowns[1].counts
    assert sum(outcomes.values()) == result.detections
    assert sum(diagnosis.fates.values()) == len(instances)
    assert outcomes[Verdict.TRUE_POSITIVE] == diagnosis.fates[Fate.FOUND] <= min(len(instances), len(detections))
    assert (outcomes[Verdict.TRUE_POSITIVE] > 0) == bool(np.any(result.average_precision))


def test_every_detection_has_its_verdict_and_every_instance_its_finder():
    truth = truth_of({"b": [(0, 5, "x")], "a": [(20, 30, "y"), (0, 10, "x")]})
    unknown = [Detection(0, 10, "z", 1.0)]
    results = {"c": unknown, "a": [*reversed(PLANTED.values()), *unknown], "b": []}
    judged = judge(truth, results)
    assert judged.verdicts == {"c": (None,), "a": (*reversed(PLANTED), None), "b": ()}
    assert judged.finders == {"b": (None,), "a": (None, 5)}


@given(st.integers(0, 2**32 - 1))
def test_verdicts_add_up_to_the_breakdown(seed):
    rng = np.random.default_rng(seed)

    def segments(count):
        return np.sort(rng.uniform(0, 20, (count, 2)), axis=1).tolist()

    truth = truth_of({name: [(*pair, rng.choice(["x", "y"])) for pair in segments(3)] for name in "ab"})
    found = {name: [Detection(*pair, rng.choice(["x", "y"]), rng.uniform()) for pair in segments(8)] for name in "ab"}
    judged = judge(truth, found)
    counts = diagnose(truth, found, multiples=(1000,)).breakdowns[0].counts
    told = [verdict for video in truth.videos for verdict in judged.verdicts[video.id] if verdict is not None]
    assert {kind: told.count(kind) for kind in Verdict} == counts
    for video, finders in judged.finders.items():
        for place in (place for place in finders if place is not None):
            assert judged.verdicts[video][place] is Verdict.TRUE_POSITIVE
