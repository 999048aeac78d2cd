"""The results of `stale-edge bench` as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from stale_edge.cli.bench_towers import TOWER_KINDS
from stale_edge_runtime.bench.busy import busy_machine_warning
from stale_edge_runtime.bench.statistics import number
from stale_edge_runtime.contract import Precision

if TYPE_CHECKING:
    from stale_edge_runtime.bench.records import Report, Row

COLUMNS = (
    "T", "model", "runs", "median ms", "spread", "min", "p90", "faster", "first ms", "load ms", "peak MB", "GMACs",
    "GMACs/s", "of ceiling",
)  # fmt: skip


def configurations(report: Report) -> list[tuple[int, int]]:
    """Thread counts and batches that detectors were measured at, in order; each gets a table of its own."""
    return list(dict.fromkeys((row.threads, row.batch) for row in report.rows if row.kind not in TOWER_KINDS))


def table(report: Report, threads: int, batch: int) -> Table:
    """Lay out the rows of one thread count and batch, by length.

    Args:
        report: The results.
        threads: Threads inside an operator.
        batch: Videos in one forward.
    """
    plural = "threads" if threads > 1 else "thread"
    found = Table(
        title=f"Time of a forward by snippets T: {threads} {plural}, batch {batch}",
        title_justify="left",
        caption=_caption(report),
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in COLUMNS:
        found.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
    detectors = [row for row in report.rows if row.kind not in TOWER_KINDS]
    rows = [row for row in detectors if (row.threads, row.batch) == (threads, batch)]
    for snippets in dict.fromkeys(row.snippets for row in rows):
        group = [row for row in rows if row.snippets == snippets]
        baseline = reference_row(group)
        for place, row in enumerate(group):
            found.add_row(*_cells(row, report, baseline, shown=place == 0), end_section=row is group[-1])
    return found


def machine_line(report: Report) -> str:
    """Describe the machine in a line, to be read with the timings."""
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


def busy_warning(report: Report) -> str:
    """Word a warning where the machine did something else meanwhile; '' where it was quiet."""
    return busy_machine_warning(report.machine, [(row.high_ms - row.low_ms) / row.median_ms for row in report.rows])


def decode_lines(report: Report) -> list[str]:
    """Show the time of decoding for each length, beside the fastest forward of one video on one CPU thread."""
    lines = []
    for cost in report.decoding:
        line = f"decoding at T = {cost.snippets}: {number(cost.clear_ms)} ms for five clear actions"
        rows = [row for row in report.rows if (row.snippets, row.batch, row.threads) == (cost.snippets, 1, 1)]
        if fastest := min((row for row in rows if row.provider == "cpu"), key=lambda row: row.median_ms, default=None):
            line += f" ({cost.clear_ms / fastest.median_ms:.0%} of the forward of {fastest.model})"
        lines.append(f"{line}, {number(cost.noisy_ms)} ms for noise")
    return lines


def reference_row(group: list[Row]) -> Row:
    """Choose the row that others are compared with: the thesis's result where measured, otherwise the slowest.

    Args:
        group: Rows of one length, batch and number of threads.
    """
    thesis = (row for row in group if row.engine == "pytorch" and row.precision == Precision.INT8)
    return next(thesis, None) or max(group, key=lambda row: row.median_ms)


def _cells(row: Row, report: Report, baseline: Row, *, shown: bool) -> tuple[str, ...]:
    return (
        str(row.snippets) if shown else "",
        escape(row.model),
        str(row.runs),
        number(row.median_ms),
        f"{(row.high_ms - row.low_ms) / row.median_ms:.0%}",
        number(row.min_ms),
        number(row.p90_ms),
        faster(report, baseline, row),
        number(row.first_ms),
        number(row.load_ms),
        number(row.peak_rss_mb),
        number(row.gmacs),
        number(row.gmacs_per_s),
        f"{row.utilisation:.0%}" if row.utilisation is not None else "",
    )


def faster(report: Report, baseline: Row, row: Row) -> str:
    """Show how many times faster a row is than the baseline at its length, with the interval.

    Args:
        report: The results.
        baseline: Row that is marked 1x.
        row: Row of the same length, batch and number of threads.
    """
    if row is baseline:
        return "1x"
    if (found := ratio_of(report, baseline, row)) is None:
        return ""
    ratio, low, high = found
    if ratio < 1:
        return f"slower {1 / ratio:.3g}x ({1 / high:.3g}-{1 / low:.3g})"
    return f"{ratio:.3g}x ({low:.3g}-{high:.3g})"


def ratio_of(report: Report, slow: Row, fast: Row) -> tuple[float, float, float] | None:
    """Find how many times faster one row is than another of its length, with the ends of the interval.

    Args:
        report: The results.
        slow: Row to compare with.
        fast: Row of the same length, batch and number of threads.

    Returns:
        None where the two were not compared.
    """
    key = (slow.threads, slow.batch, slow.snippets)
    for item in report.comparisons:
        if (item.threads, item.batch, item.snippets) == key and {item.a, item.b} == {slow.model, fast.model}:
            if item.a == slow.model:
                return item.ratio, item.low, item.high
            return 1 / item.ratio, 1 / item.high, 1 / item.low
    return None


def _caption(report: Report) -> str:
    how = "warmed up, taking turns" if report.protocol["warm_up"] else "one forward per seed, not warmed up"
    return (
        f"{how}; spread: interquartile range over median; faster: than the one marked 1x, with the 95 % "
        "interval; first, load, peak: of a fresh process"
    )
