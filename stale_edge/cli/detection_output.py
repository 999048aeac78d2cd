"""Results of `detect`: where they go, and what they look like there."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stale_edge.cli.console import number_columns
from stale_edge.cli.options import STDOUT
from stale_edge_runtime.errors import UsageError, printable_json

if TYPE_CHECKING:
    from stale_edge.cli.console import Reporter
    from stale_edge_runtime.corpus import DetectionRun, Outcome, VideoFile

TABLE_ROWS = 10
PICTURE_FRAMES = 16
"""Small frames of a video in a picture."""


class Format(StrEnum):
    """Kinds of result files."""

    JSON = "json"
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


@dataclass(frozen=True)
class ResultPlaces:
    """Places for the results."""

    output: Path | None
    """Result file; `-` for stdout, None for a table."""
    kind: Format
    """Format of the result file."""
    picture: Path | None
    """Timelines."""
    page: Path | None
    """Page to watch the detections on."""
    as_json: bool
    """Print the results as JSON too."""
    part_videos: int | None = None
    """Videos of each file where the results are a folder of them; None for one file."""


def checked_places(
    places: ResultPlaces, file_format: Format | None, part_videos: int | None, inputs: list[Path]
) -> ResultPlaces:
    """Choose the format of the results, and find out that a place cannot be written before the work, not after it.

    Raises:
        UsageError: The places or the format do not go together.
        CannotWriteError: A place cannot be written.
    """
    if part_videos is not None:
        _check_folder(places.output, file_format, {"--picture": places.picture, "--page": places.page})
        return replace(places, kind=file_format or Format.JSONL, part_videos=part_videos)
    _check_outputs(places.output, places.picture, places.page, inputs)
    places = replace(places, kind=_format(places.output, file_format))
    if places.kind is Format.PARQUET:
        from stale_edge_runtime.formats.result_tables import require_parquet

        require_parquet()
        if places.output in {None, STDOUT}:
            raise UsageError("--format parquet", "is for files", "name one with -o")
    if not places.as_json or places.output not in {None, STDOUT}:
        return places
    if places.kind is not Format.JSON:
        raise UsageError("--json", f"does not go with --format {places.kind} on stdout", "leave one of the two out")
    return replace(places, output=STDOUT)


def _check_folder(output: Path | None, kind: Format | None, others: dict[str, Path | None]) -> None:
    """Refuse what does not go with a folder of results."""
    if output in {None, STDOUT} or (output is not None and output.is_file()):
        raise UsageError("--part-videos", "needs a folder for the results", "name one with -o")
    if kind in {Format.JSON, Format.CSV}:
        raise UsageError("--part-videos", f"does not go with --format {kind}", "choose jsonl or parquet")
    if given := [name for name, value in others.items() if value]:
        raise UsageError("--part-videos", f"does not go with {given[0]}", "make it with `view` from the results")


def _format(output: Path | None, wanted: Format | None) -> Format:
    """Choose the format that was asked for, or that the result file's ending names; JSON otherwise.

    Raises:
        UsageError: The ending is another one.
    """
    if wanted or output is None or not output.suffix:
        return wanted or Format.JSON
    try:
        return Format(output.suffix.lower().removeprefix("."))
    except ValueError:
        cure = "name it .json, .csv, .jsonl or .parquet, or give --format"
        raise UsageError("--output", f"{output.name!r} tells no format", cure) from None


def _check_outputs(output: Path | None, picture: Path | None, page: Path | None, inputs: list[Path]) -> None:
    """Find out that an output cannot be written before the work, not after it."""
    from stale_edge_runtime.formats.files import check_target

    if picture is not None:
        from stale_edge.cli.timeline_plot import check_picture

        check_picture(picture)
    for target in (output, picture, page):
        if target is not None and target != STDOUT:
            check_target(target, inputs)


def write_out(
    targets: ResultPlaces,
    run: DetectionRun,
    outcome: Outcome,
    record: dict[str, Any],
    videos: list[VideoFile],
    reporter: Reporter,
) -> None:
    """Write and show the results."""
    from stale_edge.cli.extraction_run import write_failures
    from stale_edge_runtime.formats.files import together

    output, kind = targets.output, targets.kind
    watched = {video.video_id: video.path for video in videos if video.is_video and video.url is None}
    with together():
        if output is not None and output != STDOUT:
            _write_file(output, kind, outcome, record)
            if kind in {Format.JSONL, Format.PARQUET}:
                write_failures(output.with_suffix(f".failures.{kind}"), outcome.failures)
        if targets.picture is not None:
            for path in _draw(targets.picture, run, outcome, watched):
                reporter.note(f"wrote {path}")
        if targets.page is not None:
            _write_page(targets.page, run, outcome, watched, reporter)
    _show(output, kind, outcome, record, reporter)
    if targets.as_json and output != STDOUT:
        _show(STDOUT, Format.JSON, outcome, record, reporter)


def _show(output: Path | None, kind: Format, outcome: Outcome, record: dict[str, Any], reporter: Reporter) -> None:
    if output is None:
        reporter.result(_table(outcome, record["time_unit"]))
        reporter.note(f"{_counted(outcome)}, the best {TABLE_ROWS} of each shown; -o FILE writes all")
        return
    if output != STDOUT:
        reporter.note(f"wrote {output}: {_counted(outcome)}")
        return
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "results"
        _write_file(target, kind, outcome, record)
        text = target.read_text(encoding="utf-8")
        sys.stdout.write(text if kind is Format.CSV else printable_json(text))


def _write_file(target: Path, kind: Format, outcome: Outcome, record: dict[str, Any]) -> None:
    from stale_edge_runtime.formats.result_tables import result_row, write_table
    from stale_edge_runtime.formats.results import write_results, write_results_csv

    if kind is Format.CSV:
        write_results_csv(target, outcome.results)
    elif kind in {Format.JSONL, Format.PARQUET}:
        rows = [result_row(video_id, outcome.lengths[video_id], found) for video_id, found in outcome.results.items()]
        write_table(target, rows, parquet=kind is Format.PARQUET)
    else:
        write_results(target, outcome.results, external=record)


def _counted(outcome: Outcome) -> str:
    videos = len(outcome.results)
    return f"{sum(map(len, outcome.results.values()))} detections in {videos} video{'' if videos == 1 else 's'}"


def _table(outcome: Outcome, unit: str) -> Any:
    """Lay out the best detections of every video, for reading."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("video", "label", *number_columns(f"start ({unit})", f"end ({unit})", "score"))
    for video_id, found in outcome.results.items():
        for d in found[:TABLE_ROWS]:
            table.add_row(escape(video_id), escape(d.label), f"{d.start_s:.2f}", f"{d.end_s:.2f}", f"{d.score:.3f}")
    return table


