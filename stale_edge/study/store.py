"""A study's folder: what was run, every finished cell, and the tidy tables made from them.

study.json          what was run, when, on what machine, from which commit
cells/KEY.json      one finished cell each, whole or not at all
measurements.csv    every measurement as one line
measurements.json   the same with what study.json says: one file that can travel and be reported
"""

from __future__ import annotations

import contextlib
import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from stale_edge.study.design import ACCURACY, COLUMNS, Measurement, StudyName
from stale_edge_runtime.errors import BadDataError, InputMissingError, UnavailableError, UsageError, writing_error
from stale_edge_runtime.formats.csv_cells import inert_cells
from stale_edge_runtime.formats.files import read_json, together, write_json, write_text
from stale_edge_runtime.formats.sole_writer import sole_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stale_edge.study.design import Cell

SCHEMA: Final = 1
LARGEST: Final = 1e15
"""No number of a study is as large: where one is, the file is damaged, and no figure could show it."""
HEADER, CELLS, CSV, JSON = "study.json", "cells", "measurements.csv", "measurements.json"
_CURE: Final = "give the folder of a finished `stale-edge study`, or its measurements.json"
_ROUNDING: Final = 1e-9
"""Rounding error that is allowed in the mean of ones."""


@dataclass(frozen=True)
class Session:
    """One call of the program that measured cells of a study."""

    commit: str | None
    """Commit of the program, where known; a plus after it says that files had been changed."""
    started: str
    """Date and time, ISO 8601."""
    machine: Mapping[str, Any]
    """Machine, as `bench` describes it."""

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {"commit": self.commit, "started": self.started, "machine": dict(self.machine)}


@dataclass(frozen=True)
class StudyRun:
    """A study as it was run on one machine; what can differ between its sessions is of the first."""

    study: StudyName
    """Name of the study."""
    machine: Mapping[str, Any]
    """Machine, as `bench` describes it."""
    options: Mapping[str, Any]
    """Settings that determine the measurements."""
    commit: str | None
    """Commit of the program, where known; a plus after it says that files had been changed."""
    started: str
    """Date and time, ISO 8601."""
    cells: int
    """Cells of the whole study."""
    finished: int = 0
    """Cells that have been measured."""
    measurements: tuple[Measurement, ...] = ()
    """All of them, in the order of the cells."""
    notes: tuple[str, ...] = field(default=())
    """Remarks for readers of the results."""
    sessions: tuple[Session, ...] = ()
    """All that measured something, where there were several; files of earlier versions do not tell."""

    @property
    def history(self) -> tuple[Session, ...]:
        """Every session that is known, at least one."""
        return self.sessions or (Session(self.commit, self.started, self.machine),)

    @property
    def complete(self) -> bool:
        """Whether every cell was measured."""
        return self.finished == self.cells

    def header(self) -> dict[str, Any]:
        """Return all but the measurements, as JSON values."""
        return {
            "schema": SCHEMA,
            "study": str(self.study),
            "machine": dict(self.machine),
            "options": dict(self.options),
            "commit": self.commit,
            "started": self.started,
            "cells": self.cells,
            "finished": self.finished,
            "notes": list(self.notes),
            **({"sessions": [session.to_json() for session in self.sessions]} if self.sessions else {}),
        }

    def to_json(self) -> dict[str, Any]:
        """Give the whole run as JSON values."""
        columns = COLUMNS[self.study]
        rows = [_row(measurement, columns.factors) for measurement in self.measurements]
        return {**self.header(), "units": dict(columns.metrics), "measurements": rows}


