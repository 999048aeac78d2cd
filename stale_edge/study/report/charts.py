"""Content of the figures before anything is drawn: series of points with their spread, and the thesis's beside them."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stale_edge.study.design import WHOLE_VIDEO, StudyName
from stale_edge.study.report import thesis
from stale_edge.study.report.chart_parts import in_parts
from stale_edge.study.report.labels import (
    REFERENCE_MARK,
    configurations,
    is_reference,
    method,
    network_of,
    one_line,
    percent,
)
from stale_edge.study.report.samples import Spread, ratio, samples
from stale_edge.study.report.simulated import told_of_charts
from stale_edge.study.report.timing_tables import GMACS, MEMORY, TIME, UTILISATION, baseline, timed
from stale_edge_runtime.formats.csv_cells import inert_cells

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeVar

    from stale_edge.study.design import Factor, Measurement
    from stale_edge.study.report.labels import Labelled
    from stale_edge.study.report.samples import Sample
    from stale_edge.study.report.timing_tables import Quantity

    Place = TypeVar("Place", float, str)

THESIS: Final = "thesis"
SPREAD: Final = "Mean; whiskers and bands: standard deviation."
MEAN: Final = f"{SPREAD} † A reference, no training of its own."
MEDIAN: Final = "Median; band: quartiles."
FAR_APART: Final = 20
"""Factor between times from which on an axis is logarithmic."""


@dataclass(frozen=True)
class Point:
    """One place of a series."""

    x: float | str
    """Position: a number on a line, a category among bars."""
    middle: float
    """Mean or median."""
    low: float
    """Lower end of the spread."""
    high: float
    """Upper end of the spread."""
    count: int
    """Values behind it; 0 for the thesis's."""


@dataclass(frozen=True)
class Series:
    """Points that belong together."""

    name: str
    """Name in the legend, unique in its chart."""
    points: tuple[Point, ...]
    """Points in the order of x."""
    colour: int
    """Number of its colour and marker: of what was measured."""
    dash: int
    """Number of its line style: of the machine where there are several."""
    is_thesis: bool = False
    """Whether the series is the thesis's, drawn apart."""
    machine: str = ""
    """Machine that it was measured on."""
    topic: str = ""
    """Part of a chart with too many series that it is shown in: its network, or references."""


