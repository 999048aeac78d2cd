"""A folder of outputs with one program that writes to it."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Final

from stale_edge_runtime.errors import CannotWriteError, StaleEdgeError, writing_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_NAME: Final = ".stale-edge.lock"


@contextlib.contextmanager
def sole_writer(folder: Path, busy: StaleEdgeError | None = None) -> Iterator[None]:
    """Keep other programs from writing to a folder until the block ends; a lock ends with its process.

    Systems without such locks, as Windows or some network storage, do not keep anybody away.

    Args:
        folder: The folder; it exists.
        busy: Raised where another program is writing to it; a `CannotWriteError` without.

    Raises:
        CannotWriteError: Another program is writing to it, or it cannot be written.
        StorageError: The disk is full or failed.
    """
    path = folder / LOCK_NAME
    descriptor = _locked(path, busy)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _locked(path: Path, busy: StaleEdgeError | None) -> int:
    """Open and lock the file; one that its last holder removed meanwhile is no lock."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise writing_error(path, error) from error
        try:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except ImportError:
            return descriptor
        except OSError as error:
            if error.errno in {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}:
                return descriptor
            os.close(descriptor)
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                cure = "wait for it, or name another folder with -o"
                raise busy or CannotWriteError(path.parent, "another program is writing to it", cure) from error
            raise writing_error(path, error) from error
        os.close(descriptor)
