"""Videos to train on, from annotations and feature files or from anything else, and batches of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from stale_edge.data.feature_store import FeatureStore, find_feature_files
from stale_edge.data.selection import class_names, select, training_subset
from stale_edge.data.splits import hold_out
from stale_edge_runtime.contract import ACTION
from stale_edge_runtime.errors import BadDataError, InputMissingError, UsageError
from stale_edge_runtime.feature_origin import FeatureOrigin, common_origin
from stale_edge_runtime.formats.annotations import read_annotations
from stale_edge_runtime.formats.class_list import read_class_list
from stale_edge_runtime.formats.features import median_row_length

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import torch
    from torch import Tensor

    from stale_edge.data.selection import LabelledVideo
    from stale_edge.networks.base import BatchTargets, NetworkSpec
    from stale_edge_runtime.corpus import VideoFile
    from stale_edge_runtime.errors import StaleEdgeError
    from stale_edge_runtime.formats.annotations import Instance

MEASURED_VIDEOS: Final = 32


@dataclass(frozen=True)
class TrainingVideo:
    """Features of one video and what happens in it."""

    id: str
    """Name of the video."""
    duration_s: float
    """Seconds that the features cover."""
    instances: tuple[Instance, ...]
    """Actions of the video; all of classes that may be taught."""
    features: np.ndarray
    """float32 [T, D], T free."""
    hidden: tuple[tuple[float, float], ...] = ()
    """Seconds in which actions of other classes happen: taught neither as action nor as background."""
    draw: tuple[int, ...] = ()
    """Seed of random choices about this showing of the video."""


class VideoSource(Protocol):
    """Videos to train on: real ones, or a world that draws them."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that are taught; their order is the order of the targets."""

    def __len__(self) -> int:
        """Videos in an epoch."""

    def video(self, index: int, epoch: int) -> TrainingVideo:
        """Read one video.

        Args:
            index: 0 … len - 1.
            epoch: An endless source draws other videos for each, always the same for the same; a fixed one ignores it.
        """


