"""The representation mask: a foreground estimate that only the training loss uses.

A MaskFormer predictor with a single query, over a grid of height 1 and width T.

Source: Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation" (NeurIPS 2021);
docs/network.md, part 7.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from stale_edge.networks.stale.config import ModelConfig

TEMPERATURE = 10_000.0
POSITION_EPS = 1e-6


class RepresentationMask(nn.Module):
    """Foreground probability of each snippet.

    Args:
        config: Sizes.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.feature_dim
        sizes = (dim, config.representation_heads, config.representation_hidden)
        self.input_projection = nn.Conv2d(dim, dim, kernel_size=1)
        self.encoder = nn.ModuleList(EncoderLayer(*sizes) for _ in range(config.representation_layers))
        self.encoder_norm = nn.LayerNorm(dim)
        self.decoder = nn.ModuleList(DecoderLayer(*sizes) for _ in range(config.representation_layers))
        self.decoder_norm = nn.LayerNorm(dim)
        self.query = nn.Embedding(1, dim)
        self.mask_embedding = nn.ModuleList(nn.Linear(dim, dim) for _ in range(3))

    def forward(self, features: Tensor, embedded: Tensor) -> Tensor:
        """Foreground probability [B, T] from raw features [B, T, D] and embedded features [B, T, D]."""
        grid = features.transpose(1, 2)[:, :, None]  # [B, D, 1, T]
        memory = self.input_projection(grid).flatten(2).transpose(1, 2)  # [B, T, D]
        position = sine_positions(features.shape[1], features.shape[2], features)  # [T, D]
        for encoder_layer in self.encoder:
            memory = encoder_layer(memory, position)
        memory = self.encoder_norm(memory)
        query = self.query.weight.expand(features.shape[0], -1, -1)  # [B, 1, D]
        target = torch.zeros_like(query)
        for decoder_layer in self.decoder:
            target = decoder_layer(target, query, memory, position)
        mask = self.decoder_norm(target)
        for linear in self.mask_embedding[:-1]:
            mask = F.relu(linear(mask))
        mask = self.mask_embedding[-1](mask)  # [B, 1, D]
        foreground: Tensor = (embedded @ mask.transpose(1, 2)).squeeze(2).sigmoid()  # [B, T]
        return foreground


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden)
        self.contract = nn.Linear(hidden, dim)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, N, D] to [B, N, D]."""
        outputs: Tensor = self.contract(F.relu(self.expand(inputs)))
        return outputs


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward; positions are added to queries and keys only."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, hidden)

    def forward(self, memory: Tensor, position: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        normed = self.attention_norm(memory)
        placed = normed + position
        memory = memory + self.attention(placed, placed, normed, need_weights=False)[0]
        updated: Tensor = memory + self.feed_forward(self.feed_forward_norm(memory))
        return updated


class DecoderLayer(nn.Module):
    """Pre-norm self-attention, attention to the memory, feed-forward."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attention_norm = nn.LayerNorm(dim)
        self.self_attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.cross_attention_norm = nn.LayerNorm(dim)
        self.cross_attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, hidden)

    def forward(self, target: Tensor, query: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        """Update a target [B, 1, D] at a query [B, 1, D] from a memory [B, T, D]."""
        normed = self.self_attention_norm(target)
        placed = normed + query
        target = target + self.self_attention(placed, placed, normed, need_weights=False)[0]
        placed = self.cross_attention_norm(target) + query
        target = target + self.cross_attention(placed, memory + position, memory, need_weights=False)[0]
        updated: Tensor = target + self.feed_forward(self.feed_forward_norm(target))
        return updated


def sine_positions(snippets: int, dim: int, like: Tensor) -> Tensor:
    """Sine position encoding of a grid of height 1: D/2 channels for the row, then D/2 for the column.

    Args:
        snippets: Width T of the grid.
        dim: Channels D.
        like: A tensor with the dtype and device wanted.

    Returns:
        [T, D], sine and cosine interleaved.
    """
    half = dim // 2
    channel = torch.arange(half, dtype=like.dtype, device=like.device)
    wavelength = TEMPERATURE ** (2 * (channel // 2) / half)  # [D / 2]
    column = torch.arange(1, snippets + 1, dtype=like.dtype, device=like.device)
    column = column / (snippets + POSITION_EPS) * (2 * math.pi)  # [T]
    row = torch.full_like(column, 2 * math.pi / (1 + POSITION_EPS))
    encoded = []
    for place in (row, column):
        angle = place[:, None] / wavelength  # [T, D / 2]
        encoded.append(torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1))
    return torch.cat(encoded, dim=1)
