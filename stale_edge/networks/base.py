"""The description of a network that everything outside its folder works from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch
    from torch import Tensor, nn

    from stale_edge_runtime.formats.annotations import Instance


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


@dataclass(frozen=True)
class PublishedNames:
    """How a published checkpoint names the parameters of a network."""

    config: Callable[[Mapping[str, Tensor], Any | None], Any]
    """Configuration of the network in a file, from its tensors by published name; sizes that these do not tell come
    from the second argument, or are those published."""
    name: Callable[[str], str]
    """Published name of one of our parameters."""
    is_unused: Callable[[str], bool]
    """Whether a published parameter plays no part in the forward pass."""


@dataclass(frozen=True)
class NetworkSpec:
    """One network, as checkpoints and training see it.

    A network is a module with the attributes `config` and `text_tower` (None where it runs on stored text embeddings),
    and `encode_text(token_ids)` where it has a tower.
    """

    config: type[NetworkConfig]
    """Its configuration."""
    build: Callable[[Any], nn.Module]
    """A network with first weights from a configuration."""
    first_config: Callable[[int, Sequence[str]], NetworkConfig]
    """Configuration without a text tower for features of a width, with design options switched on by name."""
    training_length: Callable[[Any], int]
    """Snippets that a video has in training, from a configuration."""
    collate: Callable[[Sequence[AnnotatedVideo], Mapping[str, int], Any, str | None], tuple[Tensor, BatchTargets]]
    """Features [B, T, D] and targets of videos, from class indices, a configuration and a published behaviour."""
    set_statistics: Callable[[Any, Callable[[], tuple[Tensor, Tensor]]], None]
    """Give a network statistics before training. The second argument computes the mean feature [D] and the mean text
    [D]; it reads hundreds of videos, so a network that needs none does not call it."""
    training_outputs: Callable[[Any, Tensor, Tensor], tuple[Tensor, ...]]
    """What the loss looks at, a named tuple, from a network, features [B, T, D] and text embeddings [C, D]."""
    loss: Callable[[str, str | None], Callable[[Any, Any], tuple[Tensor, ...]]]
    """Loss with weights of a name and a published behaviour: from outputs and targets to a scalar for each term."""
    loss_terms: tuple[str, ...]
    """Names of the terms, the total first; the log's columns."""
    outputs: Callable[[Any, Tensor, Tensor], Mapping[str, Tensor]]
    """Outputs of the network's head by name, [B, …], from a network, features [B, T, D] and text embeddings [C, D]."""
    published: PublishedNames | None = None
    """Names of its published checkpoints; None where there are none."""
