"""Labels for the segments of a network that tells when and not what: nearest texts, or another network's evidence.

Texts need no training. A segment's features are averaged and compared with the text embeddings of the classes; each
segment is given its two best classes, and the score of both halves of the answer is their geometric mean, as published
for scores of an external classifier.

Symbols: T snippets, D feature width, C classes, N segments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stale_edge_runtime.decoding import FUSED_CLASSES, Detection, fused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stale_edge_runtime.segments import FloatArray

LOGIT_SCALE: Final = 100.0
"""Factor of CLIP's cosines before a softmax."""


class Labeller:
    """Classes for segments that another network found: one interface, whatever the classes come from.

    Args:
        shares: Gives the share of each class [N, C], rows of sum 1, of features [T, D] and segments [N, 2], start and
            end in snippets, N at least one; a part of a snippet counts as all of it.
        classes: Names of the C classes.
    """

    def __init__(self, shares: Callable[[FloatArray, FloatArray], NDArray[np.float64]], classes: Sequence[str]) -> None:
        self.shares = shares
        self.classes = tuple(classes)

    def label(self, detections: Sequence[Detection], features: FloatArray, duration_s: float) -> list[Detection]:
        """Give segments of one video their classes.

        Args:
            detections: Detections without classes of their own, best first.
            features: Features of the video, [T, D].
            duration_s: Seconds that they cover.

        Returns:
            Each segment with its best classes, the best score first.
        """
        if not detections:
            return []
        times = np.array([(found.start_s, found.end_s) for found in detections]) * (len(features) / duration_s)
        shares = self.shares(features, times)
        best = np.argsort(-shares, axis=1, kind="stable")[:, :FUSED_CLASSES]
        labelled = [
            fused(found, self.classes[index], row[index])
            for found, row, chosen in zip(detections, shares, best, strict=True)
            for index in chosen
        ]
        return sorted(labelled, key=lambda found: -found.score)


def text_labeller(text_embeddings: FloatArray, classes: Sequence[str]) -> Labeller:
    """Label segments by the texts that they are nearest to.

    Args:
        text_embeddings: [C, D], not normalised.
        classes: Names of the C classes.
    """
    text = _unit(np.asarray(text_embeddings, dtype=np.float64))

    def shares(features: FloatArray, segments: FloatArray) -> NDArray[np.float64]:
        sums = np.concatenate((np.zeros((1, features.shape[1])), np.cumsum(features, axis=0, dtype=np.float64)))
        first = np.clip(np.floor(segments[:, 0]).astype(np.intp), 0, len(features) - 1)
        last = np.clip(np.ceil(segments[:, 1]).astype(np.intp), first + 1, len(features))
        logits = LOGIT_SCALE * _unit(sums[last] - sums[first]) @ text.T
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    return Labeller(shares, classes)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
