"""Inputs and results of a training."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from stale_edge_runtime.contract import STALE_NETWORK
from stale_edge_runtime.feature_origin import FeatureOrigin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from stale_edge.data.dataset import VideoSource


class End(StrEnum):
    """Reason for the end of a training."""

    FINISHED = "all epochs are done"
    NO_GAIN = "the held-out mAP has not risen for too long"
    TIME = "the time is up"


@dataclass(frozen=True)
class TrainingRun:
    """Network and data of a training."""

    network: Any
    """A network of the registry with its first weights."""
    text: Tensor
    """Text of the classes of the source, in their order: embeddings [C, D], or token ids int64 [C, L] for the text
    tower."""
    source: VideoSource
    """Videos to train on."""
    held_out: VideoSource
    """Other videos of the same classes, to choose the best checkpoint by; without any, the last one is kept."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Summary of the data as JSON: a training is resumed only with the same."""
    classes: tuple[str, ...] = ()
    """Names to store with the weights; those of the source by default."""
    stored_text: Tensor | None = None
    """Text embeddings of these names, to store where the network has no text tower."""
    network_name: str = STALE_NETWORK
    """Kind of network, a key of `NETWORKS`."""
    feature_norm: float | None = None
    """Median length of the rows of features of the source, where it was measured."""
    features: FeatureOrigin = field(default_factory=FeatureOrigin)
    """The way the features of the source were made, where known."""


@dataclass(frozen=True)
class StepReport:
    """Result of one step."""

    step: int
    """Steps done."""
    epoch: int
    """Epoch of the step, from 1."""
    learning_rate: float
    """Learning rate of the step."""
    gradient_norm: float
    """Gradient norm before clipping."""
    loss: Mapping[str, float]
    """The total and its terms."""


@dataclass(frozen=True)
class ValidationReport:
    """Result of one validation."""

    step: int
    """Steps done."""
    epoch: int
    """Epochs done."""
    average_map: float
    """Average mAP on the held-out videos, in [0, 1]."""
    best: bool
    """Whether none was better before."""


@dataclass(frozen=True)
class RunOptions:
    """Execution settings that do not change the result of a training that runs to its end."""

    workers: int = 0
    """Processes that fetch videos beside each training process."""
    save_every_s: float = 300.0
    """Seconds between two states, besides the one after every epoch."""
    max_minutes: float | None = None
    """Time after which training stops where it is."""
    on_step: Callable[[StepReport], None] = lambda _: None
    """Called after each step."""
    on_validation: Callable[[ValidationReport], None] = lambda _: None
    """Called after each validation."""
    computing: Callable[[], AbstractContextManager[None]] = nullcontext
    """Entered around work that writes no file."""


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training."""

    end: End
    """Reason for the end."""
    steps: int
    """Steps done, earlier runs counted."""
    best_step: int
    """Step of the best weights, or of the last where no videos are held out."""
    average_map: float | None
    """Average mAP of these weights on the held-out videos, in [0, 1]; None where there are none."""
    checkpoint: Path
    """Checkpoint with these weights."""
