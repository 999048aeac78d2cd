"""Every departure from the published design exports, folds and quantises like the published network."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from stale_edge.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from stale_edge.networks.stale.config import DesignOptions, ModelConfig
from stale_edge.networks.stale.model import STALE
from stale_edge_export.exporter import export_checkpoint
from stale_edge_export.graphs.stale import DetectionGraph
from stale_edge_export.graphs.stale_rewrites import REWRITES
from stale_edge_export.graphs.text import GivenText, StoredText
from stale_edge_export.quantization.quantize import quantize_file
from stale_edge_runtime.contract import Kind, Precision
from stale_edge_runtime.model_file import read_model
from stale_edge_runtime.session import open_session
from stale_edge_runtime.synthetic import clip_like_features

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from stale_edge.networks.stale.model import DetectionTensors

NAMES = DesignOptions.every().names
SUBSETS = [*((name,) for name in NAMES), ("centring", "signed-similarity"), NAMES]
CLASSES = ("Archery", "Long jump", "Doing kickboxing", "Rock climbing")
LENGTHS = (1, 2, 3, 9, 10, 11, 100, 257)


def make_network(config: ModelConfig, names: tuple[str, ...]) -> STALE:
    torch.manual_seed(5)
    network = STALE(replace(config, text=None, ours=DesignOptions.named(names))).requires_grad_(requires_grad=False)
    if network.common is not None:
        network.common.set(torch.randn(32), torch.randn(32))
    network.background_embedding.copy_(torch.randn(1, 32))
    return network.eval()


def texts() -> Tensor:
    return torch.randn(len(CLASSES), 32, generator=torch.Generator().manual_seed(1))


def clip_like(batch: int, snippets: int) -> Tensor:
    """Features with a common direction, whose masks a gate cuts in two."""
    return torch.from_numpy(clip_like_features(batch, snippets, 32, seed=snippets))


def detect(network: STALE, features: Tensor, text: Tensor) -> DetectionTensors:
    with torch.inference_mode():
        return network.detect(features, text)


@pytest.mark.parametrize("stored", [True, False], ids=["stored-text", "given-text"])
@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_rewrites_give_the_same_outputs(names: tuple[str, ...], stored: bool, tiny_config: ModelConfig) -> None:
    network, text = make_network(tiny_config, names), texts()
    graph = DetectionGraph(network, StoredText(text) if stored else GivenText())
    for rewrite in REWRITES.values():
        rewrite(graph, network)
    for snippets in LENGTHS:
        features = clip_like(2, snippets)
        expected = detect(network, features, text)
        with torch.inference_mode():
            class_logits, masks, video_logits = graph(features, *([] if stored else [text]))
        torch.testing.assert_close(masks, expected.masks, rtol=0, atol=1e-5)
        torch.testing.assert_close(class_logits, expected.class_logits, rtol=0, atol=1e-4)
        torch.testing.assert_close(video_logits, expected.video_logits, rtol=0, atol=1e-4)


SLOW = [pytest.param((name,), marks=pytest.mark.slow) for name in ("centring", "signed-similarity")]


@pytest.mark.parametrize("kind", [Kind.BAKED, Kind.OPEN])
@pytest.mark.parametrize("names", [*SLOW, NAMES], ids="+".join)
def test_files_agree_with_the_network(
    names: tuple[str, ...], kind: Kind, tiny_config: ModelConfig, tmp_path: Path
) -> None:
    network, text = make_network(tiny_config, names), texts()
    save_checkpoint(tmp_path / "a.safetensors", Checkpoint(network, CLASSES, {"source": "trained"}, text))
    read = load_checkpoint(tmp_path / "a.safetensors")
    assert read.network.config.ours.names == names
    export_checkpoint(read, tmp_path / "a.onnx", kind=kind)
    quantize_file(tmp_path / "a.onnx", tmp_path / "a.int8.onnx", Precision.INT8)
    given = {} if kind is Kind.BAKED else {"text_embeddings": text.numpy()}
    exact, coarse = (open_session(read_model(tmp_path / name)) for name in ("a.onnx", "a.int8.onnx"))
    for snippets in (1, 10, 100):
        features = clip_like(2, snippets)
        expected = detect(network, features, text)
        logits, masks, _ = exact.run(None, {"features": features.numpy(), **given})
        np.testing.assert_allclose(logits, expected.class_logits.numpy(), rtol=0, atol=1e-4)
        np.testing.assert_allclose(masks, expected.masks.numpy(), rtol=0, atol=1e-5)
        coarse_masks = coarse.run(["masks"], {"features": features.numpy(), **given})[0]
        assert np.abs(coarse_masks - masks).max() < 0.05


def test_no_gate_leaves_the_gate_out_of_the_file(tiny_config: ModelConfig, tmp_path: Path) -> None:
    operators = {}
    for names in ((), ("no-gate",)):
        checkpoint = Checkpoint(make_network(tiny_config, names), CLASSES, {"source": "trained"}, texts())
        export_checkpoint(checkpoint, tmp_path / "a.onnx")
        operators[names] = read_model(tmp_path / "a.onnx").operators
    assert sum(operators["no-gate",].values()) < sum(operators[()].values())
