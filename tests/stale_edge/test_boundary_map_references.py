"""Reference points of the boundary map, through its own decoding."""

from __future__ import annotations

import numpy as np
import pytest

from stale_edge.data.dataset import TrainingVideo
from stale_edge.data.reference_points import evaluate_predictor, mean_feature, reference_predictor
from stale_edge.networks.boundary_map.config import BoundaryMapConfig
from stale_edge.simulation import SimulatedWorld, WorldConfig
from stale_edge_runtime.formats.annotations import Instance


def test_they_find_a_planted_action_and_the_whole_video():
    rng = np.random.default_rng(0)
    text = rng.standard_normal((3, 16)).astype(np.float32)
    mean = rng.standard_normal(16).astype(np.float32)
    features = np.tile(mean, (50, 1)) + 0.01 * rng.standard_normal((50, 16)).astype(np.float32)
    features[10:30] += text[1] - text.mean(axis=0)
    video = TrainingVideo("a", 50.0, (Instance(10.0, 30.0, "b"),), features)
    known = (("a", "b", "c"), text, mean, BoundaryMapConfig(feature_dim=16, snippets=50))
    found = {
        name: reference_predictor("boundary-map", name, *known)(video)
        for name in ("nearest text", "whole video", "ceiling")
    }
    assert {name: each[0].label for name, each in found.items()} == dict.fromkeys(found, "b")
    best = found["nearest text"][0]
    assert (best.start_s, best.end_s) == (pytest.approx(10, abs=5), pytest.approx(30, abs=5))
    assert (found["ceiling"][0].start_s, found["ceiling"][0].end_s) == (10.0, 30.0)
    assert found["ceiling"][0].score > 0.99
    assert {(one.start_s, one.end_s) for one in found["whole video"]} == {(0.0, 50.0)}
    blind = TrainingVideo("a", 50.0, (), features)
    for name in ("nearest text", "whole video"):
        assert reference_predictor("boundary-map", name, *known)(blind) == found[name]


def test_the_ceiling_of_the_decoding_is_that_of_the_snippets():
    world = SimulatedWorld(WorldConfig(classes=8, seen_classes=6, feature_dim=16, semantic_dim=8))
    videos = list(world.evaluation("unseen", 40))
    known = (world.classes, np.zeros((0, 16), np.float32), mean_feature(videos))
    coarse, fine = (
        evaluate_predictor(
            reference_predictor("boundary-map", "ceiling", *known, BoundaryMapConfig(feature_dim=16, snippets=count)),
            videos,
        ).average_map
        for count in (30, 120)
    )
    assert fine > 0.9
    assert coarse < fine - 0.05
