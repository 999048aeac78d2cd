"""The networks that this version can hold, by the name in a checkpoint's metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stale_edge.networks.stale.spec import STALE_SPEC
from stale_edge_runtime.contract import STALE_NETWORK

if TYPE_CHECKING:
    from stale_edge.networks.base import NetworkSpec

NETWORKS: dict[str, NetworkSpec] = {STALE_NETWORK: STALE_SPEC}
"""Description of each network; a new network is one more entry."""
