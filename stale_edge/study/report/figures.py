"""Charts drawn into files: vector, raster, and the numbers behind them."""

from __future__ import annotations

import io
import math
import warnings
from typing import TYPE_CHECKING, Any, Final

from stale_edge.palette import COLOURS, GRID, INK, MARKERS, SOFT
from stale_edge_runtime.formats.files import write_bytes, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stale_edge.study.report.charts import Chart, Series

FIGURE_KINDS: Final = (".svg", ".png", ".pdf", ".csv")
"""Endings of the files of a figure."""
DASHES: Final[tuple[Any, ...]] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (8, 3)), (0, (3, 3)))
HATCHES: Final = ("", "////", "....", "\\\\\\\\", "xxxx", "++++")
_BAND: Final = 0.18
_ROOM, _LOG_ROOM = 1.05, (0.8, 1.25)
"""Room beyond the values where several charts have the same y axis."""
_GROUP: Final = 0.8
"""Share of a category's width that its bars take."""


def write_figure(chart: Chart, folder: Path) -> bytes:
    """Write a chart as `.svg`, `.png`, `.pdf` and `.csv`.

    The vector file keeps text as text, and every series is a group whose id is its name.

    Args:
        chart: Chart to draw.
        folder: Exists.

    Returns:
        The vector file.

    Raises:
        CannotWriteError: The folder cannot be written.
        StorageError: The disk is full or failed.
    """
    vector, raster, document = _draw(chart)
    write_bytes(folder / f"{chart.key}.svg", vector)
    write_bytes(folder / f"{chart.key}.png", raster)
    write_bytes(folder / f"{chart.key}.pdf", document)
    write_text(folder / f"{chart.key}.csv", chart.to_csv())
    return vector


def _draw(chart: Chart) -> tuple[bytes, bytes, bytes]:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    vector, raster, document = io.BytesIO(), io.BytesIO(), io.BytesIO()
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": chart.key, "text.parse_math": False}
    style |= {"text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": INK}
    with mpl.rc_context(style), warnings.catch_warnings():
        # A letter that the font lacks is shown as a box; the text itself is in the vector file.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        rows = -(-len(chart.series) // _legend_columns(chart))
        figure = Figure(figsize=(8.0, 4.6 + 0.24 * rows), layout="constrained", dpi=150)
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        handles = _bars(axes, chart) if chart.is_bars else [_line(axes, series) for series in chart.series]
        _style(axes, chart)
        _legend(figure, chart, handles)
        # Places are the same in both files; finding them is most of the work.
        figure.draw_without_rendering()
        figure.set_layout_engine(None)
        figure.savefig(vector, format="svg", metadata={"Date": None, "Creator": None, "Title": _plain(chart.title)})
        figure.savefig(raster, format="png", metadata={"Software": None})
        figure.savefig(document, format="pdf", metadata={"CreationDate": None, "Title": _plain(chart.title)})
    return vector.getvalue(), raster.getvalue(), document.getvalue()


def _line(axes: Axes, series: Series) -> Any:
    """Draw one line with its band; the thesis's is dotted and hollow."""
    x = [point.x for point in series.points]
    y = [point.middle for point in series.points]
    if series.is_thesis:
        look: dict[str, Any] = {"color": SOFT, "marker": "d", "markerfacecolor": "white", "linestyle": ":"}
    else:
        colour = COLOURS[series.colour % len(COLOURS)]
        look = {
            "color": colour,
            "marker": MARKERS[series.colour % len(MARKERS)],
            "linestyle": DASHES[series.dash % len(DASHES)],
        }
        low, high = [point.low for point in series.points], [point.high for point in series.points]
        axes.fill_between(x, low, high, color=colour, alpha=_BAND, linewidth=0)
    (line,) = axes.plot(x, y, markersize=5, linewidth=1.6, gid=series.name, **look)
    return line


