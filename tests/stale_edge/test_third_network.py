"""A tiny network defined here alone goes all the way by the command line, with no line of the product touched."""

from __future__ import annotations

import csv
import dataclasses
import json
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stale_edge.checkpoint import load_checkpoint, read_published
from stale_edge.networks.base import NetworkSpec, PublishedNames
from stale_edge.networks.registry import NETWORKS
from stale_edge_export.graphs.base import Decision, GraphSpec
from stale_edge_export.graphs.registry import GRAPHS
from stale_edge_runtime.contract import BATCH, CLASSES, SNIPPETS
from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.heads.base import Head
from stale_edge_runtime.heads.registry import HEADS
from stale_edge_runtime.model_file import read_model
from stale_edge_runtime.resampling import resize
from tests.published_examples import write_published_checkpoint

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


class CurveGraph(nn.Module):
    """The network as a file holds it: features in, and text where it is not inside."""

    def __init__(self, network, text):
        super().__init__()
        self.network, self.text = network, text

    def forward(self, features, *text_inputs):
        return self.network(features, self.text(*text_inputs))


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
    return features, torch.full((len(videos),), LENGTH), CurveTargets(present)


def loss(config, settings):
    def compare(outputs, targets):
        crossing = F.binary_cross_entropy_with_logits(10 * outputs.curves, targets.present)
        return CurveTerms(crossing, crossing)

    return compare


def decode(outputs, duration_s, *, classes, info, choices=None):
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
    first_config=lambda sizes: CurveConfig(sizes.feature_dim),
    training_length=lambda config: LENGTH,
    collate=collate,
    set_statistics=lambda network, means: None,
    training_outputs=lambda network, features, lengths, text: CurveOutputs(network(features, text)),
    loss=loss,
    loss_terms=CurveTerms._fields,
    outputs=lambda network, features, text: {"curves": network(features, text)},
    seeded_values=lambda name, shape, seed: np.random.default_rng(seed).standard_normal(shape).astype(np.float32),
    metadata=lambda config: {},
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


GRAPH = GraphSpec(
    build=CurveGraph,
    tolerance={"curves": 1e-5},
    decisions={"curves": Decision(lambda curves: curves.argmax(axis=2), "top class of a snippet")},
)


@pytest.fixture
def curve(monkeypatch):
    monkeypatch.setitem(GRAPHS, NAME, GRAPH)
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


@pytest.fixture
def trained(curve, data, command):
    """The folder of `data`, with a checkpoint in it."""
    where = ("--annotations", data / "gt.json", "--features", data / "features", "--text-embeddings", data / "text.npy")
    words = ("train", *where, "--classes", data / "classes.txt", "--network", NAME, "--held-out", 0.3, "--batch", 4)
    code, _, err = command(*words, "-o", data / "run", "--model", data / "curve.safetensors", "--epochs", 2)
    assert code == 0, err
    return data


@pytest.fixture
def exported(trained, command):
    """The same with files of all precisions beside, classes inside."""
    code, out, err = command(
        "export", trained / "curve.safetensors", "-o", trained / "curve.onnx", "--snippet-seconds", 1
    )
    assert code == 0, err
    assert "agrees with PyTorch at every length checked" in out
    for precision in ("int8", "fp16"):
        code, out, err = command("quantize", trained / "curve.onnx", f"--{precision}")
        assert code == 0, err
        assert "Changed decisions: curves, top class of a snippet." in " ".join(out.split())
    return trained


FILES = ("curve.onnx", "curve.int8.onnx", "curve.fp16.onnx")


def test_its_files_say_what_they_are_and_pass_the_checker(exported):
    infos = [read_model(exported / name).info for name in FILES]
    assert [str(info.precision) for info in infos] == ["fp32", "int8", "fp16"]
    for name, info in zip(FILES, infos, strict=True):
        assert (info.network, info.classes, info.anchors) == (NAME, ("run", "jump"), 0)
        assert info.parity["max_error"]["curves"] <= info.parity["tolerance"]["curves"] == 1e-5
        onnx.checker.check_model(onnx.load(exported / name), full_check=True)
    assert infos[1].recipe["weight_products"]
    assert infos[1].recipe["harm"]["curves"]["changed_decisions"] is not None
    assert infos[1].recipe["low_precision_share"] > 0.5


