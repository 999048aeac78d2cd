"""`stale-edge bench`: what each file costs on this machine, measured honestly."""

from __future__ import annotations

import contextlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.options import CHECKPOINT, MODELS, JsonToFile, Quiet
from stale_edge_runtime.contract import MAX_SNIPPETS, MIN_SNIPPETS, Kind, Precision
from stale_edge_runtime.errors import InputMissingError, UnavailableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stale_edge.checkpoint import Checkpoint
    from stale_edge_runtime.bench.measure import Contender
    from stale_edge_runtime.bench.records import Report
    from stale_edge_runtime.bench.runner import Plan
    from stale_edge_runtime.bench.vocabulary import Vocabulary
    from stale_edge_runtime.model_file import ModelFile

LENGTHS = "100,200,1000"
THESIS_LENGTHS = "100,200:3000:200"
THESIS_SEEDS = (0, 100, 200, 300, 400)
PICTURES = {".png", ".svg", ".pdf"}
_KIND_ORDER = [Kind.FULL, Kind.OPEN, Kind.BAKED, Kind.TEXT_TOWER]
_PRECISION_ORDER = list(Precision)


@dataclass(frozen=True)
class Outputs:
    """Where the results go besides the table."""

    json: Path | None
    """The whole report."""
    csv: Path | None
    """One line per configuration."""
    plot: Path | None
    """Time against length."""


