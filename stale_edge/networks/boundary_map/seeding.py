"""Numbers of an untrained boundary map, from names, shapes and a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stale_edge.networks.boundary_map.model import waves
from stale_edge.networks.stored_values import draw_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FIXED = {"spread": 1.0, "temperature": 50.0}


def seeded_values(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Give the numbers of one parameter or buffer: tables as they are, a plain closed form, noise for the rest."""
    part, _, last = name.rpartition(".")
    if last == "waves":
        table: NDArray[np.float32] = waves().numpy()
        return table
    if part == "classes" and last in _FIXED:
        return np.asarray(_FIXED[last], dtype=np.float32)
    if part == "classes" and len(shape) == 2:
        return np.eye(*shape, dtype=np.float32)
    drawn = draw_values(name, shape, seed)
    if len(shape) > 1:
        drawn /= np.sqrt(np.prod(shape[1:]))
    else:
        drawn = 0.1 * drawn + (1.0 if "norm" in part and last == "weight" else 0.0)
    return drawn.astype(np.float32)
