"""Crowded charts in parts: no chart has more series than a reader tells apart."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from stale_edge.palette import COLOURS, MOST_SERIES

if TYPE_CHECKING:
    from stale_edge.study.report.charts import Chart, Series


def in_parts(chart: Chart) -> tuple[Chart, ...]:
    """Split a chart that has too many series: by machine, then by what belongs together, then evenly.

    The thesis's series are in every part. Where a machine has too many series for one part, its first one, which others
    are read beside, is in each of its parts. Colours stay those of the whole while there are enough of them, and the y
    axes of all parts are the same.

    Args:
        chart: The chart.

    Returns:
        The chart alone where it fits.
    """
    theirs = tuple(series for series in chart.series if series.is_thesis)
    ours = tuple(series for series in chart.series if not series.is_thesis)
    if len(chart.series) <= MOST_SERIES:
        return (chart,)
    room = MOST_SERIES - len(theirs)
    groups: list[tuple[Series, ...]] = []
    for _, of_machine in groupby(ours, key=lambda series: series.machine):
        for piece in _pieces(tuple(of_machine), room):
            fits = bool(groups) and len(groups[-1]) + len(piece) <= room
            groups[-1:] = [groups[-1] + piece] if fits else [*groups[-1:], piece]
    points = [point for series in chart.series for point in series.points]
    reach = min(point.low for point in points), max(point.high for point in points)
    return tuple(
        replace(
            chart,
            reach=reach,
            key=chart.key if number == 1 else f"{chart.key}-{number}",
            title=f"{chart.title}, part {number} of {len(groups)}",
            series=(*_told_apart(group), *theirs),
        )
        for number, group in enumerate(groups, 1)
    )


def _told_apart(group: tuple[Series, ...]) -> tuple[Series, ...]:
    """Give another colour to what would have that of an earlier series, as there are fewer colours than series."""
    taken: dict[int, int] = {}
    found = []
    for series in group:
        colour = series.colour
        if taken.setdefault(colour % len(COLOURS), colour) != colour:
            colour = next(number for number in range(len(COLOURS)) if number not in taken)
            taken[colour] = colour
        found.append(replace(series, colour=colour))
    return tuple(found)


def _pieces(group: tuple[Series, ...], room: int) -> list[tuple[Series, ...]]:
    """Cut the series of one machine into pieces, each with the first series: by topic, a large one evenly.

    The first series' topic has pieces of its own; small ones after it share a piece.
    """
    if len(group) <= room:
        return [group]
    first, *others = group
    pieces: list[list[Series]] = []
    for topic in dict.fromkeys(series.topic for series in others):
        of_topic = [series for series in others if series.topic == topic]
        count = -(-len(of_topic) // (room - 1))
        size = -(-len(of_topic) // count)
        for start in range(0, len(of_topic), size):
            piece = of_topic[start : start + size]
            fits = bool(pieces) and pieces[-1][0].topic != first.topic and len(pieces[-1]) + len(piece) < room
            pieces[-1:] = [pieces[-1] + piece] if fits else [*pieces[-1:], piece]
    return [(first, *piece) for piece in pieces]
