"""`stale-edge train`: a network learns from annotated videos, real or simulated."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.detect import Compat  # noqa: TC001 (typer reads annotations when it runs)
from stale_edge.cli.interrupt import INTERRUPTED, prompt_interrupt
from stale_edge.cli.options import (
    CHECKPOINT,
    GROUND_TRUTH,
    MODELS,
    OUTPUT,
    JsonToStdout,
    NumberedClasses,
    Quiet,
    SnippetSeconds,
)
from stale_edge.training.inputs import TrainingInputs, make_training_run
from stale_edge_runtime.contract import STALE_NETWORK
from stale_edge_runtime.errors import CannotWriteError, InputMissingError, UnavailableError, UsageError
from stale_edge_runtime.formats.files import make_folder
from stale_edge_runtime.formats.sole_writer import sole_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lightning_fabric import Fabric

    from stale_edge.networks.base import NetworkSpec
    from stale_edge.training.run import RunOptions, StepReport, TrainingResult, TrainingRun, ValidationReport
    from stale_edge.training.settings import TrainingSettings

RESUME_HINT = "go on with the same command and --resume"


class Accelerator(StrEnum):
    """Device to train on."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class TrainingPrecision(StrEnum):
    """Number format of the products."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


class LossWeighting(StrEnum):
    """The published weights of the loss's terms."""

    CLOSED = "closed"
    OPEN_75 = "75/25"
    OPEN_50 = "50/50"


