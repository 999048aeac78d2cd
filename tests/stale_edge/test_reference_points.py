"""Reference points on the simulated world, and the parts they are made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stale_edge.data.dataset import TrainingVideo
from stale_edge.data.reference_points import (
    evaluate_predictor,
    mean_feature,
    network_predictor,
    reference_predictor,
)
from stale_edge.networks.registry import NETWORKS
from stale_edge.networks.stale.config import ModelConfig
from stale_edge.networks.stale.model import STALE
from stale_edge.networks.stale.reference_points import lowest_between
from stale_edge.seeded import seeded_network
from stale_edge.simulation import SimulatedWorld, WorldConfig
from stale_edge_runtime.formats.annotations import Instance


@pytest.fixture(scope="module")
def world():
    return SimulatedWorld(WorldConfig(classes=40, seen_classes=30))


def test_the_ceiling_is_high_and_training_free_beats_untrained(world):
    videos = world.evaluation("seen", 240)
    some = list(videos)
    torch.manual_seed(0)
    network = STALE(ModelConfig(text=None))
    mean = mean_feature(world.training(60))
    known = (videos.classes, videos.text_embeddings, mean)
    predictors = {
        "ceiling": reference_predictor("stale", "ceiling", *known),
        "nearest": reference_predictor("stale", "nearest text", *known),
        "untrained": network_predictor("stale", network, videos.text_embeddings, videos.classes),
    }
    found = {name: evaluate_predictor(p, some).average_map for name, p in predictors.items()}
    assert found["ceiling"] > 0.84
    assert found["ceiling"] > found["nearest"] + 0.4
    assert found["nearest"] > found["untrained"] > 0.0


def test_the_ceiling_of_the_decoding_is_that_of_the_snippets(world):
    """Twice the snippets: what the ceiling misses is resolution, not the decoding."""
    videos = list(world.evaluation("unseen", 60))
    nothing = np.zeros(0, dtype=np.float32)
    coarse, fine = (
        evaluate_predictor(
            reference_predictor("stale", "ceiling", world.classes, nothing, nothing, ModelConfig(anchors=n)), videos
        ).average_map
        for n in (50, 400)
    )
    assert fine > 0.92
    assert coarse < fine - 0.05


def test_nearest_text_finds_a_planted_action():
    rng = np.random.default_rng(0)
    text = rng.standard_normal((3, 16)).astype(np.float32)
    mean = rng.standard_normal(16).astype(np.float32)
    features = np.tile(mean, (50, 1)) + 0.01 * rng.standard_normal((50, 16)).astype(np.float32)
    features[10:30] += text[1] - text.mean(axis=0)
    video = TrainingVideo("a", 50.0, (Instance(10.0, 30.0, "b"),), features)
    known = (("a", "b", "c"), text, mean)
    best = reference_predictor("stale", "nearest text", *known, ModelConfig(anchors=50))(video)[0]
    assert best.label == "b"
    assert best.start_s == pytest.approx(10, abs=5)  # smoothing over 9 snippets reaches 4 further
    assert best.end_s == pytest.approx(30, abs=5)
    whole = reference_predictor("stale", "whole video", *known)(video)
    assert [(found.start_s, found.end_s, found.label) for found in whole[:1]] == [(0.0, 50.0, "b")]


def test_predictions_do_not_look_at_the_truth(world):
    source = world.evaluation("seen", 2)
    video = source.video(0, 0)
    blind = TrainingVideo(video.id, video.duration_s, (), video.features)
    text, mean = source.text_embeddings, mean_feature([source.video(1, 0)])
    torch.manual_seed(0)
    network = STALE(ModelConfig(heads=1, anchors=20, text=None))
    for predictor in (
        reference_predictor("stale", "nearest text", source.classes, text, mean),
        reference_predictor("stale", "whole video", source.classes, text, mean),
        network_predictor("stale", network, text, source.classes),
    ):
        assert predictor(video) == predictor(blind) != []


def test_a_network_keeps_its_mode(world):
    source = world.evaluation("seen", 1)
    network = STALE(ModelConfig(heads=1, anchors=20, text=None)).train()
    as_tensor = torch.from_numpy(source.text_embeddings)
    found = network_predictor("stale", network, as_tensor, source.classes)(source.video(0, 0))
    assert network.training
    assert found == network_predictor("stale", network.eval(), source.text_embeddings, source.classes)(
        source.video(0, 0)
    )
    assert not network.training


def test_a_network_without_text_predicts_in_its_own_form(world):
    config = NETWORKS["actionformer"].config.from_dict({"feature_dim": world.config.feature_dim, "classes": 2})
    network = seeded_network(config, 0, "actionformer")
    video = world.evaluation("seen", 1).video(0, 0)
    found = network_predictor("actionformer", network, np.zeros((0, 0), dtype=np.float32), ("a", "b"))(video)
    assert {detection.label for detection in found} <= {"a", "b"}
    assert not NETWORKS["actionformer"].reference_points


def test_lowest_between_is_what_it_says():
    curve = np.random.default_rng(1).random(9).astype(np.float32)
    expected = [[curve[min(a, b) : max(a, b) + 1].min() for b in range(9)] for a in range(9)]
    np.testing.assert_array_equal(lowest_between(curve), np.array(expected))


def test_a_mean_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no videos"):
        mean_feature([])
