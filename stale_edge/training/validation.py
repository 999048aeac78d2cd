"""Held-out mAP of a network in training, through the decoding and the evaluation of the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from stale_edge.networks.registry import NETWORKS
from stale_edge_runtime.contract import Kind, ModelInfo, Precision
from stale_edge_runtime.formats.annotations import Annotations, Video
from stale_edge_runtime.heads.registry import HEADS
from stale_edge_runtime.metrics.evaluation import ACTIVITYNET_TIOUS, evaluate
from stale_edge_runtime.resampling import resize

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from stale_edge.data.dataset import TrainingVideo
    from stale_edge_runtime.metrics.evaluation import EvaluationResult


def evaluate_network(
    network_name: str,
    network: Any,
    text_embeddings: Tensor,
    videos: Iterable[TrainingVideo],
    classes: Sequence[str],
) -> EvaluationResult:
    """Detect in videos with a network, on the device it is on, and evaluate what was found.

    The network is put into evaluation mode and back into its own. Videos are resized to its training length.

    Args:
        network_name: Kind of network, a key of `NETWORKS` and `HEADS`.
        network: The network.
        text_embeddings: [C, D], not normalised.
        videos: Each with its features and true instances; a generator will do.
        classes: Names of the C classes.

    Raises:
        BadDataError: No instance in any video, or outputs that cannot be decoded.
    """
    spec, head = NETWORKS[network_name], HEADS[network_name]
    length = spec.training_length(network.config)
    info = ModelInfo(
        kind=Kind.OPEN,
        precision=Precision.FP32,
        feature_dim=network.config.feature_dim,
        created_by="training",
        network=network_name,
        **spec.metadata(network.config),
    )
    device = next(network.parameters()).device
    text = text_embeddings.to(device=device, dtype=torch.float32)
    truth, results = [], {}
    was_training = network.training
    network.eval()
    try:
        for video in videos:
            with torch.inference_mode():
                resized = video.features if length is None else resize(video.features, length)
                features = torch.from_numpy(resized).to(device)
                found = spec.outputs(network, features[None], text)
            outputs = {name: value[0].float().cpu().numpy() for name, value in found.items()}
            results[video.id] = head.decode(outputs, video.duration_s, classes=classes, info=info)
            truth.append(Video(video.id, "validation", video.duration_s, video.instances))
    finally:
        network.train(was_training)
    return evaluate(Annotations("videos", tuple(truth)), results, ACTIVITYNET_TIOUS)
