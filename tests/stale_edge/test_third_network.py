"""A tiny network defined here alone, trained by the command line with no line of the product touched."""

from __future__ import annotations

import csv
import dataclasses
import json
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stale_edge.checkpoint import load_checkpoint
from stale_edge.networks.base import NetworkSpec
from stale_edge.networks.registry import NETWORKS
from stale_edge.networks.resampling import resize
from stale_edge_runtime.contract import BATCH, CLASSES, SNIPPETS
from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.heads.base import Head
from stale_edge_runtime.heads.registry import HEADS

NAME = "curve"
LENGTH = 20


@dataclasses.dataclass(frozen=True)
class CurveConfig:
    feature_dim: int = 512
    text: None = None

    def to_dict(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values):
        return cls(values.get("feature_dim", 512))


class Curve(nn.Module):
    """One curve for each class: how alike a snippet and a text are, after one linear map."""

    text_tower = None

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.map = nn.Linear(config.feature_dim, config.feature_dim, bias=False)

    def forward(self, features, text):
        return F.normalize(self.map(features), dim=2) @ F.normalize(text, dim=1).T  # [B, T, C]


class CurveTargets:
    def __init__(self, present):
        self.present = present  # [B, T, C]

    def tensors(self):
        return (self.present,)

    def to(self, device, *, non_blocking=False):
        return CurveTargets(self.present.to(device, non_blocking=non_blocking))

    def pin_memory(self):
        return self


class CurveOutputs(NamedTuple):
    curves: Tensor


class CurveTerms(NamedTuple):
    total: Tensor
    crossing: Tensor


def collate(videos, classes, config, compat):
    present = torch.zeros(len(videos), LENGTH, len(classes))
    for row, video in zip(present, videos, strict=True):
        for instance in video.instances:
            first, last = (int(LENGTH * time / video.duration_s) for time in (instance.start_s, instance.end_s))
            row[first : last + 1, classes[instance.label]] = 1
    features = torch.stack([torch.from_numpy(resize(video.features, LENGTH)) for video in videos])
    return features, CurveTargets(present)


def loss(weights, compat):
    def compare(outputs, targets):
        crossing = F.binary_cross_entropy_with_logits(10 * outputs.curves, targets.present)
        return CurveTerms(crossing, crossing)

    return compare


def decode(outputs, duration_s, *, classes, info, compat=None, external=None, options=None):
    curves = outputs["curves"]
    best = int(curves.mean(axis=0).argmax())
    inside = np.flatnonzero(curves[:, best] >= curves[:, best].mean())
    start, end = (float(at * duration_s / len(curves)) for at in (inside[0], inside[-1] + 1))
    return [Detection(start, end, classes[best], float(np.clip(curves[:, best].max(), 0, 1)))]


def examples(info, snippets, classes):
    outputs = {"curves": np.random.default_rng(0).random((snippets, classes), np.float32)}
    return {"clear": outputs, "noisy": outputs}


SPEC = NetworkSpec(
    config=CurveConfig,
    build=Curve,
    first_config=lambda width, options: CurveConfig(width),
    training_length=lambda config: LENGTH,
    collate=collate,
    set_statistics=lambda network, features, text: None,
    training_outputs=lambda network, features, text: CurveOutputs(network(features, text)),
    loss=loss,
    loss_terms=CurveTerms._fields,
    outputs=lambda network, features, text: {"curves": network(features, text)},
)
HEAD = Head(
    outputs=("curves",),
    check_info=lambda info: None,
    axes=lambda info: {"curves": (BATCH, SNIPPETS, len(info.classes) or CLASSES)},
    shapes=lambda info, snippets, classes: {"curves": (snippets, classes)},
    decode=decode,
    activation_floats=lambda info, snippets, classes, block: snippets * (info.feature_dim + classes),
    examples=lambda info, snippets, classes: {
        kind: {"curves": np.random.default_rng(0).random((snippets, classes), np.float32)}
        for kind in ("clear", "noisy")
    },
)


@pytest.fixture
def curve(monkeypatch):
    monkeypatch.setitem(NETWORKS, NAME, SPEC)
    monkeypatch.setitem(HEADS, NAME, HEAD)


@pytest.fixture
def data(tmp_path):
    """Twelve videos of two classes; the action is where the features are those of its text."""
    rng = np.random.default_rng(0)
    text = rng.standard_normal((2, 512)).astype(np.float32)
    database = {}
    (tmp_path / "features").mkdir()
    for number in range(12):
        features = 0.1 * rng.standard_normal((30, 512)).astype(np.float32)
        features[10:20] += text[number % 2]
        np.save(tmp_path / "features" / f"video{number}.npy", features)
        action = {"segment": [10.0, 20.0], "label": ("run", "jump")[number % 2]}
        database[f"video{number}"] = {"subset": "training", "duration": 30.0, "annotations": [action]}
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    (tmp_path / "classes.txt").write_text("run\njump\n")
    np.save(tmp_path / "text.npy", text)
    return tmp_path


def test_it_is_trained_saved_and_resumed_by_the_command_line(curve, data, command):
    where = ("--annotations", data / "gt.json", "--features", data / "features", "--text-embeddings", data / "text.npy")
    words = ("train", *where, "--classes", data / "classes.txt", "--network", NAME, "--held-out", 0.3, "--batch", 4)
    out = ("-o", data / "run", "--model", data / "curve.safetensors", "--epochs", 3)
    code, _, err = command(*words, *out)
    assert code == 0, err
    checkpoint = load_checkpoint(data / "curve.safetensors")
    assert (checkpoint.network_name, checkpoint.classes) == (NAME, ("run", "jump"))
    assert isinstance(checkpoint.network, Curve)
    assert checkpoint.origin["held_out_average_map"] > 0
    rows = list(csv.DictReader((data / "run" / "training.csv").open()))
    assert {"total", "crossing"} <= rows[0].keys()
    assert float(rows[-1]["total"]) < float(rows[0]["total"])
    assert f'"network": "{NAME}"' in command("inspect", data / "curve.safetensors", "--json")[1]


def test_it_is_refused_by_name_where_it_is_not_known(data, command):
    where = ("--annotations", data / "gt.json", "--features", data / "features", "--text-embeddings", data / "text.npy")
    code, _, err = command("train", *where, "--classes", data / "classes.txt", "--network", NAME, "-o", data / "run")
    assert code == 2
    assert "--network: 'curve' is not known; choose from stale" in err


def test_a_checkpoint_of_it_is_refused_where_it_is_not_known(data, tmp_path):
    from stale_edge.checkpoint import Checkpoint, save_checkpoint

    save_checkpoint(tmp_path / "c.safetensors", Checkpoint(Curve(CurveConfig(8)), ("run",), network_name=NAME))
    with pytest.raises(BadDataError, match="holds the network 'curve'; this version knows stale; use a newer"):
        load_checkpoint(tmp_path / "c.safetensors")


def test_every_network_has_a_head():
    assert NETWORKS.keys() == HEADS.keys()
