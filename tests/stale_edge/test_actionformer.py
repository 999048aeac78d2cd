"""ActionFormer meets the numbers of the published code: network, targets, loss, schedule, data."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from stale_edge.checkpoint import load_checkpoint, read_published, save_checkpoint
from stale_edge.networks.actionformer.config import ActionFormerConfig, LossSettings
from stale_edge.networks.actionformer.loss import ActionFormerLoss
from stale_edge.networks.actionformer.model import ActionFormer, ActionFormerOutput
from stale_edge.networks.actionformer.presets import PRESETS
from stale_edge.networks.actionformer.targets import ActionFormerTargets, level_points, video_targets
from stale_edge.networks.actionformer.videos import Grid, collate, distinct, random_crop, within
from stale_edge.networks.registry import NETWORKS
from stale_edge.seeded import seeded_network
from stale_edge.training.settings import TrainingSettings
from stale_edge.training.trainer import make_optimizer, update_average
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.resampling import resize
from tests.stale_edge.actionformer_examples import CONFIGS, GOLDEN, TINY, TINY_LOCAL

NAME = "actionformer"
SPEC = NETWORKS[NAME]


def golden(name):
    path = GOLDEN / name
    return json.loads(path.read_text()) if path.suffix == ".json" else np.load(path)


def published_file(path, network, **more):
    """Write a file in the published format, with weights that must not be taken beside those that must."""
    averaged = {f"module.{name}": value for name, value in network.state_dict().items()}
    last = {name: value + 1 for name, value in averaged.items()}
    torch.save({"epoch": 3, "state_dict": last, "state_dict_ema": averaged, "scheduler": {}, **more}, path)
    return path


@pytest.mark.parametrize("case", CONFIGS)
def test_published_weights_converted_and_stored_give_the_published_answers(case, tmp_path):
    config = CONFIGS[case]
    path = published_file(tmp_path / "epoch_034.pth.tar", seeded_network(config, 0, NAME))
    sizes = config if case.startswith("tiny") else None  # those of a preset are read from the file
    names = ("action",) if config.classes == 1 else tuple(f"class {index}" for index in range(config.classes))
    converted = read_published(path, names, sizes).checkpoint
    assert converted.network_name == NAME
    save_checkpoint(tmp_path / "a.safetensors", converted)
    network = load_checkpoint(tmp_path / "a.safetensors").network
    assert network.config == config
    expected = golden(f"forward_{case}.npz")
    lengths = sorted({int(name.split(".")[0]) for name in expected.files})
    for snippets in lengths:
        assert config.padded(snippets) == expected[f"{snippets}.padded"]
        drawn = np.random.default_rng(1000 + snippets).standard_normal((config.feature_dim, snippets))
        features = torch.from_numpy(np.ascontiguousarray(drawn.astype(np.float32).T))[None]
        with torch.inference_mode():
            output = SPEC.outputs(network, features, torch.zeros(0, 512))
        first = 0
        for level, count in enumerate(expected[f"{snippets}.valid"]):
            logits, offsets = (output[name][0, first : first + count].numpy() for name in ("class_logits", "offsets"))
            first += count
            if case == "thumos_i3d":  # three classes are stored, and every eighth position of the long video
                logits = logits[:, [0, 9, 19]]
                if snippets == 2304:
                    logits, offsets = logits[::8], offsets[::8]
            np.testing.assert_allclose(logits, expected[f"{snippets}.logits.{level}"], rtol=0, atol=1e-5)
            np.testing.assert_allclose(offsets, expected[f"{snippets}.offsets.{level}"], rtol=0, atol=1e-5)
        assert first == output["offsets"].shape[1]


def test_every_name_and_shape_is_the_published_one():
    stored = golden("state_keys.json")
    for key, preset in (
        ("thumos_i3d", "thumos14-i3d"),
        ("anet_tsp", "activitynet-tsp"),
        ("anet_i3d", "activitynet-i3d"),
    ):
        config = PRESETS[preset].config
        with torch.device("meta"):
            network = ActionFormer(config)
        assert {name: list(value.shape) for name, value in network.state_dict().items()} == stored["keys"][key]
        assert sum(parameter.numel() for parameter in network.parameters()) == stored["counts"][key]["total"]
        assert config.multiple == stored["counts"][key]["max_div_factor"]


def test_the_inside_of_the_network_is_the_published_one():
    expected = golden("forward_tiny_pe.npz")
    network = seeded_network(TINY, 0, NAME)
    drawn = np.random.default_rng(1097).standard_normal((TINY.feature_dim, 97)).astype(np.float32)
    seen = {}
    network.backbone.stem[0].attn.register_forward_hook(lambda *parts: seen.update(attention=parts[2]))
    network.neck.register_forward_hook(lambda *parts: seen.update(levels=parts[1][0], neck=parts[2]))
    network.detect(torch.from_numpy(np.ascontiguousarray(drawn.T))[None])
    np.testing.assert_allclose(seen["attention"][0], expected["97.stem0_attention"], rtol=0, atol=1e-5)
    for level in range(4):
        np.testing.assert_allclose(seen["levels"][level][0], expected[f"97.backbone.{level}"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(seen["neck"][level][0], expected[f"97.neck.{level}"], rtol=0, atol=1e-5)


def test_a_batch_gives_what_its_videos_give_alone():
    network = seeded_network(TINY_LOCAL, 0, NAME)
    features = torch.randn(3, 77, 20, generator=torch.Generator().manual_seed(0))
    together = network.detect(features)
    for index in range(3):
        alone = network.detect(features[index : index + 1])
        for whole, part in zip(together, alone, strict=True):
            torch.testing.assert_close(whole[index], part[0], rtol=0, atol=2e-6)


@pytest.mark.parametrize("snippets", [1, 2, 31, 32, 33, 95, 96, 97, 191, 192, 193, 300])
def test_the_short_padding_gives_the_answers_of_the_long_one(snippets):
    config = replace(TINY_LOCAL, windows=(9, 5, -1))
    network = seeded_network(config, 1, NAME)
    features = torch.randn(1, snippets, 20, generator=torch.Generator().manual_seed(snippets))
    short = network.detect(features)
    padded = config.padded(snippets)
    whole = torch.zeros(1, padded, 20)
    whole[:, :snippets] = features
    long = network(whole, torch.tensor([snippets]))
    first = kept = 0
    for stride in config.strides:
        count = -(-snippets // stride)
        for found, wanted in zip(short, long, strict=True):
            part = wanted[:, first : first + padded // stride]
            torch.testing.assert_close(found[:, kept : kept + count], part[:, :count], rtol=0, atol=2e-6)
            assert not part[:, count:].any()
        first, kept = first + padded // stride, kept + count


@pytest.mark.parametrize("case", sorted({name.rsplit(".", 1)[0] for name in golden("targets.npz").files} - {"points"}))
def test_targets_are_the_published_ones(case):
    stored = golden("targets.npz")
    points = level_points(ActionFormerConfig(classes=5), 192)
    np.testing.assert_array_equal(torch.stack(points, dim=1), stored["points"])
    segments = torch.from_numpy(stored[f"{case}.segments"])
    labels = torch.from_numpy(stored[f"{case}.labels"])
    found = video_targets(points, segments, labels, 5, centre=not case.endswith("no_centre"))
    positive = found.classes.sum(dim=1).nonzero()[:, 0]
    np.testing.assert_array_equal(positive, stored[f"{case}.positive"])
    np.testing.assert_array_equal(found.classes[positive], stored[f"{case}.cls"])
    np.testing.assert_array_equal(found.offsets[positive], stored[f"{case}.reg"])


def targets_of(config, segments, labels, lengths):
    points = level_points(config, config.max_length)
    videos = [
        video_targets(points, torch.tensor(rows).reshape(-1, 2), torch.tensor(names, dtype=torch.int64), config.classes)
        for rows, names in zip(segments, labels, strict=True)
    ]
    valid = points.times < torch.tensor(lengths)[:, None]
    return ActionFormerTargets(*(torch.stack(part) for part in zip(*videos, strict=True)), valid)


def norm(gradient):
    return float(gradient.double().norm())


def test_the_loss_and_its_running_normaliser_are_the_published_ones():
    stored, losses = golden("loss.npz"), {}
    for call in golden("loss.json")["calls"]:
        settings = LossSettings(call["init_loss_norm"], call["loss_weight"], call["label_smoothing"])
        config = ActionFormerConfig(classes=call["num_classes"], loss=settings)
        loss = losses.setdefault(call["case"], ActionFormerLoss(settings))
        arrays = (stored[f"{call['case']}.{call['step']}.{name}"] for name in ("logits", "offsets"))
        output = ActionFormerOutput(*(torch.from_numpy(array).requires_grad_() for array in arrays))
        targets = targets_of(config, call["segments"], call["labels"], call["lengths"])
        terms = loss(output, targets)
        expected = [call[name] for name in ("final_loss", "cls_loss", "reg_loss")]
        np.testing.assert_allclose([float(term.detach()) for term in terms], expected, rtol=1e-6)
        assert float(loss.normalizer) == pytest.approx(call["loss_norm_after"], rel=1e-12)
        terms.total.backward()
        assert norm(output.class_logits.grad) == pytest.approx(call["grad_logits_l2"], rel=1e-5)
        assert norm(output.offsets.grad) == pytest.approx(call["grad_offsets_l2"], rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("case", ["tiny_pe", "anet_tsp"])
def test_a_training_step_has_the_published_gradients(case):
    stored = golden("loss.json")[f"network_{case}"]
    config = replace(CONFIGS[case], loss=LossSettings(20.0 if case == "tiny_pe" else 200.0))
    network = seeded_network(config, 0, NAME).requires_grad_(requires_grad=True).train()
    for module in network.modules():
        if hasattr(module, "drop"):
            module.drop = 0.0
    features = torch.zeros(2, config.max_length, config.feature_dim)
    for row, length in zip(features, stored["lengths"], strict=True):
        drawn = np.random.default_rng(2000 + length).standard_normal((config.feature_dim, length))
        row[:length] = torch.from_numpy(drawn.astype(np.float32).T)
    segments = [[[10.2, 30.7], [12.0, 80.0], [50.25, 54.0]], [[3.3, 70.1]]]
    labels = [[index % config.classes for index in (0, 1, 2)], [0]]
    loss = ActionFormerLoss(config.loss)
    output = SPEC.training_outputs(network, features, torch.tensor(stored["lengths"]), torch.zeros(0, 512))
    terms = loss(output, targets_of(config, segments, labels, stored["lengths"]))
    expected = [stored[name] for name in ("final_loss", "cls_loss", "reg_loss")]
    np.testing.assert_allclose([float(term.detach()) for term in terms], expected, rtol=1e-6)
    assert float(loss.normalizer) == pytest.approx(stored["loss_norm_after"])
    terms.total.backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    for name, length in stored["grad_l2"].items():
        assert norm(gradients[name]) == pytest.approx(length, rel=1e-5), name
    total = sum(norm(gradient) ** 2 for gradient in gradients.values()) ** 0.5
    assert total == pytest.approx(stored["grad_l2_total"], rel=1e-5)


@pytest.mark.parametrize(("case", "preset"), [("anet", "activitynet-tsp"), ("thumos", "thumos14-i3d")])
def test_the_learning_rate_of_every_step_is_the_published_one(case, preset):
    stored = golden("schedule.json")[case]
    epochs = stored["epochs"] + stored["warmup_epochs"]
    settings = TrainingSettings(**PRESETS[preset].training)
    assert (settings.epochs, settings.learning_rate) == (epochs, stored["base"])
    steps = epochs * stored["iterations_per_epoch"]
    found = [settings.learning_rate_at(step, steps) for step in range(steps)]
    np.testing.assert_allclose(found, stored["lr"], rtol=1e-12, atol=1e-18)


def test_the_optimiser_decays_what_the_published_one_decays():
    network = ActionFormer(CONFIGS["anet_tsp"])
    settings = TrainingSettings(**PRESETS["activitynet-tsp"].training)
    for group, expected in zip(
        make_optimizer(network, settings, SPEC.decays).param_groups, golden("schedule.json")["groups"], strict=True
    ):
        assert group["weight_decay"] == expected["weight_decay"]
        assert len(group["params"]) == expected["parameters"]
        assert sum(parameter.numel() for parameter in group["params"]) == expected["numel"]
        assert list(group["betas"]) == expected["betas"]
        assert group["eps"] == expected["eps"]


def test_the_average_moves_by_a_thousandth():
    average, network = ActionFormer(TINY), ActionFormer(TINY)
    before = {name: value.clone() for name, value in average.state_dict().items()}
    update_average(average, network, 0.999)
    for name, value in average.state_dict().items():
        torch.testing.assert_close(value, 0.999 * before[name] + 0.001 * network.state_dict()[name])


def test_annotations_land_on_the_published_grid():
    for key, case in golden("data.json").items():
        if key == "crops" or "annotations" not in case:
            continue
        step = case["feat_stride"] / case["fps"]
        grid = Grid(step, 0.5 * case["feat_num_frames"] / case["feat_stride"])
        rows = np.array([row[:2] for row in case["annotations"]])
        labels = [row[2] for row in case["annotations"]]
        chosen = distinct(rows, labels)
        segments = grid.positions(rows[chosen])
        names = [labels[index] for index in chosen]
        if ".train." in key:
            segments, kept = within(segments, 192)
            names = [names[index] for index in kept]
        np.testing.assert_allclose(segments, case["segments"], rtol=0, atol=3e-5, err_msg=key)
        assert names == case["labels"]


def test_resizing_is_the_published_one():
    stored, cases = golden("data.npz"), golden("data.json")
    for name in stored.files:
        rows = next(case["features"] for key, case in cases.items() if key.endswith(f".{name.split('.')[0]}"))
        drawn = np.random.default_rng(3000 + rows).standard_normal((4, rows)).astype(np.float32)
        np.testing.assert_allclose(resize(drawn.T, 192).T, stored[name], rtol=0, atol=1e-5)


def test_crops_are_the_published_ones():
    for case in golden("data.json")["crops"]:
        chance = random.Random(case["python_random_seed"])
        shortest = None if case["crop_ratio"] is None else case["crop_ratio"][0]
        longest = 1.0 if case["crop_ratio"] is None else case["crop_ratio"][1]
        if longest != 1.0:
            continue  # the published configurations have no other
        segments = np.array(case["segments"])
        crop = random_crop(case["length"], case["max_seq_len"], segments, case["offset"], shortest, chance)
        assert (crop.start, crop.length) == (case["start"], case["cropped_length"])
        np.testing.assert_allclose(crop.segments, case["out_segments"], rtol=0, atol=1e-5)
        assert [case["labels"][index] for index in crop.kept] == case["out_labels"]


class Video:
    def __init__(self, features, duration_s, instances, hidden=(), draw=(0,)):
        self.features, self.duration_s, self.instances = features, duration_s, instances
        self.hidden, self.draw = hidden, draw


class Action:
    def __init__(self, start_s, end_s, label):
        self.start_s, self.end_s, self.label = start_s, end_s, label


def test_a_batch_holds_padded_videos_and_leaves_hidden_actions_out():
    config = replace(TINY_LOCAL, classes=1, shortest_crop=1.0)
    features = np.ones((100, 20), np.float32)
    plain = Video(features, 100.0, [Action(10.0, 14.0, "a")])
    hidden = Video(features, 100.0, [Action(10.0, 14.0, "a")], hidden=((50.0, 70.0),))
    found, lengths, targets = collate([plain, hidden], {"a": 0}, config)
    assert found.shape == (2, 256, 20)
    assert lengths.tolist() == [100, 100]
    assert found[:, :100].eq(1).all()
    assert not found[:, 100:].any()
    times = level_points(config, 256).times
    assert torch.equal(targets.valid[0], times < 100)
    left_out = targets.valid[0] & ~targets.valid[1]
    assert torch.equal(left_out, (times > 49.5) & (times < 69.5))
    assert torch.equal(targets.classes[0], targets.classes[1])
    assert targets.classes.any()


def test_the_same_showing_of_a_video_is_cropped_alike_and_another_is_not():
    features = np.arange(250 * 20, dtype=np.float32).reshape(250, 20)
    actions = [Action(10.0, 240.0, "a")]

    def lengths(draw):
        return collate([Video(features, 250.0, actions, draw=draw)], {"a": 0}, replace(TINY_LOCAL, classes=1))[1:2]

    assert lengths((0, 1, 2)) == lengths((0, 1, 2))
    assert len({int(lengths((0, epoch, 2))[0]) for epoch in range(20)}) > 5


@pytest.mark.parametrize("window", [2, 3])
def test_windows_that_the_published_network_has_no_form_for_are_refused_with_the_reason(window):
    with pytest.raises(ValueError, match=f"window {window} reaches one position to each side"):
        replace(TINY, windows=(5, window, 5, -1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 15}, "width 15 is not a multiple of 2 heads"),
        ({"max_length": 90}, "max_length 90 is not a multiple of 16"),
        ({"windows": ()}, "windows must be 1 to 12 integers"),
        ({"classes": 0}, "classes must be an integer from 1"),
        ({"feature_dim": True}, "feature_dim must be an integer"),
        ({"drop_path": 1.0}, "drop_path must be a number from 0 to 0.999"),
        ({"loss": []}, "'loss' is not a JSON object"),
        ({"decoding": {"method": "other"}}, "method must be one of soft, linear, hard, none"),
        ({"windows": 7}, "'windows' is 7, not a list"),
    ],
)
def test_a_configuration_refuses_what_it_must_not_be(change, words):
    with pytest.raises(ValueError, match=words):
        ActionFormerConfig.from_dict({**TINY.to_dict(), **change})


def test_a_configuration_survives_its_json():
    for config in CONFIGS.values():
        assert ActionFormerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_without_drop_path_no_branch_has_a_scale():
    assert not [name for name in ActionFormer(replace(TINY, drop_path=0.0)).state_dict() if "drop_path" in name]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda state: state.pop("module.neck.fpn_norms.0.bias"), "lacks neck.fpn_norms.0.bias"),
        (lambda state: state.update({"module.extra": torch.zeros(1)}), "holds extra, which the network does not have"),
        (lambda state: state.update({"module.reg_head.scale.0.scale": torch.zeros(2)}), r"is \[2\], not \[\]"),
        (lambda state: state["module.neck.fpn_norms.0.bias"].fill_(torch.nan), "NaN or infinity"),
    ],
)
def test_a_published_file_that_does_not_fit_is_refused(harm, words, tmp_path):
    state = {f"module.{name}": value.clone() for name, value in seeded_network(TINY, 0, NAME).state_dict().items()}
    harm(state)
    torch.save({"state_dict": {}, "state_dict_ema": state}, tmp_path / "a.pth.tar")
    with pytest.raises(BadDataError, match=words):
        read_published(tmp_path / "a.pth.tar", ("run", "jump", "swim"), TINY)
