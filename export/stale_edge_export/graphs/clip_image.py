"""CLIP's image tower from the bytes of images, as exported.

Symbols: B images, S edge in pixels, P patches, p edge of a patch, W width, D width of an embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stale_edge_export.graphs.clip_layer import AffineProduct, folded_layers, folded_projection
from stale_edge_runtime.contract import CHANNELS

if TYPE_CHECKING:
    from stale_edge.networks.clip_image import ImageTowerConfig, VisionTransformer

REWRITES = (
    "pixels_folded",
    "norms_folded",
    "biases_moved",
    "class_token_only",
)
"""Names of the rewrites for the metadata."""
LARGEST_PIXEL = 255
BEST_ROWS = 200
"""Rows of tokens that are computed fastest together on a processor with 1 to 2 MB of cache for a core."""


class PixelPatches(nn.Module):
    """Patch embedding as a product of bytes, the normalisation of colours folded into the weights.

    Args:
        tower: The image tower.
        channels: Order of colours that the tower sees; the pixels that come in are RGB all the same.
    """

    positions: Tensor

    def __init__(self, tower: VisionTransformer, channels: str) -> None:
        super().__init__()
        config = tower.config
        self.patch, self.side = config.patch, config.side
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (config.mean, config.std))
        convolution = tower.patch_embedding.weight.double().permute(2, 3, 1, 0)  # [p, p, 3, W]
        weight = convolution / (LARGEST_PIXEL * std[:, None])
        bias = -(convolution * (mean / std)[:, None]).sum(dim=(0, 1, 2))
        if channels == CHANNELS[1]:
            weight = weight.flip(2)
        self.product = AffineProduct(weight.reshape(-1, config.width))
        positions = tower.position_embedding.weight.double()[1:] + bias
        self.register_buffer("positions", positions.float())  # [P, W]

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed the patches: uint8 [B, S, S, 3] to float32 [B, P, W]."""
        patch, side = self.patch, self.side
        blocks = pixels.unflatten(1, (side, patch)).unflatten(3, (side, patch))  # [B, side, p, side, p, 3]
        rows = blocks.transpose(2, 3).reshape(-1, side * side, 3 * patch * patch)  # [B, P, p p 3]
        embedded: Tensor = self.product(rows.float()) + self.positions
        return embedded


class ImageTowerGraph(nn.Module):
    """The tower with all exact rewrites.

    Args:
        tower: The image tower.
        channels: Order of colours that the tower sees.
    """

    token: Tensor

    def __init__(self, tower: VisionTransformer, channels: str = CHANNELS[0]) -> None:
        super().__init__()
        self.patches = PixelPatches(tower, channels)
        self.first_norm = tower.first_norm  # its output is added to: nothing to fold it into
        token = tower.class_embedding + tower.position_embedding.weight[0]
        self.register_buffer("token", tower.first_norm(token)[None, None])  # [1, 1, W]: the same for every image
        self.layers, self.last = folded_layers(tower.layers)
        self.projection = folded_projection(tower.final_norm, tower.projection)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode images: uint8 [B, S, S, 3], RGB, to float32 [B, D]."""
        patches = self.first_norm(self.patches(pixels))
        hidden = torch.cat([self.token.expand(pixels.shape[0], 1, -1), patches], dim=1)  # [B, P + 1, W]
        for layer in self.layers:
            hidden = layer(hidden)
        embeddings: Tensor = self.projection(self.last(hidden))
        return embeddings


class PlainImageTower(nn.Module):
    """The tower as it is written, with the preparation of pixels before it: for comparison.

    Args:
        tower: The image tower.
        channels: Order of colours that the tower sees.
    """

    def __init__(self, tower: VisionTransformer, channels: str = CHANNELS[0]) -> None:
        super().__init__()
        self.tower = tower
        self.swaps = channels == CHANNELS[1]

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode images: uint8 [B, S, S, 3], RGB, to float32 [B, D]."""
        return self.tower.encode_pixels(pixels.flip(3) if self.swaps else pixels)


def best_batch(config: ImageTowerConfig) -> int:
    """Choose the images that are computed fastest together: about 200 rows of tokens.

    Fewer read the weights again too often; more leave the cache between two products.

    Args:
        config: Sizes.
    """
    return max(1, round(BEST_ROWS / config.tokens))
