"""STALE as export and quantisation see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from stale_edge_export.graphs.base import Decision, GraphSpec, QuantizationRules
from stale_edge_export.graphs.blocked_attention import TRANSLATIONS
from stale_edge_export.graphs.stale import DetectionGraph
from stale_edge_export.graphs.stale_decoding import STALE_DECODING
from stale_edge_export.graphs.stale_rewrites import REWRITES
from stale_edge_export.graphs.stale_whole import STALE_WHOLE
from stale_edge_runtime.contract import CLASS_LOGITS, MASKS, VIDEO_LOGITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


GATE_MARGIN = 2e-6


def _gate_is_decided(outputs: Mapping[str, Tensor]) -> bool:
    """Tell whether every snippet is clear of the gate's threshold.

    A snippet within rounding of it may fall on either side, and both are right; such a draw says nothing about a file.
    """
    masks = outputs[MASKS]  # [B, A, T]
    if masks.shape[2] == 1:
        return True
    strength = masks.mean(dim=2)[:, None]
    strength = torch.nn.functional.interpolate(strength, size=masks.shape[2], mode="linear", align_corners=False)
    return float((strength - strength.mean(dim=2, keepdim=True)).abs().min()) > GATE_MARGIN


STALE_GRAPH = GraphSpec(
    build=DetectionGraph,
    tolerance={CLASS_LOGITS: 1e-4, VIDEO_LOGITS: 1e-4, MASKS: 1e-5},
    rewrites=REWRITES,
    translations=TRANSLATIONS,
    is_decided=_gate_is_decided,
    decisions={
        CLASS_LOGITS: Decision(lambda logits: logits.argmax(axis=2), "top class of a snippet"),
        VIDEO_LOGITS: Decision(lambda logits: logits.argmax(axis=1), "top class of a video"),
        MASKS: Decision(lambda masks: masks > 0.5, "mask value above 1/2"),
    },
    quantization=QuantizationRules(
        int8_activation_stages=("temporal", "cross_attention"),  # the similarities decide
        # The products of a centre have one row: nothing to gain, and everything rests on them.
        int8_kept_stages=("*centre",),
        # The gate compares values a few 1e-4 apart; the similarities sum up to 8192 snippets and divide by small
        # lengths.
        fp16_kept_stages=("gate", "similarities"),
    ),
    decoding=STALE_DECODING,
    whole=STALE_WHOLE,
)
"""The network `stale`."""
