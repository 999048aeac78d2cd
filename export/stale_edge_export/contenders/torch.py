"""The thesis's contenders: PyTorch, the whole network with the text tower inside, in fp32, fp16 and dynamic int8.

Every forward encodes the class prompts again, as the published code does; the network's `GraphSpec.whole` is what runs.
Run as a module, this measures a contender's cold start in a process of its own.

Source: docs/protocol.md, section 6, Fig. 4c.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from stale_edge.checkpoint import load_checkpoint
from stale_edge.networks.clip_text import tokenize
from stale_edge.networks.registry import NETWORKS
from stale_edge_export.graphs.registry import GRAPHS
from stale_edge_export.graphs.text import text_embeddings
from stale_edge_export.graphs.text import token_ids as network_token_ids
from stale_edge_runtime.bench.memory import leave_with_parent, report_cold_start
from stale_edge_runtime.bench.records import TEXT_CACHED
from stale_edge_runtime.bench.vocabulary import Vocabulary
from stale_edge_runtime.contract import Kind, Precision
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.heads.registry import HEADS
from stale_edge_runtime.synthetic import clip_like_features

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stale_edge.checkpoint import Checkpoint
    from stale_edge_export.graphs.base import WholeNetwork

NAMES = {
    Precision.FP32: "PyTorch fp32",
    Precision.FP16: "PyTorch fp16",
    Precision.INT8: "PyTorch dynamic int8",
}
ON_CPU = (Precision.FP32, Precision.INT8)
CUDA = "cuda"
PURPOSE = "stale-edge bench --compare torch"
_PRODUCT_ROWS, _PRODUCT_WIDTH, _PRODUCT_RUNS = 128, 512, 5


@dataclass
class TorchContender:
    """The whole network in PyTorch."""

    network: nn.Module
    """Ready, where it runs: `forward(features, token_ids)`."""
    network_name: str
    """Kind of network, a key of `GRAPHS`."""
    config: Any
    """Sizes of the network."""
    precision: Precision
    """fp32, fp16, or int8 for PyTorch's dynamic quantisation of the linear layers."""
    class_names: tuple[str, ...]
    """The classes."""
    token_ids: NDArray[np.int64]
    """[classes, tokens]: their prompts, encoded again at every forward."""
    weights: Path
    """The checkpoint, for processes that load it afresh."""
    kind: str = str(Kind.FULL)
    """The text tower is inside."""
    engine: str = "pytorch"
    """Library that runs it."""
    provider: str = "cpu"
    """Device that runs it."""
    windows: None = None
    """No windows: it takes a video in one piece."""
    is_cached: bool = False
    """Whether the text was encoded once, before."""
    _macs: dict[tuple[int, int], int] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """Name in tables."""
        return NAMES[self.precision] + (TEXT_CACHED if self.is_cached else "")

    @property
    def feature_dim(self) -> int:
        """Width of the features it takes."""
        return int(self.config.feature_dim)

    def prepare(self, features: NDArray[np.float32], threads: int) -> Callable[[], Sequence[Any]]:
        """Make a function that runs one forward, in inference mode.

        Args:
            features: [batch, snippets, D].
            threads: Threads of PyTorch, for the whole process.
        """
        answers = len(HEADS[self.network_name].outputs)
        return _forward(self.network, features, self.token_ids, threads, self.precision, self.provider, answers)

    def macs(self, batch: int, snippets: int) -> int:
        """Multiply-accumulates of one forward, counted by PyTorch on tensors without data."""
        key = batch, snippets
        if key not in self._macs:
            sizes = (batch, snippets, *self.token_ids.shape)
            self._macs[key] = count_macs(self.network_name, self.config, *sizes, is_cached=self.is_cached)
        return self._macs[key]

    def cold_start_words(self, threads: int, batch: int, snippets: int) -> Sequence[str]:
        """Module and arguments of the process that measures its cold start."""
        task = TorchColdStart(
            path=str(self.weights.resolve()),
            precision=str(self.precision),
            provider=self.provider,
            threads=threads,
            batch=batch,
            snippets=snippets,
            feature_dim=self.feature_dim,
            class_names=list(self.class_names),
            token_ids=self.token_ids.tolist(),
            is_cached=self.is_cached,
        )
        return (__spec__.name, json.dumps(asdict(task)))


