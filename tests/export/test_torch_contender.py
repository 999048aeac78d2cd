"""PyTorch beside exported files: the same answers, measured in the same run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from stale_edge.checkpoint import Checkpoint, save_checkpoint
from stale_edge.networks.clip_text import TextTower
from stale_edge.networks.stale.config import DesignOptions, ModelConfig
from stale_edge.networks.stale.model import STALE
from stale_edge.seeded import seeded_network
from stale_edge_export.contenders.torch import TorchContender, count_macs, torch_contenders, vocabulary_of
from stale_edge_export.exporter import export_checkpoint
from stale_edge_export.graphs.text import text_embeddings
from stale_edge_runtime.bench.graph_types import product_type, read_operands
from stale_edge_runtime.bench.memory import run_child
from stale_edge_runtime.contract import Kind, Precision
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.synthetic import clip_like_features

pytestmark = pytest.mark.usefixtures("brief_ceiling")
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def entrants(tiny_checkpoint: Checkpoint, tiny_file: Path) -> list[TorchContender]:
    return torch_contenders(tiny_checkpoint, tiny_checkpoint.classes, tiny_file)


def test_the_contenders_are_the_network_itself(entrants: list[TorchContender], tiny_checkpoint: Checkpoint) -> None:
    fp32, int8 = entrants
    assert (fp32.precision, int8.precision) == (Precision.FP32, Precision.INT8)
    features = clip_like_features(2, 13, fp32.feature_dim)
    expected = tiny_checkpoint.network(torch.from_numpy(features), torch.from_numpy(fp32.token_ids))
    found = fp32.prepare(features, 1)()
    assert len(found) == 5  # the representation mask too, as in the published forward
    assert torch.get_num_threads() == 1
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    quantised = np.asarray(int8.prepare(features, 1)()[0])
    difference = np.abs(quantised - expected.class_logits.numpy()).max()
    assert 0 < difference < 0.5 * np.abs(quantised).max()
    kinds = {type(module).__module__ for module in int8.network.modules()}
    assert any("quantized.dynamic" in kind for kind in kinds)
    assert not any("quantized" in type(module).__module__ for module in tiny_checkpoint.network.modules())


def test_element_types_are_those_of_the_file_and_not_of_the_kernels() -> None:
    """Half precision is cast away on a CPU, quantised operands reach a product through layout operators."""
    initial = [
        numpy_helper.from_array(np.ones((8, 4), np.float16), "half"),
        numpy_helper.from_array(np.ones((8, 3), np.int8), "bytes"),
        numpy_helper.from_array(np.float32(0.1).reshape(()), "scale"),
        numpy_helper.from_array(np.uint8(3).reshape(()), "zero"),
    ]

    def node(operator: str, inputs: list[str], outputs: list[str], **attributes: object) -> onnx.NodeProto:
        return helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes)

    nodes = [
        node("Cast", ["features"], ["features_half"], to=TensorProto.FLOAT16),
        node("MatMul", ["features_half", "half"], ["in_half"]),
        node("DynamicQuantizeLinear", ["features"], ["q", "q_scale", "q_zero"]),
        node("MatMulInteger", ["q", "bytes", "q_zero"], ["in_int"]),
        node("QuantizeLinear", ["features", "scale", "zero"], ["stored"]),
        node("DequantizeLinear", ["stored", "scale", "zero"], ["restored"]),
        node("Transpose", ["restored"], ["turned"], perm=[0, 2, 1]),
        node("MatMul", ["restored", "turned"], ["in_qdq"]),
        node("Softmax", ["in_qdq"], ["attention"]),
        node("MatMul", ["attention", "features"], ["in_float"]),
        node("Mul", ["q_scale", "in_float"], ["scaled"]),
        node("MatMul", ["scaled", "turned"], ["mixed"]),
    ]
    value = helper.make_tensor_value_info
    shapes = [value("features", TensorProto.FLOAT, ["b", "t", 8])], [value("mixed", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "types", *shapes, initial)
    content = helper.make_model(graph).SerializeToString()
    products = [product_type(op) for op in read_operands(content).values() if "MatMul" in op.operator]
    assert products == ["float16", "int8", "int8", "float32", "float32"]


def test_macs_are_those_of_the_published_forward() -> None:
    """Against the table of docs/speed.md: 200 classes, the text tower's share does not depend on the length."""
    at = [count_macs("stale", ModelConfig(), 1, snippets, 200, 12) for snippets in (100, 200, 300)]
    square = (at[2] - 2 * at[1] + at[0]) / 2 / 100**2
    linear = (at[1] - at[0]) / 100 - 300 * square
    assert square == 4096 + 2048  # temporal embedding, representation mask
    assert linear == pytest.approx(4.2e6 + 2.1e6 + 0.82e6 + 0.4e6 + 0.1e6 + 3.4e6, rel=0.05)
    assert 70e9 < at[0] < 100e9


