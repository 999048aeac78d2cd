"""ActionFormer's files: the network's answers at every length, smaller number formats, detection and labels."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from stale_edge.checkpoint import Checkpoint, save_checkpoint
from stale_edge.seeded import seeded_network
from stale_edge_export.exporter import export_checkpoint
from stale_edge_export.graphs.actionformer import ActionFormerGraph
from stale_edge_export.graphs.actionformer_whole import PublishedForward
from stale_edge_export.graphs.registry import GRAPHS
from stale_edge_export.quantization.movement import QUANTIZE, quantize_before_movement
from stale_edge_runtime.bench.macs import count_macs
from stale_edge_runtime.contract import Kind
from stale_edge_runtime.detector import Detector
from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.model_file import read_model
from tests.stale_edge.actionformer_examples import GOLDEN, TINY, TINY_LOCAL

NAME = "actionformer"
NAMES = ("run", "jump", "swim")


@pytest.fixture(scope="module")
def tiny():
    return Checkpoint(seeded_network(TINY, 0, NAME), NAMES, {"source": "seeded", "seed": 0}, network_name=NAME)


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """A folder with the tiny network's file, and one of a network that tells when and not what."""
    from dataclasses import replace

    path = tmp_path_factory.mktemp("files")
    export_checkpoint(tiny, path / "tiny.onnx", snippet_seconds=0.5)
    when = seeded_network(replace(TINY, classes=1, max_length=32), 0, NAME)
    export_checkpoint(Checkpoint(when, ("action",), {}, network_name=NAME), path / "when.onnx")
    return path


