"""Weights filled from a seed by a fixed rule, the same in any implementation: right for timing and for parity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from stale_edge.networks.stored_values import draw_values

if TYPE_CHECKING:
    from numpy.typing import NDArray


def seeded_values(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Give the numbers of one parameter."""
    values = draw_values(name, shape, seed)
    is_norm = len(shape) == 3 and shape[0] == shape[2] == 1
    if name.endswith(".scale") or (is_norm and name.endswith(".weight")):
        values = 1 + 0.1 * values
    elif len(shape) == 3 and not is_norm:
        values /= math.sqrt(shape[1] * shape[2])
    else:
        values *= 0.1
    return np.asarray(values, dtype=np.float32)
