"""Hostile input of every kind, to every reader and command: refused in words, or taken, and nothing else happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.campaign.cases import control_characters

ROOT = Path(__file__).parents[2]
CASES = {"readers": 6, "checkpoints": 4, "commands": 3, "videos": 2, "models": 1}


def run_group(group, folder, seed=0, cases=1, every=1):
    """Run a group in a process of its own; gives its verdicts, violations, and the memory that it took in MiB."""
    room = folder / group
    room.mkdir()
    path = os.pathsep.join([str(ROOT), str(ROOT / "export"), str(ROOT / "runtime")])
    words = [sys.executable, "-m", "tests.campaign.worker", group, seed, cases, every, room]
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(word) for word in words], cwd=ROOT, env=environment, capture_output=True, check=False)
    lines = [json.loads(line) for line in (folder / f"{group}.log").read_text().splitlines()]
    verdicts = [line for line in lines if "violations" in line]
    violations = [f"{v['kind']} #{v['seed']}: {text} | {v['said']}" for v in verdicts for text in v["violations"]]
    if done.returncode:
        last = lines[-1] if lines else "nothing"
        violations.append(f"{group} ended with {done.returncode} after {last}: {done.stderr.decode()[-2000:]}")
    elif lines[-1]["extra_mb"] > 256:
        violations.append(f"{group} took {lines[-1]['extra_mb']:.0f} MiB more")
    extra_mb = lines[-1].get("extra_mb", 0.0) if lines else 0.0
    if raw := control_characters((done.stdout + done.stderr).decode(errors="backslashreplace")):
        violations.append(f"{group} wrote {raw} below Python")
    return verdicts, violations, extra_mb


def summary(verdicts):
    """A table of cases by the first word of their kind."""
    rows = Counter((v["kind"].split(":")[0], "refused" if v["code"] else "taken") for v in verdicts)
    forms = sorted({form for form, _ in rows})
    lines = [f"{form:24} {rows[form, 'refused']:6} refused {rows[form, 'taken']:6} taken" for form in forms]
    slowest = max(verdicts, key=lambda v: v["cpu_s"])
    kinds = len({v["kind"] for v in verdicts})
    return "\n".join(
        [*lines, f"{kinds} kinds, {len(verdicts)} cases; slowest {slowest['cpu_s']:.1f} s: {slowest['kind']}"]
    )


def test_a_selection_is_refused_or_taken(tmp_path):
    verdicts, violations, _ = run_group("readers", tmp_path, every=5)
    assert not violations, "\n".join(violations)
    assert len(verdicts) >= 90


@pytest.mark.campaign
def test_all_kinds_are_refused_or_taken(tmp_path, figures, wrong):
    verdicts, violations = [], []
    for group, cases in CASES.items():
        found, bad, extra_mb = run_group(group, tmp_path, cases=cases)
        verdicts += found
        violations += bad
        figures["MiB more, at most"] = max(figures["MiB more, at most"], extra_mb)
    print("\n" + summary(verdicts))
    wrong += violations
    figures["kinds of hostile input"] = len({v["kind"] for v in verdicts})
    figures["cases of hostile input"] = len(verdicts)
    figures["seconds of processor time of the slowest case"] = max(v["cpu_s"] for v in verdicts)
    assert not violations, f"{len(violations)}:\n" + "\n".join(violations)
    assert len({v["kind"] for v in verdicts}) >= 250
    assert len(verdicts) >= 5000
