"""Cost of decoding: the two videos are as described, and every decoding of a head can be timed."""

from __future__ import annotations

import itertools

import pytest

from stale_edge_runtime import decode
from stale_edge_runtime.bench.decode_cost import LEAST_RUNS, decode_cost_ms, decode_costs
from stale_edge_runtime.contract import Kind, ModelInfo, Precision
from stale_edge_runtime.heads.registry import HEADS
from stale_edge_runtime.heads.stale_examples import ACTIONS, clear_outputs, noisy_outputs


def info_of(network: str, anchors: int = 100) -> ModelInfo:
    return ModelInfo(Kind.OPEN, Precision.FP32, 512, "test", network=network, anchors=anchors, strides=(1, 2, 4))


@pytest.mark.parametrize("snippets", [100, 200, 1000])
def test_the_clear_video_holds_its_actions(snippets):
    best = decode(*clear_outputs(snippets, 200, 100), 1.0)[: len(ACTIONS)]
    found = sorted((d.start_s, d.end_s, int(d.label)) for d in best)
    for ours, action in zip(found, ACTIONS, strict=True):
        assert ours == pytest.approx(action, abs=0.02)


def test_the_noisy_video_fills_the_list():
    assert len(decode(*noisy_outputs(200, 200, 100), 200.0)) == 100


@pytest.mark.parametrize("network", HEADS)
@pytest.mark.parametrize(("snippets", "classes", "anchors"), [(1, 1, 1), (3, 1, 10), (257, 20, 100)])
def test_any_size_can_be_timed(network, snippets, classes, anchors):
    names = [str(index) for index in range(classes)]
    (cost,) = decode_costs([snippets], info_of(network, anchors), names, seconds=0.0)
    assert (cost.snippets, cost.classes) == (snippets, classes)
    assert cost.clear_ms > 0.0
    assert cost.noisy_ms > 0.0


@pytest.mark.parametrize("network", HEADS)
def test_the_examples_have_the_shapes_of_the_head(network):
    info = info_of(network)
    for outputs in HEADS[network].examples(info, 37, 5).values():
        shapes = HEADS[network].shapes(info, 37, 5)
        assert tuple(outputs) == HEADS[network].outputs
        assert {name: value.shape for name, value in outputs.items()} == dict(shapes)


def test_the_time_is_the_median_of_calls(clock, monkeypatch):
    durations = itertools.chain([0.0], *([0.0, step] for step in [0.002, 0.004, 0.003] * LEAST_RUNS))
    now = itertools.accumulate(durations)
    monkeypatch.setattr(clock, "perf_counter", lambda: next(now))
    outputs = HEADS["stale"].examples(info_of("stale"), 20, 3)["clear"]
    cost = decode_cost_ms(outputs, 20.0, info_of("stale"), ["a", "b", "c"], seconds=0.0)
    assert cost == pytest.approx(3.0)
