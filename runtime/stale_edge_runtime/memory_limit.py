"""A ceiling on how much memory the process may take on while a model from anyone is opened or run.

A few bytes of graph can ask for terabytes: onnxruntime computes constant parts while it opens a file, and does
not bound them. Under the ceiling such an allocation fails and becomes an error; without it the system would kill
the process. The ceiling is the operating system's, so it holds for all threads while it lasts.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_M_MMAP_THRESHOLD: Final = -3
_M_TRIM_THRESHOLD: Final = -1
"""Glibc's names for the size from which a buffer is mapped apart, and for what is kept at the end of the heap."""
_RETURNED_FROM_BYTES: Final = 128 << 10
_KEPT_UP_TO_BYTES: Final = 32 << 20
"""Size that glibc starts with, and the largest that it learns."""
_STATM = Path("/proc/self/statm")
_DATA_PAGES = 5


class _Ceiling:
    """Adds up what the blocks that are active now may take, and sets the system's limit accordingly."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._allowed: list[int] = []
        self._in_use = 0
        self._before = (0, 0)

    def raise_by(self, allowed: int) -> None:
        import resource

        with self._lock:
            if not self._allowed:
                self._before = resource.getrlimit(resource.RLIMIT_DATA)
                self._in_use = int(_STATM.read_text().split()[_DATA_PAGES]) * resource.getpagesize()
            self._allowed.append(allowed)
            self._apply()

    def lower_by(self, allowed: int) -> None:
        with self._lock:
            self._allowed.remove(allowed)
            self._apply()

    def _apply(self) -> None:
        import resource

        soft, hard = self._before
        if self._allowed:
            wanted = self._in_use + sum(self._allowed)
            soft = wanted if soft == resource.RLIM_INFINITY else min(wanted, soft)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


_ceiling = _Ceiling()


@contextlib.contextmanager
def limited_memory(allowed_bytes: int) -> Iterator[None]:
    """Let the process take on at most `allowed_bytes` more while the block runs; elsewhere than on Linux, do nothing.

    Blocks may nest and overlap in several threads: what they allow adds up.

    Args:
        allowed_bytes: Beyond what is in use when the first block begins.
    """
    if not _STATM.exists():
        yield
        return
    _ceiling.raise_by(allowed_bytes)
    try:
        yield
    finally:
        _ceiling.lower_by(allowed_bytes)


@contextlib.contextmanager
def returned_memory() -> Iterator[None]:
    """Give large buffers that are freed within the block back to the system at once, where the C library is glibc.

    It otherwise learns from large buffers to keep what is freed; opening a file of 90 MB then leaves 50 MB behind.
    """
    adjust = _mallopt()
    if adjust is None:
        yield
        return
    adjust(_M_MMAP_THRESHOLD, _RETURNED_FROM_BYTES)
    try:
        yield
    finally:  # setting one ends what it learns by itself, so both get the most that it would learn
        adjust(_M_MMAP_THRESHOLD, _KEPT_UP_TO_BYTES)
        adjust(_M_TRIM_THRESHOLD, 2 * _KEPT_UP_TO_BYTES)


@cache
def _mallopt() -> Callable[[int, int], object] | None:
    """Find glibc's function that adjusts its memory; None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        found: Callable[[int, int], object] = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return None
    return found
