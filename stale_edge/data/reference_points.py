"""One way to evaluate predictors: networks, trained or not, and the reference points that their mAP is read beside.

A network names its reference points, see `NetworkSpec.reference_points`. Actions of ActivityNet are long: the true
class of each video, from start to end, gives 20.6 average mAP on its validation set. All predictors go through the
decoding and the evaluation that detect and evaluate use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from stale_edge.networks.registry import NETWORKS
from stale_edge_runtime.contract import Kind, ModelInfo, Precision
from stale_edge_runtime.formats.annotations import Annotations, Video
from stale_edge_runtime.heads.registry import HEADS
from stale_edge_runtime.metrics.evaluation import ACTIVITYNET_TIOUS, evaluate
from stale_edge_runtime.resampling import resize
from stale_edge_runtime.windows import WindowPlan, detect_in_windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from stale_edge.data.dataset import TrainingVideo, VideoSource
    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.metrics.evaluation import EvaluationResult
    from stale_edge_runtime.segments import FloatArray

Float32Array: TypeAlias = "NDArray[np.float32]"
Predictor: TypeAlias = "Callable[[TrainingVideo], list[Detection]]"

COMMON_VIDEOS = 400
"""Videos that the mean feature is estimated from."""


def evaluate_predictor(predictor: Predictor, videos: Iterable[TrainingVideo]) -> EvaluationResult:
    """Detect in videos and evaluate the detections.

    Args:
        predictor: Looks at the instances only if it is the ceiling.
        videos: Each with its features and true instances; a generator will do.

    Raises:
        BadDataError: A prediction that cannot be decoded, or no instance in any video.
    """
    truth, results = [], {}
    for video in videos:
        results[video.id] = predictor(video)
        truth.append(Video(video.id, "validation", video.duration_s, video.instances))
    return evaluate(Annotations("videos", tuple(truth)), results, ACTIVITYNET_TIOUS)


def network_predictor(
    network_name: str, network: Any, text_embeddings: Float32Array | torch.Tensor, classes: Sequence[str]
) -> Predictor:
    """Predict with a network, on the device it is on.

    The network is put into evaluation mode for each prediction and back into its own. Videos are resized to its
    training length, where it has one, and judged in windows where it is.

    Args:
        network_name: Kind of network, a key of `NETWORKS` and `HEADS`.
        network: Trained or not.
        text_embeddings: [C, D], not normalised, without the background row.
        classes: Names of the C classes.
    """
    spec, head = NETWORKS[network_name], HEADS[network_name]
    length, window = spec.training_length(network.config), spec.window(network.config)
    info = _info(network_name, network.config)
    device = next(network.parameters()).device
    text = torch.as_tensor(text_embeddings, dtype=torch.float32, device=device)

    def detect(rows: FloatArray, duration_s: float) -> list[Detection]:
        features = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))
        was_training = network.training
        network.eval()
        try:
            with torch.inference_mode():
                found = spec.outputs(network, features.to(device)[None], text)
        finally:
            network.train(was_training)
        outputs = {name: value[0].float().cpu().numpy() for name, value in found.items()}
        return head.decode(outputs, duration_s, classes=classes, info=info)

    def predict(video: TrainingVideo) -> list[Detection]:
        features = video.features if length is None else resize(video.features, length)
        if window is None:
            return detect(features, video.duration_s)
        return detect_in_windows(detect, features, WindowPlan.of(window), duration_s=video.duration_s)

    return predict


def reference_predictor(
    network_name: str,
    point: str,
    classes: Sequence[str],
    text_embeddings: Float32Array,
    common: Float32Array,
    config: Any | None = None,
) -> Predictor:
    """Predict without a network, as one of the reference points of a kind of network does.

    Args:
        network_name: Kind of network, a key of `NETWORKS` and `HEADS`.
        point: Name of the reference point.
        classes: Names of the C classes.
        text_embeddings: [C, D], not normalised.
        common: Mean feature of other videos [D].
        config: Configuration of the network that is read beside it; the default one without.
    """
    spec, head = NETWORKS[network_name], HEADS[network_name]
    config = config or spec.config()
    predict = spec.reference_points[point](classes, text_embeddings, common, config)
    info = _info(network_name, config)
    return lambda video: head.decode(predict(video), video.duration_s, classes=classes, info=info)


def mean_feature(videos: Iterable[TrainingVideo]) -> Float32Array:
    """Average the videos' mean features to one [D]; no label is looked at.

    Raises:
        ValueError: There is no video.
    """
    means = [video.features.mean(axis=0) for video in videos]
    if not means:
        raise ValueError("the mean of no videos")
    return np.asarray(np.mean(means, axis=0), dtype=np.float32)


def common_feature(source: VideoSource) -> Float32Array:
    """Average the features of up to `COMMON_VIDEOS` videos, evenly chosen, to one [D]; no label is looked at.

    Raises:
        ValueError: There is no video.
    """
    step = max(1, -(-len(source) // COMMON_VIDEOS))
    return mean_feature(source.video(index, 0) for index in range(0, len(source), step))


def _info(network_name: str, config: Any) -> ModelInfo:
    return ModelInfo(
        kind=Kind.OPEN,
        precision=Precision.FP32,
        feature_dim=config.feature_dim,
        created_by="training",
        network=network_name,
        **NETWORKS[network_name].metadata(config),
    )
