"""Closed forms: what a network fits before training, and on which videos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stale_edge_runtime.errors import BadDataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from stale_edge.data.dataset import TrainingVideo, VideoSource
    from stale_edge.networks.base import NetworkSpec

FIT_VIDEOS = 4096
"""Least videos of an endless source that a closed form is fitted on."""


def fit_closed_form(
    spec: NetworkSpec,
    network: Any,
    source: VideoSource,
    text: Tensor,
    *,
    unused_epoch: int | None,
    least: int = FIT_VIDEOS,
) -> dict[str, Any]:
    """Fit what a network has in closed form.

    Args:
        spec: Description of the network.
        network: Network; changed in place.
        source: Videos of the seen classes.
        text: Embeddings [C, D] of these classes.
        unused_epoch: First epoch that training never asks an endless source for; None where the source is finite, which
            gives each of its videos once.
        least: Least videos of an endless source.

    Returns:
        A record in JSON values; empty where there is nothing to fit.
    """
    if spec.fit is None:
        return {}
    videos = videos_to_fit_on(source, unused_epoch=unused_epoch, least=least)
    return dict(spec.fit(network, videos, source.classes, text))


def class_means(videos: Iterable[TrainingVideo], classes: Sequence[str]) -> NDArray[np.float32]:
    """Average the features of each class's actions: embeddings of the classes for users without text.

    Args:
        videos: Videos of the classes.
        classes: Names of the C classes.

    Returns:
        [C, D], rows in the order of the classes.

    Raises:
        BadDataError: A class has no action in any of the videos.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, int] = dict.fromkeys(classes, 0)
    for video in videos:
        centres = (np.arange(len(video.features)) + 0.5) * video.duration_s / len(video.features)
        for label in dict.fromkeys(instance.label for instance in video.instances):
            spans = [(item.start_s, item.end_s) for item in video.instances if item.label == label]
            inside = np.any([(start <= centres) & (centres < end) for start, end in spans], axis=0)
            rows = video.features[inside] if inside.any() else video.features
            sums[label] = sums.get(label, 0.0) + rows.mean(axis=0, dtype=np.float64)
            counts[label] += 1
    if absent := [name for name in classes if not counts[name]]:
        raise BadDataError(f"class {absent[0]}", "has no action in the videos that means are taken of", "add one")
    return np.stack([sums[name] / counts[name] for name in classes]).astype(np.float32)


def videos_to_fit_on(
    source: VideoSource, *, unused_epoch: int | None, least: int = FIT_VIDEOS
) -> Iterator[TrainingVideo]:
    """Yield videos for a closed form: those of unused epochs of an endless source, else each of the source once.

    Args:
        source: Videos of the seen classes.
        unused_epoch: First epoch that training never asks an endless source for; None where the source is finite.
        least: Least videos of an endless source.
    """
    wanted = len(source) if unused_epoch is None else max(least, len(source))
    for number in range(wanted):
        epoch, index = divmod(number, len(source))
        yield source.video(index, (unused_epoch or 0) + epoch)