def bench(
    models: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[MODEL.onnx]...", help=f"Files to measure; every {MODELS}/*.onnx by default."),
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="Threads inside an operator; may be repeated. 1 by default.")
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(help=f"Snippets of a video: a list, or FIRST:LAST:STEP with LAST included. {LENGTHS} by default."),
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Videos in one forward; may be repeated. 1 by default.")
    ] = None,
    providers: Annotated[
        str | None, typer.Option(help="Where to run, as in cpu,cuda; everything this machine has by default.")
    ] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Exact number of runs instead of --seconds.")] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="Measuring time of each file at each configuration.")] = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the features.")] = 0,
    prompts: Annotated[
        int, typer.Option(min=1, help="Number of classes for files that do not have them inside.")
    ] = 200,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="torch", help="Measure PyTorch fp32 and dynamic int8 beside the files, text tower inside."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help=f"Weights for --compare torch; {CHECKPOINT} by default.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(metavar="thesis", help="As the thesis timed: its lengths, one forward per seed, no warm-up."),
    ] = None,
    cold_start: Annotated[
        bool, typer.Option("--cold-start/--no-cold-start", help="Measure load, first run and memory in new processes.")
    ] = True,
    json: JsonToFile = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write one line per row.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw time against length as .png, .svg or .pdf.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Measure time, memory and arithmetic of exported files, taking turns, warmed up at each length."""
    from stale_edge_runtime.bench.machine import within_memory

    _choice("--compare", compare, "torch")
    _choice("--protocol", protocol, "thesis")
    outputs = Outputs(json, csv, plot)
    check_outputs(outputs)
    report = Reporter(quiet=quiet)
    plan = _plan(protocol, lengths, threads, batch, seed, runs, seconds, cold_start=cold_start)
    if protocol:
        report.note("thesis protocol: one forward per seed, not warmed up; read these as the thesis's, not as ours")
    chosen = choose_providers(providers)
    files = read_models(models, plan.lengths, report)
    with (
        within_memory(chosen),
        contenders(files, chosen, prompts, compare is not None, checkpoint, report) as entered,
    ):
        result = _measure(entered, plan, compare is not None, report)
    _show(result, outputs, report)


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


def read_models(models: Sequence[Path] | None, lengths: Sequence[int], report: Reporter) -> list[ModelFile]:
    """Read the files to measure, the heaviest kinds and precisions first; text towers are passed over.

    Args:
        models: Files named by the user; none for all in the models folder.
        lengths: Snippets that they must take.
        report: To say what is passed over.

    Raises:
        InputMissingError: There is nothing to measure.
        UsageError: A file does not take one of the lengths.
    """
    from stale_edge_runtime.model_file import read_model

    files = [read_model(path) for path in models or sorted(MODELS.glob("*.onnx"))]
    detectors = [file for file in files if file.info.kind is not Kind.TEXT_TOWER]
    for file in files:
        if file.info.kind is Kind.TEXT_TOWER:
            report.note(f"{file.path}: a text tower has no length; passed over")
        elif untaken := [n for n in lengths if not file.info.min_snippets <= n <= file.info.max_snippets]:
            raise UsageError(
                "--lengths",
                f"{untaken[0]} snippets, but {file.path} takes {file.info.min_snippets} to {file.info.max_snippets}",
                "choose others",
            )
    if not detectors:
        raise InputMissingError(MODELS / "*.onnx", "nothing to measure", "run `stale-edge export` or name a file")
    if models:
        return detectors
    order = {
        file.path: (_KIND_ORDER.index(file.info.kind), _PRECISION_ORDER.index(file.info.precision)) for file in files
    }
    return sorted(detectors, key=lambda file: order[file.path])


def choose_providers(asked: str | None) -> tuple[str, ...]:
    """Providers to measure on: those asked for, or all that work here.

    Args:
        asked: Names separated by commas.

    Raises:
        UnavailableError: One is not known, or cannot be had here.
    """
    from stale_edge_runtime.session import PROVIDERS, check_provider
    from stale_edge_runtime.session import providers as working

    if asked is None:
        return working()
    names = tuple(dict.fromkeys(name.strip().lower() for name in asked.split(",")))
    for name in names:
        if name not in PROVIDERS:
            raise UnavailableError(f"provider {name!r}", "is not known", f"use {' or '.join(PROVIDERS)}")
        check_provider(name)
    return names


@contextlib.contextmanager
def contenders(
    files: Sequence[ModelFile],
    providers: Sequence[str],
    prompts: int,
    with_torch: bool,
    checkpoint: Path | None,
    report: Reporter,
) -> Iterator[list[Contender]]:
    """What is to be measured, references first.

    Args:
        files: Exported files.
        providers: Where to run them.
        prompts: Number of classes for files that do not have them inside.
        with_torch: Add the thesis's contenders.
        checkpoint: Weights for those.
        report: To say where the weights come from.
    """
    from stale_edge_runtime.bench.onnx_contender import OnnxContender, vocabulary_for

    with contextlib.ExitStack() as stack:
        vocabulary: Vocabulary | None = None
        found: list[Contender] = []
        if with_torch:
            torch_found, vocabulary = stack.enter_context(_torch(files, checkpoint, report))
            found.extend(torch_found)
        for name, file in zip(distinct_names([file.path for file in files]), files, strict=True):
            text = vocabulary or vocabulary_for(file, classes=prompts)
            for provider in providers:
                label = name if len(providers) == 1 else f"{name} ({provider})"
                found.append(OnnxContender(file, label, provider, text))
        yield found


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Short names of files that tell them apart, without the folders they share.

    Args:
        paths: Files; the same one may come twice.
    """
    names: list[str] = []
    for path in paths:
        parts = path.resolve().parts
        same = [other for other in paths if other.name == path.name and other.resolve() != path.resolve()]
        depth = 1
        while any(other.resolve().parts[-depth:] == parts[-depth:] for other in same):
            depth += 1
        name = "/".join(parts[-depth:])
        copies = sum(known.partition(" #")[0] == name for known in names)
        names.append(f"{name} #{copies + 1}" if copies else name)
    return names


def check_outputs(outputs: Outputs) -> None:
    """Find out before minutes of measuring that a result could not be written.

    Raises:
        CannotWriteError: A target cannot be written.
        UsageError: The picture's format is not known.
        UnavailableError: A picture is wanted and matplotlib is not installed.
    """
    from stale_edge.cli.extras import require_plot
    from stale_edge_runtime.files import atomic_path

    if outputs.plot:
        if outputs.plot.suffix.lower() not in PICTURES:
            raise UsageError(
                "--plot", f"{outputs.plot.name!r} has no known format", f"use {', '.join(sorted(PICTURES))}"
            )
        require_plot("stale-edge bench --plot")
    for target in (outputs.json, outputs.csv, outputs.plot):
        if target:
            with contextlib.suppress(_NotNowError), atomic_path(target):
                raise _NotNowError


class _NotNowError(Exception):
    """Ends a write before it replaces anything."""


def _choice(option: str, value: str | None, allowed: str) -> None:
    if value not in {None, allowed}:
        raise UsageError(option, f"{value!r} is not known", f"use {option} {allowed}")


def _plan(
    protocol: str | None,
    lengths: str | None,
    threads: list[int] | None,
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
        threads=tuple(dict.fromkeys(threads or [1])),
        batches=tuple(dict.fromkeys(batch or [1])),
        seeds=THESIS_SEEDS if thesis else (seed,),
        effort=Effort(runs=1, warm_up=False) if thesis else Effort(seconds=seconds, runs=runs),
        cold_start=cold_start,
        name=protocol or "steady",
    )


@contextlib.contextmanager
def _torch(
    files: Sequence[ModelFile], checkpoint: Path | None, report: Reporter
) -> Iterator[tuple[list[Contender], Vocabulary]]:
    """The thesis's contenders with the weights of the files, and the text inputs that go with them."""
    from stale_edge.cli.extras import require_export

    require_export("stale-edge bench --compare torch")
    from stale_edge.checkpoint import load_checkpoint, save_checkpoint
    from stale_edge_export.torch_contender import torch_contenders, vocabulary_of

    baked = {file.info.classes for file in files if file.info.kind is Kind.BAKED}
    if len(baked) > 1:
        raise UsageError("--compare torch", "the files have different class lists", "measure them one by one")
    with tempfile.TemporaryDirectory(prefix="stale-edge-") as folder:
        if checkpoint is None and all(file.info.untrained for file in files):
            report.note("the files are untrained: PyTorch gets the same seeded weights")
            source, weights = _seeded(files), Path(folder) / "seeded.safetensors"
            save_checkpoint(weights, source)
        else:
            weights = checkpoint or CHECKPOINT
            report.note(f"PyTorch gets the weights of {weights}")
            source = load_checkpoint(weights)
        names = next(iter(baked), source.classes)
        found = torch_contenders(source.network, names, weights)
        yield list(found), vocabulary_of(source.network, names)


def _seeded(files: Sequence[ModelFile]) -> Checkpoint:
    """The untrained network that the files were exported from."""
    from stale_edge.checkpoint import Checkpoint
    from stale_edge.class_names import activitynet_classes
    from stale_edge.config import ModelConfig
    from stale_edge.seeded import seeded_network

    seeds = {file.info.weights.get("seed") for file in files}
    seed = next(iter(seeds))
    if len(seeds) != 1 or not isinstance(seed, int):
        raise UsageError("--compare torch", "the files have different weights", "name them with --checkpoint")
    config = ModelConfig(feature_dim=files[0].info.feature_dim, anchors=files[0].info.anchors)
    return Checkpoint(seeded_network(config, seed), activitynet_classes(), {"source": "seeded", "seed": seed})


def _measure(entered: Sequence[Contender], plan: Plan, with_torch: bool, report: Reporter) -> Report:
    from stale_edge_runtime.bench.runner import check_answers, check_ready, run

    check_ready(entered, plan)
    agreement = check_answers(entered, entered[0], plan.lengths[0]) if with_torch else []
    for item in agreement:
        report.note(
            f"{item.model}: logits within {item.max_relative:.1e} of {item.reference} at {item.snippets} snippets, "
            f"best class changed in {item.top1_changed:.1%} of them"
        )
    with report.progress("bench", len(plan.configurations)) as step:
        return run(entered, plan, step, agreement)


def _show(result: Report, outputs: Outputs, report: Reporter) -> None:
    from stale_edge.cli.bench_table import configurations, machine_line, table
    from stale_edge_runtime.bench.records import save_csv, save_json

    for note in result.notes:
        report.warn(note)
    for threads, batch in configurations(result):
        report.result(table(result, threads, batch))
    report.result(machine_line(result))
    if outputs.json:
        save_json(outputs.json, result)
    if outputs.csv:
        save_csv(outputs.csv, result)
    if outputs.plot:
        from stale_edge.cli.bench_plot import draw

        draw(result, outputs.plot)
    for target in (outputs.json, outputs.csv, outputs.plot):
        if target:
            report.note(f"wrote {target}")
