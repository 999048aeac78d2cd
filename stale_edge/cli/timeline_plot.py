"""`detect --picture`: what was found, as lanes of classes over time, the ground truth in the same lane."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Final

from stale_edge.extras import require_plot
from stale_edge.palette import CLASS_COLOURS, GRID, INK, SOFT, class_colour
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.formats.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from stale_edge.pages.player.content import Sprite
    from stale_edge_runtime.decoding import Detection

MAX_LANES: Final = 16
"""Classes of a video that are drawn."""
MAX_LEVELS: Final = 3
"""Overlapping detections of a lane that are drawn."""
NAME_WIDTH: Final = 30
"""Letters of a name beside a lane."""
FORMATS: Final = {".png": "png", ".svg": "svg", ".pdf": "pdf"}

WIDTH_INCHES: Final = 11.0
PAGE_INCHES: Final = 15.0
"""Height that a page is filled to."""
PANEL_INCHES: Final = 0.95
"""Height of a panel's title and axis."""
LEGEND_INCHES: Final = 0.45
LEVEL_INCHES: Final = 0.2
TRUTH_INCHES: Final = 0.16
LANE_GAP_INCHES: Final = 0.14
FRAMES_INCHES: Final = 0.55
AXIS_INCHES: Final = 8.2
"""Width of a time axis, about: what names leave."""
LETTER_INCHES: Final = 0.072
"""Width of a digit of a score."""
NARROWEST: Final = 500
"""Parts of the time axis that a bar takes up at least one of."""
TICK_STEPS_S: Final = (*(0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800),)


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
    frames: Sprite | None = None
    """Small frames of the video, where it was at hand."""


@dataclass(frozen=True)
class _Lane:
    """Detections and true instances of one class."""

    label: str
    levels: list[list[Detection]]
    """Detections without overlaps, the best in the first level."""
    truth: list[tuple[float, float]]
    hidden: int
    """Number of detections that fit in no level."""

    def inches(self, *, with_truth: bool) -> float:
        """Give the height."""
        return LANE_GAP_INCHES + TRUTH_INCHES * with_truth + LEVEL_INCHES * max(1, len(self.levels))


def check_picture(target: Path) -> None:
    """Refuse what cannot be drawn, before any work is done.

    Raises:
        UsageError: The name does not end in .png, .svg or .pdf.
        UnavailableError: matplotlib is not installed.
    """
    if target.suffix.lower() not in FORMATS:
        raise UsageError(target, "is not a picture that can be written", f"end its name in {', '.join(FORMATS)}")
    require_plot("detect --picture")


def write_timeline(target: Path, panels: Sequence[TimelinePanel]) -> list[Path]:
    """Draw the panels one above the other and write them as PNG, SVG or PDF, by the ending of `target`.

    A page holds as many panels as fit. Pages are those of the PDF; those of other formats are files, `NAME-2.png` after
    `NAME.png`. Bars have the colour of their class and, where there is room, their score in or beside them.

    Returns:
        The files that were written.

    Raises:
        UsageError: See `check_picture`; also when there is nothing to draw.
        CannotWriteError: The folder is missing or not writable.
    """
    check_picture(target)
    if not panels:
        raise UsageError(target, "has no video to show", "see the errors above")
    import matplotlib as mpl

    kind = FORMATS[target.suffix.lower()]
    # A fixed salt and no date: the same result gives the same file.
    settings: Any = {"svg.hashsalt": "stale-edge", "font.size": 9, "axes.edgecolor": INK, "text.parse_math": False}
    with mpl.rc_context(settings):
        pages = _pages(panels)
        if kind == "pdf":
            from matplotlib.backends.backend_pdf import PdfPages

            with atomic_path(target) as temporary, PdfPages(temporary, metadata={"CreationDate": None}) as document:
                for page in pages:
                    document.savefig(_figure(page))
            return [target]
        metadata = {"Date": None} if kind == "svg" else {}
        written = []
        for number, page in enumerate(pages, 1):
            path = target if number == 1 else target.with_stem(f"{target.stem}-{number}")
            with atomic_path(path) as temporary:
                _figure(page).savefig(temporary, format=kind, dpi=150, metadata=metadata)
            written.append(path)
        return written


