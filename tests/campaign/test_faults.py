"""Faults at every step of every writer: in words, the old file or the new one, nothing left after the next run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaign.faults import WRITERS

ROOT = Path(__file__).parents[2]


def run_writer(writer, folder, most=10_000):
    """Try the fault points of a writer in a process of its own; gives counts, and what went wrong."""
    room = folder / writer.replace(" ", "-")
    room.mkdir()
    path = os.pathsep.join([str(ROOT), str(ROOT / "export"), str(ROOT / "runtime")])
    words = [sys.executable, "-m", "tests.campaign.faults", writer, str(room), str(most)]
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"points": 0, "fired": 0, "calls": 0}, [f"{writer} ended with {done.returncode}: {done.stderr[-2000:]}"]
    counts, wrong = map(json.loads, done.stdout.splitlines()[-2:])
    return counts, wrong["wrong"]


def test_a_result_file_survives_every_fault(tmp_path):
    counts, wrong = run_writer("results", tmp_path)
    assert not wrong, "\n".join(wrong)
    assert counts["fired"] == counts["points"] >= 50


@pytest.mark.campaign
def test_every_writer_survives_every_fault(tmp_path, figures, wrong):
    points, violations = 0, []
    print()
    for writer in WRITERS:
        counts, found = run_writer(writer, tmp_path)
        print(f"{writer:16} {counts['calls']:4} calls {counts['points']:4} points {counts['fired']:4} fired")
        if counts["fired"] != counts["points"]:
            violations.append(f"{writer}: {counts['points'] - counts['fired']} points did not fire")
        points += counts["fired"]
        violations += found
    print(f"{points} fault points")
    figures["fault points, all fired"] = points
    figures["writers"] = len(WRITERS)
    wrong += violations
    assert not violations, f"{len(violations)}:\n" + "\n".join(violations)
    assert points >= 400
