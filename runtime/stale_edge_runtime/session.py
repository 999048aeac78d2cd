"""Opening an onnxruntime session: the options of a small device, and no silent fallback.

Source: docs/speed.md, onnxruntime facts.
"""

from __future__ import annotations

import contextlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as _ort_state

from stale_edge_runtime.errors import BadDataError, UnavailableError, UsageError, reading
from stale_edge_runtime.memory_limit import limited_memory, returned_memory
from stale_edge_runtime.model_file import read_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.model_file import ModelFile

SILENT = 4
"""Onnxruntime's severity that keeps everything but fatal errors back: its errors reach us as exceptions."""

OPENING_BYTES = 256 << 20
OPENING_COPIES = 8
"""Opening a file may take this much memory, and so many times the file; 3 times is normal."""

ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    MemoryError,
    *(value for value in vars(_ort_state).values() if isinstance(value, type) and issubclass(value, Exception)),
)
"""Errors that onnxruntime raises; its own exceptions have no common base."""


@dataclass(frozen=True)
class Provider:
    """A kind of device that can run a model."""

    name: str
    """Onnxruntime's name for it."""
    cure: str
    """Way to get it where it is missing."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options that it is opened with."""


PROVIDERS = {
    "cpu": Provider("CPUExecutionProvider", "install onnxruntime again"),
    "cuda": Provider(
        "CUDAExecutionProvider",
        "pip install onnxruntime-gpu in place of onnxruntime, on a machine with an NVIDIA driver, CUDA and cuDNN",
        # An exhaustive search per new length takes seconds; full float32 keeps results comparable with the CPU.
        {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"},
    ),
}
"""Providers by the names that users type."""

# An ONNX model that passes one float through: what is needed to see whether a provider really opens.
_PROBE = (
    b'\x08\t:/\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0b\n\x01x\x12\x06\n\x04\x08\x01\x12\x00'
    b"b\x0b\n\x01y\x12\x06\n\x04\x08\x01\x12\x00B\x04\n\x00\x10\x12"
)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def providers() -> tuple[str, ...]:
    """List the providers that work here, by their short names; each was tried with a tiny model."""
    return tuple(name for name in PROVIDERS if not _why_unavailable(name))


def provider_of(session: ort.InferenceSession) -> str:
    """Tell the provider that a session really uses, by its short name."""
    first = str(session.get_providers()[0])
    return next((short for short, provider in PROVIDERS.items() if provider.name == first), first)


def open_session(
    model: ModelFile,
    *,
    threads: int = 1,
    provider: str = "cpu",
    optimize: bool = True,
    profile: Path | None = None,
    rewritten: Path | None = None,
    reuse_memory: bool = True,
) -> ort.InferenceSession:
    """Open a session on the bytes of a checked file.

    Args:
        model: The file.
        threads: Threads for one operator.
        provider: Short name of the device to run on.
        optimize: Let onnxruntime rewrite the graph.
        profile: Start of the name of the profile to write, where one is wanted.
        rewritten: File for the graph that onnxruntime makes of the model, where it is wanted.
        reuse_memory: Keep freed memory for the next run; it then grows with every new length.

    Raises:
        UsageError: `threads` is less than 1, or `provider` has no meaning.
        UnavailableError: This machine does not have that many threads, or that provider.
        BadDataError: Onnxruntime does not accept the file.
    """
    size, subject = len(model.content), str(model.path)
    return _open(
        model.content,
        size,
        subject,
        threads,
        provider,
        optimize=optimize,
        profile=profile,
        rewritten=rewritten,
        reuse_memory=reuse_memory,
    )


def open_file(
    path: Path, check: Callable[[ModelInfo], None], *, threads: int = 1, provider: str = "cpu"
) -> tuple[ModelInfo, ort.InferenceSession]:
    """Check a file and open a session on it, without holding its bytes beside onnxruntime's: for large files.

    Onnxruntime reads the file itself, after the check. What is checked is what runs all the same: a file that changed
    in between is refused.

    Args:
        path: The file.
        check: Raises what is wrong with the metadata.
        threads: Threads for one operator.
        provider: Short name of the device to run on.

    Returns:
        Metadata of the file, and the session.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: It is not what it must be, changes meanwhile, or onnxruntime does not accept it.
        UsageError: `threads` is less than 1, or `provider` has no meaning.
        UnavailableError: This machine does not have that many threads, or that provider.
    """
    before = _stamp(path)
    info = read_model(path).info  # and its bytes are gone again
    check(info)
    with returned_memory():
        session = _open(str(path), before[1], str(path), threads, provider)
    if _stamp(path) != before:
        raise BadDataError(path, "changed while it was opened", "open it again when it is complete")
    return info, session


def _stamp(path: Path) -> tuple[int, int, int]:
    """Identity, size and time of the last change of a file; a change of any kind shows in them."""
    with reading(path):
        found = path.stat()
    return found.st_ino, found.st_size, found.st_ctime_ns


def open_content(
    content: bytes, *, subject: str = "model", threads: int = 1, profile: Path | None = None
) -> ort.InferenceSession:
    """Open a session on the processor, on a model that this program made itself; nothing is checked.

    Args:
        content: The model, encoded.
        subject: Name in errors.
        threads: Threads for one operator.
        profile: Start of the name of the profile to write, where one is wanted.

    Raises:
        UsageError: `threads` is less than 1.
        UnavailableError: This machine does not have that many threads.
        BadDataError: Onnxruntime does not accept the model.
    """
    return _open(content, len(content), subject, threads, profile=profile)


def _open(
    source: bytes | str,
    size: int,
    subject: str,
    threads: int,
    provider: str = "cpu",
    *,
    optimize: bool = True,
    profile: Path | None = None,
    rewritten: Path | None = None,
    reuse_memory: bool = True,
) -> ort.InferenceSession:
    """Open a session on bytes, or on the file of that path."""
    check_threads(threads)
    check_provider(provider)
    options = _options(threads, optimize=optimize, reuse_memory=reuse_memory)
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    if rewritten is not None:
        options.optimized_model_filepath = str(rewritten)
    try:
        with _opening_limit(size, provider):
            session = _create(source, options, provider)
    except MemoryError as error:
        raise BadDataError(subject, "needs more memory than a model of its size may") from error
    except ORT_ERRORS as error:
        raise BadDataError(subject, f"onnxruntime refuses it ({short_reason(error)})", "export it again") from error
    if (found := provider_of(session)) != provider:
        raise UnavailableError(
            f"provider {provider!r}", f"onnxruntime opened {found!r} instead", PROVIDERS[provider].cure
        )
    return session


def run_tower(
    session: ort.InferenceSession, path: Path, output: str, inputs: Mapping[str, NDArray[Any]], width: int
) -> NDArray[np.float32]:
    """Run a tower on a batch and check its answer.

    Args:
        session: Session of the tower.
        path: File of the tower, for messages.
        output: Name of its output.
        inputs: Input of the tower by its name, the batch first.
        width: Width of an embedding.

    Returns:
        float32 [batch, width], finite.

    Raises:
        BadDataError: It fails, or answers out of form.
    """
    count = len(next(iter(inputs.values())))
    try:
        (found,) = session.run([output], dict(inputs))
    except ORT_ERRORS as error:
        raise BadDataError(path, f"fails on a batch of {count} ({short_reason(error)})") from error
    if found.shape != (count, width) or not np.isfinite(found).all():
        raise BadDataError(path, "gives no finite embeddings", "export it again")
    embeddings: NDArray[np.float32] = found
    return embeddings


def check_provider(provider: str) -> None:
    """Refuse a provider that cannot be had here, before any work is done for it.

    Raises:
        UsageError: `provider` has no meaning.
        UnavailableError: This machine does not have it.
    """
    if provider not in PROVIDERS:
        raise UsageError(f"provider {provider!r}", "is not known", f"use one of {', '.join(PROVIDERS)}")
    if provider != "cpu" and (reason := _why_unavailable(provider)):
        raise UnavailableError(f"provider {provider!r}", reason, PROVIDERS[provider].cure)


def check_snippets(info: ModelInfo, snippets: int) -> None:
    """Refuse a video that is too short or too long for one run.

    Raises:
        BadDataError: The model does not take that many snippets.
    """
    if snippets < info.min_snippets:
        raise BadDataError(
            "features", f"{snippets} snippets, the model takes {info.min_snippets} or more", "use a longer video"
        )
    if snippets > info.max_snippets:
        raise BadDataError(
            "features",
            f"{snippets:,} snippets, the model takes at most {info.max_snippets:,} in one piece",
            "run it in windows with --window",
        )


def short_reason(error: BaseException) -> str:
    """Shorten the message of onnxruntime to at most one short line."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else words[:200] + "…"


def check_threads(threads: int) -> None:
    """Refuse a number of threads that cannot be had.

    Raises:
        UsageError: It is less than 1.
        UnavailableError: This process may use fewer cores.
    """
    if threads < 1:
        raise UsageError(f"{threads} threads", "is not a number of threads", "use 1 or more")
    if threads > cores():
        raise UnavailableError(f"{threads} threads", f"this process may use {cores()} cores", f"use at most {cores()}")


def _options(threads: int, *, optimize: bool = True, reuse_memory: bool = True) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.enable_mem_pattern = False  # patterns are kept per length, and lengths vary
    options.enable_cpu_mem_arena = reuse_memory
    options.log_severity_level = SILENT
    # Several threads wait for each other hundreds of times in a forward: asleep in between, they lose a quarter of it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads > 1 else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")  # none between two forwards
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return options


def _opening_limit(size: int, provider: str) -> contextlib.AbstractContextManager[None]:
    """Compute the memory ceiling for opening a model; drivers of other devices reserve what they like."""
    if provider != "cpu":
        return contextlib.nullcontext()
    return limited_memory(OPENING_BYTES + OPENING_COPIES * size)


def _create(source: bytes | str, options: ort.SessionOptions, provider: str) -> ort.InferenceSession:
    wanted = PROVIDERS[provider]
    chain: list[str | tuple[str, dict[str, str]]] = [(wanted.name, dict(wanted.options))]
    if provider != "cpu":
        chain.append(PROVIDERS["cpu"].name)  # for the few operators that a GPU has not
    # Onnxruntime prints about its fallbacks on stdout, where only results belong. And for good it turns off numbers
    # below 2e-308 in the thread that opens a session: let that be none of the caller's.
    with contextlib.redirect_stdout(io.StringIO()), ThreadPoolExecutor(1, "stale-edge-open") as opener:
        return opener.submit(ort.InferenceSession, source, options, providers=chain, enable_fallback=0).result()


@cache
def _why_unavailable(provider: str) -> str:
    """Tell why a provider cannot be had here; empty when it can."""
    name = PROVIDERS[provider].name
    if name not in ort.get_available_providers():
        return f"the installed onnxruntime {ort.__version__} is built without it"
    ort.set_default_logger_severity(SILENT)
    if provider == "cuda" and hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls(directory="")  # finds CUDA and cuDNN that pip installed
    try:
        session = _create(_PROBE, _options(1), provider)
    except ORT_ERRORS as error:
        return f"onnxruntime could not open it ({short_reason(error)})"
    return "" if provider_of(session) == provider else "onnxruntime could not load its libraries or find a device"
