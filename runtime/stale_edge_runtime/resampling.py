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
    length = len(features)
    if length == snippets:
        return np.ascontiguousarray(features, dtype=np.float32)
    at = np.clip((np.arange(snippets) + 0.5) * (length / snippets) - 0.5, 0, length - 1)
    left = at.astype(np.int64)
    right = np.minimum(left + 1, length - 1)
    share = (at - left).astype(np.float32)[:, None]
    resized: NDArray[np.float32] = features[left] * (1 - share) + features[right] * share
    return resized
