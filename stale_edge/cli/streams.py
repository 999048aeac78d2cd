"""Standard streams as commands need them: results that cannot be written are an error, never lost in silence."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING

from stale_edge_runtime.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator


class ResultStream(io.TextIOWrapper):
    """Standard output whose failures are errors of the contract; a reader that left (a broken pipe) is none."""

    def write(self, text: str, /) -> int:
        """Write text.

        Raises:
            BrokenPipeError: Nobody reads any more.
            StorageError: The disk behind the stream is full or failed, or the stream is closed.
        """
        with _stream_errors():
            return super().write(text)

    def flush(self) -> None:
        """Hand over what was written.

        Raises:
            BrokenPipeError: Nobody reads any more.
            StorageError: The disk behind the stream is full or failed, or the stream is closed.
        """
        with _stream_errors():
            super().flush()


def prepare_streams() -> None:
    """Make the three standard streams usable, whatever the caller closed and whatever its locale.

    A closed input reads as empty, a closed error stream is dropped, and a closed output fails at the first result.
    No file opened later can take the number of a closed stream. Characters that the locale lacks are escaped.
    """
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.dup2(os.open(os.devnull, mode), descriptor)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (lives as long as the process)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stdout = _result_stream()


def _result_stream() -> ResultStream:
    """Wrap standard output anew, in the encoding that it had."""
    before = sys.stdout
    if isinstance(before, io.TextIOWrapper):
        encoding, interactive = before.encoding, before.isatty()
        return ResultStream(before.detach(), encoding, "backslashreplace", line_buffering=interactive)
    return ResultStream(open(1, "wb", closefd=False), "utf-8", "backslashreplace")


def drop_stream(descriptor: int) -> None:
    """Send what is still to be written to a standard stream nowhere, so that ending the process raises nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


@contextlib.contextmanager
def _stream_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError("standard output", f"cannot be written ({reason})", "results are incomplete") from error
