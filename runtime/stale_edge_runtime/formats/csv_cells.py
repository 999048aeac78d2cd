"""Texts in CSV files: what a spreadsheet would run as a formula is made inert, and read back as it was."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")
_QUANTITY: Final = re.compile(r"[+-]\d[\d.,]*(?:e[+-]?\d+)?(?: ?(?:%|[a-zA-Z]{1,4}))?|[+-](?:inf|nan)")
"""A signed number, perhaps with its unit."""


def inert(text: str) -> str:
    """Put a `'` before a text where a spreadsheet would take it for a formula; numbers stay as they are."""
    return f"'{text}" if _FORMULA.match(text) and not _QUANTITY.fullmatch(text) else text


def inert_cells(cells: Iterable[Any]) -> list[Any]:
    """Make the texts of a line's cells inert."""
    return [inert(cell) if isinstance(cell, str) else cell for cell in cells]


def as_it_was(cell: str) -> str:
    """Give back the text that `inert` was given."""
    rest = cell.removeprefix("'")
    return rest if rest != cell and _FORMULA.match(rest) else cell
