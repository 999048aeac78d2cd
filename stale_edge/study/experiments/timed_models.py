"""Contenders of the timing studies: networks as PyTorch's contenders and as exported files, kept beside the study.

The files are made once, in the study's folder, so that a study that goes on measures the same ones.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from stale_edge_runtime.contract import STALE_NETWORK, Kind, Precision
from stale_edge_runtime.errors import BadDataError, InputMissingError, UnavailableError, reading_error
from stale_edge_runtime.formats.files import make_folder, read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stale_edge.checkpoint import Checkpoint
    from stale_edge_runtime.bench.measure import Contender

SEED: Final = 0
"""Seed of the untrained network that is measured where no other is named."""
FOLDER: Final = "models"
SUFFIXES: Final = {Precision.FP32: ".onnx", Precision.FP16: ".fp16.onnx", Precision.INT8: ".int8.onnx"}
CPU, CUDA = "cpu", "cuda"
HALF_LIMIT: Final = 3.0
"""PyTorch in fp16 is left out on a CPU whose products take so many times longer in it."""


@dataclass(frozen=True)
class TimedContender:
    """One contender, with what does not depend on the length."""

    contender: Contender
    """Contender to run."""
    name: str
    """Unique name of the contender."""
    file_mb: float
    """Size of its file, in 10^6 bytes."""


@dataclass(frozen=True)
class ContenderList:
    """Contenders that take part."""

    contenders: tuple[TimedContender, ...]
    """References first."""
    left_out: tuple[str, ...]
    """Contenders left out, with reasons."""


def identify(checkpoint: Path | None) -> str:
    """Identify the weights that are measured, in a word that another run can compare.

    Args:
        checkpoint: The user's; none for the untrained network.

    Raises:
        InputMissingError: There is no such file, or it cannot be read.
        StorageError: The disk failed.
    """
    if checkpoint is None:
        return f"untrained, seed {SEED}"
    from stale_edge.checkpoint import file_sha256

    try:
        is_there = checkpoint.is_file()
    except OSError as error:
        raise reading_error(checkpoint, error) from error
    if not is_there:
        raise InputMissingError(checkpoint, "no such file", "make one with `stale-edge convert` or `stale-edge train`")
    return f"sha256 {file_sha256(checkpoint)}"


class TimedModels:
    """One network and its files.

    Args:
        folder: Folder of the study; exists.
        checkpoint: The user's weights; none for an untrained network of the published size.
        network: Kind of network, a key of `NETWORKS`; that of the weights where there are some.
    """

    def __init__(self, folder: Path, checkpoint: Path | None, network: str = STALE_NETWORK) -> None:
        self._network = network
        self._folder = folder / FOLDER
        self._given = checkpoint
        self._weights = checkpoint or self._folder / f"{network}.safetensors"
        self._record = self._folder / f"{network}.json"
        self._files = {precision: network + suffix for precision, suffix in SUFFIXES.items()}

    def contenders(
        self,
        torch_precisions: dict[str, tuple[Precision, ...]],
        onnx_precisions: dict[str, tuple[Precision, ...]],
        note: Callable[[str], None],
    ) -> ContenderList:
        """Make what is not there yet, and everything ready to be measured.

        Args:
            torch_precisions: Precisions that PyTorch runs on each provider.
            onnx_precisions: Precisions of the files that run on each provider.
            note: Told what is being made.

        Raises:
            StaleEdgeError: The network cannot be read, exported or written.
        """
        made = self._made(note)
        from stale_edge.checkpoint import load_checkpoint

        checkpoint = load_checkpoint(self._weights)
        contenders, left_out = self._torch(checkpoint, torch_precisions, made)
        contenders += self._onnx(onnx_precisions)
        return ContenderList(tuple(contenders), tuple(left_out))

    def _made(self, note: Callable[[str], None]) -> dict[str, Any]:
        """Read the record of the models; make them unless they were made."""
        record, weights = self._record, identify(self._given)
        if record.exists() and self._complete():
            with contextlib.suppress(BadDataError):  # what is damaged is made anew
                found = read_json(record)
                if _is_record(found) and found["weights"] == weights:
                    return found
        make_folder(self._folder)
        made = {"weights": weights, **self._make(note)}
        write_json(record, made)
        return made

    def _complete(self) -> bool:
        return all(path.exists() for path in (self._weights, *(self._folder / name for name in self._files.values())))

    def _make(self, note: Callable[[str], None]) -> dict[str, Any]:
        """Write the network and its files, and look at what is the same at every length."""
        from stale_edge.checkpoint import load_checkpoint, save_checkpoint
        from stale_edge.seeded import untrained_checkpoint
        from stale_edge_export.contenders.torch import NAMES, full_network, half_slowdown, ready, saved_mb
        from stale_edge_export.exporter import export_checkpoint
        from stale_edge_export.quantization.int8 import this_machine
        from stale_edge_export.quantization.quantize import Int8Options, quantize_file

        if self._given is None:
            note(f"making an untrained {self._network} of the published size: right for timing")
            checkpoint = untrained_checkpoint(SEED, self._network)
            save_checkpoint(self._weights, checkpoint)
        else:
            checkpoint = load_checkpoint(self._given)
        fp32 = self._folder / self._files[Precision.FP32]
        note(f"exporting it to {fp32}, and to fp16 and int8 beside")
        export_checkpoint(checkpoint, fp32, kind=self._kind(checkpoint))
        quantize_file(fp32, self._folder / self._files[Precision.FP16], Precision.FP16)
        options = Int8Options(cpu=this_machine())
        quantize_file(fp32, self._folder / self._files[Precision.INT8], Precision.INT8, int8=options)
        sizes = dict.fromkeys(map(str, NAMES), 0.0)
        if self._has_whole:
            network = full_network(checkpoint, checkpoint.classes)
            sizes = {str(precision): saved_mb(ready(network, precision)) for precision in NAMES}
        return {"torch_file_mb": sizes, "half_slowdown": half_slowdown()}

    @property
    def _has_whole(self) -> bool:
        """Whether there is a published forward for PyTorch to run."""
        from stale_edge_export.graphs.registry import GRAPHS

        return GRAPHS[self._network].whole is not None

    def _kind(self, checkpoint: Checkpoint) -> Kind:
        """Choose the form of the files: classes inside, or as an input where the network has no text of its own."""
        from stale_edge.networks.registry import NETWORKS

        has_text = checkpoint.text_embeddings is not None or checkpoint.network.text_tower is not None
        return Kind.BAKED if has_text or not NETWORKS[self._network].uses_text else Kind.OPEN

    def _torch(
        self, checkpoint: Checkpoint, precisions: dict[str, tuple[Precision, ...]], made: dict[str, Any]
    ) -> tuple[list[TimedContender], list[str]]:
        """PyTorch's contenders on each provider, and who is left out."""
        from stale_edge_export.contenders.torch import torch_contenders

        found: list[TimedContender] = []
        left_out: list[str] = []
        if not self._has_whole:
            return found, left_out
        prefix = "" if self._network == STALE_NETWORK else f"{self._network}, "
        for provider, wanted in precisions.items():
            if provider == CUDA and not _torch_has_cuda():
                left_out.append("PyTorch on the GPU is left out: the installed PyTorch has no CUDA")
                continue
            slow = provider == CPU and made["half_slowdown"] > HALF_LIMIT
            if slow and Precision.FP16 in wanted:
                left_out.append(
                    "PyTorch fp16 on the CPU is left out: its products take "
                    f"{made['half_slowdown']:.1f} times as long as in fp32"
                )
            chosen = [precision for precision in wanted if not (slow and precision is Precision.FP16)]
            entered = torch_contenders(checkpoint, checkpoint.classes, self._weights, chosen, provider)
            found += [
                TimedContender(each, prefix + each.name, made["torch_file_mb"][str(each.precision)]) for each in entered
            ]
        return found, left_out

    def _onnx(self, precisions: dict[str, tuple[Precision, ...]]) -> list[TimedContender]:
        """Prepare the exported files on each provider."""
        from stale_edge_runtime.bench.onnx_contender import OnnxContender, vocabulary_for
        from stale_edge_runtime.model_file import read_model

        files = {precision: read_model(self._folder / name) for precision, name in self._files.items()}
        return [
            TimedContender(
                OnnxContender(files[precision], self._files[precision], provider, vocabulary_for(files[precision])),
                self._files[precision],
                files[precision].size_bytes / 1e6,
            )
            for provider, wanted in precisions.items()
            for precision in wanted
        ]


