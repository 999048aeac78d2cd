"""Closed forms: what a network fits before training, and on which videos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

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
