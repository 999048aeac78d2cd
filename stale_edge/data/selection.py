"""Selection of the videos and instances that are taught, with reasons why the others are not.

By default every instance of every class asked for is taught, and whatever is left out is counted by reason.
`compat="stale"` chooses as the published code does: of each video only the last instance counts, and a video is
dropped when that one is shorter than 6 % of it.

Source: docs/protocol.md §1.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from stale_edge.data.splits import sample
from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.formats.annotations import MAX_ANNOTATION_BYTES, UNNAMED_SUBSET
from stale_edge_runtime.formats.files import read_bytes

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from stale_edge_runtime.formats.annotations import Annotations, Instance, Video

ACTION_NAMES: Final = "action_name.csv"
COMPAT_MIN_SHARE: Final = 0.06
TRAINING_SUBSETS: Final = ("training", "train", "validation")
"""Validation is what THUMOS14 is trained on: its training videos are trimmed."""


class Reason(StrEnum):
    """Reason to leave something out; the first word says what is counted."""

    NO_INSTANCE = "videos without an instance"
    OTHER_CLASSES = "instances of other classes"
    NO_CLASS = "videos without an instance of the classes"
    AFTER_END = "instances that start after their video"
    ALL_AFTER_END = "videos all of whose instances start after them"
    NOT_LAST = "instances before the last one of their video"
    TOO_SHORT = "videos whose last instance is shorter than 6 % of them"
    NO_DURATION = "videos of unknown duration"
    NO_FEATURES = "videos without a feature file"
    BAD_FEATURES = "videos whose feature file cannot be used"
    NOT_SAMPLED = "videos outside the sampled fraction"


@dataclass(frozen=True, slots=True)
class LabelledVideo:
    """A video and what of it is taught."""

    id: str
    """Name as the annotations spell it."""
    duration_s: float | None
    """Seconds that the features cover, where known; else of the video; none where the file does not tell."""
    instances: tuple[Instance, ...]
    """Instances, at least one."""
    hidden: tuple[tuple[float, float], ...] = ()
    """Start and end, in seconds, of instances of other classes; never their labels."""


@dataclass(frozen=True)
class Selection:
    """Videos that are taught, and a count of what is not."""

    videos: list[LabelledVideo] = field(default_factory=list)
    """Videos in the order of the annotations."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Number of videos or instances left out, by reason; no zeros."""

    @property
    def instance_count(self) -> int:
        """Number of instances that are taught."""
        return sum(len(video.instances) for video in self.videos)

    def with_features(self, video_ids: Collection[str]) -> Selection:
        """Keep only the videos that have features."""
        return self._only([video for video in self.videos if video.id in video_ids], Reason.NO_FEATURES)

    def without_bad_features(self, video_ids: Collection[str]) -> Selection:
        """Keep only the videos whose features can be used."""
        return self._only([video for video in self.videos if video.id not in video_ids], Reason.BAD_FEATURES)

    def with_duration(self) -> Selection:
        """Keep only the videos of known duration."""
        return self._only([video for video in self.videos if video.duration_s is not None], Reason.NO_DURATION)

    def sampled(self, fraction: float, seed: int) -> Selection:
        """Draw a random fraction of the videos that keeps every class; see `splits.sample`.

        Args:
            fraction: Share of the videos, in (0, 1].
            seed: Seed of the choice.

        Raises:
            UsageError: The fraction is not in (0, 1].
        """
        return self._only([self.videos[index] for index in sample(self.videos, fraction, seed)], Reason.NOT_SAMPLED)

    def _only(self, videos: list[LabelledVideo], reason: Reason) -> Selection:
        lost = Counter({str(reason): len(self.videos) - len(videos)})
        return Selection(videos, self.left_out + lost)


