"""Sample times and the frames on screen at them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from stale_edge_runtime.errors import BadDataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLACK_S: Final = 1e-6
"""Rounding allowed between a sample's time and a frame's, in seconds; far below the ticks of any container."""
MAX_SAMPLES: Final = 2_000_000
"""Most samples of one video; 11 days at two a second."""


def sample_count(duration_s: float, step_s: float, *, subject: object = "video") -> int:
    """Count the samples `i * step_s` before the end of a video; at least 1.

    Raises:
        BadDataError: There are more than `MAX_SAMPLES`, as damaged times make them.
    """
    samples = (duration_s - SLACK_S) / step_s
    if not samples <= MAX_SAMPLES:
        raise BadDataError(
            subject,
            f"lasts {duration_s:,.0f} s by its times: more than {MAX_SAMPLES:,} samples of {step_s:g} s",
            "its times are damaged, or the step is too small",
        )
    return max(1, math.ceil(samples))


def sample_times(duration_s: float, step_s: float, *, subject: object = "video") -> NDArray[np.float64]:
    """List the sample times that `sample_count` counts, float64 [samples], seconds from the first frame."""
    return np.arange(sample_count(duration_s, step_s, subject=subject), dtype=np.float64) * step_s


def frames_on_screen(times_s: NDArray[np.float64], samples_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Find the frame that is on screen at each sample: the last that began at or before it.

    Args:
        times_s: [frames], when each frame appears, ascending; at least one.
        samples_s: [samples], seconds.

    Returns:
        int64 [samples], positions in `times_s`; the first frame for samples before it.
    """
    found = np.searchsorted(times_s, samples_s + SLACK_S, side="right") - 1
    return np.maximum(found, 0).astype(np.int64)


def published_samples(samples: int, length: int) -> NDArray[np.int64]:
    """Find the samples that a network reads which resizes them to `length` positions by linear interpolation.

    `resampling.resize` of the rows of these samples, whatever finite numbers stand in the other rows, equals that of
    all rows.

    Args:
        samples: Rows of the whole video.
        length: Positions that the network resizes to.

    Returns:
        int64, ascending, at most 2 × `length`, without repetition.
    """
    if samples == length:
        return np.arange(samples, dtype=np.int64)
    at = np.clip((np.arange(length) + 0.5) * (samples / length) - 0.5, 0, samples - 1)
    left = at.astype(np.int64)
    right = np.minimum(left + 1, samples - 1)
    between = (at - left).astype(np.float32) > 0
    return np.unique(np.concatenate([left, right[between]]))
