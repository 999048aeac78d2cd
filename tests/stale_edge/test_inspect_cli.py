"""`stale-edge inspect`: everything about a file, for people and for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stale_edge.cli.app import run
from stale_edge.cli.inspect import _recipe

DATA = Path(__file__).parents[1] / "data"
BAKED, OPEN = str(DATA / "tiny_baked.onnx"), str(DATA / "tiny_open.onnx")


def test_table_holds_what_people_ask(capsys):
    assert run(["inspect", BAKED]) == 0
    out, err = capsys.readouterr()
    for words in (
        "baked, fp32, untrained",
        "3: archery, long jump, playing kora",
        "1 to 512 snippets of width 8, 2 s each",
        "features float32 [batch, snippets, 8]",
        "class_logits float32 [batch, snippets, 4]",
        "masks float32 [batch, 10, snippets]",
        "opset 18",
        "MatMul 6",
        f"{Path(BAKED).stat().st_size / 1000:.2f} kB",
        "float32 1.54 kB, int64 24 bytes",
        "attention_shared_keys",
        "max_error: class_logits 1.5e-06",
    ):
        assert words in out
    assert "seeded noise: right for timing, useless for detection" in err


def test_json_is_all_that_stdout_holds(capsys):
    assert run(["inspect", OPEN, "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == ""
    assert found["schema"] == 1
    assert found["file"] == OPEN
    assert (found["kind"], found["precision"], found["untrained"]) == ("open", "fp32", True)
    assert found["inputs"][1] == {"name": "text_embeddings", "type": "float32", "axes": ["classes", 8]}
    assert found["outputs"][0]["axes"] == ["batch", "snippets", "classes + 1"]
    assert found["size_bytes"] == Path(OPEN).stat().st_size
    assert found["operators"]["MatMul"] == 6
    assert found["parity"]["lengths"] == [1, 2, 100]
    assert found["macs"] is None


def test_network_role_text_and_keys_of_a_later_version_are_shown(capsys, tmp_path):
    entry = b"\x0a\x17stale_edge.later_number\x12\x03abc"  # one more of the metadata properties
    later = tmp_path / "later.onnx"
    later.write_bytes(Path(OPEN).read_bytes() + b"\x72" + bytes([len(entry)]) + entry)
    assert run(["inspect", str(later), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["network"], found["role"], found["text"]) == ("stale", "detector", "open")
    assert found["further_metadata"] == {"later_number": "abc"}
    assert run(["inspect", str(later)]) == 0
    out = capsys.readouterr().out
    assert "stale, detector, open text" in out
    assert "later_number: abc" in out


def test_multiply_accumulates_are_those_counted_by_hand(capsys):
    assert run(["inspect", BAKED, "--json", "--macs"]) == 0
    macs = json.loads(capsys.readouterr().out)["macs"]
    # query 8x8, hidden 8x16, masks 16x10, cosine 8x4 for every snippet; attention 8 twice for every pair
    assert macs == {"1": 0, "T": 8 * 8 + 8 * 16 + 16 * 10 + 8 * 4, "T^2": 2 * 8}
    assert run(["inspect", BAKED, "--macs"]) == 0
    assert "billion at T = 200" in capsys.readouterr().out


def test_names_in_a_file_are_no_markup(capsys, tmp_path):
    content = Path(BAKED).read_bytes()
    name, evil = b"playing kora", b"[red]kora[/]"
    assert len(name) == len(evil)
    path = tmp_path / "model.onnx"
    path.write_bytes(content.replace(name, evil))
    assert run(["inspect", str(path)]) == 0
    assert "[red]kora[/]" in capsys.readouterr().out


def test_a_checkpoint_is_shown_too(capsys, tiny_file):
    assert run(["inspect", str(tiny_file)]) == 0
    out, err = capsys.readouterr()
    for words in ("checkpoint, fp32", "4: Archery, Long jump", "its tower", "feature_dim: 32", "source: published"):
        assert words in out
    assert err == ""
    assert run(["inspect", str(tiny_file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["kind"], found["untrained"]) == (1, "checkpoint", False)
    assert found["config"]["anchors"] == 10
    assert found["size_bytes"] == tiny_file.stat().st_size > 4 * found["parameters"] > 0


def test_checkpoints_that_cannot_be_shown(capsys, tiny_file, tmp_path, monkeypatch):
    from stale_edge import extras

    assert run(["inspect", str(tiny_file), "--macs"]) == 2
    assert "--macs: counts in .onnx files" in capsys.readouterr().err
    assert run(["inspect", str(tmp_path / "none.safetensors")]) == 66
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"hello")
    assert run(["inspect", str(bad)]) == 65
    assert "is not a safetensors file" in capsys.readouterr().err
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "torch" else object())
    assert run(["inspect", str(tiny_file)]) == 69
    assert "pip install 'stale-edge[export]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (None, 66, "no such file"),
        (b"", 65, "IR version 0"),
        (b"hello", 65, "not an ONNX file"),
        (b"\x08\x0a" * 1000, 65, "two fields 'ir_version'"),
    ],
)
def test_files_that_are_none_end_in_one_line(capsys, tmp_path, content, code, message):
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    assert run(["inspect", str(path)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"error: {path}: ")
    assert message in err


def test_no_file_is_a_usage_error(capsys):
    assert run(["inspect"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_program_itself_answers():
    program = [sys.executable, "-c", "from stale_edge.__main__ import main; main()"]
    done = subprocess.run([*program, "inspect", BAKED, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["kind"] == "baked"


def test_classes_are_printed_one_a_line(capsys):
    baked = str(Path(OPEN).with_name("tiny_baked.onnx"))
    assert run(["inspect", baked, "--json"]) == 0
    names = json.loads(capsys.readouterr().out)["classes"]
    assert run(["inspect", baked, "--classes"]) == 0
    assert capsys.readouterr().out.splitlines() == names


def test_a_recipe_is_a_few_lines() -> None:
    recipe = {
        "method": "dynamic",
        "weight_products": [f"p{place}" for place in range(40)],
        "kept_because": {"p1": "a long story"},
        "detections": {"videos": 18, "matched_share": 0.971},
    }
    lines = _recipe(recipe).splitlines()
    assert lines == ["method dynamic", "weight_products 40", "videos 18, matched_share 0.971", "all of it: --json"]
    assert _recipe({}) == ""
