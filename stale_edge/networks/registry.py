"""The networks that this version can hold, by the name in a checkpoint's metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stale_edge.networks.actionformer.spec import ACTIONFORMER_SPEC
from stale_edge.networks.boundary_map.spec import BOUNDARY_MAP_SPEC
from stale_edge.networks.stale.spec import STALE_SPEC
from stale_edge_runtime.contract import ACTIONFORMER, STALE_NETWORK
from stale_edge_runtime.heads.boundary_map import BOUNDARY_MAP

if TYPE_CHECKING:
    from stale_edge.networks.base import NetworkSpec

NETWORKS: dict[str, NetworkSpec] = {
    STALE_NETWORK: STALE_SPEC,
    ACTIONFORMER: ACTIONFORMER_SPEC,
    BOUNDARY_MAP: BOUNDARY_MAP_SPEC,
}
"""Description of each network; a new network is one more entry."""
