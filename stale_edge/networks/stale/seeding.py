"""Weights filled from a seed by a fixed rule, the same in any implementation: right for timing and for parity.

Source: docs/network.md, "Golden numbers".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from stale_edge.networks.stored_values import draw_values

if TYPE_CHECKING:
    from numpy.typing import NDArray


def seeded_values(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Give the numbers of one parameter."""
    if name.endswith(".logit_scale"):
        return np.full(shape, math.log(100.0), dtype=np.float32)
    values = draw_values(name, shape, seed)
    if len(shape) >= 2:
        values /= math.sqrt(math.prod(shape[1:]))
    elif name.endswith(".running_var"):
        values = np.abs(values) + 0.5
    elif name.endswith(".weight"):
        values = 1 + 0.1 * values
    else:
        values *= 0.1
    return values.astype(np.float32)