class Store:
    """The folder of a study that is being run.

    Args:
        folder: Exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, run: StudyRun) -> StudyRun:
        """Begin a study in the folder, or go on with the one that is there.

        Args:
            run: Run to begin.

        Returns:
            The run to go on with.

        Raises:
            UsageError: The folder holds another study, or one with other options or of another machine.
            BadDataError: What it holds is damaged.
        """
        path = self.folder / HEADER
        if path.exists():
            found = _parse_header(path, read_json(path))
            self._check_same(found, run)
            return found
        with _writing(self.folder):
            (self.folder / CELLS).mkdir(exist_ok=True)
        write_json(path, run.header())
        return run

    def has(self, cell: Cell) -> bool:
        """Whether a cell was measured before."""
        return self._path(cell).exists()

    def put(self, cell: Cell, measurements: Sequence[Measurement], study: StudyName) -> None:
        """Keep a finished cell.

        Args:
            cell: Cell that was measured.
            measurements: All of it.
            study: Study of the cell, whose columns the measurements must have.

        Raises:
            CannotWriteError: The folder cannot be written.
            StorageError: The disk is full or failed.
        """
        columns = COLUMNS[study]
        for measurement in measurements:
            known = set(measurement.factors) == set(columns.factors) and measurement.metric in columns.metrics
            if not known or not _is_possible(measurement.metric, measurement.value):
                raise ValueError(f"{measurement} does not fit the columns of {study}")
        rows = [_row(measurement, columns.factors) for measurement in measurements]
        write_json(self._path(cell), {"schema": SCHEMA, "study": str(study), "key": cell.key, "measurements": rows})

    def get(self, cell: Cell, study: StudyName) -> tuple[Measurement, ...]:
        """Read the measurements of a finished cell.

        Raises:
            BadDataError: Its file is damaged.
        """
        path = self._path(cell)
        content = read_json(path)
        if not isinstance(content, dict) or content.get("key") != cell.key or content.get("study") != str(study):
            raise BadDataError(path, "is not this cell of this study", "remove the file; the cell is measured again")
        return _parse_rows(path, content.get("measurements"), study)

    def finish(self, run: StudyRun) -> None:
        """Write the header and the tidy tables of all that was measured so far."""
        with together():
            write_json(self.folder / HEADER, run.header())
            write_json(self.folder / JSON, run.to_json(), indent=None)
            write_text(self.folder / CSV, to_csv([run]))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder until the block ends.

        Raises:
            UnavailableError: Another one is in it.
        """
        busy = UnavailableError(self.folder, "is in use by another study", "choose another -o")
        with sole_writer(self.folder, busy):
            yield

    def _path(self, cell: Cell) -> Path:
        return self.folder / CELLS / f"{cell.key}.json"

    def _check_same(self, found: StudyRun, run: StudyRun) -> None:
        cure = "choose another folder with -o"
        if found.study != run.study:
            raise UsageError(self.folder, f"holds the study {found.study}", cure)
        differing = sorted(
            key for key in found.options.keys() | run.options.keys() if found.options.get(key) != run.options.get(key)
        )
        if differing or found.cells != run.cells:
            words = ", ".join(differing) or "its cells"
            raise UsageError(self.folder, f"holds a study with other options ({words})", cure)
        if any(found.machine.get(part) != run.machine.get(part) for part in ("cpu", "gpu")):
            raise UsageError(self.folder, "holds a study of another machine, and timings do not mix", cure)


def read_run(path: Path) -> StudyRun:
    """Read what a study measured.

    Args:
        path: Folder of the study, or its `measurements.json`.

    Raises:
        InputMissingError: There is none.
        BadDataError: It is damaged or something else.
    """
    source = path / JSON if path.is_dir() else path
    if not source.exists():
        raise InputMissingError(source, "does not exist", _CURE)
    content = read_json(source)
    run = _parse_header(source, content)
    rows = _parse_rows(source, content.get("measurements"), run.study)
    return StudyRun(**{**_fields(run), "measurements": rows})


def to_csv(runs: Sequence[StudyRun], labels: Sequence[str] = ()) -> str:
    """Write every measurement of runs of one study as a line: its factors, its metric with unit, its machine and time.

    Args:
        runs: Runs of one study.
        labels: Names of the runs where they stand side by side.
    """
    columns = COLUMNS[runs[0].study]
    text = io.StringIO()
    names = ["study", *(["machine"] if labels else []), "started", "cpu", *columns.factors]
    names += ["repeat", "run", "metric", "unit", "value"]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for number, run in enumerate(runs):
        which = {"study": run.study, "started": run.started, "cpu": run.machine.get("cpu")}
        which |= {"machine": labels[number]} if labels else {}
        for measurement in run.measurements:
            unit = columns.metrics[measurement.metric]
            row = {**which, "unit": unit, **_row(measurement, columns.factors)}
            writer.writerow(dict(zip(row, inert_cells(row.values()), strict=True)))
    return text.getvalue()


