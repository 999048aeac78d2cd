"""Labels for the segments of a network that tells when and not what: nearest texts, or another network's evidence.

Texts need no training. A segment's features are averaged and compared with the text embeddings of the classes; each
segment is given its two best classes, and the score of both halves of the answer is their geometric mean, as published
for scores of an external classifier.

Symbols: T snippets, D feature width, C classes, N segments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

import numpy as np

from stale_edge_runtime.decoding import FUSED_CLASSES, Detection, fused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stale_edge_runtime.segments import FloatArray

LOGIT_SCALE: Final = 100.0
"""Factor of CLIP's cosines before a softmax."""


class Labeller(ABC):
    """Classes for segments that another network found: one interface, whatever the classes come from.

    Args:
        classes: Names of the C classes.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)

    @abstractmethod
    def probabilities(self, features: FloatArray, segments: FloatArray) -> NDArray[np.float64]:
        """Give the share of each class in what segments show.

        Args:
            features: [T, D].
            segments: Start and end in snippets, [N, 2], N at least one; a part of a snippet counts as all of it.

        Returns:
            [N, C], rows of sum 1.
        """

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
        shares = self.probabilities(features, times)
        best = np.argsort(-shares, axis=1, kind="stable")[:, :FUSED_CLASSES]
        labelled = [
            fused(found, self.classes[index], row[index])
            for found, row, chosen in zip(detections, shares, best, strict=True)
            for index in chosen
        ]
        return sorted(labelled, key=lambda found: -found.score)


class EvidenceLabeller(Labeller):
    """Labels segments by the class evidence of a network that classifies any segment.

    Args:
        shares: Share of each class in segments, as `probabilities`: `Detector.class_shares`.
        classes: Names of the C classes.
    """

    def __init__(self, shares: Callable[[FloatArray, FloatArray], NDArray[np.float64]], classes: Sequence[str]) -> None:
        super().__init__(classes)
        self._shares = shares

    def probabilities(self, features: FloatArray, segments: FloatArray) -> NDArray[np.float64]:
        """Give the share of each class in segments; see `Labeller`."""
        return self._shares(features, segments)


class TextLabeller(Labeller):
    """Labels segments by text.

    Args:
        text_embeddings: [C, D], not normalised.
        classes: Names of the C classes.
    """

    def __init__(self, text_embeddings: FloatArray, classes: Sequence[str]) -> None:
        super().__init__(classes)
        self._text = _unit(np.asarray(text_embeddings, dtype=np.float64))

    def probabilities(self, features: FloatArray, segments: FloatArray) -> NDArray[np.float64]:
        """Give the share of each class in segments; see `Labeller`."""
        sums = np.concatenate((np.zeros((1, features.shape[1])), np.cumsum(features, axis=0, dtype=np.float64)))
        first = np.clip(np.floor(segments[:, 0]).astype(np.intp), 0, len(features) - 1)
        last = np.clip(np.ceil(segments[:, 1]).astype(np.intp), first + 1, len(features))
        logits = LOGIT_SCALE * _unit(sums[last] - sums[first]) @ self._text.T
        logits -= logits.max(axis=1, keepdims=True)
        shares = np.exp(logits)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