def _bars(axes: Axes, chart: Chart) -> list[Any]:
    """Bars side by side in each category; the thesis's are hollow, or markers on the others."""
    categories = {name: place for place, name in enumerate(chart.categories)}
    marked = [series for series in chart.series if series.is_thesis and chart.is_thesis_marked]
    count = len(chart.series) - len(marked)
    width = _GROUP / count
    handles: list[Any] = []
    for number, series in enumerate(chart.series):
        if series in marked:
            handles.append(_marks(axes, series, categories))
            continue
        shift = (number - (count - 1) / 2) * width
        bars = axes.bar(
            [categories[str(point.x)] + shift for point in series.points],
            [point.middle for point in series.points],
            0.9 * width,
            **_bar_look(series),
        )
        for bar, point in zip(bars, series.points, strict=True):
            bar.set_gid(f"{series.name} | {point.x}")
        handles.append(bars)
    axes.set_xticks(list(categories.values()), [_plain(name) for name in categories])
    axes.set_xlim(-0.5, len(categories) - 0.5)
    return handles


def _marks(axes: Axes, series: Series, categories: Mapping[str, int]) -> Any:
    """Draw a hollow marker in the middle of each category; each its own, to be found by its name."""
    look: dict[str, Any] = {"color": SOFT, "marker": "d", "markerfacecolor": "white", "linestyle": "none"}
    handles = [
        axes.plot([categories[str(point.x)]], [point.middle], markersize=9, gid=f"{series.name} | {point.x}", **look)
        for point in series.points
    ]
    return handles[0][0]


def _bar_look(series: Series) -> dict[str, Any]:
    hatch = HATCHES[series.dash % len(HATCHES)]
    if series.is_thesis:
        return {"facecolor": "white", "edgecolor": SOFT, "hatch": hatch, "linestyle": ":", "linewidth": 1.2}
    # One value has no spread: NaN draws no caps.
    spread = [
        [point.middle - point.low if point.count > 1 else math.nan for point in series.points],
        [point.high - point.middle if point.count > 1 else math.nan for point in series.points],
    ]
    return {
        "facecolor": COLOURS[series.colour % len(COLOURS)],
        "edgecolor": "white",
        "hatch": hatch,
        "linewidth": 0.5,
        "yerr": spread,
        "error_kw": {"ecolor": INK, "elinewidth": 1.0, "capsize": 3},
    }


def _style(axes: Axes, chart: Chart) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    if chart.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]) if chart.is_bars else 0)
    if chart.reach is not None:
        low, high = chart.reach
        axes.set_ylim((_LOG_ROOM[0] * low, _LOG_ROOM[1] * high) if chart.log_y else (min(0, low), _ROOM * high))
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:,g}")
    if not chart.is_bars:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda value, _position: f"{value:,g}")
    elif len(chart.categories) > 4 or max(map(len, chart.categories), default=0) > 18:
        axes.tick_params(axis="x", rotation=30)
        for text in axes.get_xticklabels():
            text.set_horizontalalignment("right")
            text.set_rotation_mode("anchor")
    axes.set_title(_plain(chart.title), loc="left", fontsize=12, fontweight="bold")
    axes.set_xlabel(_plain(chart.x_label))
    axes.set_ylabel(_plain(chart.y_label))
    axes.grid(visible=True, which="major", axis="y" if chart.is_bars else "both", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, chart: Chart, handles: list[Any]) -> None:
    labels = [_plain(series.name) for series in chart.series]
    figure.legend(handles, labels, loc="outside lower left", ncols=_legend_columns(chart), frameon=False, fontsize=9)


def _legend_columns(chart: Chart) -> int:
    longest = max((len(series.name) for series in chart.series), default=1)
    return 3 if longest < 28 else 2 if longest < 48 else 1


def _plain(text: str) -> str:
    """Text that a legend does not hide."""
    return f"\N{NO-BREAK SPACE}{text}" if text.startswith("_") else text
