"""Training: the same loop on one CPU, one GPU, and several GPUs or nodes, on Lightning Fabric.

Several processes share each batch. Most terms of the published loss are functions of means over the whole batch, so the
outputs of all processes are gathered and every process computes the loss of the whole batch: its gradient is that of
one process, not an average of other losses.
"""

from __future__ import annotations

import json
import math
import random
import time
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from stale_edge.checkpoint import SUGGESTED_MIN_SCORE, Checkpoint, save_checkpoint
from stale_edge.data.batches import BatchPlan, next_batch, open_batches
from stale_edge.data.reference_points import evaluate_predictor, network_predictor
from stale_edge.networks.registry import NETWORKS
from stale_edge.training.log import TrainingLog
from stale_edge.training.run import End, RunOptions, StepReport, TrainingResult, TrainingRun, ValidationReport
from stale_edge.training.state import (
    TrainingIdentity,
    TrainingProgress,
    load_state,
    random_states,
    save_state,
    set_random_states,
)
from stale_edge_runtime.errors import BadDataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from lightning_fabric import Fabric

    from stale_edge.data.dataset import Batch, TrainingVideo, VideoSource
    from stale_edge.networks.base import BatchTargets, NetworkSpec
    from stale_edge.training.settings import TrainingSettings
    from stale_edge_runtime.metrics.evaluation import EvaluationResult

STATE_FILE: Final = "state.safetensors"
BEST_FILE: Final = "best.safetensors"
STOPPED_FILE: Final = "stopped.safetensors"


class TrainingPass(nn.Module):
    """The network's forward pass as training wants it, text given either way."""

    def __init__(self, network: Any, spec: NetworkSpec) -> None:
        super().__init__()
        self.network = network
        self._spec = spec

    def forward(self, features: Tensor, lengths: Tensor, text: Tensor) -> tuple[Tensor, ...]:
        """Compute the inputs of the loss.

        Args:
            features: [B, T, D].
            lengths: True snippets of each, [B].
            text: Embeddings [C, D] or token ids [C, L].
        """
        return self._spec.training_outputs(self.network, features, lengths, _embeddings(self.network, text))