@dataclass(frozen=True)
class Chart:
    """A figure before it is drawn."""

    key: str
    """Name in the report, fit for a file name."""
    title: str
    """A few words."""
    caption: str
    """Content of the chart, and the thesis's finding."""
    x_label: str
    """Label of the x axis, with its unit."""
    y_label: str
    """Label of the y axis, with its unit."""
    series: tuple[Series, ...]
    """Series in the order of the legend."""
    is_bars: bool = False
    """Whether x are categories."""
    is_thesis_marked: bool = False
    """Whether the thesis's values are markers on bars rather than hollow bars between them."""
    log_y: bool = False
    """Whether y grows by factors."""
    reach: tuple[float, float] | None = None
    """Least and greatest value of all parts of a chart, so that their y axes are the same; none for a whole one."""

    @property
    def categories(self) -> tuple[str, ...]:
        """All categories in order, of bars."""
        return tuple(dict.fromkeys(str(point.x) for series in self.series for point in series.points))

    def to_csv(self) -> str:
        """Write every point as a line."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(inert_cells(["series", self.x_label, self.y_label, "low", "high", "values"]))
        for series in self.series:
            for point in series.points:
                cells = [series.name, point.x, point.middle, point.low, point.high, point.count]
                writer.writerow(inert_cells(cells))
        return text.getvalue()


def charts_of(runs: Sequence[Labelled]) -> tuple[Chart, ...]:
    """Make all figures of one study.

    Args:
        runs: Runs of the same study, labelled by machine; those without measurements are left out.
    """
    measured = [item for item in runs if item.run.measurements]
    found = _MAKERS[measured[0].run.study](measured) if measured else ()
    drawn = [chart for chart in found if any(not series.is_thesis for series in chart.series)]
    parts = [part for chart in told_of_charts(drawn, measured) for part in in_parts(chart)]
    return tuple(map(_with_honest_spread, parts))


def _with_honest_spread(chart: Chart) -> Chart:
    """Say that there is no spread where nothing was measured twice."""
    if any(point.count > 1 for series in chart.series for point in series.points):
        return chart
    caption = chart.caption.replace(SPREAD, "One repeat: its spread is not known.")
    return replace(chart, caption=caption.replace(MEDIAN, "One value each."))


def _closed_set(runs: Sequence[Labelled]) -> tuple[Chart, ...]:
    lines = _Lines(several=len(runs) > 1)
    for item in runs:
        for (name, fraction), sample in _trained_first(item, lambda one: 100 * float(one["fraction"])):
            lines.add(item.machine, name, fraction, sample.mean(100), _topic(name))
    caption = f"{MEAN} The thesis finds it flat with score enhancement, rising without."
    series = lines.series()
    return (
        Chart("fig-3", "mAP against training data (Fig. 3)", caption, "training data, %", "average mAP, %", series),
    )


def _open_set(runs: Sequence[Labelled]) -> tuple[Chart, ...]:
    def place_of(factors: Mapping[str, Factor]) -> str:
        return f"{one_line(factors['split'])}, {percent(factors['fraction'])}"

    lines = _Lines(several=len(runs) > 1)
    known: dict[str, dict[str, float]] = {}
    for item in runs:
        for (name, place), sample in _trained_first(item, place_of):
            lines.add(item.machine, name, place, sample.mean(100), _topic(name))
        for measurement in item.run.measurements:
            factors = measurement.factors
            how, fraction = one_line(factors["enhancement"]), float(factors["fraction"])
            value = thesis.open_set(one_line(factors["split"]), how, fraction)
            if value is not None:
                known.setdefault(f"{THESIS}, {how} enhancement", {})[place_of(factors)] = value
    series = (*lines.series(), *(_thesis(name, values, place) for place, (name, values) in enumerate(known.items())))
    caption = f"{MEAN} Hollow bars: the thesis's Table 1."
    title = "Unseen classes (Table 1)"
    return (Chart("open-set", title, caption, "split, training data", "average mAP, %", series, is_bars=True),)


def _trained_first(
    item: Labelled, place: Callable[[Mapping[str, Factor]], Place]
) -> list[tuple[tuple[str, Place], Sample]]:
    """Average mAP by method with its enhancement and by place, what was not trained at the end."""

    def key(measurement: Measurement) -> tuple[str, Place]:
        factors = measurement.factors
        name = f"{method(factors['method'], item.run.options)}, {one_line(factors['enhancement'])} enhancement"
        return name, place(factors)

    return sorted(samples(item.run, "average_map", key).items(), key=lambda found: REFERENCE_MARK in found[0][0])


def _topic(name: str) -> str:
    """Name the part of a crowded chart that a method is shown in: trainings, labels on whole videos, or references."""
    if REFERENCE_MARK not in name:
        return ""
    return WHOLE_VIDEO if WHOLE_VIDEO in name else REFERENCE_MARK


class _Cost(NamedTuple):
    """A column of Table 2."""

    key: str
    """Key of the chart."""
    metric: str
    """Name of the metric."""
    scale: float
    """Factor from the metric's unit to the one that is shown."""
    title: str
    """Title of the chart."""
    label: str
    """Label of the axis."""
    caption: str
    """Meaning of the metric, and the device of the thesis's values."""
    thesis: Mapping[str, float]
    """The thesis's values by method."""


_COSTS: Final = (
    _Cost(
        "table-2-seconds",
        "seconds",
        1,
        "Time of a training (Table 2)",
        "seconds",
        f"Validations included. Diamonds: the thesis's, on a {thesis.TRAINING_DEVICE}.",
        {row.method: row.seconds for row in thesis.TRAINING},
    ),
    _Cost(
        "table-2-memory",
        "peak_rss_mb",
        1,
        "Memory of a training",
        "peak memory, MB",
        "Most that the process held, videos included.",
        {},
    ),
    _Cost(
        "table-2-map",
        "average_map",
        100,
        "What a training reaches (Table 2)",
        "average mAP, %",
        "Diamonds: the thesis's, of ActivityNet's features.",
        {row.method: row.average_map for row in thesis.TRAINING},
    ),
)


def _training(runs: Sequence[Labelled]) -> tuple[Chart, ...]:
    return tuple(_cost(runs, cost) for cost in _COSTS)


