"""Tables of what forwards cost: time, memory and arithmetic by length, and how many times less than PyTorch's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from stale_edge.study.report import thesis
from stale_edge.study.report.labels import PYTORCH, STALE, configuration_of, configurations, is_cpu, network_of
from stale_edge.study.report.samples import ratio, samples
from stale_edge.study.report.table import ReportTable, times, with_quartiles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stale_edge.study.design import Measurement
    from stale_edge.study.report.labels import Labelled
    from stale_edge.study.report.samples import Sample
    from stale_edge.study.store import StudyRun

    Timed = dict[tuple[tuple[str, ...], float], Sample]


class Quantity(NamedTuple):
    """A metric that is shown by length."""

    metric: str
    """Name of the metric."""
    title: str
    """Title of the table."""
    scale: float
    """Factor from the metric's unit to the one that is shown."""
    unit: str
    """The one that is shown."""
    brief: str
    """Meaning of the metric in a few words, for charts."""
    meaning: str
    """Meaning of the metric, and what it leaves out."""


TIME: Final = Quantity(
    "time_ms",
    "Time of a forward",
    1,
    "ms",
    "From features to outputs, the model loaded and warm.",
    "From features in memory to the network's outputs in memory, the model loaded and warm; reading features and "
    "making segments of the outputs are not in it. PyTorch's forwards encode the prompts of the classes each time, as "
    "published; exported files hold what comes of them. On a GPU, PyTorch's time is by the GPU's own clock with inputs "
    "and outputs in its memory; onnxruntime's has the copies there and back in it.",
)
MEMORY: Final = Quantity(
    "peak_mb",
    "Peak memory",
    1,
    "MB",
    "Of a forward in a process of its own.",
    "On a CPU, the peak of a second forward in a fresh process, its libraries and the weights included. On a GPU, the "
    "most that PyTorch's own allocator held there, from loading on: without the process, so not to be compared with "
    "the CPU's.",
)
UTILISATION: Final = Quantity(
    "utilisation",
    "Utilisation",
    100,
    "%",
    "Of what a large matrix product reaches on the CPU, of the theoretical peak on a GPU.",
    "Multiply-accumulates per second, on a CPU relative to what a large matrix product reached there just before or "
    "after (the ceiling, measured; of fp32 for fp16, whose products run in fp32), on a GPU relative to its theoretical "
    "peak.",
)
GMACS: Final = Quantity("gmacs", "Multiply-accumulates", 1, "GMAC", *2 * ("Of one forward, counted.",))
RATE: Final = Quantity(
    "gmacs_per_s",
    "Multiply-accumulates per second",
    1,
    "GMAC/s",
    "Counted, over the median time.",
    "Those that are counted in a forward, over the median of its times with one input.",
)
MEDIANS: Final = "Median (lower–upper quartile) by number of snippets, T."


def inference_tables(runs: Sequence[Labelled]) -> tuple[ReportTable, ...]:
    """Figures 4a and 4b of the thesis in numbers."""
    tables = []
    for quantity, known in ((TIME, thesis.TIME_MS), (UTILISATION, thesis.UTILISATION)):
        tables.append(_by_length("inference", runs, quantity, known))
    tables += [_by_length("inference", runs, quantity, {}) for quantity in (GMACS, RATE, MEMORY)]
    return tuple(table for table in tables if table.rows)


def quantization_tables(runs: Sequence[Labelled]) -> tuple[ReportTable, ...]:
    """Figure 4c of the thesis in numbers: time, memory, and factors against PyTorch."""
    tables = [
        _by_length("quantization", runs, TIME, {}),
        *(_factors(runs, TIME, precision) for precision in ("int8", "fp32")),
        _by_length("quantization", runs, MEMORY, {}),
        *(_factors(runs, MEMORY, precision) for precision in ("int8", "fp32")),
        _sizes(runs),
    ]
    return tuple(table for table in tables if table.rows)


def baseline(run: StudyRun, precision: str) -> tuple[str, ...] | None:
    """Find PyTorch's STALE on the CPU in a precision, the thesis's contender; none where it was not measured."""
    fitting = (
        key
        for key in configurations(run)
        if key[:2] == (PYTORCH, precision) and is_cpu(key) and network_of(key) == STALE
    )
    return next(fitting, None)


def timed(run: StudyRun, metric: str) -> Timed:
    """Samples by configuration and number of snippets."""

    def key(measurement: Measurement) -> tuple[tuple[str, ...], float]:
        return configuration_of(measurement), float(measurement.factors["snippets"])

    return samples(run, metric, key)


