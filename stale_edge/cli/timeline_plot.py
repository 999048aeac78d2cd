"""`detect --picture`: what was found, as lanes of classes over time, the ground truth in the same lane."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from stale_edge.extras import require_plot
from stale_edge.palette import COLOURS, GRID, INK, SOFT
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.formats.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stale_edge_runtime.decoding import Detection

MAX_PANELS = 8
MAX_LANES = 16
MAX_LEVELS = 3
NAME_WIDTH = 30
FORMATS = {".png": "png", ".svg": "svg"}

LANE_INCHES = 0.42
PANEL_INCHES = 0.85
LEGEND_INCHES = 0.75
WIDTH_INCHES = 11.0
FAINTEST = 0.10
NARROWEST = 500
"""Parts of the time axis that a bar takes up at least one of."""
TICK_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800)


@dataclass(frozen=True)
class TimelinePanel:
    """One video of the picture."""

    video_id: str
    """Shown above the panel."""
    length: float
    """Length of the time axis."""
    detections: Sequence[Detection]
    """Detections to draw."""
    truth: Sequence[tuple[float, float, str]] | None = None
    """Start, end and label of the ground truth; None where there is none."""
    in_seconds: bool = True
    """The unit of all times: seconds or snippets."""


def check_picture(target: Path, videos: int) -> None:
    """Refuse what cannot be drawn, before any work is done.

    Args:
        target: File to write.
        videos: Number of videos in the picture.

    Raises:
        UsageError: The name does not end in .png or .svg, or there are too many videos.
        UnavailableError: matplotlib is not installed.
    """
    if target.suffix.lower() not in FORMATS:
        raise UsageError(target, "is not a picture that can be written", "end its name in .png or .svg")
    if videos > MAX_PANELS:
        raise UsageError(target, f"would show {videos} videos, {MAX_PANELS} fit", "name fewer videos with --picture")
    require_plot("detect --picture")


def write_timeline(target: Path, panels: Sequence[TimelinePanel]) -> None:
    """Draw the panels one above the other and write them as PNG or SVG, by the ending of `target`.

    Opacity is the score in parts of the highest score of the picture; the legend shows the scale.

    Raises:
        UsageError: See `check_picture`; also when there is nothing to draw.
        CannotWriteError: The folder is missing or not writable.
    """
    check_picture(target, len(panels))
    if not panels:
        raise UsageError(target, "has no video to show", "see the errors above")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    top = max((d.score for panel in panels for d in panel.detections), default=0.0) or 1.0
    lanes = [_lanes(panel) for panel in panels]
    labels = dict.fromkeys(label for shown, _ in lanes for label in shown)
    colours = {label: COLOURS[index % len(COLOURS)] for index, label in enumerate(labels)}
    heights = [PANEL_INCHES + LANE_INCHES * max(1, len(shown)) for shown, _ in lanes]
    # A fixed salt and no date: the same result gives the same file.
    settings: Any = {"svg.hashsalt": "stale-edge", "font.size": 9, "axes.edgecolor": INK, "text.parse_math": False}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(WIDTH_INCHES, sum(heights) + LEGEND_INCHES), layout="constrained")
        grid = figure.add_gridspec(len(panels) + 1, 1, height_ratios=[*heights, LEGEND_INCHES])
        for row, (panel, (shown, hidden)) in enumerate(zip(panels, lanes, strict=True)):
            _draw_panel(figure.add_subplot(grid[row]), panel, shown, hidden, colours, top)
        with_truth = any(panel.truth is not None for panel in panels)
        _draw_legend(figure.add_subplot(grid[len(panels)]), top, with_truth=with_truth)
        kind = FORMATS[target.suffix.lower()]
        metadata = {"Date": None} if kind == "svg" else {}
        with atomic_path(target) as temporary:
            figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)


def _lanes(panel: TimelinePanel) -> tuple[list[str], int]:
    """Labels to show, ground truth first, then by best score; and how many are left out."""
    best: dict[str, tuple[int, float]] = {}
    for found in panel.detections:
        best[found.label] = max(best.get(found.label, (0, 0.0)), (0, found.score))
    for _, _, label in panel.truth or ():
        best[label] = (1, best.get(label, (0, 0.0))[1])
    ordered = sorted(best, key=lambda label: (-best[label][0], -best[label][1], label))
    return ordered[:MAX_LANES], max(0, len(ordered) - MAX_LANES)


def _draw_panel(
    axes: Any, panel: TimelinePanel, labels: list[str], hidden: int, colours: dict[str, str], top: float
) -> None:
    rows = {label: row for row, label in enumerate(labels)}
    covered = _draw_detections(axes, panel, rows, colours, top)
    for start, end, label in panel.truth or ():
        if label in rows:
            axes.broken_barh(
                [(start, end - start)], (rows[label] - 0.42, 0.22), facecolor=INK, edgecolor="white", lw=0.6
            )
    for boundary in range(1, len(labels)):
        axes.axhline(boundary - 0.5, color=GRID, lw=0.7, zorder=0)
    if not labels:
        axes.text(0.5, 0.5, "nothing found", transform=axes.transAxes, ha="center", va="center", color="grey")
    axes.set_ylim(max(1, len(labels)) - 0.5, -0.55)
    axes.set_yticks(range(len(labels)), [shorten_name(label) for label in labels])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, panel.length)
    _label_time(axes, panel)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(shorten_name(panel.video_id, 60), loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.set_title(_summary(panel, hidden, covered), loc="right", fontsize=8, color=SOFT)


def _draw_detections(axes: Any, panel: TimelinePanel, rows: dict[str, int], colours: dict[str, str], top: float) -> int:
    """Draw what fits and return how many detections did not: the weakest of those that lie over each other."""
    from matplotlib.colors import to_rgb

    levels = {label: stack([d for d in panel.detections if d.label == label]) for label in rows}
    strips = _strips(max(map(len, levels.values()), default=1), with_truth=panel.truth is not None)
    for label, row in rows.items():
        for (bottom, height), level in zip(strips, levels[label], strict=False):
            for found in level:
                opacity = _opacity(found.score, top)
                paint = tuple(1 - opacity * (1 - part) for part in to_rgb(colours[label]))
                # What is shorter than a pixel would vanish.
                width = max(found.end_s - found.start_s, panel.length / NARROWEST)
                start = min(found.start_s, panel.length - width)
                # White edges part neighbours; on hair-thin bars they would hide the bar.
                edge = {"edgecolor": "white", "lw": 0.7} if width > panel.length / 150 else {"edgecolor": "none"}
                axes.broken_barh([(start, width)], (row + bottom, height), facecolor=paint, **edge)
        if levels[label]:
            bottom, height = strips[0]
            _write_best_score(axes, panel, levels[label][0][0], row + bottom + height / 2, top)
    shown = sum(len(level) for found in levels.values() for level in found)
    return sum(d.label in rows for d in panel.detections) - shown


def stack(detections: Sequence[Detection]) -> list[list[Detection]]:
    """Detections of one lane in levels without overlaps, the best in the first; what fits in none is left out."""
    levels: list[list[Detection]] = []
    for found in sorted(detections, key=lambda d: -d.score):
        for level in levels:
            if all(found.end_s <= other.start_s or found.start_s >= other.end_s for other in level):
                level.append(found)
                break
        else:
            if len(levels) < MAX_LEVELS:
                levels.append([found])
    return levels


def _strips(levels: int, *, with_truth: bool) -> list[tuple[float, float]]:
    """Bottom and height of each level in its lane: the best one high, the others thin below it."""
    bottom, height = (-0.16, 0.56) if with_truth else (-0.36, 0.72)
    if levels <= 1:
        return [(bottom, height)]
    thin = height / 5
    first = height - thin * (levels - 1)
    return [(bottom, first), *((bottom + first + thin * index, thin) for index in range(levels - 1))]


def _write_best_score(axes: Any, panel: TimelinePanel, found: Detection, height: float, top: float) -> None:
    if found.end_s - found.start_s < panel.length / 16:
        return
    axes.text(
        (found.start_s + found.end_s) / 2,
        height,
        f"{found.score:.2g}",
        ha="center",
        va="center_baseline",
        fontsize=7.5,
        color="white" if _opacity(found.score, top) > 0.55 else INK,
    )


def _opacity(score: float, top: float) -> float:
    return FAINTEST + (1 - FAINTEST) * min(1.0, max(0.0, score / top))


def _label_time(axes: Any, panel: TimelinePanel) -> None:
    if not panel.in_seconds:
        axes.set_xlabel("snippets", fontsize=8)
        return
    wide = [step for step in TICK_STEPS_S if panel.length / step <= 12]
    step = wide[0] if wide else panel.length / 10
    if panel.length < 6:
        axes.set_xlabel("seconds", fontsize=8)
        return
    ticks = [step * index for index in range(int(panel.length // step) + 1)]
    axes.set_xticks(ticks, [clock(tick, panel.length) for tick in ticks])
    axes.set_xlabel("seconds" if panel.length <= 120 else "time", fontsize=8)


def clock(seconds: float, length: float) -> str:
    """Write a time for the axis of a video of `length` seconds: seconds, m:ss or h:mm:ss."""
    whole = round(seconds)
    if length <= 120:
        return str(whole)
    minutes, rest = divmod(whole, 60)
    if length <= 3600:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def shorten_name(name: str, width: int = NAME_WIDTH) -> str:
    """Shorten a name to fit beside its lane; the middle of a long word is left out."""
    printable = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    if len(printable) <= width:
        return printable
    with contextlib.suppress(ValueError):
        short = shorten(printable, width, placeholder="…")
        if len(short) > width // 2:
            return short
    return printable[: width // 2] + "…" + printable[-(width - width // 2 - 1) :]


def _summary(panel: TimelinePanel, hidden: int, covered: int) -> str:
    parts = [_count(len(panel.detections), "detection")]
    if panel.truth is not None:
        parts.append(_count(len(panel.truth), "true instance"))
    if covered:
        parts.append(f"{covered} weaker overlapping ones not shown")
    if hidden:
        parts.append(f"{hidden} more {'class' if hidden == 1 else 'classes'} not shown")
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _draw_legend(axes: Any, top: float, *, with_truth: bool) -> None:
    """Draw a scale of opacity in neutral grey-blue, and the bar of the ground truth."""
    axes.set_axis_off()
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 1)
    steps = 40
    for step in range(steps):
        shade = 1 - _opacity(top * (step + 0.5) / steps, top) * (1 - 0.25)
        axes.broken_barh([(step * 0.5, 0.52)], (0.42, 0.4), facecolor=(shade,) * 3, edgecolor="none")
    for position, score, side in ((0, 0.0, "left"), (20, top, "right")):
        axes.text(position, 0.3, f"{score:.2g}", ha=side, va="top", fontsize=7.5, color=INK)
    axes.text(21, 0.62, "score of a detection", va="center", fontsize=8, color=INK)
    if with_truth:
        axes.broken_barh([(45, 5)], (0.54, 0.16), facecolor=INK)
        axes.text(51, 0.62, "ground truth", va="center", fontsize=8, color=INK)
