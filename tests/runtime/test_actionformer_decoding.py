"""ActionFormer's decoding meets the published numbers, and labels come from text or an external classifier."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stale_edge_runtime.contract import Kind, ModelInfo, Precision
from stale_edge_runtime.decoding import Detection, fuse
from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.formats.external_scores import read_external
from stale_edge_runtime.heads.actionformer import decode
from stale_edge_runtime.heads.actionformer_nms import hard_nms, soft_nms, suppress, vote
from stale_edge_runtime.heads.actionformer_options import DecodeSettings
from stale_edge_runtime.heads.base import Choices
from stale_edge_runtime.heads.registry import HEADS
from stale_edge_runtime.labelling import text_labeller

GOLDEN = Path(__file__).parents[1] / "data" / "actionformer"
STORED = json.loads((GOLDEN / "decode.json").read_text())
STRIDES = (1, 2, 4, 8, 16, 32)
METHODS = {"gaussian": "soft", "linear": "linear"}


def settings_of(case):
    return DecodeSettings(
        threshold=case["pre_nms_thresh"],
        candidates=case["pre_nms_topk"],
        shortest=case["duration_thresh"],
        method=case["nms_method"],
        per_class=case["multiclass_nms"],
        sigma=case["nms_sigma"],
        overlap=case["iou_threshold"],
        min_score=case["min_score"],
        vote=case["voting_thresh"],
        limit=case["max_seg_num"],
    )


@pytest.mark.parametrize("name", STORED["cases"])
def test_detections_are_the_published_ones(name):
    case, arrays = STORED["cases"][name], np.load(GOLDEN / "decode.npz")
    inside = np.concatenate([np.arange(case["T"] // stride) * stride < case["valid"] for stride in STRIDES])
    found = decode(
        arrays[f"{name}.logits"][inside],
        arrays[f"{name}.offsets"][inside],
        case["duration"],
        snippets=case["valid"],
        strides=STRIDES,
        settings=settings_of(case),
        offset=0.5 * case["feat_num_frames"] / case["feat_stride"],
        step_s=case["feat_stride"] / case["fps"],
    )
    assert [int(each.label) for each in found] == arrays[f"{name}.labels"].tolist()
    times = np.array([(each.start_s, each.end_s) for each in found]).reshape(-1, 2)
    np.testing.assert_allclose(times, arrays[f"{name}.segments"], rtol=0, atol=1e-4)
    np.testing.assert_allclose([each.score for each in found], arrays[f"{name}.scores"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", STORED["softnms"])
def test_suppression_is_the_published_one(name):
    case, arrays = STORED["softnms"][name], np.load(GOLDEN / "softnms.npz")
    settings = DecodeSettings(
        method=METHODS[case["method"]],
        sigma=case["sigma"],
        min_score=case["min_score"],
        overlap=case["iou_threshold"],
        limit=case["max_num"] if case["max_num"] > 0 else 10_000,
    )
    segments, scores = arrays[f"{name}.segments"], arrays[f"{name}.scores"]
    for method in (soft_nms, lambda *parts: suppress(*parts[:2], np.zeros(len(scores), dtype=np.intp), settings)):
        kept, lowered = method(segments, scores, settings)
        assert kept.tolist() == arrays[f"{name}.out_index"].tolist()
        np.testing.assert_allclose(lowered, arrays[f"{name}.out_scores"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("threshold", ["0.5", "0.7", "0.9"])
def test_votes_are_the_published_ones(threshold):
    arrays = np.load(GOLDEN / "softnms.npz")
    kept, candidates, scores, wanted = (arrays[f"vote{threshold}.{name}"] for name in ("kept", "all", "scores", "out"))
    np.testing.assert_allclose(vote(kept, candidates, scores, float(threshold)), wanted, rtol=0, atol=1e-4)


def test_fusion_with_external_scores_is_the_published_one():
    stored = STORED["fusion"]
    rows = stored["detections"]
    keys = ("video-id", "t-start", "t-end", "score")
    detections = [
        (row[0], Detection(*row[1:3], "action", row[3])) for row in zip(*(rows[k] for k in keys), strict=True)
    ]
    fused = stored["fused"]
    for video, classes in stored["external"].items():
        ranking = sorted(((str(index), score) for index, score in enumerate(classes)), key=lambda item: -item[1])
        found = fuse([each for name, each in detections if name == video], ranking)
        expected = [
            Detection(*row[1:3], str(row[3]), row[4])
            for row in zip(*(fused[k] for k in ("video-id", "t-start", "t-end", "label", "score")), strict=True)
            if row[0] == video
        ]
        assert [each[:3] for each in found] == [each[:3] for each in sorted(expected, key=lambda each: -each.score)]
        assert sorted(each.score for each in found) == pytest.approx(sorted(each.score for each in expected), abs=1e-6)


def test_equal_scores_keep_the_order_of_the_moments():
    logits, offsets = np.full((4, 1), 2.0), np.full((4, 2), 0.4)
    found = decode(logits, offsets, 4.0, snippets=4, strides=(1,))
    assert [each.start_s for each in found] == sorted(each.start_s for each in found)
    assert len({each.score for each in found}) == 1


def test_hard_suppression_leaves_segments_of_other_places():
    segments = np.array([[0, 10], [1, 10], [20, 30]], np.float32)
    kept, _ = hard_nms(segments, np.array([0.5, 0.9, 0.4], np.float32), DecodeSettings(method="hard", overlap=0.5))
    assert kept.tolist() == [1, 2]


INFO = ModelInfo(
    Kind.BAKED, Precision.FP32, 2, "test", network="actionformer", classes=("action",), strides=(1, 2), offset=2.0
)


def outputs_of(snippets):
    """One segment, from 3 to 7 on the grid, at moment 5 of the finest level."""
    points = snippets + -(-snippets // 2)
    logits, offsets = np.full((points, 1), -20.0, np.float32), np.zeros((points, 2), np.float32)
    logits[5], offsets[5] = 3.0, 2.0
    return {"class_logits": logits, "offsets": offsets}


def test_the_step_of_the_file_counts_where_snippets_overlap():
    head = HEADS["actionformer"]
    covered = 10 * 0.5 + 1.5  # ten steps, and what the last snippet sees beyond
    known = replace(INFO, snippet_seconds=0.5)
    (found,) = head.decode(outputs_of(10), covered, classes=("action",), info=known)
    assert (found.start_s, found.end_s) == pytest.approx((2.5, 4.5))
    (other,) = head.decode(outputs_of(10), 20.0, classes=("action",), info=known)  # features of another step
    assert (other.start_s, other.end_s) == pytest.approx((10.0, 18.0))


@pytest.mark.parametrize("snippets", [1, 2, 3, 17, 18])
def test_the_snippets_are_told_from_the_number_of_moments(snippets):
    outputs = outputs_of(max(snippets, 6))
    (found,) = HEADS["actionformer"].decode(outputs, 100.0, classes=("action",), info=INFO)
    assert found.end_s == pytest.approx(min(100.0, 100.0 * 9 / max(snippets, 6)))


def test_settings_of_a_stranger_are_refused():
    for settings in ({"sigma": 0}, {"method": "x"}, {"limit": 1.5}, {"threshold": float("nan")}):
        with pytest.raises(BadDataError, match=r"stale_edge\.decoding"):
            HEADS["actionformer"].check_info(replace(INFO, decoding=settings))
    with pytest.raises(BadDataError, match="are \\[1, 3\\], not 1, 2, 4"):
        HEADS["actionformer"].check_info(replace(INFO, strides=(1, 3)))
    with pytest.raises(UsageError, match="belongs to the network stale"):
        HEADS["actionformer"].decode(outputs_of(10), 5.0, classes=("action",), info=INFO, choices=Choices("stale"))


@pytest.mark.parametrize(
    ("logits", "offsets", "words"),
    [
        (np.zeros((3, 1)), np.zeros((4, 2)), "give 4 rows for 4 snippets"),
        (np.zeros((4, 1)), np.zeros((4, 3)), "has 3 columns"),
        (np.full((4, 1), np.nan), np.zeros((4, 2)), "not finite"),
        (np.zeros((4, 1)), np.full((4, 2), -1.0), "reach down to -1"),
    ],
)
def test_outputs_that_do_not_go_together_are_refused(logits, offsets, words):
    with pytest.raises(BadDataError, match=words):
        decode(logits, offsets, 4.0, snippets=4, strides=(1,))


def test_text_labels_each_segment_by_what_it_shows():
    text = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    features = np.repeat(text, 10, axis=0)  # ten snippets of each class
    found = text_labeller(text, ("a", "b", "c")).label(
        [Detection(10.0, 20.0, "action", 0.64), Detection(20.0, 30.0, "action", 0.25)], features, 30.0
    )
    assert [(each.start_s, each.label) for each in found[:2]] == [(10.0, "b"), (20.0, "c")]
    assert [each.score for each in found[:2]] == pytest.approx([0.8, 0.5])
    assert len(found) == 4
    assert all(each.score < 1e-6 for each in found[2:])  # the second-best classes have no share


def test_a_segment_within_a_snippet_is_labelled_by_it():
    text = np.eye(2)
    shares = text_labeller(text, ("a", "b")).shares(text, np.array([[0.2, 0.4], [1.5, 1.9], [2.0, 2.0]]))
    assert shares.argmax(axis=1).tolist() == [0, 1, 1]


def test_all_scores_of_an_external_classifier_rank_the_classes(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"class": ["a", "b", "c"], "results": {"x": [0.2, 0.7, 0.1], "y": [0.3, 0.3, 0.4]}}))
    scores = read_external(path)
    assert scores.ranking("v_x") == (("b", 0.7), ("a", 0.2), ("c", 0.1))
    assert scores.ranking("y")[:2] == (("c", 0.4), ("a", 0.3))
    assert scores.ranking("z") == ()
    assert scores.best("x") == ("b", 0.7)