class Trainer:
    """Trains a network and keeps all that is needed to go on after a kill.

    The folder gets `state.safetensors` (everything, to resume from), `best.safetensors` (a checkpoint), CSV files and
    TensorBoard events. On a CPU, with the same number of threads, a resumed training gives the bytes of an unbroken
    one.

    Args:
        fabric: Launched.
        training: Network and data. The network is trained in place.
        settings: Settings of the training.
        folder: Folder of the run; exists.
        options: Execution settings that do not change the result.

    Raises:
        UsageError: The training cannot be done with these settings.
    """

    def __init__(
        self,
        fabric: Fabric,
        training: TrainingRun,
        settings: TrainingSettings,
        folder: Path,
        options: RunOptions | None = None,
    ) -> None:
        self._fabric = fabric
        self._training = training
        self._settings = settings
        self._folder = folder
        self._options = options or RunOptions()
        self._plan = BatchPlan(
            len(training.source),
            settings.batch_size,
            settings.epochs,
            settings.seed,
            fabric.world_size,
            drop_last=settings.drop_last,
        )
        self._check()
        self._spec = NETWORKS[training.network_name]
        self._loss = self._spec.loss(training.network.config, settings)
        network = training.network.requires_grad_(requires_grad=True)
        if network.text_tower is not None:
            network.text_tower.requires_grad_(settings.train_text)
        self._optimizer = make_optimizer(network, settings, self._spec.decays)
        self._module, self._stepper = fabric.setup(TrainingPass(network, self._spec), self._optimizer)
        if isinstance(self._loss, nn.Module):
            self._loss.to(fabric.device)
        self._average = None if settings.average_decay is None else deepcopy(network).requires_grad_(False)
        self._text = training.text.to(fabric.device)
        sizes = {"network": training.network_name, **network.config.to_dict()}
        identity = TrainingIdentity(sizes, settings.to_dict(), training.data, fabric.world_size)
        self._identity = replace(identity, data=json.loads(json.dumps(dict(training.data))))
        self._progress = TrainingProgress()
        self._random_rows: Mapping[str, Tensor] | None = None

    @property
    def steps(self) -> int:
        """Steps in all epochs together."""
        return self._plan.steps

    @property
    def steps_done(self) -> int:
        """Steps done so far."""
        return self._progress.step

    def resume(self) -> str:
        """Go back to where the state in the folder stands.

        Returns:
            Note on what another number of processes changes; empty for the same number.

        Raises:
            InputMissingError: There is none.
            BadDataError: It is damaged.
            UsageError: It is of another training.
        """
        path = self._folder / STATE_FILE
        modules = self._beside()
        self._progress, rows = load_state(path, self._training.network, self._optimizer, self._identity, modules)
        if self._progress.step > self.steps:
            raise BadDataError(path, f"says step {self._progress.step} of {self.steps}", "start again")
        self._random_rows = rows
        before, now = len(rows["random.torch"]), self._fabric.world_size
        if before == now:
            return ""
        return (
            f"{before} processes trained so far, and {now} go on: the same videos in the same steps, but dropout draws "
            "otherwise and sums are rounded otherwise, so the weights are not those of an unbroken training"
        )

    def fit(self) -> TrainingResult:
        """Train to the end, or until the time is up.

        Raises:
            BadDataError: A feature file is not what it must be, or the loss is not finite.
            CannotWriteError: The folder cannot be written.
            StorageError: The disk is full or failed.
        """
        self._seed()
        if self._random_rows is None:
            self._save_state()  # a training killed before its first state can be resumed too
        log = None
        if self._fabric.is_global_zero:
            log = TrainingLog(self._folder, self._spec.loss_terms, self._progress.step)
        with log or nullcontext():
            end = self._train(log)
            if end is End.TIME and self._progress.step > self._progress.validated_step:
                if not len(self._training.held_out):
                    self._keep_last()
                    return self._result(end)
                result = self._score()
                score = result.average_map
                if self._progress.best_score is None or score > self._progress.best_score:
                    self._save_checkpoint(STOPPED_FILE, self._progress.step, result)
                    step = self._progress.step
                    return TrainingResult(end, step, step, score, self._folder / STOPPED_FILE)
        return self._result(end)

    def _result(self, end: End) -> TrainingResult:
        progress = self._progress
        return TrainingResult(end, progress.step, progress.best_step, progress.best_score, self._folder / BEST_FILE)

    def _train(self, log: TrainingLog | None) -> End:
        options, started, saved = self._options, time.monotonic(), time.monotonic()
        for batch in self._batches():
            with options.computing():
                report = self._step(batch)
            self._progress = replace(self._progress, step=report.step)
            if log:
                values = {"step": report.step, "epoch": report.epoch, **report.loss}
                log.step({**values, "learning_rate": report.learning_rate, "gradient_norm": report.gradient_norm})
            options.on_step(report)
            epoch_done = report.step % self._plan.steps_per_epoch == 0
            if epoch_done:
                self._validate(log)
            now = time.monotonic()
            time_up = self._agree(options.max_minutes is not None and now - started > 60 * options.max_minutes)
            if epoch_done or time_up or self._agree(now - saved >= options.save_every_s):
                self._save_state()
                saved = now
            if self._progress.stopped_early:
                return End.NO_GAIN
            if time_up and report.step < self.steps:
                return End.TIME
        return End.NO_GAIN if self._progress.stopped_early else End.FINISHED

    def _batches(self) -> Iterator[Batch]:
        """Yield every batch that remains; none where patience ran out before."""
        if self._progress.stopped_early:
            return
        fabric, training = self._fabric, self._training
        loader = open_batches(
            training.source,
            self._plan,
            self._spec,
            training.network.config,
            first_step=self._progress.step,
            process=fabric.global_rank,
            workers=self._options.workers,
            compat=self._settings.compat,
            pin_memory=fabric.device.type == "cuda",
        )
        fetched = iter(loader)
        while True:
            with self._options.computing():
                batch = next_batch(fetched)
            if batch is None:
                return
            yield batch

    def _step(self, batch: Batch) -> StepReport:
        """Take one step of the optimiser."""
        step = self._progress.step
        rate = self._settings.learning_rate_at(step, self.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._module.train()
        batch = batch.to(self._fabric.device, non_blocking=True)
        output, targets = self._gather(self._module(batch.features, batch.lengths, self._text), batch.targets)
        terms = self._loss(output, targets)
        self._optimizer.zero_grad(set_to_none=True)
        self._fabric.backward(terms[0])
        norm = self._fabric.clip_gradients(
            self._module, self._stepper, max_norm=self._settings.clip_norm or math.inf, error_if_nonfinite=False
        )
        values = {name: float(value.detach()) for name, value in zip(self._spec.loss_terms, terms, strict=True)}
        length = float(norm) if norm is not None else 0.0
        if not math.isfinite(values["total"]) or not math.isfinite(length):
            problem = f"loss {values['total']:g} and gradient {length:g} at step {step + 1} are not finite"
            raise BadDataError(self._folder, problem, "try a lower --lr; the last state is unchanged")
        self._stepper.step()
        if self._average is not None:
            update_average(self._average, self._training.network, self._settings.average_decay or 0.0)
        return StepReport(step + 1, step // self._plan.steps_per_epoch + 1, rate, length, values)

    def _gather(self, output: tuple[Tensor, ...], targets: BatchTargets) -> tuple[tuple[Tensor, ...], BatchTargets]:
        """Gather the whole batch from the parts of all processes, without the repetitions that made them equal."""
        if self._fabric.world_size == 1:
            return output, targets
        videos = self._plan.size(self._progress.step)
        return (
            type(output)(*(self._joined(part, sync_grads=True)[:videos] for part in output)),
            type(targets)(*(self._joined_targets(part)[:videos] for part in targets.tensors())),
        )

    def _joined_targets(self, part: Tensor) -> Tensor:
        """Join targets of all processes; what is no fraction goes as whole numbers, which every backend can send."""
        return self._joined(part if part.is_floating_point() else part.long()).to(part.dtype)

    def _joined(self, part: Tensor, *, sync_grads: bool = False) -> Tensor:
        """Join the parts [B, …] of all processes to one [processes · B, …]."""
        gathered = self._fabric.all_gather(part.contiguous(), sync_grads=sync_grads)
        assert isinstance(gathered, Tensor)  # noqa: S101 (Fabric gives what it got)
        return gathered if self._fabric.world_size == 1 else gathered.flatten(0, 1)

    def _score(self) -> EvaluationResult:
        """Held-out mAP, computed by the first process for all."""
        result: EvaluationResult | None = None
        if self._fabric.is_global_zero:
            training = self._training
            with torch.inference_mode():
                text = _embeddings(training.network, self._text)
            held_out = training.held_out
            with self._options.computing():
                predictor = network_predictor(training.network_name, self._judged, text, held_out.classes)
                result = evaluate_predictor(predictor, _every(held_out))
        broadcast: EvaluationResult = self._fabric.broadcast(result)  # type: ignore[assignment]
        return broadcast

    def _keep_last(self) -> None:
        """Keep the weights as they are: nothing judges them."""
        step = self._progress.step
        self._save_checkpoint(BEST_FILE, step, None)
        self._progress = replace(self._progress, validated_step=step, best_step=step)

    def _validate(self, log: TrainingLog | None) -> None:
        if not len(self._training.held_out):
            self._keep_last()
            return
        result = self._score()
        score, progress = result.average_map, self._progress
        best = progress.best_score is None or score > progress.best_score
        if best:
            self._save_checkpoint(BEST_FILE, progress.step, result)
        since = 0 if best else progress.epochs_since_best + 1
        self._progress = replace(
            progress,
            validated_step=progress.step,
            best_score=score if best else progress.best_score,
            best_step=progress.step if best else progress.best_step,
            epochs_since_best=since,
            stopped_early=self._settings.patience is not None and since >= self._settings.patience,
        )
        epoch = progress.step // self._plan.steps_per_epoch
        if log:
            at = dict(zip(result.tious, result.map, strict=True))
            columns = {"map_50": at[0.5], "map_75": at[0.75], "map_95": at[0.95]}
            log.validation({"step": progress.step, "epoch": epoch, "average_map": score, **columns})
        self._options.on_validation(ValidationReport(progress.step, epoch, score, best))

    def _save_checkpoint(self, name: str, step: int, result: EvaluationResult | None) -> None:
        """Write the weights as a checkpoint for export."""
        if not self._fabric.is_global_zero:
            return
        training = self._training
        judged: dict[str, Any] = {}
        if result is not None:
            judged = {"held_out_average_map": round(result.average_map, 6)}
            judged[SUGGESTED_MIN_SCORE] = result.suggested_min_score
        origin = {
            "source": "trained",
            "step": step,
            **judged,
            "taught_classes": list(training.source.classes),
            "settings": self._settings.to_dict(),
        }
        if fit := training.data.get("fit"):
            origin["fit"] = dict(fit)
        classes = training.classes or training.source.classes
        checkpoint = Checkpoint(
            self._judged,
            classes,
            origin,
            training.stored_text,
            training.network_name,
            feature_norm=training.feature_norm,
            features=training.features,
        )
        save_checkpoint(self._folder / name, checkpoint)

    def _save_state(self) -> None:
        rows = {
            name: self._joined(state[None]).cpu()  # [processes, N]
            for name, state in random_states().items()
        }
        if self._fabric.is_global_zero:
            path, network = self._folder / STATE_FILE, self._training.network
            save_state(path, network, self._optimizer, rows, self._progress, self._identity, self._beside())

    @property
    def _judged(self) -> Any:
        """The network that is judged and saved."""
        return self._training.network if self._average is None else self._average

    def _beside(self) -> dict[str, nn.Module]:
        """Name the modules that a training's state holds beside the network."""
        modules = {"average": self._average, "loss": self._loss}
        return {name: module for name, module in modules.items() if isinstance(module, nn.Module)}

    def _seed(self) -> None:
        """Set all random generators: anew, or as they were."""
        rank = self._fabric.global_rank
        if self._random_rows is None or rank >= len(self._random_rows["random.torch"]):
            step = [self._progress.step] if self._progress.step else []  # one that joins later draws other numbers
            seed = int(np.random.SeedSequence([self._settings.seed, rank, *step]).generate_state(1)[0])
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 (libraries may use the global one)
            torch.manual_seed(seed)
            return
        try:
            set_random_states({name: rows[rank].clone() for name, rows in self._random_rows.items()})
        except (ValueError, RuntimeError, TypeError, OverflowError) as error:
            path = self._folder / STATE_FILE
            raise BadDataError(path, f"holds random states that cannot be ({error})", "start again") from error

    def _agree(self, decision: bool) -> bool:
        """Share the first process's decision with all."""
        return decision if self._fabric.world_size == 1 else bool(self._fabric.broadcast(decision))

    def _check(self) -> None:
        settings, training = self._settings, self._training
        if not self._plan.steps_per_epoch:
            raise UsageError("training", "has no videos", "give some")
        if training.text.is_floating_point() == settings.train_text:
            raise UsageError("text", "must be token ids to train the text tower, and embeddings otherwise")


def make_optimizer(
    network: nn.Module, settings: TrainingSettings, decays: Callable[[str, Tensor], bool]
) -> torch.optim.Optimizer:
    """Make the optimiser of the settings over the parameters that are trained.

    Args:
        network: The network.
        settings: Adam, as published for STALE, decays everything.
        decays: Whether AdamW decays a parameter, by name.
    """
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    if settings.optimizer == "adam":
        return torch.optim.Adam(trained.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    decayed = [parameter for name, parameter in trained.items() if decays(name, parameter)]
    others = [parameter for name, parameter in trained.items() if not decays(name, parameter)]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move an average of weights towards those of a network."""
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def _embeddings(network: Any, text: Tensor) -> Tensor:
    embeddings: Tensor = text if text.is_floating_point() else network.encode_text(text)
    return embeddings


def _every(source: VideoSource) -> Iterator[TrainingVideo]:
    return (source.video(index, 0) for index in range(len(source)))
