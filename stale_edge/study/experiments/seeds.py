"""Seeds of a study, one for each repeat: as they are written, and which there may be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from stale_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST: Final = (1 << 32) - 1
"""Largest seed that all random generators take."""
_CURE: Final = "write different ones of 0 to 2^32 - 1, as in 0,100,200"


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds as in `0,100`.

    Args:
        text: Whole numbers, separated by commas.

    Raises:
        UsageError: It is not of that form, one comes twice, or one cannot be.
    """
    words = [word.strip() for word in text.split(",")]
    if odd := [word for word in words if not re.fullmatch("[0-9]{1,10}", word)]:
        raise UsageError("--seeds", f"{_shown(odd[0])!r} is no seed", _CURE)
    seeds = tuple(map(int, words))
    check_seeds(seeds)
    return seeds


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuse seeds that cannot be, or that would count one repeat twice.

    Raises:
        UsageError: The message names the first of them.
    """
    seen: set[int] = set()
    for seed in seeds:
        if not 0 <= seed <= LARGEST:
            raise UsageError("--seeds", f"{seed} is out of bounds", _CURE)
        if seed in seen:
            raise UsageError("--seeds", f"{seed} comes twice", _CURE)
        seen.add(seed)


def _shown(word: str) -> str:
    return word if len(word) <= 40 else word[:39] + "…"
