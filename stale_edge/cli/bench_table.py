"""The results of `stale-edge bench` as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from stale_edge_runtime.bench.records import Comparison, Report, Row

COLUMNS = (
    "snippets", "model", "median ms", "quartiles", "p90", "min", "faster", "first ms", "load ms", "peak MB",
    "GMACs", "GMACs/s", "of ceiling",
)  # fmt: skip


def configurations(report: Report) -> list[tuple[int, int]]:
    """Thread counts and batches of a report, in order; each gets a table of its own."""
    return list(dict.fromkeys((row.threads, row.batch) for row in report.rows))


def table(report: Report, threads: int, batch: int) -> Table:
    """The rows of one thread count and batch, by length.

    Args:
        report: The results.
        threads: Threads inside an operator.
        batch: Videos in one forward.
    """
    plural = "threads" if threads > 1 else "thread"
    found = Table(title=f"{threads} {plural}, batch {batch}", title_justify="left", caption=_caption(report))
    for name in COLUMNS:
        found.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
    rows = [row for row in report.rows if (row.threads, row.batch) == (threads, batch)]
    for snippets in dict.fromkeys(row.snippets for row in rows):
        group = [row for row in rows if row.snippets == snippets]
        baseline = max(group, key=lambda row: row.median_ms)
        for place, row in enumerate(group):
            found.add_row(*_cells(row, report, baseline, shown=place == 0), end_section=row is group[-1])
    return found


def machine_line(report: Report) -> str:
    """What the timings must be read with, in a line."""
    machine = report.machine
    fast = [flag for flag in machine["cpu_flags"] if flag in {"avx512_vnni", "avx_vnni", "amx_int8", "i8mm", "asimddp"}]
    ceilings = ", ".join(
        f"{ceiling.precision} {ceiling.gmacs_per_s:.3g}" + (f" on {ceiling.threads}" if ceiling.threads > 1 else "")
        for ceiling in report.ceilings
    )
    parts = (
        f"{machine['cpu']}, {machine['cores_allowed']} cores allowed",
        f"int8 by {', '.join(fast)}" if fast else "no int8 instructions",
        f"product ceiling {ceilings} GMACs/s" if ceilings else "",
        f"load {machine['load_1min'][0]} to {machine['load_1min'][1]}",
        f"{machine['steal_percent']} % stolen" if machine["steal_percent"] else "",
        f"onnxruntime {machine['libraries'].get('onnxruntime') or machine['libraries'].get('onnxruntime-gpu')}",
    )
    return "; ".join(filter(None, parts))


def _cells(row: Row, report: Report, baseline: Row, *, shown: bool) -> tuple[str, ...]:
    return (
        str(row.snippets) if shown else "",
        escape(row.model),
        _number(row.median_ms),
        f"{_number(row.low_ms)}-{_number(row.high_ms)}",
        _number(row.p90_ms),
        _number(row.min_ms),
        _faster(report, baseline, row),
        _number(row.first_ms),
        _number(row.load_ms),
        _number(row.peak_rss_mb),
        _number(row.gmacs),
        _number(row.gmacs_per_s),
        f"{row.utilisation:.0%}" if row.utilisation is not None else "",
    )


def _faster(report: Report, baseline: Row, row: Row) -> str:
    """How many times faster a row is than the slowest at its length, with the interval."""
    if row is baseline:
        return "1x"
    key = (row.threads, row.batch, row.snippets)
    for item in report.comparisons:
        if (item.threads, item.batch, item.snippets) == key and {item.a, item.b} == {row.model, baseline.model}:
            ratio, low, high = _oriented(item, reference=baseline.model)
            return f"{ratio:.3g}x ({low:.3g}-{high:.3g})"
    return ""


def _oriented(item: Comparison, reference: str) -> tuple[float, float, float]:
    if item.a == reference:
        return item.ratio, item.low, item.high
    return 1 / item.ratio, 1 / item.high, 1 / item.low


def _caption(report: Report) -> str:
    runs = [row.runs for row in report.rows]
    count = f"{min(runs)}" if min(runs) == max(runs) else f"{min(runs)} to {max(runs)}"
    how = "not warmed up" if not report.protocol["warm_up"] else "warmed up, taking turns"
    return f"{count} runs each, {how}; faster: than the slowest at that length, 95 % interval"


def _number(value: float | None) -> str:
    """Three digits that mean something, without exponents."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1g}"
