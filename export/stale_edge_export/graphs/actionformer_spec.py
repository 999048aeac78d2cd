"""ActionFormer as export and quantisation see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from stale_edge_export.graphs.actionformer import ActionFormerGraph
from stale_edge_export.graphs.actionformer_decoding import ACTIONFORMER_DECODING
from stale_edge_export.graphs.actionformer_ops import TRANSLATIONS
from stale_edge_export.graphs.actionformer_whole import ACTIONFORMER_WHOLE
from stale_edge_export.graphs.base import (
    TRACE_BATCH,
    TRACE_SNIPPETS,
    Decision,
    GraphSpec,
    ParityCases,
    QuantizationRules,
)
from stale_edge_runtime.contract import CLASS_LOGITS, FEATURES, OFFSETS

if TYPE_CHECKING:
    from torch import Tensor

    from stale_edge.networks.actionformer.model import ActionFormer


def _examples(network: ActionFormer) -> dict[str, Tensor]:
    return {FEATURES: torch.zeros(TRACE_BATCH, TRACE_SNIPPETS, network.config.feature_dim)}


ACTIONFORMER_GRAPH = GraphSpec(
    build=ActionFormerGraph,
    tolerance={CLASS_LOGITS: 1e-4, OFFSETS: 1e-4},
    translations=TRANSLATIONS,
    examples=_examples,
    cases=ParityCases(lengths=(1, 2, 31, 97, 191, 192, 193, 300, 1000)),
    decisions={CLASS_LOGITS: Decision(lambda logits: logits > 0, "moment and class above probability 1/2")},
    quantization=QuantizationRules(
        # The product of a centre has one row: nothing to gain, and everything rests on it.
        int8_kept_stages=("*centre",),
    ),
    decoding=ACTIONFORMER_DECODING,
    whole=ACTIONFORMER_WHOLE,
)
"""The network `actionformer`."""
