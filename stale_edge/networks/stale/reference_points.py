"""Predictions without a trained network, in the form of STALE's outputs, so that its head decodes them.

* *nearest text*: no training at all, each snippet is given to the texts it is nearest to;
* the *whole video*: the same without any localization, one detection as long as the video for each likely class;
* the *ceiling*: true masks and classes, so that what is missing to 100 is the decoding's and the snippets' own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stale_edge.networks.stale.targets import video_targets
from stale_edge.networks.text_curves import CERTAIN, LOGIT_SCALE, Float32Array, Predict, text_curves, unit
from stale_edge_runtime.contract import CLASS_LOGITS, MASKS, VIDEO_LOGITS
from stale_edge_runtime.resampling import resize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stale_edge.networks.base import AnnotatedVideo
    from stale_edge.networks.stale.config import ModelConfig
    from stale_edge_runtime.heads.base import VideoOutputs

_LEAST = 1e-9


def nearest_text(classes: Sequence[str], text: Float32Array, common: Float32Array, config: ModelConfig) -> Predict:
    """Predict without any training, from cosines of snippets and texts.

    Both are centred first: features by the mean of other videos' features (no label is looked at), texts by their own
    mean. A class's curve is its cosine over time, smoothed over 9 snippets, through a sigmoid whose middle is at 0.7 of
    its mean over the video. The network's outputs are then made up so that the decoding reads them as it reads the
    network's:

    * video logits: 100 times the cosine of the video's mean feature;
    * class logits: such that the softmax is the class's probability in the video times its curve; the rest is
      background;
    * masks: the curve of the video's first class says what belongs together: snippet t belongs to the action that
      covers anchor a as far as the curve stays high all the way between the two (the lowest value between them).
    """
    del classes
    snippets = config.anchors
    unit_text = unit(text - text.mean(axis=0))  # [C, D]

    def predict(video: AnnotatedVideo) -> VideoOutputs:
        centred = resize(video.features, snippets) - common  # [T, D]
        video_logits = LOGIT_SCALE * (unit(centred.mean(axis=0)) @ unit_text.T)  # [C]
        curves = text_curves(unit(centred) @ unit_text.T)  # [T, C]
        return _outputs(
            _class_logits(curves, video_logits), lowest_between(curves[:, video_logits.argmax()]), video_logits
        )

    return predict


def whole_video(classes: Sequence[str], text: Float32Array, common: Float32Array, config: ModelConfig) -> Predict:
    """Predict the classes that `nearest_text` takes the video for, each from its start to its end."""
    del classes
    snippets = config.anchors
    unit_text = unit(text - text.mean(axis=0))  # [C, D]

    def predict(video: AnnotatedVideo) -> VideoOutputs:
        centred = resize(video.features, snippets) - common
        video_logits = LOGIT_SCALE * (unit(centred.mean(axis=0)) @ unit_text.T)  # [C]
        curves = np.ones((snippets, len(text)), dtype=np.float32)
        return _outputs(_class_logits(curves, video_logits), np.ones((snippets, snippets), np.float32), video_logits)

    return predict


def ceiling(classes: Sequence[str], text: Float32Array, common: Float32Array, config: ModelConfig) -> Predict:
    """Predict what training would teach, with certainty: the most that the decoding can make of a perfect network."""
    del text, common
    snippets = config.anchors
    index = {name: position for position, name in enumerate(classes)}

    def predict(video: AnnotatedVideo) -> VideoOutputs:
        targets = video_targets(video.instances, video.duration_s, index, snippets)
        class_logits = np.zeros((snippets, len(classes) + 1), dtype=np.float32)
        class_logits[np.arange(snippets), targets.snippet_classes[0].numpy()] = CERTAIN
        video_logits = CERTAIN * targets.video_classes[0].numpy().astype(np.float32)
        return _outputs(class_logits, targets.masks[0].numpy().astype(np.float32), video_logits)

    return predict


REFERENCE_POINTS = {"nearest text": nearest_text, "whole video": whole_video, "ceiling": ceiling}
"""Predictions that need no network, by name."""


def lowest_between(curve: Float32Array) -> Float32Array:
    """Find the lowest value of a curve [T] from any snippet to any other, both included: [T, T]."""
    length = len(curve)
    spread = np.broadcast_to(curve, (length, length))
    after = np.triu(np.ones((length, length), dtype=bool))
    onward = np.minimum.accumulate(np.where(after, spread, np.inf), axis=1)
    return np.where(after, onward, onward.T).astype(np.float32)


def _class_logits(curves: Float32Array, video_logits: Float32Array) -> Float32Array:
    """Logits [T, C + 1] whose softmax is each class's probability in the video times its curve [T, C]."""
    share = np.exp(video_logits - video_logits.max(), dtype=np.float64)
    probabilities = curves * (share / share.sum())
    rest = 1.0 - probabilities.sum(axis=1, keepdims=True)
    joined = np.maximum(np.concatenate([probabilities, rest], axis=1), _LEAST)
    return np.asarray(np.log(joined), dtype=np.float32)


def _outputs(class_logits: Float32Array, masks: Float32Array, video_logits: Float32Array) -> VideoOutputs:
    return {CLASS_LOGITS: class_logits, MASKS: masks, VIDEO_LOGITS: video_logits}
