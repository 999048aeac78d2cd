"""Weights filled from a seed by a fixed rule: right for timing and for parity, useless for detection.

The rule depends on the published name and the shape of each parameter alone, so anybody can fill any
implementation with the same numbers. Source: docs/network.md, "Golden numbers".
"""

from __future__ import annotations

from typing import Any

import torch

from stale_edge.checkpoint import Checkpoint
from stale_edge.class_names import activitynet_classes
from stale_edge.networks.registry import NETWORKS
from stale_edge_runtime.contract import STALE_NETWORK


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


def untrained_checkpoint(
    seed: int, network_name: str = STALE_NETWORK, config: Any | None = None, preset: str | None = None
) -> Checkpoint:
    """Make an untrained network with the classes of a data set, marked as untrained.

    Args:
        seed: Seed of the rule.
        network_name: Kind of network, a key of `NETWORKS`.
        config: Sizes; the published ones by default.
        preset: Name of the published sizes, for a network that has several; the first by default.
    """
    spec = NETWORKS[network_name]
    chosen = preset or next(iter(spec.presets), None)
    published = None if chosen is None else spec.presets[chosen]
    origin: dict[str, Any] = {"source": "seeded", "seed": seed}
    if config is None and published is not None:
        origin["preset"] = chosen
    config = config or (published.config if published else spec.config())
    classes = spec.class_names(config, (published.classes if published else ()) or activitynet_classes())
    return Checkpoint(seeded_network(config, seed, network_name), classes, origin, network_name=network_name)
