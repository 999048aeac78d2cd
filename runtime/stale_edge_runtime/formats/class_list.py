"""Class lists: text files with one class name a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stale_edge_runtime.contract import MAX_CLASSES
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.formats.files import read_bytes

if TYPE_CHECKING:
    from pathlib import Path

MAX_NAME_LENGTH = 500
_LIMIT_BYTES = 32 << 20


def is_class_name(text: str) -> bool:
    """Tell whether a text can be the name of a class: printable, and no longer than a line."""
    return 0 < len(text) <= MAX_NAME_LENGTH and text.isprintable()


def read_class_list(path: Path) -> tuple[str, ...]:
    """Read class names, one a line; blank lines do not count.

    Returns:
        The names in the order of the file.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: It is empty, not UTF-8, repeats a name, or holds a name that cannot be one.
    """
    try:
        text = read_bytes(path, limit=_LIMIT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadDataError(path, f"is not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise BadDataError(path, "holds no class name", "write one name a line")
    if len(names) > MAX_CLASSES:
        raise BadDataError(path, f"holds {len(names):,} names, more than {MAX_CLASSES:,}", "shorten it")
    seen: set[str] = set()
    for name in names:
        if not is_class_name(name):
            raise BadDataError(path, f"{name[:40]!r} is no class name", "write one printable name a line")
        if name in seen:
            raise BadDataError(path, f"names {name!r} twice", "each class once")
        seen.add(name)
    return tuple(names)
