"""Detections of reference points in the videos of a simulated world, to be read beside those of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stale_edge.data.reference_points import COMMON_VIDEOS, common_feature, reference_predictor

if TYPE_CHECKING:
    from collections.abc import Callable

    from stale_edge.simulation.world import SimulatedWorld
    from stale_edge_runtime.decoding import Detection


def reference_detections(
    world: SimulatedWorld,
    network: str,
    point: str,
    videos: dict[str, int],
    step: Callable[[str], None] = lambda _text: None,
) -> dict[str, list[Detection]]:
    """Detect as a reference point of a network does, among all classes of the world.

    Args:
        world: The world.
        network: Kind of network, a key of `NETWORKS`.
        point: Name of its reference point.
        videos: Number of videos of the streams `seen` and `unseen`.
        step: Called with an id after each video.

    Returns:
        Detections by video id, as in the files of the world.
    """
    common = common_feature(world.training(COMMON_VIDEOS))
    predict = reference_predictor(network, point, world.classes, world.text_embeddings, common)
    found = {}
    for stream, count in videos.items():
        for video in world.evaluation(stream, count) if count else ():
            found[video.id] = predict(video)
            step(video.id)
    return found
