"""The short form of `stale-edge bench`: a few lines of Markdown for a machine, or for several, to post."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stale_edge.cli.bench_table import busy_warning, faster, reference_row
from stale_edge.cli.bench_towers import TOWER_KINDS
from stale_edge.paper_tables import PaperTable, markdown
from stale_edge_runtime.bench.statistics import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stale_edge_runtime.bench.records import Report, Row

SHOWN_LIBRARIES = ("onnxruntime", "onnxruntime-gpu", "stale-edge")
NOTE = "Milliseconds of a forward, median, and how many times faster than the 1x of that machine (95 % interval)."


def short_form(reports: Sequence[Report]) -> str:
    """Write reports as one table in Markdown with a line about each machine.

    Args:
        reports: Results of one machine each.
    """
    lengths = sorted({row.snippets for report in reports for row in _detectors(report)})
    several = len(reports) > 1
    numbers = [f"{place}. " if several else "" for place in range(1, len(reports) + 1)]
    named = list(zip(numbers, reports, strict=True))
    rows = [(place + cells[0], *cells[1:]) for place, report in named for cells in _rows(report, lengths)]
    columns = ("machine", "model", *(f"T = {snippets}" for snippets in lengths))
    table = markdown([PaperTable("", columns, tuple(rows), heads=2, note=NOTE)])
    return "\n".join([table, *(f"{place or '- '}{_about(report)}" for place, report in named)])


def _detectors(report: Report) -> list[Row]:
    return [row for row in report.rows if row.kind not in TOWER_KINDS and row.window is None]


def _rows(report: Report, lengths: Sequence[int]) -> list[tuple[str, ...]]:
    """Lay out one machine: a row for each model, provider, number of threads and batch."""
    lines: dict[tuple[str, str, int, int], dict[int, Row]] = {}
    for row in _detectors(report):
        lines.setdefault((row.model, row.provider, row.threads, row.batch), {})[row.snippets] = row
    machine = str(report.machine.get("cpu") or report.machine.get("architecture"))
    return [(machine, _name(key), *(_cell(report, line.get(n)) for n in lengths)) for key, line in lines.items()]


def _name(key: tuple[str, str, int, int]) -> str:
    model, provider, threads, batch = key
    parts = [model, provider if provider != "cpu" else "", f"{threads} threads" if threads > 1 else ""]
    return ", ".join(filter(None, [*parts, f"batch {batch}" if batch > 1 else ""]))


def _cell(report: Report, row: Row | None) -> str:
    if row is None:
        return ""
    alike = (row.threads, row.batch, row.snippets)
    group = [one for one in _detectors(report) if (one.threads, one.batch, one.snippets) == alike]
    factor = faster(report, reference_row(group), row) if len(group) > 1 else ""
    return ", ".join(filter(None, (number(row.median_ms), factor)))


def _about(report: Report) -> str:
    """Describe a machine and its software in a line."""
    machine, libraries = report.machine, report.machine.get("libraries") or {}
    memory = machine.get("memory_mb")
    versions = [f"{name} {libraries[name]}" for name in SHOWN_LIBRARIES if name in libraries]
    parts = (
        str(machine.get("cpu")),
        str(machine.get("architecture")),
        f"{machine.get('cores_allowed')} cores",
        f"{memory / 1000:.0f} GB" if memory else "",
        str(machine.get("os")),
        f"Python {machine.get('python')}",
        *versions,
        str(machine.get("date"))[:10],
        busy_warning(report),
    )
    return "; ".join(filter(None, parts))
