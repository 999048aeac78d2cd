"""The error tree: what can go wrong, the exit code it ends with, and the builtin a caller would guess.

Every error names its subject (usually a file), the problem with the numbers that show it, and the cure. The
command line prints `str(error)` on one line and exits with `exit_code`; nothing else decides exit codes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import unicodedata
from functools import partial
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

EXIT_USAGE = 2
EXIT_BAD_DATA = 65
EXIT_INPUT_MISSING = 66
EXIT_UNAVAILABLE = 69
EXIT_CANNOT_WRITE = 73
EXIT_IO_ERROR = 74
EXIT_INTERRUPTED = 130


class StaleEdgeError(Exception):
    """Base of all errors that stale-edge raises on purpose.

    Attributes:
        subject: What the error is about, usually the path of a file.
        problem: What is wrong, with the numbers that show it.
        cure: What to do about it; empty when the problem says it already.
    """

    exit_code: ClassVar[int] = EXIT_BAD_DATA

    def __init__(self, subject: object, problem: str, cure: str = "") -> None:
        self.subject = _one_line(str(subject))
        self.problem = _one_line(problem)
        self.cure = _one_line(cure)
        super().__init__(f"{self.subject}: {self.problem}" + (f"; {self.cure}" if self.cure else ""))


class UsageError(StaleEdgeError, ValueError):
    """Options or arguments that do not go together."""

    exit_code = EXIT_USAGE


class BadDataError(StaleEdgeError, ValueError):
    """A file or array whose content is not what it must be."""


class InputMissingError(StaleEdgeError, FileNotFoundError):
    """An input that is not there or cannot be opened."""

    exit_code = EXIT_INPUT_MISSING


class UnavailableError(StaleEdgeError, RuntimeError):
    """Provider, threads or optional package that this machine does not have."""

    exit_code = EXIT_UNAVAILABLE


class CannotWriteError(StaleEdgeError, OSError):
    """An output that cannot be created: no such folder, no permission, a folder in its place."""

    exit_code = EXIT_CANNOT_WRITE


class StorageError(StaleEdgeError, OSError):
    """The disk is full or failed while an output was written or an input was read."""

    exit_code = EXIT_IO_ERROR


def missing_extra(package: str, extra: str, purpose: str) -> UnavailableError:
    """Make the error for a command whose optional dependency is not installed.

    Args:
        package: Import name that failed.
        extra: Extra of stale-edge that brings it.
        purpose: Command or option that needs it, as in `bench --plot`.
    """
    return UnavailableError(purpose, f"needs {package}, which is not installed", f"pip install 'stale-edge[{extra}]'")


def writing_error(path: Path, error: OSError) -> CannotWriteError | StorageError:
    """Translate an operating-system error met while writing `path`."""
    reason = error.strerror or str(error)
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}:
        return StorageError(path, f"writing failed ({reason})", "free some space; what was there is unchanged")
    return CannotWriteError(path, f"cannot be written ({reason})", "choose another path with -o")


def reading_error(path: Path, error: OSError) -> InputMissingError | StorageError:
    """Translate an operating-system error met while reading `path`."""
    if error.errno == errno.EIO:
        return StorageError(path, "reading failed (I/O error)", "check the disk")
    if error.errno == errno.ENOENT:
        return InputMissingError(path, "no such file", "check the path")
    return InputMissingError(path, f"cannot be read ({error.strerror or error})", "check the path")


@contextlib.contextmanager
def _translated(translate: Callable[[Path, OSError], StaleEdgeError], path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, StaleEdgeError):
            raise
        raise translate(path, error) from error


writing = partial(_translated, writing_error)
"""Context in which operating-system errors become those of `writing_error`; errors of stale-edge pass as they are."""
reading = partial(_translated, reading_error)
"""Context in which operating-system errors become those of `reading_error`; errors of stale-edge pass as they are."""


def listed(names: Iterable[str], shown: int = 4) -> str:
    """List the first names for a message, and count the others."""
    every = list(names)
    more = f" and {len(every) - shown} more" if len(every) > shown else ""
    return ", ".join(every[:shown]) + more


def printable(text: str) -> str:
    """Escape all that a terminal could act on: controls, bidirectional marks, lone surrogates."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escape(one) for one in text)


def printable_json(text: str) -> str:
    """Escape all that a terminal could act on in JSON text, as JSON does.

    Args:
        text: Valid JSON; only its strings can hold such characters, apart from line breaks of the layout.
    """
    lines = text.split("\n")
    if all(line.isprintable() for line in lines):
        return text
    return "\n".join("".join(one if one.isprintable() else _json_escape(one) for one in line) for line in lines)


def _json_escape(one: str) -> str:
    return one if unicodedata.category(one) == "Zs" else json.dumps(one)[1:-1]


def _escape(one: str) -> str:
    return one if unicodedata.category(one) == "Zs" else one.encode("unicode_escape").decode("ascii")


def _one_line(text: str) -> str:
    """Text of untrusted origin on one line, printable."""
    return printable(" ".join(text.split()))
