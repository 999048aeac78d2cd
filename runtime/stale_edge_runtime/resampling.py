"""Resampling of features to the length that a network is trained at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def resize(features: NDArray[np.float32], snippets: int) -> NDArray[np.float32]:
    """Resample features to another number of snippets: linear, `align_corners=False`, as training does.

    Args:
        features: [T, D].
        snippets: Number wanted.

    Returns:
        float32 [snippets, D]; the same array where T is that number already.
    """
    if len(features) == snippets:
        return np.ascontiguousarray(features, dtype=np.float32)
    left, right, share = _neighbours(len(features), snippets)
    return _mixed(features[left], features[right], share)


def resize_read_rows(
    rows: NDArray[np.float32], read: NDArray[np.int64], length: int, snippets: int
) -> NDArray[np.float32]:
    """Resample features of which only the rows are at hand that resampling reads; equals `resize` of all rows.

    Args:
        rows: [R, D], the rows at hand.
        read: int64 [R], ascending: their places among all rows. Every place that resampling gives a share above zero.
        length: Number of all rows.
        snippets: Number wanted.

    Returns:
        float32 [snippets, D].
    """
    if length == snippets:
        return np.ascontiguousarray(rows, dtype=np.float32)
    left, right, share = _neighbours(length, snippets)
    # A right neighbour of share zero is not at hand: any finite row adds nothing in its place.
    places = [np.minimum(np.searchsorted(read, place), len(read) - 1) for place in (left, right)]
    return _mixed(rows[places[0]], rows[places[1]], share)


def _neighbours(length: int, snippets: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Rows that each position lies between, and the share of the right one."""
    at = np.clip((np.arange(snippets) + 0.5) * (length / snippets) - 0.5, 0, length - 1)
    left = at.astype(np.int64)
    return left, np.minimum(left + 1, length - 1), (at - left).astype(np.float32)


def _mixed(left: NDArray[np.float32], right: NDArray[np.float32], share: NDArray[np.float32]) -> NDArray[np.float32]:
    mixed: NDArray[np.float32] = left * (1 - share[:, None]) + right * share[:, None]
    return mixed