def _row(measurement: Measurement, factors: Sequence[str]) -> dict[str, Any]:
    return {
        **{name: measurement.factors[name] for name in factors},
        "repeat": measurement.repeat,
        "run": measurement.run,
        "metric": measurement.metric,
        "value": measurement.value,
    }


def _parse_header(path: Path, content: Any) -> StudyRun:
    """Read a run without its measurements."""
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise BadDataError(path, f"is not a study of schema {SCHEMA}", _CURE)
    if wrong := [name for name, is_right in _PARTS.items() if not is_right(content.get(name))]:
        raise BadDataError(path, f"has no right {wrong[0]!r}", _CURE)
    study, commit = content.get("study"), content.get("commit")
    if not isinstance(study, str) or study not in set(StudyName):
        raise BadDataError(path, f"is of an unknown study {str(study)[:40]!r}", _CURE)
    return StudyRun(
        study=StudyName(study),
        machine=content["machine"],
        options=content["options"],
        commit=commit if isinstance(commit, str) else None,
        started=content["started"],
        cells=content["cells"],
        finished=content["finished"],
        notes=tuple(map(str, content["notes"])),
        sessions=tuple(
            Session(session.get("commit"), session["started"], session["machine"])
            for session in content.get("sessions") or ()
        ),
    )


def _parse_rows(path: Path, rows: Any, study: StudyName) -> tuple[Measurement, ...]:
    columns = COLUMNS[study]
    if not isinstance(rows, list):
        raise BadDataError(path, "has no measurements", _CURE)
    return tuple(_parse_row(path, number, row, columns.factors, columns.metrics) for number, row in enumerate(rows, 1))


def _parse_row(path: Path, number: int, row: Any, factors: Sequence[str], metrics: Mapping[str, str]) -> Measurement:
    wrong = BadDataError(path, f"measurement {number} is not one of this study", _CURE)
    if not isinstance(row, dict):
        raise wrong
    metric, value, repeat, run = (row.get(name) for name in ("metric", "value", "repeat", "run"))
    if not isinstance(metric, str) or metric not in metrics:
        raise wrong
    if not _is_number(value) or not _is_whole(repeat) or not _is_whole(run):
        raise wrong
    if not all(isinstance(row.get(name), str) or _is_number(row.get(name)) for name in factors):
        raise wrong
    if not _is_possible(metric, value):
        raise BadDataError(path, f"measurement {number} has {metric} {value:g}, which is not from 0 to 1", _CURE)
    return Measurement({name: row[name] for name in factors}, metric, float(value), repeat, run)


def _is_possible(metric: str, value: float) -> bool:
    """Whether a metric can have a value."""
    return 0 <= value <= 1 + _ROUNDING if metric in ACCURACY else abs(value) < LARGEST


def _is_number(value: Any) -> TypeGuard[float]:
    """Return whether the value is a finite number that can be shown."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _is_whole(value: Any) -> TypeGuard[int]:
    return _is_number(value) and isinstance(value, int)


def _is_session(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("commit"), str | None)
        and isinstance(value.get("started"), str)
        and isinstance(value.get("machine"), dict)
    )


_PARTS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "machine": lambda value: isinstance(value, dict),
    "options": lambda value: isinstance(value, dict),
    "started": lambda value: isinstance(value, str),
    "cells": lambda value: _is_whole(value) and value >= 0,
    "finished": lambda value: _is_whole(value) and value >= 0,
    "notes": lambda value: isinstance(value, list),
    "sessions": lambda value: value is None or (isinstance(value, list) and all(map(_is_session, value))),
}
"""Required keys of a header, with checks of their values."""


def _fields(run: StudyRun) -> dict[str, Any]:
    return {name: getattr(run, name) for name in StudyRun.__dataclass_fields__}


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise writing_error(folder, error) from error
