"""Entries of a file that no evaluator can use: left out, counted by kind, the first of each named."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stale_edge_runtime.errors import BadDataError

if TYPE_CHECKING:
    from collections.abc import Mapping


class UnusableEntryError(BadDataError):
    """One entry that cannot be used, in a file whose others may be.

    Attributes:
        kind: Kind of the fault, in words that follow a number, as in `segments that end before they start`.
    """

    def __init__(self, kind: str, subject: object, problem: str, cure: str = "") -> None:
        super().__init__(subject, problem, cure)
        self.kind = kind


@dataclass(frozen=True)
class LeftOut:
    """Entries of one kind that were left out."""

    count: int
    """Number of entries."""
    first: str
    """Message about the first of them: file, place and fault."""


class EntryCheck:
    """Decides what becomes of unusable entries while a file is read.

    Args:
        strict: Refuse the file at the first unusable entry.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._counts: dict[str, int] = {}
        self._first: dict[str, UnusableEntryError] = {}
        self._used = {True: 0, False: 0}
        self._essential: UnusableEntryError | None = None

    def use(self, *, essential: bool = True) -> None:
        """Count an entry that is used."""
        self._used[essential] += 1

    def leave_out(self, error: UnusableEntryError, *, essential: bool = True) -> None:
        """Leave an entry out.

        Args:
            error: Fault of the entry.
            essential: A file in which no such entry can be used is of no use.

        Raises:
            UnusableEntryError: In strict reading, the error itself.
        """
        if self._strict:
            raise error
        self._first.setdefault(error.kind, error)
        self._counts[error.kind] = self._counts.get(error.kind, 0) + 1
        if essential:
            self._essential = self._essential or error

    def finish(self) -> Mapping[str, LeftOut]:
        """Give what was left out, by kind.

        Raises:
            UnusableEntryError: No entry could be used, or none of the essential ones; the first error tells why.
        """
        if self._essential is not None and not self._used[True]:
            raise self._essential
        if self._first and not any(self._used.values()):
            raise next(iter(self._first.values()))
        return {kind: LeftOut(count, str(self._first[kind])) for kind, count in self._counts.items()}


def written_number(value: Any) -> float:
    """Read a number, also one written as a string; NaN for what is none."""
    if type(value) not in {float, int, str} or (isinstance(value, str) and "_" in value):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def left_out_lines(left_out: Mapping[str, LeftOut]) -> list[str]:
    """Describe what was left out, a line for each kind."""
    return [f"left out {item.count:,} {kind}; the first: {item.first}" for kind, item in left_out.items()]
