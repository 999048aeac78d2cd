"""The score to cut detections at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def best_f1_score(scores: NDArray[np.floating], is_true: NDArray[np.bool_], instances: int) -> float:
    """Find the score to cut at for the highest F1, the harmonic mean of precision and recall.

    Args:
        scores: `[N]`.
        is_true: Whether each matches an instance, `[N]`.
        instances: Number of instances to find.

    Returns:
        One of the scores; 0 where none is true.
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(is_true[order])
    if not len(scores) or not hits[-1]:
        return 0.0
    f1 = 2 * hits / (np.arange(1, len(scores) + 1) + instances)
    # A cut keeps all of equal score.
    f1[:-1][scores[order][:-1] == scores[order][1:]] = -1
    return float(scores[order][int(np.argmax(f1))])