def _by_length(study: str, runs: Sequence[Labelled], quantity: Quantity, known: Mapping[int, float]) -> ReportTable:
    found = [(item, timed(item.run, quantity.metric)) for item in runs]
    lengths = sorted({length for _, samples_of in found for _, length in samples_of})
    rows = []
    for item, by_length in found:
        for key, name in configurations(item.run).items():
            spreads = [
                by_length[key, length].median(quantity.scale) if (key, length) in by_length else None
                for length in lengths
            ]
            if any(spreads):
                rows.append((*_machine(runs, item), name, *map(with_quartiles, spreads)))
    marked = frozenset({len(rows)}) if known and rows else frozenset()
    if marked:
        cells = [f"{known[int(length)]:g}" if length in known else thesis.NONE for length in lengths]
        rows.append((*(["thesis's GPU"] if len(runs) > 1 else []), "thesis (GPU)", *cells))
    note = "The thesis gives the two ends of its line." if known else "The thesis gives no numbers for these cells."
    note += " Its utilisation is of its GPU's theoretical peak." if quantity is UTILISATION else ""
    return ReportTable(
        f"{study}-{quantity.metric.replace('_', '-')}",
        f"{quantity.title}, {quantity.unit}",
        f"{MEDIANS} {quantity.brief}",
        (*(["machine"] if len(runs) > 1 else []), "contender", *(f"T = {length:,g}" for length in lengths)),
        tuple(rows),
        f"{quantity.meaning} {note}",
        marked,
        1 + (len(runs) > 1),
    )


def _factors(runs: Sequence[Labelled], quantity: Quantity, precision: str) -> ReportTable:
    """Compute how many times less than PyTorch in a precision, by length; of memory on the CPU alone."""
    found = [(item, baseline(item.run, precision), timed(item.run, quantity.metric)) for item in runs]
    lengths = sorted({length for _, _, by_length in found for _, length in by_length})
    rows, plain = [], False
    for item, base, by_length in found:
        for key, name in configurations(item.run).items():
            if base is None or key == base or (quantity is MEMORY and not is_cpu(key)):
                continue
            cells = []
            for length in lengths:
                pair = by_length.get((base, length)), by_length.get((key, length))
                factor = ratio(pair[0], pair[1]) if pair[0] and pair[1] else None
                plain = plain or (factor is not None and not factor[1])
                cells.append(times(factor[0], interval=factor[1]) if factor else thesis.NONE)
            if any(cell != thesis.NONE for cell in cells):
                rows.append((*_machine(runs, item), name, *cells, _thesis_factor(key, quantity, precision)))
    is_time = quantity is TIME
    word = "faster" if is_time else "less memory"
    caption = (
        f"How many times {'faster' if is_time else 'less peak memory'} than PyTorch {precision} on the same machine's "
        "CPU: ratio of the medians, with its 95 % bootstrap interval over the rounds. "
        f"{'Times begin and end' if is_time else 'Memory is that of CPU rows alone,'} as in the table above."
    )
    note = "The thesis gives one factor, not one for each length."
    if any(network_of(key) != STALE for item in runs for key in configurations(item.run)):
        note += " PyTorch's network is STALE, in the rows of other networks too."
    note += " Without an interval: rounds were not the same on both sides, or there was one only." if plain else ""
    return ReportTable(
        f"quantization-{'speed-up' if is_time else 'memory'}-{precision}",
        f"Times {word} than PyTorch {precision}",
        caption,
        (*(["machine"] if len(runs) > 1 else []), "contender", *(f"T = {length:,g}" for length in lengths), "thesis"),
        tuple(rows),
        note,
        heads=1 + (len(runs) > 1),
    )


def _sizes(runs: Sequence[Labelled]) -> ReportTable:
    """Size of each file, which does not depend on the length."""
    rows = []
    for item in runs:
        found = samples(item.run, "file_mb", configuration_of)
        names = configurations(item.run)
        rows += [(*_machine(runs, item), names[key], with_quartiles(each.median())) for key, each in found.items()]
    return ReportTable(
        "quantization-file-mb",
        "Size of the file, MB",
        "What is read to run the network.",
        (*(["machine"] if len(runs) > 1 else []), "contender", "MB"),
        tuple(rows),
        "The thesis gives no numbers for these cells.",
        heads=1 + (len(runs) > 1),
    )


def _thesis_factor(key: tuple[str, ...], quantity: Quantity, against: str) -> str:
    """Give the thesis's factor of the same two, where it gives one."""
    if key[0] != PYTORCH:
        return thesis.NONE
    known = {
        ("time_ms", "fp32", "int8", True): thesis.INT8_SPEEDUP,
        ("peak_mb", "fp32", "int8", True): thesis.INT8_MEMORY,
        ("time_ms", "int8", "fp32", False): thesis.GPU_SPEEDUP,
    }.get((quantity.metric, against, key[1], is_cpu(key)))
    return thesis.NONE if known is None else f"{known:g}×"


def _machine(runs: Sequence[Labelled], item: Labelled) -> list[str]:
    return [item.machine] if len(runs) > 1 else []
