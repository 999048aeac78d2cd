"""Semantics of a world's classes: their text embeddings, and how images of them look.

Every class has a meaning, a vector whose greater part it shares with the classes of its group. Its text embedding is
the direction common to all texts plus its meaning. Its image direction is its meaning as the text has it, its meaning
by a second linear map that only images know, and a part of its own; weights and maps are the same for all classes, so
that an unseen class is to its text what a seen one is to its own. Between the modalities lies a gap: the common
directions of images and texts differ (Liang et al., "Mind the Gap", NeurIPS 2022), and each is led by one channel of
its own, as CLIP's are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stale_edge.simulation.config import WorldConfig

_OFF_VOCABULARY = 2
"""Actions of each group that are in no class list: videos hold such things too, and nobody annotates them."""
_SPECTRUM = -0.25
_BIAS = 0.5
"""Share that is left of the chance similarity between images in general and single classes' texts: CLIP has some."""
_TEXT_OUTLIER_SHARE = 0.6
_TEXT_NORM_SPREAD = 0.04


@dataclass(frozen=True)
class Semantics:
    """Texts and looks of all classes of a world; everything float32."""

    text_embeddings: NDArray[np.float32]
    """`[C, D]`, not normalised."""
    class_directions: NDArray[np.float32]
    """`[C, D]`, about length one: how images of a class differ from others."""
    distractor_directions: NDArray[np.float32]
    """`[G, 2, D]`: the same for actions of each semantic group that have no name."""
    groups: NDArray[np.int64]
    """`[C]`, semantic group of each class."""
    common: NDArray[np.float32]
    """`[D]`, what all images have in common."""
    actionness: NDArray[np.float32]
    """`[D]`, about length one: how all actions differ from what surrounds them."""
    basis: NDArray[np.float32]
    """`[2 K, D]`: the directions of meaning that texts know and those that only images know, by their strength; a
    standard normal vector times this has a mean square length of one."""


def make_semantics(config: WorldConfig, rng: np.random.Generator) -> Semantics:
    """Draw the classes of a world."""
    dim, count = config.feature_dim, config.classes
    groups = _group_of_classes(config, rng)
    group_count = int(groups.max()) + 1
    in_groups = np.concatenate([groups, np.repeat(np.arange(group_count), _OFF_VOCABULARY)])
    strengths = np.arange(1, config.semantic_dim + 1, dtype=np.float64) ** _SPECTRUM
    strengths /= np.linalg.norm(strengths)
    meanings = _meanings(rng, in_groups, group_count, strengths, config.group_share)  # [C + 2 G, K]
    common_image, common_text = _common_directions(config, rng)
    to_text = rng.standard_normal((config.semantic_dim, dim)) / np.sqrt(dim)
    to_text -= (1.0 - _BIAS) * np.outer(to_text @ common_image, common_image) / max(config.common_norm**2, 1e-9)
    to_image = rng.standard_normal((config.semantic_dim, dim)) / np.sqrt(dim)
    basis = np.concatenate([strengths[:, None] * to_text, strengths[:, None] * to_image]) / np.sqrt(2.0)  # [2 K, D]
    own = rng.standard_normal((len(meanings), len(basis))) @ basis
    rest = 1.0 - config.alignment**2
    looks = (
        config.alignment * meanings @ to_text
        + np.sqrt(rest * config.shared_share) * meanings @ to_image
        + np.sqrt(rest * (1.0 - config.shared_share)) * own
    )
    text = np.sqrt(config.text_common_share) * common_text
    text = text + np.sqrt(1.0 - config.text_common_share) * meanings[:count] @ to_text
    text *= config.text_norm / np.linalg.norm(text, axis=1, keepdims=True)
    text *= 1.0 + _TEXT_NORM_SPREAD * rng.standard_normal((count, 1))
    return Semantics(
        text_embeddings=text.astype(np.float32),
        class_directions=looks[:count].astype(np.float32),
        distractor_directions=looks[count:].reshape(group_count, _OFF_VOCABULARY, dim).astype(np.float32),
        groups=groups,
        common=common_image.astype(np.float32),
        actionness=(rng.standard_normal(len(basis)) @ basis).astype(np.float32),
        basis=basis.astype(np.float32),
    )


def _group_of_classes(config: WorldConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a group for each class, at random, all of about the same size: `[C]`."""
    count = max(1, round(config.classes / config.classes_per_group))
    return np.asarray(rng.permutation(np.arange(config.classes) % count), dtype=np.int64)


def _meanings(
    rng: np.random.Generator, groups: NDArray[np.int64], count: int, strengths: NDArray[np.float64], share: float
) -> NDArray[np.float64]:
    """Vectors of length one, alike within a group: `[len(groups), K]`."""
    group = rng.standard_normal((count, len(strengths)))[groups]
    own = rng.standard_normal((len(groups), len(strengths)))
    meanings = (np.sqrt(share) * group + np.sqrt(1.0 - share) * own) * strengths
    unit: NDArray[np.float64] = meanings / np.linalg.norm(meanings, axis=1, keepdims=True)
    return unit


def _common_directions(
    config: WorldConfig, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw the mean direction of all images, and the unit direction of all texts: `[D]` each."""
    dim = config.feature_dim
    image_channel, text_channel = dim * 92 // 512, dim * 133 // 512
    spread = rng.standard_normal((2, dim))
    spread[:, [image_channel, text_channel]] = 0.0
    spread /= np.linalg.norm(spread, axis=1, keepdims=True)
    outlier = min(abs(config.outlier_value), config.common_norm)
    image = np.sqrt(config.common_norm**2 - outlier**2) * spread[0]
    image[image_channel] = np.copysign(outlier, config.outlier_value)
    # The two meet only in their smaller channels: there they must agree the more.
    text_spread = np.sqrt(1.0 - _TEXT_OUTLIER_SHARE**2)
    room = text_spread * float(np.sqrt(config.common_norm**2 - outlier**2)) / max(config.common_norm, 1e-9)
    agreement = min(config.modality_cosine / max(room, 1e-9), 1.0)
    text = text_spread * (agreement * spread[0] + np.sqrt(1.0 - agreement**2) * spread[1])
    text[text_channel] = _TEXT_OUTLIER_SHARE
    return image, text / np.linalg.norm(text)
