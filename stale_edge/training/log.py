"""Log of a training: two CSV files and TensorBoard events, in the folder of the run.

After a kill the files may hold steps that the last checkpoint has not; they are cut back to it, so that the files of a
resumed training are those of an unbroken one.
"""

from __future__ import annotations

import contextlib
import csv
import io
import time
from typing import TYPE_CHECKING, Any, Final, Self

from stale_edge_runtime.errors import StaleEdgeError, reading, writing
from stale_edge_runtime.formats.files import make_folder, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

TRAINING_CSV: Final = "training.csv"
VALIDATION_CSV: Final = "validation.csv"
TENSORBOARD: Final = "tensorboard"
STEP_COLUMNS: Final = ("step", "epoch", "learning_rate", "gradient_norm")
"""Columns of every training; the terms of the loss follow."""
VALIDATION_COLUMNS: Final = ("step", "epoch", "average_map", "map_50", "map_75", "map_95")


class TrainingLog:
    """Writes the log of one run.

    Args:
        folder: Folder of the run.
        loss_terms: Names of the terms of the loss, the total first.
        steps: Steps that are done; later ones are removed from the files.

    Raises:
        CannotWriteError: The files cannot be written.
        StorageError: The disk is full or failed.
    """

    def __init__(self, folder: Path, loss_terms: Sequence[str], steps: int = 0) -> None:
        self._training = _Table(folder / TRAINING_CSV, (*STEP_COLUMNS, *loss_terms), steps)
        self._validation = _Table(folder / VALIDATION_CSV, VALIDATION_COLUMNS, steps)
        self._events = _Events(folder / TENSORBOARD, steps)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as closing:
            if kind is not None:  # which tells more than what closing a log says
                closing.enter_context(contextlib.suppress(StaleEdgeError))
            for part in (self._training, self._validation, self._events):
                closing.callback(part.close)

    def step(self, values: Mapping[str, float]) -> None:
        """Log one training step."""
        self._training.add(values)
        self._events.add("training", values)

    def validation(self, values: Mapping[str, float]) -> None:
        """Log one validation."""
        self._validation.add(values)
        self._events.add("validation", values)
        self._events.flush()


class _Events:
    """TensorBoard events, written where they arise: a thread that writes them would die of a full disk unheard."""

    def __init__(self, folder: Path, steps: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._folder = folder
        make_folder(folder)
        with writing(self._folder):
            self._writer = EventsWriter(str(folder / "events"))
            if steps:  # hides what a killed run wrote after them
                self._writer.write_event(Event(step=steps + 1, file_version="brain.Event:2"))
                self._writer.write_event(Event(step=steps + 1, session_log=SessionLog(status=SessionLog.START)))

    def add(self, group: str, values: Mapping[str, float]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        with writing(self._folder):
            for name, value in values.items():
                if name not in {"step", "epoch"}:
                    summary = scalar(f"{group}/{name}", value)
                    self._writer.write_event(Event(step=int(values["step"]), wall_time=time.time(), summary=summary))

    def flush(self) -> None:
        with writing(self._folder):
            self._writer.flush()

    def close(self) -> None:
        with writing(self._folder):
            self._writer.close()


class _Table:
    """A CSV file that grows a row at a time; whole lines, at most the last one torn by a kill."""

    def __init__(self, path: Path, columns: tuple[str, ...], steps: int) -> None:
        self._path = path
        self._columns = columns
        write_text(path, _text([columns, *(_rows_until(path, columns, steps) if steps else ())]))
        with writing(path):
            self._stream = path.open("a", encoding="utf-8", newline="")

    def add(self, values: Mapping[str, float]) -> None:
        with writing(self._path):
            self._stream.write(_text([[_number(values[column]) for column in self._columns]]))
            self._stream.flush()

    def close(self) -> None:
        with writing(self._path):
            self._stream.close()


def _rows_until(path: Path, columns: tuple[str, ...], steps: int) -> list[list[str]]:
    """Whole rows of the file up to a step; none where it is not there."""
    if not path.exists():
        return []
    with reading(path):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    rows = csv.reader(line for line in lines[1:] if line.endswith("\n"))
    return [row for row in rows if len(row) == len(columns) and row[0].isdecimal() and int(row[0]) <= steps]


def _text(rows: Any) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9g}"
