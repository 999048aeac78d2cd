"""Held-out mAP of a network in training, through the decoding and the evaluation of the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stale_edge.data.reference_points import evaluate_predictor, network_predictor

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
    """Detect in videos with a network, on the device it is on, and evaluate the detections.

    Args:
        network_name: Kind of network, a key of `NETWORKS` and `HEADS`.
        network: The network; keeps its mode.
        text_embeddings: [C, D], not normalised.
        videos: Each with its features and true instances; a generator will do.
        classes: Names of the C classes.

    Raises:
        BadDataError: No instance in any video, or outputs that cannot be decoded.
    """
    return evaluate_predictor(network_predictor(network_name, network, text_embeddings, classes), videos)
