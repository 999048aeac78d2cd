"""First weights of a network: the same from `train` and from a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from stale_edge.networks.base import NetworkConfig, NetworkSpec


def first_network(spec: NetworkSpec, config: NetworkConfig, seed: int) -> Any:
    """Build a network with first weights that a seed alone decides; no generator is touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return spec.build(config)
