"""A benchmark's results as rows, and their JSON and CSV forms."""

from __future__ import annotations

import csv
import dataclasses
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.formats.csv_cells import inert_cells
from stale_edge_runtime.formats.files import read_json, write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stale_edge_runtime.bench.budget import LongestVideo
    from stale_edge_runtime.bench.explain import Explanation
    from stale_edge_runtime.bench.length_law import Crossover, LengthLaw
    from stale_edge_runtime.bench.thread_ways import ThreadAdvice, ThreadWay

SCHEMA = 1
MAX_REPORT_BYTES: Final = 1 << 28
_DIGITS = 6


TEXT_CACHED: Final = ", text cached"
"""End of the names of contenders that encode their text once, before they are timed."""


@dataclass(frozen=True)
class Row:
    """One configuration: a model at one length, batch and thread count. Unknown numbers are none."""

    model: str
    """Name of the contender; for a file its name."""
    kind: str
    """Inputs besides features."""
    engine: str
    """Library that ran it: onnxruntime, openvino or pytorch."""
    precision: str
    """Number format of its products."""
    provider: str
    """Provider that ran it, as the session itself said."""
    threads: int
    """Threads inside one operator."""
    batch: int
    """Videos in one forward."""
    snippets: int
    """Length of each video."""
    runs: int
    """Measured runs."""
    median_ms: float
    """Median of a forward, steady state."""
    p90_ms: float | None
    """90th percentile; none with fewer than 64 runs."""
    min_ms: float
    """Fastest forward."""
    low_ms: float
    """First quartile."""
    high_ms: float
    """Third quartile."""
    first_ms: float | None
    """First forward of a fresh process."""
    load_ms: float | None
    """Reading, checking and session creation in a fresh process."""
    peak_rss_mb: float | None
    """Memory peak of a fresh process, 10^6 bytes, libraries and loading included."""
    run_peak_rss_mb: float | None
    """Memory peak of a forward alone, libraries and weights included."""
    base_rss_mb: float | None
    """Memory of that process before it loaded the model."""
    gmacs: float | None
    """Multiply-accumulates of one forward, 10^9."""
    gmacs_per_s: float | None
    """The same over the median time."""
    utilisation: float | None
    """The same over the product ceiling of the same threads in the same run."""
    warmup_runs: int
    """Forwards before the measured ones."""
    window: int | None = None
    """Snippets of a window where the video was cut into windows; none where it was taken in one piece."""
    hop: int | None = None
    """Snippets from the start of one window to the start of the next."""
    samples_ms: tuple[tuple[float, ...], ...] = ()
    """Every measured run, by round."""


@dataclass(frozen=True)
class Comparison:
    """Speed of `b` over that of `a`, from interleaved runs."""

    a: str
    """Name of the reference."""
    b: str
    """Name of what is compared with it."""
    threads: int
    """Threads of both."""
    batch: int
    """Videos in one forward of both."""
    snippets: int
    """Length of both."""
    ratio: float
    """Median time of a over median time of b."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""


@dataclass(frozen=True)
class Ceiling:
    """Rate that one product kernel reached on this machine in this run."""

    precision: str
    """fp32, or int8 for unsigned times signed bytes."""
    threads: int
    """Threads it ran on."""
    gmacs_per_s: float
    """Best rate, 10^9 multiply-accumulates per second."""


@dataclass(frozen=True)
class LogitAgreement:
    """Difference of one contender's class logits from the reference's on the same input."""

    model: str
    """Name of the contender."""
    reference: str
    """Name of the reference."""
    snippets: int
    """Length of the input."""
    max_relative: float
    """Largest difference over the largest logit of the reference."""
    top1_changed: float
    """Share of snippets whose best class is another one."""


@dataclass(frozen=True)
class DecodeCost:
    """Median time from a network's outputs to detections, on one thread; see `decode_cost`."""

    snippets: int
    """Length of the videos."""
    classes: int
    """Classes of the network."""
    clear_ms: float
    """Time for a video with five clear actions."""
    noisy_ms: float
    """Time for a video of noise, which gives the most detections there may be."""


