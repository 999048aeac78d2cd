"""The results of `stale-edge bench` as a picture: time against length."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stale_edge.palette import COLOURS, GRID, INK, MARKERS, MOST_SERIES, readable
from stale_edge_runtime.bench.statistics import number
from stale_edge_runtime.bench.windowed import WINDOWS
from stale_edge_runtime.formats.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stale_edge_runtime.bench.records import Report, Row

LABEL_GAP_PT = 12.0
"""Least distance of two labels, in points."""
LABEL_OFFSET_PT = 10.0


def draw(report: Report, target: Path) -> None:
    """Draw the median time against the length, one line for each contender, with its quartiles as a band.

    Times at one length alone are bars from zero. Lines are labelled where they end, so that no legend has to be
    matched; windows are dashed, in the colour of their file. More lines than can be told apart go into several panels
    with the same axes.

    Args:
        report: The results.
        target: File to write; its suffix says the format.

    Raises:
        CannotWriteError: The target cannot be written.
        StorageError: The disk is full or failed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = _lines(report)
    lengths = sorted({row.snippets for row in report.rows})
    panels = [lines] if len(lengths) == 1 else _panels(lines)
    # A figure of its own: pyplot would look for a display.
    height = 1.4 + 0.42 * len(lines) if len(lengths) == 1 else 1.0 + 4.0 * len(panels)
    figure = Figure(figsize=(9, height), layout="constrained", dpi=160)
    FigureCanvasAgg(figure)
    (axes, *more) = figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    axes.set_title(_title(report), loc="left", fontsize=10)
    if len(lengths) == 1:
        _bars(axes, lines, lengths[0])
    else:
        _curves(figure, (axes, *more), panels)
    with atomic_path(target) as temporary:
        figure.savefig(temporary, format=target.suffix[1:].lower())


def _panels(lines: Mapping[str, list[Row]]) -> list[dict[str, list[Row]]]:
    """Share lines out among panels, in their order and nearly evenly."""
    count = -(-len(lines) // MOST_SERIES)
    size = -(-len(lines) // count)
    found = list(lines.items())
    return [dict(found[start : start + size]) for start in range(0, len(found), size)]


def _curves(figure: Figure, panels_axes: Sequence[Axes], panels: Sequence[Mapping[str, list[Row]]]) -> None:
    colours: dict[str, int] = {}
    for axes, lines in zip(panels_axes, panels, strict=True):
        for label, rows in lines.items():
            place = colours.setdefault(label.partition(WINDOWS)[0], len(colours))
            _line(axes, label, rows, place)
        _style(axes)
    panels_axes[-1].set_xlabel("snippets")
    for axes, lines in zip(panels_axes, panels, strict=True):
        _label(figure, axes, lines)


def _bars(axes: Axes, lines: Mapping[str, list[Row]], snippets: int) -> None:
    """Draw a bar from zero for each contender, with its quartiles, and write its median beside it."""
    rows = {label: found[0] for label, found in lines.items()}
    medians = [row.median_ms for row in rows.values()]
    # One run has no spread: NaN draws no caps.
    below = [row.median_ms - row.low_ms if row.runs > 1 else math.nan for row in rows.values()]
    above = [row.high_ms - row.median_ms if row.runs > 1 else math.nan for row in rows.values()]
    places = range(len(rows))
    axes.barh(places, medians, 0.62, xerr=[below, above], color=COLOURS[0], error_kw={"ecolor": INK, "capsize": 3})
    for place, row in zip(places, rows.values(), strict=True):
        axes.annotate(
            f"{number(row.median_ms)} ms",
            (row.high_ms, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=INK,
        )
    axes.set_yticks(places, list(rows))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.18 * max(row.high_ms for row in rows.values()))
    axes.set_xlabel(f"median time of a forward of {snippets:,} snippets, ms")
    axes.xaxis.set_major_formatter(lambda value, _position: f"{value:,g}")
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Move positions apart, as little as needed, so that none are closer than a gap; their order stays.

    Args:
        positions: Wanted positions of labels, ascending.
        gap: Least distance.
    """
    # Groups of neighbours that touch: their number of labels, and the sum of where the first one would like to be.
    groups: list[tuple[int, float]] = []
    for position in positions:
        count, wish = 1, position
        while groups and groups[-1][1] / groups[-1][0] + groups[-1][0] * gap > wish / count:
            before, theirs = groups.pop()
            count, wish = before + count, theirs + wish - count * before * gap
        groups.append((count, wish))
    return [wish / count + place * gap for count, wish in groups for place in range(count)]


def _lines(report: Report) -> dict[str, list[Row]]:
    """Rows of each line by its label, in the order of the table."""
    several_threads = len({row.threads for row in report.rows}) > 1
    several_batches = len({row.batch for row in report.rows}) > 1
    lines: dict[str, list[Row]] = {}
    for row in report.rows:
        words = [row.model]
        words += [f"{row.threads} thread{'s' if row.threads > 1 else ''}"] if several_threads else []
        words += [f"batch {row.batch}"] if several_batches else []
        lines.setdefault(", ".join(words), []).append(row)
    return {label: sorted(rows, key=lambda row: row.snippets) for label, rows in lines.items()}


def _line(axes: Axes, label: str, rows: list[Row], place: int) -> None:
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    snippets = [row.snippets for row in rows]
    axes.fill_between(
        snippets, [row.low_ms for row in rows], [row.high_ms for row in rows], color=colour, alpha=0.2, linewidth=0
    )
    style = "--" if rows[0].window else "-"
    medians = [row.median_ms for row in rows]
    axes.plot(snippets, medians, color=colour, marker=marker, markersize=4.5, linestyle=style, label=label)


def _style(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:,g}")
    axes.xaxis.set_major_formatter(lambda value, _position: f"{value:,g}")
    axes.set_ylabel("median time of a forward, ms")
    axes.grid(visible=True, which="major", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _label(figure: Figure, axes: Axes, lines: Mapping[str, Sequence[Row]]) -> None:
    """Write each line's name beside its last point, moved up or down where two would meet."""
    figure.draw_without_rendering()  # places are known only after the layout
    points_per_pixel = 72 / figure.dpi
    ends = {line.get_label(): line for line in axes.get_lines()}
    last = {label: (rows[-1].snippets, rows[-1].median_ms) for label, rows in lines.items()}
    heights = {label: axes.transData.transform(end)[1] * points_per_pixel for label, end in last.items()}
    ordered = sorted(heights, key=lambda label: heights[label])
    right = max(snippets for snippets, _ in last.values())
    for label, height in zip(ordered, spread([heights[label] for label in ordered], LABEL_GAP_PT), strict=True):
        axes.annotate(
            label,
            (right, last[label][1]),
            xytext=(LABEL_OFFSET_PT, height - heights[label]),
            textcoords="offset points",
            color=readable(str(ends[label].get_color())),
            fontsize=9,
            va="center",
            annotation_clip=False,
        )


def _title(report: Report) -> str:
    threads = sorted({row.threads for row in report.rows})
    count = ", ".join(map(str, threads))
    how = "thesis protocol" if report.protocol["name"] == "thesis" else "warmed up, taking turns; spread: quartiles"
    return f"{report.machine['cpu']}, {count} thread{'s' if threads != [1] else ''}\n{how}"
