"""Importing and running leaves nothing in the home and temporary folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import stale_edge_runtime

DATA = Path(__file__).parents[1] / "data"
DETECT = """
import sys
import numpy as np
from stale_edge_runtime import Detector
detector = Detector(sys.argv[1])
print(len(detector.detect(np.random.default_rng(0).standard_normal((20, detector.info.feature_dim)), 20.0)))
"""


def test_an_empty_home_stays_empty(tmp_path):
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    environment = {
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(stale_edge_runtime.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", DETECT, str(DATA / "tiny_baked.onnx")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().isdigit()
    assert list(home.rglob("*")) == []
    assert list(temporary.rglob("*")) == []
