"""Tables of published results as the README and docs show them: Markdown, with a last line that says where from."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from stale_edge.cli.bench_split_table import split_table
from stale_edge.cli.bench_table import ratio_of, reference_row
from stale_edge.cli.bench_towers import TOWER_KINDS
from stale_edge.paper_tables import from_rich
from stale_edge.study.design import WHOLE_VIDEO, StudyName
from stale_edge.study.report.charts import Chart, charts_of
from stale_edge.study.report.labels import (
    REFERENCE_MARK,
    is_reference,
    label_runs,
    method,
    percent,
    short_cpu,
)
from stale_edge.study.report.machines import show
from stale_edge.study.report.samples import samples
from stale_edge.study.report.simulated import WORLD, is_simulated
from stale_edge.study.report.table import ReportTable, with_deviation
from stale_edge.study.report.tables import tables_of
from stale_edge.study.store import JSON, StudyRun, read_run
from stale_edge_runtime.bench.records import TEXT_CACHED, Report, Row, read_report
from stale_edge_runtime.bench.statistics import number
from stale_edge_runtime.formats.files import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

BENCH: Final = "bench"
"""Folder of results of `stale-edge bench`."""
HEADLINE, PROCESSOR, THREADS = "headline", "processor-", "threads"
LENGTHS: Final = (100, 200, 1000, 2000, 3000)
"""Lengths that a page shows where there are more."""
FAST: Final = ("avx512_vnni", "avx_vnni", "amx_int8", "i8mm", "asimddp")
NONE: Final = "–"
PICTURES, FIGURES = "pictures", "results/figures"


class Missing(Exception):
    """Results that are not there yet."""


class Published:
    """The folder of published results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def studies(self) -> dict[str, StudyRun]:
        return {path.parent.name: read_run(path) for path in sorted(self.folder.glob(f"*/{JSON}"))}

    def study(self, name: str) -> StudyRun:
        path = self.folder / name / JSON
        if not path.is_file():
            raise Missing(f"{name}/{JSON}")
        return read_run(path)

    def benches(self) -> list[str]:
        return sorted(path.stem for path in (self.folder / BENCH).glob("*.json"))

    def bench(self, name: str) -> Report:
        path = self.folder / BENCH / f"{name}.json"
        if not path.is_file():
            raise Missing(f"{BENCH}/{name}.json")
        return read_report(path)

    def commit(self, bench: str) -> str:
        return str(read_json(self.folder / BENCH / f"{bench}.json").get("commit") or "unknown")


def block(name: str, results: Published) -> str:
    """The content of a block: a table, and a line about it.

    Args:
        name: `bench-NAME`, `threads`, or a folder of results. Behind a slash the name of a view, where it has some;
            `pictures`; or the begin of the names of some.
        results: All results.

    Raises:
        Missing: They are not there yet.
    """
    if name in BENCHES:
        return BENCHES[name](results)
    folder, _, view = name.partition("/")
    run = results.study(folder)
    if view == PICTURES or view.startswith(("fig-", "table-")):
        shown = [chart for chart in charts(run, folder) if view == PICTURES or view in chart.key]
        return "\n\n".join(picture(chart) for chart in shown if _is_of_trainings(chart))
    return f"{STUDIES[run.study, view](run)}\n\n{about(run, folder)}"


def views() -> set[str]:
    """Names that a block may have, where a folder is called like its study."""
    return {*BENCHES, *(f"{study}/{view}" if view else str(study) for study, view in STUDIES)}


def charts(run: StudyRun, folder: str) -> list[Chart]:
    """Charts of one folder, by names that no other folder's have."""
    found = charts_of(label_runs([run]))
    return [chart if folder == run.study else replace(chart, key=f"{folder}-{chart.key}") for chart in found]


def _is_of_trainings(chart: Chart) -> bool:
    """Whether a chart has more than references beside its first series; such parts are in docs/results alone."""
    others = [series.name for series in chart.series[1:]]
    return not others or any(REFERENCE_MARK not in name for name in others)


