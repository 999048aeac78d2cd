"""Sizes of a boundary map; a configuration checks itself."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from stale_edge.networks.stored_values import known_values
from stale_edge_runtime.heads.setting_checks import check_flags, check_heads, check_integers


@dataclass(frozen=True)
class BoundaryMapConfig:
    """Sizes of the network."""

    feature_dim: int = 512
    """Width D of a snippet's features and of a text embedding."""
    snippets: int = 100
    """Snippets of a video in training."""
    width: int = 192
    """Channels E of the trunk."""
    pair_channels: int = 32
    """Channels K of a pair of edges."""
    blocks: int = 2
    """Blocks of the trunk."""
    heads: int = 4
    """Attention heads of a block; they share the width."""
    crop: bool = False
    """Whether training shows crops of so many snippets at the features' own rate instead of whole videos, and judges
    long videos in windows of them: for actions that are short beside their video."""
    text: None = None
    """No text tower: the network runs on stored text embeddings."""

    def __post_init__(self) -> None:
        check_integers(self, ("feature_dim", "snippets", "width", "pair_channels", "blocks", "heads"))
        check_flags(self, "crop")
        check_heads(self.width, self.heads)

    def to_dict(self) -> dict[str, Any]:
        """Give the configuration as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BoundaryMapConfig:
        """Read what `to_dict` wrote; missing keys take defaults, unknown ones are left out.

        Raises:
            ValueError: The values are not those of a configuration.
        """
        return cls(**{**known_values(cls, values), "text": None})
