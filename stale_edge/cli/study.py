"""`stale-edge study`: one of the thesis's experiments from beginning to end, by one command."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.interrupt import prompt_interrupt
from stale_edge.cli.option_names import PROVIDER
from stale_edge.cli.options import RUNS, JsonToStdout, Quiet
from stale_edge.study.design import StudyName
from stale_edge.study.experiments.seeds import parse_seeds
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.formats.files import make_folder

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from stale_edge.study.design import Study
    from stale_edge.study.runner import Progress
    from stale_edge.study.store import StudyRun

STUDIES = RUNS / "study"
TIMING = (StudyName.INFERENCE, StudyName.QUANTIZATION)
MOST_REPEATS = 10_000
GO_ON = "finished cells are kept; the same command goes on"


@dataclass(frozen=True)
class Choice:
    """What the user asked for."""

    name: StudyName
    """Which study."""
    quick: bool
    """A short look."""
    repeats: int | None
    """How often each cell is measured."""
    seeds: tuple[int, ...] | None
    """Of what is random."""
    lengths: str | None
    """Snippets of timed videos."""
    data: Path | None
    """Videos to learn from."""
    providers: str | None
    """Where to time."""
    peak_tmacs: float | None
    """What the GPU can do at most in fp32."""
    threads: int | None
    """Threads inside an operator."""
    checkpoint: Path | None
    """Weights to time."""
    max_minutes: float | None
    """Time after which no cell is begun."""

    def check(self) -> None:
        """Refuse options that are not of this study, and numbers that are none.

        Raises:
            UsageError: The message names the option.
        """
        timing: dict[str, object] = {
            "--lengths": self.lengths,
            "--providers": self.providers,
            "--threads": self.threads,
            "--checkpoint": self.checkpoint,
        }
        foreign: dict[str, object] = {"--data": self.data} if self.name in TIMING else timing
        if self.name is not StudyName.INFERENCE:
            foreign |= {"--peak-tmacs": self.peak_tmacs}
        for option, value in foreign.items():
            if value is not None:
                raise UsageError(option, f"is no option of the study {self.name}", "leave it out")
        for option, number in (("--peak-tmacs", self.peak_tmacs), ("--max-minutes", self.max_minutes)):
            if number is not None and not math.isfinite(number):
                raise UsageError(option, f"{number} is no number to go by", "give a finite one")


def study(
    name: Annotated[
        StudyName,
        typer.Argument(
            metavar="NAME",
            help="Of learning: open-set, closed-set, training, ablation. Of time and memory: inference, quantization.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help=f"Folder for all that is measured; {STUDIES}/NAME by default, NAME-quick with --quick.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A short look in minutes; its numbers are not to cite.")
    ] = False,
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
    providers: Annotated[
        str | None,
        typer.Option(*PROVIDER, help="Where to time, as in cpu,cuda; everything this machine has by default."),
    ] = None,
    peak_tmacs: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            help="What the GPU can do at most in fp32, in 10^12 multiply-accumulates a second; as it says by default.",
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
    quiet: Quiet = False,
) -> None:
    """Reproduce one of the thesis's experiments, measured cell by cell into a folder, and sum it up.

    Whenever it is stopped, the same command goes on with the cells that are missing. Timings want a quiet machine.
    """
    choice = Choice(
        name=name,
        quick=quick,
        repeats=repeats,
        seeds=None if seeds is None else parse_seeds(seeds),
        lengths=lengths,
        data=data,
        providers=providers,
        peak_tmacs=peak_tmacs,
        threads=threads,
        checkpoint=checkpoint,
        max_minutes=max_minutes,
    )
    choice.check()
    from stale_edge.cli.study_table import summary, summary_table
    from stale_edge.extras import has_report, require_study

    require_study("stale-edge study")
    report = Reporter(quiet=quiet)
    folder = output or STUDIES / (f"{name}-quick" if quick else name)
    run = _run(choice, folder, report)
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
    report.note(f"all measurements are in {folder}")


def _run(choice: Choice, folder: Path, report: Reporter) -> StudyRun:
    """Measure what is missing, with progress shown; say how to go on where it is interrupted."""
    from stale_edge.study.runner import run_study
    from stale_edge.study.store import Store

    providers = _providers(choice)
    chosen = _study(choice, providers, folder)
    make_folder(folder)
    cells, store = chosen.cells(), Store(folder)
    done = sum(map(store.has, cells))
    max_s = None if choice.max_minutes is None else 60 * choice.max_minutes
    try:
        with report.progress(f"study {choice.name}", len(cells), done, estimate=False) as step:

            def on_cell(progress: Progress) -> None:
                left = f", about {_duration(progress.remaining_s)} left" if progress.done < progress.cells else ""
                step(f"{progress.key} in {_duration(progress.seconds)}{left}")

            return run_study(chosen, folder, on_cell=on_cell, note=report.note, providers=providers, max_s=max_s)
    except KeyboardInterrupt:
        report.note(GO_ON)
        raise


def _providers(choice: Choice) -> tuple[str, ...]:
    """Where the study runs: where it was asked to time, or where this machine teaches."""
    if choice.name in TIMING:
        from stale_edge.cli.bench import choose_providers

        return choose_providers(choice.providers)
    from stale_edge.study.experiments.training_runs import accelerator

    return (accelerator(),)


def _study(choice: Choice, providers: tuple[str, ...], folder: Path) -> Study:
    """The study that was asked for; nothing is written yet."""
    if choice.name not in TIMING:
        from stale_edge.study.context import RunContext
        from stale_edge.study.experiments.data_source import learning_study

        return learning_study(
            choice.name,
            quick=choice.quick,
            repeats=choice.repeats,
            seeds=choice.seeds,
            data=choice.data,
            context=RunContext(folder, _computing),
        )
    from stale_edge.cli.bench import parse_lengths
    from stale_edge.study.experiments.timing import timing_study

    return timing_study(
        choice.name,
        folder,
        quick=choice.quick,
        repeats=choice.repeats,
        seeds=choice.seeds,
        lengths=None if choice.lengths is None else parse_lengths(choice.lengths),
        providers=providers,
        threads=choice.threads or 1,
        checkpoint=choice.checkpoint,
        peak_tmacs=choice.peak_tmacs,
        computing=_computing,
    )


def _computing() -> AbstractContextManager[None]:
    """Ctrl-C is obeyed at once, and says how to go on."""
    return prompt_interrupt(f"interrupted; {GO_ON}")


def _duration(seconds: float) -> str:
    """A time as a person says it."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
