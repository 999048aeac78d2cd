"""The networks that this version can export, by the name in a checkpoint's and a file's metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stale_edge_export.graphs.actionformer_spec import ACTIONFORMER_GRAPH
from stale_edge_export.graphs.base import QuantizationRules
from stale_edge_export.graphs.boundary_map import BOUNDARY_MAP_GRAPH
from stale_edge_export.graphs.stale_spec import STALE_GRAPH
from stale_edge_runtime.contract import ACTIONFORMER, STALE_NETWORK, Role
from stale_edge_runtime.heads.boundary_map import BOUNDARY_MAP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stale_edge_export.graphs.base import Decision, GraphSpec
    from stale_edge_runtime.contract import ModelInfo

GRAPHS: dict[str, GraphSpec] = {
    STALE_NETWORK: STALE_GRAPH,
    ACTIONFORMER: ACTIONFORMER_GRAPH,
    BOUNDARY_MAP: BOUNDARY_MAP_GRAPH,
}
"""Export of each network; a new network is one more entry."""
TOWER_RULES = QuantizationRules(
    is_tower=True,
    # Weights of pixels are so small that half precision would round them coarsely.
    fp16_kept_stages=("patches", "patches.product"),
)
"""Rules for a text or image tower, which is the same beside every network."""


def quantization_rules(info: ModelInfo) -> QuantizationRules:
    """Give the parts of a file that smaller number formats may touch.

    Args:
        info: Metadata of the file.
    """
    return GRAPHS[info.network].quantization if info.role is Role.DETECTOR else TOWER_RULES


def decisions(info: ModelInfo) -> Mapping[str, Decision]:
    """Give the decisions that are taken from the outputs of a file; none for those of a tower.

    Args:
        info: Metadata of the file.
    """
    return GRAPHS[info.network].decisions if info.role is Role.DETECTOR else {}
