"""The description of a network that everything outside its folder works from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


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


@dataclass(frozen=True)
class PublishedNames:
    """How a published checkpoint names the parameters of a network."""

    name: Callable[[str], str]
    """Published name of one of our parameters."""
    is_unused: Callable[[str], bool]
    """Whether a published parameter plays no part in the forward pass."""


@dataclass(frozen=True)
class NetworkSpec:
    """One network: what a checkpoint needs to hold and build it."""

    config: type[NetworkConfig]
    """Its configuration."""
    build: Callable[[Any], nn.Module]
    """A network with first weights from a configuration."""
    published: PublishedNames | None = None
    """Names of its published checkpoints; None where there are none."""
