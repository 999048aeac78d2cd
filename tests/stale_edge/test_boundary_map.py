"""The boundary map: map sums, closed form, targets, and what reaches a fit."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stale_edge.data.reference_points import evaluate_predictor, network_predictor
from stale_edge.networks.boundary_map.classes import ClassesPart, Examples, _text_map, pool_examples
from stale_edge.networks.boundary_map.config import BoundaryMapConfig
from stale_edge.networks.boundary_map.crops import random_crop
from stale_edge.networks.boundary_map.loss import MapPrediction, map_loss
from stale_edge.networks.boundary_map.model import GRID, SUM_SCALE, BoundaryMap, PairMap, pool_cells
from stale_edge.networks.boundary_map.spec import BOUNDARY_MAP_SPEC
from stale_edge.networks.boundary_map.targets import PARTS, map_targets
from stale_edge_runtime.formats.annotations import Instance
from stale_edge_runtime.heads.boundary_map import MAX_CELLS, cell_count

DIM = 16
CONFIG = BoundaryMapConfig(feature_dim=DIM, snippets=24, width=16, pair_channels=8, heads=2)


def video(segments, *, label="run", hidden=(), duration_s=24.0, features=None, name="v"):
    instances = tuple(Instance(start, end, label) for start, end in segments)
    return SimpleNamespace(id=name, duration_s=duration_s, instances=instances, hidden=hidden, features=features)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return BoundaryMap(CONFIG).eval()


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_the_map_is_what_plain_loops_over_pairs_give(count):
    torch.manual_seed(count)
    pair_map = PairMap(CONFIG).eval()
    rows = torch.randn(2, count, CONFIG.width)
    with torch.inference_mode():
        found = pair_map(rows)
        inside = pair_map.inside(rows)
        padded = F.pad(rows, (0, 0, 2, 2))
        edges = torch.stack([pair_map.edges(padded[:, i : i + 4].flatten(1)) for i in range(count + 1)], dim=1)
        for i in range(count):
            for j in range(i, count):
                mean, total = inside[:, i : j + 1].chunk(2, dim=2)
                length = pair_map.length(pair_map.waves[(j - i + 1) * GRID // count - 1])
                start, end = edges[:, i].chunk(2, dim=1)[0], edges[:, j + 1].chunk(2, dim=1)[1]
                pair = F.relu(start + end + mean.mean(dim=1) + SUM_SCALE / count * total.sum(dim=1) + length)
                expected = pair_map.score(pair + F.relu(pair_map.mix(pair)))[:, 0]
                assert torch.allclose(found[:, i, j], expected, atol=1e-5)


@pytest.mark.parametrize("snippets", [1, 128, 129, 255, 1000])
def test_cells_are_means_of_equally_many_snippets(snippets):
    features = torch.randn(1, snippets, 2)
    cells = pool_cells(features)[0]
    size = -(-snippets // MAX_CELLS)
    expected = torch.stack([part.mean(dim=0) for part in features[0].split(size)])
    assert cells.shape[0] == cell_count(snippets)
    assert torch.allclose(cells, expected, atol=1e-6)


@pytest.mark.parametrize("snippets", [1, 2, 3, 99, 257])
def test_outputs_have_the_shapes_of_the_head(network, snippets):
    from stale_edge_runtime.contract import Kind, ModelInfo, Precision
    from stale_edge_runtime.heads.boundary_map import BOUNDARY_MAP_HEAD

    info = ModelInfo(Kind.OPEN, Precision.FP32, DIM, "test", network="boundary-map")
    with torch.inference_mode():
        found = BOUNDARY_MAP_SPEC.outputs(network, torch.randn(2, snippets, DIM), torch.randn(3, DIM))
    shapes = BOUNDARY_MAP_HEAD.shapes(info, snippets, 3)
    assert {name: tuple(value.shape[1:]) for name, value in found.items()} == dict(shapes)
    assert all(bool(value.isfinite().all()) for value in found.values())


def test_a_video_alone_gives_what_it_gives_in_a_batch(network):
    features, text = torch.randn(3, 24, DIM), torch.randn(3, DIM)
    with torch.inference_mode():
        together, alone = network(features, text), network(features[1:2], text)
    for a, b in zip(together, alone, strict=True):
        assert torch.allclose(a[1:2], b, atol=1e-5)


@pytest.mark.parametrize(
    "segments",
    [[(3, 9)], [(3, 9), (9, 15)], [(2, 20), (5, 8)], [(0, 24)], [(7, 8)]],
    ids=["one", "adjacent", "nested", "whole", "one snippet"],
)
def test_the_pair_of_an_action_is_wanted_whole(segments):
    targets = map_targets([video(segments)], 24)
    hits = {(first, last + 1) for first, last in (targets.overlap[0] == PARTS).nonzero().tolist()}
    assert hits == set(segments)


def test_pairs_below_the_diagonal_and_hidden_actions_are_not_known():
    targets = map_targets([video([(0, 4)], hidden=((10, 12),))], 24)
    assert not targets.known[0].tril(-1).any()
    assert not targets.known[0, 10, 11]
    assert targets.known[0, 15, 20]
    assert targets.known[0, 0, 3]


def test_the_loss_is_least_for_what_is_wanted():
    targets = map_targets([video([(3, 9)]), video([])], 24)
    wanted = ((targets.overlap.float() / PARTS - 0.475) / 0.5).clamp(1e-4, 1 - 1e-4)
    best = map_loss(MapPrediction(wanted.logit()), targets)
    assert best.total < map_loss(MapPrediction(wanted.logit() + 1), targets).total
    assert best.total < map_loss(MapPrediction(wanted.logit() - 1), targets).total
    assert best.total == best.hits + 2 * best.misses


def examples(count=60, classes=6, seed=0):
    rng = torch.Generator().manual_seed(seed)
    text = F.normalize(torch.randn(classes, DIM, generator=rng), dim=1)
    labels = torch.arange(count) % classes
    means = text[labels] + 0.1 * torch.randn(count, DIM, generator=rng)
    return Examples(means, labels, torch.eye(DIM), 0.3, count), text


def test_the_text_map_is_the_direct_solution_of_the_ridge():
    found, text = examples()
    wanted = F.normalize(torch.stack([found.means[found.labels == label].mean(dim=0) for label in range(6)]), dim=1)
    rest = wanted - text * (wanted * text).sum(dim=1, keepdim=True)
    direct = torch.linalg.inv(text.T @ text + 0.5 * torch.eye(DIM)) @ text.T @ rest
    assert torch.allclose(_text_map(found.means, found.labels, text, 0.5), torch.eye(DIM) + direct, atol=1e-5)


def test_classes_without_examples_change_nothing():
    found, text = examples()
    plain, more = ClassesPart(DIM), ClassesPart(DIM)
    plain.fit(found, text)
    record = more.fit(found, torch.cat((text, text.mean(dim=0, keepdim=True))))
    assert record["classes with examples"] == 6
    assert torch.allclose(plain.whitening, more.whitening)
    assert torch.allclose(plain.text_map, more.text_map, atol=1e-5)


@pytest.mark.parametrize(("count", "classes"), [(1, 1), (5, 1), (2, 2), (1, 4)])
def test_the_closed_form_stands_few_videos_and_few_classes(count, classes):
    found, text = examples(count, classes)
    part = ClassesPart(DIM)
    part.fit(found, text)
    logits, gram, video = part(part.centred(torch.randn(2, 7, DIM)), part.text_side(text))
    assert all(bool(value.isfinite().all()) for value in (logits, gram, video))


def test_no_video_is_refused():
    found, text = examples()
    with pytest.raises(ValueError, match="at least one video"):
        ClassesPart(DIM).fit(Examples(found.means[:0], found.labels[:0], found.over_time, 1.0, 0), text)


def test_the_fit_classifies_what_it_saw_and_pools_exactly():
    found, text = examples()
    part = ClassesPart(DIM)
    part.fit(found, text)
    side = part.text_side(text)
    logits, gram, video = part(part.centred(found.means[:, None]), side)
    assert float((video.argmax(dim=1) == found.labels).float().mean()) > 0.9
    assert torch.allclose(logits[:, 0] / gram[:, 0].sqrt(), video, atol=1e-3)


def test_videos_of_several_classes_are_pooled_by_action_and_hidden_ones_never():
    features = np.zeros((24, DIM), np.float32)
    features[0:6, 0], features[12:18, 1], features[20:24, 2] = 1, 1, 100
    two = SimpleNamespace(
        id="v",
        duration_s=24.0,
        instances=(Instance(0, 6, "run"), Instance(12, 18, "jump")),
        hidden=((20.0, 24.0),),
        features=features,
    )
    found = pool_examples([two], ("run", "jump"), 24, DIM)
    assert found.labels.tolist() == [0, 1]
    assert found.means[:, :3].tolist() == [[1, 0, 0], [0, 1, 0]]


def planted_videos(count, seed):
    rng = np.random.default_rng(seed)
    text = np.random.default_rng(1).standard_normal((2, DIM)).astype(np.float32)
    videos = []
    for number in range(count):
        first = int(rng.integers(0, 12))
        last = first + int(rng.integers(4, 12))
        features = 0.1 * rng.standard_normal((24, DIM)).astype(np.float32)
        features[first:last] += text[number % 2]
        span, label = [(float(first), float(last))], ("run", "jump")[number % 2]
        videos.append(video(span, label=label, features=features, name=f"v{number}"))
    return videos, torch.from_numpy(text)


@pytest.fixture(scope="module")
def overfitted():
    """A tiny network that has learned four videos, with them."""
    videos, text = planted_videos(4, 0)
    torch.manual_seed(0)
    network = BoundaryMap(CONFIG)
    fit = BOUNDARY_MAP_SPEC.fit
    assert fit is not None
    fit(network, videos, ("run", "jump"), text)
    features, lengths, targets = BOUNDARY_MAP_SPEC.collate(videos, {}, CONFIG, None)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(250):
        loss = map_loss(BOUNDARY_MAP_SPEC.training_outputs(network, features, lengths, text), targets).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval(), videos, text


def average_map(network, videos, text):
    return evaluate_predictor(network_predictor("boundary-map", network, text, ("run", "jump")), videos).average_map


def test_a_tiny_network_overfits_four_videos(overfitted):
    network, videos, text = overfitted
    assert average_map(network, videos, text) >= 0.9


def test_a_wrong_vocabulary_loses_at_least_half(overfitted):
    network, videos, text = overfitted
    assert average_map(network, videos, text.flip(0)) <= average_map(network, videos, text) / 2


def test_crops_keep_features_and_actions_together():
    """A channel that is one within actions says where the targets of a crop must lie."""
    config = BoundaryMapConfig(feature_dim=2, snippets=24, width=16, pair_channels=8, heads=2, crop=True)
    features = np.zeros((400, 2), np.float32)
    actions = [(30, 38), (100, 150), (300, 301), (350, 390)]
    for start, end in actions:
        features[start:end, 0] = 1.0
    lengths = set()
    for number in range(60):
        shown = video(actions, duration_s=400.0, features=features, hidden=((200.0, 210.0),))
        shown.draw = (7, number)
        piece = random_crop(shown, config.snippets)
        lengths.add(len(piece.features))
        inside = np.zeros(len(piece.features), bool)
        for item in piece.instances:
            assert 0 <= item.start_s < item.end_s <= piece.duration_s
            inside[round(item.start_s) : round(item.end_s)] = True
        seen = piece.features[:, 0] > 0
        assert (seen[inside]).all()
        assert (seen & ~inside).sum() <= 1  # less than a snippet of the crop is no action to learn
        batch, _, targets = BOUNDARY_MAP_SPEC.collate([shown], {}, config, None)
        assert batch.shape == (1, 24, 2)
        assert targets.overlap.shape == (1, 24, 24)
    assert lengths == {24, 48}
    short = video([(1, 2)], duration_s=20.0, features=features[:20])
    assert random_crop(short, 24) is short


def test_a_network_of_crops_is_judged_in_windows():
    config = BoundaryMapConfig(feature_dim=DIM, snippets=24, width=16, pair_channels=8, heads=2, crop=True)
    assert BoundaryMapConfig.from_dict(config.to_dict()) == config
    torch.manual_seed(0)
    made = BoundaryMap(config).eval()
    text = torch.randn(3, DIM)
    long = video([(5, 9)], duration_s=100.0, features=np.random.default_rng(0).normal(0, 1, (200, DIM)).astype("f4"))
    found = network_predictor("boundary-map", made, text, ("a", "b", "c"))(long)
    whole = network_predictor("boundary-map", BoundaryMap(CONFIG).eval(), text, ("a", "b", "c"))(long)
    assert found
    assert max(item.end_s - item.start_s for item in found if item.score > 0.5 * found[0].score) <= 100.0
    assert len({round(item.start_s * 2) for item in found}) > len({round(item.start_s * 2) for item in whole})
    with pytest.raises(ValueError, match="crop must be true or false"):
        BoundaryMapConfig(crop=3)
