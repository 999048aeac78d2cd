"""`stale-edge evaluate`: mean average precision of a result file, and what to improve next."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stale_edge.cli.console import Reporter, number_columns
from stale_edge.cli.ground_truth import read_ground_truth
from stale_edge.cli.options import (
    GROUND_TRUTH,
    STDOUT,
    JsonToFile,
    LatexFile,
    MarkdownFile,
    NumberedClasses,
    Quiet,
    Strict,
)
from stale_edge_runtime.errors import BadDataError, UsageError, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.table import Table

    from stale_edge_runtime.formats.annotations import Annotations
    from stale_edge_runtime.formats.results import Results
    from stale_edge_runtime.metrics.diagnosis import Diagnosis
    from stale_edge_runtime.metrics.evaluation import EvaluationResult

DIAGNOSIS_TIOU = 0.5
NAMES_SHOWN = 5


def evaluate(
    results: Annotated[Path, typer.Argument(metavar="RESULTS.json", help="Detections in the official schema.")],
    ground_truth: Annotated[
        Path,
        typer.Option(
            *GROUND_TRUTH,
            metavar="GT.json",
            help="Annotations of ActivityNet or THUMOS14, in any of their forms.",
        ),
    ],
    numbered_classes: NumberedClasses = None,
    subset: Annotated[
        str | None,
        typer.Option(help="Subset that counts; by default the one that is usual: THUMOS14's test, else validation."),
    ] = None,
    tiou: Annotated[
        str | None,
        typer.Option(
            metavar="START:END:STEP",
            help="tIoU thresholds, the end included, or a list as in 0.5,0.75. By default 0.5:0.95:0.05, and "
            "0.3:0.7:0.1 where all videos have THUMOS14's names.",
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Count only these classes (one a line) and the videos that hold them."),
    ] = None,
    compat: Annotated[
        str | None,
        typer.Option(metavar="stale", help="Evaluate as published: only videos that have detections count."),
    ] = None,
    reference_points: Annotated[
        bool,
        typer.Option(
            "--reference-points",
            help="Evaluate beside them the same labels as long as the video, the same segments with their true class, "
            "and the true classes as long as the video.",
        ),
    ] = False,
    json: JsonToFile = None,
    strict: Strict = False,
    worst: Annotated[int, typer.Option(min=0, metavar="N", help="Number of worst and best classes to show.")] = 5,
    latex: LatexFile = None,
    markdown: MarkdownFile = None,
    quiet: Quiet = False,
) -> None:
    """Evaluate detections: mAP per tIoU, best and worst classes, kinds of errors.

    Every video of the subset counts, also one without a detection.
    """
    from stale_edge.paper_tables import from_rich, write_tables
    from stale_edge_runtime.formats import files
    from stale_edge_runtime.formats.left_out import left_out_lines
    from stale_edge_runtime.formats.results import read_results
    from stale_edge_runtime.formats.video_ids import respelled
    from stale_edge_runtime.metrics import baselines
    from stale_edge_runtime.metrics.diagnosis import NEAR_TIOU, diagnose
    from stale_edge_runtime.metrics.evaluation import ACTIVITYNET_TIOUS, THUMOS_TIOUS, shrunk_to
    from stale_edge_runtime.metrics.evaluation import evaluate as evaluate_results

    report = Reporter(quiet=quiet)
    tious = parse_tious(tiou) if tiou is not None else None
    for target in (json, latex, markdown):
        if target and target != STDOUT:
            files.check_target(target, (results, ground_truth))
    everything = read_ground_truth(ground_truth, report, class_names=numbered_classes, strict=strict)
    annotations, subset = _annotations(report, everything, subset, classes)
    tious = tious or (THUMOS_TIOUS if annotations.is_thumos else ACTIVITYNET_TIOUS)
    found = read_results(results, strict=strict)
    for line in left_out_lines(found.left_out):
        report.warn(line)
    found = replace(found, detections=respelled(found.detections, (video.id for video in annotations.videos)))
    _check_ids(results, found, annotations)
    _check_labels(results, found, annotations)
    result = evaluate_results(annotations, found.detections, tious, compat=compat)
    _warn(report, result, found)
    judged = shrunk_to(annotations, found.detections) if compat else annotations
    at = DIAGNOSIS_TIOU if DIAGNOSIS_TIOU in tious else max(NEAR_TIOU, min(tious))
    diagnosis = diagnose(judged, found.detections, at)
    content = {
        **result.to_json(),
        "subset": subset,
        "score_enhancement": found.score_enhancement,
        "diagnosis": diagnosis.to_json(),
    }
    beside = baselines.reference_points(judged, found.detections, tious) if reference_points else {}
    if reference_points:
        content["reference_points"] = beside
    heading = _heading(result, subset, found, annotations)
    made = (_map_table(result), _reference_table(result, beside), _class_table(result, worst), _error_table(diagnosis))
    tables = [table for table in made if table.row_count]
    tables[0].title = heading
    written = write_tables([from_rich(table) for table in tables], latex, markdown)
    tables[0].title = None
    if json == STDOUT:
        report.result_json(content)
        return
    if json:
        files.write_json(json, content)
        written.insert(0, json)
    for path in written:
        report.note(f"wrote {path}")
    report.result(heading)
    for table in tables:
        report.result(table)
    report.result(_missed_line(diagnosis))


def parse_tious(text: str) -> tuple[float, ...]:
    """Thresholds written as `start:end:step` (the end included) or as a list with commas.

    Returns:
        The thresholds, each the float that its decimal digits mean: 0.9, not 0.8999999999999999.

    Raises:
        UsageError: It is neither, or a threshold is not above 0 and up to 1.
    """
    from stale_edge_runtime.metrics.evaluation import MAX_TIOUS

    error = UsageError(
        "--tiou", f"{text[:80]!r} is not thresholds above 0 and up to 1", "as in 0.5:0.95:0.05 or 0.5,0.75"
    )
    try:
        if ":" in text:
            start, end, step = (Decimal(part) for part in text.split(":"))
            if not (0 < start <= end <= 1 and step > 0 and (end - start) / step < MAX_TIOUS):
                raise error
            values = [start + step * index for index in range(int((end - start) / step) + 1)]
        else:
            values = [Decimal(part) for part in text.split(",")]
        tious = tuple(float(value) for value in values)
    except (ValueError, InvalidOperation, ArithmeticError):
        raise error from None
    if not all(0 < value <= 1 for value in tious) or len(tious) > MAX_TIOUS:
        raise error
    return tious


def _annotations(
    report: Reporter, everything: Annotations, subset: str | None, classes: Path | None
) -> tuple[Annotations, str]:
    """Select the ground truth that counts, and the name of its subset."""
    from stale_edge_runtime.formats.class_list import read_class_list

    subset = subset or everything.default_subset
    annotations = everything.subset(subset)
    if classes:
        names = read_class_list(classes)
        if absent := sorted(set(names) - set(annotations.classes)):
            report.warn(f"{classes}: {_listing(absent)} not in the ground truth of subset {subset}")
        annotations = annotations.restricted_to(names)
    report.note(
        f"{annotations.source}: subset {subset}, {len(annotations.videos):,} videos, "
        f"{annotations.instance_count:,} instances, {len(annotations.classes)} classes"
    )
    dirt = annotations.dirt
    counts = {
        "of length zero": dirt.zero_length,
        "exact duplicates": dirt.duplicates,
        "past the end of their video": dirt.past_end,
    }
    if annotations.ambiguous_count:
        report.note(
            f"{annotations.ambiguous_count} ambiguous segments: no class, and detections over them are no false "
            "positives (the rule of THUMOS14)"
        )
    if kinds := [f"{kind} {count}" for kind, count in counts.items() if count]:
        report.note(f"instances kept as they are: {', '.join(kinds)}")
    return annotations, subset


def _check_ids(path: Path, found: Results, annotations: Annotations) -> None:
    """Refuse results none of whose videos count: their ids are written differently, or it is another data set."""
    known = {video.id for video in annotations.videos}
    if found.detections and known and known.isdisjoint(found.detections):
        raise BadDataError(
            path,
            f"none of its {len(found.detections)} videos (as {next(iter(found.detections))}) is in the ground truth "
            f"(as {min(known)})",
            "check the subset and how ids are written",
        )


def _check_labels(path: Path, found: Results, annotations: Annotations) -> None:
    """Refuse results none of whose labels count: they are spelled differently, or it is another data set."""
    labels = {detection.label for rows in found.detections.values() for detection in rows}
    if labels and annotations.classes and labels.isdisjoint(annotations.classes):
        raise BadDataError(
            path,
            f"none of its {len(labels)} labels (as {min(labels)!r}) is in the ground truth "
            f"(as {annotations.classes[0]!r})",
            f"write the labels as the annotations do: {_listing(_with_nearest(labels, annotations.classes))}",
        )


def _warn(report: Reporter, result: EvaluationResult, found: Results) -> None:
    """Say what does not count, and what makes the figures what they are."""
    if (record := found.score_enhancement) is not None:
        report.warn(
            f"these results use SCORE ENHANCEMENT ({_source(record)}): an external classifier changed their labels"
            f"{_top1(record)}; report them beside results without it"
        )
    if result.compat:
        report.warn(
            f"compat {result.compat}: {result.dropped_videos:,} ground-truth videos without detections do not count"
        )
    if result.ignored_labels:
        count = sum(result.ignored_labels.values())
        report.warn(
            f"{count:,} detections ignored, their labels are not in the ground truth: "
            f"{_listing(_with_nearest(result.ignored_labels, result.classes))}"
        )
    if result.unknown_videos:
        fate = "count as false positives" if result.compat else "ignored"
        report.warn(
            f"{sum(result.unknown_videos.values()):,} detections {fate}, their videos are not in the ground truth: "
            f"{_listing(result.unknown_videos)}"
        )
    if result.silent_videos:
        report.note(f"{result.silent_videos:,} videos have no detection; their instances count as missed")


def _with_nearest(labels: Iterable[str], classes: Iterable[str]) -> list[str]:
    """Quote labels, each with the class that differs from it in case, spaces and signs alone."""
    plain = {_letters(name): name for name in classes}
    return [
        f"{label!r} (is {plain[_letters(label)]!r} meant?)" if _letters(label) in plain else repr(label)
        for label in sorted(labels)
    ]


def _letters(label: str) -> str:
    return "".join(filter(str.isalnum, label)).casefold()


def _source(record: Mapping[str, Any]) -> str:
    return str(record.get("source", "source not recorded"))[:200]


def _top1(record: Mapping[str, Any]) -> str:
    accuracy = record.get("top1_accuracy")
    if type(accuracy) not in {float, int} or not 0 <= accuracy <= 1:  # type: ignore[operator]
        return " (its top-1 accuracy is not recorded)"
    return f" (its top-1 accuracy: {accuracy:.1%})"


def _listing(names: Iterable[str]) -> str:
    return listed(names, NAMES_SHOWN)


def _heading(result: EvaluationResult, subset: str, found: Results, annotations: Annotations) -> str:
    from stale_edge_runtime.formats.annotations import SIMULATED_WORLD

    world = f"{SIMULATED_WORLD}, " if annotations.is_simulated else ""
    rules = f", compat {result.compat}" if result.compat else ""
    enhanced = ", WITH SCORE ENHANCEMENT" if found.score_enhancement is not None else ""
    instances = sum(result.instances.values())
    return (
        f"{world}{subset}{rules}{enhanced}: {result.videos:,} videos, {instances:,} instances of "
        f"{len(result.classes)} classes, {result.detections:,} detections"
    )


def _map_table(result: EvaluationResult) -> Table:
    from rich.table import Table

    from stale_edge_runtime.metrics.evaluation import tiou_text

    table = Table("tIoU", *number_columns("mAP %"))
    for tiou, value in zip(result.tious, result.map, strict=True):
        table.add_row(tiou_text(tiou), f"{100 * value:.2f}")
    table.add_section()
    table.add_row("average", f"{100 * result.average_map:.2f}", style="bold")
    return table


def _reference_table(result: EvaluationResult, beside: Mapping[str, float]) -> Table:
    """List what the detections must be read beside; no rows where it was not asked for."""
    from rich.table import Table

    table = Table(
        "detections",
        *number_columns("average mAP %", "share kept, %"),
        title="Reference points",
        caption="whole video, same labels: what it keeps was not localised; true class: what it adds is lost by wrong "
        "labels",
    )
    if not beside:
        return table
    own = result.average_map
    for name, value in {"these detections": own, **beside}.items():
        table.add_row(name, f"{100 * value:.2f}", f"{100 * value / own:.0f}" if own else "")
    return table


def _class_table(result: EvaluationResult, count: int) -> Table:
    """List the worst and the best classes by AP averaged over the thresholds."""
    import numpy as np
    from rich.markup import escape
    from rich.table import Table

    from stale_edge_runtime.metrics.evaluation import tiou_text

    average = result.average_precision.mean(axis=1)
    order = np.argsort(average, kind="stable").tolist()
    whole = len(order) <= 2 * count
    groups = [order] if whole else [order[:count], order[len(order) - count :]]
    title = "AP of all classes, worst first" if whole else f"AP of the {count} worst and best classes"
    first_tiou = f"AP % at {tiou_text(result.tious[0])}"
    table = Table("class", *number_columns("instances", first_tiou, "average AP %"), title=title)
    for group in groups:
        for index in group:
            name = result.classes[index]
            first = result.average_precision[index, 0]
            table.add_row(
                escape(name), str(result.instances[name]), f"{100 * first:.2f}", f"{100 * average[index]:.2f}"
            )
        table.add_section()
    return table


def _error_table(diagnosis: Diagnosis) -> Table:
    from rich.table import Table

    from stale_edge_runtime.metrics.diagnosis import Verdict
    from stale_edge_runtime.metrics.evaluation import tiou_text

    table = Table(
        "kind",
        *(column for each in diagnosis.breakdowns for column in number_columns(f"best {each.multiple}·G", "%")),
        title=f"What detections are at tIoU {tiou_text(diagnosis.tiou)}",
        caption="best k·G: of each class the k·G detections of highest score; G is its number of instances",
    )
    for outcome in Verdict:
        cells = []
        for breakdown in diagnosis.breakdowns:
            count = breakdown.counts[outcome]
            cells += [f"{count:,}", f"{100 * count / max(breakdown.detections, 1):.1f}"]
        table.add_row(outcome.value, *cells)
    return table


def _missed_line(diagnosis: Diagnosis) -> str:
    from stale_edge_runtime.metrics.diagnosis import Fate
    from stale_edge_runtime.metrics.evaluation import tiou_text

    total = sum(diagnosis.fates.values())
    reasons = [
        f"{fate.value} ({count:,})" for fate, count in diagnosis.fates.items() if fate is not Fate.FOUND and count
    ]
    line = f"missed {diagnosis.missed:,} of {total:,} instances at tIoU {tiou_text(diagnosis.tiou)}"
    return f"{line}; seen: {', '.join(reasons)}" if reasons else line
