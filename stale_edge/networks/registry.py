"""The networks that this version can hold, by the name in a checkpoint's metadata."""

from __future__ import annotations

from stale_edge.networks.base import NetworkSpec, PublishedNames
from stale_edge.networks.stale.config import ModelConfig
from stale_edge.networks.stale.model import STALE
from stale_edge.networks.stale.published_names import is_unused, published_name
from stale_edge_runtime.contract import STALE_NETWORK

NETWORKS: dict[str, NetworkSpec] = {
    STALE_NETWORK: NetworkSpec(
        config=ModelConfig, build=STALE, published=PublishedNames(name=published_name, is_unused=is_unused)
    ),
}
"""Description of each network; a new network is one more entry."""