@dataclass(frozen=True)
class TorchColdStart:
    """Task of the measuring process."""

    path: str
    """The checkpoint."""
    precision: str
    """fp32, fp16 or int8."""
    provider: str
    """Device that runs it."""
    threads: int
    """Threads of PyTorch."""
    batch: int
    """Videos in one forward."""
    snippets: int
    """Length of each."""
    feature_dim: int
    """Width of a snippet."""
    class_names: list[str]
    """The classes."""
    token_ids: list[list[int]]
    """Tokenised prompts of the classes."""
    is_cached: bool = False
    """Whether the text is encoded while loading, and not in each forward."""


def full_network(checkpoint: Checkpoint, class_names: Sequence[str], *, is_cached: bool = False) -> nn.Module:
    """Build a network that takes features and tokenised prompts.

    Args:
        checkpoint: Checkpoint with its network in evaluation mode.
        class_names: The classes of the prompts.
        is_cached: Encode the prompts now, and not in each forward.

    Raises:
        BadDataError: The checkpoint stores text embeddings, and not of one of the classes.
        UsageError: There is no such form of this kind of network.
    """
    whole = _whole(checkpoint.network_name)
    if is_cached and whole.cached is not None:
        return whole.cached(checkpoint.network, text_embeddings(checkpoint, tuple(class_names))).eval()
    return whole.build(checkpoint, tuple(class_names))


def _whole(network_name: str) -> WholeNetwork:
    if (whole := GRAPHS[network_name].whole) is None:
        raise UsageError(PURPOSE, f"has no published forward of the network {network_name}", "leave it out")
    return whole


def torch_contenders(
    checkpoint: Checkpoint,
    class_names: Sequence[str],
    weights: Path,
    precisions: Sequence[Precision] = ON_CPU,
    provider: str = "cpu",
    *,
    with_cached: bool = False,
) -> list[TorchContender]:
    """Prepare the thesis's contenders for one network, those that encode their text at every forward first.

    Args:
        checkpoint: Checkpoint with its network in evaluation mode.
        class_names: Prompts to encode at every forward.
        weights: The file it came from, for processes that load it afresh.
        precisions: Precisions to enter.
        provider: Device that runs them: cpu, or cuda where PyTorch has it.
        with_cached: Enter the same with the text cached as well, where the network has a text tower.

    Raises:
        BadDataError: The checkpoint stores text embeddings, and not of one of the classes.
        UsageError: There is no such form of this kind of network.
    """
    name, names = checkpoint.network_name, tuple(class_names)
    config = _whole(name).config(checkpoint.network.config)
    token_ids = tokenize(names, config.text.context) if NETWORKS[name].uses_text else np.zeros((1, 1), np.int64)
    found = []
    for is_cached in (False, True) if with_cached and _whole(name).cached is not None else (False,):
        network = full_network(checkpoint, names, is_cached=is_cached)
        found += [
            TorchContender(
                ready(network, precision, provider),
                name,
                config,
                precision,
                names,
                token_ids,
                weights,
                provider=provider,
                is_cached=is_cached,
            )
            for precision in precisions
        ]
    return found


def vocabulary_of(network: Any, class_names: Sequence[str], text_embeddings: Tensor) -> Vocabulary:
    """Make the text inputs with which exported files compute what the network computes.

    Args:
        network: The network.
        class_names: The classes.
        text_embeddings: [C, D] of them.
    """
    return Vocabulary(network_token_ids(network, class_names), text_embeddings.numpy())


def ready(network: nn.Module, precision: Precision, provider: str = "cpu") -> nn.Module:
    """Bring the network into one precision, where it is to run; a copy unless it is that already.

    Args:
        network: Network in evaluation mode, on the CPU, in fp32.
        precision: fp32, fp16, or on the CPU int8.
        provider: cpu or cuda.
    """
    if precision is not Precision.INT8:
        as_it_is = provider == "cpu" and precision is Precision.FP32
        return network if as_it_is else copy.deepcopy(network).to(provider, _dtype(precision))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and it is what the thesis measured
        from torch.ao.quantization import quantize_dynamic

        linear = getattr(network, "with_linear_products", lambda: network)()
        quantised: nn.Module = quantize_dynamic(linear, {nn.Linear}, dtype=torch.qint8)
    return quantised


def saved_mb(network: nn.Module) -> float:
    """Size of a network's file as PyTorch saves it, in 10^6 bytes."""
    with tempfile.TemporaryFile() as stream:
        torch.save(network.state_dict(), stream)
        return stream.tell() / 1e6


