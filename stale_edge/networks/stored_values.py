"""Pieces that configurations and seeded weights of all networks share."""

from __future__ import annotations

import dataclasses
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def known_values(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the values that a configuration has fields for: what a later version added is left out.

    Args:
        kind: Dataclass of the configuration.
        values: JSON values by name.
    """
    names = {item.name for item in dataclasses.fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def draw_values(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float64]:
    """Draw standard normal numbers that a name and a seed alone decide, in any implementation.

    Args:
        name: Name of a parameter.
        shape: Shape of the parameter.
        seed: Seed of the whole network.
    """
    return np.random.default_rng([zlib.crc32(name.encode()), seed]).standard_normal(shape)
