"""The boundary map arranged for export.

The network is a graph of products already; what depends on the text alone is one stage of its own, which a file with
classes inside holds as constants.

Symbols: B batch, T snippets, D feature width, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from stale_edge.networks.boundary_map.classes import TextSide
from stale_edge_export.graphs.base import Decision, GraphSpec, QuantizationRules
from stale_edge_export.graphs.boundary_map_decoding import BOUNDARY_MAP_DECODING
from stale_edge_export.graphs.cells import TRANSLATIONS, pooled_cells
from stale_edge_export.graphs.text import StoredText
from stale_edge_runtime.contract import CLASS_LOGITS
from stale_edge_runtime.heads.boundary_map import CLASS_GRAM, GUIDE, PAIR_LOGITS

if TYPE_CHECKING:
    from stale_edge.networks.boundary_map.classes import ClassesPart
    from stale_edge.networks.boundary_map.model import BoundaryMap


class BoundaryMapGraph(nn.Module):
    """Graph from features to the outputs of the head.

    Args:
        network: The network whose parts to use.
        text: Gives text embeddings [C, D] from the inputs that follow the features.
    """

    def __init__(self, network: BoundaryMap, text: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.text: nn.Module = TextProducts(network.classes, text)

    def forward(self, features: Tensor, *text_inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Run on features [B, T, D]."""
        output = self.network.run(features, pooled_cells(features), TextSide(*self.text(*text_inputs)))
        return output.pair_logits, output.class_logits, output.class_gram, output.guide


class TextProducts(nn.Module):
    """Products that depend on the text alone, computed on every run.

    Args:
        classes: The classes part.
        text: Source of text embeddings.
    """

    def __init__(self, classes: ClassesPart, text: nn.Module) -> None:
        super().__init__()
        self.classes, self.source = classes, text

    def forward(self, *text_inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and weights, [C, D] each."""
        side = self.classes.text_side(self.source(*text_inputs))
        return side.rows, side.weights


class StoredTextProducts(nn.Module):
    """The same as constants.

    Args:
        text: Text side, computed already.
        over_time: [D, D], the classes part's.
    """

    rows: Tensor
    weights: Tensor
    contrasts: Tensor

    def __init__(self, text: TextSide, over_time: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", text.rows.detach().clone())
        self.register_buffer("weights", text.weights.detach().clone())
        self.register_buffer("contrasts", (text.rows @ over_time).detach().clone())

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, weights and contrasts, [C, D] each."""
        return self.rows, self.weights, self.contrasts


def fold_text(graph: BoundaryMapGraph, network: BoundaryMap) -> None:
    """Compute what depends on the text now, where the text is in the file.

    Args:
        graph: Changed in place.
        network: Network that the graph was made of.
    """
    source = graph.text.source
    if isinstance(source, StoredText):
        graph.text = StoredTextProducts(network.classes.text_side(source()), network.classes.over_time)


BOUNDARY_MAP_GRAPH = GraphSpec(
    decoding=BOUNDARY_MAP_DECODING,
    build=BoundaryMapGraph,
    tolerance={PAIR_LOGITS: 1e-4, CLASS_LOGITS: 1e-4, CLASS_GRAM: 1e-4, GUIDE: 1e-4},
    rewrites={"text products": fold_text},
    translations=TRANSLATIONS,
    decisions={
        PAIR_LOGITS: Decision(lambda logits: logits > 0, "pair of edges that is an action rather than not"),
        CLASS_LOGITS: Decision(lambda logits: logits.argmax(axis=2), "top class of a cell"),
    },
    quantization=QuantizationRules(
        # Thin products over all pairs: quantising their operands is as many passes over memory as they save. The
        # likely text is one row: its products cost nothing, and what they lose moves every edge.
        int8_kept_stages=("network.map", "graph"),
    ),
)
"""The network `boundary-map`."""
