"""The transformer layer that both towers of CLIP stack.

Symbols: B texts or images, N tokens, W width.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021), section 2.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

QUICK_GELU_SLOPE = 1.702
QUICK_GELU, GELU = "quick_gelu", "gelu"


class LayerSizes(Protocol):
    """Sizes of a layer, as the configurations of both towers have them."""

    @property
    def width(self) -> int:
        """Width of a token."""

    @property
    def heads(self) -> int:
        """Attention heads; they share the width."""

    @property
    def hidden(self) -> int:
        """Width inside the feed-forward part."""

    @property
    def activation(self) -> str:
        """Activation inside the feed-forward part, one of `ACTIVATIONS`."""

    @property
    def norm_epsilon(self) -> float:
        """Number added to variances before they are divided by."""


def quick_gelu(values: Tensor) -> Tensor:
    """Apply OpenAI's approximation of GELU."""
    return values * torch.sigmoid(QUICK_GELU_SLOPE * values)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {QUICK_GELU: quick_gelu, GELU: F.gelu}
"""Activations by Hugging Face's name: OpenAI's towers have the quick one, LAION's the exact one."""


class ClipLayer(nn.Module):
    """One pre-norm layer: attention, then a feed-forward part, each added to what went in."""

    def __init__(self, config: LayerSizes) -> None:
        super().__init__()
        self.heads = config.heads
        self.activation = config.activation
        self.attention_norm = nn.LayerNorm(config.width, config.norm_epsilon)
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.output = nn.Linear(config.width, config.width)
        self.feed_forward_norm = nn.LayerNorm(config.width, config.norm_epsilon)
        self.expand = nn.Linear(config.width, config.hidden)
        self.contract = nn.Linear(config.hidden, config.width)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the layer: [B, N, W] to [B, N, W], with a mask [N, N] added to the attention scores."""
        hidden = hidden + self._attend(self.attention_norm(hidden), mask)
        inner = self.expand(self.feed_forward_norm(hidden))  # [B, N, hidden]
        contracted: Tensor = self.contract(ACTIVATIONS[self.activation](inner))
        return hidden + contracted

    def _attend(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = (
            part(hidden).unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, heads, N, W / heads]
            for part in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        output: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return output
