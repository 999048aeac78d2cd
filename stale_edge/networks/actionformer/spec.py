"""ActionFormer as checkpoints and training see it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stale_edge.networks.actionformer.config import ActionFormerConfig
from stale_edge.networks.actionformer.loss import ActionFormerLoss, ActionFormerTerms
from stale_edge.networks.actionformer.model import ActionFormer, ActionFormerOutput
from stale_edge.networks.actionformer.presets import PRESETS
from stale_edge.networks.actionformer.seeding import seeded_values
from stale_edge.networks.actionformer.videos import collate
from stale_edge.networks.base import FirstSizes, NetworkSpec, PublishedNames
from stale_edge_runtime.contract import ACTION, CLASS_LOGITS, OFFSETS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from stale_edge.training.settings import TrainingSettings

_FIRST_LAYER = "backbone.embd.0.conv.weight"


def _first_config(sizes: FirstSizes) -> ActionFormerConfig:
    config = PRESETS[sizes.preset or next(iter(PRESETS))].config
    assert isinstance(config, ActionFormerConfig)  # noqa: S101 (they all are)
    classes = 1 if config.is_class_agnostic else sizes.classes
    return replace(config, feature_dim=sizes.feature_dim, classes=classes)


def _class_names(config: ActionFormerConfig, taught: tuple[str, ...]) -> tuple[str, ...]:
    return (ACTION,) if config.is_class_agnostic else taught


def _training_outputs(network: ActionFormer, features: Tensor, lengths: Tensor, text: Tensor) -> ActionFormerOutput:
    del text
    output: ActionFormerOutput = network(features, lengths)
    return output


def _loss(config: ActionFormerConfig, settings: TrainingSettings) -> ActionFormerLoss:
    del settings
    return ActionFormerLoss(config.loss)


def _outputs(network: ActionFormer, features: Tensor, text: Tensor) -> dict[str, Tensor]:
    del text
    found = network.detect(features)
    return {CLASS_LOGITS: found.class_logits, OFFSETS: found.offsets}


def _no_statistics(network: ActionFormer, means: Callable[[], tuple[Tensor, Tensor]]) -> None:
    del network, means


def _decays(name: str, parameter: Tensor) -> bool:
    del parameter
    return name.endswith("weight") and "norm" not in name and ".ln" not in name


def _metadata(config: ActionFormerConfig) -> Mapping[str, Any]:
    return {
        "resize_to": config.max_length if config.resized else 0,
        "strides": config.strides,
        "offset": config.offset,
        "decoding": config.decoding.to_dict(),
    }


def _published_config(state: Mapping[str, Tensor], sizes: ActionFormerConfig | None) -> ActionFormerConfig:
    """Find the preset whose layers have the shapes of a file, and read its numbers of features and classes."""
    if sizes is not None:
        return sizes
    first, last = state.get(_FIRST_LAYER), state.get("cls_head.cls_head.conv.weight")
    if first is None or last is None or first.ndim != 3 or last.ndim != 3 or 0 in (*first.shape, *last.shape):
        return ActionFormerConfig()
    configs = [preset.config for preset in PRESETS.values() if isinstance(preset.config, ActionFormerConfig)]
    fitting = [config for config in configs if config.width == first.shape[0]] or configs
    return replace(fitting[0], feature_dim=first.shape[1], classes=last.shape[0])


def _published_classes(config: ActionFormerConfig) -> tuple[str, ...]:
    """Names of the classes of the data set that has so many."""
    if config.is_class_agnostic:
        return (ACTION,)
    return next((preset.classes for preset in PRESETS.values() if len(preset.classes) == config.classes), ())


ACTIONFORMER_SPEC = NetworkSpec(
    config=ActionFormerConfig,
    build=ActionFormer,
    first_config=_first_config,
    training_length=lambda config: int(config.max_length) if config.resized else None,
    collate=collate,
    set_statistics=_no_statistics,
    training_outputs=_training_outputs,
    loss=_loss,
    loss_terms=ActionFormerTerms._fields,
    outputs=_outputs,
    seeded_values=seeded_values,
    metadata=_metadata,
    published=PublishedNames(
        config=_published_config, name=lambda ours: ours, is_unused=lambda _: False, classes=_published_classes
    ),
    presets=PRESETS,
    uses_text=False,
    class_names=_class_names,
    outputs_of=lambda config: int(config.classes),
    decays=_decays,
)
"""The network `actionformer`."""
