"""Files that decode inside: detections equal to those of the numpy decoding, whole videos, windows, and refusals.

Each file stands beside the file of the same network that gives the network's outputs; `make_fixture.py` makes both.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stale_edge_runtime import Detector, processor
from stale_edge_runtime.contract import Precision
from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.graph_detections import read_detections
from stale_edge_runtime.heads.stale_proposals import DecodeOptions
from stale_edge_runtime.model_file import ModelFile, read_model
from stale_edge_runtime.windows import WindowPlan, detect_in_windows

if TYPE_CHECKING:
    from stale_edge_runtime.decoding import Detection

DATA = Path(__file__).parents[1] / "data"
NETWORKS = ("baked", "actionformer", "boundary_map")
NAMES = ("archery", "long jump", "playing kora")
Pair = tuple[Detector, Detector]


@pytest.fixture(scope="module", params=NETWORKS)
def pair(request) -> Pair:
    """A file that decodes inside, and the one whose outputs numpy decodes."""
    return Detector(DATA / f"tiny_{request.param}_detections.onnx"), Detector(DATA / f"tiny_{request.param}.onnx")


def video(snippets: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([seed, snippets])
    noise = 0.1 * rng.standard_normal((snippets, 8))  # no two snippets are equal, so that no order rests on rounding
    features = noise + np.repeat(rng.standard_normal((snippets // 5 + 1, 8)), 5, axis=0)[:snippets]
    features[snippets // 3 : 2 * snippets // 3] += rng.standard_normal(8) * 2
    return features.astype(np.float32)


def same(found: list[Detection], expected: list[Detection]) -> bool:
    """Whether rows are equal but for rounding."""
    assert [row.label for row in found] == [row.label for row in expected]
    for column in ("start_s", "end_s"):
        times = [[getattr(row, column) for row in rows] for rows in (found, expected)]
        np.testing.assert_allclose(*times, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose([row.score for row in found], [row.score for row in expected], rtol=0, atol=1e-5)
    return True


@pytest.mark.parametrize("snippets", [1, 2, 3, 50, 99, 100, 101, 128])
def test_rows_are_those_of_numpy(pair, snippets):
    inside, outside = pair
    for seed in range(3):
        features = video(snippets, seed)
        expected = outside.detect(features, 60.0)
        assert expected or snippets < 3  # nothing found is an answer too
        assert same(inside.detect(features, 60.0), expected)
    assert same(inside.detect(features), outside.detect(features))


def test_an_open_file_takes_its_text(pair):
    text = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    given = {"text_embeddings": text, "classes": NAMES}
    inside, outside = (Detector(DATA / f"tiny_{name}.onnx", **given) for name in ("open_detections", "open"))
    for snippets in (1, 40):
        assert same(inside.detect(video(snippets)), outside.detect(video(snippets)))


def test_windows_merge_as_those_of_numpy(pair):
    plan = WindowPlan(40, 20)
    inside, outside = (
        {
            (row.label, round(row.start_s, 3), round(row.end_s, 3))
            for row in detect_in_windows(each.detect, video(100), plan, duration_s=60.0)
        }
        for each in pair
    )
    # Scores of two windows may be equal in float32 and not in float64, and the better one wins.
    assert len(inside & outside) >= 0.95 * len(inside | outside)


def test_an_external_verdict_names_as_after_numpy(pair):
    inside, outside = pair
    given = {"external": ("fencing", 0.7)}
    assert same(inside.detect(video(50), 60.0, **given), outside.detect(video(50), 60.0, **given))


def test_times_are_in_snippets_and_in_seconds_where_known():
    model = read_model(DATA / "tiny_baked_detections.onnx")
    assert [tensor.name for tensor in model.outputs] == ["segments", "segments_s", "labels", "scores"]
    assert model.info.snippet_seconds == 2.0
    assert [tensor.axes for tensor in model.outputs] == [("found", 2), ("found", 2), ("found",), ("found",)]
    assert model.inputs[0].axes == (1, "snippets", 8)
    session = Detector(model)._session
    segments, seconds, labels, scores = session.run(None, {"features": video(50)[None]})
    np.testing.assert_array_equal(seconds, 2 * segments)
    assert labels.dtype == np.int64
    assert (np.diff(scores) <= 0).all()
    unknown = read_model(DATA / "tiny_open_detections.onnx")
    assert [tensor.name for tensor in unknown.outputs] == ["segments", "labels", "scores"]


@pytest.mark.parametrize("chosen", [{"compat": "stale"}, {"options": DecodeOptions(sigma=0.1)}])
def test_what_is_baked_in_cannot_be_chosen(chosen):
    with pytest.raises(UsageError, match=r"decodes inside.*without --detections"):
        Detector(DATA / "tiny_baked_detections.onnx").detect(video(10), **chosen)


def test_outputs_of_the_network_cannot_be_had(pair):
    with pytest.raises(UsageError, match="decodes inside"):
        pair[0].forward(video(10))
    if pair[0].info.network == "boundary-map":
        with pytest.raises(UsageError, match="decodes inside"):
            pair[0].class_shares(video(10), np.array([[0.0, 5.0]]))


def test_answers_that_are_no_numbers_are_refused(pair):
    for each in pair:
        with pytest.raises(BadDataError, match="NaN or infinity"):
            each.detect(np.full((20, 8), 3e38, np.float32))


def test_duration_is_checked(pair):
    with pytest.raises(BadDataError, match="duration_s"):
        pair[0].detect(video(10), -1.0)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"segments": np.zeros((2, 3), np.float32)}, r"segments \[2, 3\]"),
        ({"labels": np.zeros(1, np.int64)}, r"labels \[1\]"),
        ({"scores": np.zeros((2, 1), np.float32)}, r"scores \[2, 1\]"),
        ({"scores": np.array([0.5, np.nan], np.float32)}, "NaN"),
        ({"segments": np.full((2, 2), np.inf, np.float32)}, "infinity"),
        ({"labels": np.array([0, 3])}, "labels from 0 to 3 for 3 classes"),
        ({"labels": np.array([-1, 0])}, "labels from -1"),
    ],
)
def test_arrays_that_are_no_detections_are_refused(changed, words):
    good = {
        "segments": np.array([[0, 4], [2, 9]], np.float32),
        "labels": np.array([1, 0]),
        "scores": np.array([0.9, 0.4], np.float32),
    }
    assert read_detections(good, 0.5, 4.0, NAMES, Path("a.onnx"))[1] == (1.0, 4.0, "archery", pytest.approx(0.4))
    with pytest.raises(BadDataError, match=words):
        read_detections({**good, **changed}, 0.5, 4.0, NAMES, Path("a.onnx"))


@pytest.mark.parametrize(
    ("flags", "target", "warned"),
    [
        ("avx2 fma", "vnni", True),
        ("avx2 fma", "arm64", True),
        ("avx2 fma", "portable", False),
        ("avx2 fma", "avx2", False),
        ("avx2 avx_vnni", "vnni", False),
        ("avx2 avx512_vnni", "vnni", False),
        ("sse4_1", "vnni", False),
        ("asimd asimddp", "vnni", False),
    ],
)
def test_int8_that_saturates_here_is_warned_of(flags, target, warned, tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags : fpu {flags} rdtscp\n")
    monkeypatch.setattr(processor, "CPUINFO", cpuinfo)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Detector(as_int8(target))
    assert len(caught) == warned
    assert all("--target portable" in str(each.message) for each in caught)


def test_no_description_of_the_processor_is_no_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "missing")
    assert processor.cpu_flags() == []
    assert processor.saturation_warning(as_int8("vnni").info, Path("a.onnx")) == ""


def as_int8(target: str) -> ModelFile:
    """The tiny file, passed off as int8 for a target."""
    model = read_model(DATA / "tiny_baked.onnx")
    return replace(model, info=replace(model.info, precision=Precision.INT8, recipe={"target": target}))
