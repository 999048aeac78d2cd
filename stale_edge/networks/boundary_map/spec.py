"""The boundary map as checkpoints and training see it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from stale_edge.networks.base import FirstSizes, NetworkSpec, Preset
from stale_edge.networks.boundary_map.classes import pool_examples
from stale_edge.networks.boundary_map.config import BoundaryMapConfig
from stale_edge.networks.boundary_map.crops import random_crop
from stale_edge.networks.boundary_map.loss import MapPrediction, MapTerms, map_loss
from stale_edge.networks.boundary_map.model import BoundaryMap, MapOutput
from stale_edge.networks.boundary_map.reference_points import REFERENCE_POINTS
from stale_edge.networks.boundary_map.seeding import seeded_values
from stale_edge.networks.boundary_map.targets import MapTargets, map_targets
from stale_edge_runtime.resampling import resize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torch import Tensor

    from stale_edge.networks.base import AnnotatedVideo


CONFIGS = {"clip": BoundaryMapConfig(), "clip-crops": BoundaryMapConfig(snippets=128, crop=True)}
TRAINING = {
    "epochs": 10,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "weight_decay": 0.05,
    "average_decay": 0.99,
    "patience": None,
}
PRESETS = {name: Preset(config, TRAINING) for name, config in CONFIGS.items()}
"""Sizes for CLIP features, and a training for them: whole videos, or crops of videos with short actions."""


def _first_config(sizes: FirstSizes) -> BoundaryMapConfig:
    if sizes.options:
        raise ValueError(f"the boundary map has no design option {sizes.options[0]!r}")
    base = CONFIGS[sizes.preset or next(iter(CONFIGS))]
    return replace(base, feature_dim=sizes.feature_dim)


def collate(
    videos: Sequence[AnnotatedVideo], classes: Mapping[str, int], config: BoundaryMapConfig, compat: str | None = None
) -> tuple[Tensor, Tensor, MapTargets]:
    """Resize videos of any lengths, and make their targets."""
    del classes, compat
    if config.crop:
        videos = [random_crop(video, config.snippets) for video in videos]
    features = torch.stack([torch.from_numpy(resize(video.features, config.snippets)) for video in videos])
    return features, torch.full((len(videos),), config.snippets), map_targets(videos, config.snippets)


def _set_statistics(network: BoundaryMap, means: Callable[[], tuple[Tensor, Tensor]]) -> None:
    del network, means  # the closed form takes its own


def _fit(
    network: BoundaryMap, videos: Iterable[AnnotatedVideo], classes: Sequence[str], text: Tensor
) -> Mapping[str, Any]:
    config = network.config
    length = None if config.crop else config.snippets
    return network.classes.fit(pool_examples(videos, classes, length, config.feature_dim), text)


def _training_outputs(network: BoundaryMap, features: Tensor, lengths: Tensor, text: Tensor) -> MapPrediction:
    del lengths  # all the same
    return MapPrediction(network(features, text).pair_logits)


def _outputs(network: BoundaryMap, features: Tensor, text: Tensor) -> dict[str, Tensor]:
    output: MapOutput = network(features, text)
    return output._asdict()


BOUNDARY_MAP_SPEC = NetworkSpec(
    config=BoundaryMapConfig,
    build=BoundaryMap,
    first_config=_first_config,
    training_length=lambda config: None if config.crop else int(config.snippets),
    window=lambda config: int(config.snippets) if config.crop else None,
    collate=collate,
    set_statistics=_set_statistics,
    training_outputs=_training_outputs,
    loss=lambda config, settings: map_loss,  # noqa: ARG005 (one loss, nothing published)
    loss_terms=MapTerms._fields,
    outputs=_outputs,
    fit=_fit,
    presets=PRESETS,
    seeded_values=seeded_values,
    metadata=lambda _: {},
    reference_points=REFERENCE_POINTS,
)
"""The network `boundary-map`."""
