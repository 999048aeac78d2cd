"""Pieces of predictions without a trained network: cosines of snippets and texts, and curves of them over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from stale_edge.networks.base import AnnotatedVideo
    from stale_edge_runtime.heads.base import VideoOutputs

Float32Array: TypeAlias = "NDArray[np.float32]"
Predict: TypeAlias = "Callable[[AnnotatedVideo], VideoOutputs]"

LOGIT_SCALE = 100.0
"""CLIP's temperature, which networks use too."""
CERTAIN = 20.0
"""Logit of what is certain."""
# Chosen once on videos of seen classes that no figure is reported on.
_SMOOTHING = 9
_SHARPNESS = 30.0
_MIDPOINT = 0.7


def unit(vectors: Float32Array) -> Float32Array:
    """Scale vectors [..., D] to length one."""
    scaled: Float32Array = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return scaled


def text_curves(cosines: Float32Array) -> Float32Array:
    """Score snippets in (0, 1) by cosines [T] or [T, C]: smoothed, then a sigmoid around a share of the mean."""
    at = np.arange(len(cosines))
    low, high = np.maximum(at - _SMOOTHING // 2, 0), np.minimum(at + _SMOOTHING // 2 + 1, len(cosines))
    sums = np.concatenate([np.zeros((1, *cosines.shape[1:])), np.cumsum(cosines, axis=0, dtype=np.float64)])
    smooth = (sums[high] - sums[low]) / (high - low).reshape(-1, *[1] * (cosines.ndim - 1))
    return np.asarray(1.0 / (1.0 + np.exp(-_SHARPNESS * (smooth - _MIDPOINT * cosines.mean(axis=0)))), np.float32)
