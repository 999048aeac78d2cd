"""PyTorch's compiler as a contender: the folded graph of our files, text cached, through `torch.compile`.

This is the computation of a baked fp32 file, so what differs is the engine alone. Attention goes through PyTorch's own
fused operator, the fastest that it has. One compilation serves every length, as one file does. Run as a module, this
measures a contender's cold start in a process of its own; loading includes compiling there.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import sys
import warnings
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from stale_edge.networks.stale.config import ModelConfig
from stale_edge.networks.stale.model import STALE
from stale_edge_export.exporter import build_graph
from stale_edge_export.graphs.stale_rewrites import folded_projections
from stale_edge_runtime.bench.machine import cpu_flags
from stale_edge_runtime.bench.memory import leave_with_parent, report_cold_start
from stale_edge_runtime.contract import Kind
from stale_edge_runtime.errors import UnavailableError
from stale_edge_runtime.synthetic import clip_like_features

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from stale_edge.networks.stale.model import WideAttention

FP32, BF16 = "fp32", "bf16"
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
COMPILERS = ("g++", "clang++", "c++")
PURPOSE = "stale-edge bench --compare torch-compile"


@dataclass
class CompiledContender:
    """The folded graph through `torch.compile`."""

    graph: nn.Module
    """Its stages, folded, text inside: `forward(features)`."""
    config: ModelConfig
    """Sizes of the network."""
    classes: int
    """Classes baked in."""
    precision: str
    """fp32, or bf16 for automatic casts to it."""
    weights: Path
    """The graph's weights, for processes that load it afresh."""
    kind: str = str(Kind.BAKED)
    """The text is inside, encoded beforehand."""
    engine: str = "pytorch"
    """Library that runs it."""
    provider: str = "cpu"
    """Where it runs."""
    windows: None = None
    """It takes a video in one piece."""
    _compiled: Callable[..., Any] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Its name in tables."""
        return f"torch.compile {self.precision}"

    @property
    def feature_dim(self) -> int:
        """Width of the features it takes."""
        return self.config.feature_dim

    def prepare(self, features: NDArray[np.float32], threads: int) -> Callable[[], Sequence[Any]]:
        """A function that runs one forward; what had to be compiled for these inputs is compiled when it is returned.

        Args:
            features: [batch, snippets, D].
            threads: Threads of PyTorch, for the whole process.
        """
        if self._compiled is None:
            self._compiled = torch.compile(self.graph, dynamic=True)
        return ready_forward(self._compiled, features, threads, self.precision)

    def macs(self, batch: int, snippets: int) -> int:
        """Multiply-accumulates of one forward, counted by PyTorch on tensors without data."""
        graph = copy.deepcopy(self.graph).to("meta")
        features = torch.empty(batch, snippets, self.feature_dim, device="meta")
        # The fused operator is not counted; the products it stands for are.
        with sdpa_kernel(SDPBackend.MATH), torch.inference_mode(), FlopCounterMode(display=False) as counter:
            graph(features)
        return int(counter.get_total_flops()) // 2

    def cold_start_words(self, threads: int, batch: int, snippets: int) -> Sequence[str]:
        """Module and arguments of the process that measures its cold start."""
        sizes = {name: value for name, value in asdict(self.config).items() if name != "text"}
        task = ColdStartTask(str(self.weights), self.precision, threads, batch, snippets, self.classes, sizes)
        return (__spec__.name, json.dumps(asdict(task)))


@dataclass(frozen=True)
class ColdStartTask:
    """What the measuring process is to start."""

    path: str
    """The graph's weights."""
    precision: str
    """fp32 or bf16."""
    threads: int
    """Threads of PyTorch."""
    batch: int
    """Videos in one forward."""
    snippets: int
    """Length of each."""
    classes: int
    """Classes baked in."""
    sizes: dict[str, Any]
    """Of the network, the text tower left out."""


