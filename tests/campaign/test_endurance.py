"""Kills of a training, a batch with bad files, and a stream of thousands of windows."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from tests.campaign.cases import control_characters, peak_mb

MODEL = Path(__file__).parents[1] / "data" / "tiny_baked.onnx"
WIDTH = 8
pytestmark = pytest.mark.campaign


def test_twenty_kills_of_a_training_change_no_byte_and_leave_nothing(tmp_path, figures):
    from tests.stale_edge.test_resume import assert_killed_equals_whole

    assert_killed_equals_whole("killed-anywhere", tmp_path, 20, 16)
    left = [path.name for path in (tmp_path / "killed").rglob("*.stale-edge.tmp")]
    assert not left
    figures["kills of a training"] = 20


def test_a_hundred_bad_files_of_a_thousand_take_none_along(tmp_path, command, figures):
    rng = np.random.default_rng(0)
    folder = tmp_path / "features"
    folder.mkdir()
    bad = set(random.Random(0).sample(range(1000), 100))
    spoiled = (b"", b"\x93NUMPY", b"<html>\x1b[2J</html>", bytes(400), b"\xff" * 400)
    for number in range(1000):
        path = folder / f"v{number:04}.npy"
        np.save(path, (3 * rng.standard_normal((20 + number % 30, WIDTH))).astype(np.float32))
        if number in bad:
            path.write_bytes(spoiled[number % len(spoiled)])
    code, _, err = command("detect", MODEL, folder, "-o", tmp_path / "results.json", "--quiet")
    assert code == 65
    assert "Traceback" not in err
    assert not control_characters(err)
    found = json.loads((tmp_path / "results.json").read_text())["results"]
    assert set(found) == {f"v{number:04}" for number in range(1000) if number not in bad}
    figures["files of a batch, 100 of them bad"] = 1000


def test_memory_is_flat_over_twenty_thousand_windows(figures):
    from stale_edge_runtime.detector import Detector
    from stale_edge_runtime.stream import DetectionStream
    from stale_edge_runtime.windows import WindowPlan

    detector = Detector(MODEL)
    stream = DetectionStream(detector.detect, WindowPlan(16, 8), 0.5)
    rng = np.random.default_rng(0)
    found = 0
    for window in range(20_000):
        found += len(stream.push((3 * rng.standard_normal((8, WIDTH))).astype(np.float32)))
        if window == 1000:
            start_mb = peak_mb(anew=True)
    found += len(stream.finish())
    assert found > 0
    assert peak_mb() - start_mb <= 64
    assert stream.snippets == 160_000
    figures["windows of a stream"] = window + 1
    figures["MiB more over the last 19,000 windows"] = round(peak_mb() - start_mb, 1)
