"""Focal loss of the classes and distance-IoU loss of the segments, divided by a running number of positive moments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from stale_edge.networks.actionformer.config import LossSettings
    from stale_edge.networks.actionformer.model import ActionFormerOutput
    from stale_edge.networks.actionformer.targets import ActionFormerTargets

NORMALIZER_DECAY: Final = 0.9
POSITIVE_WEIGHT: Final = 0.25
"""Weight of a class that is there, beside 1 less this of one that is not."""
SHORTEST: Final = 1e-8
LEAST_REGRESSION: Final = 0.01


class ActionFormerTerms(NamedTuple):
    """The loss and its terms."""

    total: Tensor
    classes: Tensor
    segments: Tensor


class ActionFormerLoss(nn.Module):
    """Loss of a batch. The number that it is divided by is part of its state.

    Args:
        settings: Weights.
    """

    normalizer: Tensor

    def __init__(self, settings: LossSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("normalizer", torch.tensor(settings.positives, dtype=torch.float64))

    def forward(self, output: ActionFormerOutput, targets: ActionFormerTargets) -> ActionFormerTerms:
        """Compare outputs for a batch with its targets."""
        valid = targets.valid
        positive = valid & (targets.classes.sum(dim=2) > 0)  # [B, P]
        count = max(int(positive.sum()), 1)
        self.normalizer.mul_(NORMALIZER_DECAY).add_((1 - NORMALIZER_DECAY) * count)
        normalizer = float(self.normalizer)
        wanted, smoothing = targets.classes[valid], self.settings.smoothing
        wanted = wanted * (1 - smoothing) + smoothing / (wanted.shape[1] + 1)
        classes = focal_loss(output.class_logits[valid], wanted) / normalizer
        if bool(positive.any()):
            segments = distance_iou_loss(output.offsets[positive], targets.offsets[positive]) / normalizer
        else:
            segments = 0 * output.offsets.sum()
        weight = self.settings.regression_weight
        if weight <= 0:
            weight = float(classes.detach()) / max(float(segments.detach()), LEAST_REGRESSION)
        return ActionFormerTerms(classes + weight * segments, classes, segments)


def focal_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Sum the focal loss, gamma 2.

    Args:
        logits: [N, C].
        wanted: Probabilities [N, C].

    Returns:
        A scalar.
    """
    probability = logits.sigmoid()
    crossing = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    right = probability * wanted + (1 - probability) * (1 - wanted)
    weight = POSITIVE_WEIGHT * wanted + (1 - POSITIVE_WEIGHT) * (1 - wanted)
    return (weight * crossing * (1 - right) ** 2).sum()


def distance_iou_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Sum the distance-IoU loss of segments around one moment each.

    Args:
        found: Distances to start and end [N, 2], not negative.
        wanted: The same of the true segments.

    Returns:
        A scalar.
    """
    left, right = found.T
    true_left, true_right = wanted.T
    shared = torch.minimum(left, true_left) + torch.minimum(right, true_right)
    union = left + right + true_left + true_right - shared
    hull = torch.maximum(left, true_left) + torch.maximum(right, true_right)
    shift = 0.5 * (right - left - true_right + true_left)
    overlap = shared / union.clamp(min=SHORTEST)
    penalty = shift / hull.clamp(min=SHORTEST)
    return torch.sum(1 - overlap + penalty * penalty)