class FusedSelfAttention(nn.Module):
    """The folded self-attention, through PyTorch's fused operator in place of our blocks of snippets.

    Args:
        attention: The temporal embedding of the network.
    """

    def __init__(self, attention: WideAttention) -> None:
        super().__init__()
        query_key, value_output = folded_projections(attention)
        self.register_buffer("query_key", query_key)
        self.register_buffer("value_output", value_output)
        self.register_buffer("bias", attention.output.bias)
        self.norm = attention.norm

    query_key: Tensor
    value_output: Tensor
    bias: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        batch, snippets, dim = features.shape
        query = (features @ self.query_key).reshape(batch, 1, -1, dim)  # [B, 1, T H, D]
        memory = features.unsqueeze(1).to(query.dtype)  # [B, 1, T, D]
        attended = F.scaled_dot_product_attention(query, memory, memory, scale=1.0)  # [B, 1, T H, D]
        output = attended.reshape(batch, snippets, -1) @ self.value_output  # [B, T, D]
        embedded: Tensor = self.norm(output + self.bias + features)
        return embedded


def compiled_contenders(network: STALE, text_embeddings: Tensor, folder: Path) -> list[CompiledContender]:
    """PyTorch's compiler in fp32, and in bf16 where the processor multiplies it.

    Args:
        network: In evaluation mode.
        text_embeddings: [C, D] of the classes.
        folder: Where to leave the weights for processes that load them afresh.

    Raises:
        UnavailableError: There is no C++ compiler, which PyTorch's needs.
    """
    from safetensors.torch import save_file

    require_compiler()
    graph = folded_graph(network, text_embeddings)
    weights = folder / "folded.safetensors"
    save_file({name: value.detach().clone().contiguous() for name, value in graph.state_dict().items()}, weights)
    precisions = (FP32, BF16) if BF16_FLAGS & set(cpu_flags()) else (FP32,)
    return [
        CompiledContender(graph, network.config, len(text_embeddings), precision, weights) for precision in precisions
    ]


def require_compiler() -> None:
    """Make sure that there is a C++ compiler.

    Raises:
        UnavailableError: There is none.
    """
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    if not any(shutil.which(name) for name in wanted):
        raise UnavailableError(PURPOSE, f"needs a C++ compiler ({' or '.join(wanted)})", "install g++, or set CXX")


def folded_graph(network: STALE, text_embeddings: Tensor) -> nn.Module:
    """The graph of a baked file, attention by PyTorch's fused operator.

    Args:
        network: The network.
        text_embeddings: [C, D].
    """
    graph, _ = build_graph(network, Kind.BAKED, text_embeddings, fold=True)
    graph.temporal = FusedSelfAttention(network.temporal_embedding)
    return graph.eval()


def load_graph(path: Path, config: ModelConfig, classes: int) -> nn.Module:
    """The folded graph with weights from a file.

    Args:
        path: What `compiled_contenders` left.
        config: Sizes of the network, without text tower.
        classes: Classes baked in.
    """
    from safetensors.torch import load_file

    with torch.device("meta"):
        graph = folded_graph(STALE(config).eval(), torch.empty(classes, config.feature_dim))
    graph.load_state_dict(load_file(path), assign=True)
    return graph


def ready_forward(
    compiled: Callable[..., Any], features: NDArray[np.float32], threads: int, precision: str
) -> Callable[[], Sequence[Any]]:
    """A function that runs one forward; it was run once when this returns.

    Args:
        compiled: The graph, compiled or not.
        features: [batch, snippets, D].
        threads: Threads of PyTorch, for the whole process.
        precision: fp32 or bf16.
    """
    torch.set_num_threads(threads)
    inputs = torch.from_numpy(features)

    def forward() -> Sequence[Any]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == BF16):
            outputs: Sequence[Any] = compiled(inputs)
        return outputs

    forward()
    return forward


def main(words: Sequence[str]) -> None:
    """Measure the cold start that `words` describe and write it to standard output."""
    from importlib import import_module

    leave_with_parent()
    warnings.simplefilter("ignore")
    import_module("safetensors.torch")
    import_module("torch._inductor.compile_fx")
    torch.compiler.config.force_disable_caches = True  # what another process compiled is not this one's load
    task = ColdStartTask(**json.loads(words[0]))
    features = clip_like_features(task.batch, task.snippets, task.sizes["feature_dim"])

    def load() -> Callable[[], Sequence[Any]]:
        graph = load_graph(Path(task.path), replace(ModelConfig(**task.sizes), text=None), task.classes)
        return ready_forward(torch.compile(graph, dynamic=True), features, task.threads, task.precision)

    report_cold_start(load)


if __name__ == "__main__":
    main(sys.argv[1:])
