"""Appearance of a video to CLIP's image tower, snippet by snippet.

A snippet's features are the sum of: what all images have in common; the scene, which stays; what is particular to the
shot; noise that changes quickly; the class, more while its action lasts and less around it, more or less in view from
shot to shot; what all actions have in common; and other actions that nobody annotated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stale_edge.simulation.measured import CLIP_SNIPPET_S
from stale_edge.simulation.timeline import draw_cuts, overlap
from stale_edge_runtime.synthetic import correlate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stale_edge.simulation.config import WorldConfig
    from stale_edge.simulation.semantics import Semantics
    from stale_edge.simulation.timeline import Segments

_DISTRACTOR_S = (2.0, 12.0)


def draw_features(
    rng: np.random.Generator,
    config: WorldConfig,
    semantics: Semantics,
    duration_s: float,
    segments: Segments,
    labels: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Draw the features of one video.

    Args:
        rng: Source of randomness.
        config: The world.
        semantics: Classes of the world.
        duration_s: Length of the video.
        segments: Instances of the video `[N, 2]`, seconds.
        labels: Classes of the instances `[N]`.

    Returns:
        `[T, D]`, T as the length of a snippet gives it.
    """
    snippets = max(1, round(duration_s / config.snippet_s))
    inside = overlap(segments, duration_s, snippets)  # [N, T]
    action = inside.sum(axis=0).clip(max=1.0)  # [T]
    cuts = draw_cuts(rng, duration_s, config.shot_mean_s)
    shot = np.searchsorted(cuts, (np.arange(snippets) + 0.5) * duration_s / snippets)  # [T]
    shots = _textures(rng, config, semantics, len(cuts) + 1, config.shot_norm)[shot]  # [T, D]
    in_view = 1.0 + config.visibility_spread * rng.standard_normal(len(cuts) + 1, dtype=np.float32)[shot]  # [T]

    strength = config.actionness_norm * (1.0 + config.actionness_spread * float(rng.standard_normal()))
    context = float(np.clip(config.context_mean + config.context_spread * rng.standard_normal(), 0.0, 1.0))
    present = np.unique(labels)
    owners = np.stack([inside[labels == label].sum(axis=0).clip(max=1.0) for label in present])  # [P, T]
    around = context * (1.0 - action) / len(present)
    others, other_amounts = _distractors(rng, config, semantics, duration_s, snippets, int(labels[0]))
    directions = np.concatenate([semantics.actionness[None], semantics.class_directions[present], others])
    amounts = np.concatenate(
        [strength * action[None], config.class_norm * in_view * (owners + around), other_amounts * (1.0 - action)]
    )  # [1 + P + M, T]

    features = shots
    features += semantics.common + _textures(rng, config, semantics, 1, config.scene_norm)
    features += amounts.T.astype(np.float32) @ directions
    noise = _textures(rng, config, semantics, snippets, config.noise_norm)
    features += correlate(noise, config.noise_correlation ** (config.snippet_s / CLIP_SNIPPET_S))
    return features


def _textures(
    rng: np.random.Generator, config: WorldConfig, semantics: Semantics, count: int, norm: float
) -> NDArray[np.float32]:
    """Directions of that mean norm, in part along those of meaning: `[count, D]`."""
    meaning = rng.standard_normal((count, len(semantics.basis)), dtype=np.float32) @ semantics.basis
    meaning *= np.float32(norm * np.sqrt(config.semantic_share))
    free = rng.standard_normal((count, config.feature_dim), dtype=np.float32)
    free *= np.float32(norm * np.sqrt((1.0 - config.semantic_share) / config.feature_dim))
    free += meaning
    return free


def _distractors(
    rng: np.random.Generator, config: WorldConfig, semantics: Semantics, duration_s: float, snippets: int, label: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Directions `[M, D]` and amounts `[M, T]` of actions that nobody annotated."""
    count = int(rng.poisson(config.distractors_per_minute * duration_s / 60.0))
    group_count, kinds = semantics.distractor_directions.shape[:2]
    starts = rng.random(count) * duration_s
    segments = np.stack([starts, starts + rng.uniform(*_DISTRACTOR_S, count)], axis=1).clip(max=duration_s)
    near = rng.random(count) < config.distractor_group_share
    group = np.where(near, semantics.groups[label], rng.integers(group_count, size=count))
    directions = semantics.distractor_directions[group, rng.integers(kinds, size=count)]
    return directions, config.distractor_norm * overlap(segments, duration_s, snippets)
