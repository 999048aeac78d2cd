"""int8 and fp16 files run, stay close, are smaller, and say how they were made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from stale_edge_export.encoding import inner_nodes, sort_nodes
from stale_edge_export.graphs.stale_spec import STALE_GRAPH
from stale_edge_export.quantization import int8, quantize
from stale_edge_export.quantization.activations import quantize_activation_products
from stale_edge_export.quantization.fp16 import check_range
from stale_edge_export.quantization.harm import measure_harm
from stale_edge_export.quantization.int8 import TARGETS, Products, this_machine, to_int8
from stale_edge_export.quantization.movement import QUANTIZE, quantize_before_movement
from stale_edge_export.quantization.quantize import Int8Options, quantize_file
from stale_edge_runtime.contract import Kind, Precision
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.model_file import read_model
from stale_edge_runtime.session import open_content, open_session
from stale_edge_runtime.synthetic import clip_like_features

TinyExport = Callable[..., Path]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def files(tiny_export: TinyExport, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny fp32 file and its quantised versions, by precision."""
    folder = tmp_path_factory.mktemp("quantize")
    paths = {precision: folder / f"{precision}.onnx" for precision in Precision}
    paths[Precision.FP32].write_bytes(tiny_export(Kind.BAKED).read_bytes())
    for precision in (Precision.INT8, Precision.FP16):
        quantize_file(paths[Precision.FP32], paths[precision], precision)
    return {str(precision): path for precision, path in paths.items()}


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_runs_at_any_length_and_stays_close(precision: str, files: dict[str, Path]) -> None:
    before, after = (open_session(read_model(files[name])) for name in ("fp32", precision))
    for snippets in (1, 2, 3, 99, 100, 101, 257):
        features = clip_like_features(3, snippets, 32)
        masks = [session.run(["masks"], {"features": features})[0] for session in (before, after)]
        assert masks[1].dtype == np.float32
        assert np.abs(masks[0] - masks[1]).max() < 0.05


def test_fp16_is_more_exact_than_int8(files: dict[str, Path]) -> None:
    features = [clip_like_features(1, 100, 32, seed=seed) for seed in range(4)]
    harm = {name: measure_harm(read_model(files["fp32"]), read_model(path), features) for name, path in files.items()}
    errors = {name: item["masks"].relative_error for name, item in harm.items()}
    assert errors["fp32"] == 0 < errors["fp16"] < errors["int8"] < 0.2


def test_recipe_is_recorded(files: dict[str, Path]) -> None:
    int8 = read_model(files["int8"]).info
    assert int8.precision is Precision.INT8
    assert int8.recipe["target"] == "portable"
    assert "temporal/MatMul_0" in int8.recipe["weight_products"]
    assert any(name.startswith("mask_head/") for name in int8.recipe["weight_products"])
    assert len(int8.recipe["activation_products"]) == 4
    assert 0 < int8.recipe["low_precision_share"] < 1
    assert set(int8.recipe["harm"]) == {"class_logits", "masks", "video_logits"}
    fp16 = read_model(files["fp16"]).info
    assert fp16.recipe["largest_value"]["snippets"] == 8192
    assert fp16.recipe["largest_value"]["value"] < 65504
    for name in ("int8", "fp16"):
        assert read_model(files[name]).info.parity == read_model(files["fp32"]).info.parity


def test_is_deterministic(files: dict[str, Path], tmp_path: Path) -> None:
    for precision in (Precision.INT8, Precision.FP16):
        quantize_file(files["fp32"], tmp_path / "again.onnx", precision)
        assert (tmp_path / "again.onnx").read_bytes() == files[str(precision)].read_bytes()


@pytest.mark.parametrize("target", TARGETS)
def test_weights_keep_to_the_range_of_the_target(target: str, files: dict[str, Path], tmp_path: Path) -> None:
    quantize_file(files["fp32"], tmp_path / "a.onnx", Precision.INT8, int8=Int8Options(cpu=target))
    weights = [
        onnx.numpy_helper.to_array(item)
        for item in onnx.load(tmp_path / "a.onnx").graph.initializer
        if item.data_type == onnx.TensorProto.INT8 and item.dims and len(item.dims) == 2
    ]
    largest = max(int(np.abs(weight.astype(int)).max()) for weight in weights)
    assert largest == (64 if TARGETS[target].reduce_range else 127)


