"""Heads of all networks: each decodes, on every awkward length, into detections that can be used."""

from __future__ import annotations

from itertools import pairwise

import pytest

from stale_edge_runtime.contract import Kind, ModelInfo, Precision
from stale_edge_runtime.heads.registry import HEADS

CLASSES = ("run", "jump", "swim")
DURATION_S = 50.0


def info_of(network: str) -> ModelInfo:
    return ModelInfo(Kind.OPEN, Precision.FP32, 512, "test", network=network, anchors=100, strides=(1, 2, 4))


@pytest.mark.parametrize("network", HEADS)
@pytest.mark.parametrize("snippets", [1, 2, 3, 99, 100, 101, 257, 1000])
def test_detections_lie_in_the_video_best_first(network, snippets):
    info, head = info_of(network), HEADS[network]
    head.check_info(info)
    for outputs in head.examples(info, snippets, len(CLASSES)).values():
        found = head.decode(outputs, DURATION_S, classes=CLASSES, info=info)
        assert found
        assert all(0.0 <= each.start_s < each.end_s <= DURATION_S for each in found)
        assert {each.label for each in found} <= set(CLASSES)
        scores = [each.score for each in found]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("network", HEADS)
def test_times_follow_the_duration(network):
    info, head = info_of(network), HEADS[network]
    outputs = head.examples(info, 100, len(CLASSES))["clear"]
    once, twice = (
        head.decode(outputs, seconds, classes=CLASSES, info=info) for seconds in (DURATION_S, 2 * DURATION_S)
    )
    assert [each.end_s for each in twice] == pytest.approx([2 * each.end_s for each in once])


@pytest.mark.parametrize("network", HEADS)
def test_axes_and_shapes_tell_of_the_same_outputs(network):
    info, head = info_of(network), HEADS[network]
    axes, shapes = head.axes(info), head.shapes(info, 37, len(CLASSES))
    assert tuple(axes) == tuple(shapes) == head.outputs
    assert {name: len(names) - 1 for name, names in axes.items()} == {name: len(at) for name, at in shapes.items()}


@pytest.mark.parametrize("network", HEADS)
def test_a_longer_video_needs_more_memory(network):
    info, head = info_of(network), HEADS[network]
    needed = [head.activation_floats(info, snippets, len(CLASSES), 200) for snippets in (1, 100, 200, 1000, 8192)]
    assert needed[0] > 0
    assert all(shorter < longer for shorter, longer in pairwise(needed))