def train(
    output: Annotated[Path, typer.Option(*OUTPUT, metavar="RUN_DIR", help="Folder of the run.")],
    annotations: Annotated[
        Path | None,
        typer.Option(*GROUND_TRUTH, metavar="FILE", help="Annotations of ActivityNet or THUMOS14, in any form."),
    ] = None,
    numbered_classes: NumberedClasses = None,
    features: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Features of the videos: a folder, or one HDF5 file.")
    ] = None,
    simulated: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|default",
            help="Endless videos of the world that `simulate` wrote to DIR, or of the default one.",
        ),
    ] = None,
    split: Annotated[
        Path | None, typer.Option(metavar="LIST", help="Teach only these classes, one a line: the seen ones.")
    ] = None,
    subset: Annotated[str | None, typer.Option(help="Subset to train on; by default the one usual for it.")] = None,
    fraction: Annotated[
        float, typer.Option(metavar="P", help="Share of the videos to sample; every class keeps one or more.")
    ] = 1.0,
    snippet_s: SnippetSeconds = None,
    held_out: Annotated[
        float,
        typer.Option(metavar="P", help="Share of the videos held out to choose the best weights by; 0 keeps the last."),
    ] = 0.1,
    fit_share: Annotated[
        float,
        typer.Option(
            metavar="P",
            help="Share of the videos that only the closed form of boundary-map sees; 0: it sees all.",
        ),
    ] = 0.0,
    videos: Annotated[int, typer.Option(min=1, help="Simulated videos in an epoch.")] = 1000,
    text_embeddings: Annotated[
        Path | None, typer.Option(metavar="FILE.npy", help="Text embeddings of --classes: classes x width.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names of their classes, seen and unseen, one a line.")
    ] = None,
    class_means: Annotated[
        bool,
        typer.Option(
            "--class-means", help="Take the mean features of each class for its text; of boundary-map, for closed sets."
        ),
    ] = False,
    text_tower: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Checkpoint whose text tower to use; all else starts anew.")
    ] = None,
    initial: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Checkpoint to start from, with its text tower or embeddings.")
    ] = None,
    network: Annotated[
        str, typer.Option(metavar="NAME", help="Network to train, where no checkpoint to start from is given.")
    ] = STALE_NETWORK,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Published configuration of actionformer: activitynet-clip (the default), activitynet-tsp, "
            "activitynet-i3d, thumos14-i3d; or of boundary-map: clip (the default), clip-crops.",
        ),
    ] = None,
    train_text: Annotated[
        bool | None,
        typer.Option("--train-text/--no-train-text", help="Train the text tower too, as published.", show_default="no"),
    ] = None,
    ours: Annotated[
        str,
        typer.Option(
            "--design",
            metavar="OPTIONS",
            help="Depart from the published design: centring, signed-similarity, no-gate, as a list, or all.",
        ),
    ] = "",
    compat: Annotated[
        Compat | None, typer.Option(help="Targets, loss, optimiser and epochs as the published code has them.")
    ] = None,
    loss: Annotated[LossWeighting, typer.Option(help="Published weights of the loss's terms.")] = LossWeighting.CLOSED,
    epochs: Annotated[int | None, typer.Option(help="Epochs; 30, or as the preset says.")] = None,
    batch: Annotated[
        int | None, typer.Option(help="Videos in a step, over all devices together; 32, or as the preset says.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate; 3e-4, or as the preset says.")] = None,
    average_decay: Annotated[
        float | None,
        typer.Option(
            "--average-decay",
            metavar="P",
            help="Judge and save a moving average of the weights that keeps this share a step; as the preset says.",
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="Epochs without a better held-out mAP after which to stop; 10, or as the preset says."),
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0.0, metavar="M", help="Stop after this time, wherever training is.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order, dropout, sample and held-out videos.")] = 0,
    accelerator: Annotated[Accelerator, typer.Option(help="Device to train on.")] = Accelerator.AUTO,
    devices: Annotated[
        int, typer.Option(min=1, help="Processes, or GPUs, of this machine; torchrun sets its own.")
    ] = 1,
    precision: Annotated[TrainingPrecision, typer.Option(help="Number format; auto is bf16 on GPUs that have it.")] = (
        TrainingPrecision.AUTO
    ),
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that fetch or draw videos ahead of each training process; the results are the same.",
            show_default="up to 8 for a GPU; on a CPU 1 for simulated videos, else 0",
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of a process on the CPU; torch's by default.")] = (
        None
    ),
    save_minutes: Annotated[
        float, typer.Option(min=0.0, help="Minutes between saved states, besides those after epochs.")
    ] = 5.0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in RUN_DIR was stopped.")] = False,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help=f"Where the best weights go, for export; {CHECKPOINT}, by the network's name."
        ),
    ] = None,
    json: JsonToStdout = False,
    quiet: Quiet = False,
) -> None:
    """Train the network; the best weights by held-out mAP go to models/stale.safetensors.

    Text embeddings are computed once unless the text tower is trained. Held-out videos are of the taught classes;
    nothing of other classes is looked at. After a kill at any moment, the same command with --resume goes on; on the
    CPU, with as many threads, to the very bytes of an unbroken run.
    """
    from stale_edge.extras import require_train

    require_train("stale-edge train")
    options = TrainingInputs(
        annotations=annotations,
        numbered_classes=numbered_classes,
        features=features,
        simulated=simulated,
        split=split,
        subset=subset,
        fraction=fraction,
        snippet_s=snippet_s,
        held_out=held_out,
        fit_share=fit_share,
        videos=videos,
        text_embeddings=text_embeddings,
        classes=classes,
        text_tower=text_tower,
        class_means=class_means,
        initial=initial,
        ours=_parse_designs(ours, network, compat),
        network=network,
        preset=preset,
    )
    from stale_edge.checkpoint import read_network_name
    from stale_edge.cli.networks import network_spec
    from stale_edge.networks.weight_files import MAX_BYTES

    network_spec(network)
    name = network if initial is None else read_network_name(initial)
    spec = network_spec(name, preset)
    model = model or MODELS / f"{name}.safetensors"
    options.check(uses_text=spec.uses_text)
    import torch

    from stale_edge.training.launch import launch
    from stale_edge.training.run import RunOptions
    from stale_edge_runtime.formats.files import read_bytes, write_bytes
    from stale_edge_runtime.session import check_threads

    if threads:
        check_threads(threads)
        torch.set_num_threads(threads)
    changes: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch,
        "learning_rate": lr,
        "average_decay": average_decay,
        "patience": patience,
    }
    kind = _accelerator(accelerator)
    settings = replace(
        _settings(spec, preset, compat),
        seed=seed,
        loss_weights=str(loss),
        precision=_precision(precision, kind),
        **{name: value for name, value in changes.items() if value is not None},
    )
    with _no_empty_folder_left(output):
        _check_outputs(output, model, resume=resume)
        fabric = launch(kind, devices, settings.precision)
        report = Reporter(quiet=quiet or not fabric.is_global_zero)
        if model.exists() and fabric.is_global_zero:
            report.warn(f"{model} will be replaced by the best weights when training ends; keep it with --model FILE")
        training = make_training_run(options, settings, train_text=train_text)
    settings = replace(settings, train_text=not training.text.is_floating_point())
    _describe(training, settings, report)
    run = RunOptions(
        workers=_workers(kind, is_drawn=simulated is not None) if workers is None else workers,
        save_every_s=60 * save_minutes,
        max_minutes=max_minutes,
        computing=lambda: prompt_interrupt(f"{INTERRUPTED}; {RESUME_HINT}"),
    )
    busy = CannotWriteError(output, "another training is writing to it", "name another folder")
    with sole_writer(output, busy) if fabric.is_global_zero else contextlib.nullcontext():
        result = _train(fabric, training, settings, output, run, report, resume=resume)
        if fabric.is_global_zero:
            write_bytes(model, read_bytes(result.checkpoint, limit=MAX_BYTES))
            _tell(result, output, model, report, as_json=json)