@pytest.mark.parametrize("name", FILES)
def test_it_detects_and_is_evaluated(exported, command, name):
    results, truth = exported / "results.json", exported / "gt.json"
    assert command("detect", exported / name, exported / "features", "-o", results)[0] == 0
    code, _, err = command("evaluate", results, "--ground-truth", truth, "--tiou", 0.5, "--json", exported / "m.json")
    assert code == 0, err
    found = json.loads((exported / "m.json").read_text())
    assert found["videos"] == 12
    assert found["average_map"] > 0.9  # every action is where the features are those of its class


def test_it_is_timed_with_its_decoding(exported, command, brief_ceiling):
    quick = ("--lengths", "30,60", "--runs", 2, "--no-cold-start", "--json", exported / "bench.json")
    code, out, err = command("bench", *(exported / name for name in FILES[:2]), *quick)
    assert code == 0, err
    rows = json.loads((exported / "bench.json").read_text())["rows"]
    assert {(row["model"], row["snippets"]) for row in rows} == {(name, at) for name in FILES[:2] for at in (30, 60)}
    # One map of the features, and their products with the text.
    assert rows[0]["gmacs"] == pytest.approx(30 * 512 * (512 + 2) / 1e9, rel=0.01)
    assert "decoding" in out


def test_it_takes_text_as_an_input(trained, command):
    path = trained / "open.onnx"
    code, _, err = command("export", trained / "curve.safetensors", "--open", "-o", path)
    assert code == 0, err
    text = ("--text-embeddings", trained / "text.npy", "--classes", trained / "classes.txt")
    code, _, err = command("detect", path, trained / "features", *text, "-o", trained / "results.json")
    assert code == 0, err
    assert len(json.loads((trained / "results.json").read_text())["results"]) == 12


def test_a_file_that_differs_from_it_is_not_written(trained, command, monkeypatch):
    strict = dataclasses.replace(GRAPH, tolerance={"curves": -1.0})
    monkeypatch.setitem(GRAPHS, NAME, strict)
    code, _, err = command("export", trained / "curve.safetensors", "-o", trained / "curve.onnx")
    assert code == 65
    assert "curves differs from PyTorch by" in err
    assert not (trained / "curve.onnx").exists()


def test_it_has_no_published_forward_to_be_compared_with(exported, command):
    words = ("--compare", "torch", "--checkpoint", exported / "curve.safetensors", "--lengths", 30, "--runs", 1)
    code, _, err = command("bench", exported / "curve.onnx", *words)
    assert code == 2
    assert "has no published forward of the network curve" in err


def test_it_is_refused_by_name_where_it_is_not_known(data, command):
    where = ("--annotations", data / "gt.json", "--features", data / "features", "--text-embeddings", data / "text.npy")
    code, _, err = command("train", *where, "--classes", data / "classes.txt", "--network", NAME, "-o", data / "run")
    assert code == 2
    assert "--network: 'curve' is not known; choose from stale, actionformer" in err


def test_a_checkpoint_of_it_is_refused_where_it_is_not_known(data, tmp_path):
    from stale_edge.checkpoint import Checkpoint, save_checkpoint

    save_checkpoint(tmp_path / "c.safetensors", Checkpoint(Curve(CurveConfig(8)), ("run",), network_name=NAME))
    with pytest.raises(BadDataError, match="holds the network 'curve'; this version knows stale,"):
        load_checkpoint(tmp_path / "c.safetensors")


def test_every_network_has_a_head_and_a_graph():
    assert NETWORKS.keys() == HEADS.keys() == GRAPHS.keys()
    for name, spec in GRAPHS.items():
        assert spec.tolerance.keys() == set(HEADS[name].outputs) >= spec.decisions.keys()
        assert all(0 < tolerance <= 1e-4 for tolerance in spec.tolerance.values())


def test_convert_takes_the_network_whose_published_names_fit(curve, monkeypatch, tmp_path, tiny_config):
    published = PublishedNames(
        config=lambda state, sizes: CurveConfig(state["linear.weight"].shape[0] if "linear.weight" in state else 8),
        name=lambda ours: ours.replace("map", "linear"),
        is_unused=lambda key: False,
        classes=lambda config: (),
    )
    monkeypatch.setitem(NETWORKS, NAME, dataclasses.replace(SPEC, published=published))
    weight = torch.eye(8)
    torch.save({"state_dict": {"module.linear.weight": weight}}, tmp_path / "curve.pth.tar")
    converted = read_published(tmp_path / "curve.pth.tar", ("run",)).checkpoint
    assert converted.network_name == NAME
    assert torch.equal(converted.network.map.weight, weight)
    write_published_checkpoint(tmp_path / "stale.pth.tar", 0, tiny_config)
    assert read_published(tmp_path / "stale.pth.tar", (), tiny_config).checkpoint.network_name == "stale"