@pytest.mark.parametrize("kind", [Kind.BAKED, Kind.FULL])
def test_compare_torch_with_every_kind(
    command: Command, tiny_export: Callable[..., Path], kind: Kind, tiny_file: Path, tmp_path: Path
) -> None:
    target = tmp_path / "bench.json"
    words = ("--compare", "torch", "--checkpoint", tiny_file, "--lengths", 37, "--runs", 2, "--no-cold-start")
    code, out, err = command("bench", tiny_export(kind), *words, "--json", target)
    assert code == 0, err
    report = json.loads(target.read_text())
    torch_names = ["PyTorch fp32", "PyTorch dynamic int8"]
    torch_names += [f"{name}, text cached" for name in torch_names]
    assert [row["model"] for row in report["rows"]] == [*torch_names, tiny_export(kind).name]
    assert [row["engine"] for row in report["rows"]] == [*["pytorch"] * 4, "onnxruntime"]
    whole, _, cached, *_ = (row["gmacs"] for row in report["rows"])
    assert 0 < cached < whole
    agreement = {item["model"]: item for item in report["agreement"]}
    assert agreement[tiny_export(kind).name]["max_relative"] < 1e-4
    assert agreement["PyTorch dynamic int8"]["max_relative"] > 1e-4
    assert len(report["comparisons"]) == 10
    assert agreement["PyTorch fp32, text cached"]["max_relative"] < 1e-4
    assert "PyTorch dynamic int8" in out


def test_text_that_was_encoded_once_gives_the_same_answers(tiny_checkpoint: Checkpoint, tiny_file: Path) -> None:
    found = torch_contenders(tiny_checkpoint, tiny_checkpoint.classes, tiny_file, with_cached=True)
    assert [one.is_cached for one in found] == [False, False, True, True]
    features = clip_like_features(2, 13, found[0].feature_dim)
    whole, cached = found[0], found[2]  # those of int8 differ: one of them quantises the text tower as well
    for one, other in list(zip(whole.prepare(features, 1)(), cached.prepare(features, 1)(), strict=False))[:3]:
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert cached.macs(2, 13) < whole.macs(2, 13)
    cold = run_child(found[2].cold_start_words(1, 1, 20), subject=found[2].name)
    assert cold.first_ms > 0


def test_cold_start(entrants: list[TorchContender]) -> None:
    _, int8 = entrants
    cold = run_child(int8.cold_start_words(1, 1, 20), subject=int8.name)
    assert cold.load_ms > 0
    assert cold.first_ms > 0
    assert cold.peak_rss_mb is not None
    assert cold.peak_rss_mb > 50


def test_other_weights_are_refused(
    command: Command,
    tiny_export: Callable[..., Path],
    tiny_checkpoint: Checkpoint,
    tiny_config: ModelConfig,
    tmp_path: Path,
) -> None:
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, Checkpoint(seeded_network(tiny_config, 4), tiny_checkpoint.classes, {"source": "file"}))
    words = ("--compare", "torch", "--checkpoint", other, "--lengths", 37, "--runs", 2, "--no-cold-start")
    code, out, err = command("bench", tiny_export(Kind.BAKED), *words)
    assert code == 65
    assert "baked.onnx: gives logits" in err
    assert "--checkpoint" in err
    assert out == ""


