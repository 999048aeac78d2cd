"""Trainings that are killed, resumed, and shared by two processes."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def drive(*words):
    command = [sys.executable, "-m", "tests.stale_edge.training_driver", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_killed_equals_whole(how, folder, kills, seed):
    drive(how, folder, kills, seed)
    for name in ("best.safetensors", "state.safetensors", "training.csv", "validation.csv"):
        assert (folder / "killed" / name).read_bytes() == (folder / "whole" / name).read_bytes(), name
    assert len((folder / "whole" / "training.csv").read_text().splitlines()) == 1 + 20


def test_kills_change_no_byte(tmp_path):
    assert_killed_equals_whole("killed", tmp_path, 5, 7)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_two_hundred_kills_change_no_byte(seed, tmp_path):
    assert_killed_equals_whole("killed-anywhere", tmp_path, 20, seed)


def test_two_processes_have_the_loss_of_one_and_resume(tmp_path):
    drive("shared", tmp_path, 2)
    for name in ("best.safetensors", "state.safetensors", "training.csv"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    one, several, fewer = (
        list(csv.DictReader((tmp_path / name / "training.csv").open(encoding="utf-8")))
        for name in ("one", "several", "fewer")
    )
    assert len(one) == len(several) == len(fewer) == 10
    for first, second in [*zip(one, several, strict=True), *zip(one, fewer, strict=True)]:
        for column in ("total", "classification", "mask", "foreground", "consistency"):
            assert float(first[column]) == pytest.approx(float(second[column]), rel=1e-4, abs=1e-5), column
        assert float(first["gradient_norm"]) == pytest.approx(float(second["gradient_norm"]), rel=1e-3)


@pytest.mark.slow
def test_two_processes_have_the_loss_of_one_with_fractions_in_their_targets(tmp_path):
    drive("shared-actionformer", tmp_path, 2)
    one, several = (
        list(csv.DictReader((tmp_path / name / "training.csv").open(encoding="utf-8"))) for name in ("one", "several")
    )
    assert len(one) == len(several) == 4
    for first, second in zip(one, several, strict=True):
        for column in first:
            assert float(first[column]) == pytest.approx(float(second[column]), rel=1e-3, abs=1e-5), column
