"""Onnxruntime flushes subnormal numbers to zero; the arithmetic of whoever uses a Detector must not change."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stale_edge_runtime.session import cores

DATA = Path(__file__).parents[1] / "data"
PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
from stale_edge_runtime import Detector, decode

data, threads = Path(sys.argv[1]), int(sys.argv[2])
outputs = [np.load(data / "decode_planted.npz")["planted0_" + part] for part in ("scores", "masks", "video")]
outputs[0] = outputs[0].T
smallest, halves = np.array([5e-324]), np.array([2.2250738585072014e-308]) / np.array([2.0, 4.0])

def arithmetic():
    published = [found.score for found in decode(*outputs, 100.0, compat="stale")]
    return [bool((smallest * 1.0 != 0).all()), (halves * 1.0).tolist(), published]

before = arithmetic()
detector = Detector(data / "tiny_baked.onnx", threads=threads)
features = np.random.default_rng(0).standard_normal((50, detector.info.feature_dim))
assert detector.detect(features, 100.0) is not None
print(json.dumps([before, arithmetic()]))
"""


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.skipif(cores() < 2, reason="needs 2 cores"))])
def test_a_detector_leaves_subnormal_numbers_alone(threads):
    words = [sys.executable, "-c", PROGRAM, str(DATA), str(threads)]
    before, after = json.loads(subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert before[0] is True
    assert min(before[1]) > 0.0
    assert any(0.0 < score < 2.3e-308 for score in before[2])  # or the published scores would not show it
    assert after == before
