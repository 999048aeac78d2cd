"""The exported towers of CLIP: exact in fp32, close in 8 and 16 bits, refused where they are not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from stale_edge.networks.clip_image import ImageTowerConfig
from stale_edge.networks.clip_sources import read_clip, seeded_clip
from stale_edge.networks.stale.config import TextConfig
from stale_edge_export import towers
from stale_edge_export.graphs.clip_image import ImageTowerGraph
from stale_edge_export.quantization.int8 import Products
from stale_edge_export.quantization.quantize import Int8Options, quantize_file
from stale_edge_export.quantization.sensitivity import HarmBudget
from stale_edge_export.quantization.towers import keep_sums
from stale_edge_export.towers import export_image_tower, export_text_tower
from stale_edge_runtime.contract import CHANNELS, OPERATORS, Precision
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.model_file import read_model
from stale_edge_runtime.session import open_session
from stale_edge_runtime.synthetic import varied_images
from stale_edge_runtime.video.tower import ImageTower

SIZES = ImageTowerConfig(image_size=24, patch=8, width=32, layers=2, heads=4, hidden=64, embedding_dim=16)
SOURCE = seeded_clip(SIZES, TextConfig(width=32, layers=2, heads=2, hidden=64))


def relative(found, expected):
    """Error over what distinguishes the rows."""
    return np.linalg.norm(found - expected) / np.linalg.norm(expected - expected.mean(axis=0))


@pytest.fixture(scope="module")
def image_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "clip-image.onnx"
    export_image_tower(SOURCE, path)
    return path


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "clip-text.onnx"
    export_text_tower(SOURCE, path)
    return path


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_the_file_agrees_with_transformers(activation, tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.CLIPVisionConfig(
        **sizes, image_size=30, patch_size=10, projection_dim=24, hidden_act=activation, layer_norm_eps=1e-6
    )
    torch.manual_seed(1)
    model = transformers.CLIPVisionModelWithProjection(config).eval()
    for name, value in model.named_parameters():
        value.data = torch.randn_like(value) * (0.3 if value.ndim < 2 else value[0].numel() ** -0.5)
        value.data += 1.0 if "norm" in name and name.endswith("weight") else 0.0
    model.save_pretrained(tmp_path / "hf")
    source, images = read_clip(str(tmp_path / "hf")), varied_images(8, 30, seed=4)
    mean, std = (torch.tensor(values) for values in (source.image_config.mean, source.image_config.std))
    with torch.inference_mode():
        prepared = (torch.from_numpy(images) / 255 - mean) / std
        expected = model(pixel_values=prepared.permute(0, 3, 1, 2)).image_embeds.numpy()
        graph = ImageTowerGraph(source.image_tower())(torch.from_numpy(images)).numpy()
    assert relative(graph, expected) < 1e-5
    if activation == "gelu":  # the file of one will do
        return
    export_image_tower(source, tmp_path / "a.onnx")
    assert set(read_model(tmp_path / "a.onnx").operators) <= OPERATORS
    tower = ImageTower(tmp_path / "a.onnx")
    for batch in (1, 2, 5, 8):
        found = np.concatenate([tower.embed(images[place : place + batch]) for place in range(0, 8, batch)])
        assert relative(found, expected) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("size", ["ViT-B/32", "ViT-B/16"])
def test_real_sizes_agree(size, tmp_path):
    made = export_image_tower(read_clip(f"untrained:{size}"), tmp_path / "a.onnx")
    assert made.parity.max_error["image_embeddings"] < 1e-5


def test_the_file_tells_what_features_depend_on(image_file):
    info = read_model(image_file).info
    assert (info.image_size, info.feature_dim, info.channels) == (24, 16, "rgb")
    assert (info.tower_sha256, info.feature_extractor) == (SOURCE.tower_sha256, "CLIP ViT-32/8@24")
    assert info.untrained
    assert info.parity["batches"] == [1, 2, 5]
    assert ImageTower(image_file).batch == 20
    assert json.loads(info.extra["vision_config"])["num_attention_heads"] == 4
    assert float(info.extra["gmacs_per_image"]) > 0


def test_swapped_colours(image_file, tmp_path):
    images = varied_images(4, 24)
    made = export_image_tower(SOURCE, tmp_path / "a.onnx", channels="bgr")
    assert (made.info.channels, made.info.tower_sha256) == ("bgr", SOURCE.tower_sha256)
    found = ImageTower(tmp_path / "a.onnx").embed(images[..., ::-1])
    assert relative(found, ImageTower(image_file).embed(images)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("channels", CHANNELS)
def test_the_plain_graph(channels, image_file, tmp_path):
    images = varied_images(4, 24)
    export_image_tower(SOURCE, tmp_path / "a.onnx", channels=channels, fold=False)
    found = ImageTower(tmp_path / "a.onnx").embed(images if channels == "rgb" else images[..., ::-1])
    assert relative(found, ImageTower(image_file).embed(images)) < 1e-5


def test_keeps_no_key_bias_and_no_keys_in_the_last_layer(image_file):
    names = {item.name for item in onnx.load(image_file).graph.initializer}
    assert not [name for name in names if "key.bias" in name or "value.bias" in name]
    assert [name for name in names if name.startswith("last.keys")]


def test_a_file_that_differs_is_refused_and_not_left(image_file, tmp_path, monkeypatch):
    def wrong(*_, **__):
        model = onnx.load(image_file)
        weight = next(item for item in model.graph.initializer if item.name == "layers.0.key.weight")
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.01, weight.name))
        return model

    monkeypatch.setattr(towers, "trace_graph", wrong)
    with pytest.raises(BadDataError, match=r"image_embeddings differs from PyTorch by .* at 1 images"):
        export_image_tower(SOURCE, tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


@pytest.mark.parametrize("cpu", ["vnni", "avx2", "arm64"])
def test_int8_image_tower_is_within_the_gate(cpu, image_file, tmp_path):
    made = quantize_file(image_file, tmp_path / "a.onnx", Precision.INT8, int8=Int8Options(cpu=cpu))
    assert made.low_precision_share > 0.9
    onnx.checker.check_model(onnx.load(tmp_path / "a.onnx"), full_check=True)
    assert made.info.recipe["pixel_products"] == ["patches.product/MatMul_0"]
    assert made.info.tower_sha256 == SOURCE.tower_sha256
    images = varied_images(12, 24, seed=9)
    error = relative(ImageTower(tmp_path / "a.onnx").embed(images), ImageTower(image_file).embed(images))
    assert 0 < error < 0.1
    weights = {item.name: numpy_helper.to_array(item) for item in onnx.load(tmp_path / "a.onnx").graph.initializer}
    largest = max(np.abs(value.astype(int)).max() for value in weights.values() if value.dtype == np.int8)
    assert largest == (63 if cpu == "avx2" else 127)


def test_pixels_are_multiplied_as_they_come(image_file, tmp_path):
    quantize_file(image_file, tmp_path / "a.onnx", Precision.INT8, int8=Int8Options(cpu="vnni"))
    model = onnx.load(tmp_path / "a.onnx")
    product = next(node for node in model.graph.node if node.name == "patches.product/MatMul_0_quant")
    makers = {output: node for node in model.graph.node for output in node.output}
    source = product.input[0]
    while source in makers:
        assert makers[source].op_type in {"Reshape", "Transpose"}
        source = makers[source].input[0]
    assert source == "pixels"
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    whole, scale = (stored[f"patches.product.weight_s8{end}"] for end in ("", "_scale"))
    exact = numpy_helper.to_array(
        next(item for item in onnx.load(image_file).graph.initializer if item.name == "patches.product.weight")
    )
    for colour in range(3):
        rounded = whole[colour::3].astype(np.float64).sum(axis=0)
        assert np.abs(rounded - exact[colour::3].astype(np.float64).sum(axis=0) / scale).max() <= 0.501


def test_sums_are_kept_by_the_numbers_nearest_to_the_next():
    exact = np.array([[0.4, 2.0], [0.3, 2.0], [0.4, 127.0], [0.2, 126.6]])
    kept = keep_sums(exact, np.rint(exact), 127)
    assert kept[:, 0].tolist() == [1, 0, 0, 0]
    assert np.abs(kept).max() <= 127
    assert keep_sums(np.full((3, 1), 126.7), np.full((3, 1), 127.0), 127).sum() == 380


def test_outliers_stay_in_fp32_by_measured_harm(image_file, tmp_path):
    """Stretch one channel inside a feed-forward part as trained towers do: 8 bits leave nothing for the others."""
    model = onnx.load(image_file)
    weights = {item.name: item for item in model.graph.initializer}
    for name, place, change in (("expand.bias", 3, 3000.0), ("contract.weight", 3, None)):
        weight = weights[f"layers.0.feed_forward.{name}"]
        values = numpy_helper.to_array(weight).copy()
        values[place] = values[place] * 1e-3 if change is None else change
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, tmp_path / "a.onnx")
    everything = Int8Options(cpu="vnni", budget=HarmBudget(relative_error=1e9))
    loose = quantize_file(tmp_path / "a.onnx", tmp_path / "loose.onnx", Precision.INT8, int8=everything)
    assert loose.harm["image_embeddings"].relative_error > 0.1
    made = quantize_file(tmp_path / "a.onnx", tmp_path / "b.onnx", Precision.INT8, int8=Int8Options(cpu="vnni"))
    assert made.info.recipe["kept_fp32"] == ["layers.0/MatMul_7"]
    assert made.harm["image_embeddings"].relative_error < 0.1


@pytest.mark.slow
def test_norms_with_large_gains_survive_8_bits(tmp_path):
    state = {name: value.clone() for name, value in SOURCE.image_state.items()}
    for layer in range(2):
        for norm in ("attention_norm", "feed_forward_norm"):
            state[f"layers.{layer}.{norm}.weight"][:3] *= 30
            for part in ("query", "key", "value") if norm.startswith("attention") else ("expand",):
                state[f"layers.{layer}.{part}.weight"][:, :3] /= 30
    export_image_tower(replace(SOURCE, image_state=state), tmp_path / "a.onnx")
    made = quantize_file(tmp_path / "a.onnx", tmp_path / "b.onnx", Precision.INT8, int8=Int8Options(cpu="vnni"))
    assert not made.info.recipe["kept_fp32"]
    assert made.harm["image_embeddings"].relative_error < 0.1


def test_given_images_decide(image_file, tmp_path):
    images = varied_images(6, 24, seed=3)
    made = quantize_file(image_file, tmp_path / "a.onnx", Precision.INT8, int8=Int8Options(cpu="vnni"), images=images)
    assert made.info.recipe["budget"]["measured_on"] == "given videos"
    found = ImageTower(tmp_path / "a.onnx").embed(images)
    measured = relative(found, ImageTower(image_file).embed(images))
    assert measured == pytest.approx(made.harm["image_embeddings"].relative_error, rel=1e-3)


def test_int8_text_tower_has_its_table_in_8_bits(text_file, tmp_path):
    made = quantize_file(text_file, tmp_path / "a.onnx", Precision.INT8, int8=Int8Options(cpu="vnni"))
    onnx.checker.check_model(onnx.load(tmp_path / "a.onnx"), full_check=True)
    assert made.info.recipe["tables"] == ["token_embedding/Gather_0"]
    assert made.size_bytes < 0.4 * made.original_bytes
    assert 0 < made.harm["text_embeddings"].relative_error < 0.1
    assert made.info.merges


@pytest.mark.parametrize("kind", ["image", "text"])
def test_fp16(kind, image_file, text_file, tmp_path):
    source = image_file if kind == "image" else text_file
    made = quantize_file(source, tmp_path / "a.onnx", Precision.FP16)
    onnx.checker.check_model(onnx.load(tmp_path / "a.onnx"), full_check=True)
    assert made.harm[f"{kind}_embeddings"].relative_error < 0.01
    assert made.size_bytes < 0.75 * made.original_bytes


def test_products_of_a_tower(image_file):
    from stale_edge_export.graphs.registry import TOWER_RULES

    products = Products.of(onnx.load(image_file), TOWER_RULES)
    assert len(products.weights) == 1 * 6 + 4 + 1
    assert products.kind_of(products.pixels[0]) == "pixels"
    assert not products.activations
    shapes = {item.name: tuple(item.dims) for item in onnx.load(image_file).graph.initializer}
    nodes = {node.name: node for node in onnx.load(image_file).graph.node}
    assert all(len(shapes[nodes[name].input[1]]) == 2 for name in products)


def test_a_batch_of_any_size_runs(image_file):
    session = open_session(read_model(image_file))
    for batch in (1, 3, 33):
        assert session.run(None, {"pixels": varied_images(batch, 24)})[0].shape == (batch, 16)


def test_the_command_refuses_what_does_not_go_together(command, tmp_path):
    for words, problem in (
        (("--clip", "x", "--open"), "exports towers"),
        (("--channels", "bgr"), "go with --clip only"),
        (("--clip", "x", "--channels", "rbg"), "is not known"),
        (("--clip", "x", "-o", "towers.onnx"), "must be a folder"),
        (("--clip", tmp_path / "nothing"), "no such file or folder"),
    ):
        code, _, err = command("export", *words)
        assert code in {2, 66}
        assert problem in err


def test_frames_and_features_go_to_their_own(command, image_file, text_file):
    code, _, err = command("quantize", image_file, "--int8", "--features", "x.npy")
    assert (code, "--frames" in err) == (2, True)
    code, _, err = command("quantize", text_file, "--int8", "--frames", "x.mp4")
    assert (code, "text-tower" in err) == (2, True)
