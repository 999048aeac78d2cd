"""`stale-edge compare` as users type it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stale_edge.cli.app import run
from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.isolation import IsolatedDetector

BAKED = str(Path(__file__).parents[1] / "data" / "tiny_baked.onnx")
FOUND = [Detection(0, 10, "archery", 0.9), Detection(20, 40, "long jump", 0.7), Detection(50, 90, "archery", 0.4)]


@pytest.fixture
def folder(tmp_path):
    videos = tmp_path / "features"
    videos.mkdir()
    for index in range(3):
        rng = np.random.default_rng(index)
        np.save(videos / f"v_clip{index}.npy", rng.standard_normal((50 + index, 8)).astype(np.float32))
    return videos


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """A second model that moves boundaries by a second, names one class anew and swaps two scores."""
    other = tmp_path / "changed.onnx"
    other.write_bytes(Path(BAKED).read_bytes())

    def detect(self, features, duration_s=None, **_options):
        if self.path != other:
            return FOUND
        return [
            Detection(1, 10, "archery", 0.3),
            Detection(20, 40, "playing kora", 0.7),
            Detection(50, 91, "archery", 0.4),
        ]

    monkeypatch.setattr(IsolatedDetector, "detect", detect)
    return str(other)


def ground_truth(path):
    entries = [{"segment": [d.start_s, d.end_s], "label": d.label} for d in FOUND]
    database = {
        f"clip{index}": {"subset": "validation", "duration": 100.0, "annotations": entries} for index in range(2)
    }
    path.write_text(json.dumps({"database": database}))
    return str(path)


def figures(capsys, *words):
    code = run([*words, "--json", "--quiet"])
    return code, json.loads(capsys.readouterr().out)


def test_a_model_agrees_with_itself(folder, capsys):
    code, said = figures(capsys, "compare", BAKED, BAKED, "--features", str(folder))
    assert code == 0
    assert said["videos"] == 3
    assert said["detections_a"] == said["detections_b"] > 3
    assert said["matched_share"] == said["rank_correlation"] == 1.0
    assert said["shift_p95"] == said["flip_share"] == 0
    assert said["map_drop"] is None
    assert said["broken"] == []


def test_figures_are_in_the_tasks_units(folder, changed, tmp_path, capsys):
    truth = ground_truth(tmp_path / "gt.json")
    code, said = figures(capsys, "compare", BAKED, changed, "-f", str(folder), "--ground-truth", truth)
    assert code == 0
    assert said["matched_share"] == pytest.approx(1 / 3)  # 40 s of 41 match, 9 s of 10 do not
    assert said["class_flips"] == 3
    assert said["flip_share"] == pytest.approx(1 / 3)
    assert (said["shift_median"], said["shift_p95"]) == (0.5, 1.0)
    assert said["rank_correlation"] == -1.0
    assert said["map_a"] == 1.0
    assert 0 < said["map_b"] < 0.6
    assert said["map_drop"] == pytest.approx(1 - said["map_b"])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--min-matched", "0.9"], "matched_share is 0.3333, --min-matched 0.9"),
        (["--max-shift-s", "0.5"], "shift_p95 is 1, --max-shift-s 0.5"),
        (["--max-flips", "0.1"], "flip_share is 0.3333, --max-flips 0.1"),
        (["--min-rank", "0.5"], "rank_correlation is -1, --min-rank 0.5"),
        (["--max-drop", "0.01", "--ground-truth", "gt.json"], "map_drop is"),
    ],
)
def test_a_broken_bound_is_bad_data(words, text, folder, changed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ground_truth(tmp_path / "gt.json")
    assert run(["compare", BAKED, changed, "-f", str(folder), *words]) == 65
    said = capsys.readouterr()
    assert text in said.err
    assert "class flips" in said.out  # the table comes all the same


def test_bounds_that_hold_are_silent(folder, changed, capsys):
    words = ["--min-matched", "0.3", "--max-shift-s", "1", "--max-flips", "0.34", "--min-rank", "-1"]
    assert run(["compare", BAKED, changed, "-f", str(folder), *words, "--quiet"]) == 0


def test_a_bad_file_is_listed_once_and_the_others_compared(folder, capsys):
    (folder / "v_bad.npy").write_bytes(b"bad")
    assert run(["compare", BAKED, BAKED, "-f", str(folder)]) == 65
    said = capsys.readouterr()
    assert said.err.count("v_bad.npy") == 1
    assert said.out.split("videos")[1].split()[1] == "3"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--max-drop", "0.1"], 2, "--max-drop: needs ground truth"),
        (["--hop", "5"], 2, "--hop"),
        (["--min-matched", "2"], 2, "--min-matched"),
        (["--ground-truth", "absent.json"], 66, "absent.json"),
        (["-f", "absent.npy"], 66, "absent.npy"),
        (["--threads", "4096"], 69, "4096 threads"),
    ],
)
def test_errors(words, code, text, folder, capsys):
    assert run(["compare", BAKED, BAKED, "-f", str(folder), *words]) == code
    said = capsys.readouterr().err
    assert text in said
    assert "Traceback" not in said


def test_ground_truth_of_other_videos_is_said(folder, tmp_path, capsys):
    database = {"other": {"subset": "test", "duration": 9.0, "annotations": [{"segment": [0, 1], "label": "x"}]}}
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    assert run(["compare", BAKED, BAKED, "-f", str(folder), "--ground-truth", str(tmp_path / "gt.json")]) == 65
    assert "gt.json" in capsys.readouterr().err
