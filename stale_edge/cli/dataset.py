"""`stale-edge dataset`: what is in a data set, and what training leaves out and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stale_edge.cli.console import Reporter, number_columns
from stale_edge.cli.detect import Compat  # noqa: TC001 (typer reads annotations when it runs)
from stale_edge.cli.ground_truth import read_ground_truth
from stale_edge.cli.options import JsonToStdout, NumberedClasses, Quiet, SnippetSeconds, Strict  # noqa: TC001 (as above)
from stale_edge_runtime.errors import BadDataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from stale_edge.data.selection import Selection
    from stale_edge_runtime.corpus import VideoFile
    from stale_edge_runtime.formats.annotations import Annotations

NAMES_SHOWN = 5


def dataset(
    annotations: Annotated[
        Path,
        typer.Argument(metavar="ANNOTATIONS", help="Annotations of ActivityNet or THUMOS14, in any form."),
    ],
    split: Annotated[
        Path | None,
        typer.Option(metavar="LIST", help="Teach only these classes (one a line), in every subset."),
    ] = None,
    fraction: Annotated[
        float, typer.Option(metavar="P", help="Share of the training videos to sample; every class keeps one or more.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 0,
    subset: Annotated[
        str | None, typer.Option(help="Subset that --fraction samples; by default the one that is usual for training.")
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Leave out videos that have no usable feature file here; each is read, as `train` does."
        ),
    ] = None,
    snippet_s: SnippetSeconds = None,
    video_info: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Subsets of annotations in the published form; beside them when not given."),
    ] = None,
    action_names: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Class names of the annotations; beside them when not given.")
    ] = None,
    numbered_classes: NumberedClasses = None,
    compat: Annotated[
        Compat | None, typer.Option(help="Choose videos and instances as the published code does, defects included.")
    ] = None,
    strict: Strict = False,
    json: JsonToStdout = False,
    quiet: Quiet = False,
) -> None:
    """Say what is in a data set, and what training will leave out and why."""
    from stale_edge.data.feature_store import find_feature_files
    from stale_edge.data.selection import class_names, select, training_subset
    from stale_edge_runtime.formats.class_list import read_class_list

    reporter = Reporter(quiet=quiet)
    everything = read_ground_truth(
        annotations, reporter, video_info=video_info, class_names=numbered_classes, strict=strict
    )
    classes = class_names(everything, annotations, action_names)
    if split:
        known, classes = set(classes), read_class_list(split)
        _check_split(reporter, split, classes, known)
    teach = everything.subset(subset or training_subset(everything)).videos[0].subset if fraction != 1 else None
    files = find_feature_files(features, [video.id for video in everything.videos]) if features else None
    found = {}
    for name in everything.subsets:
        chosen = select(everything.subset(name), classes, compat=compat)
        if files is not None:
            chosen = chosen.with_features(files)
            chosen = chosen if snippet_s else chosen.with_duration()
        found[name] = chosen.sampled(fraction, seed) if name == teach else chosen
    if files is not None:
        found = _without_bad_files(reporter, files, found)
    _warn(reporter, everything, found, known_clock=snippet_s is not None)
    if json:
        subsets = {
            name: {"videos": len(chosen.videos), "instances": chosen.instance_count, "left_out": dict(chosen.left_out)}
            for name, chosen in found.items()
        }
        reporter.result_json({"subsets": subsets, "classes": list(classes)})
        return
    reporter.result(_table(found))


def _without_bad_files(
    reporter: Reporter, files: Mapping[str, VideoFile], found: Mapping[str, Selection]
) -> dict[str, Selection]:
    """Leave out the videos whose features `train` could not use, and name the first."""
    from stale_edge.data.feature_store import check_files

    chosen = {video.id: files[video.id] for selection in found.values() for video in selection.videos}
    with reporter.progress("features", len(chosen)) as step:
        bad = check_files(chosen, None, step)
    if bad:
        first = next(iter(bad.values()))
        reporter.warn(f"{len(bad):,} of {len(chosen):,} feature files cannot be used; the first: {first}")
    return {name: selection.without_bad_features(bad) for name, selection in found.items()}


def _check_split(reporter: Reporter, split: Path, classes: tuple[str, ...], known: set[str]) -> None:
    absent = [name for name in classes if name not in known]
    if len(absent) == len(classes):
        raise BadDataError(split, "names no class of the annotations", f"they have {', '.join(sorted(known)[:3])} …")
    if absent:
        shown = ", ".join(absent[:NAMES_SHOWN]) + (" …" if len(absent) > NAMES_SHOWN else "")
        reporter.warn(f"{split}: {len(absent)} names are no class of the annotations: {shown}")


def _warn(reporter: Reporter, annotations: Annotations, found: Mapping[str, Selection], *, known_clock: bool) -> None:
    unknown = sum(video.duration_s is None for chosen in found.values() for video in chosen.videos)
    if unknown and not known_clock:
        reporter.warn(f"{unknown:,} videos have no duration: training needs --snippet-seconds")
    dirt = annotations.dirt
    reporter.note(
        f"{annotations.source}: {len(annotations.videos):,} videos, {annotations.instance_count:,} instances; of these "
        f"zero length {dirt.zero_length}, exact duplicates {dirt.duplicates}, past the end of their video "
        f"{dirt.past_end}; videos of several classes {dirt.several_classes}"
    )


def _table(found: Mapping[str, Selection]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("subset", *number_columns("videos", "instances", "classes"), "left out")
    for name, chosen in found.items():
        present = {instance.label for video in chosen.videos for instance in video.instances}
        reasons = "\n".join(f"{count:,} {reason}" for reason, count in chosen.left_out.items()) or "nothing"
        cells = (len(chosen.videos), chosen.instance_count, len(present))
        table.add_row(escape(name), *(f"{cell:,}" for cell in cells), reasons)
    return table
