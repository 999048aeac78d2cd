"""Predictions without a trained network, in the form of the map's outputs, so that its head decodes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stale_edge.networks.boundary_map.loss import FIRST_THRESHOLD, THRESHOLD_RANGE
from stale_edge.networks.boundary_map.targets import PARTS, map_targets
from stale_edge.networks.text_curves import CERTAIN, LOGIT_SCALE, Float32Array, Predict, text_curves, unit
from stale_edge_runtime.contract import CLASS_LOGITS
from stale_edge_runtime.heads.boundary_map import CLASS_GRAM, GUIDE, PAIR_LOGITS
from stale_edge_runtime.resampling import resize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stale_edge.networks.base import AnnotatedVideo
    from stale_edge.networks.boundary_map.config import BoundaryMapConfig
    from stale_edge_runtime.heads.base import VideoOutputs


def nearest_text(
    classes: Sequence[str], text: Float32Array, common: Float32Array, config: BoundaryMapConfig
) -> Predict:
    """Predict without any training, from cosines of snippets and texts.

    Both are centred first, as for STALE's reference point. The curve of the video's most likely class, its cosine over
    time through a sigmoid, is taken for the share of each snippet that the action covers; a pair's score is then its
    expected tIoU with it. Classes are cosines of pooled features.
    """
    del classes
    unit_text = unit(text - text.mean(axis=0))  # [C, D]

    def predict(video: AnnotatedVideo) -> VideoOutputs:
        centred = resize(video.features, config.snippets) - common  # [T, D]
        likely = unit_text[(unit(centred.mean(axis=0)) @ unit_text.T).argmax()]
        curve = text_curves(unit(centred) @ likely)  # [T]
        return {**_classes(centred, unit_text), PAIR_LOGITS: _logit(_expected_tiou(curve)), GUIDE: curve}

    return predict


def whole_video(classes: Sequence[str], text: Float32Array, common: Float32Array, config: BoundaryMapConfig) -> Predict:
    """Predict the classes that `nearest_text` takes the whole video for, each from its start to its end."""
    del classes
    unit_text = unit(text - text.mean(axis=0))  # [C, D]
    snippets = config.snippets

    def predict(video: AnnotatedVideo) -> VideoOutputs:
        centred = resize(video.features, snippets) - common
        pairs = np.full((snippets, snippets), -CERTAIN, dtype=np.float32)
        pairs[0, -1] = CERTAIN
        return {**_classes(centred, unit_text), PAIR_LOGITS: pairs, GUIDE: np.zeros(snippets, np.float32)}

    return predict


def ceiling(classes: Sequence[str], text: Float32Array, common: Float32Array, config: BoundaryMapConfig) -> Predict:
    """Predict what training would teach, and the true classes: the most that the decoding can make of a network."""
    del text, common
    snippets = config.snippets
    index = {name: position for position, name in enumerate(classes)}

    def predict(video: AnnotatedVideo) -> VideoOutputs:
        overlap = map_targets([video], snippets).overlap[0].numpy() / PARTS
        wanted = ((overlap - FIRST_THRESHOLD) / THRESHOLD_RANGE).clip(0.0, 1.0).astype(np.float32)
        evidence = np.zeros((snippets, len(classes)), dtype=np.float32)
        inside = np.zeros(snippets, dtype=np.float32)
        centres = (np.arange(snippets) + 0.5) * video.duration_s / snippets
        for instance in video.instances:
            covers = (instance.start_s <= centres) & (centres < instance.end_s)
            covers |= np.abs(centres - (instance.start_s + instance.end_s) / 2).argmin() == np.arange(snippets)
            evidence[covers, index[instance.label]] = CERTAIN
            inside[covers] = 1.0
        gram = np.ones((snippets, snippets), dtype=np.float32)  # the mean of the evidence
        return {PAIR_LOGITS: _logit(wanted), CLASS_LOGITS: evidence, CLASS_GRAM: gram, GUIDE: inside}

    return predict


REFERENCE_POINTS = {"nearest text": nearest_text, "whole video": whole_video, "ceiling": ceiling}
"""Predictions that need no network, by name."""


def _classes(centred: Float32Array, unit_text: Float32Array) -> dict[str, Float32Array]:
    """Class outputs whose pooled logits are the scaled cosines of pooled features [T, D] and texts [C, D]."""
    return {CLASS_LOGITS: LOGIT_SCALE * centred @ unit_text.T, CLASS_GRAM: centred @ centred.T}


def _expected_tiou(curve: Float32Array) -> Float32Array:
    """Intersection over union [T, T] of every pair with what a curve [T] says is covered."""
    sums = np.concatenate([[0.0], np.cumsum(curve, dtype=np.float64)])
    inside = sums[None, 1:] - sums[:-1, None]
    at = np.arange(len(curve))
    length = np.maximum(at[None] + 1 - at[:, None], 1)
    expected: Float32Array = np.triu(inside / (length + sums[-1] - inside)).astype(np.float32)
    return expected


def _logit(shares: Float32Array) -> Float32Array:
    edge = np.exp(-CERTAIN)
    odds = np.clip(shares.astype(np.float64), edge, 1 - edge)
    logits: Float32Array = np.log(odds / (1 - odds)).astype(np.float32)
    return logits
