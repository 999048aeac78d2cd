"""Other engines beside exported files: the same answers, and one line where they cannot be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from stale_edge import extras
from stale_edge_export.graphs.whole_attention import OtherBlocksError, with_whole_attention
from stale_edge_export.quantization.quantize import quantize_file
from stale_edge_runtime.bench.memory import run_child
from stale_edge_runtime.bench.onnx_contender import vocabulary_for
from stale_edge_runtime.contract import Kind, Precision
from stale_edge_runtime.model_file import read_model
from stale_edge_runtime.session import open_content
from stale_edge_runtime.synthetic import clip_like_features

pytestmark = pytest.mark.usefixtures("brief_ceiling")
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def int8(tiny_export: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("peers") / "tiny.int8.onnx"
    quantize_file(tiny_export(Kind.BAKED), path, Precision.INT8)
    return path


def test_openvino_keeps_no_id_and_reports_nothing(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    program = "import sys, stale_edge_export.contenders.openvino; print(sys.modules['openvino_telemetry'])"
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("snippets", [1, 37, 257, 1000])
def test_attention_in_one_piece_computes_the_same(tiny_export: Callable[..., Path], snippets: int) -> None:
    content = read_model(tiny_export(Kind.BAKED)).content
    assert "Scan" in {node.op_type for node in onnx.load_model_from_string(content).graph.node}
    whole = with_whole_attention(content)
    kinds = {node.op_type for node in onnx.load_model_from_string(whole).graph.node}
    assert not kinds & {"Scan", "Loop", "If"}
    features = {"features": clip_like_features(2, snippets, 32)}
    for one, other in zip(
        open_content(content).run(None, features), open_content(whole).run(None, features), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=2e-4)


def test_int8_attention_in_one_piece_stays_close(int8: Path) -> None:
    content = read_model(int8).content
    whole = with_whole_attention(content)
    features = {"features": clip_like_features(1, 40, 32)}
    one, other = (open_content(each).run(None, features)[0] for each in (content, whole))
    assert "Scan" not in {node.op_type for node in onnx.load_model_from_string(whole).graph.node}
    assert np.abs(one - other).max() < 0.05 * np.abs(one).max()


def test_other_blocks_are_refused() -> None:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Relu", ["part"], ["done"])],
        "body",
        [value("part", TensorProto.FLOAT, [2])],
        [value("done", TensorProto.FLOAT, [2])],
    )
    scan = helper.make_node("Scan", ["features"], ["found"], name="other", body=body, num_scan_inputs=1)
    borders = [value("features", TensorProto.FLOAT, [3, 2])], [value("found", TensorProto.FLOAT, [3, 2])]
    content = helper.make_model(helper.make_graph([scan], "other", *borders)).SerializeToString()
    with pytest.raises(OtherBlocksError, match="part meets nothing, not Gather"):
        with_whole_attention(content)


def test_compare_with_openvino(command: Command, tiny_export: Callable[..., Path], int8: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs openvino (the peers extra)")
    target = tmp_path / "bench.json"
    words = ("--compare", "openvino", "--lengths", "37,50", "--runs", 2, "--no-cold-start", "--json", target)
    code, _, err = command("bench", tiny_export(Kind.BAKED), int8, *words)
    assert code == 0, err
    report = json.loads(target.read_text())
    rows = {row["model"]: row for row in report["rows"]}
    assert {"OpenVINO fp32", "OpenVINO int8 of our graph", "baked.onnx", "tiny.int8.onnx"} <= set(rows)
    assert {rows[name]["engine"] for name in rows if name.startswith("OpenVINO")} == {"openvino"}
    agreement = {item["model"]: item for item in report["agreement"]}
    assert {item["reference"] for item in report["agreement"]} == {"baked.onnx"}
    assert agreement["OpenVINO fp32"]["max_relative"] < 1e-4
    assert 0 < agreement["OpenVINO int8 of our graph"]["max_relative"] < 0.2
    if "OpenVINO bf16" in rows:
        assert agreement["OpenVINO bf16"]["max_relative"] > 1e-5
        assert rows["OpenVINO bf16"]["precision"] == "bf16"
        assert rows["OpenVINO bf16"]["utilisation"] is None
    assert "OpenVINO fp32: logits within" in err


def test_without_nncf_its_row_is_left_out_in_words(
    tiny_export: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="needs openvino (the peers extra)")
    from stale_edge_export.contenders import openvino as openvino_contender

    monkeypatch.setattr(openvino_contender, "has_nncf", lambda: False)
    model = read_model(tiny_export(Kind.BAKED))
    found, notes = openvino_contender.openvino_contenders(model, "", vocabulary_for(model), tmp_path)
    assert {one.precision for one in found} <= {"fp32", "bf16"}
    assert notes == ["OpenVINO's own int8 is left out: NNCF is not installed; pip install 'stale-edge[peers]'"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Kind.BAKED, Kind.OPEN])
def test_openvino_quantises_by_its_own_means(
    command: Command,
    tiny_export: Callable[..., Path],
    kind: Kind,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for package in ("openvino", "nncf"):
        if find_spec(package) is None:
            pytest.skip(f"needs {package} (the peers extra)")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    target = tmp_path / "bench.json"
    words = ("--compare", "openvino", "--lengths", "37,50", "--runs", 2, "--json", target)
    code, out, err = command("bench", tiny_export(kind), *words)
    assert code == 0, err
    assert "left out" not in err
    assert "Statistics" not in out + err  # NNCF's progress
    rows = [row for row in json.loads(target.read_text())["rows"] if row["model"] == "OpenVINO int8 by NNCF"]
    assert [(row["precision"], row["engine"], row["snippets"]) for row in rows] == [
        ("int8", "openvino", 37),
        ("int8", "openvino", 50),
    ]
    assert all(row["load_ms"] > 0 and row["peak_rss_mb"] > 0 for row in rows)
    agreement = {item["model"]: item for item in json.loads(target.read_text())["agreement"]}
    assert agreement["OpenVINO int8 by NNCF"]["max_relative"] > 0
    assert list(home.rglob("*")) == []


@pytest.mark.slow
def test_what_nncf_cannot_quantise_is_a_note(
    tiny_export: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("openvino") is None or find_spec("nncf") is None:
        pytest.skip("needs openvino and nncf (the peers extra)")
    from stale_edge_export.contenders import openvino as openvino_contender

    monkeypatch.setattr(openvino_contender, "clip_like_features", lambda *_: clip_like_features(1, 1, 31))
    model = read_model(tiny_export(Kind.BAKED))
    wrong = replace(model, info=replace(model.info, feature_dim=31))
    found, notes = openvino_contender.openvino_contenders(wrong, "", vocabulary_for(model), tmp_path)
    assert found
    (note,) = notes
    assert "is left out: NNCF cannot quantise it (" in note


@pytest.mark.parametrize("kind", [Kind.BAKED, pytest.param(Kind.FULL, marks=pytest.mark.slow)])
def test_cold_start_of_openvino(
    tiny_export: Callable[..., Path], kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="needs openvino (the peers extra)")
    from stale_edge_export.contenders import openvino as openvino_contender

    monkeypatch.setattr(openvino_contender, "has_nncf", lambda: False)
    model = read_model(tiny_export(kind))
    (fp32, *_), notes = openvino_contender.openvino_contenders(model, "", vocabulary_for(model, classes=5), tmp_path)
    assert not any("cannot" in note for note in notes)
    cold = run_child(fp32.cold_start_words(1, 1, 20), subject=fp32.name)
    assert cold.load_ms > 0
    assert cold.first_ms > 0
    assert cold.peak_rss_mb > 50


def test_what_openvino_cannot_read_is_a_note(
    tiny_export: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="needs openvino (the peers extra)")
    from stale_edge_export.contenders import openvino as openvino_contender

    model = read_model(tiny_export(Kind.BAKED))
    monkeypatch.setattr(openvino_contender, "BLOCKWISE", "none")  # blocks stay, which its reader does not know
    found, notes = openvino_contender.openvino_contenders(model, "", vocabulary_for(model), tmp_path)
    assert found == []
    assert len(notes) == 1
    assert "OpenVINO cannot read" in notes[0]
    assert "baked.onnx" in notes[0]


def test_without_openvino_the_error_names_the_extra(
    command: Command, tiny_export: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "openvino" else object())
    code, out, err = command("bench", tiny_export(Kind.BAKED), "--compare", "openvino", "--lengths", 5)
    assert code == 69
    assert "needs openvino, which is not installed; pip install 'stale-edge[peers]'" in err
    assert out == ""
