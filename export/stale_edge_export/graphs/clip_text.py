"""CLIP's text tower, as exported.

Symbols: C texts, L tokens, W width, D width of an embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stale_edge.networks.clip_text import MASKED
from stale_edge_export.graphs.clip_layer import folded_layers, folded_projection

if TYPE_CHECKING:
    from stale_edge.networks.clip_text import TextTower

REWRITES = ("norms_folded", "biases_moved", "end_token_only")
"""Names of the rewrites for the metadata."""


class TextTowerGraph(nn.Module):
    """The tower with all exact rewrites.

    Args:
        tower: The text tower.
    """

    def __init__(self, tower: TextTower) -> None:
        super().__init__()
        self.token_embedding = tower.token_embedding
        self.position_embedding = tower.position_embedding
        self.layers, self.last = folded_layers(tower.layers)
        self.projection = folded_projection(tower.final_norm, tower.projection)
        self.end_token = tower.end_token

    def forward(self, token_ids: Tensor) -> Tensor:
        """Encode texts: int64 [C, L], every row with an end token, to float32 [C, D]."""
        length = token_ids.shape[1]
        hidden = self.token_embedding(token_ids) + self.position_embedding.weight[:length]  # [C, L, W]
        mask = torch.full((length, length), MASKED).triu(1).to(hidden)  # [L, L]
        for layer in self.layers:
            hidden = layer(hidden, mask)
        end = (token_ids == self.end_token).int().argmax(dim=1)  # [C]
        embeddings: Tensor = self.projection(self.last(hidden, end, mask[end][:, None]))
        return embeddings