def test_this_machine_is_a_target() -> None:
    assert this_machine() in TARGETS


def test_excluded_products_stay_in_fp32(files: dict[str, Path], tmp_path: Path) -> None:
    options = Int8Options(exclude="^temporal/")
    recipe = quantize_file(files["fp32"], tmp_path / "a.onnx", Precision.INT8, int8=options).info.recipe
    everything = set(Products.of(onnx.load(files["fp32"]), STALE_GRAPH.quantization))
    assert set(recipe["kept_fp32"]) == {name for name in everything if name.startswith("temporal/")}
    assert {*recipe["kept_fp32"], *recipe["weight_products"], *recipe["activation_products"]} == everything
    nodes = [part for node in onnx.load(tmp_path / "a.onnx").graph.node for part in (node, *inner_nodes(node))]
    products = {node.name for node in nodes if node.op_type == "MatMul"}
    assert set(recipe["kept_fp32"]) <= products


@pytest.mark.parametrize(
    "kind", [Kind.BAKED, Kind.OPEN, Kind.TEXT_TOWER, pytest.param(Kind.FULL, marks=pytest.mark.slow)]
)  # for image towers see test_towers
@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP16])
def test_every_kind(kind: Kind, precision: Precision, tiny_export: TinyExport, tmp_path: Path) -> None:
    report = quantize_file(tiny_export(kind), tmp_path / "b.onnx", precision)
    assert report.low_precision_share > 0.1
    assert all(np.isfinite(item.relative_error) for item in report.harm.values())
    made = onnx.load(tmp_path / "b.onnx")
    assert made.ir_version == 8
    onnx.checker.check_model(made, full_check=True)


def test_nodes_are_sorted_with_the_bodies_that_take_in_their_outputs(tiny_export: TinyExport) -> None:
    model = onnx.load(tiny_export(Kind.OPEN))
    names = [node.name for node in model.graph.node]
    sort_nodes(model.graph)
    assert [node.name for node in model.graph.node] == names
    reverse = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(model.graph.node)]
    del model.graph.node[:]
    model.graph.node.extend(reverse)
    with pytest.raises(onnx.checker.ValidationError, match="topologically sorted"):
        onnx.checker.check_model(model)
    sort_nodes(model.graph)
    onnx.checker.check_model(model, full_check=True)


