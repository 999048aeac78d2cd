"""Features that look like CLIP's, for checks and timing where no real ones are at hand.

The figures were measured on CLIP ViT-B/32 features of a real clip (15 snippets, one every 2 s): mean norm 11.05,
norm of their mean 10.5 with one channel holding most of it, norm around the mean 3.25, correlation of neighbours
around the mean 0.26.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Float = TypeVar("_Float", bound=np.floating)

COMMON_NORM = 9.5
VIDEO_NORM = 4.5
SNIPPET_NORM = 3.25
NEIGHBOUR_CORRELATION = 0.26
OUTLIER_SHARE = 0.69


def clip_like_features(batch: int, snippets: int, feature_dim: int = 512, *, seed: int = 0) -> np.ndarray:
    """Draw features with the norm, common direction and smoothness of CLIP's.

    Args:
        batch: Number of videos B.
        snippets: Snippets of each, T.
        feature_dim: Width D.
        seed: Seed of the videos; the common direction is the same for all seeds.

    Returns:
        float32 [B, T, D].
    """
    direction = np.random.default_rng(0).standard_normal(feature_dim)
    direction *= np.sqrt(1 - OUTLIER_SHARE**2) / np.linalg.norm(direction)
    direction[feature_dim // 4] += OUTLIER_SHARE
    rng = np.random.default_rng([seed, batch, snippets, feature_dim])
    video = rng.standard_normal((batch, 1, feature_dim)) * (VIDEO_NORM / np.sqrt(feature_dim))
    noise = rng.standard_normal((batch, snippets, feature_dim)) * (SNIPPET_NORM / np.sqrt(feature_dim))
    return np.asarray(COMMON_NORM * direction + video + correlate(noise, NEIGHBOUR_CORRELATION), dtype=np.float32)


def correlate(noise: NDArray[_Float], correlation: float) -> NDArray[_Float]:
    """Make neighbours along the last axis but one alike, in place: a first-order process of unchanged variance.

    Args:
        noise: `[…, T, D]`, independent.
        correlation: Correlation of neighbours.

    Returns:
        The same array.
    """
    innovation = float(np.sqrt(1 - correlation**2))
    for snippet in range(1, noise.shape[-2]):
        noise[..., snippet, :] = correlation * noise[..., snippet - 1, :] + innovation * noise[..., snippet, :]
    return noise


def varied_images(count: int, size: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Draw images that differ as frames of different videos do: in colour, contrast, shapes and noise.

    Returns:
        uint8 [B, S, S, 3].
    """
    rng = np.random.default_rng([seed, size])
    found = np.empty((count, size, size, 3), np.uint8)
    for image in found:
        picture = rng.uniform(30, 225, 3) + np.zeros((size, size, 3))
        for cells in (2, 5, 14):
            picture += _enlarged(rng.normal(0, rng.uniform(5, 60), (cells, cells, 3)), size)
        picture += rng.normal(0, rng.uniform(0, 20), picture.shape)
        image[:] = np.clip(picture, 0, 255).round()
    return found


def _enlarged(cells: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Interpolate a grid [n, n, 3] to [size, size, 3]."""
    count = len(cells)
    weights = np.maximum(0, 1 - np.abs(np.linspace(0, count - 1, size)[:, None] - np.arange(count)))  # [size, n]
    return np.asarray(np.einsum("yi,xj,ijc->yxc", weights, weights, cells))
