"""The cost of decoding: the two videos are what they are said to be, the times those of real calls."""

from __future__ import annotations

from itertools import cycle

import pytest

from stale_edge_runtime import decode
from stale_edge_runtime.bench import decode_cost
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


def test_the_time_is_the_median_of_warm_calls(clock, monkeypatch):
    pauses_s = {"clear": cycle([0.002]), "noisy": iter([9.0, 9.0, 9.0, *[0.01, 0.03, 0.01] * 100])}
    given = []

    def slow_decode(*outputs):
        given.append(outputs[-1])
        clock.sleep(next(pauses_s["clear" if outputs[0] is clear[0] else "noisy"]))

    clear, noisy = clear_outputs(300, 20, 10), noisy_outputs(300, 20, 10)
    monkeypatch.setattr(decode_cost, "decode", slow_decode)
    monkeypatch.setattr(decode_cost, "clear_outputs", lambda *_: clear)
    monkeypatch.setattr(decode_cost, "noisy_outputs", lambda *_: noisy)
    (cost,) = decode_costs([300], 20, 10, seconds=1.0)
    assert (cost.snippets, cost.classes) == (300, 20)
    assert cost.clear_ms == pytest.approx(2.0)
    assert cost.noisy_ms == pytest.approx(10.0)
    assert set(given) == {300}
    # Three to warm up and one second of 2 ms; three to warm up and one second of 10, 30 and 10 ms.
    assert len(given) == pytest.approx(3 + 500 + 3 + 60, abs=2)
