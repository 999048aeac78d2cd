"""One check of all numbers on a command line: finite, and no larger than anything that is measured or counted here."""

from __future__ import annotations

import functools
import math
import typing
from typing import TYPE_CHECKING, Any, Final

from stale_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST: Final = 2**31 - 1
SEED: Final = "seed"


def with_sane_numbers(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command so that it refuses numbers that are not finite or beyond `LARGEST`, and negative seeds."""

    @functools.wraps(command)
    def checked(**options: Any) -> None:
        for name, value in options.items():
            if problem := _problem(name, value):
                raise UsageError(_as_typed(command, name), problem, "see --help")
        command(**options)

    return checked


def _problem(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return f"is {value}, which is no number to work with"
    if abs(value) > LARGEST:
        return f"is beyond {LARGEST:,}"
    return "is negative" if name == SEED and value < 0 else ""


def _as_typed(command: Callable[..., None], name: str) -> str:
    """Spell an option as users type it."""
    hint = typing.get_type_hints(command, include_extras=True)[name]
    names = [
        word
        for note in getattr(hint, "__metadata__", ())
        for word in getattr(note, "param_decls", None) or ()
        if word.startswith("--")
    ]
    return names[0].split("/")[0] if names else f"--{name.replace('_', '-')}"
