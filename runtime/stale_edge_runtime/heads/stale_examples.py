"""Made-up outputs of STALE: what a trained and what an untrained network says about a video."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

StaleOutputs: TypeAlias = "tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]"

ACTIONS = ((0.05, 0.15, 0), (0.2, 0.3, 1), (0.4, 0.45, 0), (0.55, 0.75, 0), (0.8, 0.95, 1))
"""Start and end as shares of the clear video, and which of its two classes."""


def clear_outputs(snippets: int, classes: int, anchors: int) -> StaleOutputs:
    """Class logits, masks and video logits of a network that sees the actions of `ACTIONS`.

    Args:
        snippets: T.
        classes: C.
        anchors: A.
    """
    rng = np.random.default_rng([snippets, classes, anchors])
    class_logits = rng.normal(0.0, 1.0, (snippets, classes + 1))
    class_logits[:, -1] += 10.0
    masks = rng.uniform(0.0, 0.2, (anchors, snippets))
    video_logits = rng.normal(0.0, 1.0, classes)
    for start, end, number in ACTIONS:
        inside = slice(int(start * snippets), max(int(end * snippets), int(start * snippets) + 1))
        label = min(number, classes - 1)
        class_logits[inside, label] += 12.0
        masks[int(start * anchors) : max(int(end * anchors), int(start * anchors) + 1), inside] += 0.8
        video_logits[label] = 10.0
    masks = np.minimum(masks, 1.0)
    return class_logits.astype(np.float32), masks.astype(np.float32), video_logits.astype(np.float32)


def noisy_outputs(snippets: int, classes: int, anchors: int) -> StaleOutputs:
    """Class logits, masks and video logits of a network that sees nothing."""
    rng = np.random.default_rng([snippets, classes, anchors])
    class_logits = rng.normal(0.0, 3.0, (snippets, classes + 1)).astype(np.float32)
    masks = rng.random((anchors, snippets), dtype=np.float32)
    return class_logits, masks, rng.normal(0.0, 1.0, classes).astype(np.float32)
