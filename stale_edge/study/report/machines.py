"""Tables of machines and run settings: machines side by side, and one line for each run."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any, Final

from stale_edge.study.report.labels import one_line
from stale_edge.study.report.table import ReportTable
from stale_edge.study.report.thesis import NONE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stale_edge.study.report.labels import Labelled
    from stale_edge.study.store import Session, StudyRun

_PROPERTIES: Final = {
    "cpu": "processor",
    "architecture": "architecture",
    "cpu_flags": "flags that matter",
    "cores": "cores",
    "cores_allowed": "cores allowed",
    "cpu_quota_cores": "quota, cores",
    "governor": "governor",
    "memory_mb": "memory, MB",
    "gpu": "GPU",
    "os": "system",
    "python": "Python",
    "libraries": "libraries",
    "providers": "providers",
    "environment": "environment",
}
_USUAL: Final = ("quick", "threads", "seeds", "repeats")
"""Options that every line of the runs names where its study has them."""


def machines_table(runs: Sequence[Labelled]) -> ReportTable:
    """List every machine as a column; a star marks what is not the same on all.

    Args:
        runs: All of the report.
    """
    machines = tuple(dict.fromkeys(item.machine for item in runs))
    rows = []
    for key, name in _PROPERTIES.items():
        values = [
            _joined([session for item in runs if item.machine == machine for session in item.run.history], key)
            for machine in machines
        ]
        rows.append((f"{name} *" if len(set(values)) > 1 else name, *values))
    return ReportTable(
        "machines",
        "Machines",
        "What the runs ran on, as the system told it. A slash stands between what sessions or runs on one machine tell "
        "differently.",
        ("property", *machines),
        tuple(rows),
        "* Not the same on all machines." if len(machines) > 1 else "",
    )


def differences(run: StudyRun) -> tuple[str, ...]:
    """Describe differences between the sessions of a run in words."""
    sessions = run.history
    commit = ("commit",) if len({session.commit for session in sessions}) > 1 else ()
    properties = (
        name for key, name in _PROPERTIES.items() if len({show(session.machine.get(key)) for session in sessions}) > 1
    )
    return (*commit, *properties)


def runs_table(runs: Sequence[Labelled]) -> ReportTable:
    """List every run as a line: when, from which commits, how far it came, and who else used the machine."""
    rows = []
    for item in runs:
        run, sessions = item.run, item.run.history
        state = f"{run.finished} of {run.cells}" + ("" if run.complete else " – partial")
        started = when(run.started) + (f", {len(sessions)} sessions" if len(sessions) > 1 else "")
        commits = " / ".join(dict.fromkeys(one_line(session.commit or NONE) for session in sessions))
        load = [_joined(sessions, key) for key in ("load_1min", "busy_percent", "steal_percent")]
        same_study = [other.run.options for other in runs if other.run.study is run.study]
        rows.append((str(run.study), item.machine, started, commits, state, _settings(run.options, same_study), *load))
    return ReportTable(
        "runs",
        "Runs",
        "Load is the average number of running processes at the start and at the end; steal is time that other guests "
        "of the same host took.",
        ("study", "machine", "started", "commit", "cells", "options", "load, 1 min", "busy, %", "steal, %"),
        tuple(rows),
        "A plus after a commit: files had been changed. A slash stands between what several sessions of a run tell; "
        "files of earlier versions tell of one session only. Options: the usual ones, and those in which runs of a "
        "study differ.",
        heads=2,
    )


def _settings(options: Mapping[str, Any], of_study: Sequence[Mapping[str, Any]]) -> str:
    """Choose the options that a run is known by: the usual ones, and those that differ in its study."""
    flat = dict(_flat(options))
    others = [dict(_flat(other)) for other in of_study]
    shown = [name for name in flat if name in _USUAL or any(other.get(name) != flat[name] for other in others)]
    missing = dict.fromkeys(name for other in others for name in other if name not in flat)
    words = [f"{name} {show(flat[name])}" for name in shown] + [f"no {name}" for name in missing]
    return "; ".join(map(one_line, words)) or NONE


def _flat(options: Mapping[str, Any], depth: int = 3) -> Iterator[tuple[str, Any]]:
    """Options inside of options by their whole names."""
    for name, value in options.items():
        if isinstance(value, dict) and value and depth:
            yield from ((f"{name}.{inner}", part) for inner, part in _flat(value, depth - 1))
        else:
            yield name, value


def show(value: Any) -> str:
    """Write a JSON value as words."""
    if value is None or value in ("", [], {}):
        return NONE
    if isinstance(value, dict):
        return ", ".join(f"{one_line(key)} {show(part)}" for key, part in value.items())
    if isinstance(value, list):
        return (" → " if all(isinstance(part, float) for part in value) else ", ").join(map(show, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return one_line(value)


def when(started: str) -> str:
    """Date and time to the minute, or what stands there instead."""
    try:
        moment = dt.datetime.fromisoformat(started)
    except ValueError:
        return one_line(started)
    return moment.strftime("%Y-%m-%d %H:%M") + (" UTC" if moment.utcoffset() == dt.timedelta(0) else "")


def options_text(options: Mapping[str, Any]) -> str:
    """Write the options of a run, one a line."""
    return "\n".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in options.items())


def _joined(sessions: Sequence[Session], key: str) -> str:
    """Join a machine's descriptions of itself; where its sessions differ, all of them."""
    return " / ".join(dict.fromkeys(show(session.machine.get(key)) for session in sessions))
