"""The command line as a device has it: what it can do without torch, and what it says of the rest."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parents[1] / "data"
MODEL = DATA / "tiny_baked.onnx"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is not None, reason="for an environment without torch, see `make test-edge`"
)


def stale_edge(folder, *words):
    command = [str(Path(sys.executable).with_name("stale-edge")), *map(str, words)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def features(tmp_path):
    from stale_edge_runtime.model_file import read_model

    for number in range(2):
        values = np.random.default_rng(number).standard_normal((40 + number, read_model(MODEL).info.feature_dim))
        np.save(tmp_path / f"v_video{number}.npy", values.astype(np.float32))
    return tmp_path


def test_detect_then_evaluate(features):
    truth = {
        "subset": "validation",
        "duration": 40.0,
        "annotations": [{"segment": [0, 40], "label": "nothing like it"}],
    }
    (features / "truth.json").write_text(json.dumps({"database": {f"video{n}": truth for n in range(2)}}))
    code, _, err = stale_edge(features, "detect", MODEL, ".", "--annotations", "truth.json", "-o", "found.json")
    assert code == 0, err
    results = json.loads((features / "found.json").read_text())["results"]
    assert sorted(results) == ["video0", "video1"]
    best = results["video0"][0]
    truth["annotations"] = [{"segment": best["segment"], "label": best["label"]}]
    (features / "truth.json").write_text(json.dumps({"database": {"video0": truth}}))
    words = ("evaluate", "found.json", "--ground-truth", "truth.json", "--json", "map.json", "--quiet")
    code, _, err = stale_edge(features, *words)
    assert code == 0, err
    assert json.loads((features / "map.json").read_text())["average_map"] == 1.0


def test_view(features):
    assert stale_edge(features, "detect", MODEL, ".", "-o", "found.json", "--page", "page.html")[0] == 0
    code, _, err = stale_edge(features, "view", "found.json", "--videos", ".", "-o", "view.html")
    assert code == 0, err
    assert "no file there is named like a video" in err
    for page in ("page.html", "view.html"):
        assert "Content-Security-Policy" in (features / page).read_text(encoding="utf-8")


def test_bench(features):
    words = ("bench", MODEL, "--threads", 1, "--lengths", "20,50", "--runs", 2, "--json", "b.json", "--csv", "b.csv")
    code, out, err = stale_edge(features, *words)
    assert code == 0, err
    assert "decoding at T = 50" in out
    rows = list(csv.DictReader((features / "b.csv").open(encoding="utf-8")))
    assert [row["snippets"] for row in rows] == ["20", "50"]


def test_inspect_and_compare(features):
    code, out, err = stale_edge(features, "inspect", MODEL, "--json")
    assert code == 0, err
    assert json.loads(out)["kind"] == "baked"
    code, _, err = stale_edge(features, "compare", MODEL, MODEL, "--features", "v_video0.npy", "--max-flips", 0)
    assert code == 0, err


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("export",), "export"),
        (("quantize", MODEL, "--int8"), "export"),
        (("convert", "missing.pth.tar"), "export"),
        (("train", "--annotations", "a.json", "--features", ".", "--initial", "a.safetensors", "-o", "run"), "train"),
        (("simulate", "-o", "world"), "train"),
        (("inspect", "a.safetensors"), "export"),
        (("demo",), "train"),
        (("bench", MODEL, "--lengths", "50", "--compare", "torch"), "export"),
        (("bench", MODEL, "--plot", "b.png"), "plot"),
    ],
)
def test_what_needs_more_says_which_extra(tmp_path, words, extra):
    code, out, err = stale_edge(tmp_path, *words)
    assert (code, out) == (69, "")
    assert f"stale-edge[{extra}]" in err
    assert len(err.strip().splitlines()) <= 2
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())
