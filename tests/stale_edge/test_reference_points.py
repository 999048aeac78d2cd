"""Reference points on the simulated world, and the parts they are made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stale_edge.data.dataset import TrainingVideo
from stale_edge.data.reference_points import (
    ceiling_predictor,
    evaluate_predictor,
    lowest_between,
    mean_feature,
    nearest_text_predictor,
    network_predictor,
    whole_video_predictor,
)
from stale_edge.networks.stale.config import ModelConfig
from stale_edge.networks.stale.model import STALE
from stale_edge.simulation import SimulatedWorld, WorldConfig
from stale_edge_runtime.formats.annotations import Instance
from stale_edge_runtime.heads.stale import decode


@pytest.fixture(scope="module")
def world():
    return SimulatedWorld(WorldConfig(classes=40, seen_classes=30))


def test_the_ceiling_is_high_and_training_free_beats_untrained(world):
    videos = world.evaluation("seen", 240)
    some = list(videos)
    torch.manual_seed(0)
    network = STALE(ModelConfig(text=None))
    mean = mean_feature(world.training(60))
    predictors = {
        "ceiling": ceiling_predictor(videos.classes),
        "nearest": nearest_text_predictor(videos.text_embeddings, mean),
        "untrained": network_predictor(network, videos.text_embeddings),
    }
    found = {name: evaluate_predictor(p, some, videos.classes).average_map for name, p in predictors.items()}
    assert found["ceiling"] > 0.84
    assert found["ceiling"] > found["nearest"] + 0.4
    assert found["nearest"] > found["untrained"] > 0.0


def test_the_ceiling_of_the_decoding_is_that_of_the_snippets(world):
    """Twice the snippets: what the ceiling misses is resolution, not the decoding."""
    videos = list(world.evaluation("unseen", 60))
    coarse, fine = (
        evaluate_predictor(ceiling_predictor(world.classes, snippets=n), videos, world.classes).average_map
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
    prediction = nearest_text_predictor(text, mean, snippets=50)(video)
    best = decode(*prediction, 50.0, classes=("a", "b", "c"))[0]
    assert best.label == "b"
    assert best.start_s == pytest.approx(10, abs=5)  # smoothing over 9 snippets reaches 4 further
    assert best.end_s == pytest.approx(30, abs=5)
    whole = decode(*whole_video_predictor(text, mean)(video), 50.0, classes=("a", "b", "c"))
    assert [(found.start_s, found.end_s, found.label) for found in whole[:1]] == [(0.0, 50.0, "b")]


def test_predictions_do_not_look_at_the_truth(world):
    source = world.evaluation("seen", 2)
    video = source.video(0, 0)
    blind = TrainingVideo(video.id, video.duration_s, (), video.features)
    text, mean = source.text_embeddings, mean_feature([source.video(1, 0)])
    torch.manual_seed(0)
    network = STALE(ModelConfig(heads=1, anchors=20, text=None))
    for predictor in (
        nearest_text_predictor(text, mean),
        whole_video_predictor(text, mean),
        network_predictor(network, text),
    ):
        for seen, unseen in zip(predictor(video), predictor(blind), strict=True):
            np.testing.assert_array_equal(seen, unseen)


def test_a_network_keeps_its_mode_and_takes_any_length(world):
    source = world.evaluation("seen", 1)
    network = STALE(ModelConfig(heads=1, anchors=20, text=None)).train()
    prediction = network_predictor(network, source.text_embeddings)(source.video(0, 0))
    assert network.training
    assert prediction.class_logits.shape == (20, 31)
    assert prediction.masks.shape == (20, 20)
    longer = network_predictor(network, torch.from_numpy(source.text_embeddings), snippets=33)(source.video(0, 0))
    assert longer.masks.shape == (20, 33)
    assert longer.video_logits.shape == (30,)


def test_lowest_between_is_what_it_says():
    curve = np.random.default_rng(1).random(9).astype(np.float32)
    expected = [[curve[min(a, b) : max(a, b) + 1].min() for b in range(9)] for a in range(9)]
    np.testing.assert_array_equal(lowest_between(curve), np.array(expected))


def test_a_mean_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no videos"):
        mean_feature([])
