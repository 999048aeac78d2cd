"""Checks of settings that come from a file of anyone: each raises a ValueError that names the setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def check_integers(settings: Any, names: Iterable[str], high: int = 1_000_000) -> None:
    """Refuse settings that are no whole numbers from 1 to `high`."""
    for name in names:
        value = getattr(settings, name)
        if type(value) is not int or not 1 <= value <= high:
            raise ValueError(f"{name} must be an integer from 1 to {high:,}, not {value!r}")


def check_flags(settings: Any, *names: str) -> None:
    """Refuse settings that are neither true nor false."""
    for name in names:
        if type(getattr(settings, name)) is not bool:
            raise ValueError(f"{name} must be true or false, not {getattr(settings, name)!r}")


def check_number(settings: Any, name: str, low: float, high: float) -> None:
    """Refuse a setting that is no number from `low` to `high`."""
    value = getattr(settings, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, not {value!r}")


def check_heads(width: int, heads: int, name: str = "width") -> None:
    """Refuse a width that attention heads cannot share evenly."""
    if width % heads:
        raise ValueError(f"{name} {width} is not a multiple of {heads} heads")
