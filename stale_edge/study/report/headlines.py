"""Headlines of the report: one figure of each study, and the thesis's beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from stale_edge.study.design import StudyName
from stale_edge.study.report import thesis
from stale_edge.study.report.labels import configurations, is_cpu, is_reference, one_line, percent
from stale_edge.study.report.samples import ratio, samples
from stale_edge.study.report.simulated import told_of_headline
from stale_edge.study.report.table import three_digits, times, with_deviation, with_quartiles
from stale_edge.study.report.timing_tables import baseline, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stale_edge.study.report.labels import Labelled
    from stale_edge.study.report.samples import Spread

LENGTH: Final = 200
"""Snippets of the videos that headlines are about, where they were measured."""


@dataclass(frozen=True)
class Headline:
    """A figure to begin with."""

    topic: str
    """Subject."""
    value: str
    """The figure."""
    detail: str
    """Metric and conditions."""
    thesis: str
    """Thesis value, or a note that there is none."""


def headlines(runs: Sequence[Labelled]) -> tuple[Headline, ...]:
    """Choose one figure of each run that has one.

    Args:
        runs: All of the report.
    """
    found = []
    for item in runs:
        headline = _MAKERS[item.run.study](item) if item.run.measurements else None
        if headline is not None:
            quick = " (a quick look, not to be cited)" if item.run.options.get("quick") else ""
            found.append(told_of_headline(replace(headline, detail=headline.detail + quick), item))
    return tuple(found)


def _quantization(item: Labelled) -> Headline | None:
    """Find the largest speed-up over PyTorch int8 on the same processor."""
    base, by_length = baseline(item.run, "int8"), timed(item.run, "time_ms")
    length = _length([length for _, length in by_length])
    if base is None or (base, length) not in by_length:
        return None
    others = [key for key, at in by_length if at == length and key != base and is_cpu(key)]
    if not others:
        return None
    slow = by_length[base, length]
    best = min(others, key=lambda key: by_length[key, length].median().middle)
    factor, interval = ratio(slow, by_length[best, length])
    reach = f" (95 % interval {three_digits(factor.low)}–{three_digits(factor.high)})" if interval else ""
    return Headline(
        "Faster than PyTorch int8, on the CPU",
        times(factor, interval=False),
        f"{configurations(item.run)[best]}, T = {length:,g}{reach}; {item.machine}",
        f"Thesis: its int8 is {thesis.INT8_SPEEDUP}× faster than fp32",
    )


def _inference(item: Labelled) -> Headline | None:
    """Find the fastest forward."""
    by_length = timed(item.run, "time_ms")
    length = _length([length for _, length in by_length])
    fitting = {key: sample.median() for (key, at), sample in by_length.items() if at == length}
    if not fitting:
        return None
    best = min(fitting, key=lambda key: fitting[key].middle)
    return Headline(
        "Fastest forward",
        f"{three_digits(fitting[best].middle)} ms",
        f"{configurations(item.run)[best]}, T = {length:,g}, {with_quartiles(fitting[best])} ms; {item.machine}",
        f"Thesis: {thesis.TIME_MS[LENGTH]:g} ms on its GPU" if length == LENGTH else "Thesis: no number at this length",
    )


def _set(item: Labelled) -> Headline | None:
    """Average mAP with all data, without help from another classifier where that was measured."""
    is_open = item.run.study is StudyName.OPEN_SET
    names = ("method", "fraction", "enhancement", *(("split",) if is_open else ()))
    found = {
        key: sample.mean(100)
        for key, sample in samples(
            item.run, "average_map", lambda one: tuple(one.factors[name] for name in names)
        ).items()
        if not is_reference(str(key[0]), item.run.options)
    }
    if not found:
        return None
    key = max(
        found,
        key=lambda key: (
            float(key[1]),
            key[2] == "without",
            is_open and key[3] == "75/25",
            found[key].middle,
        ),
    )
    part, how = one_line(key[3]) if is_open else "", one_line(key[2])
    known = thesis.open_set(part, how, float(key[1])) if is_open else None
    detail = f"{one_line(key[0])}, {percent(key[1])} of the data, {how} enhancement"
    return Headline(
        f"Average mAP, unseen classes, {part}" if is_open else "Average mAP, closed set",
        f"{with_deviation(found[key])} %",
        f"{detail}; {_repeats(found[key])}",
        f"Thesis: {known} % on ActivityNet" if known is not None else "Thesis: a line without numbers",
    )


def _training(item: Labelled) -> Headline | None:
    found = samples(item.run, "seconds", lambda one: one_line(one.factors["method"]))
    if not found:
        return None
    method, sample = next(iter(found.items()))
    row = thesis.TRAINING[0]
    spread = sample.mean()
    return Headline(
        "One training",
        f"{with_deviation(spread, 0)} s",
        f"{method}; {item.machine}; {_repeats(spread)}",
        f"Thesis: {row.seconds:g} s on a {thesis.TRAINING_DEVICE}",
    )


def _ablation(item: Labelled) -> Headline | None:
    """Find the best method on unseen classes, and the best reference point that is not the ceiling."""
    found = samples(item.run, "average_map", lambda one: (str(one.factors["method"]), str(one.factors["subset"])))
    unseen = {method: sample.mean(100) for (method, subset), sample in found.items() if subset.lower() == "unseen"}
    ours = {method: spread for method, spread in unseen.items() if not is_reference(method, item.run.options)}
    if not ours:
        return None
    best = max(ours, key=lambda method: ours[method].middle)
    others = {
        method: spread
        for method, spread in unseen.items()
        if method not in ours and not method.lower().startswith("ceiling")
    }
    return Headline(
        "Average mAP, unseen classes, best method",
        f"{with_deviation(ours[best])} %",
        f"{one_line(best)}{_beside(others)}",
        thesis.NO_EXPERIMENT,
    )


def _localization(item: Labelled) -> Headline | None:
    """Give the trained network on unseen classes of the world measured first, beside the best reference point."""
    names = ("world", "method", "subset")
    found = samples(item.run, "average_map", lambda one: tuple(str(one.factors[name]) for name in names))
    unseen = {key[:2]: sample.mean(100) for key, sample in found.items() if key[2].lower() == "unseen"}
    trained = [key for key in unseen if not is_reference(key[1], item.run.options)]
    if not trained:
        return None
    world, best = trained[0]
    texts = {which: spread for (place, which), spread in unseen.items() if place == world and "text" in which}
    return Headline(
        "Average mAP, unseen classes, localiser without classes",
        f"{with_deviation(unseen[world, best])} %",
        f"{one_line(best)}, world {one_line(world)}; {_repeats(unseen[world, best])}{_beside(texts)}",
        thesis.NO_EXPERIMENT,
    )


def _robustness(item: Labelled) -> Headline | None:
    """Give the reach over the worlds, on unseen classes, of the trained network that is best on average."""
    names = ("world", "method", "subset")
    found = samples(item.run, "average_map", lambda one: tuple(str(one.factors[name]) for name in names))
    by_method: dict[str, list[float]] = {}
    for (_, which, subset), sample in found.items():
        if subset.lower() == "unseen" and not is_reference(which, item.run.options):
            by_method.setdefault(which, []).append(sample.mean(100).middle)
    if not by_method:
        return None
    best = max(by_method, key=lambda which: sum(by_method[which]) / len(by_method[which]))
    low, high, count = min(by_method[best]), max(by_method[best]), len(by_method[best])
    return Headline(
        "Average mAP, unseen classes, over the worlds",
        f"{low:.1f}–{high:.1f} %",
        f"{one_line(best)}, {count} world{'s' if count > 1 else ''}",
        thesis.NO_EXPERIMENT,
    )


def _repeats(spread: Spread) -> str:
    return f"{spread.count} repeat{'s' if spread.count > 1 else ''}"


def _beside(references: Mapping[str, Spread]) -> str:
    if not references:
        return ""
    best = max(references, key=lambda method: references[method].middle)
    return f"; beside it {one_line(best)}, not trained: {with_deviation(references[best])} %"


def _length(lengths: Sequence[float]) -> float:
    """Choose the length to speak of: 200 snippets where they were measured, the nearest otherwise."""
    return min(lengths, key=lambda length: abs(length - LENGTH), default=LENGTH)


_MAKERS: Final[Mapping[StudyName, Callable[[Labelled], Headline | None]]] = {
    StudyName.OPEN_SET: _set,
    StudyName.CLOSED_SET: _set,
    StudyName.TRAINING: _training,
    StudyName.INFERENCE: _inference,
    StudyName.QUANTIZATION: _quantization,
    StudyName.ABLATION: _ablation,
    StudyName.LOCALIZATION: _localization,
    StudyName.ROBUSTNESS: _robustness,
}
