"""Text embeddings of class names: the prompt, its tokens, and CLIP's text tower.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021), section 2.4;
docs/network.md, part 4.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stale_edge.networks.clip_layer import ClipLayer
from stale_edge_runtime.contract import PROMPT
from stale_edge_runtime.text.tokenizer import Tokenizer, decode_merges

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from stale_edge.networks.stale.config import TextConfig

MASKED = -10_000.0


@cache
def clip_merges() -> str:
    """Read the merges of CLIP's own vocabulary, packed as the metadata of a text tower holds them."""
    return resources.files("stale_edge.networks").joinpath("clip_merges.txt").read_text(encoding="ascii").strip()


@cache
def clip_tokenizer() -> Tokenizer:
    """Give the tokenizer of CLIP's own vocabulary."""
    return Tokenizer(decode_merges(clip_merges()))


def tokenize(class_names: Sequence[str], context: int = 77) -> NDArray[np.int64]:
    """Tokenise the prompts of some classes with CLIP's own vocabulary.

    Args:
        class_names: Names as a person writes them.
        context: Longest text in tokens, start and end included; a longer one is cut before its end token.

    Returns:
        int64 [classes, tokens]: start, byte pairs, end; padded with the end token to the longest.
    """
    return clip_tokenizer().tokenize([PROMPT + name for name in class_names], context)


class TextTower(nn.Module):
    """CLIP's text transformer with its projection.

    Args:
        config: Sizes.
        embedding_dim: Width of the projected text embedding.
    """

    def __init__(self, config: TextConfig, embedding_dim: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.position_embedding = nn.Embedding(config.context, config.width)
        self.layers = nn.ModuleList(ClipLayer(config) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(config.width, config.norm_epsilon)
        self.projection = nn.Linear(config.width, embedding_dim, bias=False)
        self.end_token = config.vocabulary - 1

    def forward(self, token_ids: Tensor) -> Tensor:
        """Encode texts.

        Args:
            token_ids: int64 [C, L], every row with an end token.

        Returns:
            float32 [C, D], pooled at the first end token, not normalised.
        """
        hidden = self.token_embedding(token_ids) + self.position_embedding.weight[: token_ids.shape[1]]  # [C, L, W]
        # A finite mask: its exponential is zero all the same, and it fits half precision.
        mask = torch.full((token_ids.shape[1], token_ids.shape[1]), MASKED).triu(1).to(hidden)  # [L, L]
        for layer in self.layers:
            hidden = layer(hidden, mask)
        end = (token_ids == self.end_token).int().argmax(dim=1)  # [C]
        pooled = hidden.gather(1, end[:, None, None].expand(-1, -1, hidden.shape[2])).squeeze(1)  # [C, W]
        embeddings: Tensor = self.projection(self.final_norm(pooled))
        return embeddings