def half_slowdown() -> float:
    """Measure how many times longer a product in half precision takes than one in fp32, on a thread of this CPU.

    Without instructions for it PyTorch multiplies half precision number by number, and a forward takes a minute.
    """
    torch.set_num_threads(1)
    best = {}
    for dtype in (torch.float32, torch.float16):
        left = torch.ones(_PRODUCT_ROWS, _PRODUCT_WIDTH, dtype=dtype)
        right = torch.ones(_PRODUCT_WIDTH, _PRODUCT_WIDTH, dtype=dtype)
        times = []
        for _ in range(_PRODUCT_RUNS):
            begin = time.perf_counter()
            F.linear(left, right)
            times.append(time.perf_counter() - begin)
        best[dtype] = min(times)
    return best[torch.float16] / best[torch.float32]


def count_macs(
    network_name: str, config: Any, batch: int, snippets: int, classes: int, tokens: int, *, is_cached: bool = False
) -> int:
    """Multiply-accumulates of one published forward."""
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        whole = _whole(network_name)
        network = whole.empty(config).eval()
        if is_cached and whole.cached is not None:
            network = whole.cached(network, torch.empty(classes, config.feature_dim))
        features = torch.empty(batch, snippets, config.feature_dim)
        network(features, torch.empty(classes, tokens, dtype=torch.int64))
    return int(counter.get_total_flops()) // 2


class OnDevice:
    """A forward on another device, from inputs in host memory to answers there, as onnxruntime runs a file.

    Copied are the inputs and outputs of an exported file, in fp32 and as wide: the features, the prompts, and the
    answers that detections are made of. It returns when all of the network has run.

    Args:
        network: On the device.
        inputs: Features [B, T, D] and tokenised prompts [C, L], in host memory.
        device: Device of the network.
        dtype: Type of its weights.
        answers: Number of outputs that a file gives; the network gives them first.
    """

    def __init__(
        self, network: nn.Module, inputs: tuple[Tensor, Tensor], device: str, dtype: torch.dtype, answers: int
    ) -> None:
        self._network, self._inputs, self._device, self._dtype = network, inputs, device, dtype
        self._answers = answers

    def __call__(self) -> Sequence[Any]:
        """Run once."""
        features, token_ids = (values.to(self._device) for values in self._inputs)
        with torch.inference_mode():
            outputs = self._network(features.to(self._dtype), token_ids)
            answers = [output.float().cpu() for output in outputs[: self._answers]]
        torch.cuda.synchronize()
        return answers


def _dtype(precision: str) -> torch.dtype:
    """Choose the type of inputs and weights; dynamic quantisation takes fp32."""
    return torch.float16 if precision == Precision.FP16 else torch.float32


def _forward(
    network: nn.Module,
    features: NDArray[np.float32],
    token_ids: NDArray[np.int64],
    threads: int,
    precision: str,
    provider: str,
    answers: int,
) -> Callable[[], Sequence[Any]]:
    torch.set_num_threads(threads)
    if provider == CUDA:
        torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32, as onnxruntime is told too
        inputs = torch.from_numpy(features), torch.from_numpy(token_ids)
        return OnDevice(network, inputs, CUDA, _dtype(precision), answers)
    inputs = torch.from_numpy(features).to(_dtype(precision)), torch.from_numpy(token_ids)

    def forward() -> Sequence[Any]:
        with torch.inference_mode():
            outputs: Sequence[Any] = network(*inputs)
        return outputs

    return forward


def main(words: Sequence[str]) -> None:
    """Measure the cold start that `words` describe and write it to standard output."""
    leave_with_parent()
    _import_everything()
    task = TorchColdStart(**json.loads(words[0]))
    features = clip_like_features(task.batch, task.snippets, task.feature_dim)
    token_ids = np.array(task.token_ids, dtype=np.int64)

    def load() -> Callable[[], Sequence[Any]]:
        checkpoint = load_checkpoint(Path(task.path))
        placed = ready(
            full_network(checkpoint, task.class_names, is_cached=task.is_cached),
            Precision(task.precision),
            task.provider,
        )
        answers = len(HEADS[checkpoint.network_name].outputs)
        return _forward(placed, features, token_ids, task.threads, task.precision, task.provider, answers)

    report_cold_start(load, _allocated_mb if task.provider == CUDA else None)


def _allocated_mb() -> float:
    """Most memory that tensors have held on the GPU, in 10^6 bytes."""
    return torch.cuda.max_memory_allocated() / 1e6


def _import_everything() -> None:
    """Do what PyTorch puts off until it is first asked, so that loading is timed and not importing."""
    import_module("safetensors.torch")
    import_module("torch.ao.quantization")
    with torch.device("meta"):
        nn.init.uniform_(nn.Linear(1, 1).weight)
        nn.Embedding(1, 1)
        nn.Conv1d(1, 1, 1)


if __name__ == "__main__":
    main(sys.argv[1:])
