"""Attention over the whole video and over windows, as plain products.

Symbols: B batch, E width, T positions, H heads, w reach to each side, N blocks of b positions.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

INVALID: Final = -1e4
"""Score of a key that a query must not see; finite, so that a row without keys stays finite."""
SHORTEST_BLOCK: Final = 16


def block_length(reach: int) -> int:
    """Give the positions b of a block: at least the reach, and enough to be worth a product.

    Args:
        reach: Positions to each side that a query sees.
    """
    return max(reach, SHORTEST_BLOCK)


def global_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, heads: int, reach: int) -> Tensor:
    """Attend to all valid positions.

    Args:
        query: [B, E, T].
        key: [B, E, T].
        value: [B, E, T].
        mask: [B, 1, T], 1 at valid keys.
        heads: H.
        reach: Not used.

    Returns:
        [B, E, T].
    """
    del reach
    rows, keys, values = (_by_head(part, heads) for part in (query, key, value))  # [B, H, T, E/H]
    scores = (rows * rows.shape[3] ** -0.5) @ keys.transpose(2, 3)  # [B, H, T, T]
    scores = scores.masked_fill(mask[:, :, None] == 0, -torch.inf)
    return _joined(scores.softmax(dim=3) @ values)


def local_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, heads: int, reach: int) -> Tensor:
    """Attend to the valid positions that are at most `reach` away: w, the rest as for `global_attention`.

    Returns:
        [B, E, T]; finite but of no meaning where padded.
    """
    length, block = query.shape[2], block_length(reach)
    surplus = -length % block
    rows = _by_head(F.pad(query, (0, surplus)), heads)  # [B, H, N b, E/H]
    rows = (rows * rows.shape[3] ** -0.5).unflatten(2, (-1, block))  # [B, H, N, b, E/H]
    keys, values = (
        _with_neighbours(F.pad(part, (reach, surplus + reach)), block, reach, heads) for part in (key, value)
    )
    valid = F.pad(mask, (reach, surplus + reach)).unfold(2, block + 2 * reach, block)[:, :, :, None]  # [B, 1, N, 1, K]
    distance = torch.arange(block + 2 * reach, device=mask.device) - torch.arange(block, device=mask.device)[:, None]
    seen = (distance >= 0) & (distance <= 2 * reach)  # [b, K]
    scores = (rows @ keys.transpose(3, 4)).masked_fill(~(seen & (valid > 0)), INVALID)  # [B, H, N, b, K]
    return _joined((scores.softmax(dim=4) @ values).flatten(2, 3)[:, :, :length])


def _with_neighbours(padded: Tensor, block: int, reach: int, heads: int) -> Tensor:
    """Cut blocks, each with `reach` positions before and after it, [B, H, N, b + 2 w, E/H]."""
    windows = padded.unfold(2, block + 2 * reach, block)  # [B, E, N, K]
    return windows.reshape(windows.shape[0], heads, -1, *windows.shape[2:]).permute(0, 1, 3, 4, 2)


def _by_head(features: Tensor, heads: int) -> Tensor:
    batch, width, length = features.shape
    return features.reshape(batch, heads, width // heads, length).transpose(2, 3)


def _joined(heads: Tensor) -> Tensor:
    """[B, H, T, E/H] to [B, E, T]."""
    return heads.transpose(2, 3).flatten(1, 2)
