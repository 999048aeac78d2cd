"""Each rewrite alone, and all together, against the network."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from stale_edge.networks.stale.config import ModelConfig
from stale_edge.networks.stale.model import foreground_gate
from stale_edge.seeded import seeded_network
from stale_edge_export.graphs.stale import DetectionGraph
from stale_edge_export.graphs.stale_rewrites import REWRITES, Centre
from stale_edge_export.graphs.text import GivenText, StoredText
from stale_edge_runtime.contract import Kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stale_edge.checkpoint import Checkpoint

LENGTHS = (1, 2, 3, 9, 10, 11, 100, 257)
SUBSETS = [(name,) for name in REWRITES] + list(combinations(REWRITES, 2)) + [tuple(REWRITES)]


@pytest.mark.parametrize("stored", [True, False], ids=["stored-text", "given-text"])
@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_gives_the_same_outputs(names: tuple[str, ...], stored: bool, tiny_checkpoint: Checkpoint) -> None:
    network = tiny_checkpoint.network
    text = torch.randn(4, 32, generator=torch.Generator().manual_seed(1))
    graph = DetectionGraph(network, StoredText(text) if stored else GivenText())
    for name in names:
        REWRITES[name](graph, network)
    for snippets in LENGTHS:
        features = torch.randn(2, snippets, 32, generator=torch.Generator().manual_seed(snippets))
        with torch.inference_mode():
            expected = network.detect(features, text)
            class_logits, masks, video_logits = graph(features, *([] if stored else [text]))
        torch.testing.assert_close(masks, expected.masks, rtol=0, atol=1e-5)
        torch.testing.assert_close(class_logits, expected.class_logits, rtol=0, atol=1e-4)
        torch.testing.assert_close(video_logits, expected.video_logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("keep", [0.0, 1.0], ids=["none-kept", "all-kept"])
def test_cross_attention_at_extreme_gates(keep: float, tiny_checkpoint: Checkpoint) -> None:
    network = tiny_checkpoint.network
    text = torch.randn(4, 32, generator=torch.Generator().manual_seed(2))
    plain, folded = (DetectionGraph(network, StoredText(text)) for _ in range(2))
    REWRITES["fold-cross-attention"](folded, network)
    for snippets in LENGTHS:
        gated = keep * torch.randn(2, snippets, 32, generator=torch.Generator().manual_seed(snippets))
        with torch.inference_mode():
            torch.testing.assert_close(
                folded.cross_attention(gated, text), plain.cross_attention(gated, text), rtol=0, atol=1e-5
            )


def test_what_is_quantised_lacks_what_the_rows_of_a_video_share(tiny_export: Callable[..., Path]) -> None:
    """Left operands of weight products, and keys that are values too: their common row would cost 8-bit steps."""
    model = onnx.load(tiny_export(Kind.BAKED))
    products = {node.name: node for node in model.graph.node if node.op_type == "MatMul"}
    operands = {
        "neighbours": products["mask_head/MatMul_1"].input[0],
        "hidden": products["mask_head/MatMul_2"].input[0],
        "memory": products["cross_attention/MatMul_1"].input[1],
    }
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in operands.values())
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    features = (rng.standard_normal((2, 1, 32)) + 0.1 * rng.standard_normal((2, 50, 32))).astype(np.float32)
    for name, value in zip(operands, session.run(list(operands.values()), {"features": features}), strict=True):
        means, spread = value.mean(axis=1), value.std(axis=1)  # [2, width] each
        rows_beyond_the_ends = 2 * (name == "neighbours")  # zeros in them are no video's
        bound = 1e-5 + rows_beyond_the_ends * np.abs(value).max() / 50
        assert np.abs(means).max() < bound, name
        assert spread.max() > 1e-3, name


def test_the_centre_of_a_long_video_fits_half_precision() -> None:
    centre, _ = Centre(torch.eye(4)).half()(torch.full((1, 8192, 4), 20.0, dtype=torch.float16))
    torch.testing.assert_close(centre, torch.full((1, 1, 4), 20.0, dtype=torch.float16))


@pytest.mark.slow
def test_full_size() -> None:
    network = seeded_network(ModelConfig(), 0)
    text = torch.randn(200, 512, generator=torch.Generator().manual_seed(3))
    graph = DetectionGraph(network, StoredText(text))
    for rewrite in REWRITES.values():
        rewrite(graph, network)
    for snippets in (1, 99, 100, 101, 257, 1000):
        features = torch.randn(1, snippets, 512, generator=torch.Generator().manual_seed(snippets))
        with torch.inference_mode():
            expected = network.detect(features, text)
            class_logits, masks, _ = graph(features)
        assert torch.equal(foreground_gate(masks), foreground_gate(expected.masks))
        torch.testing.assert_close(class_logits, expected.class_logits, rtol=0, atol=1e-4)
