"""Texts of strangers' files never act on a terminal: refused as names, shown as escapes everywhere else."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from stale_edge.checkpoint import METADATA_KEY
from stale_edge.cli.console import Reporter
from stale_edge_runtime.errors import BadDataError, printable, printable_json

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., tuple[int, str, str]]

DATA = Path(__file__).parents[1] / "data"
MODEL = DATA / "tiny_baked.onnx"
ACTING = {
    "C0": "\x1b]0;title\x07\x1b[31m",
    "C1": "\x9b31m",
    "carriage return": "good\rbad",
    "backspace": "a\x08b",
    "delete": "a\x7fb",
    "direction": "\u202egnp",
    "isolate": "\u2066x",
    "zero width": "\u200b\u200bx",
    "line separator": "a\u2028b",
    "surrogate": "\ud800",
}


def acts(text: str) -> list[str]:
    return [one for line in text.split("\n") for one in line if not one.isprintable()]


@pytest.mark.parametrize("text", ACTING.values(), ids=ACTING)
def test_texts_are_escaped_in_messages_and_tables(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    assert not acts(printable(text))
    assert not acts(str(BadDataError(text, text, text)))
    escaped = printable_json(json.dumps({text: text}, ensure_ascii=False, indent=1))
    assert not acts(escaped)
    assert json.loads(escaped) == {text: text}
    report = Reporter()
    table = Table(text)
    table.add_row(text)
    report.result(table)
    report.result(f"{text}\nnext")
    report.result_json({text: text}) if text != "\ud800" else None
    report.note(text)
    report.warn(text)
    with report.progress(text, 1) as step:
        step(text)
    out, err = capfd.readouterr()
    assert not acts(out + err)
    assert "next" in out


def test_spaces_and_scripts_stay() -> None:
    assert printable("kid's room\u202f客厅\u00a0x") == "kid's room\u202f客厅\u00a0x"


@pytest.mark.parametrize("text", ACTING.values(), ids=ACTING)
def test_names_in_models_are_refused(tmp_path: Path, command: Command, text: str) -> None:
    if text == "\ud800":
        pytest.skip("protobuf cannot hold it")
    for place in ("class", "node", "tensor"):
        model = onnx.load(MODEL)
        if place == "class":
            entry = next(entry for entry in model.metadata_props if entry.key == "stale_edge.classes")
            entry.value = json.dumps([text, *json.loads(entry.value)[1:]])
        elif place == "node":
            model.graph.node[0].name = text
        else:
            model.graph.initializer[0].name = text
        path = tmp_path / f"{place}.onnx"
        path.write_bytes(model.SerializeToString())
        code, out, err = command("inspect", path)
        assert code == 65, place
        assert out == ""
        assert not acts(err)
        assert "printable" in err


@pytest.mark.parametrize("text", ACTING.values(), ids=ACTING)
def test_other_texts_in_models_are_shown_as_escapes(tmp_path: Path, command: Command, text: str) -> None:
    if text == "\ud800":
        pytest.skip("protobuf cannot hold it")
    model = onnx.load(MODEL)
    model.producer_name = text
    for key, value in (("feature_extractor", text), ("weights", json.dumps({text: text})), (text, text)):
        entry = next((e for e in model.metadata_props if e.key == f"stale_edge.{key}"), None)
        entry = model.metadata_props.add() if entry is None else entry
        entry.key, entry.value = f"stale_edge.{key}", value
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    for words in (("inspect", path), ("inspect", path, "--json")):
        code, out, err = command(*words)
        assert code == 0, err
        assert not acts(out + err)


@pytest.mark.parametrize("text", [text for name, text in ACTING.items() if name != "surrogate"])
def test_names_of_files_are_shown_as_escapes(tmp_path: Path, command: Command, text: str) -> None:
    folder = tmp_path / text
    folder.mkdir()
    np.save(folder / "good.npy", np.ones((3, 8), np.float32))
    (folder / f"{text}.npy").write_bytes(b"bad")
    code, out, err = command("detect", MODEL, folder, "-o", folder / f"{text}.json", "--format", "json")
    assert code == 65
    assert not acts(out + err)
    code, out, err = command("detect", MODEL, f"--{text}")
    assert code == 2
    assert not acts(out + err)


@pytest.mark.parametrize("text", [*ACTING.values(), "x" * 501])
def test_names_in_checkpoints_are_refused(tmp_path: Path, command: Command, tiny_file: Path, text: str) -> None:
    path = tmp_path / "a.safetensors"
    for changes in ({"classes": [text]}, {"format": text}, {"network": text}, {"origin": {"source": "\ud800"}}):
        path.write_bytes(edited(tiny_file.read_bytes(), changes))
        code, out, err = command("export", path, "-o", tmp_path / "a.onnx", "--open")
        assert code == 65
        assert not acts(out + err)


def edited(content: bytes, changes: dict[str, object]) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    metadata = json.loads(header["__metadata__"][METADATA_KEY])
    header["__metadata__"][METADATA_KEY] = json.dumps({**metadata, **changes})
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def test_a_terminal_sees_the_escapes_of_rich_alone(tmp_path: Path) -> None:
    """On a real terminal rich colours its own words, and nothing of the file's."""
    folder = tmp_path / "\x1b]0;title\x07"
    folder.mkdir()
    (folder / "a.npy").write_bytes(b"bad")
    (folder / "b.npy").write_bytes(b"bad")
    outside, inside = pty.openpty()
    words = [sys.executable, "-m", "stale_edge", "detect", str(MODEL), str(folder)]
    process = subprocess.Popen(words, stdout=inside, stderr=inside, env={**os.environ, "TERM": "xterm-256color"})
    os.close(inside)
    seen = b""
    while True:
        try:
            block = os.read(outside, 4096)
        except OSError:
            break
        if not block:
            break
        seen += block
    os.close(outside)
    assert process.wait() == 65
    assert b"\x1b]0;" not in seen
    assert b"\\x1b]0;title\\x07" in seen
