"""Result files: the official ActivityNet schema, and CSV.

`{"version", "results": {id: [{"label", "score", "segment": [start, end]}]}, "external_data": {}}`, seconds
throughout (docs/protocol.md §5). The source of the detections is recorded in `external_data`.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.formats import files
from stale_edge_runtime.formats.class_list import MAX_NAME_LENGTH, is_class_name
from stale_edge_runtime.formats.csv_cells import as_it_was, inert
from stale_edge_runtime.formats.file_kinds import read_head
from stale_edge_runtime.formats.left_out import EntryCheck, LeftOut, UnusableEntryError, written_number
from stale_edge_runtime.formats.result_tables import FINISHED, JSONL, PARQUET, RUN, read_table
from stale_edge_runtime.formats.video_ids import check_video_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

VERSION: Final = "VERSION 1.3"
MAX_RESULT_BYTES: Final = 1 << 29

SCORE_ENHANCEMENT: Final = "score_enhancement"
"""Key of `external_data`: which external classifier changed labels, `{"source", "top1_accuracy"}`."""
MODEL: Final = "model"
"""Key of `external_data`: which model made the detections."""

CSV_COLUMNS: Final = ("video", "start_s", "end_s", "score", "label")


@dataclass(frozen=True)
class Results:
    """Contents of a result file."""

    detections: Mapping[str, tuple[Detection, ...]]
    """Detections of each video, in the order of the file."""
    external: Mapping[str, Any] = field(default_factory=dict)
    """The file's `external_data`, unchecked beyond being an object."""
    left_out: Mapping[str, LeftOut] = field(default_factory=dict)
    """Detections that no evaluator can use, by kind."""

    @property
    def score_enhancement(self) -> Mapping[str, Any] | None:
        """Record of score enhancement; empty when none was used."""
        record = self.external.get(SCORE_ENHANCEMENT)
        if not record:
            return None
        return record if isinstance(record, dict) else {"source": str(record)}


def write_results(
    path: Path,
    results: Mapping[str, Sequence[Detection]],
    *,
    external: Mapping[str, Any] | None = None,
) -> None:
    """Write detections in the official schema, one video a line; whole or not at all.

    Args:
        path: File to write.
        results: Detections of each video; a video without any is written with an empty list.
        external: Value of `external_data`: JSON values, under `SCORE_ENHANCEMENT`, `MODEL` or own keys.

    Raises:
        BadDataError: A video id, label, score or segment that no reader would take back.
        CannotWriteError: The file cannot be created.
        StorageError: The disk is full or failed.
    """
    head = f'{{"version": {json.dumps(VERSION)},\n"external_data": {_json(path, dict(external or {}))},\n'
    with files.atomic_write(path) as stream:
        stream.write(f'{head}"results": {{'.encode())
        for index, (video, detections) in enumerate(results.items()):
            check_video_id(path, video)
            rows = [_as_json(path, video, detection) for detection in detections]
            separator = ",\n" if index else "\n"
            stream.write(f"{separator}{json.dumps(video)}: {_json(path, rows)}".encode())
        stream.write(b"\n}}\n")


