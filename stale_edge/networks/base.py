"""The description of a network that everything outside its folder works from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from stale_edge.training.settings import TrainingSettings
    from stale_edge_runtime.formats.annotations import Instance
    from stale_edge_runtime.heads.base import VideoOutputs


class NetworkConfig(Protocol):
    """Sizes of a network; a configuration checks itself."""

    @property
    def feature_dim(self) -> int:
        """Width of a snippet's features."""

    def to_dict(self) -> dict[str, Any]:
        """Give the configuration as JSON values."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote; missing keys take defaults, unknown ones are left out.

        Raises:
            ValueError: The values are not those of a configuration.
        """


class BatchTargets(Protocol):
    """Targets of a batch: a class that is made from its tensors."""

    def __init__(self, *tensors: Tensor) -> None: ...

    def tensors(self) -> tuple[Tensor, ...]:
        """Give all tensors, batch first, in the order of the constructor."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Move to another device."""

    def pin_memory(self) -> Self:
        """Move to pinned memory; a DataLoader calls this."""


class AnnotatedVideo(Protocol):
    """Features of one video and its actions."""

    @property
    def duration_s(self) -> float:
        """Seconds that the features cover."""

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Actions; all of classes that may be learned."""

    @property
    def features(self) -> Any:
        """float32 [T, D], T free."""

    @property
    def hidden(self) -> tuple[tuple[float, float], ...]:
        """Seconds in which actions of other classes happen."""

    @property
    def draw(self) -> tuple[int, ...]:
        """Seed of random choices about this showing of the video: the same again after a resumption."""


class ReferencePoint(Protocol):
    """A way to predict without a trained network."""

    def __call__(
        self, classes: Sequence[str], text: NDArray[np.float32], common: NDArray[np.float32], config: Any, /
    ) -> Callable[[AnnotatedVideo], VideoOutputs]:
        """Make a function from a video to outputs that the network's head decodes.

        Args:
            classes: Names of the C classes.
            text: Text embeddings [C, D] of the classes, not normalised.
            common: Mean feature of other videos [D].
            config: Configuration of the network that is read beside it.
        """


@dataclass(frozen=True)
class Preset:
    """A configuration and the settings that it is trained with."""

    config: NetworkConfig
    """Sizes; feature width and classes give way to those of the data."""
    training: Mapping[str, Any]
    """Fields of `TrainingSettings` that differ from the defaults."""
    classes: tuple[str, ...] = ()
    """Classes, where the data set has a list of them."""


@dataclass(frozen=True)
class PublishedNames:
    """Names of the parameters of a network in a published checkpoint."""

    config: Callable[[Mapping[str, Tensor], Any | None], Any]
    """Configuration of the network in a file, from its tensors by published name; sizes that these do not tell come
    from the second argument, or are those published."""
    name: Callable[[str], str]
    """Published name of one of our parameters."""
    is_unused: Callable[[str], bool]
    """Whether a published parameter plays no part in the forward pass."""
    classes: Callable[[Any], tuple[str, ...]]
    """Classes of a published network, from its configuration; none where they are not known."""
    feature_extractor: str = ""
    """Network that made the features it was trained on, where all of its checkpoints share one."""
    feature_norm: float | None = None
    """Median length of a row of these features."""


@dataclass(frozen=True)
class FirstSizes:
    """Basis of a network's first configuration."""

    feature_dim: int
    """Width D of the features."""
    classes: int = 1
    """Classes that are taught."""
    options: tuple[str, ...] = ()
    """Design options to switch on, by name."""
    preset: str | None = None
    """Published configuration to start from; the network's default where none is named."""


def _decays_matrices(name: str, parameter: Tensor) -> bool:
    del name
    return parameter.ndim >= 2