@dataclass(frozen=True)
class Report:
    """All that one run of the benchmark found."""

    machine: Mapping[str, Any]
    """Machine, to be read with the timings."""
    protocol: Mapping[str, Any]
    """Protocol of the timings."""
    rows: tuple[Row, ...]
    """One for each configuration."""
    comparisons: tuple[Comparison, ...] = ()
    """One for each pair of models at each configuration."""
    ceilings: tuple[Ceiling, ...] = ()
    """Measured product ceilings."""
    agreement: tuple[LogitAgreement, ...] = ()
    """Checks that the contenders compute the same."""
    length_laws: tuple[LengthLaw, ...] = ()
    """Time as a function of the length, where it was measured at enough lengths."""
    budgets: tuple[LongestVideo, ...] = ()
    """Longest measured video within the time of `--budget`."""
    crossovers: tuple[Crossover, ...] = ()
    """Lengths from which a GPU is faster than the CPU."""
    explanations: tuple[Explanation, ...] = ()
    """Time by stage and operator, from runs of their own."""
    decoding: tuple[DecodeCost, ...] = ()
    """Time of decoding after each forward, by length."""
    thread_ways: tuple[ThreadWay, ...] = ()
    """Threads on one video against videos at the same time, where several numbers of threads were asked for."""
    thread_advice: tuple[ThreadAdvice, ...] = ()
    """The better of them, by file and length."""
    notes: tuple[str, ...] = field(default=())
    """Figures that are missing, and why."""

    def to_json(self) -> dict[str, Any]:
        """Give the report as JSON values, in the form that the contract fixes."""
        return {
            "schema": SCHEMA,
            "machine": dict(self.machine),
            "protocol": dict(self.protocol),
            "rows": [_json_row(row) for row in self.rows],
            "comparisons": [_rounded(item) for item in self.comparisons],
            "ceilings": [_rounded(item) for item in self.ceilings],
            "agreement": [_rounded(item) for item in self.agreement],
            "length_law": [_rounded(law) for law in self.length_laws],
            "budget": [{**_rounded(item), "low": item.snippets, "reach": item.reach} for item in self.budgets],
            "crossover": [_json_crossover(item) for item in self.crossovers],
            "explain": [_json_explanation(item) for item in self.explanations],
            "decoding": [_rounded(item) for item in self.decoding],
            "thread_ways": [_rounded(item) for item in self.thread_ways],
            "thread_advice": [_rounded(item) for item in self.thread_advice],
            "notes": list(self.notes),
        }


def save_json(path: Path, report: Report) -> None:
    """Write a report as JSON, on one line: it holds every sample."""
    write_json(path, report.to_json(), indent=None)


def read_report(path: Path) -> Report:
    """Read the machine, rows, comparisons and agreement of a report that `save_json` wrote.

    Args:
        path: The file, from this machine or another.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: It is no such report.
    """
    content = read_json(path, limit=MAX_REPORT_BYTES)
    try:
        if content["schema"] != SCHEMA:
            raise BadDataError(path, f"has schema {content['schema']!r}, this version reads {SCHEMA}", "measure again")
        rows = tuple(_record(Row, values) for values in content["rows"])
        comparisons = tuple(_record(Comparison, values) for values in content["comparisons"])
        agreement = tuple(_record(LogitAgreement, values) for values in content.get("agreement") or ())
        machine, protocol = content["machine"], content["protocol"]
        _check_machine(machine)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise BadDataError(
            path, f"is no report of `bench --json` (at {str(error)[:60]})", "name a file that it wrote"
        ) from error
    return Report(machine, protocol, rows, comparisons, agreement=agreement)


def _check_machine(machine: Mapping[str, Any]) -> None:
    """Check what is read of a machine beside texts.

    Raises:
        KeyError: A value is missing.
        TypeError: A value is of another type.
    """
    numbers = (machine["load_1min"][0], machine["steal_percent"], machine.get("memory_mb"))
    if not all(isinstance(value, int | float | None) for value in numbers) or not isinstance(
        machine["libraries"], dict
    ):
        raise TypeError("machine")


_TYPES: Final[Mapping[str, tuple[type, ...]]] = {"str": (str,), "int": (int,), "float": (int, float)}
_DIVISORS: Final = {"median_ms", "ratio", "low", "high"}
_Record = TypeVar("_Record", Row, Comparison, LogitAgreement)


def _record(kind: type[_Record], values: Mapping[str, Any]) -> _Record:
    """Make a record of its JSON object; numbers must be numbers, and what others are divided by above zero."""
    known = {item.name: str(item.type) for item in dataclasses.fields(kind) if item.name != "samples_ms"}
    required = [item.name for item in dataclasses.fields(kind) if item.default is dataclasses.MISSING]
    if missing := [name for name in required if name not in values]:
        raise KeyError(missing[0])
    made = kind(**{name: value for name, value in values.items() if name in known})
    for name, wanted in known.items():
        value = getattr(made, name)
        fits = wanted not in _TYPES or isinstance(value, _TYPES[wanted])
        if not fits or (name in _DIVISORS and not value > 0):
            raise TypeError(f"{name} is {value!r:.40}")
    return made


def save_csv(path: Path, report: Report) -> None:
    """Write the rows as CSV, one configuration a line; an unknown number is an empty cell."""
    columns = [item.name for item in dataclasses.fields(Row) if item.name != "samples_ms"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in report.rows:
        values = _rounded(row)
        writer.writerow(dict(zip(values, inert_cells(values.values()), strict=True)))
    write_text(path, text.getvalue())


def _json_row(row: Row) -> dict[str, Any]:
    values = _rounded(row)
    values["samples_ms"] = [[round(sample, 4) for sample in burst] for burst in row.samples_ms]
    return values


def _json_crossover(item: Crossover) -> dict[str, Any]:
    return {**_rounded(item), "high": item.snippets, "reach": "none" if item.snippets is None else "measured"}


def _json_explanation(item: Explanation) -> dict[str, Any]:
    return {
        **_rounded(item),
        "stages": [_rounded(share) for share in item.stages],
        "operators": [_rounded(share) for share in item.operators],
        "products": [_rounded(product) for product in item.products],
        "parts": [_rounded(part) for part in item.parts],
    }


def _rounded(record: Any) -> dict[str, Any]:
    """Fields of a record, numbers to six significant digits."""
    values = {item.name: getattr(record, item.name) for item in dataclasses.fields(record)}
    return {
        name: float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value for name, value in values.items()
    }
