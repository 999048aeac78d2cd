"""Annotated videos as ActionFormer is trained on them: on its grid, resized or cropped, padded.

Symbols: n snippets of a video, D feature width, N segments.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import torch

from stale_edge.networks.actionformer.targets import ActionFormerTargets, level_points, video_targets
from stale_edge_runtime.resampling import resize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from stale_edge.networks.actionformer.config import ActionFormerConfig
    from stale_edge.networks.base import AnnotatedVideo

SHORTEST_S: Final = 1e-3
"""Seconds; shorter annotations are dropped, and so are repetitions within this, for ActivityNet."""
LEAST_KEPT: Final = 0.5
"""Share of a segment that a crop must keep."""
CROP_TRIES: Final = 200


@dataclass(frozen=True)
class Grid:
    """The time axis of a network: seconds = (grid + offset) · step."""

    step_s: float
    """Seconds from one snippet to the next."""
    offset: float
    """Centre of snippet 0, in snippets."""

    def positions(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give times on the grid.

        Args:
            seconds: Any shape.
        """
        return seconds / self.step_s - self.offset


class Crop(NamedTuple):
    """A piece of a video and what is left of its segments."""

    start: int
    """First snippet."""
    length: int
    """Snippets."""
    segments: NDArray[np.float64]
    """[K, 2], relative to the start."""
    kept: NDArray[np.intp]
    """Indices of these segments, [K]."""


def distinct(segments: NDArray[np.float64], labels: Sequence[int]) -> list[int]:
    """Choose the annotations to learn: not shorter than a millisecond, and not a repetition of an earlier one.

    Args:
        segments: Seconds [N, 2].
        labels: [N].

    Returns:
        Their indices.
    """
    kept: list[int] = []
    for index, (start, end) in enumerate(segments):
        repeats = (
            labels[other] == labels[index]
            and abs(segments[other, 0] - start) <= SHORTEST_S
            and abs(segments[other, 1] - end) <= SHORTEST_S
            for other in kept
        )
        if end - start >= SHORTEST_S and not any(repeats):
            kept.append(index)
    return kept


def within(segments: NDArray[np.float64], length: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Clamp segments to a resized video; drop those that lie more than half behind its end.

    Args:
        segments: Grid [N, 2].
        length: Snippets of the video.

    Returns:
        Segments [K, 2] and which these are [K].
    """
    last = length + 0.5
    share = (last - segments[:, 0]) / np.maximum(segments[:, 1] - segments[:, 0], 1e-12)
    kept = np.flatnonzero((segments[:, 0] < last) & (share >= LEAST_KEPT))
    return np.minimum(segments[kept], last), kept


def random_crop(
    length: int,
    max_length: int,
    segments: NDArray[np.float64],
    offset: float,
    shortest: float | None,
    chance: random.Random,
) -> Crop:
    """Choose a piece of a video that keeps at least half of a segment.

    Args:
        length: Snippets of the video.
        max_length: Most snippets of a piece.
        segments: Grid [N, 2].
        offset: Half the snippets that one feature row looks at.
        shortest: Shortest piece as a share of a video that fits; None takes such a video whole.
        chance: Source of the choices.
    """
    everything = np.arange(len(segments))
    if length <= max_length:
        if shortest is None:
            return Crop(0, length, segments, everything)
        wanted = chance.randint(max(round(shortest * length), 1), length)
        if wanted == length:
            return Crop(0, length, segments, everything)
    else:
        wanted = max_length
    cut, kept, start = segments, everything, 0
    for _ in range(CROP_TRIES):
        start = chance.randint(0, length - wanted)
        first, last = start - offset, start + wanted + offset
        cut = np.clip(segments, first, last)
        share = (cut[:, 1] - cut[:, 0]) / np.maximum(np.abs(segments[:, 1] - segments[:, 0]), 1e-12)
        kept = np.flatnonzero(share >= LEAST_KEPT)
        if len(kept):
            break
    return Crop(start, wanted, cut[kept] - start, kept)


def collate(
    videos: Sequence[AnnotatedVideo], classes: Mapping[str, int], config: ActionFormerConfig, compat: str | None = None
) -> tuple[Tensor, Tensor, ActionFormerTargets]:
    """Make a batch: every video resized or cropped, padded with zeros to the training length.

    Moments inside actions of hidden classes are taught neither as action nor as background.

    Returns:
        Features float32 [B, T, D], true lengths int64 [B], targets.

    Raises:
        KeyError: A video has an instance of another class.
    """
    del compat
    points = level_points(config, config.max_length)
    features = torch.zeros(len(videos), config.max_length, config.feature_dim)
    lengths = torch.zeros(len(videos), dtype=torch.int64)
    rows = []
    for index, video in enumerate(videos):
        piece = training_piece(video, classes, config)
        lengths[index] = len(piece.features)
        features[index, : len(piece.features)] = torch.from_numpy(piece.features)
        segments, labels = torch.from_numpy(piece.segments).float(), torch.tensor(piece.labels, dtype=torch.int64)
        targets = video_targets(points, segments, labels, config.classes)
        valid = points.times < len(piece.features)
        for start, end in piece.hidden:
            inside = (points.times > start) & (points.times < end)
            valid &= ~inside | (targets.classes.sum(dim=1) > 0)
        rows.append((*targets, valid))
    stacked = (torch.stack(part) for part in zip(*rows, strict=True))
    return features, lengths, ActionFormerTargets(*stacked)


class Piece(NamedTuple):
    """A video as it is taught."""

    features: NDArray[np.float32]
    """[n, D], n up to the training length."""
    segments: NDArray[np.float64]
    """Grid [N, 2]."""
    labels: list[int]
    """[N]."""
    hidden: NDArray[np.float64]
    """Grid [M, 2]: where actions of hidden classes are."""


def training_piece(video: AnnotatedVideo, classes: Mapping[str, int], config: ActionFormerConfig) -> Piece:
    """Put a video on the grid, and choose a piece of it.

    Args:
        video: The video.
        classes: Index of each class.
        config: Sizes.

    Raises:
        KeyError: It has an instance of another class.
    """
    features = resize(video.features, config.max_length) if config.resized else video.features
    length = len(features)
    grid = Grid(video.duration_s / length, config.offset)
    seconds = np.array([(item.start_s, item.end_s) for item in video.instances], dtype=np.float64).reshape(-1, 2)
    labels = [classes[item.label] for item in video.instances]
    if config.resized:
        chosen = distinct(seconds, labels)
        segments, kept = within(grid.positions(seconds[chosen]), length)
        labels = [labels[chosen[index]] for index in kept]
    else:
        segments = grid.positions(seconds)
    chance = random.Random(repr((video.draw, length)))  # noqa: S311 (not for secrets)
    crop = random_crop(length, config.max_length, segments, config.offset, config.shortest_crop, chance)
    hidden = grid.positions(np.array(video.hidden, dtype=np.float64).reshape(-1, 2)) - crop.start
    piece = np.ascontiguousarray(features[crop.start : crop.start + crop.length], dtype=np.float32)
    return Piece(piece, crop.segments, [labels[index] for index in crop.kept], hidden)