@dataclass(frozen=True)
class NetworkSpec:
    """One network, as checkpoints and training see it.

    A network is a module with the attributes `config` and `text_tower` (None where it runs on stored text embeddings),
    and `encode_text(token_ids)` where it has a tower.
    """

    config: type[NetworkConfig]
    """Type of the configuration."""
    build: Callable[[Any], nn.Module]
    """A network with first weights from a configuration."""
    first_config: Callable[[FirstSizes], NetworkConfig]
    """Configuration of a network to be trained from the beginning, without a text tower."""
    training_length: Callable[[Any], int | None]
    """Snippets that videos are resized to, in training and for judging, from a configuration; None takes them as they
    are."""
    collate: Callable[
        [Sequence[AnnotatedVideo], Mapping[str, int], Any, str | None], tuple[Tensor, Tensor, BatchTargets]
    ]
    """Features [B, T, D], true lengths int64 [B] and targets of videos, from class indices, a configuration and a
    published behaviour."""
    set_statistics: Callable[[Any, Callable[[], tuple[Tensor, Tensor]]], None]
    """Give a network statistics before training. The second argument computes the mean feature [D] and the mean text
    [D]; it reads hundreds of videos, so a network that needs none does not call it."""
    training_outputs: Callable[[Any, Tensor, Tensor, Tensor], tuple[Tensor, ...]]
    """Inputs of the loss, a named tuple, from a network, features [B, T, D], true lengths [B] and text embeddings [C,
    D]."""
    loss: Callable[[Any, TrainingSettings], Callable[[Any, Any], tuple[Tensor, ...]]]
    """Loss from a configuration and settings: from outputs and targets to a scalar for each term. One with a state that
    steps change is a module, whose state is saved with the training's."""
    loss_terms: tuple[str, ...]
    """Names of the terms, the total first; the log's columns."""
    outputs: Callable[[Any, Tensor, Tensor], Mapping[str, Tensor]]
    """Outputs of the network's head by name, [B, …], from a network, features [B, T, D] and text embeddings [C, D]."""
    seeded_values: Callable[[str, tuple[int, ...], int], NDArray[np.float32]]
    """Numbers of a parameter, from its published name, its shape and a seed: for networks that are only timed."""
    metadata: Callable[[Any], Mapping[str, Any]]
    """Fields of `ModelInfo` that the head needs, from a configuration."""
    window: Callable[[Any], int | None] = lambda _: None
    """Snippets of the windows that longer videos are judged in, from a configuration; None judges them whole."""
    fit: Callable[[Any, Iterable[AnnotatedVideo], Sequence[str], Tensor], Mapping[str, Any]] | None = None
    """Fit what is not trained by gradients, before training: from a network, videos that training does not show where
    the source has others, names of the classes and their text embeddings [C, D] to a record in JSON values. None where
    there is nothing to fit."""
    published: PublishedNames | None = None
    """Names of its published checkpoints; None where there are none."""
    presets: Mapping[str, Preset] = field(default_factory=dict)
    """Published configurations by name, the default first; empty for a network that has one."""
    uses_text: bool = True
    """Whether its outputs depend on text embeddings."""
    default_width: int = 512
    """Width D of the features of a network that has no presets."""
    class_names: Callable[[Any, tuple[str, ...]], tuple[str, ...]] = lambda _, taught: taught
    """Names of the classes of the outputs, from a configuration and those that are taught."""
    outputs_of: Callable[[Any], int | None] = lambda _: None
    """Number of classes that its outputs are fixed to, from a configuration; None where any names will do."""
    decays: Callable[[str, Tensor], bool] = _decays_matrices
    """Whether weight decay applies to a parameter, by name."""
    designs: tuple[str, ...] = ()
    """Names of design options beside the published design, as `FirstSizes.options` takes them."""
    reference_points: Mapping[str, ReferencePoint] = field(default_factory=dict)
    """Predictions that need no training, by name, to read its accuracy beside."""

    def feature_dim(self, preset: str | None = None) -> int:
        """Give the width D of the features that a published configuration takes.

        Args:
            preset: Name of the configuration; the default one without.
        """
        if not self.presets:
            return self.default_width
        return self.presets[preset or next(iter(self.presets))].config.feature_dim
