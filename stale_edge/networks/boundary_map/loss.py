"""Loss of the map: how many of the evaluation's thresholds a pair of edges meets."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from stale_edge.networks.boundary_map.targets import PARTS

if TYPE_CHECKING:
    from stale_edge.networks.boundary_map.targets import MapTargets

FIRST_THRESHOLD = 0.475
THRESHOLD_RANGE = 0.5
MISS_WEIGHT = 2.0


class MapTerms(NamedTuple):
    """The loss and its parts, all scalars."""

    total: Tensor
    """Both together."""
    hits: Tensor
    """Mean over pairs that meet a threshold."""
    misses: Tensor
    """Mean over the other pairs, before its weight."""


class MapPrediction(NamedTuple):
    """Outputs that the loss compares with targets."""

    pair_logits: Tensor
    """[B, T, T]."""


def map_loss(output: MapPrediction, targets: MapTargets) -> MapTerms:
    """Compare logits with the share of thresholds that each pair meets; every video counts the same.

    Args:
        output: Outputs for B videos.
        targets: Targets of the same videos.
    """
    with torch.autocast(output.pair_logits.device.type, enabled=False):
        wanted = ((targets.overlap.float() / PARTS - FIRST_THRESHOLD) / THRESHOLD_RANGE).clamp(0, 1)
        errors = F.binary_cross_entropy_with_logits(output.pair_logits.float(), wanted, reduction="none")
        met = (wanted > 0) & targets.known
        hits, misses = _mean_over(errors, met), _mean_over(errors, targets.known & ~met)
        return MapTerms(hits + MISS_WEIGHT * misses, hits, misses)


def _mean_over(errors: Tensor, chosen: Tensor) -> Tensor:
    """Mean over the chosen pairs of each video [B, T, T], then over videos."""
    chosen = chosen.float()
    return ((errors * chosen).sum(dim=(1, 2)) / chosen.sum(dim=(1, 2)).clamp(min=1)).mean()