def _pages(panels: Sequence[TimelinePanel]) -> Iterator[list[tuple[TimelinePanel, list[_Lane], int]]]:
    """Fill pages with panels, their lanes and the number of classes left out."""
    page: list[tuple[TimelinePanel, list[_Lane], int]] = []
    height = 0.0
    for panel in panels:
        lanes, left_out = _lanes(panel)
        more = _panel_inches(panel, lanes)
        if page and height + more > PAGE_INCHES:
            yield page
            page, height = [], 0.0
        page.append((panel, lanes, left_out))
        height += more
    yield page


def _panel_inches(panel: TimelinePanel, lanes: Sequence[_Lane]) -> float:
    with_truth = panel.truth is not None
    inside = sum(lane.inches(with_truth=with_truth) for lane in lanes) or LEVEL_INCHES * 2
    return PANEL_INCHES + inside + (FRAMES_INCHES if panel.frames else 0.0)


def _figure(page: Sequence[tuple[TimelinePanel, list[_Lane], int]]) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    heights = [_panel_inches(panel, lanes) for panel, lanes, _ in page]
    margins = ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.15)
    figure = Figure(figsize=(WIDTH_INCHES, sum(heights) + LEGEND_INCHES + 0.3), layout=margins)
    grid = figure.add_gridspec(len(page) + 1, 1, height_ratios=[*heights, LEGEND_INCHES])
    for row, (panel, lanes, left_out) in enumerate(page):
        _draw_panel(figure.add_subplot(grid[row]), panel, lanes, left_out)
    _draw_legend(figure.add_subplot(grid[len(page)]), with_truth=any(panel.truth is not None for panel, *_ in page))
    return figure


def _lanes(panel: TimelinePanel) -> tuple[list[_Lane], int]:
    """Choose classes to show, those of the ground truth first, then by best score; and count those left out."""
    best: dict[str, tuple[int, float]] = {}
    for found in panel.detections:
        best[found.label] = max(best.get(found.label, (0, 0.0)), (0, found.score))
    for _, _, label in panel.truth or ():
        best[label] = (1, best.get(label, (0, 0.0))[1])
    ordered = sorted(best, key=lambda label: (-best[label][0], -best[label][1], label))
    lanes = []
    for label in ordered[:MAX_LANES]:
        own = [found for found in panel.detections if found.label == label]
        levels = stack(own)
        truth = [(start, end) for start, end, name in panel.truth or () if name == label]
        lanes.append(_Lane(label, levels, truth, len(own) - sum(map(len, levels))))
    return lanes, max(0, len(ordered) - MAX_LANES)


def _draw_panel(axes: Any, panel: TimelinePanel, lanes: Sequence[_Lane], left_out: int) -> None:
    with_truth = panel.truth is not None
    top = FRAMES_INCHES if panel.frames else 0.0
    if panel.frames:
        _draw_frames(axes, panel.frames, panel.length)
    middles = []
    for lane in lanes:
        height = lane.inches(with_truth=with_truth)
        middles.append(top + height / 2)
        _draw_lane(axes, panel, lane, top + LANE_GAP_INCHES / 2)
        top += height
        if lane is not lanes[-1]:
            axes.axhline(top, color=GRID, lw=0.7, zorder=0)
    if not lanes:
        axes.text(0.5, 0.5, "nothing found", transform=axes.transAxes, ha="center", va="center", color=SOFT)
        top += 2 * LEVEL_INCHES
    axes.set_ylim(top, 0)
    axes.set_yticks(middles, [shorten_name(lane.label) for lane in lanes])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, panel.length)
    _label_time(axes, panel)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(shorten_name(panel.video_id, 60), loc="left", fontsize=10, fontweight="bold", color=INK)
    hidden = sum(lane.hidden for lane in lanes)
    axes.set_title(_summary(panel, left_out, hidden), loc="right", fontsize=8, color=SOFT)


def _draw_lane(axes: Any, panel: TimelinePanel, lane: _Lane, top: float) -> None:
    if panel.truth is not None:
        bars = [(start, max(end - start, panel.length / NARROWEST)) for start, end in lane.truth]
        axes.broken_barh(bars, (top + 0.02, TRUTH_INCHES - 0.05), facecolor=INK, edgecolor="white", lw=0.6)
        top += TRUTH_INCHES
    colour = CLASS_COLOURS[class_colour(lane.label)]
    for level in lane.levels:
        ordered = sorted(level, key=lambda found: found.start_s)
        for place, found in enumerate(ordered):
            # What is shorter than a pixel would vanish.
            wide = max(found.end_s - found.start_s, panel.length / NARROWEST)
            start = min(found.start_s, panel.length - wide)
            # White edges part neighbours; on hair-thin bars they would hide the bar.
            edge = {"edgecolor": "white", "lw": 0.7} if wide > panel.length / 150 else {"edgecolor": "none"}
            axes.broken_barh([(start, wide)], (top + 0.01, LEVEL_INCHES - 0.02), facecolor=colour, **edge)
            free_until = ordered[place + 1].start_s if place + 1 < len(ordered) else panel.length
            _write_score(axes, panel.length, found.score, (start, start + wide, free_until), top + LEVEL_INCHES / 2)
        top += LEVEL_INCHES