@dataclass(frozen=True)
class Batch:
    """Input of one training step."""

    features: Tensor
    """float32 [B, T, D], every video at the training length."""
    lengths: Tensor
    """int64 [B], true snippets of each; what follows is padding."""
    targets: BatchTargets
    """Targets of the videos."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Move to another device."""
        moved = self.features.to(device, non_blocking=non_blocking)
        lengths = self.lengths.to(device, non_blocking=non_blocking)
        return Batch(moved, lengths, self.targets.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Move to pinned memory; a DataLoader calls this."""
        return Batch(self.features.pin_memory(), self.lengths.pin_memory(), self.targets.pin_memory())


def collate(
    videos: Sequence[TrainingVideo],
    classes: tuple[str, ...],
    network: NetworkSpec,
    config: Any,
    *,
    compat: str | None = None,
) -> Batch:
    """Make a batch of videos of any lengths.

    Args:
        videos: One video or more, all of one feature width.
        classes: Names of the classes; their order is the order of the targets.
        network: Network that is trained.
        config: Configuration of the network.
        compat: Published behaviour to follow, as `"stale"`.

    Raises:
        KeyError: A video has an instance of another class.
    """
    index = {name: position for position, name in enumerate(classes)}
    return Batch(*network.collate(videos, index, config, compat))


class OneClass:
    """Videos whose actions are all of one class; for a network that tells when and not what.

    Args:
        source: The videos with their own classes.
    """

    classes = (ACTION,)

    def __init__(self, source: VideoSource) -> None:
        self._source = source
        self.left_out: Mapping[str, int] = getattr(source, "left_out", {})

    def __len__(self) -> int:
        return len(self._source)

    def video(self, index: int, epoch: int) -> TrainingVideo:
        """Read one video; see `VideoSource`."""
        video = self._source.video(index, epoch)
        return replace(video, instances=tuple(replace(item, label=ACTION) for item in video.instances))


class AnnotatedFeatures:
    """Annotated videos with a folder of features; a fixed `VideoSource`.

    Labels that are not to be learned never leave this class: a video keeps only start and end of an instance whose
    class is not in `classes` (the unseen classes of the open set), without its label. Snippets there are taught neither
    as an action nor as background. Teaching them as background would train the network to reject the classes it is
    tested on; `compat="stale"` does so, as published.

    Args:
        videos: Videos, and the index of the features of each in the store.
        classes: Names of the classes that are taught.
        store: Features of the videos.
        left_out: Number of entries left out before, by reason.
        snippet_s: Seconds from one snippet to the next, for videos of unknown duration.
        bad_files: Faults of feature files that were left out, a line each.
        feature_norm: Median length of the features' rows; None where it was not measured.
        origin: The way the features were made, where their records tell.
    """

    def __init__(
        self,
        videos: Sequence[tuple[LabelledVideo, int]],
        classes: tuple[str, ...],
        store: FeatureStore,
        left_out: Mapping[str, int],
        *,
        snippet_s: float | None = None,
        bad_files: Sequence[str] = (),
        feature_norm: float | None = None,
        origin: FeatureOrigin | None = None,
    ) -> None:
        self.classes = classes
        self.origin = origin or FeatureOrigin()
        self.bad_files = tuple(bad_files)
        self.feature_norm = feature_norm
        self.left_out: Mapping[str, int] = MappingProxyType(dict(left_out))
        self._videos = tuple(videos)
        self._store = store
        self._snippet_s = snippet_s

    @classmethod
    def open(
        cls,
        annotations: Path,
        features: Path,
        *,
        numbered_classes: Path | None = None,
        split: Path | None = None,
        subset: str | None = None,
        fraction: float = 1.0,
        seed: int = 0,
        compat: str | None = None,
        feature_dim: int = 512,
        length: int | None = 100,
        snippet_s: float | None = None,
        cache_mb: float = 2048.0,
    ) -> AnnotatedFeatures:
        """Find the videos of a subset that can be trained on; every feature file is read once.

        Videos whose feature file cannot be used are left out and counted, unless they are most of them.

        Args:
            annotations: Ground truth in any form that `read_annotations` knows.
            features: Folder of feature files, or one HDF5 file with a dataset for every video.
            numbered_classes: Names of the classes, for annotations that number them.
            split: List of the classes to teach; by default all.
            subset: Subset to take, by its name in the annotations; by default the one that is usual for training.
            fraction: Share of the videos to sample.
            seed: Seed of that sample.
            compat: `"stale"` chooses instances as published.
            feature_dim: Width D of the features.
            length: Training length that features are resized to; None keeps them as they are.
            snippet_s: Seconds from one snippet to the next, for videos of unknown duration.
            cache_mb: Memory for features that were read.

        Raises:
            InputMissingError: A file or folder is missing.
            BadDataError: A file is not what it must be, most feature files cannot be used, or nothing is left to train
                on.
            UsageError: There is no such subset, or the fraction is not in (0, 1].
        """
        everything = read_annotations(annotations, class_names=numbered_classes)
        classes = read_class_list(split) if split else class_names(everything, annotations)
        subset = subset or training_subset(everything)
        selection = select(everything.subset(subset), classes if split else None, compat=compat)
        files = find_feature_files(features, [video.id for video in selection.videos])
        selection = selection.with_features(files)
        if snippet_s is None:
            selection = selection.with_duration()
        selection = selection.sampled(fraction, seed)
        videos = selection.videos
        found = [files[video.id] for video in videos]
        store = FeatureStore(found, feature_dim, length=length, cache_mb=cache_mb)
        lengths, bad = _open_all(store)
        if 2 * len(bad) > len(videos):
            problem = (
                f"{len(bad):,} of {len(videos):,} feature files cannot be used; the first: {next(iter(bad.values()))}"
            )
            raise BadDataError(features, problem) from next(iter(bad.values()))
        selection = selection.without_bad_features({videos[index].id for index in bad})
        unusable = {kind: item.count for kind, item in everything.left_out.items()}
        left_out = {**unusable, **selection.left_out}
        if not videos:
            told = "; ".join(f"{count:,} {reason}" for reason, count in left_out.items())
            raise BadDataError(annotations, f"leaves nothing of subset {subset} to train on", told)
        return cls(
            [(video, index) for index, video in enumerate(videos) if index not in bad],
            classes,
            store,
            left_out,
            snippet_s=snippet_s,
            bad_files=[str(error) for error in bad.values()],
            feature_norm=float(np.median(lengths)),
            origin=_origin_of(file for index, file in enumerate(found) if index not in bad),
        )

    @property
    def labelled(self) -> tuple[LabelledVideo, ...]:
        """Annotations of each video that are taught."""
        return tuple(video for video, _ in self._videos)

    def __len__(self) -> int:
        return len(self._videos)

    def video(self, index: int, epoch: int) -> TrainingVideo:
        """Read one video, its features resized to the training length; every epoch has the same.

        Raises:
            InputMissingError: Its feature file is gone.
            BadDataError: Its feature file is not what it must be.
        """
        del epoch
        chosen, place = self._videos[index]
        stored, duration_s = self._store.read(place), chosen.duration_s
        if duration_s is None:
            if self._snippet_s is None:
                raise BadDataError(chosen.id, "has no duration in the annotations", "give the seconds of a snippet")
            duration_s = stored.snippets * self._snippet_s
        return TrainingVideo(chosen.id, duration_s, chosen.instances, stored.features, chosen.hidden)

    def hold_out(
        self, share: float, seed: int, option: str = "--held-out"
    ) -> tuple[AnnotatedFeatures, AnnotatedFeatures]:
        """Set a share of the videos aside, to choose the best checkpoint by or for another purpose.

        Args:
            share: Share of the videos, in [0, 1); 0 sets none aside.
            seed: Seed of the choice.
            option: Option that asks for it, for the message.

        Returns:
            Videos to train on, with every class that all of them have, and videos held out. Both share one cache.

        Raises:
            UsageError: The share is not in [0, 1), or no video can be spared.
        """
        if share == 0:
            return self, self._part(frozenset())
        kept = frozenset(hold_out([video for video, _ in self._videos], share, seed))
        if len(kept) == len(self):
            raise UsageError(
                option,
                f"leaves no video to hold out: {len(self):,} videos, and every class keeps one in training",
                f"annotate second videos of classes, or more; or set none aside with {option} 0",
            )
        return self._part(kept), self._part(frozenset(range(len(self))) - kept)

    def _part(self, indices: frozenset[int]) -> AnnotatedFeatures:
        part = [self._videos[index] for index in sorted(indices)]
        return AnnotatedFeatures(
            part,
            self.classes,
            self._store,
            self.left_out,
            snippet_s=self._snippet_s,
            bad_files=self.bad_files,
            feature_norm=self.feature_norm,
            origin=self.origin,
        )


def _origin_of(files: Iterable[VideoFile]) -> FeatureOrigin:
    """Find out from the records beside feature files how they were made; nothing where one has none.

    Raises:
        BadDataError: They were made in different ways, or a record is not what it must be.
    """
    records = [(file, file.record()) for file in files]
    known = [(file, record.origin) for file, record in records if record is not None]
    for file, origin in known[1:]:
        first, expected = known[0]
        # Steps may differ: networks that resize every video learn none.
        if difference := replace(expected, step_s=None).difference(origin):
            cure = "make all of them the same way with `stale-edge features`"
            raise BadDataError(file.path, f"features {difference}, as those of {first.path}", cure)
    return common_origin(origin for _, origin in known) if len(known) == len(records) else FeatureOrigin()


def feature_norm_of(source: VideoSource) -> float:
    """Measure the median length of the rows of features of videos.

    Args:
        source: Videos; of those that know it, all count, and of others the first `MEASURED_VIDEOS`.
    """
    known: float | None = getattr(source, "feature_norm", None)
    if known is not None:
        return known
    first = range(min(len(source), MEASURED_VIDEOS))
    return float(np.median([median_row_length(source.video(index, 0).features) for index in first]))


def _open_all(store: FeatureStore) -> tuple[list[float], dict[int, StaleEdgeError]]:
    """Read all features once; give the median row length of each usable video, and errors by index."""
    lengths, bad = [], dict[int, "StaleEdgeError"]()
    for index in range(len(store)):
        try:
            lengths.append(store.open(index))
        except (BadDataError, InputMissingError) as error:
            bad[index] = error
    return lengths, bad
