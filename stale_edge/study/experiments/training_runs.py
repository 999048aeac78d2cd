"""Teaching one network within a study: its first weights, one training, the best of its weights back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from stale_edge.checkpoint import load_checkpoint
from stale_edge.data.dataset import OneClass
from stale_edge.data.reference_points import network_predictor, reference_predictor
from stale_edge.networks.base import FirstSizes
from stale_edge.networks.registry import NETWORKS
from stale_edge.study.context import ANYWHERE, RunContext
from stale_edge.training import first_weights
from stale_edge.training.closed_form import FIT_VIDEOS, fit_closed_form
from stale_edge.training.launch import accelerator, launch
from stale_edge.training.run import RunOptions, TrainingRun
from stale_edge.training.settings import TrainingSettings
from stale_edge_runtime.contract import ACTION, ACTIONFORMER, STALE_NETWORK
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.heads.boundary_map import BOUNDARY_MAP

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from stale_edge.data.dataset import TrainingVideo, VideoSource
    from stale_edge.data.reference_points import Predictor
    from stale_edge.networks.base import NetworkSpec
    from stale_edge.study.experiments.evaluation_sets import EvaluationSet
    from stale_edge.training.run import ValidationReport

NETWORK = STALE_NETWORK
"""Kind of network that the learning studies train: the thesis's."""
SPEC = NETWORKS[NETWORK]
SNIPPETS = SPEC.training_length(SPEC.config())
"""Length that every video is resized to; None takes videos as they are."""
EVERY_OPTION = SPEC.designs


@dataclass(frozen=True)
class Method:
    """A network, and how it is taught."""

    designs: tuple[str, ...] = ()
    """Departures from the published design, by name."""
    network: str = NETWORK
    """Kind of network, a key of `NETWORKS`."""
    preset: str | None = None
    """Published configuration, with hyper-parameters of its own; None for those of the study."""

    @property
    def spec(self) -> NetworkSpec:
        """Description of the network."""
        return NETWORKS[self.network]

    @property
    def snippets(self) -> int | None:
        """Length that every video is resized to; None takes videos as they are."""
        config = self.spec.config() if self.preset is None else self.spec.presets[self.preset].config
        return self.spec.training_length(config)

    @property
    def leaves_classes(self) -> bool:
        """Whether the network tells when and not what."""
        return self.preset is not None and self.spec.outputs_of(self.spec.presets[self.preset].config) == 1


AVERAGED_PARTS = 10
"""Weights are averaged over one of so many parts of a training's steps, or as long as published where that is less: the
published average of 1,000 steps would hold little but the first weights."""
PUBLISHED = Method()
"""The thesis's network."""
ACTIONFORMER_METHOD = Method(network=ACTIONFORMER, preset="activitynet-clip")
"""The network that the thesis reads it beside, as published for ActivityNet, on features as wide as CLIP's."""
MAP_METHOD = Method(network=BOUNDARY_MAP, preset="clip")
"""The network of this project."""
METHODS: Final[Mapping[str, Method]] = {
    NETWORK: PUBLISHED,
    BOUNDARY_MAP: MAP_METHOD,
    ACTIONFORMER: ACTIONFORMER_METHOD,
}
"""Networks that the learning studies teach, each as published, the costliest last."""

STALE_ALL_DESIGNS: Final = f"{NETWORK}, all designs"
"""Name of the thesis's network with every departure from its published design, as `train --design all` teaches it."""


def with_all_designs(methods: Mapping[str, Method]) -> Mapping[str, Method]:
    """Add the thesis's network with every design where the network is among them, right behind it.

    Args:
        methods: Networks that are taught, by name.
    """
    found: dict[str, Method] = {}
    for name, method in methods.items():
        found[name] = method
        if name == NETWORK:
            found[STALE_ALL_DESIGNS] = Method(EVERY_OPTION)
    return found


def choose_methods(networks: Sequence[str] | None) -> Mapping[str, Method]:
    """Choose the networks of a study, in the order of `METHODS`.

    Args:
        networks: Keys of `METHODS`; all where none is given.

    Raises:
        UsageError: There is no such network, or none at all.
    """
    if networks is None:
        return METHODS
    for name in networks:
        if name not in METHODS:
            raise UsageError("--networks", f"names {name!r}", f"give some of {', '.join(METHODS)}")
    if not networks:
        raise UsageError("--networks", "names none", f"give some of {', '.join(METHODS)}")
    return {name: method for name, method in METHODS.items() if name in networks}


@dataclass(frozen=True)
class StudyScale:
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
    fitted: int = FIT_VIDEOS
    """Least videos of an endless source that a closed form is fitted on."""
    network_epochs: Mapping[str, int] = field(default_factory=dict)
    """Epochs of networks with hyper-parameters of their own, by network; as published where it is not named."""
    is_trial: bool = False
    """Whether a network with hyper-parameters of its own is given this scale's epochs and batch all the same."""

    def settings(self, seed: int, loss_weights: str = "closed", method: Method = PUBLISHED) -> TrainingSettings:
        """Give the settings of a training: those of `train` but for this scale, and without early stopping.

        Args:
            seed: Seed of the order of the videos and of dropout.
            loss_weights: A key of `LOSS_WEIGHTS`.
            method: Network; one with a preset is taught as published.
        """
        if method.preset is not None:
            own = {**method.spec.presets[method.preset].training, "seed": seed}
            own["epochs"] = self.network_epochs.get(method.network, own["epochs"])
            trial = {"epochs": self.epochs, "batch_size": self.batch_size} if self.is_trial else {}
            return TrainingSettings(**{**own, **trial})
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
    evaluation_sets: Mapping[str, EvaluationSet]
    """Videos to judge by, by subset: `seen`, `unseen`."""


