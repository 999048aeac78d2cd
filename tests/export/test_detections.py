"""Decoding inside a graph equals the numpy decoding, and a file in which it does not is never written."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from stale_edge_export import detections, exporter
from stale_edge_export.detections import (
    add_decoding,
    check_decoding,
    compare_rows,
    decoding_of,
    with_detections,
    without_detections,
)
from stale_edge_export.graphs.registry import GRAPHS
from stale_edge_export.quantization.quantize import quantize_file
from stale_edge_runtime import Detector
from stale_edge_runtime.contract import Kind, ModelInfo, Precision
from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.heads.registry import HEADS
from stale_edge_runtime.model_file import read_model

if TYPE_CHECKING:
    from stale_edge_export.graphs.decoding import Settings
    from stale_edge_runtime.model_file import ModelFile

DATA = Path(__file__).parents[1] / "data"
NETWORKS = ("stale", "actionformer", "boundary-map")
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "stale": [{}, {"max_detections": 3, "sigma": 0.1, "min_score": 0.2}, {"max_classes": 1, "mask_rows": 2}],
    "actionformer": [
        {},
        {"per_class": True, "sigma": 0.5, "shortest": 0.05, "limit": 200},
        {"method": "hard"},
        {"method": "hard", "per_class": True, "limit": 7},
        {"method": "linear", "vote": 0.0},
        {"method": "linear", "per_class": True},
        {"method": "none", "candidates": 20},
    ],
    "boundary-map": [{}, {"max_detections": 5, "min_score": 0.01}, {"max_candidates": 4}],
}
CASES = [(network, number) for network in NETWORKS for number in range(len(VARIANTS[network]))]


def info_of(network: str) -> ModelInfo:
    return ModelInfo(
        kind=Kind.OPEN,
        precision=Precision.FP32,
        feature_dim=1,
        created_by="a test",
        network=network,
        anchors=20 if network == "stale" else 0,
        strides=(1, 2, 4) if network == "actionformer" else (),
        offset=2.0 if network == "actionformer" else 0.5,
    )


@cache
def decoder(network: str, number: int) -> tuple[ModelInfo, Settings, ort.InferenceSession]:
    """The decoding alone, as a model whose inputs are the outputs of the network."""
    info = info_of(network)
    chosen = decoding_of(network).settings(info, VARIANTS[network][number])
    head = HEADS[network]
    value = helper.make_tensor_value_info
    inputs = [value("features", TensorProto.FLOAT, ["batch", "snippets", 1])]
    inputs += [value(name, TensorProto.FLOAT, [1] + [None] * len(s)) for name, s in head.shapes(info, 9, 5).items()]
    graph = helper.make_graph([], "decoding", inputs, [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    made = add_decoding(model, replace(info, detections=chosen))
    onnx.checker.check_model(made, full_check=True)
    return info, chosen, ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])


def rows_of(network: str, number: int, outputs: dict[str, np.ndarray], snippets: int) -> tuple[list, list]:
    """Rows of numpy and of the graph."""
    info, chosen, session = decoder(network, number)
    feeds = {name: value[None] for name, value in outputs.items()}
    feeds["features"] = np.zeros((1, snippets, 1), np.float32)
    segments, labels, scores = session.run(["segments", "labels", "scores"], feeds)
    found = decoding_of(network).decode(outputs, snippets, info, chosen)
    graph = [(*pair, label, score) for pair, label, score in zip(segments.tolist(), labels, scores, strict=True)]
    return [(row.start_s, row.end_s, int(row.label), row.score) for row in found], graph


def draw(network: str, snippets: int, classes: int, seed: int, kind: str) -> dict[str, np.ndarray]:
    """Outputs of planted actions or of noise, no two alike."""
    head, rng = HEADS[network], np.random.default_rng([seed, snippets, classes])
    made = head.examples(info_of(network), snippets, classes)[kind]
    return {name: (value * (1 - 0.01 * rng.random(value.shape))).astype(np.float32) for name, value in made.items()}


@pytest.mark.parametrize(("network", "number"), CASES)
@settings(max_examples=8, deadline=None)
@given(
    snippets=st.integers(1, 300),
    classes=st.integers(1, 6),
    seed=st.integers(0, 99),
    kind=st.sampled_from(["clear", "noisy"]),
)
@example(snippets=1, classes=1, seed=0, kind="noisy")
@example(snippets=200, classes=200, seed=0, kind="clear")
@example(snippets=257, classes=3, seed=0, kind="noisy")
def test_rows_are_those_of_numpy(network, number, snippets, classes, seed, kind):
    outputs = draw(network, snippets, classes, seed, kind)
    expected, found = rows_of(network, number, outputs, snippets)
    if (difference := compare_rows(expected, found, snippets)) is not None:
        info, chosen, _ = decoder(network, number)
        assert not detections._is_decided(decoding_of(network), outputs, snippets, info, chosen), difference


@pytest.mark.parametrize(("apart", "decided"), [(1e-6, False), (1e-3, True)])
def test_a_tie_at_the_last_rank_is_not_decided(apart, decided):
    outputs = draw("boundary-map", 40, 1, 0, "clear")
    outputs["pair_logits"][:] = -9.0
    outputs["pair_logits"][5, 10], outputs["pair_logits"][25, 30] = 1.0, 1.0 + apart
    info = info_of("boundary-map")
    decoding = decoding_of("boundary-map")
    one = decoding.settings(info, {"max_detections": 1})
    assert detections._is_decided(decoding, outputs, 40, info, one) is decided


@pytest.mark.parametrize("network", NETWORKS)
def test_nothing_found_is_no_row(network):
    shapes = HEADS[network].shapes(info_of(network), 12, 3)
    outputs = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    if network == "stale":
        outputs["class_logits"][:, -1] = 30.0  # background everywhere
    elif network == "actionformer":
        outputs["class_logits"] -= 30.0
    else:
        outputs["pair_logits"] -= 30.0
    assert rows_of(network, 0, outputs, 12) == ([], [])


@pytest.mark.parametrize("network", NETWORKS)
def test_of_equal_scores_the_first_wins(network):
    """Outputs are quarters, so that most scores that are equal are so to the last bit; rounding decides on the rest."""
    number = VARIANTS[network].index({"method": "hard"}) if network == "actionformer" else 0
    equal = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        shapes = HEADS[network].shapes(info_of(network), 24, 3)
        outputs = {name: rng.integers(0, 3, shape).astype(np.float32) / 4 for name, shape in shapes.items()}
        if network == "boundary-map":
            outputs["class_gram"] = np.eye(24, dtype=np.float32)
        equal += compare_rows(*rows_of(network, number, outputs, 24), 24) is None
    assert equal >= 7


@pytest.fixture
def inside(tiny_export, monkeypatch) -> ModelFile:
    """The tiny network with its decoding inside, checked up to a shorter length than usual."""
    monkeypatch.setattr(detections, "LONGEST", 300)
    source = read_model(tiny_export(Kind.BAKED))
    return with_detections(source, decoding_of("stale").settings(source.info, {"max_detections": 20}))


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.INT8])
def test_quantising_keeps_the_decoding(precision, inside, tmp_path):
    path = tmp_path / "inside.onnx"
    path.write_bytes(inside.content)
    quantize_file(path, tmp_path / "small.onnx", precision)
    file = read_model(tmp_path / "small.onnx")
    onnx.checker.check_model(onnx.load_model_from_string(file.content), full_check=True)
    assert (file.ir_version, file.opset, file.info.precision) == (8, 18, precision)
    assert file.info.detections["max_detections"] == 20
    checked = file.info.parity["detections"]
    assert (checked["lengths"][0], checked["rows"] > checked["videos"]) == (1, True)
    plain = without_detections(file)
    assert plain.info.precision is precision
    features = np.random.default_rng(0).standard_normal((40, 32)).astype(np.float32)
    found, expected = (Detector(each).detect(features, 20.0) for each in (file, plain))
    assert len(found) == 20
    assert [row.label for row in found] == [row.label for row in expected[:20]]


def test_taking_the_decoding_off_gives_the_file_it_was_put_on(inside, tiny_export):
    before, after = onnx.load(tiny_export(Kind.BAKED)), onnx.load_model_from_string(without_detections(inside).content)
    for output in before.graph.output:
        output.ClearField("doc_string")
    assert after == before


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("precision", Precision)
def test_published_sizes_decode_inside(network, precision, tmp_path):
    from stale_edge.seeded import untrained_checkpoint
    from stale_edge_export.exporter import export_checkpoint

    path = tmp_path / "a.onnx"
    kind = Kind.OPEN if network == "boundary-map" else Kind.BAKED  # it has no text tower to bake text with
    export_checkpoint(untrained_checkpoint(0, network), path, kind=kind, decode={})
    if precision is not Precision.FP32:
        quantize_file(path, tmp_path / "b.onnx", precision)
        path = tmp_path / "b.onnx"
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert read_model(path).info.parity["detections"]["rows"] > 0


def test_a_difference_leaves_no_file(tiny_export, monkeypatch):
    source = read_model(tiny_export(Kind.BAKED))
    decoding = decoding_of("stale")

    def late(*arguments: Any) -> Any:
        found = decoding.write(*arguments)
        return replace(found, segments=found.segments + 1)

    spec = replace(GRAPHS["stale"], decoding=replace(decoding, write=late))
    monkeypatch.setitem(GRAPHS, "stale", spec)
    with pytest.raises(BadDataError, match=r"detection 1 is .* by numpy .* at 1 snippets"):
        with_detections(source, decoding.settings(source.info, {}))


def test_an_undecided_video_is_drawn_again(inside, monkeypatch):
    verdicts = iter(["first rows differ", *[None] * 1000])
    monkeypatch.setattr(detections, "compare_rows", lambda *_: next(verdicts))
    monkeypatch.setattr(detections, "_is_decided", lambda *_: False)
    assert check_decoding(without_detections(inside), inside)["videos"] == 18


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([(0.0, 5.0, 1, 0.9)], "gives 1 detections, numpy 2"),
        ([(0.0, 5.0, 1, 0.9), (2.0, 9.0, 0, 0.4), (2.0, 9.0, 0, 0.4)], "gives 3 detections, numpy 2"),
        ([(0.0, 5.0, 0, 0.9), (2.0, 9.0, 0, 0.4)], "detection 1 is 0 to 5 of class 0"),
        ([(0.0, 5.0, 1, 0.9), (2.0, 9.1, 0, 0.4)], "detection 2 is 2 to 9.1"),
        ([(0.0, 5.0, 1, 0.9), (2.0, 9.0, 0, 0.41)], "detection 2 .* at 0.41"),
        ([(0.0, 5.0, 1, float("nan")), (2.0, 9.0, 0, 0.4)], "detection 1 .* at nan"),
    ],
)
def test_differences_are_told(found, words):
    expected = [(0.0, 5.0, 1, 0.9), (2.0, 9.0, 0, 0.4)]
    assert compare_rows(expected, expected, 10) is None
    difference = compare_rows(expected, found, 10)
    assert difference is not None
    assert re.search(words, difference)


@pytest.mark.parametrize(
    ("network", "given", "words"),
    [
        ("stale", {"sigmas": 1}, "decode option sigmas: is not known"),
        ("stale", {"sigma": 0}, "sigma: is 0"),
        ("stale", {"max_detections": "many"}, "max_detections: is 'many'"),
        ("stale", {"max_detections": 2.5}, "max_detections: is 2.5"),
        ("stale", {"max_classes": 5000}, "takes 1,000"),
        ("actionformer", {"sigmas": 1}, "decode option sigmas: is not known"),
        ("actionformer", {"method": "sift"}, "method must be one of"),
        ("actionformer", {"min_score": 0.5}, "set threshold=0.5 as well"),
        ("boundary-map", {"min_score": 2}, "min_score: is 2"),
    ],
)
def test_settings_without_meaning_are_refused(network, given, words):
    with pytest.raises(UsageError, match=words):
        decoding_of(network).settings(info_of(network), given)


def test_a_network_without_a_graph_of_its_decoding_is_refused(monkeypatch):
    monkeypatch.setitem(GRAPHS, "stale", replace(GRAPHS["stale"], decoding=None))
    with pytest.raises(UsageError, match="--detections"):
        decoding_of("stale")


def test_the_command_line_goes_all_the_way(command, tiny_file, tiny_export, tmp_path, monkeypatch):
    traced = onnx.load(tiny_export(Kind.BAKED))  # tracing takes long, and is tested elsewhere
    monkeypatch.setattr(exporter, "trace", lambda *_: traced)
    monkeypatch.setattr(detections, "LONGEST", 300)
    path = tmp_path / "tiny.onnx"
    words = ("--detections", "--decode", "max_detections=9", "--snippet-seconds", "0.5")
    code, out, err = command("export", tiny_file, *words, "-o", path)
    assert code == 0, err
    assert "are those of numpy, in order" in out
    assert '"max_detections": 9' in command("inspect", path, "--json")[1]
    assert "inside: max_detections 9" in command("inspect", path)[1]
    np.save(tmp_path / "video.npy", np.random.default_rng(0).standard_normal((40, 32)).astype(np.float32))
    code, _, err = command("detect", path, tmp_path / "video.npy", "-o", tmp_path / "r.json")
    assert code == 0, err
    code, _, err = command("detect", path, tmp_path / "video.npy", "--window", 20, "-o", tmp_path / "r.json")
    assert code == 0, err
    code, out, err = command("compare", path, path, "--features", tmp_path / "video.npy")
    assert code == 0, err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("export", "{tiny}", "--decode", "sigma=1"), "give --detections as well"),
        (("export", "{tiny}", "--detections", "--decode", "sigma"), "no NAME=VALUE"),
        (("export", "{tiny}", "--detections", "--decode", "sigma=1", "--decode", "sigma=2"), "no NAME=VALUE"),
        (("export", "{tiny}", "--detections", "--full", "-o", "a.onnx"), "does not go with a full file"),
        (("export", "{tiny}", "--detections", "--text-tower", "-o", "a.onnx"), "does not go with a text_tower file"),
        (("export", "--clip", "untrained:ViT-B/32", "--detections"), "takes no options of a network"),
        (("detect", "{inside}", "{video}", "--compat", "stale", "-o", "r.json"), "without --detections"),
        (("bench", "{inside}", "--lengths", "30", "--batch", "2"), "takes one a call"),
        (("bench", "{inside}", "--lengths", "30", "--compare", "torch"), "decodes inside"),
    ],
)
def test_what_does_not_go_together_is_one_line(words, message, command, tiny_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("video.npy", np.ones((9, 8), np.float32))
    names = {"tiny": tiny_file, "inside": DATA / "tiny_baked_detections.onnx", "video": "video.npy"}
    code, out, err = command(*(word.format(**names) for word in words))
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())


def test_bench_times_no_decoding_beside_a_file_that_decodes(command, brief_ceiling, tmp_path):
    quick = ("--lengths", 30, "--runs", 2, "--no-cold-start", "--json", tmp_path / "bench.json")
    code, out, err = command("bench", DATA / "tiny_baked_detections.onnx", *quick)
    assert code == 0, err
    assert "decoding at T" not in out


@pytest.mark.parametrize("path", sorted(DATA.glob("*.onnx")), ids=lambda path: path.stem)
def test_committed_files_pass_the_checker_and_are_small(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == onnx.helper.find_min_ir_version_for(list(model.opset_import)) == 8
    assert path.stat().st_size < 30_000
