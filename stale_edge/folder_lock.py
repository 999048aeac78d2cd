"""A lock on a folder that one process writes to."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from stale_edge_runtime.errors import StaleEdgeError, writing_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK = "lock"


@contextlib.contextmanager
def locked_folder(folder: Path, busy: StaleEdgeError) -> Iterator[None]:
    """Keep other processes out of a folder until the block ends; a lock ends with its process, however that ends.

    Args:
        folder: Exists.
        busy: Raised where another process is in it.

    Raises:
        CannotWriteError: The folder cannot be written.
        StorageError: The disk is full or failed.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise busy from error
    except OSError as error:
        raise writing_error(folder / LOCK, error) from error
    try:
        yield
    finally:
        lock.release()
