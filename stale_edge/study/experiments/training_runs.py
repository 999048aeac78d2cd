"""Teaching one network within a study: its first weights, one training, the best of its weights back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stale_edge.checkpoint import load_checkpoint
from stale_edge.data.reference_points import network_predictor, reference_predictor
from stale_edge.networks.base import FirstSizes
from stale_edge.networks.registry import NETWORKS
from stale_edge.study.context import ANYWHERE, RunContext
from stale_edge.training.launch import accelerator, launch
from stale_edge.training.run import Lesson, RunOptions
from stale_edge.training.settings import TrainingSettings
from stale_edge_runtime.contract import STALE_NETWORK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from stale_edge.data.dataset import TrainingVideo, VideoSource
    from stale_edge.data.reference_points import Predictor
    from stale_edge.study.experiments.evaluation_sets import Exam
    from stale_edge.training.run import ValidationReport

NETWORK = STALE_NETWORK
"""Kind of network that the learning studies train: the thesis's."""
SPEC = NETWORKS[NETWORK]
SNIPPETS = SPEC.training_length(SPEC.config())
"""Length that every video is resized to; None takes videos as they are."""
EVERY_OPTION = SPEC.designs


@dataclass(frozen=True)
class Scale:
    """Amounts of training and evaluation, which decide both duration and results of a study."""

    videos: int
    """Videos to teach: in an epoch of an endless source, or in all."""
    epochs: int
    """Times that they are shown."""
    selection: int = 0
    """Videos of an endless source to choose the best checkpoint by, one for each class or more; a finite one holds a
    share of its own out."""
    seen: int = 0
    """Videos of taught classes to judge by."""
    unseen: int = 0
    """Videos of other classes to judge by."""
    batch_size: int = 32
    """Videos in a step."""
    learning_rate: float = 1e-3
    """Highest learning rate: above the default of `train`, because the trainings of a study are short."""

    def settings(self, seed: int, loss_weights: str = "closed") -> TrainingSettings:
        """Give the settings of a training: those of `train` but for this scale, and without early stopping.

        Args:
            seed: Seed of the order of the videos and of dropout.
            loss_weights: A key of `LOSS_WEIGHTS`.
        """
        return TrainingSettings(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            loss_weights=loss_weights,
            seed=seed,
            patience=None,
        )


@dataclass(frozen=True)
class Material:
    """Training data and evaluation sets."""

    source: VideoSource
    """Videos to teach."""
    held_out: VideoSource
    """Other videos of the same classes, to choose the best checkpoint by."""
    text: NDArray[np.float32]
    """Text embeddings [C, D] of the taught classes."""
    common: NDArray[np.float32]
    """Mean of the features of training videos [D]; no label is looked at."""
    exams: Mapping[str, Exam]
    """Videos to judge by, by subset: `seen`, `unseen`."""


@dataclass(frozen=True)
class Taught:
    """Result of a training."""

    network: Any
    """Network with the weights that were best on the held-out videos, on the device it was trained on."""
    seconds: float
    """Seconds of the whole training, validations included."""
    steps: int
    """Steps of the optimiser."""
    trained_parameters: int
    """Numbers that the optimiser changed."""


class KeptVideos:
    """Videos in memory; a fixed `VideoSource`.

    Args:
        videos: Videos of any lengths; kept at the training length.
        classes: Names of the classes that are taught.
    """

    def __init__(self, videos: tuple[TrainingVideo, ...], classes: tuple[str, ...]) -> None:
        self.classes = classes
        self._videos = videos

    def __len__(self) -> int:
        return len(self._videos)

    def video(self, index: int, epoch: int) -> TrainingVideo:
        """Return one video; every epoch has the same."""
        del epoch
        return self._videos[index]


def first_network(material: Material, designs: Sequence[str], seed: int) -> Any:
    """Build a network with the first weights that `train` would give it.

    Args:
        material: Training data.
        designs: Names of departures from the published design.
        seed: Seed of the weights.
    """
    classes, width = material.text.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Any = SPEC.build(SPEC.first_config(FirstSizes(width, classes, tuple(designs))))
    means = torch.from_numpy(material.common), torch.from_numpy(material.text).mean(dim=0)
    SPEC.set_statistics(network, lambda: means)
    return network


def teach(
    network: Any,
    material: Material,
    settings: TrainingSettings,
    note: Callable[[str], None] = lambda _: None,
    context: RunContext = ANYWHERE,
) -> Taught:
    """Train a network, on the CPU or on a GPU where there is one, in full precision.

    Args:
        network: Network with its first weights.
        material: Training data.
        settings: Settings of the training.
        note: Called with a line after each epoch.
        context: Folder and lock to compute with.

    Raises:
        StaleEdgeError: The training cannot be done.
    """
    from stale_edge.training.trainer import Trainer

    def tell(found: ValidationReport) -> None:
        share = f"epoch {found.epoch} of {settings.epochs}"
        note(f"{share}, {found.step} steps: held-out average mAP {100 * found.average_map:.2f}")

    fabric = launch(accelerator())
    lesson = Lesson(network, torch.from_numpy(material.text), material.source, material.held_out, network_name=NETWORK)
    # No state between epochs: a cell that is killed starts anew.
    options = RunOptions(save_every_s=np.inf, on_validation=tell, computing=context.computing)
    with context.training() as folder:
        trainer = Trainer(fabric, lesson, settings, folder, options)
        start = time.perf_counter()
        result = trainer.fit()
        seconds = time.perf_counter() - start
        best = load_checkpoint(result.checkpoint).network.to(fabric.device)
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return Taught(best, seconds, result.steps, trained)


def predictor_of(network: Any, exam: Exam) -> Predictor:
    """Predict the classes of an evaluation set with a network."""
    return network_predictor(NETWORK, network, exam.text, exam.classes)


def reference_point(name: str, exam: Exam, material: Material) -> Predictor:
    """Predict the classes of an evaluation set as one of the network's reference points does."""
    return reference_predictor(NETWORK, name, exam.classes, exam.text, material.common)
