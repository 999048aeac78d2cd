"""Reading other people's PyTorch files as tensors and nothing else: no code in them is run.

Source: docs/reliability.md.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from stale_edge_runtime.errors import BadDataError, listed, reading
from stale_edge_runtime.formats.file_kinds import Wanted, misplaced, read_head
from stale_edge_runtime.memory_limit import limited_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

MAX_BYTES: Final = 8 << 30
UNPICKLING_BYTES: Final = 256 << 20
UNPICKLING_COPIES: Final = 3
"""Memory that loading a published file may take, beside this many times its size."""
MAX_DEPTH: Final = 32
"""Modules in modules that a TorchScript file may have."""

_STORAGES: Final = {
    f"{name}Storage": getattr(torch, kind)
    for name, kind in {
        "Float": "float32",
        "Half": "float16",
        "BFloat16": "bfloat16",
        "Double": "float64",
        "Long": "int64",
        "Int": "int32",
        "Bool": "bool",
        "Byte": "uint8",
    }.items()
}
"""Element types by the names of storages in a pickle."""


def load_weights(path: Path, cure: str) -> Any:
    """Read a PyTorch checkpoint, sizes checked before anything is unpacked.

    Raises:
        BadDataError: It is no such file, or holds more than weights.
        StaleEdgeError: It cannot be read.
    """
    check_unpacked_size(path, cure)
    try:
        # A pickle of a hundred bytes can ask for a gigabyte; what is loaded is about as large as the file.
        with limited_memory(UNPICKLING_BYTES + UNPICKLING_COPIES * path.stat().st_size):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can provoke any exception
        raise BadDataError(path, f"cannot be read as weights alone ({_reason(error)})", cure) from error


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, as OpenAI published CLIP: a zip with code beside the weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def load_torchscript(path: Path, cure: str) -> dict[str, Tensor]:
    """Read the tensors of a TorchScript archive by the names of a state dict, leaving its code alone.

    Raises:
        BadDataError: It is no such file, or its pickle asks for more than tensors and modules.
        StaleEdgeError: It cannot be read.
    """
    check_unpacked_size(path, cure)
    try:
        with limited_memory(UNPICKLING_BYTES + UNPICKLING_COPIES * path.stat().st_size), zipfile.ZipFile(path) as file:
            (name,) = [name for name in file.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
            root = _ScriptUnpickler(file, name.removesuffix("data.pkl")).load()
            return dict(_flattened(root, "", MAX_DEPTH))
    except Exception as error:  # a damaged pickle can provoke any exception
        raise BadDataError(path, f"cannot be read as weights alone ({_reason(error)})", cure) from error


def check_unpacked_size(path: Path, cure: str) -> None:
    """Refuse a file that is no zip, or one that would unpack to much more than its own size.

    Raises:
        BadDataError: It is one of these.
        StaleEdgeError: It cannot be read.
    """
    try:
        with reading(path), zipfile.ZipFile(path) as archive:
            size = sum(item.file_size for item in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        if (other := misplaced(path, read_head(path), Wanted.PUBLISHED)) is not None:
            raise other from error
        raise BadDataError(path, "is not a PyTorch checkpoint, or it is cut short", cure) from error
    if size > min(MAX_BYTES, 2 * path.stat().st_size):
        raise BadDataError(path, f"would unpack to {size:,} bytes", cure)


def check_tensors(path: Path, key: str, state: Mapping[Any, Any], cure: str) -> None:
    """Refuse a state dict that holds something else than plain tensors under names.

    Raises:
        BadDataError: It holds something else, or a tensor that claims more numbers than it stores: copying that would
            allocate what it claims.
    """
    if odd := [name for name, value in state.items() if not (isinstance(name, str) and isinstance(value, Tensor))]:
        raise BadDataError(path, f"{listed(map(str, odd))} in {key!r} is not a tensor", cure)
    for name, value in state.items():
        plain = value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized
        if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            shown = list(value.shape[:8])
            raise BadDataError(path, f"{name[:80]} {shown} is not a plain tensor with all its numbers", cure)


def check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse weights of a file that hold NaN or infinity (BadDataError)."""
    for name, value in state.items():
        if not bool(value.isfinite().all()):
            raise BadDataError(path, f"{name} holds NaN or infinity", "the weights are damaged: take another file")


class _ScriptModule:
    """Attributes of one module of a TorchScript archive."""

    def __setstate__(self, state: object) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _ScriptUnpickler(pickle.Unpickler):
    """Unpickler of a TorchScript archive that knows tensors, lists and modules, and nothing that could be run."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}data.pkl")))
        self._archive = archive
        self._folder = folder
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _ScriptModule
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        _, kind, number, *_ = pid
        if number not in self._storages:
            content = bytearray(self._archive.read(f"{self._folder}data/{number}"))
            self._storages[number] = torch.frombuffer(content, dtype=kind) if content else torch.empty(0, dtype=kind)
        return self._storages[number]


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    """Make a tensor from its storage, if that holds all of its numbers."""
    reach = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True)) + 1
    if math.prod(size) > storage.numel() or min((offset, *size, *stride)) < 0 or (all(size) and reach > len(storage)):
        raise pickle.UnpicklingError("a tensor claims more numbers than it stores")
    return storage.as_strided(size, stride, offset)


def _as_list(values: Iterable[object]) -> list[object]:
    return list(values)


def _first(value: object, _: object) -> object:
    return value


_KNOWN: Final[dict[tuple[str, str], Callable[..., object]]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("collections", "OrderedDict"): dict,
    ("torch.jit._pickle", "restore_type_tag"): _first,
    **{("torch.jit._pickle", f"build_{kind}list"): _as_list for kind in ("int", "double", "bool", "tensor")},
}


def _flattened(value: object, name: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a module and of those inside it, by the names of a state dict."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, _ScriptModule):
        if not depth:
            raise pickle.UnpicklingError("modules are nested too deeply")
        for key, part in value.attributes.items():
            yield from _flattened(part, f"{name}.{key}" if name else str(key), depth - 1)


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
