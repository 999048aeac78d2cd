"""Small ActionFormers and the golden numbers of the published code."""

from __future__ import annotations

from pathlib import Path

from stale_edge.networks.actionformer.config import ActionFormerConfig, LossSettings
from stale_edge.networks.actionformer.presets import PRESETS

GOLDEN = Path(__file__).parents[1] / "data" / "actionformer"
TINY_LOCAL = ActionFormerConfig(
    feature_dim=20,
    width=32,
    heads=4,
    classes=7,
    windows=(9,) * 6,
    head_width=32,
    position_table=False,
    max_length=256,
    resized=False,
)
TINY = ActionFormerConfig(
    feature_dim=12,
    width=16,
    heads=2,
    classes=3,
    windows=(5, 5, 4, -1),
    stem_blocks=1,
    head_width=24,
    max_length=96,
    loss=LossSettings(positives=20.0),
)
CONFIGS = {
    "tiny_local": TINY_LOCAL,
    "tiny_pe": TINY,
    "anet_tsp": PRESETS["activitynet-tsp"].config,
    "thumos_i3d": PRESETS["thumos14-i3d"].config,
}
