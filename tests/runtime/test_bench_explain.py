"""Where the time goes, and long videos in windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stale_edge_runtime.bench.explain import explain
from stale_edge_runtime.bench.measure import Effort
from stale_edge_runtime.bench.memory import run_child
from stale_edge_runtime.bench.onnx_contender import OnnxContender, vocabulary_for
from stale_edge_runtime.bench.runner import Plan, check_answers, check_ready, run
from stale_edge_runtime.bench.windowed import Windowed
from stale_edge_runtime.model_file import read_model
from stale_edge_runtime.synthetic import clip_like_features
from stale_edge_runtime.windows import WindowPlan

pytestmark = pytest.mark.usefixtures("brief_ceiling")
DATA = Path(__file__).parents[1] / "data"
BAKED, OPEN = DATA / "tiny_baked.onnx", DATA / "tiny_open.onnx"


def contender(path: Path = BAKED) -> OnnxContender:
    model = read_model(path)
    return OnnxContender(model, path.name, "cpu", vocabulary_for(model, classes=5))


@pytest.mark.parametrize("path", [BAKED, OPEN])
def test_every_operator_is_accounted_for(path: Path) -> None:
    entrant = contender(path)
    short, long = explain(entrant.model, "tiny", (5, 400), entrant.vocabulary, batch=2)
    assert (short.model, short.batch, short.snippets, long.snippets) == ("tiny", 2, 5, 400)
    for item in (short, long):
        assert sum(share.share for share in item.stages) == pytest.approx(1)
        assert sum(share.share for share in item.operators) == pytest.approx(1)
        assert "tiny" in {share.stage for share in item.stages}
        assert {share.operator for share in item.stages} == {""}
        assert (
            sum(s.calls for s in item.operators)
            == sum(s.calls for s in item.stages)
            <= sum(entrant.model.operators.values())
        )
        assert [s.ms for s in item.operators] == sorted((s.ms for s in item.operators), reverse=True)
        assert item.run_ms > 0
    products = [sum(s.share for s in item.operators if "MatMul" in s.operator) for item in (short, long)]
    softmax = [next(s for s in item.operators if s.operator == "Softmax") for item in (short, long)]
    assert softmax[0].calls == softmax[1].calls == 1
    assert softmax[1].ms > softmax[0].ms
    assert 0 < products[0] < 1


def test_windows_see_what_the_detector_would_show_them() -> None:
    entrant = contender()
    windowed = Windowed(entrant, WindowPlan.of(40))
    assert windowed.name == "tiny_baked.onnx, windows of 40"
    features = clip_like_features(2, 130, 8)
    spans = list(windowed.windows.spans(130))
    assert spans[-1] == (100, 130)
    found = windowed.prepare(features, 1)()
    expected = entrant.prepare(np.ascontiguousarray(features[:, 100:]), 1)()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert windowed.macs(2, 130) == sum(entrant.macs(2, last - first) for first, last in spans)


def test_windows_race_where_a_video_is_longer_and_are_not_held_to_its_answers() -> None:
    entrant = contender()
    field = [entrant, Windowed(entrant, WindowPlan(40, 20))]
    plan = Plan((20, 40, 100), effort=Effort(runs=2), cold_start=False)
    check_ready(field, plan)
    report = run(field, plan)
    shown = [(row.snippets, row.window, row.hop) for row in report.rows]
    assert shown == [(20, None, None), (40, None, None), (100, None, None), (100, 40, 20)]
    assert report.rows[3].gmacs == pytest.approx(4 * report.rows[1].gmacs)
    assert [(item.a, item.b, item.snippets) for item in report.comparisons] == [
        ("tiny_baked.onnx", "tiny_baked.onnx, windows of 40", 100)
    ]
    assert check_answers(field, entrant, 100) == []


def test_windows_need_less_memory_than_the_video_in_one_piece() -> None:
    entrant = contender()
    whole = run_child(entrant.cold_start_words(1, 32, 512), subject="whole")
    pieces = run_child(Windowed(entrant, WindowPlan.of(32)).cold_start_words(1, 32, 512), subject="pieces")
    # 32 videos: attention alone is 32 x 512 x 512 floats.
    assert whole.peak_rss_mb - pieces.peak_rss_mb > 30
