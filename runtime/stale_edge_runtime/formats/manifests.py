"""Manifests: tables of the videos of a corpus, with ids, paths or URLs, and durations.

CSV with a header, JSON lines, or Parquet. Columns: `path` (or `url`), and where known `id` and `duration_s`; others are
not looked at. Relative paths begin at the folder of the manifest.
"""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.formats.csv_cells import as_it_was
from stale_edge_runtime.formats.files import read_bytes
from stale_edge_runtime.formats.result_tables import require_parquet
from stale_edge_runtime.formats.video_ids import ID_RULE, is_video_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

MANIFEST_SUFFIXES: Final = (".csv", ".jsonl", ".parquet")
MAX_BYTES: Final = 1 << 30
COLUMNS: Final = ("id", "path", "url", "duration_s")
_CURE: Final = "give columns path or url, and where known id and duration_s"


@dataclass(frozen=True)
class ManifestEntry:
    """One video of a manifest."""

    location: str
    """Path, or URL as `fsspec` reads it."""
    id: str | None = None
    """Id of the video; its file's name without."""
    duration_s: float | None = None
    """Length in seconds, where known."""


def read_manifest(path: Path) -> list[ManifestEntry]:
    """Read a manifest, in its order.

    Args:
        path: File that ends in one of `MANIFEST_SUFFIXES`.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: It is not what it must be; the message names the row.
        UnavailableError: It is Parquet and pyarrow is not installed.
    """
    content = read_bytes(path, limit=MAX_BYTES)
    try:
        rows = list(_READERS[path.suffix.lower()](content))
    except (csv.Error, ValueError, RecursionError) as error:
        raise BadDataError(path, f"cannot be read as a manifest ({error})", _CURE) from error
    if not rows:
        raise BadDataError(path, "lists no video", _CURE)
    return [_entry(path, number, row) for number, row in enumerate(rows, 1)]


def _entry(path: Path, number: int, row: Mapping[str, Any] | Any) -> ManifestEntry:
    if not isinstance(row, dict):
        raise BadDataError(path, f"row {number} is no object", _CURE)
    location, video_id, duration = row.get("url") or row.get("path"), row.get("id"), row.get("duration_s")
    if not isinstance(location, str) or "\0" in location:
        raise BadDataError(path, f"row {number} names no file", _CURE)
    video_id = None if video_id in {None, ""} else str(video_id)
    if video_id is not None and not is_video_id(video_id):
        raise BadDataError(path, f"row {number}: {video_id[:40]!r} is no id of a video", ID_RULE)
    return ManifestEntry(location, video_id, _seconds(path, number, duration))


def _seconds(path: Path, number: int, value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise BadDataError(path, f"row {number}: duration_s is {str(value)[:40]!r}", "give positive seconds")
    return seconds


def _csv_rows(content: bytes) -> Iterable[Any]:
    lines = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    for line in lines:
        yield {name: as_it_was(line[name] or "") for name in COLUMNS if name in line}


def _json_rows(content: bytes) -> Iterable[Any]:
    return (json.loads(line) for line in content.decode().splitlines() if line.strip())


def _parquet_rows(content: bytes) -> Iterable[Any]:
    pyarrow, parquet = require_parquet()
    file = parquet.ParquetFile(pyarrow.BufferReader(content))
    rows: list[Any] = file.read([name for name in COLUMNS if name in file.schema_arrow.names]).to_pylist()
    return rows


_READERS: Final = {".csv": _csv_rows, ".jsonl": _json_rows, ".parquet": _parquet_rows}
