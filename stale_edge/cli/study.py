"""`stale-edge study`: one of the thesis's experiments from beginning to end, by one command."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.interrupt import prompt_interrupt
from stale_edge.cli.options import (
    OUTPUT,
    RUNS,
    JsonToStdout,
    LatexFile,
    MarkdownFile,
    Providers,
    Quick,
    Quiet,
    check_tables,
)
from stale_edge.study.design import StudyName
from stale_edge.study.experiments.seeds import parse_seeds
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.formats.files import make_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from stale_edge.study.design import Study
    from stale_edge.study.runner import StudyProgress
    from stale_edge.study.store import StudyRun

STUDIES = RUNS / "study"
TIMING = (StudyName.INFERENCE, StudyName.QUANTIZATION)
MOST_REPEATS = 10_000
GO_ON = "finished cells are kept; the same command goes on"


def study(
    name: Annotated[
        StudyName,
        typer.Argument(
            metavar="NAME",
            help="Learning: open-set, closed-set, training, ablation, localization, robustness. Time and memory: "
            "inference, quantization.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            *OUTPUT,
            metavar="DIR",
            help=f"Folder for all that is measured; {STUDIES}/NAME by default, NAME-quick with --quick.",
        ),
    ] = None,
    quick: Quick = False,
    repeats: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_REPEATS,
            help="Trainings of each cell; or turns of each contender with each input, 3 by default.",
        ),
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="LIST", help="Seeds of what is random, as in 0,100,200.")] = None,
    lengths: Annotated[
        str | None,
        typer.Option(help="Snippets of timed videos: a list, or FIRST:LAST:STEP; the thesis's by default."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Videos to learn from, as `simulate` writes them; a simulated world if none."),
    ] = None,
    networks: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Networks, as in stale,actionformer; all three by default. localization has the boundary map alone.",
        ),
    ] = None,
    providers: Providers = None,
    peak_tmacs: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            help="Peak of the GPU in fp32, in 10^12 multiply-accumulates a second; as the GPU tells by default.",
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of what is timed; 1 by default.")] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="Weights to time; an untrained network of the published size by default."),
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0.0, metavar="M", help="Begin no cell after this time; call again to go on.")
    ] = None,
    json: JsonToStdout = False,
    latex: LatexFile = None,
    markdown: MarkdownFile = None,
    quiet: Quiet = False,
) -> None:
    """Reproduce one of the thesis's experiments, measured cell by cell into a folder, and sum it up.

    Whenever it is stopped, the same command goes on with the cells that are missing. Timings want a quiet machine.
    """
    timing = {"--lengths": lengths, "--providers": providers, "--threads": threads, "--checkpoint": checkpoint}
    foreign: dict[str, object] = {"--data": data} if name in TIMING else {**timing}
    if name is not StudyName.INFERENCE:
        foreign |= {"--peak-tmacs": peak_tmacs}
    check_tables(latex, markdown)
    _check(name, foreign, {"--peak-tmacs": peak_tmacs, "--max-minutes": max_minutes})
    drawn = None if seeds is None else parse_seeds(seeds)
    wanted = None if networks is None else tuple(word.strip() for word in networks.split(",") if word.strip())
    from stale_edge.cli.study_table import summary, summary_table
    from stale_edge.extras import has_report, require_study

    require_study("stale-edge study")
    report = Reporter(quiet=quiet)
    folder = output or STUDIES / (f"{name}-quick" if quick else name)
    if name in TIMING:
        from stale_edge.cli.bench import choose_providers, parse_lengths
        from stale_edge.study.experiments.timing import TimingSettings, timing_study

        settings = TimingSettings(
            lengths=() if lengths is None else parse_lengths(lengths),
            seeds=drawn or (),
            networks=wanted,
            turns=repeats or 0,
            providers=choose_providers(providers),
            threads=threads or 1,
            checkpoint=checkpoint,
            peak_tmacs=peak_tmacs,
            quick=quick,
        )
        chosen: Study = timing_study(name, folder, settings, _computing)
        devices = settings.providers
    else:
        from stale_edge.study.context import RunContext
        from stale_edge.study.experiments.data_source import learning_study
        from stale_edge.training.launch import accelerator

        context = RunContext(folder, _computing)
        chosen = learning_study(
            name, quick=quick, repeats=repeats, seeds=drawn, data=data, networks=wanted, context=context
        )
        devices = (accelerator(),)
    run = _run(chosen, devices, folder, max_minutes, report)
    if json:
        report.result_json({**run.header(), "summary": summary(run)})
    else:
        report.result(summary_table(run))
    for note in run.notes:
        report.note(note)
    if not run.complete:
        report.warn(f"{run.finished} of {run.cells} cells are measured: the time was over; the same command goes on")
    if run.measurements and has_report():
        from stale_edge.study.report.report import write_report

        report.note(f"wrote {write_report([run], folder)}")
    elif run.measurements:
        report.note("no figures and no page: pip install 'stale-edge[report]' and call again")
    if run.measurements and (latex or markdown):
        from stale_edge.paper_tables import write_tables
        from stale_edge.study.report.report import paper_tables

        for path in write_tables(paper_tables([run]), latex, markdown):
            report.note(f"wrote {path}")
    report.note(f"all measurements are in {folder}")


def _check(name: StudyName, foreign: Mapping[str, object], numbers: Mapping[str, float | None]) -> None:
    """Refuse options of other studies, and numbers that are not finite.

    Raises:
        UsageError: The message names the option.
    """
    for option, value in foreign.items():
        if value is not None:
            raise UsageError(option, f"is no option of the study {name}", "leave it out")
    for option, number in numbers.items():
        if number is not None and not math.isfinite(number):
            raise UsageError(option, f"{number} is not a finite number", "give one")


def _run(
    chosen: Study, devices: tuple[str, ...], folder: Path, max_minutes: float | None, report: Reporter
) -> StudyRun:
    """Measure what is missing, with progress shown; say how to go on where it is interrupted."""
    from stale_edge.study.runner import run_study
    from stale_edge.study.store import Store

    make_folder(folder)
    cells, store = chosen.cells(), Store(folder)
    done = sum(map(store.has, cells))
    max_s = None if max_minutes is None else 60 * max_minutes
    try:
        with report.progress(f"study {chosen.name}", len(cells), done, estimate=False) as step:

            def on_cell(progress: StudyProgress) -> None:
                left = f", about {_duration(progress.remaining_s)} left" if progress.done < progress.cells else ""
                step(f"{progress.key} in {_duration(progress.seconds)}{left}")

            return run_study(chosen, folder, on_cell=on_cell, note=report.note, providers=devices, max_s=max_s)
    except KeyboardInterrupt:
        report.note(GO_ON)
        raise


def _computing() -> AbstractContextManager[None]:
    """Ctrl-C is obeyed at once, and says how to go on."""
    return prompt_interrupt(f"interrupted; {GO_ON}")


def _duration(seconds: float) -> str:
    """Write a duration as a person says it."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