def _draw(picture: Path, run: DetectionRun, outcome: Outcome, watched: dict[str, Path]) -> list[Path]:
    from stale_edge.cli.timeline_plot import TimelinePanel, write_timeline
    from stale_edge.pages.player.media import media_of
    from stale_edge_runtime.corpus import SECONDS

    media, _ = media_of(watched, picture, thumbnails=PICTURE_FRAMES)
    panels = [
        TimelinePanel(
            video_id=video_id,
            length=outcome.lengths[video_id],
            detections=found,
            truth=run.clock.truth(video_id),
            in_seconds=run.clock.unit == SECONDS,
            frames=media[video_id].sprite if video_id in media else None,
        )
        for video_id, found in outcome.results.items()
    ]
    return write_timeline(picture, panels)


def _write_page(page: Path, run: DetectionRun, outcome: Outcome, watched: dict[str, Path], reporter: Reporter) -> None:
    from stale_edge.cli.view import write_page
    from stale_edge.pages.player.content import PlayerContent, ResultSet
    from stale_edge_runtime.corpus import SECONDS

    model = run.detector.path
    content = PlayerContent(
        [ResultSet(model.stem, outcome.results, f"{model.name}, {run.detector.info.precision}")],
        run.clock.annotations,
        outcome.lengths,
        in_seconds=run.clock.unit == SECONDS,
    )
    write_page(page, content, reporter, title=f"Detections of {model.name}", videos=watched or None)
