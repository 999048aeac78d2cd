"""Tables of a corpus: a row for each video that was worked on, another table for the failures; JSON lines or Parquet.

Rows of results: `id`, `length` (in the unit of the run) and `detections` (`label`, `score`, `start`, `end`). Rows of
failures: `id`, `source` (path or URL), `error` (its kind), `problem` and `cure`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from stale_edge_runtime.errors import BadDataError, missing_extra
from stale_edge_runtime.formats.files import atomic_path, read_bytes, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.errors import StaleEdgeError

RUN: Final = "run.json"
"""Description of a run, in a folder of tables."""
FINISHED: Final = "finished.jsonl"
"""Rows of a run that has not ended, in a folder of tables."""
JSONL: Final = ".jsonl"
PARQUET: Final = ".parquet"
MAX_TABLE_BYTES: Final = 1 << 30
_CURE: Final = "write it again"

Row = dict[str, Any]
"""Row of a table, as JSON values."""


def result_row(video_id: str, length: float, found: Sequence[Detection]) -> Row:
    """Make the row of a video."""
    detections = [
        {"label": one.label, "score": float(one.score), "start": float(one.start_s), "end": float(one.end_s)}
        for one in found
    ]
    return {"id": video_id, "length": float(length), "detections": detections}


def failure_row(video_id: str, source: str, error: StaleEdgeError) -> Row:
    """Make the row of a video that could not be used."""
    kind = type(error).__name__
    return {"id": video_id, "source": source, "error": kind, "problem": error.problem, "cure": error.cure}


def write_table(path: Path, rows: Sequence[Row], *, parquet: bool | None = None) -> None:
    """Write a table, whole or not at all.

    Args:
        path: The file.
        rows: Rows of `result_row`, or rows of `failure_row`.
        parquet: Write Parquet instead of JSON lines; by default where the file's name ends so.

    Raises:
        CannotWriteError: The file cannot be created.
        StorageError: The disk is full or failed.
        UnavailableError: It is Parquet and pyarrow is not installed.
    """
    if path.suffix.lower() == PARQUET if parquet is None else parquet:
        pyarrow, writer = require_parquet()
        table = pyarrow.Table.from_pylist(list(rows), schema=_schema(pyarrow, rows))
        with atomic_path(path) as temporary:
            writer.write_table(table, temporary)
    else:
        write_text(path, "".join(json_line(row) for row in rows))


def json_line(row: Mapping[str, Any]) -> str:
    """Write a row as a line of JSON."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def read_table(path: Path) -> list[Row]:
    """Read a table that `write_table` wrote.

    Args:
        path: File that ends in `.jsonl` or `.parquet`.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: It is not what it must be.
        UnavailableError: It is Parquet and pyarrow is not installed.
    """
    content = read_bytes(path, limit=MAX_TABLE_BYTES)
    rows: list[Any]
    try:
        if path.suffix.lower() == PARQUET:
            pyarrow, parquet = require_parquet()
            rows = parquet.read_table(pyarrow.BufferReader(content)).to_pylist()
        else:
            rows = [json.loads(line) for line in content.decode().split("\n") if line]
    except (ValueError, RecursionError) as error:
        raise BadDataError(path, f"cannot be read as a table ({error})", _CURE) from error
    if not all(isinstance(row, dict) and isinstance(row.get("id"), str) for row in rows):
        raise BadDataError(path, "has a row without an id", _CURE)
    return rows


def require_parquet() -> tuple[Any, Any]:
    """Import pyarrow and its module for Parquet.

    Raises:
        UnavailableError: It is not installed; the message names the extra that brings it.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "corpus", "a Parquet file") from error
    return pa, parquet


def _schema(pyarrow: Any, rows: Sequence[Row]) -> Any:
    """Give the columns of results, or those of failures."""
    text, number = pyarrow.string(), pyarrow.float64()
    if rows and "detections" not in rows[0]:
        return pyarrow.schema([(name, text) for name in ("id", "source", "error", "problem", "cure")])
    detection = pyarrow.struct([("label", text), ("score", number), ("start", number), ("end", number)])
    return pyarrow.schema([("id", text), ("length", number), ("detections", pyarrow.list_(detection))])
