"""ActionFormer as its users run it: PyTorch on videos padded as the published evaluation pads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stale_edge.networks.actionformer.model import ActionFormer, ActionFormerOutput, level_masks
from stale_edge_export.graphs.base import WholeNetwork

if TYPE_CHECKING:
    from stale_edge.checkpoint import Checkpoint


class PublishedForward(nn.Module):
    """The network with the padding of the published evaluation.

    Args:
        network: Network in evaluation mode.
    """

    def __init__(self, network: ActionFormer) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, token_ids: Tensor) -> ActionFormerOutput:
        """Run on features [B, n, D] of videos of one length; text plays no part."""
        del token_ids
        snippets, config = features.shape[1], self.network.config
        padded = config.padded(snippets)
        lengths = torch.full((len(features),), snippets, device=features.device)
        output: ActionFormerOutput = self.network(F.pad(features, (0, 0, 0, padded - snippets)), lengths)
        if features.is_meta:  # counting operations on tensors without data
            return output
        kept = torch.cat(level_masks(lengths[:1], padded, config.strides), dim=2)[0, 0] > 0
        return ActionFormerOutput(*(part[:, kept] for part in output))

    def with_linear_products(self) -> PublishedForward:
        """Give a copy whose convolutions of one are linear layers, which PyTorch can quantise dynamically."""
        with torch.device("meta"):
            copied = ActionFormer(self.network.config)
        copied.load_state_dict(self.network.state_dict(), assign=True)
        for module in list(copied.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.Conv1d) and child.kernel_size == (1,):
                    module.add_module(name, LinearProduct(child))
        return PublishedForward(copied.eval())


class LinearProduct(nn.Module):
    """A convolution of one as a linear layer.

    Args:
        conv: Layer with bias.
    """

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.linear = nn.Linear(conv.in_channels, conv.out_channels, bias=conv.bias is not None)
        self.linear.weight = nn.Parameter(conv.weight[:, :, 0], requires_grad=False)
        if conv.bias is not None:
            self.linear.bias = nn.Parameter(conv.bias, requires_grad=False)

    def forward(self, features: Tensor) -> Tensor:
        """[B, in, T] to [B, out, T]."""
        multiplied: Tensor = self.linear(features.transpose(1, 2)).transpose(1, 2)
        return multiplied


def _build(checkpoint: Checkpoint, class_names: tuple[str, ...]) -> nn.Module:
    del class_names
    return PublishedForward(checkpoint.network).eval()


ACTIONFORMER_WHOLE = WholeNetwork(
    build=_build, config=lambda config: config, empty=lambda config: PublishedForward(ActionFormer(config))
)
"""ActionFormer; its outputs are class logits and offsets."""