def test_rows_are_quantised_before_they_are_gathered_to_the_same_numbers(
    tiny_export: TinyExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(tiny_export(Kind.BAKED))
    monkeypatch.setattr(int8, "quantize_before_movement", lambda graph: 0)
    plain = to_int8(model, Products.of(model, STALE_GRAPH.quantization))
    moved = onnx.ModelProto.FromString(plain.SerializeToString())
    assert quantize_before_movement(moved.graph) == 1
    makers = {output: node.op_type for node in moved.graph.node for output in node.output}
    (pad,) = [node for node in moved.graph.node if node.op_type == "Pad" and makers.get(node.input[0]) == QUANTIZE]
    assert makers[pad.input[2]] == QUANTIZE, "rows beyond the ends are zero points"
    assert quantize_before_movement(moved.graph) == 0
    onnx.checker.check_model(moved, full_check=True)
    before, after = (open_content(each.SerializeToString()) for each in (plain, moved))
    for snippets in (1, 2, 3, 50, 257):
        features = {"features": clip_like_features(2, snippets, 32)}
        for one, other in zip(before.run(None, features), after.run(None, features), strict=True):
            np.testing.assert_array_equal(one, other)


def test_other_paddings_are_quantised_where_they_are(tiny_export: TinyExport, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.load(tiny_export(Kind.BAKED))
    monkeypatch.setattr(int8, "quantize_before_movement", lambda graph: 0)
    model = to_int8(model, Products.of(model, STALE_GRAPH.quantization))
    for pad in (node for node in model.graph.node if node.op_type == "Pad"):
        pad.input.append("temporal.norm.weight")  # something that is not zero
    assert quantize_before_movement(model.graph) == 1
    (quantize,) = [node for node in model.graph.node if node.name.endswith("_rows")]
    makers = {output: node.op_type for node in model.graph.node for output in node.output}
    assert makers[quantize.input[0]] == "Pad"


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(-3.0, 2.0, 3.0), (1.0, 2.0, 2.0), (-2.0, -1.0, 2.0), (0.0, 0.0, 0.0)]
)
def test_right_operands_take_their_step_from_the_entry_farthest_from_zero(
    low: float, high: float, expected: float
) -> None:
    value = onnx.helper.make_tensor_value_info
    float32 = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["left", "right"], ["product"], name="stage/product")],
        "one_product",
        [value("left", float32, [2, 3]), value("right", float32, [3, 4])],
        [value("product", float32, [2, 4])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    quantize_activation_products(model, ["stage/product"])
    model.graph.output.append(value("right_s8_scale", float32, []))
    right = np.linspace(low, high, 12, dtype=np.float32).reshape(3, 4)
    feeds = {"left": np.ones((2, 3), np.float32), "right": right}
    (scale,) = open_content(model.SerializeToString()).run(["right_s8_scale"], feeds)
    assert scale == np.maximum(np.float32(expected) * np.float32(1 / 127), np.float32(1e-12))


def test_a_file_that_fails_leaves_what_was_there(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise BadDataError("masks", "is not finite")

    (tmp_path / "a.onnx").write_bytes(b"what was there")
    monkeypatch.setattr(quantize, "measure_harm", refuse)
    with pytest.raises(BadDataError, match="not finite"):
        quantize_file(files["fp32"], tmp_path / "a.onnx", Precision.FP16)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.onnx", b"what was there")]


def test_values_beyond_half_precision_are_refused(files: dict[str, Path]) -> None:
    model = onnx.load(files["fp32"])
    features = clip_like_features(1, 50, 32)
    check_range(model, {"features": features}, STALE_GRAPH.quantization)
    with pytest.raises(BadDataError, match=r"temporal.*beyond half precision's 65504; use --int8"):
        check_range(model, {"features": features * np.float32(1e4)}, STALE_GRAPH.quantization)


class TestCommand:
    def test_names_its_output_after_the_model(self, files: dict[str, Path], command: Command) -> None:
        code, out, err = command("quantize", files["fp32"], "--int8")
        made = files["fp32"].with_suffix(".int8.onnx")
        assert code == 0, err
        assert "changed decisions" in out
        assert read_model(made).info.precision is Precision.INT8
        made.unlink()

    def test_measures_on_given_features(self, files: dict[str, Path], tmp_path: Path, command: Command) -> None:
        np.save(tmp_path / "v.npy", clip_like_features(1, 20, 32)[0])
        words = (
            "quantize",
            files["fp32"],
            "--fp16",
            "-o",
            tmp_path / "a.onnx",
            "--features",
            tmp_path / "v.npy",
            "--json",
        )
        code, out, err = command(*words)
        assert code == 0, err
        assert json.loads(out)["recipe"]["harm"]["masks"]["relative_error"] < 0.02

    @pytest.mark.parametrize(
        ("words", "code", "message"),
        [
            (["{fp32}"], 2, "exactly one is needed"),
            (["{fp32}", "--int8", "--fp16"], 2, "exactly one is needed"),
            (["{fp32}", "--fp16", "--exclude", "x"], 2, "go with --int8 only"),
            (["{fp32}", "--int8", "--exclude", "("], 2, "is no regular expression"),
            (["{fp32}", "--int8", "--exclude", "nothing"], 2, "matches none of temporal/"),
            (["{fp32}", "--int8", "--target", "z80"], 2, "use auto, vnni"),
            (["{int8}", "--int8"], 65, "is int8 already"),
            (["none.onnx", "--int8"], 66, "none.onnx: no such file"),
            (["{fp32}", "--int8", "-o", "no/a.onnx"], 73, "folder no does not exist"),
            (["{fp32}", "--int8", "-o", "{fp32}"], 2, "is an input of this command"),
            (["{fp32}", "--int8", "--features", "none.npy"], 66, "none.npy: no such file"),
        ],
    )
    def test_errors(
        self, words: list[str], code: int, message: str, files: dict[str, Path], command: Command,
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        found, out, err = command("quantize", *(word.format(**files) for word in words))
        assert (found, out) == (code, "")
        assert message in err
        assert "Traceback" not in err
        assert not list(tmp_path.iterdir())
