"""The results of `stale-edge bench` as a picture: time against length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stale_edge_runtime.files import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from stale_edge_runtime.bench.records import Report, Row

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, told apart with any colour vision."""
MARKERS = "osD^vPX"


def draw(report: Report, target: Path) -> None:
    """Draw the median time against the length, one line for each contender, with its quartiles as a band.

    Args:
        report: The results.
        target: Where the picture goes; its suffix says the format.

    Raises:
        CannotWriteError: The target cannot be written.
        StorageError: The disk is full or failed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A figure of its own: pyplot would look for a display.
    figure = Figure(figsize=(8, 5), layout="constrained", dpi=160)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    lines = _lines(report)
    for index, (label, rows) in enumerate(lines.items()):
        _line(axes, label, rows, COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)])
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:g}")
    axes.set_xlabel("snippets")
    axes.set_ylabel("median time of a forward, ms")
    axes.set_title(_title(report), loc="left", fontsize=10)
    axes.grid(visible=True, which="major", color="0.88", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    with atomic_path(target) as temporary:
        figure.savefig(temporary, format=target.suffix[1:].lower())


def _lines(report: Report) -> dict[str, list[Row]]:
    """Rows of each line by its label, the slowest line first, as the eye meets them from above."""
    several_threads = len({row.threads for row in report.rows}) > 1
    several_batches = len({row.batch for row in report.rows}) > 1
    lines: dict[str, list[Row]] = {}
    for row in sorted(report.rows, key=lambda row: row.snippets):
        words = [row.model]
        words += [f"{row.threads} thread{'s' if row.threads > 1 else ''}"] if several_threads else []
        words += [f"batch {row.batch}"] if several_batches else []
        lines.setdefault(", ".join(words), []).append(row)
    return dict(sorted(lines.items(), key=lambda line: -line[1][-1].median_ms))


def _line(axes: Axes, label: str, rows: list[Row], colour: str, marker: str) -> None:
    snippets = [row.snippets for row in rows]
    axes.fill_between(
        snippets, [row.low_ms for row in rows], [row.high_ms for row in rows], color=colour, alpha=0.2, linewidth=0
    )
    axes.plot(snippets, [row.median_ms for row in rows], color=colour, marker=marker, markersize=5, label=label)


def _title(report: Report) -> str:
    threads = sorted({row.threads for row in report.rows})
    count = ", ".join(map(str, threads))
    how = "thesis protocol" if report.protocol["name"] == "thesis" else "warmed up, taking turns; band: quartiles"
    return f"{report.machine['cpu']}, {count} thread{'s' if threads != [1] else ''}\n{how}"
