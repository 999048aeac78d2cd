"""Tables of what was learned: mAP of the open and the closed set, of training, the ablation and localisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stale_edge.study.design import WHOLE_VIDEO, StudyName
from stale_edge.study.report import thesis
from stale_edge.study.report.labels import REFERENCE_MARK, is_reference, method, one_line, percent
from stale_edge.study.report.samples import samples
from stale_edge.study.report.simulated import SAME_DATA
from stale_edge.study.report.table import ReportTable, with_deviation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stale_edge.study.design import Factor, Measurement
    from stale_edge.study.report.labels import Labelled
    from stale_edge.study.report.samples import Sample, Spread

MAPS: Final = {
    "map_50": "mAP at 0.5",
    "map_75": "mAP at 0.75",
    "map_95": "mAP at 0.95",
    "average_map": "average mAP",
}
SPREAD: Final = "Mean ± standard deviation over the repeats, in percent; average mAP is over tIoU 0.5, 0.55 … 0.95."
LEAK: Final = (
    "Score enhancement takes the labels of an external classifier that knows the unseen classes too: what it adds in "
    "the open set is not zero-shot."
)
REFERENCE_NOTE: Final = "† Reference point: no training of its own; what a trained network's mAP must be read beside."
TRAINING_TIME: Final = (
    "Time is that of the whole training, validations included. Our networks are given text embeddings: the text tower "
    "takes no part."
)
TRAINING_MEMORY: Final = "Memory is the most that the process held while it trained, the videos included."
_SEEN: Final = {"seen": 0, "unseen": 1}


def set_tables(runs: Sequence[Labelled]) -> tuple[ReportTable, ...]:
    """Table 1 of the thesis, or the numbers behind its Figure 3.

    Args:
        runs: Runs of the open set, or of the closed set.
    """
    is_open = runs[0].run.study is StudyName.OPEN_SET
    names = ("method", "split", "fraction", "enhancement") if is_open else ("method", "fraction", "enhancement")
    rows: list[tuple[str, ...]] = []
    marked: set[int] = set()
    for machine, labelled in _with_machine(runs):
        metrics = [samples(labelled.run, metric, _by(names)) for metric in MAPS]
        seconds = samples(labelled.run, "seconds", _by(names))
        keys = dict.fromkeys(key for found in metrics for key in found)
        options = labelled.run.options
        for key in sorted(keys, key=lambda key: is_reference(str(key[0]), options)):
            factors = dict(zip(names, key, strict=True))
            reference = is_reference(str(factors["method"]), options)
            if reference:
                marked.add(len(rows))
            words = [method(factors["method"], options), *(_SHOW[name](factors[name]) for name in names[1:])]
            means = [_mean(found, key, 100) for found in metrics]
            repeats = str(max(mean.count for mean in means if mean))
            cells = [with_deviation(mean) for mean in means]
            took = with_deviation(_mean(seconds, key, 1))
            theirs = _thesis_open_set(factors) if is_open and not reference else thesis.NONE
            rows.append((*machine, *words, *cells, theirs, took, repeats))
    headings = [*_machine_column(runs), *names, *MAPS.values(), "thesis, average mAP", "seconds", "repeats"]
    note = " ".join(([REFERENCE_NOTE] if marked else []) + [LEAK if is_open else "", SAME_DATA]).strip()
    if not is_open:
        note += " Of its Figure 3 it gives no numbers: flat with score enhancement, rising without it."
    title = "Open set, as Table 1 of the thesis" if is_open else "Closed set, as Figure 3 of the thesis"
    return (
        _table(
            str(runs[0].run.study), title, SPREAD, headings, rows, note, marked, len(_machine_column(runs)) + len(names)
        ),
    )


def training_tables(runs: Sequence[Labelled]) -> tuple[ReportTable, ...]:
    """Table 2 of the thesis, and what more we know."""
    scales = {"parameters": 1e-6, "trained_parameters": 1e-6, "seconds": 1, "steps": 1, "peak_rss_mb": 1}
    rows, marked = [], set()
    for machine, labelled in _with_machine(runs):
        found = {metric: samples(labelled.run, metric, _by(("method",))) for metric in (*scales, "average_map")}
        keys = dict.fromkeys(key for metric in found.values() for key in metric)
        for key in sorted(keys, key=lambda key: is_reference(str(key[0]), labelled.run.options)):
            means = {metric: _mean(found[metric], key, scale) for metric, scale in scales.items()}
            cells = [
                with_deviation(means["parameters"]),
                with_deviation(means["trained_parameters"]),
                with_deviation(means["seconds"]),
                with_deviation(means["steps"], 0),
                with_deviation(means["peak_rss_mb"], 0),
                with_deviation(_mean(found["average_map"], key, 100)),
            ]
            repeats = max(len(metric[key].values()) for metric in found.values() if key in metric)
            rows.append((*machine, method(key[0], labelled.run.options), *cells, str(repeats)))
    has_references = any(REFERENCE_MARK in cell for row in rows for cell in row)
    for row in thesis.TRAINING:
        marked.add(len(rows))
        device = [f"thesis's {thesis.TRAINING_DEVICE}"] if _machine_column(runs) else []
        name = f"{row.method} (thesis, {thesis.TRAINING_DEVICE})"
        cells = [f"{row.parameters / 1e6:,.1f}", thesis.NONE, f"{row.seconds:,.1f}", thesis.NONE, thesis.NONE]
        rows.append((*device, name, *cells, f"{row.average_map:.1f}", thesis.NONE))
    headings = [*_machine_column(runs), "method", "parameters, M", "trained, M", "seconds", "steps", "peak memory, MB"]
    headings += ["average mAP", "repeats"]
    caption = (
        "One training: its size, time and memory, and what it reaches. Mean ± standard deviation over the repeats. "
        f"{TRAINING_TIME} {TRAINING_MEMORY}"
    )
    note = f"{REFERENCE_NOTE} " if has_references else ""
    note += f"Seconds are of the named machine; the thesis's are of a {thesis.TRAINING_DEVICE}. {SAME_DATA}"
    heads = len(_machine_column(runs)) + 1
    return (_table("training", "Training, as Table 2 of the thesis", caption, headings, rows, note, marked, heads),)


def ablation_tables(runs: Sequence[Labelled]) -> tuple[ReportTable, ...]:
    """Methods by the classes they are evaluated on."""
    subsets = sorted(
        {one_line(measurement.factors["subset"]) for item in runs for measurement in item.run.measurements},
        key=lambda subset: (_SEEN.get(subset.lower(), 2), subset),
    )
    ours: list[tuple[str, ...]] = []
    references: list[tuple[str, ...]] = []
    for machine, labelled in _with_machine(runs):
        found = samples(labelled.run, "average_map", _by(("method", "subset")))
        costs = [samples(labelled.run, metric, _by(("method", "subset"))) for metric in ("steps", "seconds")]
        for which in dict.fromkeys(which for which, _ in found):
            means = {one_line(subset): _mean(found, (name, subset), 100) for name, subset in found if name == which}
            reference = is_reference(str(which), labelled.run.options)
            name = method(which, labelled.run.options)
            cells = [with_deviation(means.get(subset)) for subset in subsets]
            # A training is one, whatever it is evaluated on: its cost is said with every subset.
            first = next(key for key in found if key[0] == which)
            cost = [
                with_deviation(_mean(cost, first, 1), decimals) for cost, decimals in zip(costs, (0, 1), strict=True)
            ]
            repeats = str(max(mean.count for mean in means.values() if mean))
            (references if reference else ours).append((*machine, name, *cells, thesis.NONE, *cost, repeats))
    marked = set(range(len(ours), len(ours) + len(references)))
    headings = [*_machine_column(runs), "method", *(f"{subset} classes, average mAP" for subset in subsets)]
    headings += ["thesis", "steps", "seconds", "repeats"]
    note = (f"{REFERENCE_NOTE} " if references else "") + "The thesis has no such experiment."
    title, heads = "Methods and reference points", len(_machine_column(runs)) + 1
    return (_table("ablation", title, SPREAD, headings, ours + references, note, marked, heads),)


def localization_tables(runs: Sequence[Labelled]) -> tuple[ReportTable, ...]:
    """Worlds and methods by the classes they are evaluated on, with the share of the mAP that each keeps."""
    rows: list[tuple[str, ...]] = []
    marked: set[int] = set()
    for machine, labelled in _with_machine(runs):
        found, kept = (samples(labelled.run, metric, _by(("world", "method", "subset"))) for metric in _LOCALIZED)
        for world, which in dict.fromkeys(sorted(((key[0], key[1]) for key in found), key=_by_world(found))):
            cells, repeats = [], 0
            for subset in _SEEN:
                mean = _mean(found, (world, which, subset), 100)
                cells += [with_deviation(mean), with_deviation(_mean(kept, (world, which, subset), 100), 0)]
                repeats = max(repeats, mean.count if mean else 0)
            if is_reference(str(which), labelled.run.options):
                marked.add(len(rows))
            rows.append((*machine, one_line(world), method(which, labelled.run.options), *cells, str(repeats)))
    headings = [*_machine_column(runs), "world", "method"]
    for subset in _SEEN:
        headings += [f"{subset} classes, average mAP", f"{subset}, share kept, %"]
    note = (
        "† Not another training: a reference point, or made from the trained network's detections. Share kept: average "
        "mAP beside that of the trained network. The thesis has no such experiment."
    )
    heads = len(_machine_column(runs)) + 2
    title = "Localisation, and what it must be read beside"
    return (_table("localization", title, SPREAD, [*headings, "repeats"], rows, note, marked, heads),)


def robustness_tables(runs: Sequence[Labelled]) -> tuple[ReportTable, ...]:
    """Lay out every method in every world, and the share of its mAP that whole videos with its labels keep."""
    rows: list[tuple[str, ...]] = []
    marked: set[int] = set()
    for machine, labelled in _with_machine(runs):
        found, kept = (samples(labelled.run, metric, _by(("world", "method", "subset"))) for metric in _LOCALIZED)
        for world, which in dict.fromkeys(sorted(((key[0], key[1]) for key in found), key=_by_world(found))):
            if str(which).endswith(WHOLE_VIDEO):
                continue
            means = [_mean(found, (world, which, subset), 100) for subset in _SEEN]
            shares = [_mean(kept, (world, f"{which}{WHOLE_VIDEO}", subset), 100) for subset in _SEEN]
            if is_reference(str(which), labelled.run.options):
                marked.add(len(rows))
            cells = [*map(with_deviation, means), *(with_deviation(share, 0) for share in shares)]
            repeats = str(max((mean.count for mean in means if mean), default=0))
            rows.append((*machine, one_line(world), method(which, labelled.run.options), *cells, repeats))
    headings = [*_machine_column(runs), "world", "method"]
    headings += [f"{subset} classes, average mAP" for subset in _SEEN]
    headings += [f"{subset}, whole video keeps, %" for subset in _SEEN]
    note = (
        f"{REFERENCE_NOTE} Whole video keeps: average mAP of the same labels, each as long as the video, beside that "
        "of the network. The thesis has no such experiment."
    )
    title, heads = "Every method in worlds that differ in what they assume", len(_machine_column(runs)) + 2
    return (_table("robustness", title, SPREAD, [*headings, "repeats"], rows, note, marked, heads),)


_LOCALIZED: Final = ("average_map", "kept")


def _by_world(found: Mapping[tuple[Factor, ...], Sample]) -> Callable[[tuple[Factor, Factor]], int]:
    """Order by the world that was measured first, and leave the order within it."""
    order = {world: place for place, world in enumerate(dict.fromkeys(key[0] for key in found))}
    return lambda row: order[row[0]]


def _thesis_open_set(factors: Mapping[str, Factor]) -> str:
    known = thesis.open_set(one_line(factors["split"]), one_line(factors["enhancement"]), float(factors["fraction"]))
    return thesis.NONE if known is None else f"{known:.1f}"


_SHOW: Final[dict[str, Callable[[Factor], str]]] = {"split": one_line, "fraction": percent, "enhancement": one_line}


def _by(names: Sequence[str]) -> Callable[[Measurement], tuple[Factor, ...]]:
    return lambda measurement: tuple(measurement.factors[name] for name in names)


def _mean(found: Mapping[tuple[Factor, ...], Sample], key: tuple[Factor, ...], scale: float) -> Spread | None:
    return found[key].mean(scale) if key in found else None


def _machine_column(runs: Sequence[Labelled]) -> list[str]:
    return ["machine"] if len(runs) > 1 else []


def _with_machine(runs: Sequence[Labelled]) -> list[tuple[list[str], Labelled]]:
    return [([item.machine] if len(runs) > 1 else [], item) for item in runs]


def _table(
    key: str,
    title: str,
    caption: str,
    headings: Sequence[str],
    rows: Sequence[tuple[str, ...]],
    note: str,
    marked: set[int],
    heads: int,
) -> ReportTable:
    return ReportTable(key, title, caption, tuple(headings), tuple(rows), note, frozenset(marked), heads)