def picture(chart: Chart) -> str:
    """A chart that lies in docs/results, on a page of docs."""
    return f"![{chart.title}]({FIGURES}/{chart.key}.svg)\n\n*{chart.title}.* {chart.caption}"


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]], heads: int = 1) -> str:
    marks = ["---"] * heads + ["---:"] * (len(columns) - heads)
    return "\n".join(f"| {' | '.join(cell.replace('|', '') for cell in row)} |" for row in (columns, marks, *rows))


# Studies: what was learned.


def about(run: StudyRun, folder: str) -> str:
    """Name the command, day, commit and machine of a study."""
    options = run.options
    words = ["stale-edge study", str(run.study), *(["--quick"] if options.get("quick") else [])]
    words += [f"--threads {options['threads']}"] if options.get("threads", 1) != 1 else []
    parts = [
        f"`{' '.join(words)}`" + (f" ({folder})" if folder != run.study else ""),
        run.started[:10],
        f"commit {' / '.join(dict.fromkeys(str(one.commit or 'unknown') for one in run.history))}",
        short_cpu(run.machine),
        _repeats(run),
        *([WORLD] if is_simulated(run) else []),
        *([] if run.complete else [f"{run.finished} of {run.cells} cells"]),
    ]
    return f"By {', '.join(parts)}."


def _repeats(run: StudyRun) -> str:
    metric = "time_ms" if run.study in TIMED else "average_map"
    by_factors = samples(run, metric, lambda one: tuple(one.factors.values()))
    references = {
        factors
        for one in run.measurements
        if is_reference(str(one.factors.get("method", "")), run.options)
        for factors in [tuple(one.factors.values())]
    }
    counts = [sample.values().size for key, sample in by_factors.items() if key not in references] or [0]
    low, high = min(counts), max(counts)
    return f"{low} to {high} repeats" if low != high else f"{high} repeat{'s' if high != 1 else ''}"


def learned(rows: Sequence[str], column: str) -> Callable[[StudyRun], str]:
    """Average mAP in points by some factors, with another one's values side by side."""

    def show(run: StudyRun) -> str:
        names = (*rows, *column.split(","))
        found = samples(run, "average_map", lambda one: tuple(one.factors[name] for name in names))
        width = len(rows)
        keys = sorted(dict.fromkeys(key[:width] for key in found), key=lambda key: _place(run, rows, key))
        wide = sorted(dict.fromkeys(key[width:] for key in found), key=_order)
        lines = [
            [
                *(_word(run, name, value) for name, value in zip(rows, key, strict=True)),
                *(with_deviation(found[key + across].mean(100) if key + across in found else None) for across in wide),
            ]
            for key in keys
        ]
        heads = [", ".join(_word(run, *pair) for pair in zip(names[width:], key, strict=True)) for key in wide]
        return markdown([*rows[:-1], f"{rows[-1]}, average mAP", *heads], lines, width)

    return show


def _place(run: StudyRun, names: Sequence[str], key: tuple[Any, ...]) -> tuple[bool, ...]:
    return tuple(is_reference(str(key[names.index("method")]), run.options) for _ in "1") if "method" in names else ()


