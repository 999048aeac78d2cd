"""Charts of HTML alone: they take the width and the look of the page they are on, and need no script."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

from stale_edge.palette import class_colour

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.formats.annotations import Instance

NARROWEST: Final = 0.6
"""Least width of a bar of a timeline, in percent."""
STYLE: Final = """
.bars { display: grid; grid-template-columns: minmax(7rem, 15rem) minmax(0, 1fr); gap: .3rem .8rem;
  margin: .6rem 0 1.4rem; }
.bars dt { grid-column: 1; line-height: 1.3; align-self: center; overflow-wrap: anywhere; }
.bars dd { grid-column: 2; margin: 0 0 .35rem; min-width: 0; line-height: 1.35; font-size: .93rem; }
.bars i { display: block; height: .7rem; border-radius: 3px; background: var(--soft); min-width: 2px; }
.bars .ours i { background: var(--accent); }
.bars .ours { font-weight: 600; }
.bars b { font-weight: inherit; font-variant-numeric: tabular-nums; }
.clip { margin: 1.2rem 0; } .clip figcaption { color: var(--ink); font-weight: 600; margin-bottom: .25rem; }
.clip figcaption span { color: var(--soft); font-weight: 400; }
.lane { display: grid; grid-template-columns: 8.5rem minmax(0, 1fr); gap: 0 .7rem; align-items: center; }
.lane .who { font-size: .87rem; color: var(--soft); text-align: right; }
.track { position: relative; height: 1.5rem; background: var(--raised); border-bottom: 1px solid var(--paper); }
.track i { position: absolute; top: .2rem; bottom: .2rem; border-radius: 3px; }
.track i.weaker { top: .55rem; bottom: .55rem; }
.best { grid-column: 2; font-size: .83rem; color: var(--soft); margin: 0 0 .35rem; }
.axis { grid-column: 2; display: flex; justify-content: space-between; font-size: .8rem; color: var(--soft); }
@media (max-width: 560px) {
  .bars, .lane { grid-template-columns: minmax(0, 1fr); } .bars dt, .bars dd, .best, .axis { grid-column: 1; }
  .bars { gap: .1rem; } .bars dd { margin-bottom: .5rem; } .lane .who { text-align: left; }
}
"""


@dataclass(frozen=True)
class HtmlBar:
    """A bar from zero."""

    name: str
    """Name of what is measured."""
    value: float
    """Length of the bar; not negative."""
    text: str
    """Value as it is written beside the bar."""
    is_ours: bool = False
    """Mark of a bar that stands out."""


@dataclass(frozen=True)
class ClipRow:
    """Detections of one method in a video."""

    name: str
    """Name of the method."""
    detections: Sequence[Detection]
    """Detections to draw, the best first."""


def bars(rows: Sequence[HtmlBar]) -> str:
    """Draw bars below each other, from zero, with their values beside them.

    Args:
        rows: Bars of one unit.
    """
    longest = max((row.value for row in rows), default=0.0) or 1.0
    lines = []
    for row in rows:
        kind = ' class="ours"' if row.is_ours else ""
        width = 100 * row.value / longest
        bar = f'<i style="width:{width:.2f}%"></i>'
        lines.append(f"<dt{kind}>{escape(row.name)}</dt><dd{kind}>{bar}<b>{escape(row.text)}</b></dd>")
    return f'<dl class="bars">{"".join(lines)}</dl>'


def clip(
    name: str, note: str, length_s: float, truth: Sequence[Instance], rows: Sequence[ClipRow], address: str = ""
) -> str:
    """Draw a video: ground truth, then a lane for each method; its best detection is written below.

    Args:
        name: Name of the video.
        note: Words after the name.
        length_s: Length of the video.
        truth: True instances.
        rows: Methods and their detections.
        address: Place where the video can be watched; '' for none.
    """
    title = f'<a href="{escape(address)}">{escape(name)}</a>' if address else escape(name)
    lanes = "".join(
        [
            _lane("truth", [_bar(one.start_s, one.end_s, length_s, "var(--ink)") for one in truth]),
            f'<p class="best">{escape("; ".join(_words(one.label, one.start_s, one.end_s) for one in truth))}</p>',
            *(_method(row, length_s) for row in rows),
        ]
    )
    ticks = "".join(f"<span>{clock(length_s * part / 4)}</span>" for part in range(5))
    return (
        f'<figure class="clip"><figcaption>{title} <span>{escape(note)}</span></figcaption>'
        f'<div class="lane">{lanes}<div class="axis">{ticks}</div></div></figure>'
    )


def clock(seconds: float) -> str:
    """Write a time as m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _method(row: ClipRow, length_s: float) -> str:
    drawn = [
        _bar(found.start_s, found.end_s, length_s, f"var(--class-{class_colour(found.label)})", weaker=place > 0)
        for place, found in enumerate(row.detections)
    ]
    best = row.detections[0] if row.detections else None
    words = "nothing found" if best is None else _words(best.label, best.start_s, best.end_s, best.score)
    # The best is drawn last, above the weaker ones.
    return f'{_lane(row.name, drawn[::-1])}<p class="best">{escape(words)}</p>'


def _lane(name: str, drawn: Sequence[str]) -> str:
    return f'<span class="who">{escape(name)}</span><div class="track">{"".join(drawn)}</div>'


def _bar(start_s: float, end_s: float, length_s: float, colour: str, *, weaker: bool = False) -> str:
    left = min(100.0, 100 * max(0.0, start_s) / length_s)
    width = max(NARROWEST, min(100 - left, 100 * (end_s - max(0.0, start_s)) / length_s))
    kind = ' class="weaker"' if weaker else ""
    return f'<i{kind} style="left:{left:.2f}%;width:{width:.2f}%;background:{colour}"></i>'


def _words(label: str, start_s: float, end_s: float, score: float | None = None) -> str:
    times = f"{label}, {clock(start_s)} to {clock(end_s)}"
    return times if score is None else f"{times}, score {score:.2f}"
