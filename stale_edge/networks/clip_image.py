"""CLIP's image tower: a vision transformer over square patches, read at its class token.

Symbols: B images, S edge of an image in pixels, P patches of an image, W width, D width of an embedding.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (2021), section 3.1; Radford et al., "Learning Transferable
Visual Models From Natural Language Supervision" (2021), section 2.4.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from stale_edge.networks.clip_layer import ACTIVATIONS, QUICK_GELU, ClipLayer
from stale_edge.networks.stored_values import known_values
from stale_edge_runtime.heads.setting_checks import check_heads, check_integers

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MAX_TOWER_SIZE = 1 << 20


@dataclass(frozen=True)
class ImageTowerConfig:
    """Sizes of an image tower (ViT-B/32's by default), and how pixels are prepared for it."""

    image_size: int = 224
    """Edge of an image, in pixels."""
    patch: int = 32
    """Edge of a patch, in pixels."""
    width: int = 768
    """Width of a token."""
    layers: int = 12
    """Transformer layers."""
    heads: int = 12
    """Attention heads; they share the width."""
    hidden: int = 3072
    """Width inside the feed-forward part of a layer."""
    embedding_dim: int = 512
    """Width of an embedding."""
    activation: str = QUICK_GELU
    """Activation inside the feed-forward part, one of `clip_layer.ACTIVATIONS`."""
    norm_epsilon: float = 1e-5
    """Number added to variances before they are divided by."""
    mean: tuple[float, float, float] = CLIP_MEAN
    """Mean of red, green and blue, in [0, 1], that is subtracted."""
    std: tuple[float, float, float] = CLIP_STD
    """Deviation of each that is divided by."""

    def __post_init__(self) -> None:
        sizes = ("image_size", "patch", "width", "layers", "heads", "hidden", "embedding_dim")
        check_integers(self, sizes, high=MAX_TOWER_SIZE)
        check_heads(self.width, self.heads)
        if self.image_size % self.patch:
            raise ValueError(f"an image of {self.image_size} pixels is not a whole number of patches of {self.patch}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is not one of {', '.join(ACTIVATIONS)}")
        if not 0 < self.norm_epsilon < 1:
            raise ValueError(f"norm_epsilon {self.norm_epsilon!r} is not between 0 and 1")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(value > 0 for value in self.std):
            raise ValueError("mean and std must be three numbers each, std above 0")

    @property
    def side(self) -> int:
        """Patches along the edge of an image."""
        return self.image_size // self.patch

    @property
    def tokens(self) -> int:
        """Tokens of an image: its patches and the class token."""
        return self.side**2 + 1

    def to_dict(self) -> dict[str, Any]:
        """Give the configuration as JSON values."""
        return {**dataclasses.asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ImageTowerConfig:
        """Read what `to_dict` wrote; missing keys take defaults, unknown ones are left out.

        Raises:
            ValueError: The values are not those of a configuration.
        """
        known = known_values(cls, values)
        sizes = {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}
        return cls(**cast("dict[str, Any]", sizes))


class VisionTransformer(nn.Module):
    """CLIP's vision transformer with its projection.

    Args:
        config: Sizes.
    """

    def __init__(self, config: ImageTowerConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = nn.Conv2d(3, config.width, config.patch, stride=config.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(config.width))
        self.position_embedding = nn.Embedding(config.tokens, config.width)
        self.first_norm = nn.LayerNorm(config.width, config.norm_epsilon)
        self.layers = nn.ModuleList(ClipLayer(config) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(config.width, config.norm_epsilon)
        self.projection = nn.Linear(config.width, config.embedding_dim, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images.

        Args:
            images: float32 [B, 3, S, S], RGB, normalised.

        Returns:
            float32 [B, D], not normalised.
        """
        patches = self.patch_embedding(images).flatten(2).transpose(1, 2)  # [B, P, W]
        token = self.class_embedding.expand(len(images), 1, -1)  # [B, 1, W]
        hidden = self.first_norm(torch.cat([token, patches], dim=1) + self.position_embedding.weight)  # [B, P + 1, W]
        for layer in self.layers:
            hidden = layer(hidden)
        embeddings: Tensor = self.projection(self.final_norm(hidden[:, 0]))
        return embeddings

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Encode images as cameras give them: uint8 [B, S, S, 3], RGB, to float32 [B, D]."""
        mean, std = (torch.tensor(values) for values in (self.config.mean, self.config.std))
        embeddings: Tensor = self((((pixels / 255) - mean) / std).permute(0, 3, 1, 2))
        return embeddings