def _order(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Splits with more seen classes first, small fractions first, and `seen` before `unseen`, as words sort."""
    return tuple(-float(value.partition("/")[0]) if "/" in str(value) else value for value in key)


def _word(run: StudyRun, name: str, value: Any) -> str:
    if name == "method":
        return method(value, run.options)
    return percent(value) if name == "fraction" else f"{value} classes" if name == "subset" else str(value)


def trained(run: StudyRun) -> str:
    (table,) = tables_of(label_runs([run]))
    kept = [row for number, row in enumerate(table.rows) if number not in table.marked]
    return markdown(table.columns, kept)


def worlds(run: StudyRun) -> str:
    """Average mAP by world and classes, methods side by side; in brackets the share that whole videos keep."""
    by = ("world", "subset", "method")
    found, kept = (samples(run, metric, lambda one: tuple(one.factors[name] for name in by)) for metric in WORLDS)
    methods = dict.fromkeys(str(key[2]) for key in found)
    folded = {f"{name}{WHOLE_VIDEO}" for name in methods}
    shown = [name for name in methods if name not in folded]

    def cell(key: tuple[Any, ...]) -> str:
        mean = with_deviation(found[key].mean(100) if key in found else None)
        share = kept.get((*key[:2], f"{key[2]}{WHOLE_VIDEO}")) or kept.get(key)
        return f"{mean} ({share.mean(100).middle:.0f} %)" if share else mean

    rows = [
        [str(world), str(subset), *(cell((world, subset, name)) for name in shown)]
        for world, subset in dict.fromkeys(key[:2] for key in found)
    ]
    return markdown(["world", "classes", *(method(name, run.options) for name in shown)], rows, 2)


WORLDS: Final = ("average_map", "kept")


# Studies: what a forward costs.


def by_length(key: str) -> Callable[[StudyRun], str]:
    """A table of the report, of few lengths."""

    def show(run: StudyRun) -> str:
        found = {table.key: table for table in tables_of(label_runs([run]))}
        table = _few_lengths(found[f"{run.study}-{key}"])
        kept = [row for number, row in enumerate(table.rows) if number not in table.marked]
        return markdown([f"{table.title[0].lower()}{table.title[1:]}", *table.columns[1:]], kept)

    return show


def _few_lengths(table: ReportTable) -> ReportTable:
    measured = [name for name in table.columns if name.startswith("T = ")]
    known = [f"T = {length:,}" for length in LENGTHS]
    shown = measured if len(measured) <= len(LENGTHS) else [name for name in measured if name in known] or measured[:5]
    kept = [place for place, name in enumerate(table.columns) if name not in measured or name in shown]
    rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
    return ReportTable(
        table.key, table.title, "", tuple(table.columns[place] for place in kept), rows, "", table.marked, table.heads
    )


def precisions(run: StudyRun) -> str:
    """Time, memory and size of each contender, and how many times faster and smaller than PyTorch's int8."""
    found = {table.key: _few_lengths(table) for table in tables_of(label_runs([run]))}
    times, memory = found["quantization-time-ms"], found["quantization-peak-mb"]
    sizes = {row[0]: row[1] for row in found["quantization-file-mb"].rows}
    held = {row[0]: row[1:] for row in memory.rows}
    rows = []
    for name, *cells in times.rows:
        both = [f"{_middle(time)} ms, {_middle(mb)} MB" for time, mb in zip(cells, held.get(name, cells), strict=True)]
        rows.append([name, _middle(sizes.get(name, NONE)), *both])
    for against in ("fp32", "int8"):
        for words, key in (("faster", "speed-up"), ("less memory", "memory")):
            table = found.get(f"quantization-{key}-{against}")
            for name, *cells, thesis in table.rows if table else ():
                if name == ("PyTorch int8" if against == "fp32" else name) and name != "PyTorch fp32":
                    said = f" (thesis: {thesis})" if thesis != NONE else ""
                    rows.append([f"{name}: times {words} than PyTorch {against}{said}", "", *cells])
    return markdown(["", "file, MB", *times.columns[1:]], rows)


def _middle(cell: str) -> str:
    return cell.split(" ", maxsplit=1)[0]


TIMED: Final = (StudyName.INFERENCE, StudyName.QUANTIZATION)
STUDIES: Final[dict[tuple[StudyName, str], Callable[[StudyRun], str]]] = {
    (StudyName.OPEN_SET, ""): learned(("method", "enhancement"), "split,fraction"),
    (StudyName.CLOSED_SET, ""): learned(("method", "enhancement"), "fraction"),
    (StudyName.TRAINING, ""): trained,
    (StudyName.ABLATION, ""): learned(("method",), "subset"),
    (StudyName.LOCALIZATION, ""): worlds,
    (StudyName.ROBUSTNESS, ""): worlds,
    (StudyName.INFERENCE, ""): by_length("time-ms"),
    (StudyName.INFERENCE, "utilisation"): by_length("utilisation"),
    (StudyName.INFERENCE, "arithmetic"): by_length("gmacs"),
    (StudyName.INFERENCE, "memory"): by_length("peak-mb"),
    (StudyName.QUANTIZATION, ""): precisions,
}
"""Tables of a study, by the name of the view."""


# Benchmarks.


def about_bench(results: Published, *names: str) -> str:
    """Name the command, day, commit and machine of benchmarks; the command is told by what was measured."""
    parts = []
    for name in names:
        report = results.bench(name)
        machine, rows = report.machine, _detectors(report)
        runs = sorted(row.runs for row in rows)
        fast = [flag for flag in machine["cpu_flags"] if flag in FAST]
        found = machine["libraries"]
        libraries = [f"{library} {found[library]}" for library in ("onnxruntime", "torch") if library in found]
        parts.append(
            f"`{_command(report)}`, {str(machine.get('date'))[:10]}, commit {results.commit(name)}, "
            f"{short_cpu(machine)} ({', '.join(fast) or 'no 8-bit instructions'}), load {show(machine['load_1min'])}, "
            f"{', '.join(libraries)}, medians of {runs[0]:,} to {runs[-1]:,} runs"
        )
    return f"By {'; '.join(parts)}."


def _command(report: Report) -> str:
    rows, protocol = _detectors(report), report.protocol
    files = dict.fromkeys(row.model for row in rows if row.engine == "onnxruntime")
    words = ["stale-edge bench", *(f"models/{name}" for name in files)]
    words += [f"--threads {count}" for count in dict.fromkeys(row.threads for row in rows)]
    words.append(f"--lengths {','.join(str(length) for length in dict.fromkeys(row.snippets for row in rows))}")
    engines = {"pytorch": "torch", "openvino": "openvino"}
    if others := [name for engine, name in engines.items() if any(row.engine == engine for row in rows)]:
        words.append(f"--compare {','.join(others)}")
    words.append(f"--runs {protocol['runs']}" if protocol.get("runs") else f"--seconds {protocol.get('seconds'):g}")
    return " ".join([*words, *([] if protocol.get("cold_start") else ["--no-cold-start"])])


def _detectors(report: Report) -> list[Row]:
    return [row for row in report.rows if row.kind not in TOWER_KINDS and row.window is None]


def _medians(report: Report, names: dict[str, str] | None = None) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of median times by contender, on one thread and in batches of one."""
    rows = [row for row in _detectors(report) if (row.threads, row.batch) == (1, 1)]
    lengths = list(dict.fromkeys(row.snippets for row in rows))
    lines = []
    for model in dict.fromkeys(row.model for row in rows):
        if names is not None and names.get(model) == "":
            continue
        medians = {row.snippets: row.median_ms for row in rows if row.model == model}
        shown = (names or {}).get(model) or (f"`{model}`" if model.endswith(".onnx") else model)
        lines.append([shown, *(three_digits(number(medians.get(length))) for length in lengths)])
    return [f"T = {length:,}" for length in lengths], lines


def headline(results: Published) -> str:
    """The README's table of speed: medians, and the factor over the published PyTorch with its steps."""
    report = results.bench(HEADLINE)
    lengths, rows = _medians(
        report,
        {
            "PyTorch fp32": "PyTorch fp32, full network",
            "PyTorch dynamic int8": "PyTorch dynamic int8, full network (the thesis's result)",
            f"PyTorch fp32{TEXT_CACHED}": "",
            f"PyTorch dynamic int8{TEXT_CACHED}": "the same with its text encoded once",
        },
    )
    whole, *steps = ([_middle(cell) for cell in row[1:]] for row in _split(report))
    rows.append(["**int8 against PyTorch fp32**", *(f"**{cell}**" for cell in whole)])
    products = (" × ".join(cell.removesuffix("×") for cell in cells) for cells in zip(*steps[:3], strict=True))
    rows.append(["= text encoded once × graph × int8", *products])
    peers = (", ".join(cells) for cells in zip(*steps[3:], strict=True))
    rows.append(["int8 against PyTorch int8, then text encoded once", *peers])
    return "\n".join(
        [
            markdown(["one CPU thread, 200 classes, median ms", *lengths], rows),
            "",
            about_bench(results, HEADLINE),
        ]
    )


def steps(results: Published) -> str:
    """The steps of the factor with their intervals."""
    report = results.bench(HEADLINE)
    lengths, _ = _medians(report)
    table = markdown(["times faster, with the 95 % interval", *lengths], _split(report))
    return f"{table}\n\n{about_bench(results, HEADLINE)}"


def _split(report: Report) -> list[tuple[str, ...]]:
    table = split_table(report)
    if table is None:
        raise Missing(f"the steps in {BENCH}/{HEADLINE}.json: give --compare torch")
    return [(name, *map(three_digits, cells)) for name, *cells in from_rich(table).rows]


def three_digits(cell: str) -> str:
    """Numbers with the zeros that end them."""

    def padded(found: re.Match[str]) -> str:
        whole, _, rest = found[0].partition(".")
        missing = 3 - len((whole + rest).lstrip("0"))
        return f"{whole}.{rest}{'0' * missing}" if missing > 0 and "," not in whole else found[0]

    return re.sub(r"\d[\d,]*(?:\.\d+)?", padded, cell)


def processors(results: Published) -> str:
    """Our int8 file on several processors, beside PyTorch's int8 on the same one."""
    names = [name for name in results.benches() if name.startswith(PROCESSOR)]
    if not names:
        raise Missing(f"{BENCH}/{PROCESSOR}*.json")
    names = [HEADLINE, *names] if HEADLINE in results.benches() else names
    reports = [results.bench(name) for name in names]
    lengths = sorted({row.snippets for report in reports for row in _detectors(report)})
    rows = []
    for report in reports:
        fast = [flag for flag in report.machine["cpu_flags"] if flag in FAST]
        cells = [_beside_pytorch(report, length) for length in lengths]
        rows.append([f"{short_cpu(report.machine)}, {', '.join(fast) or 'no 8-bit instructions'}", *cells])
    columns = ["int8 file, ms, and times faster than PyTorch int8", *(f"T = {length:,}" for length in lengths)]
    return f"{markdown(columns, rows)}\n\n{about_bench(results, *names)}"


def _beside_pytorch(report: Report, length: int) -> str:
    rows = [row for row in _detectors(report) if (row.snippets, row.threads, row.batch) == (length, 1, 1)]
    files = [row for row in rows if row.engine == "onnxruntime" and row.precision == "int8"]
    if not files:
        return NONE
    ours, theirs = min(files, key=lambda row: row.median_ms), reference_row(rows)
    found = ratio_of(report, theirs, ours) if theirs is not ours else None
    factor = f", {found[0]:.3g}× ({found[1]:.3g}–{found[2]:.3g})" if found else ""
    return three_digits(f"{number(ours.median_ms)}{factor}")


def threads(results: Published) -> str:
    """Time, gain and efficiency by number of threads."""
    report = results.bench(THREADS)
    rows = [row for row in _detectors(report) if row.batch == 1]
    counts = sorted({row.threads for row in rows})
    lines = []
    for model, length in dict.fromkeys((row.model, row.snippets) for row in rows):
        found = {row.threads: row for row in rows if (row.model, row.snippets) == (model, length)}
        base = found[counts[0]].median_ms
        cells = [f"`{model}`", f"{length:,}"]
        for count in counts:
            gain = base / found[count].median_ms
            share = f", {gain:.2f}×, {100 * gain * counts[0] / count:.0f} %" if count != counts[0] else ""
            used = found[count].utilisation
            cells.append(three_digits(f"{number(found[count].median_ms)}{share}"))
            cells.append(NONE if used is None else f"{100 * used:.0f} %")
        lines.append(cells)
    heads = [words for count in counts for words in (_threads(count, counts[0]), "utilisation")]
    return f"{markdown(['model', 'T', *heads], lines)}\n\n{about_bench(results, THREADS)}"


def _threads(count: int, least: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}, ms{'' if count == least else ', gain, efficiency'}"


BENCHES: Final[dict[str, Callable[[Published], str]]] = {
    "bench-headline": headline,
    "bench-steps": steps,
    "bench-processors": processors,
    "threads": threads,
}
"""Tables of benchmarks, by the name of the block."""
