"""Running a study: cell after cell, each kept as soon as it is finished, none measured twice."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from stale_edge.study.design import Noted, Prepared
from stale_edge.study.store import Session, Store, StudyRun
from stale_edge_runtime.bench.machine import describe_machine, read_load

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from stale_edge.study.design import Cell, Study


@dataclass(frozen=True)
class StudyProgress:
    """Progress of a study."""

    done: int
    """Cells that are finished, those of earlier runs included."""
    cells: int
    """Number of all cells."""
    key: str
    """The one just finished."""
    seconds: float
    """Seconds that it took."""
    remaining_s: float
    """Estimated seconds for the remaining cells, from similar cells of this session, or from all."""


def run_study(
    study: Study,
    folder: Path,
    *,
    on_cell: Callable[[StudyProgress], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
    providers: Sequence[str] = ("cpu",),
    max_s: float | None = None,
) -> StudyRun:
    """Measure all cells of a study that its folder does not have yet.

    The tables are written after every cell, so that they can be read whenever it is cut short. Every session that
    measures something is recorded: they may differ in what a reader must know.

    Args:
        study: Study to run.
        folder: Exists; what is found there is kept.
        on_cell: Called after each cell.
        note: Called with lines on what is going on.
        providers: Providers it runs on, for the description of the machine.
        max_s: Begin no cell after so many seconds, what makes the study ready apart.

    Returns:
        The run, of all cells that are finished.

    Raises:
        StaleEdgeError: The folder holds another study or cannot be written, or a cell cannot be measured.
    """
    store, cells = Store(folder), study.cells()
    before = read_load()
    session = Session(commit(), _now(), describe_machine(before, before, providers))
    begun = StudyRun(study.name, session.machine, dict(study.options), session.commit, session.started, len(cells))
    with store.locked():
        run = store.open(begun)
        # What is there is read now: a damaged cell must not show after hours of measuring the others.
        measured = {cell.key: store.get(cell, study.name) for cell in cells if store.has(cell)}
        missing = [cell for cell in cells if cell.key not in measured]
        earlier = run.history if measured else ()
        if measured:
            note(f"{len(measured)} of {len(cells)} cells are there already")

        def so_far() -> StudyRun:
            notes = (*run.notes, *(study.notes if isinstance(study, Noted) else ()))
            found = tuple(measurement for cell in cells for measurement in measured.get(cell.key, ()))
            sessions = run.history
            if len(measured) > len(cells) - len(missing):
                load = _load_of(describe_machine(before, read_load(), providers))
                sessions = (*earlier, replace(session, machine={**session.machine, **load}))
            return replace(
                run,
                commit=sessions[0].commit,
                started=sessions[0].started,
                machine=sessions[0].machine,
                sessions=sessions if len(sessions) > 1 else (),
                finished=len(measured),
                measurements=found,
                notes=tuple(dict.fromkeys(notes)),
            )

        if missing and (max_s is None or max_s > 0) and isinstance(study, Prepared):
            study.prepare(note)
        pace, begin = _Pace(cells), time.monotonic()
        for number, cell in enumerate(missing, 1):
            start = time.monotonic()
            if max_s is not None and start - begin >= max_s:
                break
            cell_measurements = tuple(study.measure(cell, note))
            store.put(cell, cell_measurements, study.name)
            measured[cell.key] = cell_measurements
            store.finish(so_far())
            seconds = time.monotonic() - start
            pace.add(cell, seconds)
            on_cell(StudyProgress(len(measured), len(cells), cell.key, seconds, pace.expected_s(missing[number:])))
        run = so_far()
        store.finish(run)
    return run


class _Pace:
    """Durations of cells by kind: cells without training take seconds and others minutes.

    Args:
        cells: All of the study.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._kinds: dict[str, tuple[Hashable, ...]] = {}
        self._seconds: dict[Hashable, list[float]] = {}
        seen = set()
        for cell in cells:
            factors = frozenset(cell.factors.items())
            # The first cell with the same factors may measure what does not depend on the repeat.
            self._kinds[cell.key] = ((factors, factors in seen), factors, None)
            seen.add(factors)

    def add(self, cell: Cell, seconds: float) -> None:
        """Take a measured cell in."""
        for kind in self._kinds[cell.key]:
            self._seconds.setdefault(kind, []).append(seconds)

    def expected_s(self, cells: Sequence[Cell]) -> float:
        """Estimate the cells' seconds from the most similar measured cells (at least one)."""
        known = (next(self._seconds[kind] for kind in self._kinds[cell.key] if kind in self._seconds) for cell in cells)
        return sum(map(fmean, known))


def commit() -> str | None:
    """Find the commit of this program, with a plus where its files were changed; none where unknown."""
    here = Path(__file__).resolve().parent
    head = _git(here, "rev-parse", "--short=12", "HEAD")
    if not head or not _git(here, "ls-files", "--", Path(__file__).name):
        return None
    return head + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *words: str) -> str | None:
    program = shutil.which("git")
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 (words of ours)
            [program, "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _load_of(machine: dict[str, object]) -> dict[str, object]:
    return {name: machine[name] for name in ("load_1min", "busy_percent", "steal_percent")}


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