@dataclass(frozen=True)
class TrainedNetwork:
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


def first_network(material: Material, method: Method, seed: int) -> Any:
    """Build a network with the first weights that `train` would give it.

    Args:
        material: Training data.
        method: Network and its design.
        seed: Seed of the weights.
    """
    classes, width = material.text.shape
    sizes = FirstSizes(width, classes, method.designs, method.preset)
    network = first_weights.first_network(method.spec, method.spec.first_config(sizes), seed)
    means = torch.from_numpy(material.common), torch.from_numpy(material.text).mean(dim=0)
    method.spec.set_statistics(network, lambda: means)
    return network


def fit_network(
    network: Any, material: Material, method: Method, scale: StudyScale, *, endless: bool
) -> Mapping[str, Any]:
    """Fit what a network has in closed form, as `train` does.

    Args:
        network: Network with its first weights.
        material: Training data.
        method: Kind of network.
        scale: Amounts of training.
        endless: Whether the source has other videos in every epoch.

    Returns:
        Record of the fit; empty where there is nothing to fit.
    """
    unused_epoch = scale.settings(0, method=method).epochs if endless else None
    text = torch.from_numpy(material.text)
    return fit_closed_form(method.spec, network, material.source, text, unused_epoch=unused_epoch, least=scale.fitted)


def train_network(
    network: Any,
    material: Material,
    settings: TrainingSettings,
    note: Callable[[str], None] = lambda _: None,
    context: RunContext = ANYWHERE,
    method: Method = PUBLISHED,
) -> TrainedNetwork:
    """Train a network, on the CPU or on a GPU where there is one, in full precision.

    Args:
        network: Network with its first weights.
        material: Training data.
        settings: Settings of the training.
        note: Called with a line after each epoch.
        context: Folder and lock to compute with.
        method: Kind of network.

    Raises:
        StaleEdgeError: The training cannot be done.
    """
    from stale_edge.training.trainer import Trainer

    def tell(found: ValidationReport) -> None:
        share = f"epoch {found.epoch} of {settings.epochs}"
        note(f"{share}, {found.step} steps: held-out average mAP {100 * found.average_map:.2f}")

    fabric = launch(accelerator())
    source, held_out = material.source, material.held_out
    if settings.average_decay is not None:
        steps = settings.epochs * max(1, len(source) // settings.batch_size)
        longest = max(0.0, 1 - AVERAGED_PARTS / steps)
        settings = replace(settings, average_decay=min(settings.average_decay, longest) or None)
    if method.leaves_classes:
        source, held_out = OneClass(source), OneClass(held_out)
    training = TrainingRun(network, torch.from_numpy(material.text), source, held_out, network_name=method.network)
    # No state between epochs: a cell that is killed starts anew.
    options = RunOptions(save_every_s=np.inf, on_validation=tell, computing=context.computing)
    with context.training() as folder:
        trainer = Trainer(fabric, training, settings, folder, options)
        start = time.perf_counter()
        result = trainer.fit()
        seconds = time.perf_counter() - start
        best = load_checkpoint(result.checkpoint).network.to(fabric.device)
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return TrainedNetwork(best, seconds, result.steps, trained)


def teach(
    material: Material,
    method: Method,
    scale: StudyScale,
    seed: int,
    *,
    loss_weights: str = "closed",
    endless: bool = False,
    note: Callable[[str], None] = lambda _: None,
    context: RunContext = ANYWHERE,
) -> TrainedNetwork:
    """Give a network its first weights, fit what it has in closed form, and train it.

    Args:
        material: Training data.
        method: Kind of network and how it is taught.
        scale: Amounts of training.
        seed: Seed of the first weights, of the order of the videos, and of dropout.
        loss_weights: A key of `LOSS_WEIGHTS`.
        endless: Whether the source has other videos in every epoch.
        note: Called with lines on what is going on.
        context: Folder and lock to compute with.

    Returns:
        The trained network; its seconds are those of fitting and training.

    Raises:
        StaleEdgeError: The training cannot be done.
    """
    network = first_network(material, method, seed)
    start = time.perf_counter()
    with context.computing():
        fit = fit_network(network, material, method, scale, endless=endless)
    seconds = time.perf_counter() - start
    if fit:
        note(f"classes fitted on {fit['videos']} videos, ridge {fit['ridge']}")
    taught = train_network(network, material, scale.settings(seed, loss_weights, method), note, context, method)
    return replace(taught, seconds=taught.seconds + seconds)


def predictor_of(network: Any, evaluation_set: EvaluationSet, method: Method = PUBLISHED) -> Predictor:
    """Predict the classes of an evaluation set with a network; one without classes leaves them to the evaluation."""
    classes = (ACTION,) if method.leaves_classes else evaluation_set.classes
    return network_predictor(method.network, network, evaluation_set.text, classes)


def reference_point(name: str, evaluation_set: EvaluationSet, material: Material, network: str = NETWORK) -> Predictor:
    """Predict the classes of an evaluation set as one of a network's reference points does."""
    return reference_predictor(network, name, evaluation_set.classes, evaluation_set.text, material.common)
