"""The networks that this runtime understands, by the name in a file's metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stale_edge_runtime.contract import ACTIONFORMER, STALE_NETWORK, TOWER_OUTPUTS, Kind
from stale_edge_runtime.heads.actionformer import ACTIONFORMER_HEAD
from stale_edge_runtime.heads.boundary_map import BOUNDARY_MAP, BOUNDARY_MAP_HEAD
from stale_edge_runtime.heads.stale import STALE_HEAD

if TYPE_CHECKING:
    from stale_edge_runtime.heads.base import Head

HEADS: dict[str, Head] = {STALE_NETWORK: STALE_HEAD, ACTIONFORMER: ACTIONFORMER_HEAD, BOUNDARY_MAP: BOUNDARY_MAP_HEAD}
"""Head of each network; a new network is one more entry."""
SHIPPED = frozenset(HEADS)
"""Networks that every process knows; a program may register more for itself."""


def output_names(network: str, kind: Kind) -> tuple[str, ...]:
    """Give the names of the outputs of a network or tower, in order."""
    return (TOWER_OUTPUTS[kind][0],) if kind in TOWER_OUTPUTS else HEADS[network].outputs