def _settings(spec: NetworkSpec, preset: str | None, compat: Compat | None) -> TrainingSettings:
    """Settings of a preset, or those of a network that has none.

    Raises:
        UsageError: `--compat` for a network that is trained as published anyway.
    """
    from stale_edge.training.settings import PRESETS, TrainingSettings

    if not spec.presets:
        return PRESETS[compat]
    if compat is not None:
        raise UsageError("--compat", "belongs to the network stale", "leave it out; presets train as published")
    return TrainingSettings(**spec.presets[preset or next(iter(spec.presets))].training)


def _parse_designs(text: str, network: str, compat: Compat | None) -> tuple[str, ...]:
    """Names of our options.

    Raises:
        UsageError: There is no such option, or the published training is asked for.
    """
    from stale_edge.networks.registry import NETWORKS

    every = NETWORKS[network].designs if network in NETWORKS else ()
    names = every if text.strip() == "all" else tuple(part.strip() for part in text.split(",") if part.strip())
    if odd := [name for name in names if name not in every]:
        raise UsageError("--design", f"{odd[0]!r} is not known", f"choose from {', '.join(every)}, or give all")
    if names and compat:
        raise UsageError("--design", "does not go with --compat, which trains as published", "leave one out")
    return names


def _train(
    fabric: Fabric,
    training: TrainingRun,
    settings: TrainingSettings,
    folder: Path,
    run: RunOptions,
    report: Reporter,
    *,
    resume: bool,
) -> TrainingResult:
    """Train with progress shown; say how to go on where it is interrupted."""
    from stale_edge.training.trainer import Trainer

    progress = _Progress(report)
    run = replace(run, on_step=progress.on_step, on_validation=progress.on_validation)
    trainer = Trainer(fabric, training, settings, folder, run)
    if resume:
        if changes := trainer.resume():
            report.warn(changes)
        report.note(f"going on after step {trainer.steps_done} of {trainer.steps}")
    try:
        with progress.following(trainer.steps - trainer.steps_done):
            return trainer.fit()
    except KeyboardInterrupt:
        report.note(f"stopped after step {trainer.steps_done} of {trainer.steps}; {RESUME_HINT}")
        raise


