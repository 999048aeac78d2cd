"""Published configurations of ActionFormer, and one of ours for CLIP features.

Source: the configurations of the published code, commit 61ea7eb (docs/network.md).
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from stale_edge.class_names import THUMOS14_CLASSES
from stale_edge.networks.actionformer.config import ActionFormerConfig, LossSettings
from stale_edge.networks.base import Preset
from stale_edge_runtime.heads.actionformer_options import DecodeSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCHEDULE: Final = {
    "weight_decay": 0.05,
    "optimizer": "adamw",
    "schedule": "published-cosine",
    "clip_norm": 1.0,
    "average_decay": 0.999,
    "drop_last": True,
    "patience": None,
}
_ACTIVITYNET: Final = {
    **_SCHEDULE,
    "epochs": 15,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "warmup_share": 5 / 15,
}
_THUMOS: Final = {**_SCHEDULE, "epochs": 35, "batch_size": 2, "learning_rate": 1e-4, "warmup_share": 5 / 35}

TSP: Final = ActionFormerConfig()
THUMOS14: Final = ActionFormerConfig(
    feature_dim=2048,
    width=512,
    classes=20,
    windows=(19,) * 6,
    head_width=512,
    position_table=False,
    max_length=2304,
    resized=False,
    offset=2.0,
    loss=LossSettings(positives=100.0, regression_weight=1.0, smoothing=0.0),
    decoding=DecodeSettings(per_class=True, sigma=0.5, shortest=0.05, limit=200),
)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        "activitynet-clip": Preset(TSP, _ACTIVITYNET),
        "activitynet-tsp": Preset(TSP, _ACTIVITYNET),
        "activitynet-i3d": Preset(replace(TSP, feature_dim=2048), _ACTIVITYNET),
        "thumos14-i3d": Preset(THUMOS14, _THUMOS, THUMOS14_CLASSES),
    }
)
"""Sizes and training of each, the default first."""
