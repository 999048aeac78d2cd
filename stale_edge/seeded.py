"""Weights filled from a seed by a fixed rule: right for timing and for parity, useless for detection.

The rule depends on the published name and the shape of each parameter alone, so anybody can fill any
implementation with the same numbers. Source: docs/network.md, "Golden numbers".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from stale_edge.checkpoint import Checkpoint
from stale_edge.class_names import activitynet_classes
from stale_edge.networks.registry import NETWORKS
from stale_edge.networks.stale.config import ModelConfig
from stale_edge.networks.stale.published_names import image_tower_shapes, published_name
from stale_edge.networks.stale.seeding import seeded_values
from stale_edge_runtime.contract import STALE_NETWORK

if TYPE_CHECKING:
    from pathlib import Path


def seeded_network(config: Any, seed: int, network_name: str = STALE_NETWORK) -> Any:
    """Fill every parameter of a network by its rule; give it in evaluation mode.

    Args:
        config: Sizes.
        seed: Seed of the rule.
        network_name: Kind of network, a key of `NETWORKS`.
    """
    spec = NETWORKS[network_name]
    rename = spec.published.name if spec.published else str
    with torch.device("meta"):
        network = spec.build(config)
    state = {
        name: torch.from_numpy(spec.seeded_values(rename(name), tuple(parameter.shape), seed))
        for name, parameter in network.state_dict().items()
    }
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(requires_grad=False).eval()


def untrained_checkpoint(seed: int, config: ModelConfig | None = None) -> Checkpoint:
    """An untrained network with ActivityNet's classes, marked as untrained.

    Args:
        seed: Seed of the rule.
        config: Sizes; the published ones by default.
    """
    network = seeded_network(config or ModelConfig(), seed)
    return Checkpoint(network, activitynet_classes(), {"source": "seeded", "seed": seed})


def write_published_checkpoint(path: Path, seed: int, config: ModelConfig | None = None) -> None:
    """Write a file in the published format, image tower and DataParallel prefix included, filled by the rule.

    Beside the published entries it holds the seed, so that nobody takes its weights for trained ones.

    Args:
        path: Where it goes, usually `….pth.tar`.
        seed: Seed of the rule.
        config: Sizes; the published ones by default.
    """
    from stale_edge_runtime.formats.files import atomic_path

    network = seeded_network(config or ModelConfig(), seed)
    state = {f"module.{published_name(name)}": value for name, value in network.state_dict().items()}
    for name, shape in image_tower_shapes().items():
        state[f"module.{name}"] = torch.from_numpy(seeded_values(name, shape, seed))
    with atomic_path(path) as temporary:
        torch.save({"epoch": 0, "seed": seed, "state_dict": state}, temporary)
