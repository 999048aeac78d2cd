"""STALE as the thesis timed it: the whole network in PyTorch, text tower and representation mask included.

Every forward encodes the class prompts again, as the published code does. A checkpoint that stores text embeddings has
no tower to do it with; there a tower of the published size stands in.

Source: docs/protocol.md, section 6, Fig. 4c.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

from stale_edge.networks.stale.config import DesignOptions, TextConfig
from stale_edge.networks.stale.model import STALE, DetectionTensors, NetworkOutput
from stale_edge.seeded import seeded_network
from stale_edge_export.graphs.base import WholeNetwork
from stale_edge_export.graphs.text import text_embeddings

if TYPE_CHECKING:
    from stale_edge.checkpoint import Checkpoint
    from stale_edge.networks.stale.config import ModelConfig


class StandInTower(nn.Module):
    """A network that runs on stored text embeddings, beside a text tower that costs what the published one costs.

    The answers are those of the network and its stored text; the tower, filled from a seed, is run for its time alone.

    Args:
        network: Network without a text tower, in evaluation mode.
        text: Text embeddings [C, D] of the network.
    """

    text: Tensor

    def __init__(self, network: STALE, text: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("text", text)
        self.tower = seeded_network(_with_tower(network.config), seed=0).text_tower

    def forward(self, features: Tensor, token_ids: Tensor) -> NetworkOutput:
        """Run the published forward pass on features [B, T, D] and tokenised prompts [C, L]."""
        assert self.tower is not None  # noqa: S101 (`_with_tower`)
        self.tower(token_ids)
        detection = self.network.detect(features, self.text)
        return NetworkOutput(*detection, self.network.representation_mask(features, detection.embedded))


class CachedText(nn.Module):
    """A network with text that was encoded once: what a careful user of PyTorch runs.

    Args:
        network: Network in evaluation mode.
        text: Text embeddings [C, D].
    """

    text: Tensor

    def __init__(self, network: STALE, text: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("text", text)

    def forward(self, features: Tensor, token_ids: Tensor) -> DetectionTensors:
        """Run all that detections need on features [B, T, D]; the prompts were encoded before."""
        del token_ids
        return self.network.detect(features, self.text)


def _with_tower(config: ModelConfig) -> ModelConfig:
    """Sizes of the full network: with a tower of the published size where there is none, as published otherwise."""
    return config if config.text is not None else replace(config, text=TextConfig(), ours=DesignOptions())


def _build(checkpoint: Checkpoint, class_names: tuple[str, ...]) -> nn.Module:
    network: nn.Module = checkpoint.network
    if checkpoint.network.text_tower is not None:
        return network
    return StandInTower(checkpoint.network, text_embeddings(checkpoint, class_names)).eval()


STALE_WHOLE = WholeNetwork(build=_build, config=_with_tower, empty=STALE, cached=CachedText)
"""The thesis's network; its first outputs are class logits, masks and video logits."""