def select(annotations: Annotations, classes: Collection[str] | None, *, compat: str | None = None) -> Selection:
    """Choose what is taught.

    Args:
        annotations: Videos of one subset.
        classes: Names of the classes to teach; all when not given.
        compat: `"stale"` chooses as published.

    Raises:
        UsageError: Another `compat` than `"stale"`.
    """
    if compat not in {None, "stale"}:
        raise UsageError("compat", f"is {compat!r}", "there is only 'stale'")
    choose = _choose_published if compat else _choose
    wanted = frozenset(classes if classes is not None else annotations.classes)
    selection = Selection()
    for video in annotations.videos:
        if not video.instances:
            selection.left_out[Reason.NO_INSTANCE] += 1
        elif chosen := choose(video, wanted, selection.left_out):
            selection.videos.append(chosen)
    return Selection(selection.videos, +selection.left_out)


def training_subset(annotations: Annotations) -> str:
    """Choose the subset to train on when none is named: the first of `TRAINING_SUBSETS` that has instances.

    Where the file names no subset it is the one of all videos.

    Raises:
        UsageError: None of them has; the message lists the subsets there are.
    """
    filled = {video.subset.lower(): video.subset for video in annotations.videos if video.instances}
    for name in (*TRAINING_SUBSETS, *([UNNAMED_SUBSET] if len(filled) == 1 else [])):
        if name in filled:
            return filled[name]
    listing = ", ".join(sorted(filled.values())) or "none"
    raise UsageError(annotations.source, "has no subset that is usual for training", f"with instances: {listing}")


def class_names(annotations: Annotations, path: Path, action_names: Path | None = None) -> tuple[str, ...]:
    """Names of all classes of a data set, also of those without an instance.

    Args:
        annotations: All of its videos.
        path: File that they were read from.
        action_names: CSV with a column `action`. Annotations in the published form have theirs beside them, in
            `action_name.csv`; where there is none, and for other forms, the names are those of the instances, sorted.

    Raises:
        InputMissingError: There is no such CSV.
        BadDataError: It has no such column, repeats a name, or lacks a class that has instances.
    """
    published = any(video.featured_s is not None for video in annotations.videos)
    beside = path.parent / ACTION_NAMES
    if action_names is None and not (published and beside.is_file()):
        return annotations.classes
    source = action_names or beside
    try:
        text = read_bytes(source, limit=MAX_ANNOTATION_BYTES).decode("utf-8-sig")
        names = tuple(row["action"] for row in csv.DictReader(io.StringIO(text), strict=True))
    except (UnicodeDecodeError, csv.Error, KeyError) as error:
        raise BadDataError(source, f"cannot be used ({error})", "expected a CSV with the column action") from error
    if len(set(names)) != len(names):
        raise BadDataError(source, "names a class twice", "keep one line for each")
    if absent := sorted(set(annotations.classes) - set(names)):
        raise BadDataError(source, f"lacks {absent[0]!r}, a class of {path}", "the two files belong together")
    return names


def _choose(video: Video, wanted: frozenset[str], left_out: Counter[str]) -> LabelledVideo | None:
    inside = [i for i in video.instances if video.duration_s is None or i.start_s < video.duration_s]
    kept = tuple(instance for instance in inside if instance.label in wanted)
    others = tuple((i.start_s, i.end_s) for i in inside if i.label not in wanted)
    left_out[Reason.AFTER_END] += len(video.instances) - len(inside)
    left_out[Reason.OTHER_CLASSES] += len(others)
    if not kept:
        left_out[Reason.NO_CLASS if others else Reason.ALL_AFTER_END] += 1
        return None
    return LabelledVideo(video.id, video.featured_s or video.duration_s, kept, others)


def _choose_published(video: Video, wanted: frozenset[str], left_out: Counter[str]) -> LabelledVideo | None:
    last = video.instances[-1]
    left_out[Reason.NOT_LAST] += len(video.instances) - 1
    if last.label not in wanted:
        left_out[Reason.OTHER_CLASSES] += 1
        left_out[Reason.NO_CLASS] += 1
        return None
    if video.duration_s is None:
        left_out[Reason.NO_DURATION] += 1
        return None
    if last.end_s - last.start_s < COMPAT_MIN_SHARE * video.duration_s:
        left_out[Reason.TOO_SHORT] += 1
        return None
    return LabelledVideo(video.id, video.featured_s or video.duration_s, (last,))
