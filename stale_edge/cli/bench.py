"""`stale-edge bench`: what each file costs on this machine, measured honestly."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stale_edge.cli.bench_towers import TOWER_KINDS, joined, measure_towers, tower_tables
from stale_edge.cli.bench_video import ROUNDS, TRANSFORMERS, VideoQuestion, bench_video
from stale_edge.cli.console import Reporter
from stale_edge.cli.frames import ImageTowerFile, Step  # noqa: TC001 (typer reads annotations when it runs)
from stale_edge.cli.interrupt import prompt_interrupt
from stale_edge.cli.options import (
    CHECKPOINT,
    MODELS,
    STDOUT,
    JsonToFile,
    LatexFile,
    MarkdownFile,
    Providers,
    Quiet,
)
from stale_edge.cli.trial import try_file
from stale_edge_runtime.contract import MAX_SNIPPETS, MIN_SNIPPETS, Kind, Precision, Role
from stale_edge_runtime.errors import InputMissingError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from stale_edge.cli.bench_contenders import ContenderSet
    from stale_edge.paper_tables import PaperTable
    from stale_edge_runtime.bench.budget import LongestVideo
    from stale_edge_runtime.bench.explain import Explanation
    from stale_edge_runtime.bench.onnx_contender import OnnxContender
    from stale_edge_runtime.bench.records import Ceiling, DecodeCost, Report, Row
    from stale_edge_runtime.bench.runner import Plan
    from stale_edge_runtime.bench.thread_ways import ThreadWay
    from stale_edge_runtime.model_file import ModelFile
    from stale_edge_runtime.windows import WindowPlan

LENGTHS = "100,200,1000"
THESIS_LENGTHS = "100,200:3000:200"
THESIS_SEEDS = (0, 100, 200, 300, 400)
PICTURES = {".png", ".svg", ".pdf"}
MODEL_SUFFIX = ".onnx"
RESULT_SUFFIX = ".json"
_KIND_ORDER = [Kind.FULL, Kind.OPEN, Kind.BAKED, Kind.TEXT_TOWER, Kind.IMAGE_TOWER]
_PRECISION_ORDER = list(Precision)


@dataclass(frozen=True)
class Outputs:
    """Files that the results go to besides the table."""

    json: Path | None
    """The whole report."""
    csv: Path | None
    """One line per configuration."""
    plot: Path | None
    """Time against length."""
    latex: Path | None = None
    """The tables."""
    markdown: Path | None = None
    """The tables."""

    def named(self) -> tuple[tuple[str, Path | None], ...]:
        """Give all files by their options."""
        options = ("--json", "--csv", "--plot", "--latex", "--markdown")
        return tuple(zip(options, (self.json, self.csv, self.plot, self.latex, self.markdown), strict=True))


@dataclass(frozen=True)
class Questions:
    """Questions besides the table."""

    compare: bool
    """Whether other engines' answers are to be checked."""
    budget_ms: float | None
    """The time that the longest video is to fit into."""
    explain: bool
    """Whether to show the time by stage and operator."""


