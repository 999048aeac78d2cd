"""`stale-edge view`: results as a page to watch, beside videos and ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.ground_truth import read_ground_truth
from stale_edge.cli.options import GROUND_TRUTH, OUTPUT, NumberedClasses, Quiet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stale_edge.pages.player.content import PlayerContent, VideoMedia
    from stale_edge_runtime.formats.annotations import Annotations
    from stale_edge_runtime.formats.results import Results

THUMBNAILS = 16
SOURCE_SHOWN = 60


def view(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS…", help="Result files, shown one below the other: fp32 and int8, say."),
    ],
    output: Annotated[Path, typer.Option(*OUTPUT, metavar="OUT.html", help="Page to write.")],
    videos: Annotated[
        Path | None,
        typer.Option(
            "--videos", metavar="DIR", help="Folder of the videos, found by their names, in folders below too."
        ),
    ] = None,
    ground_truth: Annotated[
        Path | None,
        typer.Option(
            *GROUND_TRUTH, metavar="GT.json", help="True actions to show and judge by; durations of the videos."
        ),
    ] = None,
    numbered_classes: NumberedClasses = None,
    subset: Annotated[
        str | None,
        typer.Option(
            "--with-subset", help="Subset of the ground truth to show in whole: videos without detections too."
        ),
    ] = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="Put videos up to 16 MB into the page, so that one file holds all.")
    ] = False,
    thumbnails: Annotated[
        int,
        typer.Option(
            min=0,
            max=100,
            help="Small frames of a video in the page, where PyAV can read it; 0: the browser makes them.",
        ),
    ] = THUMBNAILS,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Detections",
    quiet: Quiet = False,
) -> None:
    """Watch detections: one HTML file with a player, a timeline of classes, and the ground truth beside them.

    The page opens from disk and needs no network. Videos are played from where they lie, by a path relative to it.
    """
    from stale_edge.pages.player.content import ResultSet, set_names
    from stale_edge_runtime.formats.files import check_target
    from stale_edge_runtime.formats.results import read_results

    report = Reporter(quiet=quiet)
    check_target(output, [*results, *([ground_truth] if ground_truth else [])])
    truth = None if ground_truth is None else read_ground_truth(ground_truth, report, class_names=numbered_classes)
    read = [read_results(path) for path in results]
    sets = [
        ResultSet(name, found.detections, _note(found)) for name, found in zip(set_names(results), read, strict=True)
    ]
    units = {found.external.get("time_unit", "seconds") for found in read}
    silent = [video.id for video in truth.subset(subset).videos] if truth and subset else []
    content = _content(sets, truth, in_seconds=units != {"snippets"}, silent=silent)
    write_page(output, content, report, title=title, videos=videos, embed=embed, thumbnails=thumbnails)


def write_page(
    output: Path,
    content: PlayerContent,
    report: Reporter,
    *,
    title: str,
    videos: Path | Mapping[str, Path] | None = None,
    embed: bool = False,
    thumbnails: int = THUMBNAILS,
) -> None:
    """Write a player page and say what is in it."""
    from dataclasses import replace

    from stale_edge.pages.player.media import find_media, media_of
    from stale_edge.pages.player.page import write_player

    shown = dict.fromkeys(video for one in content.sets for video in one.detections)
    if videos is not None:
        paths = find_media(videos, [*shown, *content.silent]) if isinstance(videos, Path) else dict(videos)
        if not paths:
            report.warn(f"{videos}: no file there is named like a video of the results; the page has timelines alone")
        with report.progress("videos", len(paths)) as step:
            media, notes = media_of(paths, output, embed=embed, thumbnails=thumbnails, step=step)
        for note in notes:
            report.warn(note)
        lengths = {**_lengths(media), **content.lengths}
        content = replace(content, media=media, lengths=lengths)
    write_player(output, content, title=title)
    beside = f", {len(content.media)} with the video" if content.media else ""
    report.note(f"wrote {output}: {len(shown):,} videos{beside}; open it in a browser")


def _content(
    sets: Sequence[Any], truth: Annotations | None, *, in_seconds: bool, silent: Sequence[str]
) -> PlayerContent:
    from stale_edge.pages.player.content import PlayerContent

    lengths = {video.id: float(video.duration_s) for video in truth.videos if video.duration_s} if truth else {}
    return PlayerContent(sets, truth, lengths, in_seconds=in_seconds, silent=silent)


def _lengths(media: Mapping[str, VideoMedia]) -> dict[str, float]:
    return {video: one.length_s for video, one in media.items() if one.length_s}


def _note(found: Results) -> str:
    """Describe where detections come from, as their file records it."""
    from stale_edge_runtime.formats.results import MODEL

    model = found.external.get(MODEL)
    parts = [str(model.get(key)) for key in ("file", "precision") if model.get(key)] if isinstance(model, dict) else []
    if (enhanced := found.score_enhancement) is not None:
        parts.append(f"with score enhancement by {str(enhanced.get('source', 'a source not recorded'))[:SOURCE_SHOWN]}")
    return ", ".join(parts)[: 4 * SOURCE_SHOWN]
