"""The cost of decoding: the two videos are what they are said to be, the times those of real calls."""

from __future__ import annotations

import time

import pytest

from stale_edge_runtime import decode
from stale_edge_runtime.bench.decode_cost import ACTIONS, clear_outputs, decode_cost_ms, decode_costs, noisy_outputs


@pytest.mark.parametrize("snippets", [100, 200, 1000])
def test_the_clear_video_holds_its_actions(snippets):
    best = decode(*clear_outputs(snippets, 200, 100), 1.0)[: len(ACTIONS)]
    found = sorted((d.start_s, d.end_s, int(d.label)) for d in best)
    for ours, action in zip(found, ACTIONS, strict=True):
        assert ours == pytest.approx(action, abs=0.02)


def test_the_noisy_video_fills_the_list():
    assert len(decode(*noisy_outputs(200, 200, 100), 200.0)) == 100


@pytest.mark.parametrize("outputs", [clear_outputs, noisy_outputs])
@pytest.mark.parametrize(("snippets", "classes", "anchors"), [(1, 1, 1), (3, 1, 10), (257, 20, 100)])
def test_any_size_can_be_timed(outputs, snippets, classes, anchors):
    assert decode_cost_ms(*outputs(snippets, classes, anchors), 10.0, seconds=0.0) > 0.0


def test_the_time_is_that_of_a_call():
    (cost,) = decode_costs([3000], 200, 100, seconds=0.05)
    outputs = noisy_outputs(3000, 200, 100)
    times = []
    for _ in range(9):
        started = time.perf_counter()
        decode(*outputs, 3000.0)
        times.append(1e3 * (time.perf_counter() - started))
    assert (cost.snippets, cost.classes) == (3000, 200)
    assert min(times) / 5 < cost.noisy_ms < max(times) * 5
    assert 0.0 < cost.clear_ms < 3 * cost.noisy_ms