def bench(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[MODEL.onnx]...",
            help=f"Files to measure; every {MODELS}/*.onnx by default. With --short, results of --json as well.",
        ),
    ] = None,
    threads: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIST",
            help="Threads inside an operator, as in 1,2,4; several are also compared with as many videos at the same "
            "time. 1 by default.",
        ),
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(help=f"Snippets of a video: a list, or FIRST:LAST:STEP with LAST included. {LENGTHS} by default."),
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Videos in one forward; may be repeated. 1 by default.")
    ] = None,
    providers: Providers = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Exact number of runs instead of --seconds.")] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="Measuring time of each file at each configuration.")] = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the features.")] = 0,
    prompts: Annotated[
        int, typer.Option(min=1, help="Number of classes for files that do not have them inside.")
    ] = 200,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="torch,openvino",
            help="Measure other engines in the same run: the thesis's PyTorch (fp32 and dynamic int8, text tower "
            "inside), OpenVINO on the same files.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help=f"Weights for PyTorch in --compare; {CHECKPOINT} by default.")
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(min=MIN_SNIPPETS, max=MAX_SNIPPETS, help="Measure longer videos in windows of this many too."),
    ] = None,
    hop: Annotated[
        int | None, typer.Option(min=1, help="Snippets from one window to the next; half a window by default.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Search for the longest video that fits into a time, as in 20ms or 0.5s."),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Show where the time goes, from separate runs, and what products reach of the ceiling."
        ),
    ] = False,
    protocol: Annotated[
        str | None,
        typer.Option(metavar="thesis", help="Time as the thesis did: its lengths, one forward per seed, no warm-up."),
    ] = None,
    cold_start: Annotated[
        bool, typer.Option("--cold-start/--no-cold-start", help="Measure load, first run and memory in new processes.")
    ] = True,
    video: Annotated[
        Path | None,
        typer.Option(
            "--video",
            metavar="FILE",
            help="Measure the way from this video to detections instead, by stage, in processor time; with --compare "
            "transformers beside the usual way.",
        ),
    ] = None,
    image_tower: ImageTowerFile = None,
    step: Step = None,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each contender with --video.")] = ROUNDS,
    json: JsonToFile = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write one line per row.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw time against length as .png, .svg or .pdf.")
    ] = None,
    latex: LatexFile = None,
    markdown: MarkdownFile = None,
    short: Annotated[
        bool,
        typer.Option(
            "--short",
            help="Print a few lines of Markdown to post; of results of --json from several machines, one table.",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Measure time, memory and arithmetic of exported files, taking turns, warmed up at each length."""
    from stale_edge.cli.bench_contenders import ContenderRequest, contenders, parse_engines
    from stale_edge_runtime.bench.machine import within_memory

    counts = parse_threads(threads or ["1"])
    if video is not None:
        if len(models or ()) > 1 or len(counts) > 1:
            raise UsageError("--video", "goes with one model and one number of threads", "name one")
        _refuse_beside_video(
            {"--lengths": lengths, "--batch": batch, "--provider": providers, "--runs": runs, "--window": window},
            {"--hop": hop, "--budget": budget, "--explain": explain, "--protocol": protocol},
            {"--csv": csv, "--plot": plot, "--latex": latex, "--markdown": markdown},
        )
        one, each = models[0] if models else None, counts[0]
        ways = parse_engines(compare or [], (TRANSFORMERS,))
        question = VideoQuestion(video, image_tower, one, step, ways, rounds, each)
        bench_video(question, json, Reporter(quiet=quiet))
        return
    if results := [path for path in models or () if path.suffix.lower() == RESULT_SUFFIX]:
        _show_short(results, models or [], Reporter(quiet=quiet), short=short)
        return
    if protocol not in {None, "thesis"}:
        raise UsageError("--protocol", f"{protocol!r} is not known", "use --protocol thesis")
    engines = parse_engines(compare or [])
    questions = Questions(bool(engines), parse_budget(budget) if budget is not None else None, explain)
    outputs = Outputs(json, csv, plot, latex, markdown)
    check_outputs(outputs)
    report = Reporter(quiet=quiet)
    plan = _plan(protocol, lengths, counts, batch, seed, runs, seconds, cold_start=cold_start)
    windows = _windows(window, hop, plan.lengths)
    if protocol:
        report.note("thesis protocol: one forward per seed, not warmed up; read these as the thesis's, not as ours")
    chosen = choose_providers(providers)
    files = read_models(models, plan.lengths)
    _check_decoding(files, batch, engines)
    for file in files:
        try_file(file, min(plan.lengths) if file.info.role is Role.DETECTOR else 1)
    detectors = [file for file in files if file.info.role is Role.DETECTOR]
    towers = [file for file in files if file.info.role is not Role.DETECTOR]
    if outputs.plot and not detectors:
        raise UsageError("--plot", "draws time against length, which towers do not have", "leave it out")
    entry = ContenderRequest(detectors, chosen, prompts, engines, checkpoint, windows)
    measured: list[Report] = []
    with within_memory(chosen), prompt_interrupt():
        if detectors:
            with contenders(entry, report) as field:
                measured.append(_measure(field, plan, questions, report))
        if towers:
            own = replace(entry, files=towers, engines=(), windows=None)
            measured += measure_towers(own, plan, batch or [], report, explain=explain)
    _show(joined(measured), outputs, report, short=short)


def _check_decoding(files: Sequence[ModelFile], batch: list[int] | None, engines: Sequence[Any]) -> None:
    """Refuse what a file that decodes inside cannot do: several videos a call, and outputs of its network."""
    for file in files:
        if file.info.detections and any(size > 1 for size in batch or []):
            raise UsageError("--batch", f"is for several videos, and {file.path} takes one a call", "leave it out")
        if file.info.detections and engines:
            problem = f"has other outputs to compare than {file.path}, which decodes inside"
            raise UsageError("--compare", problem, "name the file that was exported without --detections")


def _refuse_beside_video(*options: dict[str, Any]) -> None:
    """Refuse options of measurements without a video."""
    for group in options:
        if given := [name for name, value in group.items() if value]:
            raise UsageError(given[0], "plays no part in --video", "leave it out")


def parse_lengths(text: str) -> tuple[int, ...]:
    """Read lengths as in `100,200:3000:200`; the last of a range is included.

    Args:
        text: Lengths and ranges FIRST:LAST:STEP, separated by commas.

    Raises:
        UsageError: It is not of that form, or a length is out of bounds.
    """
    found: list[int] = []
    for part in text.split(","):
        words = part.strip().split(":")
        if len(words) not in {1, 3} or not all(re.fullmatch(r"[0-9]{1,9}", word) for word in words):
            raise UsageError("--lengths", f"{part.strip()!r} is no length", "write as in 100,200 or 200:3000:200")
        first, last, step = map(int, words) if len(words) == 3 else (int(words[0]), int(words[0]), 1)
        if step == 0 or first > last:
            raise UsageError("--lengths", f"{part.strip()!r} holds nothing", "write FIRST:LAST:STEP as in 200:3000:200")
        if first < MIN_SNIPPETS or last > MAX_SNIPPETS:
            raise UsageError("--lengths", f"{part.strip()!r} leaves {MIN_SNIPPETS} to {MAX_SNIPPETS}", "stay inside")
        found.extend(range(first, last + 1, step))
    return tuple(dict.fromkeys(found))


def parse_threads(texts: Sequence[str]) -> tuple[int, ...]:
    """Read numbers of threads as in `1,2,4`.

    Args:
        texts: Numbers separated by commas, as often as the option was given.

    Raises:
        UsageError: One is no number of threads.
    """
    words = [word.strip() for text in texts for word in text.split(",")]
    for word in words:
        if not re.fullmatch(r"0*[1-9][0-9]{0,8}", word, re.ASCII):
            raise UsageError("--threads", f"{word!r} is no number of threads", "write as in 2, or 1,2,4")
    return tuple(dict.fromkeys(map(int, words)))


def read_models(models: Sequence[Path] | None, lengths: Sequence[int]) -> list[ModelFile]:
    """Read the files to measure, the heaviest kinds and precisions first.

    Args:
        models: Files named by the user; none for all in the models folder.
        lengths: Snippets that they must take.

    Raises:
        InputMissingError: There is nothing to measure.
        UsageError: A file does not take one of the lengths.
    """
    from stale_edge_runtime.model_file import read_model

    files = [read_model(path) for path in models or sorted(MODELS.glob("*.onnx"))]
    for file in files:
        is_detector = file.info.role is Role.DETECTOR
        if is_detector and (
            untaken := [n for n in lengths if not file.info.min_snippets <= n <= file.info.max_snippets]
        ):
            raise UsageError(
                "--lengths",
                f"{untaken[0]} snippets, but {file.path} takes {file.info.min_snippets} to {file.info.max_snippets}",
                "choose others",
            )
    if not files:
        raise InputMissingError(MODELS / "*.onnx", "nothing to measure", "run `stale-edge export` or name a file")
    if models:
        return files
    order = {
        file.path: (_KIND_ORDER.index(file.info.kind), _PRECISION_ORDER.index(file.info.precision)) for file in files
    }
    return sorted(files, key=lambda file: order[file.path])


def choose_providers(asked: str | None) -> tuple[str, ...]:
    """Providers to measure on: those asked for, or all that work here.

    Args:
        asked: Names separated by commas.

    Raises:
        UsageError: One is not known.
        UnavailableError: One cannot be had here.
    """
    from stale_edge_runtime.session import check_provider
    from stale_edge_runtime.session import providers as working

    if asked is None:
        return working()
    names = tuple(dict.fromkeys(name.strip().lower() for name in asked.split(",")))
    for name in names:
        check_provider(name)
    return names


def parse_budget(text: str) -> float:
    """Read a time as in `20ms` or `0.5s`, in milliseconds.

    Args:
        text: A positive number and its unit.

    Raises:
        UsageError: It is not of that form.
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(ms|s)", text.strip(), re.ASCII)
    if not match or not float(match[1]):
        raise UsageError("--budget", f"{text!r} is no time", "write as in 20ms or 0.5s")
    return float(match[1]) * (1e3 if match[2] == "s" else 1)


def check_outputs(outputs: Outputs) -> None:
    """Find out before minutes of measuring that a result could not be written.

    Raises:
        CannotWriteError: A target cannot be written.
        UsageError: The picture's format is not known, or a result is named like a model.
        UnavailableError: A picture is wanted and matplotlib is not installed.
    """
    from stale_edge.extras import require_plot
    from stale_edge_runtime.formats.files import check_target

    if outputs.plot:
        if outputs.plot.suffix.lower() not in PICTURES:
            raise UsageError(
                "--plot", f"{outputs.plot.name!r} has no known format", f"use {', '.join(sorted(PICTURES))}"
            )
        require_plot("stale-edge bench --plot")
    for option, target in outputs.named():
        if target and target != STDOUT:
            if target.suffix.lower() == MODEL_SUFFIX:
                raise UsageError(option, f"{target.name!r} is named like a model", "give the result another ending")
            check_target(target)


def _plan(
    protocol: str | None,
    lengths: str | None,
    threads: tuple[int, ...],
    batch: list[int] | None,
    seed: int,
    runs: int | None,
    seconds: float,
    *,
    cold_start: bool,
) -> Plan:
    from stale_edge_runtime.bench.measure import Effort
    from stale_edge_runtime.bench.runner import Plan

    thesis = protocol == "thesis"
    if thesis and (runs or seed):
        raise UsageError("--protocol thesis", "fixes seeds and runs", "leave --runs and --seed out")
    return Plan(
        lengths=parse_lengths((THESIS_LENGTHS if thesis else LENGTHS) if lengths is None else lengths),
        threads=threads,
        batches=tuple(dict.fromkeys(batch or [1])),
        seeds=THESIS_SEEDS if thesis else (seed,),
        effort=Effort(runs=1, warm_up=False) if thesis else Effort(seconds=seconds, runs=runs),
        cold_start=cold_start,
        name=protocol or "steady",
    )


def _windows(window: int | None, hop: int | None, lengths: Sequence[int]) -> WindowPlan | None:
    """Windows that some length is cut into."""
    from stale_edge_runtime.windows import WindowPlan

    if window is None:
        if hop is not None:
            raise UsageError("--hop", "needs a window", "give --window too")
        return None
    if window >= max(lengths):
        raise UsageError("--window", f"no video is longer than {window} snippets", "add longer --lengths")
    return WindowPlan.of(window, hop)


def _measure(field: ContenderSet, plan: Plan, questions: Questions, report: Reporter) -> Report:
    from stale_edge_runtime.bench.length_law import crossovers, fit_laws
    from stale_edge_runtime.bench.runner import check_answers, check_ready, run
    from stale_edge_runtime.bench.thread_ways import recommend

    check_ready(field.contenders, plan)
    agreement = check_answers(field.compared, field.reference, plan.lengths[0]) if questions.compare else []
    for item in agreement:
        report.note(
            f"{item.model}: logits within {item.max_relative:.1e} of {item.reference} at {item.snippets} snippets, "
            f"best class changed in {item.top1_changed:.1%} of them"
        )
    with report.progress("bench", len(plan.configurations)) as step:
        measured = run(field.contenders, plan, step, agreement)
    ways = tuple(_thread_ways(field.files, plan, report)) if len(plan.threads) > 1 else ()
    return replace(
        measured,
        thread_ways=ways,
        thread_advice=tuple(recommend(ways)),
        length_laws=tuple(fit_laws(measured.rows)),
        budgets=tuple(_budgets(field, measured.rows, plan, questions.budget_ms, report)) if questions.budget_ms else (),
        crossovers=tuple(crossovers(measured.rows)),
        explanations=tuple(explanations(field.files, plan, measured.ceilings, report)) if questions.explain else (),
        decoding=tuple(_decoding(field.files, plan)),
    )


def _budgets(
    field: ContenderSet, rows: Sequence[Row], plan: Plan, budget_ms: float, report: Reporter
) -> list[LongestVideo]:
    """Search on from the measured rows for the longest video within a time."""
    from stale_edge_runtime.bench.budget import find_budgets
    from stale_edge_runtime.bench.length_law import by_setting

    longest = min((file.model.info.max_snippets for file in field.files), default=MAX_SNIPPETS)
    with report.progress("budget", len(by_setting(rows))) as step:
        return find_budgets(field.contenders, rows, plan, budget_ms, longest, step)


def _decoding(files: Sequence[OnnxContender], plan: Plan) -> Iterator[DecodeCost]:
    """Time what follows a forward, for as many classes and anchors as the first file that does not decode inside."""
    from stale_edge_runtime.bench.decode_cost import decode_costs

    for file in [file for file in files if not file.model.info.detections][:1]:
        info = file.model.info
        yield from decode_costs(plan.lengths, info, info.classes or [str(index) for index in range(200)])


def _thread_ways(files: Sequence[OnnxContender], plan: Plan, report: Reporter) -> Iterator[ThreadWay]:
    """Compare threads on one video with videos at the same time, for every file on the CPU."""
    from stale_edge_runtime.bench.measure import Effort
    from stale_edge_runtime.bench.thread_ways import measure_ways

    effort = plan.effort if plan.effort.warm_up else Effort()  # processes have to start first
    measured = [file for file in files if file.provider == "cpu"]
    with report.progress("threads", len(measured) * len(plan.lengths)) as step:
        for file in measured:
            yield from measure_ways(file, plan.lengths, plan.threads, effort, step)


def explanations(
    files: Sequence[OnnxContender], plan: Plan, ceilings: Sequence[Ceiling], report: Reporter
) -> Iterator[Explanation]:
    """Profile every file on the CPU; after the measuring, never during it.

    Args:
        files: The files.
        plan: Measurement plan.
        ceilings: Product ceilings that are known.
        report: Reporter for progress.
    """
    from stale_edge_runtime.bench.explain import explain

    profiled = [file for file in files if file.provider == "cpu"]
    settings = list(product(plan.threads, plan.batches, profiled))
    with report.progress("explain", len(settings)) as step:
        for threads, batch, file in settings:
            known = {Precision(one.precision): one.gmacs_per_s for one in ceilings if one.threads == threads}
            asked = file.model, file.name, plan.lengths, file.vocabulary
            yield from explain(*asked, threads=threads, batch=batch, ceilings=known)
            step(file.name)


def _show_short(results: Sequence[Path], given: Sequence[Path], report: Reporter, *, short: bool) -> None:
    """Print results of several machines in the short form, without measuring anything."""
    from stale_edge.cli.bench_short import short_form
    from stale_edge_runtime.bench.records import read_report

    if not short:
        raise UsageError(results[0], "is a result, not a model", "give --short to print it, or name an .onnx file")
    if others := [path for path in given if path not in results]:
        raise UsageError(others[0], f"is no result as {results[0]} is", "name results alone, or models alone")
    report.result(short_form([read_report(path) for path in results]))


def _show(result: Report, outputs: Outputs, report: Reporter, *, short: bool) -> None:
    from stale_edge.cli.bench_short import short_form
    from stale_edge.cli.bench_table import busy_warning
    from stale_edge.paper_tables import write_tables
    from stale_edge_runtime.bench.records import save_csv, save_json
    from stale_edge_runtime.formats.files import together

    for note in filter(None, (*result.notes, busy_warning(result))):
        report.warn(note)
    if outputs.json != STDOUT:
        for item in [short_form([result])] if short else _answers(result):
            report.result(item)
    if outputs.json == STDOUT:
        report.result_json(result.to_json())
    with together():
        if outputs.json and outputs.json != STDOUT:
            save_json(outputs.json, result)
        if outputs.csv:
            save_csv(outputs.csv, result)
        if outputs.plot:
            from stale_edge.cli.bench_plot import draw

            draw(replace(result, rows=tuple(row for row in result.rows if row.kind not in TOWER_KINDS)), outputs.plot)
        write_tables(_paper_tables(result), outputs.latex, outputs.markdown)
    for _, target in outputs.named():
        if target and target != STDOUT:
            report.note(f"wrote {target}")


def _paper_tables(result: Report) -> list[PaperTable]:
    """Make tables for papers: medians by length, the split of the factor, and all columns; below each the machine."""
    from stale_edge.cli.bench_split_table import length_table, split_table
    from stale_edge.cli.bench_table import busy_warning, configurations, machine_line, table
    from stale_edge.cli.bench_threads_table import advice_lines, core_line, threads_table
    from stale_edge.paper_tables import from_rich

    settings = configurations(result)
    found = [from_rich(length_table(result, threads, batch)) for threads, batch in settings]
    if (split := split_table(result)) is not None:
        found.append(from_rich(split))
    found += [from_rich(table(result, threads, batch), heads=("model",)) for threads, batch in settings]
    if result.thread_ways:
        words = ". ".join([*advice_lines(result), core_line(result.machine)])
        found.append(replace(from_rich(threads_table(result), heads=("model",)), note=words))
    machine = ". ".join(filter(None, (machine_line(result), busy_warning(result))))
    return [replace(one, note=". ".join(filter(None, (one.note, machine)))) for one in found]


def _answers(result: Report) -> Iterator[Table | str]:
    """Yield the text for standard output, in order."""
    from stale_edge.cli.bench_explain_table import explain_tables
    from stale_edge.cli.bench_law_table import budget_line, crossover_line, law_table
    from stale_edge.cli.bench_products_table import product_tables
    from stale_edge.cli.bench_split_table import split_table
    from stale_edge.cli.bench_table import configurations, decode_lines, machine_line, table
    from stale_edge.cli.bench_threads_table import advice_lines, core_line, threads_table

    for threads, batch in configurations(result):
        yield table(result, threads, batch)
    if result.thread_ways:
        yield threads_table(result)
        yield from advice_lines(result)
        yield core_line(result.machine)
    yield from tower_tables(result)
    if result.length_laws:
        yield law_table(result)
    yield from map(budget_line, result.budgets)
    yield from map(crossover_line, result.crossovers)
    yield from explain_tables(result.explanations)
    yield from product_tables(result.explanations)
    yield from decode_lines(result)
    if (split := split_table(result)) is not None:
        yield split
    yield machine_line(result)
