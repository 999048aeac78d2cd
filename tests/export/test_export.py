"""Every kind of export, against PyTorch, at awkward lengths and batches; names, axes and metadata read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch

from stale_edge.checkpoint import Checkpoint, save_checkpoint
from stale_edge.networks.clip_sources import weights_sha256
from stale_edge.networks.clip_text import clip_merges, tokenize
from stale_edge.seeded import seeded_network
from stale_edge_export import exporter
from stale_edge_export.exporter import export_checkpoint
from stale_edge_export.graphs.clip_text import REWRITES as TEXT_REWRITES
from stale_edge_export.graphs.stale_rewrites import REWRITES
from stale_edge_runtime.contract import BLOCKWISE, OPERATORS, Kind, Precision, Role
from stale_edge_runtime.errors import BadDataError, CannotWriteError
from stale_edge_runtime.heads.registry import output_names
from stale_edge_runtime.model_file import read_model
from stale_edge_runtime.session import open_session

if TYPE_CHECKING:
    from stale_edge.networks.stale.config import ModelConfig

TinyExport = Callable[..., Path]
Command = Callable[..., tuple[int, str, str]]
LENGTHS = (1, 2, 3, 9, 10, 11, 99, 257)


@pytest.fixture(scope="module", params=[True, pytest.param(False, marks=pytest.mark.slow)], ids=["folded", "plain"])
def folded(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module", params=[kind for kind in Kind if kind is not Kind.IMAGE_TOWER])
def exported(request: pytest.FixtureRequest, folded: bool, tiny_export: TinyExport) -> Path:
    return tiny_export(request.param, fold=folded)


def test_agrees_with_the_network(exported: Path, tiny_checkpoint: Checkpoint) -> None:
    model = read_model(exported)
    session = open_session(model)
    network, kind = tiny_checkpoint.network, model.info.kind
    names = {Kind.BAKED: tiny_checkpoint.classes}.get(kind, ("Surfing", "Playing the long alphorn outdoors"))
    token_ids = tokenize(names)
    with torch.inference_mode():
        text = network.encode_text(torch.from_numpy(token_ids))
    given = {Kind.OPEN: {"text_embeddings": text.numpy()}, Kind.FULL: {"token_ids": token_ids}}.get(kind, {})
    if kind is Kind.TEXT_TOWER:
        (embeddings,) = session.run(None, {"token_ids": token_ids})
        np.testing.assert_allclose(embeddings, text.numpy(), atol=1e-5)
        return
    for snippets in LENGTHS:
        for batch in (1, 3):
            features = np.random.default_rng(snippets).standard_normal((batch, snippets, 32)).astype(np.float32)
            found = session.run(list(output_names("stale", kind)), {"features": features, **given})
            with torch.inference_mode():
                expected = network.detect(torch.from_numpy(features), text)
            for name, value in zip(output_names("stale", kind), found, strict=True):
                np.testing.assert_allclose(
                    value, getattr(expected, name).numpy(), atol=1e-4, err_msg=f"{name} {snippets}"
                )


def test_is_one_file_with_the_names_of_the_contract(exported: Path) -> None:
    model = read_model(exported)  # checks inputs, outputs and axes by name
    assert [path.name for path in exported.parent.iterdir()] == [exported.name]
    assert set(model.operators) <= OPERATORS | {BLOCKWISE}
    assert model.opset == 18
    if model.info.kind is not Kind.TEXT_TOWER:
        assert model.inputs[0].axes == ("batch", "snippets", 32)
        assert model.outputs[1].axes == ("batch", 10, "snippets")


def test_tells_about_itself(exported: Path, folded: bool, tiny_checkpoint: Checkpoint) -> None:
    info = read_model(exported).info
    assert info.precision is Precision.FP32
    assert info.classes == (tiny_checkpoint.classes if info.kind is Kind.BAKED else ())
    assert (info.anchors, info.feature_dim, info.untrained) == (10, 32, False)
    assert info.weights == tiny_checkpoint.origin
    applied = TEXT_REWRITES if info.kind is Kind.TEXT_TOWER else tuple(REWRITES)
    assert info.rewrites == (applied if folded else ())
    assert all(0 <= error < 1e-4 for error in info.parity["max_error"].values())
    if info.kind is not Kind.TEXT_TOWER:
        assert len(info.parity["lengths"]) >= 8
        assert info.parity["batches"] == [1, 3]


def test_tells_the_text_that_was_learned(exported: Path, tiny_checkpoint: Checkpoint) -> None:
    info, network = read_model(exported).info, tiny_checkpoint.network
    digest = weights_sha256(network.config.text, network.text_tower.state_dict())
    assert info.text_sha256 == (digest if info.kind in {Kind.OPEN, Kind.TEXT_TOWER} else "")
    assert info.prompt == "a video of action "
    assert info.merges == (clip_merges() if info.kind is Kind.TEXT_TOWER else "")


def test_holds_nothing_of_this_machine(exported: Path) -> None:
    content = exported.read_bytes()
    assert b".py" not in content
    assert str(Path.home()).encode() not in content
    assert str(Path.cwd()).encode() not in content


def test_leaves_out_what_no_output_needs(exported: Path) -> None:
    names = [item.name for item in onnx.load(exported).graph.initializer]
    assert not [name for name in names if "representation" in name]
    if read_model(exported).info.kind in {Kind.BAKED, Kind.OPEN}:
        assert not [name for name in names if "token" in name]


def test_same_checkpoint_gives_same_bytes(tiny_checkpoint: Checkpoint, tiny_export: TinyExport, tmp_path: Path) -> None:
    export_checkpoint(tiny_checkpoint, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == tiny_export(Kind.BAKED).read_bytes()


def test_a_file_that_differs_is_refused_and_not_left(
    tiny_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "stale.onnx"
    target.write_bytes(b"what was there")
    real = exporter.trace

    def wrong(*arguments: object) -> onnx.ModelProto:
        model = real(*arguments)
        weight = next(item for item in model.graph.initializer if item.name.endswith("value_output"))
        values = onnx.numpy_helper.to_array(weight) * np.float32(1.001)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        return model

    monkeypatch.setattr(exporter, "trace", wrong)
    with pytest.raises(BadDataError, match=r"differs from PyTorch by .* snippets"):
        export_checkpoint(tiny_checkpoint, target)
    assert target.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [target]


def test_a_network_without_text_tower_exports_open_only(tiny_config: ModelConfig, tmp_path: Path) -> None:
    checkpoint = Checkpoint(seeded_network(replace(tiny_config, text=None), 0), ("a", "b"), {"source": "seeded"})
    export_checkpoint(checkpoint, tmp_path / "open.onnx", kind=Kind.OPEN)
    assert read_model(tmp_path / "open.onnx").info.untrained
    with pytest.raises(BadDataError, match="needs the text tower"):
        export_checkpoint(checkpoint, tmp_path / "baked.onnx")


def test_a_target_that_cannot_be_written_is_refused_before_anything_is_traced(
    tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    seen: list[str] = []
    with pytest.raises(CannotWriteError):
        export_checkpoint(tiny_checkpoint, tmp_path / "no" / "stale.onnx", progress=seen.append)
    assert seen == []


class TestCommand:
    def test_bakes_the_classes_of_a_file(self, tiny_file: Path, tmp_path: Path, command: Command) -> None:
        (tmp_path / "classes.txt").write_text("Surfing\nArchery\n")
        code, out, err = command(
            "export",
            tiny_file,
            "-o",
            tmp_path / "a.onnx",
            "--classes",
            tmp_path / "classes.txt",
            "--snippet-seconds",
            2,
        )
        assert code == 0, err
        assert "257 snippets" in out
        assert "a.onnx: baked" in out
        info = read_model(tmp_path / "a.onnx").info
        assert info.classes == ("Surfing", "Archery")
        assert info.snippet_seconds == 2

    def test_json(self, tiny_file: Path, tmp_path: Path, command: Command) -> None:
        code, out, _ = command("export", tiny_file, "-o", tmp_path / "a.onnx", "--open", "--json", "--quiet")
        assert code == 0
        assert json.loads(out)["metadata"]["stale_edge.kind"] == "open"

    def test_takes_the_checkpoint_of_the_models_folder(
        self, tiny_checkpoint: Checkpoint, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "models").mkdir()
        save_checkpoint(tmp_path / "models" / "stale.safetensors", tiny_checkpoint)
        code, out, err = command("export", "--quiet")
        assert code == 0, err
        assert out.startswith("models/stale.onnx: baked, ")
        assert out.count("\n") == 1
        assert not read_model(tmp_path / "models" / "stale.onnx").info.untrained

    def test_the_plain_graph_has_a_name_of_its_own(
        self, tiny_file: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert command("export", tiny_file, "--no-fold", "--quiet")[0] == 0
        assert [path.name for path in (tmp_path / "models").iterdir()] == ["stale.plain.onnx"]
        assert read_model(tmp_path / "models" / "stale.plain.onnx").info.rewrites == ()

    @pytest.mark.parametrize(
        ("words", "code", "message"),
        [
            (["none.safetensors"], 66, "none.safetensors: no such file"),
            (["{tiny}", "--open", "--full"], 2, "exclude each other"),
            (["{tiny}", "--open", "--classes", "x.txt"], 2, "does not go with a open file"),
            (["{tiny}", "--classes", "none.txt"], 66, "none.txt: no such file"),
            (["{tiny}", "-o", "no/folder/a.onnx"], 73, "folder no/folder does not exist"),
            (["{tiny}", "-o", "{tiny}"], 2, "is an input of this command"),
            (["{tiny}", "--wrong"], 2, "No such option"),
        ],
    )
    def test_errors(
        self, words: list[str], code: int, message: str, tiny_file: Path, command: Command, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        found, out, err = command("export", *(word.format(tiny=tiny_file) for word in words))
        assert (found, out) == (code, "")
        assert message in err
        assert "Traceback" not in err


def test_files_are_stamped_with_the_lowest_version_that_is_true_and_pass_the_checker(exported: Path) -> None:
    model = onnx.load(exported)
    assert model.ir_version == 8 == onnx.helper.find_min_ir_version_for(list(model.opset_import))
    onnx.checker.check_model(model, full_check=True)
    if read_model(exported).info.role is Role.DETECTOR:
        model.opset_import[0].version -= 1
        with pytest.raises(onnx.checker.ValidationError):
            onnx.checker.check_model(model, full_check=True)


def test_a_file_is_written_once_after_it_was_checked(
    tiny_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, seen = tmp_path / "stale.onnx", list[str]()

    def note(path: Path, content: bytes) -> None:
        assert seen[-1] == "1000 snippets, batch 3, clip_like features"
        assert not path.exists()
        seen.append(path.name)
        path.write_bytes(content)

    monkeypatch.setattr(exporter, "write_bytes", note)
    made = export_checkpoint(tiny_checkpoint, target, progress=seen.append)
    assert seen.count(target.name) == 1
    assert list(tmp_path.iterdir()) == [target]
    assert made.size_bytes == target.stat().st_size
    assert made.info == read_model(target).info