def test_without_a_checkpoint_the_error_names_it(
    command: Command, tiny_export: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command("bench", tiny_export(Kind.BAKED), "--compare", "torch", "--lengths", 5)
    assert code == 66
    assert "models/stale.safetensors" in err


def test_a_text_tower_has_a_table_of_its_own(command: Command, tiny_export: Callable[..., Path]) -> None:
    quick = ("--lengths", 5, "--runs", 1, "--no-cold-start", "--prompts", 3)
    code, out, err = command("bench", tiny_export(Kind.TEXT_TOWER), tiny_export(Kind.BAKED), *quick, "--json", "-")
    assert code == 0, err
    rows = [(row["kind"], row["batch"], row["snippets"]) for row in json.loads(out)["rows"]]
    assert rows == [("baked", 1, 5), ("text_tower", 1, 1), ("text_tower", 3, 1)]
    code, out, err = command("bench", tiny_export(Kind.TEXT_TOWER), *quick)
    assert code == 0, err
    assert "Time of a text" in out
    assert "snippets" not in out


def test_full_files_run_on_made_up_prompts(command: Command, tiny_export: Callable[..., Path]) -> None:
    code, out, err = command(
        "bench", tiny_export(Kind.FULL), "--prompts", 7, "--lengths", 5, "--runs", 1, "--no-cold-start"
    )
    assert code == 0, err
    assert "full.onnx" in out


@pytest.mark.slow
def test_a_tower_stands_in_where_text_is_stored(command: Command, tiny_config: ModelConfig, tmp_path: Path) -> None:
    """The answers come from the stored text; a tower of the published size runs beside, in cold starts too."""
    torch.manual_seed(0)
    network = STALE(replace(tiny_config, text=None, ours=DesignOptions(signed_similarity=True))).requires_grad_(
        requires_grad=False
    )
    text = torch.randn(2, 32)
    checkpoint = Checkpoint(network.eval(), ("Archery", "Long jump"), {"source": "trained"}, text)
    weights = tmp_path / "stored.safetensors"
    save_checkpoint(weights, checkpoint)
    fp32, _ = torch_contenders(checkpoint, checkpoint.classes, weights)
    features = clip_like_features(2, 13, 32)
    found = fp32.prepare(features, 1)()
    expected = network.detect(torch.from_numpy(features), text)
    torch.testing.assert_close(found[0], expected.class_logits)
    towers = [module for module in fp32.network.modules() if isinstance(module, TextTower)]
    assert sum(parameter.numel() for parameter in towers[0].parameters()) > 60e6
    assert fp32.macs(1, 13) > 10 * count_macs("stale", tiny_config, 1, 13, *fp32.token_ids.shape)
    export_checkpoint(checkpoint, tmp_path / "stored.onnx")
    assert run_child(fp32.cold_start_words(1, 1, 13), subject=fp32.name).first_ms > 0
    words = ("--compare", "torch", "--checkpoint", weights, "--lengths", 13, "--runs", 1, "--no-cold-start")
    code, _, said = command("bench", tmp_path / "stored.onnx", *words, "--json", tmp_path / "b.json")
    assert code == 0, said
    assert "stores text: for PyTorch a seeded text tower of the published size is run as well" in said
    report = json.loads((tmp_path / "b.json").read_text())
    assert report["agreement"][-1]["max_relative"] < 1e-4


def test_stored_text_must_cover_the_classes(tiny_config: ModelConfig, tiny_file: Path) -> None:
    network = seeded_network(replace(tiny_config, text=None), 0)
    checkpoint = Checkpoint(network, ("Archery",), {"source": "trained"}, torch.zeros(1, 32))
    with pytest.raises(BadDataError, match="class 'Surfing': is not among the 1 classes"):
        torch_contenders(checkpoint, ("Surfing",), tiny_file)


def test_the_vocabulary_is_the_networks_own(tiny_checkpoint: Checkpoint) -> None:
    text = text_embeddings(tiny_checkpoint, tiny_checkpoint.classes)
    vocabulary = vocabulary_of(tiny_checkpoint.network, tiny_checkpoint.classes, text)
    assert len(vocabulary.token_ids) == len(tiny_checkpoint.classes)
    expected = tiny_checkpoint.network.encode_text(torch.from_numpy(vocabulary.token_ids))
    np.testing.assert_allclose(vocabulary.text_embeddings, expected.numpy(), atol=1e-6)
