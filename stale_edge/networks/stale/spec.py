"""STALE as checkpoints and training see it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from stale_edge.class_names import activitynet_classes
from stale_edge.networks.base import FirstSizes, NetworkSpec, PublishedNames
from stale_edge.networks.stale.config import DesignOptions, ModelConfig
from stale_edge.networks.stale.loss import LOSS_WEIGHTS, LossTerms, StaleLoss
from stale_edge.networks.stale.model import STALE, NetworkOutput
from stale_edge.networks.stale.published_names import is_unused, published_name
from stale_edge.networks.stale.reference_points import REFERENCE_POINTS
from stale_edge.networks.stale.seeding import seeded_values
from stale_edge.networks.stale.targets import Targets, video_targets
from stale_edge_runtime.contract import CLASS_LOGITS, MASKS, VIDEO_LOGITS
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.resampling import resize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from stale_edge.networks.base import AnnotatedVideo
    from stale_edge.training.settings import TrainingSettings


def _first_config(sizes: FirstSizes) -> ModelConfig:
    return ModelConfig(feature_dim=sizes.feature_dim, text=None, ours=DesignOptions.named(sizes.options))


def collate(
    videos: Sequence[AnnotatedVideo], classes: Mapping[str, int], config: ModelConfig, compat: str | None = None
) -> tuple[Tensor, Tensor, Targets]:
    """Resize videos of any lengths to the anchors, and make their targets.

    Returns:
        Features float32 [B, A, D], lengths int64 [B], all A, and targets.

    Raises:
        KeyError: A video has an instance of another class.
    """
    features = torch.stack([torch.from_numpy(resize(video.features, config.anchors)) for video in videos])
    targets = [
        video_targets(video.instances, video.duration_s, classes, config.anchors, hidden=video.hidden, compat=compat)
        for video in videos
    ]
    return features, torch.full((len(videos),), config.anchors), Targets.stack(targets)


def _set_statistics(network: STALE, means: Callable[[], tuple[Tensor, Tensor]]) -> None:
    if network.common is not None:
        network.common.set(*means())


def _training_outputs(network: STALE, features: Tensor, lengths: Tensor, text: Tensor) -> NetworkOutput:
    del lengths
    detection = network.detect(features, text)
    return NetworkOutput(*detection, network.representation_mask(features, detection.embedded))


def _loss(config: ModelConfig, settings: TrainingSettings) -> StaleLoss:
    del config
    if settings.loss_weights not in LOSS_WEIGHTS:
        raise UsageError("loss weights", f"is {settings.loss_weights!r}", f"give {', '.join(LOSS_WEIGHTS)}")
    return StaleLoss(LOSS_WEIGHTS[settings.loss_weights], settings.compat)


def _outputs(network: STALE, features: Tensor, text: Tensor) -> dict[str, Tensor]:
    found = network.detect(features, text)
    return {CLASS_LOGITS: found.class_logits, MASKS: found.masks, VIDEO_LOGITS: found.video_logits}


def _published_config(state: Mapping[str, Tensor], sizes: ModelConfig | None) -> ModelConfig:
    """Read the number of anchors from the last layer of the mask head."""
    config, anchors = sizes or ModelConfig(), state.get("localizer_mask.2.weight")
    if anchors is None or anchors.ndim != 3:
        return config
    return replace(config, anchors=max(1, anchors.shape[0]))


STALE_SPEC = NetworkSpec(
    config=ModelConfig,
    build=STALE,
    first_config=_first_config,
    training_length=lambda config: int(config.anchors),
    collate=collate,
    set_statistics=_set_statistics,
    training_outputs=_training_outputs,
    loss=_loss,
    loss_terms=LossTerms._fields,
    outputs=_outputs,
    seeded_values=seeded_values,
    metadata=lambda config: {"anchors": config.anchors},
    published=PublishedNames(
        config=_published_config,
        name=published_name,
        is_unused=is_unused,
        classes=lambda _: activitynet_classes(),
        feature_extractor="CLIP ViT-B/16",
        feature_norm=11.0,  # of image embeddings that are projected and not normalised
    ),
    designs=DesignOptions.every().names,
    reference_points=REFERENCE_POINTS,
)
"""The network `stale`."""
