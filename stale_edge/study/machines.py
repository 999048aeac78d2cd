"""What runs ran on and how, as tables: machines side by side, and one line for each run."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any, Final

from stale_edge.study.labels import one_line
from stale_edge.study.table import Table
from stale_edge.study.thesis import NONE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stale_edge.study.labels import Labelled

_PROPERTIES: Final = {
    "cpu": "processor",
    "architecture": "architecture",
    "cpu_flags": "flags that matter",
    "cores": "cores",
    "cores_allowed": "cores allowed",
    "cpu_quota_cores": "quota, cores",
    "governor": "governor",
    "memory_mb": "memory, MB",
    "os": "system",
    "python": "Python",
    "libraries": "libraries",
    "providers": "providers",
    "environment": "environment",
}


def machines_table(runs: Sequence[Labelled]) -> Table:
    """Every machine as a column; a star marks what is not the same on all.

    Args:
        runs: All of the report.
    """
    machines = tuple(dict.fromkeys(item.machine for item in runs))
    rows = []
    for key, name in _PROPERTIES.items():
        values = [_joined([item.run.machine for item in runs if item.machine == machine], key) for machine in machines]
        rows.append((f"{name} *" if len(set(values)) > 1 else name, *values))
    return Table(
        "machines",
        "Machines",
        "What the runs ran on, as the system told it.",
        ("property", *machines),
        tuple(rows),
        "* Not the same on all machines." if len(machines) > 1 else "",
    )


def runs_table(runs: Sequence[Labelled]) -> Table:
    """Every run as a line: when, from which commit, how far it came, and who else used the machine."""
    rows = []
    for item in runs:
        run = item.run
        state = f"{run.finished} of {run.cells}" + ("" if run.complete else " – partial")
        load = [show(run.machine.get(key)) for key in ("load_1min", "busy_percent", "steal_percent")]
        rows.append((str(run.study), item.machine, when(run.started), one_line(run.commit or NONE), state, *load))
    return Table(
        "runs",
        "Runs",
        "Load is the average number of running processes at the start and at the end; steal is time that other guests "
        "of the same host took.",
        ("study", "machine", "started", "commit", "cells", "load, 1 min", "busy, %", "steal, %"),
        tuple(rows),
        "A plus after a commit: files had been changed.",
        heads=2,
    )


def show(value: Any) -> str:
    """A JSON value as words."""
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
    """The options of a run, one a line."""
    return "\n".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in options.items())


def _joined(machines: Sequence[Mapping[str, Any]], key: str) -> str:
    """What a machine says of itself; where its runs differ, all that they say."""
    return " / ".join(dict.fromkeys(show(machine.get(key)) for machine in machines))
