"""The description of a network's export that exporter, parity check and quantisation work from."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import torch

from stale_edge_runtime.contract import FEATURES, TEXT_EMBEDDINGS, TOKEN_IDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from stale_edge.checkpoint import Checkpoint
    from stale_edge_export.graphs.decoding import Decoding

# Sizes to trace with: none is 0 or 1, and none equals a constant of a network, so none is taken for one.
TRACE_BATCH, TRACE_SNIPPETS, TRACE_CLASSES, TRACE_TOKENS = 3, 37, 11, 9
RANDOM, CLIP_LIKE = "random", "clip_like"


def example_inputs(network: Any) -> dict[str, Tensor]:
    """Make inputs to trace a network with, by name.

    Args:
        network: Network with `config.feature_dim`, and the sizes of its text tower in `config.text`.
    """
    dim, text = network.config.feature_dim, network.config.text
    token_ids = torch.zeros(TRACE_CLASSES, TRACE_TOKENS, dtype=torch.int64)
    token_ids[:, -1] = text.vocabulary - 1 if text else 0  # a text ends somewhere
    return {
        FEATURES: torch.zeros(TRACE_BATCH, TRACE_SNIPPETS, dim),
        TEXT_EMBEDDINGS: torch.ones(TRACE_CLASSES, dim),
        TOKEN_IDS: token_ids,
    }


@dataclass(frozen=True)
class ParityCases:
    """Inputs on which a file is compared with its network: every length in every batch size, of every kind."""

    lengths: tuple[int, ...] = (1, 2, 3, 99, 100, 101, 257, 1000)
    """Snippets."""
    batches: tuple[int, ...] = (1, 3)
    """Videos in a forward."""
    inputs: tuple[str, ...] = (RANDOM, CLIP_LIKE)
    """Kinds of features."""

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        return product(self.inputs, self.batches, self.lengths)

    def __len__(self) -> int:
        return len(self.inputs) * len(self.batches) * len(self.lengths)


@dataclass(frozen=True)
class Decision:
    """Use of an output, to count how often a smaller file decides otherwise."""

    decide: Callable[[NDArray[Any]], NDArray[Any]]
    """Function from the output to decisions, of any shape."""
    description: str
    """The decisions in words, as in `top class of a snippet`."""


@dataclass(frozen=True)
class QuantizationRules:
    """Parts of a graph that smaller number formats may touch; a stage is what comes before `/` in a node's name."""

    int8_activation_stages: tuple[str, ...] = ()
    """Stages whose products of two activations may be int8; products with a weight may everywhere."""
    int8_kept_stages: tuple[str, ...] = ()
    """Patterns, as of file names, of stages whose products stay in fp32 in an int8 file."""
    is_tower: bool = False
    """A tower of CLIP: bytes that come in and tables that are looked up may be int8 too, stacked weights may not."""
    fp16_kept_stages: tuple[str, ...] = ()
    """Stages that stay in fp32 in an fp16 file."""
    fp16_kept_operators: tuple[str, ...] = ("ReduceL2", "Clip")
    """Operators that do: lengths that are divided by, and clamps below the smallest half-precision number."""


@dataclass(frozen=True)
class WholeNetwork:
    """A network with the text tower inside, as PyTorch runs it: the reference that a benchmark compares with."""

    build: Callable[[Checkpoint, tuple[str, ...]], nn.Module]
    """Function from a checkpoint and class names to a module that takes features [B, T, D] and token ids [C, L]; its
    first outputs are those of the network's head."""
    config: Callable[[Any], Any]
    """Configuration with sizes of a text tower, from that of the checkpoint's network."""
    empty: Callable[[Any], nn.Module]
    """The module from that configuration, for counting on tensors without data."""
    cached: Callable[[Any, Tensor], nn.Module] | None = None
    """Function from a network and text embeddings [C, D], made once, to a module of the same inputs that leaves the
    token ids aside, as careful users write it; None where nothing is encoded again."""


def _always(outputs: Mapping[str, Tensor]) -> bool:
    del outputs
    return True


@dataclass(frozen=True)
class GraphSpec:
    """Export of one network. Its outputs are those of its head, its reference is `NetworkSpec.outputs`."""

    build: Callable[[Any, nn.Module], nn.Module]
    """Function from a network and a source of text embeddings (see `graphs.text`) to the module to trace, which takes
    features and the text inputs and gives the outputs of the head in order."""
    tolerance: Mapping[str, float]
    """Largest absolute difference from the network that each output may have."""
    rewrites: Mapping[str, Callable[[Any, Any], None]] = field(default_factory=dict)
    """Exact rewrites of such a module, given the network, by name and in the order in which they are applied."""
    translations: Mapping[Any, Any] = field(default_factory=dict)
    """ONNX functions of operators that the module has of its own."""
    examples: Callable[[Any], Mapping[str, Tensor]] = example_inputs
    """Inputs to trace with, by name, from the network."""
    cases: ParityCases = field(default_factory=ParityCases)
    """Inputs of the parity check."""
    is_decided: Callable[[Mapping[str, Tensor]], bool] = _always
    """Whether the network's outputs are far enough from its thresholds to be compared; if not, others are drawn."""
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """Decisions taken from each output; none for one that is used as it is."""
    quantization: QuantizationRules = field(default_factory=QuantizationRules)
    """Parts that int8 and fp16 may touch."""
    decoding: Decoding | None = None
    """Decoding as nodes of the graph, for `--detections`; None where there is none."""
    whole: WholeNetwork | None = None
    """The network as published, to compare files with; None where there is none."""