def _cost(runs: Sequence[Labelled], cost: _Cost) -> Chart:
    """Chart one cost of a training by method, the thesis's network in the place of ours of the same name."""
    lines = _Lines(several=len(runs) > 1)
    places: dict[str, str] = {}
    for item in runs:
        found = samples(item.run, cost.metric, lambda one: str(one.factors["method"]))
        for which in sorted(found, key=lambda which: is_reference(which, item.run.options)):
            name = method(which, item.run.options)
            places.setdefault(name.lower(), name)
            lines.add(item.machine, "measured", name, found[which].mean(cost.scale))
    known = {places.get(name.lower(), name): value for name, value in cost.thesis.items()}
    series = (*lines.series(), *([_thesis(THESIS, known, 0)] if known else []))
    caption = f"{SPREAD} {cost.caption}"
    return Chart(cost.key, cost.title, caption, "method", cost.label, series, is_bars=True, is_thesis_marked=True)


def _ablation(runs: Sequence[Labelled]) -> tuple[Chart, ...]:
    lines = _Lines(several=len(runs) > 1)
    for item in runs:
        references: list[tuple[str, str, Spread]] = []
        found = samples(item.run, "average_map", lambda one: (str(one.factors["method"]), str(one.factors["subset"])))
        for (which, subset), sample in found.items():
            place = f"{one_line(subset)} classes"
            name = method(which, item.run.options)
            if is_reference(which, item.run.options):
                references.append((name, place, sample.mean(100)))
            else:
                lines.add(item.machine, place, name, sample.mean(100))
        for name, place, spread in references:
            lines.add(item.machine, place, name, spread)
    caption = MEAN
    title = "Methods and reference points"
    return (Chart("ablation", title, caption, "method", "average mAP, %", lines.series(), is_bars=True),)


def _localization(runs: Sequence[Labelled]) -> tuple[Chart, ...]:
    """Chart the unseen classes, which the network is for, by world: one colour for each method."""
    lines = _Lines(several=len(runs) > 1)
    for item in runs:
        found = samples(item.run, "average_map", lambda one: tuple(map(str, map(one.factors.get, _LOCALIZED))))
        for (world, which, subset), sample in found.items():
            if subset.lower() == "unseen":
                lines.add(item.machine, method(which, item.run.options), one_line(world), sample.mean(100))
    caption = f"{SPREAD} † A reference point, or made from the boundary map's detections."
    title = "Unseen classes in several worlds"
    return (Chart("localization", title, caption, "world", "average mAP, %", lines.series(), is_bars=True),)


def _robustness(runs: Sequence[Labelled]) -> tuple[Chart, ...]:
    """Chart the unseen classes by world: trained networks beside the references, then their labels on whole videos."""
    lines = _Lines(several=len(runs) > 1)
    for item in runs:
        found = samples(item.run, "average_map", lambda one: tuple(map(str, map(one.factors.get, _LOCALIZED))))
        unseen = [key for key in found if key[2].lower() == "unseen"]
        for key in sorted(unseen, key=lambda key: (WHOLE_VIDEO in key[1], is_reference(key[1], item.run.options))):
            name, topic = method(key[1], item.run.options), WHOLE_VIDEO if WHOLE_VIDEO in key[1] else ""
            lines.add(item.machine, name, one_line(key[0]), found[key].mean(100), topic)
    title = "Unseen classes by what the world assumes"
    return (Chart("robustness", title, MEAN, "world", "average mAP, %", lines.series(), is_bars=True),)


_LOCALIZED: Final = ("world", "method", "subset")


def _inference(runs: Sequence[Labelled]) -> tuple[Chart, ...]:
    return (
        _by_length("fig-4a", "Time against length (Fig. 4a)", runs, TIME, thesis.TIME_MS),
        _by_length("fig-4b-utilisation", "Utilisation against length (Fig. 4b)", runs, UTILISATION, thesis.UTILISATION),
        _by_length("fig-4b-gmacs", "Arithmetic against length (Fig. 4b)", runs, GMACS, {}),
        _by_length("fig-4b-memory", "Memory against length (Fig. 4b)", runs, MEMORY, {}),
    )


def _quantization(runs: Sequence[Labelled]) -> tuple[Chart, ...]:
    factors = (
        f" Thesis: int8 {thesis.INT8_SPEEDUP}× faster than fp32, {thesis.INT8_MEMORY}× less memory; GPU in fp32 "
        f"{thesis.GPU_SPEEDUP}× faster than int8."
    )
    return (
        _by_length("fig-4c-time", "Time by precision and engine (Fig. 4c)", runs, TIME, {}, factors, log_y=True),
        _speed_up(runs, factors),
        _by_length("fig-4c-memory", "Memory by precision and engine (Fig. 4c)", runs, MEMORY, {}, factors),
    )


