"""Crops of long videos at the features' own rate, for actions that are short beside their video."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stale_edge.networks.base import AnnotatedVideo
    from stale_edge_runtime.formats.annotations import Instance

RATES: Final = (1, 1, 2)
"""Snippets of the video in one of the crop, each as likely: the network meets several feature rates."""
ON_ACTION: Final = 0.75
"""Share of the crops that are placed on an action."""


@dataclass(frozen=True)
class VideoCrop:
    """A piece of a video, annotated like a video."""

    duration_s: float
    """Seconds of the piece."""
    instances: tuple[Instance, ...]
    """Actions, cut at its borders: windows of long videos cut them there too."""
    hidden: tuple[tuple[float, float], ...]
    """Seconds in which actions of other classes happen."""
    features: NDArray[np.float32]
    """[T, D]."""
    draw: tuple[int, ...] = ()
    """Seed of further random choices."""


def random_crop(video: AnnotatedVideo, snippets: int) -> AnnotatedVideo:
    """Crop a video by its own draw; one that is not longer than a crop stays whole.

    Args:
        video: Video at its own rate.
        snippets: Snippets of the crop, at the lowest rate.
    """
    count = len(video.features)
    if count <= snippets:
        return video
    rng = np.random.default_rng(video.draw)
    length = min(snippets * int(rng.choice(RATES)), count)
    step_s = video.duration_s / count
    first = int(rng.integers(count - length + 1))
    if video.instances and rng.random() < ON_ACTION:
        chosen = video.instances[int(rng.integers(len(video.instances)))]
        middle = rng.uniform(chosen.start_s, chosen.end_s) / step_s
        first = int(np.clip(middle - rng.random() * length, 0, count - length))
    start_s, end_s = first * step_s, (first + length) * step_s
    least = step_s * length / snippets
    kept = (
        replace(item, start_s=max(item.start_s, start_s) - start_s, end_s=min(item.end_s, end_s) - start_s)
        for item in video.instances
        if min(item.end_s, end_s) - max(item.start_s, start_s) >= min(least, item.end_s - item.start_s)
    )
    hidden = ((max(low, start_s) - start_s, min(high, end_s) - start_s) for low, high in video.hidden)
    return VideoCrop(
        duration_s=end_s - start_s,
        instances=tuple(kept),
        hidden=tuple((low, high) for low, high in hidden if low < high),
        features=video.features[first : first + length],
    )
