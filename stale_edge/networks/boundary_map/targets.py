"""Targets of the map: how well every pair of edges meets an action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stale_edge_runtime.segments import tiou

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stale_edge.networks.base import AnnotatedVideo

PARTS = 10_000
"""Targets are whole numbers of so many parts, as processes exchange no fractions."""


@dataclass(frozen=True)
class MapTargets:
    """Targets of a batch."""

    overlap: Tensor
    """int32 [B, T, T]: highest tIoU of first and last snippet with an action, in `PARTS`."""
    known: Tensor
    """bool [B, T, T]: the pair is one, and what it holds is known."""

    def tensors(self) -> tuple[Tensor, ...]:
        """Give all tensors, in the order of the fields."""
        return self.overlap, self.known

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> MapTargets:
        """Move to another device."""
        return MapTargets(*(tensor.to(device, non_blocking=non_blocking) for tensor in self.tensors()))

    def pin_memory(self) -> MapTargets:
        """Move to pinned memory."""
        return MapTargets(*(tensor.pin_memory() for tensor in self.tensors()))


def map_targets(videos: Sequence[AnnotatedVideo], snippets: int) -> MapTargets:
    """Compare every pair of edges of every video with its actions.

    A pair without overlap with an action is unknown where an action of a hidden class lies in it.

    Args:
        videos: Videos to compare, one or more.
        snippets: T.
    """
    at = np.arange(snippets)
    first, last = np.meshgrid(at, at, indexing="ij")
    pairs = np.stack((first, last + 1), axis=2).reshape(-1, 2).astype(np.float64)
    valid = first <= last
    overlaps, knowns = [], []
    for video in videos:
        scale = snippets / video.duration_s
        spans = np.array([(item.start_s, item.end_s) for item in video.instances], dtype=np.float64).reshape(-1, 2)
        hidden = np.array(video.hidden, dtype=np.float64).reshape(-1, 2)
        overlap = tiou(pairs, spans * scale).max(axis=1, initial=0.0).reshape(snippets, snippets)
        covered = tiou(pairs, hidden * scale).max(axis=1, initial=0.0).reshape(snippets, snippets)
        overlaps.append(np.where(valid, overlap, 0.0))
        knowns.append(valid & ((overlap > 0) | (covered == 0)))
    parts = np.rint(np.stack(overlaps) * PARTS).astype(np.int32)
    return MapTargets(torch.from_numpy(parts), torch.from_numpy(np.stack(knowns)))
