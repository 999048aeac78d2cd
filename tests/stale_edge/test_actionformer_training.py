"""ActionFormer is taught by the trainer of all networks: it learns, goes on to the bit, and tells when without what."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from stale_edge.checkpoint import load_checkpoint
from stale_edge.data.dataset import OneClass
from stale_edge.networks.actionformer.config import ActionFormerConfig, LossSettings
from stale_edge.networks.actionformer.model import ActionFormer
from stale_edge.networks.actionformer.presets import PRESETS
from stale_edge.training.run import End, RunOptions, TrainingRun
from stale_edge.training.settings import TrainingSettings
from stale_edge_runtime.contract import ACTION
from tests.stale_edge.training_driver import CLASSES, WIDTH, Videos, trainer

CONFIG = ActionFormerConfig(
    feature_dim=WIDTH,
    width=32,
    heads=2,
    classes=len(CLASSES),
    windows=(5, 5, 4, -1),
    stem_blocks=1,
    head_width=32,
    max_length=48,
    loss=LossSettings(positives=10.0),
)
SETTINGS = TrainingSettings(
    **{**PRESETS["activitynet-clip"].training, "epochs": 5, "batch_size": 4, "average_decay": 0.9}
)


class AgainAndAgain:
    """The same videos several times in an epoch."""

    def __init__(self, videos, times):
        self.classes, self._videos, self._times = videos.classes, videos, times

    def __len__(self):
        return self._times * len(self._videos)

    def video(self, index, epoch):
        return self._videos.video(index % len(self._videos), epoch)


def run_of(videos, config=CONFIG, times=1):
    torch.manual_seed(0)
    classes = (ACTION,) if config.is_class_agnostic else CLASSES
    network = ActionFormer(config)
    source = AgainAndAgain(videos, times)
    return TrainingRun(network, torch.zeros(0, 1), source, videos, {}, classes, network_name="actionformer")


def test_a_tiny_network_learns_four_videos_by_heart(tmp_path):
    settings = replace(SETTINGS, epochs=5, learning_rate=3e-3)
    config = replace(CONFIG, drop_path=0.0, shortest_crop=1.0)
    result = trainer(tmp_path, run_of(Videos(4), config, times=30), settings).fit()
    assert result.end is End.FINISHED
    assert result.average_map >= 0.8


@pytest.mark.slow
def test_one_without_classes_learns_when(tmp_path):
    config = replace(CONFIG, classes=1, drop_path=0.0, shortest_crop=1.0)
    settings = replace(SETTINGS, epochs=4, learning_rate=3e-3)
    result = trainer(tmp_path, run_of(OneClass(Videos(4)), config, times=30), settings).fit()
    assert result.average_map >= 0.8
    checkpoint = load_checkpoint(result.checkpoint)
    assert checkpoint.classes == (ACTION,)
    assert checkpoint.network.config == config


def test_a_training_goes_on_to_the_bit(tmp_path):
    """Crops, dropped branches, average and normaliser are all as if it had not been stopped."""
    whole = trainer(tmp_path / "whole", run_of(Videos(10, endless=True)), SETTINGS)
    whole.fit()

    class StopError(Exception):
        pass

    def stop(report):
        if report.step in {3, 7}:
            raise StopError

    for _ in range(2):
        job = trainer(
            tmp_path / "broken",
            run_of(Videos(10, endless=True)),
            SETTINGS,
            RunOptions(save_every_s=0.0, on_step=stop),
        )
        if (tmp_path / "broken" / "state.safetensors").exists():
            job.resume()
        with pytest.raises(StopError):
            job.fit()
    job = trainer(tmp_path / "broken", run_of(Videos(10, endless=True)), SETTINGS, RunOptions(save_every_s=0.0))
    job.resume()
    assert 0 < job.steps_done < job.steps
    job.fit()
    for name in ("best.safetensors", "state.safetensors", "training.csv", "validation.csv"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    rows = list(csv.DictReader((tmp_path / "whole" / "training.csv").open(encoding="utf-8")))
    assert len(rows) == 5 * 2  # of ten videos the last two make no batch
    assert [float(row["learning_rate"]) for row in rows[:3]] == pytest.approx([0.0, 5e-4, 1e-3])
    assert {"total", "classes", "segments", "gradient_norm"} <= rows[0].keys()


def test_the_average_is_what_is_judged_and_saved(tmp_path):
    run = run_of(Videos(4))
    result = trainer(tmp_path, run, SETTINGS).fit()
    saved = load_checkpoint(result.checkpoint).network.state_dict()
    last = run.network.state_dict()
    assert any(not torch.equal(saved[name], last[name]) for name in saved)


def test_videos_of_their_own_length_are_cropped(tmp_path):
    config = replace(CONFIG, resized=False, max_length=32, offset=2.0)
    result = trainer(tmp_path, run_of(Videos(8, endless=True), config), SETTINGS).fit()
    assert result.steps == 10


@pytest.fixture
def data(tmp_path):
    """Twelve videos of two classes."""
    rng, database = np.random.default_rng(0), {}
    (tmp_path / "features").mkdir()
    for number in range(12):
        features = 0.1 * rng.standard_normal((30, WIDTH)).astype(np.float32)
        features[10:20] += 1
        np.save(tmp_path / "features" / f"video{number}.npy", features)
        action = {"segment": [10.0, 20.0], "label": ("run", "jump")[number % 2]}
        database[f"video{number}"] = {"subset": "training", "duration": 30.0, "annotations": [action]}
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    return tmp_path


def test_the_command_line_trains_it_without_text(data, command, monkeypatch):
    from stale_edge.networks.actionformer.spec import ACTIONFORMER_SPEC
    from stale_edge.networks.registry import NETWORKS

    small = {
        name: replace(PRESETS["activitynet-clip"], config=replace(CONFIG, classes=classes))
        for name, classes in (("when", 1), ("what", 20))
    }
    monkeypatch.setitem(NETWORKS, "actionformer", replace(ACTIONFORMER_SPEC, presets=small))
    monkeypatch.setattr("stale_edge.networks.actionformer.spec.PRESETS", small)
    where = ("--annotations", data / "gt.json", "--features", data / "features", "--network", "actionformer")
    words = ("train", *where, "--held-out", 0.3, "--batch", 4, "--epochs", 2)
    for preset, classes in (("when", (ACTION,)), ("what", ("jump", "run"))):
        model = data / f"{preset}.safetensors"
        code, _, err = command(*words, "--preset", preset, "-o", data / preset, "--model", model)
        assert code == 0, err
        checkpoint = load_checkpoint(model)
        assert sorted(checkpoint.classes) == sorted(classes)
        assert checkpoint.network.config.classes == len(classes)
        assert checkpoint.network_name == "actionformer"
    more = ("--initial", data / "what.safetensors", "-o", data / "more", "--model", data / "more.safetensors")
    assert command(*words[:5], *words[7:], *more)[0] == 0
    np.save(data / "text.npy", np.zeros((2, WIDTH), np.float32))
    (data / "classes.txt").write_text("run\njump\n")
    text = ("--text-embeddings", data / "text.npy", "--classes", data / "classes.txt", "-o", data / "text")
    code, _, err = command(*words, *text)
    assert (code, "plays no part in the network actionformer" in err) == (2, True)
    code, _, err = command(*words, "--preset", "none", "-o", data / "none")
    assert (code, "--preset: 'none' is not known; choose from when, what" in err) == (2, True)
    code, _, err = command(*words, "--compat", "stale", "-o", data / "none")
    assert (code, "--compat: belongs to the network stale" in err) == (2, True)
