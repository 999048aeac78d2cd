"""What a trained network's mAP must be read beside: reference points, and one way to evaluate them all.

* the *untrained* network: `network_predictor` of one that was never trained;
* *nearest text*: no training at all, each snippet is given to the texts it is nearest to, see `nearest_text_predictor`;
* the *whole video*: the same without any localization, one detection as long as the video for each likely class.
  Actions of ActivityNet are long: the true class of each video, from start to end, gives 20.6 average mAP on its
  validation set;
* the *ceiling*: true masks and classes, so that what is missing to 100 is the decoding's and the snippets' own.

All go through the decoding and the evaluation that detect and evaluate use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import torch

from stale_edge.networks.stale.targets import video_targets
from stale_edge_runtime.formats.annotations import Annotations, Video
from stale_edge_runtime.heads.stale import decode
from stale_edge_runtime.metrics.evaluation import ACTIVITYNET_TIOUS, evaluate
from stale_edge_runtime.resampling import resize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from stale_edge.data.dataset import TrainingVideo, VideoSource
    from stale_edge.networks.stale.model import STALE
    from stale_edge_runtime.heads.stale_proposals import DecodeOptions
    from stale_edge_runtime.metrics.evaluation import EvaluationResult

Float32Array: TypeAlias = "NDArray[np.float32]"

COMMON_VIDEOS = 400
"""Videos that what all features have in common is estimated from."""
LOGIT_SCALE = 100.0
"""CLIP's temperature, which the network uses too."""
_CERTAIN = 20.0
# Of nearest text, chosen once on videos of seen classes that no figure is reported on.
_SMOOTHING = 9
_SHARPNESS = 30.0
_MIDPOINT = 0.7
_LEAST = 1e-9


class Prediction(NamedTuple):
    """What is known of one video before decoding."""

    class_logits: Float32Array
    """[T, C + 1], background last."""
    masks: Float32Array
    """[A, T], in [0, 1]."""
    video_logits: Float32Array
    """[C]."""


Predictor: TypeAlias = "Callable[[TrainingVideo], Prediction]"


def evaluate_predictor(
    predictor: Predictor,
    videos: Iterable[TrainingVideo],
    classes: Sequence[str],
    *,
    options: DecodeOptions | None = None,
    tious: Sequence[float] = ACTIVITYNET_TIOUS,
    compat: str | None = None,
) -> EvaluationResult:
    """Detect in videos and evaluate what was found.

    Args:
        predictor: What predicts; `predictor(video)` may look at the instances only if it is the ceiling.
        videos: Each with its features and true instances; a generator will do.
        classes: Names of the classes, in the order of the predictions.
        options: Choices of the decoding.
        tious: Thresholds.
        compat: `"stale"` decodes and evaluates as published.

    Raises:
        BadDataError: A prediction that cannot be decoded, or no instance in any video.
    """
    truth, results = [], {}
    for video in videos:
        prediction = predictor(video)
        results[video.id] = decode(*prediction, video.duration_s, classes=classes, options=options, compat=compat)
        truth.append(Video(video.id, "validation", video.duration_s, video.instances))
    return evaluate(Annotations("videos", tuple(truth)), results, tious, compat=compat)


def network_predictor(
    network: STALE, text_embeddings: Float32Array | torch.Tensor, *, snippets: int | None = None
) -> Predictor:
    """Predict with a network, on the device it is on.

    The network is put into evaluation mode for each prediction and back into its own.

    Args:
        network: Trained or not.
        text_embeddings: [C, D], not normalised, without the background row.
        snippets: Length that features are resized to: the training length, which is the number of anchors, by default.
    """
    device = next(network.parameters()).device
    text = torch.as_tensor(text_embeddings, dtype=torch.float32, device=device)
    length = snippets or network.config.anchors

    def predict(video: TrainingVideo) -> Prediction:
        training = network.training
        network.eval()
        try:
            with torch.inference_mode():
                features = torch.from_numpy(resize(video.features, length)).to(device)
                found = network.detect(features[None], text)
        finally:
            network.train(training)
        parts = (found.class_logits, found.masks, found.video_logits)
        return Prediction(*(part[0].float().cpu().numpy() for part in parts))

    return predict


