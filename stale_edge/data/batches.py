"""The order in which videos are shown: a function of seed and epoch alone.

So a training that was killed goes on with the very batches that it had not seen, whatever the number of worker
processes that fetch them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from stale_edge.data.dataset import Batch, TrainingVideo, collate
from stale_edge_runtime.errors import StaleEdgeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stale_edge.data.dataset import VideoSource
    from stale_edge.networks.base import NetworkSpec

Key = tuple[int, int]
"""Epoch and index of a video."""


@dataclass(frozen=True)
class BatchPlan:
    """Assignment of videos to steps."""

    videos: int
    """Videos in an epoch."""
    batch_size: int
    """Videos in a step, over all processes together."""
    epochs: int
    """Number of epochs."""
    seed: int
    """Seed of the order."""
    processes: int = 1
    """Processes that share each batch in equal parts; where that leaves gaps, the last parts repeat its videos."""
    drop_last: bool = False
    """Whether an epoch leaves its last batch out where it is not full, unless there is no other."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch."""
        whole, rest = divmod(self.videos, self.batch_size)
        return whole + (rest > 0 and not (self.drop_last and whole))

    @property
    def steps(self) -> int:
        """Steps in all epochs."""
        return self.epochs * self.steps_per_epoch

    def batches(self, epoch: int, process: int = 0) -> list[list[Key]]:
        """Videos of every step of an epoch, as one process sees them.

        The parts of all processes together begin with the batch of one process; what follows are repetitions.

        Args:
            epoch: Number of the epoch, from 0.
            process: Number of the process, from 0.
        """
        order = np.random.default_rng([self.seed, epoch]).permutation(self.videos).tolist()
        batches = []
        for first in range(0, self.steps_per_epoch * self.batch_size, self.batch_size):
            whole = order[first : first + self.batch_size]
            share = -(-len(whole) // self.processes)
            filled = itertools.islice(itertools.cycle(whole), process * share, (process + 1) * share)
            batches.append([(epoch, index) for index in filled])
        return batches

    def size(self, step: int) -> int:
        """Count the videos of a step, over all processes together and without repetitions.

        Args:
            step: Number of the step in all epochs, from 0.
        """
        return min(self.batch_size, self.videos - step % self.steps_per_epoch * self.batch_size)


class _Steps(Sampler[list[Key]]):
    """All batches from one step to the last."""

    def __init__(self, plan: BatchPlan, first_step: int, process: int) -> None:
        self._plan, self._first_step, self._process = plan, first_step, process

    def __len__(self) -> int:
        return max(0, self._plan.steps - self._first_step)

    def __iter__(self) -> Iterator[list[Key]]:
        first_epoch, done = divmod(self._first_step, self._plan.steps_per_epoch)
        for epoch in range(first_epoch, self._plan.epochs):
            yield from self._plan.batches(epoch, self._process)[done:]
            done = 0


@dataclass(frozen=True)
class _Failure:
    """An error on its way from a worker process, which could not pickle it."""

    kind: type[StaleEdgeError]
    subject: str
    problem: str
    cure: str


class _Videos(Dataset[TrainingVideo | _Failure]):
    """A video source as torch wants it."""

    def __init__(self, source: VideoSource, seed: int) -> None:
        self._source, self._seed = source, seed

    def __getitem__(self, key: Key) -> TrainingVideo | _Failure:
        epoch, index = key
        try:
            return replace(self._source.video(index, epoch), draw=(self._seed, epoch, index))
        except StaleEdgeError as error:
            return _Failure(type(error), error.subject, error.problem, error.cure)


def open_batches(
    source: VideoSource,
    plan: BatchPlan,
    network: NetworkSpec,
    config: Any,
    *,
    first_step: int = 0,
    process: int = 0,
    workers: int = 0,
    compat: str | None = None,
    pin_memory: bool = False,
) -> Iterable[Batch | _Failure]:
    """Batches of all steps that remain, in order.

    Args:
        source: Source of the videos.
        plan: Assignment of videos to steps.
        network: Network that is trained.
        config: Configuration of the network.
        first_step: Steps that are done already.
        process: Number of this process, from 0.
        workers: Processes that fetch videos beside this one.
        compat: `"stale"` rounds targets as published.
        pin_memory: Whether batches go to a GPU.

    Returns:
        Gives what `next_batch` takes, for every step.
    """
    return DataLoader(
        _Videos(source, plan.seed),
        batch_sampler=_Steps(plan, first_step, process),
        collate_fn=partial(_collate, classes=source.classes, network=network, config=config, compat=compat),
        num_workers=workers,
        pin_memory=pin_memory,
        generator=torch.Generator().manual_seed(plan.seed),  # its own: dropout must not depend on when it was opened
    )


def next_batch(batches: Iterator[Batch | _Failure]) -> Batch | None:
    """Take the next batch of an iterator that `open_batches` gave; none after the last.

    Raises:
        StaleEdgeError: A video could not be read; as the source raised it, also from a worker process.
    """
    fetched = next(batches, None)
    if isinstance(fetched, _Failure):
        raise fetched.kind(fetched.subject, fetched.problem, fetched.cure)
    return fetched


def _collate(
    videos: list[TrainingVideo | _Failure],
    *,
    classes: tuple[str, ...],
    network: NetworkSpec,
    config: Any,
    compat: str | None,
) -> Batch | _Failure:
    whole = []
    for video in videos:
        if isinstance(video, _Failure):
            return video
        whole.append(video)
    return collate(whole, classes, network, config, compat=compat)