@pytest.mark.parametrize("config", [TINY, TINY_LOCAL], ids=["position table", "local"])
@pytest.mark.parametrize("snippets", [1, 2, 3, 16, 31, 32, 33, 95, 96, 97, 111, 191, 192, 193, 255, 256, 257, 300])
def test_the_graph_holds_the_rows_of_the_video_alone_and_answers_the_same(config, snippets):
    network = seeded_network(config, 0, NAME)
    features = torch.randn(2, snippets, config.feature_dim, generator=torch.Generator().manual_seed(snippets))
    with torch.inference_mode():
        expected = network.detect(features)
        found = ActionFormerGraph(network, torch.nn.Identity()).eval()(features)
        padded = PublishedForward(network)(features, torch.zeros(1, 1, dtype=torch.int64))
    for one, other, third in zip(found, expected, padded, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
        torch.testing.assert_close(third, other, rtol=0, atol=1e-5)


def test_a_file_gives_the_published_answers_at_lengths_it_was_not_checked_at(folder):
    stored = np.load(GOLDEN / "forward_tiny_pe.npz")
    session = onnxruntime.InferenceSession(folder / "tiny.onnx")
    for snippets in sorted({int(name.split(".")[0]) for name in stored.files}):
        drawn = np.random.default_rng(1000 + snippets).standard_normal((TINY.feature_dim, snippets))
        features = np.ascontiguousarray(drawn.astype(np.float32).T)[None]
        logits, offsets = session.run(None, {"features": features})
        levels = range(len(TINY.windows))
        for found, name in ((logits, "logits"), (offsets, "offsets")):
            wanted = np.concatenate([stored[f"{snippets}.{name}.{level}"] for level in levels])
            np.testing.assert_allclose(found[0], wanted, rtol=0, atol=1e-5)


def test_the_check_covers_the_edges_of_padding_and_batches(folder):
    info = read_model(folder / "tiny.onnx").info
    assert {97, 191, 192, 193, 300, 1000} <= set(info.parity["lengths"])
    assert len(info.parity["lengths"]) >= 8
    assert 3 in info.parity["batches"]
    assert (info.network, info.strides, info.resize_to, info.offset) == (NAME, (1, 2, 4, 8), 96, 0.5)
    assert info.decoding["sigma"] == 0.75
    onnx.checker.check_model(onnx.load(folder / "tiny.onnx"), full_check=True)


def test_multiply_accumulates_are_counted_at_each_length(folder):
    count = count_macs(read_model(folder / "tiny.onnx"))
    assert count.coefficients() is None
    assert count.total(97) > count.total(96) > 0
    assert count.share("float32", 96) == 1.0


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_smaller_files_are_close(folder, command, precision):
    path = folder / f"tiny.{precision}.onnx"
    code, _, err = command("quantize", folder / "tiny.onnx", f"--{precision}", "-o", path)
    assert code == 0, err
    onnx.checker.check_model(onnx.load(path), full_check=True)
    features = np.random.default_rng(0).standard_normal((2, 150, TINY.feature_dim)).astype(np.float32)
    whole, small = (
        onnxruntime.InferenceSession(each).run(None, {"features": features}) for each in (folder / "tiny.onnx", path)
    )
    for one, other in zip(whole, small, strict=True):
        assert np.sqrt(np.mean((one - other) ** 2)) < (0.15 if precision == "int8" else 0.01) * one.std()


def test_products_are_int8_and_norms_and_depthwise_convolutions_are_not(folder, command):
    path = folder / "again.int8.onnx"
    assert command("quantize", folder / "tiny.onnx", "--int8", "-o", path)[0] == 0
    operators = read_model(path).operators
    assert operators["MatMulInteger"] > 20
    assert operators["LayerNormalization"] == read_model(folder / "tiny.onnx").operators["LayerNormalization"]
    assert count_macs(read_model(path)).share("int8", 96) > 0.8


def test_videos_are_resized_to_the_length_of_training(folder):
    detector = Detector(folder / "tiny.onnx")
    features = np.random.default_rng(0).standard_normal((30, TINY.feature_dim)).astype(np.float32)
    found = detector.detect(features, 15.0)
    assert found
    assert {each.label for each in found} <= set(NAMES)
    assert all(0 <= each.start_s < each.end_s <= 15.0 for each in found)
    assert detector.forward(features)["class_logits"].shape == (96 + 48 + 24 + 12, 3)
    assert detector.detect(features) == found  # half a second a snippet, as the file says


def test_classes_come_from_text_or_an_external_classifier(folder):
    features = np.random.default_rng(0).standard_normal((32, TINY.feature_dim)).astype(np.float32)
    plain = Detector(folder / "when.onnx").detect(features, 32.0)
    assert {each.label for each in plain} == {"action"}
    text = np.random.default_rng(1).standard_normal((4, TINY.feature_dim)).astype(np.float32)
    classes = ("a", "b", "c", "d")
    named = Detector(folder / "when.onnx", text_embeddings=text, classes=classes)
    assert named.classes == classes
    labelled = named.detect(features, 32.0)
    assert {each.label for each in labelled} <= set(classes)
    assert len(labelled) == 2 * len(plain)
    assert labelled == Detector(folder / "when.onnx").detect(features, 32.0, text_embeddings=text, classes=classes)
    fused = Detector(folder / "when.onnx").detect(features, 32.0, external=("b", 0.25))
    assert {each.label for each in fused} == {"b"}
    assert fused[0].score == pytest.approx(0.5 * plain[0].score ** 0.5)
    with pytest.raises(UsageError, match="has its classes baked in"):
        Detector(folder / "tiny.onnx", text_embeddings=text, classes=classes)


def test_videos_without_external_scores_are_named(folder, command, tmp_path):
    np.save(tmp_path / "known.npy", np.zeros((20, TINY.feature_dim), np.float32))
    np.save(tmp_path / "other.npy", np.zeros((20, TINY.feature_dim), np.float32))
    (tmp_path / "scores.json").write_text(json.dumps({"known": {"class": "run", "score": 0.9}}))
    words = ("detect", folder / "when.onnx", tmp_path, "--external", tmp_path / "scores.json")
    code, _, err = command(*words, "-o", tmp_path / "results.json")
    assert code == 65
    assert "other" in err
    assert "is not in the external scores" in err
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert {each["label"] for each in results["known"]} == {"run"}


def test_windows_and_streams_find_what_whole_videos_show(folder, command, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "long.npy", rng.standard_normal((150, TINY.feature_dim)).astype(np.float32))
    code, _, err = command(
        "detect", folder / "tiny.onnx", tmp_path / "long.npy", "--window", 64, "-o", tmp_path / "results.json"
    )
    assert code == 0, err
    (found,) = json.loads((tmp_path / "results.json").read_text())["results"].values()
    assert found
    assert max(each["segment"][1] for each in found) > 60.0  # seconds of the last window


def test_text_is_refused_for_a_network_that_takes_none(tiny, tmp_path):
    for kind in (Kind.OPEN, Kind.FULL, Kind.TEXT_TOWER):
        with pytest.raises(BadDataError, match="the network actionformer takes no text"):
            export_checkpoint(tiny, tmp_path / "a.onnx", kind=kind)
    with pytest.raises(BadDataError, match="gets 2 class names, and the network has 3 classes"):
        export_checkpoint(tiny, tmp_path / "a.onnx", classes=("a", "b"))


def test_it_is_timed_beside_pytorch_with_the_same_weights(tiny, folder, command, tmp_path, brief_ceiling):
    save_checkpoint(tmp_path / "tiny.safetensors", tiny)
    words = ("--compare", "torch", "--checkpoint", tmp_path / "tiny.safetensors", "--lengths", 40, "--runs", 2)
    code, _, err = command("bench", folder / "tiny.onnx", *words, "--no-cold-start", "--json", tmp_path / "bench.json")
    assert code == 0, err
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert [row["model"] for row in rows] == ["PyTorch fp32", "PyTorch dynamic int8", "tiny.onnx"]
    assert rows[0]["gmacs"] > rows[2]["gmacs"]  # what padding costs
    assert "within" in err


@pytest.mark.slow
def test_an_untrained_preset_is_exported_by_name(command, tmp_path, monkeypatch):
    from dataclasses import replace

    from stale_edge.networks.actionformer.presets import PRESETS
    from stale_edge.networks.base import Preset
    from stale_edge.networks.registry import NETWORKS

    presets = {"small": Preset(replace(TINY, classes=1), PRESETS["activitynet-clip"].training)}
    monkeypatch.setitem(NETWORKS, NAME, replace(NETWORKS[NAME], presets=presets))
    monkeypatch.chdir(tmp_path)
    code, _, err = command("export", "--network", NAME, "--preset", "small")
    assert code == 0, err
    assert "UNTRAINED" in err
    info = read_model(tmp_path / "models" / "actionformer.onnx").info
    assert (info.untrained, info.weights["preset"], info.classes) == (True, "small", ("action",))
    code, _, err = command("export", "--network", NAME, "--preset", "other")
    assert (code, "--preset: 'other' is not known; choose from small" in err) == (2, True)


def test_rows_are_quantised_before_they_are_moved_to_the_same_numbers(folder, monkeypatch):
    from stale_edge_export.quantization import int8
    from stale_edge_export.quantization.int8 import Products, to_int8

    model = onnx.load(folder / "tiny.onnx")
    products = Products.of(model, GRAPHS[NAME].quantization)
    moved = to_int8(model, products)
    monkeypatch.setattr(int8, "quantize_before_movement", lambda graph: 0)
    plain = to_int8(model, products)
    makers = {output: node.op_type for node in plain.graph.node for output in node.output}
    joined = [node for node in plain.graph.node if node.op_type == QUANTIZE and makers.get(node.input[0]) == "Concat"]
    assert len(joined) == 5  # two convolutions of the embedding, three of the heads
    assert quantize_before_movement(plain.graph) == 5
    assert sorted(node.name for node in plain.graph.node) == sorted(node.name for node in moved.graph.node)
    assert quantize_before_movement(moved.graph) == 0
    onnx.checker.check_model(moved, full_check=True)
    monkeypatch.undo()
    monkeypatch.setattr(int8, "quantize_before_movement", lambda graph: 0)
    before, after = (
        onnxruntime.InferenceSession(each.SerializeToString()) for each in (to_int8(model, products), moved)
    )
    for snippets in (1, 2, 33, 97, 200):
        features = np.random.default_rng(snippets).standard_normal((2, snippets, TINY.feature_dim)).astype(np.float32)
        for one, other in zip(
            before.run(None, {"features": features}), after.run(None, {"features": features}), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_one_source_of_classes_is_enough(folder, command, tmp_path):
    np.save(tmp_path / "text.npy", np.ones((1, TINY.feature_dim), np.float32))
    (tmp_path / "classes.txt").write_text("run\n")
    (tmp_path / "scores.json").write_text(json.dumps({"known": {"class": "run", "score": 0.9}}))
    np.save(tmp_path / "known.npy", np.zeros((20, TINY.feature_dim), np.float32))
    text = ("--text-embeddings", tmp_path / "text.npy", "--classes", tmp_path / "classes.txt")
    words = ("detect", folder / "when.onnx", tmp_path / "known.npy", "--external", tmp_path / "scores.json", *text)
    code, _, err = command(*words)
    assert (code, "--external: and the classes that were named both say" in err) == (2, True)


def test_memory_is_that_of_the_length_that_is_run(folder):
    detector = Detector(folder / "when.onnx")  # resizes every video to the same length
    assert detector.predict_memory_mb(10) == detector.predict_memory_mb(8000)