def _is_record(found: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a file says of the models all that it must."""
    if not isinstance(found, dict) or not {"weights", "torch_file_mb", "half_slowdown"} <= found.keys():
        return False
    sizes = found["torch_file_mb"]
    numbers = (
        [found["half_slowdown"], *(sizes.get(str(each)) for each in SUFFIXES)] if isinstance(sizes, dict) else [None]
    )
    return all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)


def name_places(contenders: Sequence[TimedContender]) -> tuple[TimedContender, ...]:
    """Add to the names where they run, if not all run in one place."""
    if len({timed.contender.provider for timed in contenders}) < 2:
        return tuple(contenders)
    return tuple(replace(each, name=f"{each.name} ({each.contender.provider})") for each in contenders)


def gpu_peak_macs(precision: str) -> float | None:
    """Multiply-accumulates per second that the GPU can do at most, from its units and its clock.

    Args:
        precision: fp32 for its ordinary units, fp16 for its matrix units.

    Returns:
        None where PyTorch has no GPU or does not tell enough of it, and for other precisions.
    """
    if precision not in _GPU_PRECISIONS or not _torch_has_cuda():
        return None
    import torch

    device = torch.cuda.get_device_properties(0)
    units = _GPU_UNITS.get((device.major, device.minor))
    clock_khz = getattr(device, "clock_rate", None)
    if units is None or not clock_khz:
        return None
    return float(device.multi_processor_count * units[_GPU_PRECISIONS.index(precision)] * clock_khz * 1e3)


def check_threads(threads: int) -> None:
    """Refuse more threads than there are cores, before anything is made.

    Raises:
        UnavailableError: There are not that many.
    """
    from stale_edge_runtime.session import cores

    if threads > cores():
        raise UnavailableError(f"{threads} threads", f"this process may use {cores()} cores", f"use at most {cores()}")


_GPU_PRECISIONS: Final = (Precision.FP32, Precision.FP16)
_GPU_UNITS: Final = {
    (7, 0): (64, 512),
    (7, 5): (64, 512),
    (8, 0): (64, 1024),
    (8, 6): (128, 512),
    (8, 9): (128, 512),
    (9, 0): (128, 2048),
}
"""Multiply-accumulates in a clock of one multiprocessor, in those precisions, by compute capability.

Source: NVIDIA's architecture white papers, dense products.
"""


def _torch_has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
