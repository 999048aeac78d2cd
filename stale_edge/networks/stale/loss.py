"""The published loss: classification, mask, foreground and consistency.

Source: docs/protocol.md §3, which records the published code of Nag et al. (ECCV 2022). Everything is computed in
float32, also under autocast. Snippets whose content is not known (`Targets.known`) take part in none of the terms that
compare with targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from stale_edge.networks.stale.targets import Targets

SNIPPET_SHARE: Final = 0.9
MASK_BCE_SHARE: Final = 0.4
DICE_SHARE: Final = 0.6
PRIOR_COUNT: Final = 10
"""Added to the positives and to all entries before they are weighed against each other."""
LOG_EPSILON: Final = 1e-6
COMPAT_CLASS_ROWS: Final = 200


@dataclass(frozen=True)
class LossWeights:
    """Weights of the four terms."""

    classification: float
    """alpha."""
    mask: float
    """beta."""
    foreground: float
    """delta."""
    consistency: float
    """sigma."""


LOSS_WEIGHTS: Final = {
    "closed": LossWeights(0.4, 0.3, 0.1, 1.0),
    "75/25": LossWeights(0.4, 0.3, 0.1, 1.0),
    "50/50": LossWeights(0.1, 1.0, 0.1, 0.1),
}


class LossTerms(NamedTuple):
    """The loss and its terms before their weights, all scalars."""

    total: Tensor
    """Sum that is minimised."""
    classification: Tensor
    """Cross-entropy of snippets and videos."""
    mask: Tensor
    """Cross-entropy and dice of the masks."""
    foreground: Tensor
    """Cross-entropy of the representation mask."""
    consistency: Tensor
    """Distance of the features that the classes point at from those that the masks point at."""


class Prediction(Protocol):
    """Inputs of the loss; `stale_edge.networks.stale.model.NetworkOutput` is one."""

    @property
    def class_logits(self) -> Tensor:
        """[B, T, C + 1], background last."""

    @property
    def masks(self) -> Tensor:
        """[B, A, T], in [0, 1]; A = T."""

    @property
    def video_logits(self) -> Tensor:
        """[B, C]."""

    @property
    def embedded(self) -> Tensor:
        """[B, T, D]."""

    @property
    def representation_mask(self) -> Tensor:
        """[B, T], in [0, 1]."""


@dataclass(frozen=True)
class StaleLoss:
    """The loss as a function of what the network gives and what it should give."""

    weights: LossWeights = LOSS_WEIGHTS["closed"]
    """One of `LOSS_WEIGHTS`, or others."""
    compat: str | None = None
    """`"stale"`: consistency looks at the first 200 rows of the class logits, as published; with fewer classes the
    background is one of them, and then background snippets pass for confident ones. Default: at the classes alone."""

    def __call__(self, output: Prediction, targets: Targets) -> LossTerms:
        """Compare.

        Args:
            output: B videos of T snippets, with A = T.
            targets: Targets of the same videos.

        Raises:
            ValueError: There are more or fewer anchors than snippets.
        """
        if output.masks.shape[1] != output.masks.shape[2]:
            raise ValueError(f"the loss needs as many anchors as snippets, not {tuple(output.masks.shape[1:])}")
        with torch.autocast(output.masks.device.type, enabled=False):
            terms = (
                classification_loss(output.class_logits.float(), output.video_logits.float(), targets),
                mask_loss(output.masks.float(), targets),
                foreground_loss(output.representation_mask.float(), targets),
                self._consistency(output),
            )
            factors = (
                self.weights.classification,
                self.weights.mask,
                self.weights.foreground,
                self.weights.consistency,
            )
            total = sum((factor * term for factor, term in zip(factors, terms, strict=True)), terms[0].new_zeros(()))
        return LossTerms(total, *terms)

    def _consistency(self, output: Prediction) -> Tensor:
        rows = COMPAT_CLASS_ROWS if self.compat else output.class_logits.shape[2] - 1
        return consistency_loss(output.class_logits[:, :, :rows].float(), output.masks.float(), output.embedded.float())


def focal(cross_entropy: Tensor) -> Tensor:
    """(1 - e^-x)² · x: what is nearly learned counts for less."""
    return (1 - torch.exp(-cross_entropy)).square() * cross_entropy


def classification_loss(class_logits: Tensor, video_logits: Tensor, targets: Targets) -> Tensor:
    """Class of every snippet, and the first class of every video that has one.

    Args:
        class_logits: float32 [B, T, C + 1].
        video_logits: float32 [B, C].
        targets: Targets of the same videos.
    """
    per_snippet = F.cross_entropy(class_logits.flatten(0, 1), targets.snippet_classes.flatten(), reduction="none")
    per_video = F.cross_entropy(video_logits, targets.first_classes, reduction="none")
    snippets = _weighted_mean(per_snippet, targets.known.flatten())
    return SNIPPET_SHARE * focal(snippets) + focal(_weighted_mean(per_video, targets.video_classes.any(dim=1)))


def mask_loss(masks: Tensor, targets: Targets) -> Tensor:
    """Weighted cross-entropy and dice of the masks.

    Args:
        masks: float32 [B, A, T].
        targets: Targets of the same videos.
    """
    known = (targets.known[:, :, None] & targets.known[:, None, :]).float()  # [B, A, T]
    wanted = targets.masks.float() * known
    return MASK_BCE_SHARE * _balanced_cross_entropy(masks, wanted, known) + DICE_SHARE * _dice(masks * known, wanted)


def foreground_loss(representation_mask: Tensor, targets: Targets) -> Tensor:
    """Cross-entropy of the representation mask.

    Args:
        representation_mask: float32 [B, T].
        targets: Targets of the same videos.
    """
    errors = F.binary_cross_entropy(representation_mask, targets.foreground.float(), reduction="none")
    return _weighted_mean(errors, targets.known)


def consistency_loss(class_logits: Tensor, masks: Tensor, embedded: Tensor) -> Tensor:
    """Whether confident snippets and confident anchors point at the same features.

    Args:
        class_logits: float32 [B, T, R], the rows that count as classes.
        masks: float32 [B, A, T], A = T.
        embedded: float32 [B, T, D].
    """
    by_class = class_logits.softmax(dim=2).amax(dim=2)  # [B, T]
    by_mask = masks.amax(dim=2)  # [B, A]
    return (1 - F.cosine_similarity(_mean_of_strong(embedded, by_class), _mean_of_strong(embedded, by_mask))).mean()


def _mean_of_strong(embedded: Tensor, strength: Tensor) -> Tensor:
    """Mean embedded feature [B, D] where the strength [B, T] is at least its mean."""
    strong = (strength >= strength.mean(dim=1, keepdim=True)).float()  # [B, T]
    strong = torch.where(strong.any(dim=1, keepdim=True), strong, 1.0)  # equal values may all fall below their mean
    return (strong[:, None] @ embedded).squeeze(1) / strong.sum(dim=1, keepdim=True)


def _balanced_cross_entropy(masks: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    positives = PRIOR_COUNT + wanted.sum()
    entries = PRIOR_COUNT + positives + (known - wanted).sum()
    ratio = entries / positives
    positive = 0.5 * ratio * wanted * torch.log(masks + LOG_EPSILON)
    negative = 0.5 * ratio / (ratio - 1) * (known - wanted) * torch.log(1 - masks + LOG_EPSILON)
    return -(positive + negative).sum() / entries


def _dice(masks: Tensor, wanted: Tensor) -> Tensor:
    shared = (masks * wanted).sum(dim=(1, 2)) + 1
    return (1 - shared / ((masks.square() + wanted).sum(dim=(1, 2)) + 1)).mean()


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)