def _speed_up(runs: Sequence[Labelled], factors: str) -> Chart:
    """Chart how many times faster than PyTorch int8 the files are, against length."""
    lines = _of_configurations(runs)
    for item in runs:
        names, base, by_length = configurations(item.run), baseline(item.run, "int8"), timed(item.run, TIME.metric)
        for (key, snippets), sample in by_length.items():
            if base is not None and key != base and (base, snippets) in by_length:
                factor, _ = ratio(by_length[base, snippets], sample)
                spread = Spread(factor.value, factor.low, factor.high, sample.values().size)
                lines.add(item.machine, names[key], snippets, spread, network_of(key))
    caption = "Ratio of medians to PyTorch int8 on the same machine's CPU; band: 95 % interval." + factors
    title = "Times faster than PyTorch int8"
    return Chart("fig-4c-speed-up", title, caption, "snippets, T", "times faster", lines.series(), log_y=True)


_MAKERS: Final[Mapping[StudyName, Callable[[Sequence[Labelled]], tuple[Chart, ...]]]] = {
    StudyName.OPEN_SET: _open_set,
    StudyName.CLOSED_SET: _closed_set,
    StudyName.TRAINING: _training,
    StudyName.INFERENCE: _inference,
    StudyName.QUANTIZATION: _quantization,
    StudyName.ABLATION: _ablation,
    StudyName.LOCALIZATION: _localization,
    StudyName.ROBUSTNESS: _robustness,
}


def _by_length(
    key: str,
    title: str,
    runs: Sequence[Labelled],
    quantity: Quantity,
    known: Mapping[int, float],
    more: str = "",
    *,
    log_y: bool = False,
) -> Chart:
    lines = _of_configurations(runs)
    for item in runs:
        names = configurations(item.run)
        for (configuration, snippets), sample in timed(item.run, quantity.metric).items():
            spread = sample.median(quantity.scale)
            lines.add(item.machine, names[configuration], snippets, spread, network_of(configuration))
    series = lines.series()
    caption = f"{MEDIAN} {quantity.brief}{more}"
    if known and series:
        series = (*series, _thesis("thesis (GPU)", known, 0))
        caption += " The thesis's: the two ends of its line, on its GPU."
    y_label = f"{quantity.title.lower()}, {quantity.unit}"
    return Chart(key, title, caption, "snippets, T", y_label, series, log_y=log_y or _needs_log(quantity, series))


def _needs_log(quantity: Quantity, series: Sequence[Series]) -> bool:
    """Whether times lie so far apart that the small ones would lie on the axis."""
    values = [point.middle for one in series for point in one.points if point.middle > 0]
    return quantity is TIME and bool(values) and max(values) > FAR_APART * min(values)


class _Lines:
    """Gathers points into series: one colour for what was measured, one line style for the machine.

    Args:
        several: Whether there is more than one machine, so that names must say which.
        names: Names that may be measured, so that each has its colour in every chart, whatever is left out there.
    """

    def __init__(self, *, several: bool, names: Iterable[str] = ()) -> None:
        self._several = several
        self._names = tuple(names)
        self._points: dict[tuple[str, str], list[Point]] = {}
        self._topics: dict[str, str] = {}

    def add(self, machine: str, name: str, x: float | str, spread: Spread, topic: str = "") -> None:
        """Take one point in; the topic is that of its series."""
        point = Point(x, spread.middle, spread.low, spread.high, spread.count)
        self._points.setdefault((machine, name), []).append(point)
        self._topics[name] = topic

    def series(self) -> tuple[Series, ...]:
        """Return all series, each with its points in order."""
        colours = {name: number for number, name in enumerate(dict.fromkeys(self._names))}
        machines: dict[str, int] = {}
        found = []
        for (machine, name), points in self._points.items():
            colour = colours.setdefault(name, len(colours))
            dash = machines.setdefault(machine, len(machines)) if self._several else colour
            label = f"{name} – {machine}" if self._several else name
            ordered = tuple(sorted(points, key=_place))
            found.append(Series(label, ordered, colour, dash, machine=machine, topic=self._topics[name]))
        return tuple(found)


def _of_configurations(runs: Sequence[Labelled]) -> _Lines:
    names = [name for item in runs for name in configurations(item.run).values()]
    return _Lines(several=len(runs) > 1, names=names)


def _place(point: Point) -> float:
    return 0.0 if isinstance(point.x, str) else point.x


def _thesis(name: str, values: Mapping[Any, float], place: int) -> Series:
    points = tuple(Point(x, value, value, value, 0) for x, value in values.items())
    return Series(name, points, place, place, is_thesis=True)