def _write_score(axes: Any, length: float, score: float, places: tuple[float, float, float], height: float) -> None:
    """Write a score into its bar, or beside it where there is room, or not at all."""
    start, end, free_until = places
    text = f"{score:.2f}" if abs(score) >= 0.01 else f"{score:.1g}"
    wide = (len(text) + 1) * LETTER_INCHES / AXIS_INCHES * length
    style = {"va": "center_baseline", "fontsize": 8, "fontweight": "bold"}
    if wide <= end - start:
        axes.text((start + end) / 2, height, text, ha="center", color="white", **style)
    elif end + wide <= free_until:
        axes.text(end + wide * 0.12, height, text, ha="left", color=INK, **style)


def _draw_frames(axes: Any, sprite: Sprite, length: float) -> None:
    """Draw as many small frames as fit beside each other above the lanes, each at its time."""
    import numpy as np
    from PIL import Image

    strip = np.asarray(Image.open(io.BytesIO(sprite.jpeg)).convert("RGB"))
    count = max(1, round(AXIS_INCHES / (FRAMES_INCHES * sprite.width / sprite.height)))
    for place in range(count):
        frame = min(sprite.frames - 1, int((place + 0.5) / count * sprite.frames))
        picture = strip[:, frame * sprite.width : (frame + 1) * sprite.width]
        extent = (place / count * length, (place + 0.98) / count * length, FRAMES_INCHES - 0.04, 0.0)
        axes.imshow(picture, extent=extent, aspect="auto", interpolation="bilinear")


def stack(detections: Sequence[Detection]) -> list[list[Detection]]:
    """Sort detections of one lane into levels without overlaps, the best in the first; others are left out."""
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


def _label_time(axes: Any, panel: TimelinePanel) -> None:
    if not panel.in_seconds:
        axes.set_xlabel("snippets", fontsize=8, color=SOFT)
        return
    step = next((step for step in TICK_STEPS_S if panel.length / step <= 12), panel.length / 10)
    ticks = [step * index for index in range(int(panel.length / step + 1e-9) + 1)]
    axes.set_xticks(ticks, [clock(tick, panel.length) for tick in ticks])
    axes.set_xlabel("time, h:mm:ss" if panel.length > 3600 else "time, m:ss", fontsize=8, color=SOFT)


def clock(seconds: float, length: float) -> str:
    """Write a time for the axis of a video of `length` seconds: m:ss or h:mm:ss, with tenths in a short video."""
    tenths = length < 6
    whole = round(seconds * 10) / 10 if tenths else round(seconds)
    minutes, rest = divmod(whole, 60)
    text = f"{rest:04.1f}" if tenths else f"{int(rest):02d}"
    if length <= 3600:
        return f"{int(minutes)}:{text}"
    return f"{int(minutes) // 60}:{int(minutes) % 60:02d}:{text}"


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


def _summary(panel: TimelinePanel, left_out: int, hidden: int) -> str:
    parts = [_count(len(panel.detections), "detection")]
    if panel.truth is not None:
        parts.append(_count(len(panel.truth), "true instance"))
    if hidden:
        parts.append(f"{_count(hidden, 'weaker overlapping one')} not shown")
    if left_out:
        parts.append(f"{left_out} more {'class' if left_out == 1 else 'classes'} not shown")
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _draw_legend(axes: Any, *, with_truth: bool) -> None:
    axes.set_axis_off()
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 1)
    axes.broken_barh([(0, 4)], (0.3, 0.5), facecolor=SOFT)
    axes.text(2, 0.55, "0.90", ha="center", va="center_baseline", fontsize=8, fontweight="bold", color="white")
    axes.text(5, 0.55, "detection and its score; colours tell classes", va="center_baseline", fontsize=8, color=INK)
    if with_truth:
        axes.broken_barh([(45, 4)], (0.42, 0.26), facecolor=INK)
        axes.text(50, 0.55, "ground truth", va="center_baseline", fontsize=8, color=INK)
