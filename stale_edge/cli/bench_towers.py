"""Towers of CLIP in `stale-edge bench`: time of an image, or of a text, alone and in the best company."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stale_edge_runtime.contract import TOWERS, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from stale_edge.cli.bench_contenders import ContenderRequest
    from stale_edge.cli.console import Reporter
    from stale_edge_runtime.bench.records import Report, Row
    from stale_edge_runtime.bench.runner import Plan
    from stale_edge_runtime.model_file import ModelFile

TOWER_KINDS = frozenset(map(str, TOWERS))
_NOUNS = {Kind.IMAGE_TOWER: "image", Kind.TEXT_TOWER: "text"}


def measure_towers(
    entry: ContenderRequest, plan: Plan, batches: Sequence[int], report: Reporter, *, explain: bool
) -> list[Report]:
    """Measure towers, those of images and those of texts apart.

    Args:
        entry: Files, all of them towers, and how to run them.
        plan: Measurement plan; its lengths are those of videos and play no part.
        batches: Images or texts in a forward; 1 and what suits a file where empty.
        report: Reporter for progress.
        explain: Show where the time goes.

    Raises:
        BadDataError: A file does not run.
        UnavailableError: A provider or thread count cannot be had.
    """
    from stale_edge.cli.bench import explanations
    from stale_edge.cli.bench_contenders import contenders
    from stale_edge_runtime.bench.runner import check_ready, run

    found = []
    for kind in _NOUNS:
        files = [file for file in entry.files if file.info.kind is kind]
        if not files:
            continue
        chosen = tuple(batches) or _batches(files, entry.prompts)
        own = replace(plan, lengths=(1,), batches=chosen)
        with contenders(replace(entry, files=files), report) as field:
            check_ready(field.contenders, own)
            with report.progress(f"bench of the {kind.value.replace('_', ' ')}", len(own.configurations)) as step:
                measured = run(field.contenders, own, step)
            shown = tuple(explanations(field.files, own, measured.ceilings, report)) if explain else ()
            found.append(replace(measured, explanations=shown))
    return found


def joined(reports: Sequence[Report]) -> Report:
    """Join the reports of one command: the machine and the protocol of the first, rows of all.

    Args:
        reports: Reports, at least one.
    """
    first, *others = reports
    for other in others:
        known = {(ceiling.precision, ceiling.threads): ceiling for ceiling in first.ceilings}
        for ceiling in other.ceilings:
            key = (ceiling.precision, ceiling.threads)
            known[key] = max(ceiling, known.get(key, ceiling), key=lambda one: one.gmacs_per_s)
        first = replace(
            first,
            rows=first.rows + other.rows,
            comparisons=first.comparisons + other.comparisons,
            ceilings=tuple(known.values()),
            explanations=first.explanations + other.explanations,
            notes=first.notes + other.notes,
        )
    return first


def tower_tables(report: Report) -> list[Table]:
    """Lay out the rows of towers, a table for each kind.

    Args:
        report: The results.
    """
    by_kind = {kind: [row for row in report.rows if row.kind == str(kind)] for kind in _NOUNS}
    return [_table(noun, by_kind[kind]) for kind, noun in _NOUNS.items() if by_kind[kind]]


def _table(noun: str, rows: Sequence[Row]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from stale_edge_runtime.bench.statistics import number

    one = f"an {noun}" if noun == "image" else f"a {noun}"
    table = Table(title=f"Time of {one}", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("model")
    for heading in (
        *(f"{noun}s", "threads", "runs", f"ms {one}", "spread", "min", "first ms", "load ms", "peak MB"),
        *(f"GMACs {one}", "GMACs/s", "of ceiling"),
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            escape(row.model),
            str(row.batch),
            str(row.threads),
            str(row.runs),
            number(row.median_ms / row.batch),
            f"{(row.high_ms - row.low_ms) / row.median_ms:.0%}",
            number(row.min_ms / row.batch),
            number(row.first_ms),
            number(row.load_ms),
            number(row.peak_rss_mb),
            number(None if row.gmacs is None else row.gmacs / row.batch),
            number(row.gmacs_per_s),
            f"{row.utilisation:.0%}" if row.utilisation is not None else "",
        )
    return table


def _batches(files: Sequence[ModelFile], prompts: int) -> tuple[int, ...]:
    """Choose batches: one, and as many as suit each file."""
    from stale_edge_runtime.video.tower import ImageTower

    is_image = files[0].info.kind is Kind.IMAGE_TOWER
    return tuple(sorted({1, *((ImageTower.batch_of(file.info) for file in files) if is_image else (prompts,))}))
