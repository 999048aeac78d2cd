"""The demo: every command of it, and the page that shows what came out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stale_edge.cli.demo import QUICK
from stale_edge.pages import demo as demo_page
from stale_edge.pages.demo import write_page

Command = Callable[..., tuple[int, str, str]]
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da63fcff1f0003030200"
    "efbf1f2e0000000049454e44ae426082"
)


@pytest.mark.slow
def test_runs_from_a_simulated_world_to_a_page(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo" / "training").mkdir(parents=True)
    (tmp_path / "demo" / "training" / "mine").write_text("a user's own")
    code, _, said = command("demo", "--quick", "--seconds", 0.1)
    assert code == 0, said
    assert [path.name for path in (tmp_path / "demo").glob("training*/*")] == ["mine"]
    page = (tmp_path / "demo" / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert page.count("<code>stale-edge ") == 10
    for name in ("stale.safetensors", "stale.onnx", "stale.int8.onnx", "stale.fp16.onnx"):
        assert (tmp_path / "models" / name).exists()
    bench = json.loads((tmp_path / "demo" / "bench.json").read_text())
    models = {row["model"] for row in bench["rows"]}
    assert models == {"PyTorch fp32", "PyTorch dynamic int8", "stale.onnx", "stale.int8.onnx", "stale.fp16.onnx"}
    assert {row["snippets"] for row in bench["rows"]} == set(map(int, QUICK.lengths.split(",")))
    code, _, said = command("demo", "--quick", "--seconds", 0.1, "--quiet")  # over its own results
    assert code == 0, said


def test_a_folder_that_cannot_be_made_is_named(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    code, _, said = command("demo", "-o", "taken")
    assert code == 73
    assert "taken: cannot be written" in said


def test_the_page_shows_the_figures_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracy = {"map": {"0.50": 0.5, "0.75": 0.25, "0.95": 0.0125}, "average_map": 0.2, "videos": 7}
    for name in ("seen", "unseen"):
        (tmp_path / f"{name}.json").write_text(json.dumps(accuracy))
    for name in ("timeline", "bench"):
        (tmp_path / f"{name}.png").write_bytes(PIXEL)
    rows = [
        {"model": model, "snippets": snippets, "median_ms": time}
        for model, time in ((demo_page.REFERENCE, 1234.4), ("<b>.onnx", 5.0))
        for snippets in (100, 200)
    ]
    ratios = [{"a": demo_page.REFERENCE, "b": "<b>.onnx", "snippets": 200, "ratio": 246.9}]
    machine = {"cpu": "A & B", "date": "2026-01-02T03:04:05", "libraries": {"onnxruntime": "1.20"}}
    (tmp_path / "bench.json").write_text(json.dumps({"rows": rows, "comparisons": ratios, "machine": machine}))
    recipe = {"videos": 14, "map_fp32": 0.345, "map": 0.3441, "matched_share": 0.987}
    monkeypatch.setattr(demo_page, "_detections", lambda _path: recipe)
    made = {"checkpoint": Path("demo.safetensors"), "int8": Path("demo.int8.onnx")}
    write_page(tmp_path / "index.html", tmp_path, [("simulate -o 'a b'", 1.6)], **made)
    page = (tmp_path / "index.html").read_text()
    for words in (
        "<td>taught classes (7 videos)</td><td>50.0</td><td>25.0</td><td>1.2</td><td>20.0</td>",
        "34.50 in fp32 and 34.41 in int8; 98.7 %",
        "<td>PyTorch dynamic int8</td><td>1,234 ms</td><td>1,234 ms</td>",
        "<td>&lt;b&gt;.onnx</td><td>5 ms</td><td>5 ms (247x)</td>",
        "A &amp; B, 2026-01-02, onnxruntime 1.20",
        "stale-edge simulate -o &#x27;a b&#x27;</code></td><td>2</td>",
    ):
        assert words in page
