"""The networks that this version can hold, by the name in a checkpoint's metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stale_edge.networks.actionformer.spec import ACTIONFORMER_SPEC
from stale_edge.networks.stale.spec import STALE_SPEC
from stale_edge_runtime.contract import ACTIONFORMER, STALE_NETWORK

if TYPE_CHECKING:
    from stale_edge.networks.base import NetworkSpec

NETWORKS: dict[str, NetworkSpec] = {STALE_NETWORK: STALE_SPEC, ACTIONFORMER: ACTIONFORMER_SPEC}
"""Description of each network; a new network is one more entry."""