class _Progress:
    """Shows steps with their loss, and what validation says."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._step: Callable[[str], None] = lambda _: None
        self._held_out = ""

    @contextlib.contextmanager
    def following(self, steps: int) -> Iterator[None]:
        """Show what comes until the block ends."""
        with self._report.progress("training", steps) as self._step:
            yield

    def on_step(self, step: StepReport) -> None:
        """Show one step."""
        terms = " ".join(f"{name} {value:.3f}" for name, value in step.loss.items() if name != "total")
        self._step(f"epoch {step.epoch} loss {step.loss['total']:.3f} ({terms}){self._held_out}")

    def on_validation(self, found: ValidationReport) -> None:
        """Show one validation."""
        self._held_out = f" held-out mAP {100 * found.average_map:.1f}"
        best = ", the best so far" if found.best else ""
        self._report.note(f"epoch {found.epoch}: held-out average mAP {100 * found.average_map:.2f}{best}")


def _accelerator(wanted: Accelerator) -> str:
    """Choose the device to compute on.

    Raises:
        UnavailableError: CUDA was asked for, and there is none.
    """
    from stale_edge.training.launch import accelerator

    best = accelerator()
    if wanted is Accelerator.AUTO:
        return best
    if wanted is Accelerator.CUDA and best != "cuda":
        raise UnavailableError("--accelerator cuda", "this machine or this PyTorch has no CUDA", "leave it out")
    return str(wanted)


def _workers(kind: str, *, is_drawn: bool) -> int:
    """Choose how many processes fetch videos: drawing them takes as long as learning, reading does not."""
    processors = os.cpu_count() or 1
    return min(8, processors) if kind == "cuda" else int(is_drawn and processors > 1)


def _precision(wanted: TrainingPrecision, accelerator: str) -> str:
    import torch

    if wanted is not TrainingPrecision.AUTO:
        return str(wanted)
    has_bf16 = accelerator == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return str(TrainingPrecision.BF16 if has_bf16 else TrainingPrecision.FP32)


def _check_outputs(folder: Path, model: Path, *, resume: bool) -> None:
    """Find out that an output cannot be written before the work, not after it."""
    from stale_edge.training.trainer import STATE_FILE

    if model.is_dir():
        raise CannotWriteError(model, "is a folder", "name a file with --model")
    make_folder(model.parent)
    if resume and not folder.is_dir():
        raise InputMissingError(folder, "no such folder", "there is nothing to resume: leave --resume out")
    if not resume and (folder / STATE_FILE).exists():
        raise UsageError(folder, "holds a training already", "go on with --resume, or name another folder")
    make_folder(folder)


@contextlib.contextmanager
def _no_empty_folder_left(folder: Path) -> Iterator[None]:
    """Take back the folders that were made inside the block, where it fails before anything is in them."""
    made = [part for part in (folder, *folder.parents) if not part.exists()]
    try:
        yield
    except BaseException:
        for part in made:  # the innermost first; what holds something stays
            with contextlib.suppress(OSError):
                part.rmdir()
        raise


def _describe(training: TrainingRun, settings: TrainingSettings, report: Reporter) -> None:
    """Say what is going to be trained, and what was left out."""
    source = training.source
    report.note(
        f"{len(source):,} videos of {len(source.classes)} classes in an epoch, {len(training.held_out):,} held out"
    )
    for reason, count in getattr(source, "left_out", {}).items():
        report.note(f"left out: {count:,} {reason}")
    if bad := getattr(source, "bad_files", ()):
        report.warn(f"left out {len(bad):,} feature files that cannot be used; the first: {bad[0]}")
    trained = "; the text tower is trained too" if settings.train_text else ""
    report.note(
        f"{training.network_name}: {settings.optimizer}, learning rate {settings.learning_rate:g}, "
        f"batch {settings.batch_size}, {settings.epochs} epochs{trained}"
    )


def _tell(result: TrainingResult, folder: Path, model: Path, report: Reporter, *, as_json: bool) -> None:
    from stale_edge.training.run import End

    summary: dict[str, Any] = {
        "run": str(folder),
        "model": str(model),
        "end": result.end.name.lower(),
        "steps": result.steps,
        "best_step": result.best_step,
        "held_out_average_map": result.average_map,
    }
    if as_json:
        report.result_json(summary)
        return
    judged = "no videos are held out"
    if result.average_map is not None:
        judged = f"average mAP {100 * result.average_map:.2f} on held-out videos"
    report.result(f"{model}: {judged}, from step {result.best_step}; {result.end} after {result.steps} steps")
    if result.end is End.TIME:
        report.note(f"to train on, {RESUME_HINT}")