def write_results_csv(path: Path, results: Mapping[str, Sequence[Detection]]) -> None:
    """Write detections as CSV with the columns `CSV_COLUMNS`; whole or not at all.

    Args:
        path: File to write.
        results: Detections of each video; a video without any leaves no line.

    Raises:
        BadDataError: A video id, label, score or segment that no reader would take back.
        CannotWriteError: The file cannot be created.
        StorageError: The disk is full or failed.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for video, detections in results.items():
        check_video_id(path, video)
        for detection in detections:
            row = _as_json(path, video, detection)
            writer.writerow((inert(video), *row["segment"], row["score"], inert(row["label"])))
    files.write_text(path, text.getvalue())


def _is_own_csv(path: Path) -> bool:
    return read_head(path).removeprefix(codecs.BOM_UTF8).startswith(",".join(CSV_COLUMNS).encode())


def _read_csv(path: Path, check: EntryCheck) -> Results:
    detections: dict[str, list[Detection]] = {}
    try:
        text = files.read_bytes(path, limit=MAX_RESULT_BYTES).decode("utf-8-sig")
        lines = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = [(as_it_was(line["video"] or ""), line) for line in lines]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadDataError(path, f"is a damaged CSV file ({error})", "write it again") from error
    for index, (video, line) in enumerate(rows):
        check_video_id(path, video)
        row = {
            "label": as_it_was(line["label"] or ""),
            "score": line["score"],
            "segment": [line["start_s"], line["end_s"]],
        }
        found = detections.setdefault(video, [])
        found += _detections(path, video, [row], check, index)
    return Results({video: tuple(found) for video, found in detections.items()}, {}, check.finish())


def _read_tables(path: Path, check: EntryCheck) -> Results:
    tables, external = [path], {}
    if path.is_dir():
        tables = sorted(one for one in path.glob("part-*") if one.suffix in {JSONL, PARQUET})
        if not tables:
            raise BadDataError(path, "holds no part of results", "name a result file, or a folder of --part-videos")
        known = files.read_json(path / RUN)
        external = known if isinstance(known, dict) else {}
        if (path / FINISHED).exists():
            raise BadDataError(path, "holds results of a run that has not ended", "run the same command again")
    detections: dict[str, tuple[Detection, ...]] = {}
    for table in tables:
        for row in read_table(table):
            check_video_id(table, row["id"])
            found = row.get("detections")
            if not isinstance(found, list):
                raise BadDataError(table, f"video {row['id']}: detections are not a list")
            with_segments = [{**one, "segment": [one.get("start"), one.get("end")]} for one in found]
            detections[row["id"]] = tuple(_detections(table, row["id"], with_segments, check))
    return Results(detections, external, check.finish())


def read_results(path: Path, *, strict: bool = False) -> Results:
    """Read a result file in the official schema, CSV of `write_results_csv`, a table, or a folder of tables.

    The official schema is also read without its outer `results`.
    Segments of length zero are taken (ground truth has some, and a copy of it is a result file); segments
    that end before they start, and numbers that are not finite, are left out and counted. Numbers may be written as
    strings.

    Args:
        path: The JSON or CSV file; its content tells which. Tables end in `.jsonl` or `.parquet`, and a folder of them
            holds `run.json`.
        strict: Refuse the file at the first detection that no evaluator can use, instead of leaving it out.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: It is not in the schema; the message names the video and the detection.
    """
    check = EntryCheck(strict=strict)
    if path.is_dir() or path.suffix.lower() in {JSONL, PARQUET}:
        return _read_tables(path, check)
    if _is_own_csv(path):
        return _read_csv(path, check)
    content = files.read_json(path, limit=MAX_RESULT_BYTES, finite=False)
    if _is_bare(content):
        content = {"results": content}
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        raise BadDataError(path, "has no object 'results'", 'expected {"results": {id: [detections]}}')
    external = content.get("external_data") or {}
    if not isinstance(external, dict):
        raise BadDataError(path, "'external_data' is not an object", "correct it or leave it out")
    _json(path, external)
    detections: dict[str, tuple[Detection, ...]] = {}
    for video, rows in content["results"].items():
        check_video_id(path, video)
        if not isinstance(rows, list):
            raise BadDataError(path, f"video {video}: detections are not a list")
        detections[video] = tuple(_detections(path, video, rows, check))
    return Results(detections, external, check.finish())


def _is_bare(content: Any) -> bool:
    """Tell whether a document is the detections of each video without anything around them."""
    if not isinstance(content, dict) or not content or "results" in content:
        return False
    return all(isinstance(rows, list) and all(map(_has_segment, rows)) for rows in content.values())


def _has_segment(row: Any) -> bool:
    return isinstance(row, dict) and "segment" in row


def _detections(path: Path, video: str, rows: list[Any], check: EntryCheck, first: int = 0) -> Iterator[Detection]:
    for index, row in enumerate(rows, first):
        try:
            label, score, (start, end) = row["label"], row["score"], row["segment"]
        except (KeyError, TypeError, ValueError):
            raise BadDataError(
                path,
                f"video {video}, detection {index} is not in the schema",
                'expected {"label": text, "score": number, "segment": [start, end]}',
            ) from None
        label = label.strip() if isinstance(label, str) else label
        values = [written_number(value) for value in (score, start, end)]
        if fault := _fault(label, *values):
            kind, problem = fault
            error = UnusableEntryError(f"detections {kind}", path, f"video {video}, detection {index} {problem}")
            check.leave_out(error)
            continue
        check.use()
        yield Detection(values[1], values[2], label, values[0])


def _fault(label: Any, score: float, start: float, end: float) -> tuple[str, str] | None:
    """Kind of a detection's fault and the message about it; None for a good one."""
    if type(label) is not str or not is_class_name(label):
        problem = f"needs a label of 1 to {MAX_NAME_LENGTH} printable characters, not {label!r:.60}"
        return "without a proper label", problem
    for name, value in (("score", score), ("start", start), ("end", end)):
        if not math.isfinite(value):
            return f"whose {name} is not a finite number", f"has a {name} that is not a finite number"
    if start > end:
        return "that end before they start", f"ends at {end} before it starts at {start}"
    return None


def _as_json(path: Path, video: str, detection: Detection) -> dict[str, Any]:
    """Write one detection in the schema, its numbers plain floats (numpy's would not be JSON)."""
    start, end, score = float(detection.start_s), float(detection.end_s), float(detection.score)
    if fault := _fault(detection.label, score, start, end):
        raise BadDataError(path, f"not written: a detection of video {video} {fault[1]}")
    return {"label": detection.label, "score": score, "segment": [start, end]}


def _json(path: Path, value: Any) -> str:
    """JSON text that UTF-8 can carry."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise BadDataError(path, f"cannot hold such values ({error})") from error
    return text