def nearest_text_predictor(
    text_embeddings: Float32Array, feature_mean: Float32Array, *, snippets: int = 100
) -> Predictor:
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

    Args:
        text_embeddings: [C, D], not normalised.
        feature_mean: [D], see `mean_feature`.
        snippets: Length that features are resized to, and number of anchors.
    """
    text = _unit(text_embeddings - text_embeddings.mean(axis=0))  # [C, D]

    def predict(video: TrainingVideo) -> Prediction:
        centred = resize(video.features, snippets) - feature_mean  # [T, D]
        video_logits = LOGIT_SCALE * (_unit(centred.mean(axis=0)) @ text.T)  # [C]
        curves = _curves(_unit(centred) @ text.T)  # [T, C]
        masks = lowest_between(curves[:, video_logits.argmax()])
        return Prediction(_class_logits(curves, video_logits), masks, video_logits)

    return predict


def whole_video_predictor(
    text_embeddings: Float32Array, feature_mean: Float32Array, *, snippets: int = 100
) -> Predictor:
    """Predict the classes that `nearest_text_predictor` takes the video for, each from its start to its end.

    Args:
        text_embeddings: [C, D], not normalised.
        feature_mean: [D], see `mean_feature`.
        snippets: Number of snippets, and of anchors.
    """
    text = _unit(text_embeddings - text_embeddings.mean(axis=0))  # [C, D]

    def predict(video: TrainingVideo) -> Prediction:
        centred = resize(video.features, snippets) - feature_mean
        video_logits = LOGIT_SCALE * (_unit(centred.mean(axis=0)) @ text.T)  # [C]
        curves = np.ones((snippets, len(text)), dtype=np.float32)
        return Prediction(_class_logits(curves, video_logits), np.ones((snippets, snippets), np.float32), video_logits)

    return predict


def ceiling_predictor(classes: Sequence[str], *, snippets: int = 100) -> Predictor:
    """Predict what training would teach, with certainty: the most that the decoding can make of a perfect network.

    Args:
        classes: Names of the classes.
        snippets: Number of snippets, and of anchors.
    """
    index = {name: position for position, name in enumerate(classes)}

    def predict(video: TrainingVideo) -> Prediction:
        targets = video_targets(video.instances, video.duration_s, index, snippets)
        class_logits = np.zeros((snippets, len(classes) + 1), dtype=np.float32)
        class_logits[np.arange(snippets), targets.snippet_classes[0].numpy()] = _CERTAIN
        masks = targets.masks[0].numpy().astype(np.float32)
        return Prediction(class_logits, masks, _CERTAIN * targets.video_classes[0].numpy().astype(np.float32))

    return predict


def mean_feature(videos: Iterable[TrainingVideo]) -> Float32Array:
    """Mean of the videos' mean features [D]; looks at no label.

    Raises:
        ValueError: There is no video.
    """
    means = [video.features.mean(axis=0) for video in videos]
    if not means:
        raise ValueError("the mean of no videos")
    return np.asarray(np.mean(means, axis=0), dtype=np.float32)


def common_feature(source: VideoSource) -> Float32Array:
    """The mean feature [D] of up to `COMMON_VIDEOS` videos, evenly chosen; looks at no label.

    Raises:
        ValueError: There is no video.
    """
    step = max(1, -(-len(source) // COMMON_VIDEOS))
    return mean_feature(source.video(index, 0) for index in range(0, len(source), step))


def lowest_between(curve: Float32Array) -> Float32Array:
    """The lowest value of a curve [T] from any snippet to any other, both included: [T, T]."""
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


def _unit(vectors: Float32Array) -> Float32Array:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Float32Array = vectors / np.maximum(length, 1e-12)
    return scaled


def _curves(cosines: Float32Array) -> Float32Array:
    """How far each class is seen at each snippet, [T, C] in (0, 1): smoothed, then a sigmoid."""
    at = np.arange(len(cosines))
    low, high = np.maximum(at - _SMOOTHING // 2, 0), np.minimum(at + _SMOOTHING // 2 + 1, len(cosines))
    sums = np.concatenate([np.zeros((1, cosines.shape[1])), np.cumsum(cosines, axis=0, dtype=np.float64)])
    smooth = (sums[high] - sums[low]) / (high - low)[:, None]
    return np.asarray(1.0 / (1.0 + np.exp(-_SHARPNESS * (smooth - _MIDPOINT * cosines.mean(axis=0)))), np.float32)
