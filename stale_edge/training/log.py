"""Log of a training: two CSV files and TensorBoard events, in the folder of the run.

After a kill the files may hold steps that the last checkpoint has not; they are cut back to it, so that the files of a
resumed training are those of an unbroken one.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Final, Self

from stale_edge_runtime.errors import reading_error, writing_error
from stale_edge_runtime.formats.files import write_text

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
        from tensorboardX import SummaryWriter

        self._training = _Table(folder / TRAINING_CSV, (*STEP_COLUMNS, *loss_terms), steps)
        self._validation = _Table(folder / VALIDATION_CSV, VALIDATION_COLUMNS, steps)
        try:
            self._events = SummaryWriter(str(folder / TENSORBOARD), purge_step=steps + 1 if steps else None)
        except OSError as error:
            raise writing_error(folder / TENSORBOARD, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._training.close()
        self._validation.close()
        self._events.close()

    def step(self, values: Mapping[str, float]) -> None:
        """Log one training step.

        Args:
            values: One for each of `STEP_COLUMNS` and each term of the loss.
        """
        self._training.add(values)
        self._send("training", values)

    def validation(self, values: Mapping[str, float]) -> None:
        """Log one validation.

        Args:
            values: One for each of `VALIDATION_COLUMNS`.
        """
        self._validation.add(values)
        self._send("validation", values)

    def _send(self, group: str, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if name not in {"step", "epoch"}:
                self._events.add_scalar(f"{group}/{name}", value, int(values["step"]))


class _Table:
    """A CSV file that grows a row at a time; whole lines, at most the last one torn by a kill."""

    def __init__(self, path: Path, columns: tuple[str, ...], steps: int) -> None:
        self._path = path
        self._columns = columns
        write_text(path, _text([columns, *(_rows_until(path, columns, steps) if steps else ())]))
        try:
            self._stream = path.open("a", encoding="utf-8", newline="")
        except OSError as error:
            raise writing_error(path, error) from error

    def add(self, values: Mapping[str, float]) -> None:
        try:
            self._stream.write(_text([[_number(values[column]) for column in self._columns]]))
            self._stream.flush()
        except OSError as error:
            raise writing_error(self._path, error) from error

    def close(self) -> None:
        self._stream.close()


def _rows_until(path: Path, columns: tuple[str, ...], steps: int) -> list[list[str]]:
    """Whole rows of the file up to a step; none where it is not there."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise reading_error(path, error) from error
    rows = csv.reader(line for line in lines[1:] if line.endswith("\n"))
    return [row for row in rows if len(row) == len(columns) and row[0].isdecimal() and int(row[0]) <= steps]


def _text(rows: Any) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9g}"
