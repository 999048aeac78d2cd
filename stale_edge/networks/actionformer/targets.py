"""Targets of every moment of a video: classes, and distances to the ends of the segment around it.

Symbols: B batch, P positions of all levels, N segments, C classes. Times are on the grid: snippet j is at time j.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from stale_edge.networks.actionformer.config import ActionFormerConfig

CENTRE_RADIUS: Final = 1.5
"""Strides around a segment's centre within which a moment learns it."""
SAME_LENGTH: Final = 1e-3
"""Segments this close in length to the shortest around a moment are all learned there."""


class Points(NamedTuple):
    """Moments of all levels, the finest first."""

    times: Tensor
    """float32 [P], on the grid."""
    low: Tensor
    """Shortest reach that is learned, [P]."""
    high: Tensor
    """Longest, [P]."""
    strides: Tensor
    """Snippets from one position to the next, [P]."""


def level_points(config: ActionFormerConfig, length: int) -> Points:
    """Give the moments of a padded video.

    Args:
        config: Sizes.
        length: T, a multiple of the last stride.
    """
    rows = [
        (float(at * stride), float(low), float(high), float(stride))
        for stride, (low, high) in zip(config.strides, config.ranges, strict=True)
        for at in range(length // stride)
    ]
    return Points(*torch.tensor(rows).T.contiguous())


class VideoTargets(NamedTuple):
    """Targets of one video."""

    classes: Tensor
    """Multi-hot [P, C]; a row without a class is background."""
    offsets: Tensor
    """[P, 2]: back to the start and on to the end, in strides; of no meaning in the background."""


def video_targets(
    points: Points, segments: Tensor, labels: Tensor, classes: int, *, centre: bool = True
) -> VideoTargets:
    """Assign segments to moments.

    Args:
        points: Moments.
        segments: float32 [N, 2], start and end on the grid.
        labels: int64 [N].
        classes: C.
        centre: Learn a segment only near its centre; otherwise all over it.

    Returns:
        Targets.
    """
    count = len(points.times)
    if not len(segments):
        return VideoTargets(torch.zeros(count, classes), torch.zeros(count, 2))
    times, strides = points.times[:, None], points.strides[:, None]
    start, end = segments.T[:, None]  # [1, N]
    left, right = times - start, end - times  # [P, N]
    if centre:
        middle = 0.5 * (start + end)
        first = torch.maximum(middle - CENTRE_RADIUS * strides, start)
        last = torch.minimum(middle + CENTRE_RADIUS * strides, end)
        inside = (times - first > 0) & (last - times > 0)
    else:
        inside = (left > 0) & (right > 0)
    reach = torch.maximum(left, right)
    candidates = inside & (reach >= points.low[:, None]) & (reach <= points.high[:, None])
    lengths = (end - start).expand(count, -1).masked_fill(~candidates, torch.inf)
    shortest, chosen = lengths.min(dim=1)
    learned = candidates & (lengths <= shortest[:, None] + SAME_LENGTH)  # [P, N]
    one_hot = torch.nn.functional.one_hot(labels, classes).float()
    rows = torch.arange(count)
    offsets = torch.stack((left[rows, chosen], right[rows, chosen]), dim=1) / strides
    return VideoTargets((learned.float() @ one_hot).clamp(max=1), offsets)


@dataclass
class ActionFormerTargets:
    """Targets of a batch."""

    classes: Tensor
    """Multi-hot [B, P, C]."""
    offsets: Tensor
    """[B, P, 2], in strides."""
    valid: Tensor
    """bool [B, P]: moments of the video that are taught, as an action or as background."""

    def tensors(self) -> tuple[Tensor, ...]:
        """Give all tensors, batch first."""
        return self.classes, self.offsets, self.valid

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> ActionFormerTargets:
        """Move to another device."""
        return ActionFormerTargets(*(part.to(device, non_blocking=non_blocking) for part in self.tensors()))

    def pin_memory(self) -> ActionFormerTargets:
        """Move to pinned memory."""
        return ActionFormerTargets(*(part.pin_memory() for part in self.tensors()))
