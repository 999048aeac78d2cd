"""Ground truth: which actions a video holds, and from when to when.

Three forms are read (docs/protocol.md §1) and told apart by their content:

* the official ActivityNet JSON, `{"database": {id: {"subset", "duration", "annotations": […]}}}`;
* the THUMOS14 forms of the same: no duration, or segments written as strings;
* the published code's `anet_anno_action.json`, whose subsets are in `video_info_new.csv` beside it. Without that file,
  subsets are what the ids of THUMOS14 say, or all videos are one subset.

The official form is also read without its outer `database`, or under another key, and without subsets: all videos are
in one then. Where a class list names them, classes may be numbers, as in Charades' `"actions": [[class, start, end]]`.

Real annotations are dirty: segments of length zero, exact duplicates, segments that end after their video, videos
with several classes. All of these are kept as they are, because the published evaluator keeps them, and counted
by `Annotations.dirt`. An entry that no evaluator could use (a segment that ends before it starts or starts before the
video, a number that is not finite) is left out and counted by `Annotations.left_out`; a file that holds nothing else,
or names a video twice, is refused.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from stale_edge_runtime.contract import ACTION
from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.formats import files
from stale_edge_runtime.formats.class_list import is_class_name, read_class_list
from stale_edge_runtime.formats.left_out import EntryCheck, LeftOut, UnusableEntryError, written_number
from stale_edge_runtime.formats.video_ids import bare_id, check_video_id

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

MAX_ANNOTATION_BYTES: Final = 1 << 28
VIDEO_INFO_NAME: Final = "video_info_new.csv"
SUBSETS_BY_PREFERENCE: Final = ("test", "testing", "validation", "val")
"""Subsets evaluated when none is named: the first of these that has instances."""

UNNAMED_SUBSET: Final = "all"
"""Subset of videos for which no file names one."""

SIMULATED_WORLD: Final = "simulated world"
"""Words in the version of annotations that `simulate` wrote."""

AMBIGUOUS: Final = "Ambiguous"
"""Label of THUMOS14 for segments that may or may not hold an action: no class, and no false positive lies there."""

_THUMOS_ID: Final = re.compile(r"video_(test|validation)_\d{7}")
_DATABASE_CURE: Final = 'expected {"database": {id: {"subset", "annotations": [{"segment", "label"}]}}}'


@dataclass(frozen=True, slots=True)
class Instance:
    """One action in a video."""

    start_s: float
    """Start, in seconds."""
    end_s: float
    """End, in seconds; not before the start, perhaps after the video."""
    label: str
    """Class name."""


@dataclass(frozen=True, slots=True)
class Video:
    """One annotated video."""

    id: str
    """Name as the file writes it; in the published form without `v_`, which is in the way of every other source."""
    subset: str
    """Subset as the file writes it: training, Test, …"""
    duration_s: float | None
    """Length in seconds, where the file tells."""
    instances: tuple[Instance, ...]
    """Actions, in the order of the file."""
    featured_s: float | None = None
    """Seconds that the published features cover, where the file tells: a little less than the duration."""
    ambiguous: tuple[Instance, ...] = ()
    """THUMOS14's ambiguous segments, which belong to no class."""


@dataclass(frozen=True)
class Dirt:
    """Known kinds of dirt in annotations, counted."""

    zero_length: int
    """Instances that end where they start."""
    duplicates: int
    """Instances that repeat one of their video exactly."""
    past_end: int
    """Instances that end after their video."""
    several_classes: int
    """Videos with instances of more than one class."""


@dataclass(frozen=True)
class Annotations:
    """Annotated videos and where they came from."""

    source: str
    """File that they were read from, for messages."""
    videos: tuple[Video, ...]
    """The videos, in the order of the file; every id once."""
    left_out: Mapping[str, LeftOut] = field(default_factory=dict)
    """Entries that no evaluator can use, by kind."""
    notes: tuple[str, ...] = ()
    """Parts that were done without, a line each."""
    version: str = ""
    """Data set and version as the official form names them; '' where it does not."""

    def for_labels(self, labels: Collection[str]) -> Annotations:
        """Give all instances the class of detections that have no other, to judge when and not what.

        Args:
            labels: Labels of all detections that are judged.

        Returns:
            The same annotations where a detection has a class of its own.
        """
        if set(labels) != {ACTION}:
            return self
        videos = (
            replace(video, instances=tuple(replace(instance, label=ACTION) for instance in video.instances))
            for video in self.videos
        )
        return replace(self, videos=tuple(videos))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that have instances, sorted."""
        return tuple(sorted({instance.label for video in self.videos for instance in video.instances}))

    @property
    def instance_count(self) -> int:
        """Number of instances in all videos."""
        return sum(len(video.instances) for video in self.videos)

    @property
    def ambiguous_count(self) -> int:
        """Number of ambiguous segments in all videos."""
        return sum(len(video.ambiguous) for video in self.videos)

    @property
    def subsets(self) -> Mapping[str, int]:
        """Number of videos of each subset, by name as the file writes it."""
        return Counter(video.subset for video in self.videos)

    @property
    def is_simulated(self) -> bool:
        """Whether the videos are of a simulated world."""
        return SIMULATED_WORLD in self.version

    @property
    def is_thumos(self) -> bool:
        """Whether every video is named as THUMOS14 names its own."""
        return bool(self.videos) and all(_THUMOS_ID.fullmatch(video.id) for video in self.videos)

    @property
    def dirt(self) -> Dirt:
        """Known kinds of dirt, counted; the instances themselves are all kept."""
        pairs = [(video, instance) for video in self.videos for instance in video.instances]
        return Dirt(
            zero_length=sum(instance.start_s == instance.end_s for _, instance in pairs),
            duplicates=sum(len(video.instances) - len(set(video.instances)) for video in self.videos),
            past_end=sum(v.duration_s is not None and i.end_s > v.duration_s for v, i in pairs),
            several_classes=sum(len({i.label for i in v.instances}) > 1 for v in self.videos),
        )

    @property
    def wrong_unit_warning(self) -> str:
        """Warning that times are probably not in seconds, or ''.

        Real annotations let a segment end a little after its video; most instances starting after it means another
        unit, as frames or milliseconds.
        """
        timed = [(v.duration_s, i) for v in self.videos if v.duration_s is not None for i in v.instances]
        beyond = sum(instance.start_s >= duration for duration, instance in timed)
        if 2 * beyond <= len(timed):
            return ""
        return (
            f"{self.source}: {beyond:,} of {len(timed):,} instances start after the end of their video; "
            "are their times in seconds?"
        )

    def subset(self, name: str) -> Annotations:
        """Select the videos of one subset.

        Raises:
            UsageError: No video is in it; the message lists the subsets there are.
        """
        videos = tuple(video for video in self.videos if video.subset.lower() == name.lower())
        if not videos:
            listing = ", ".join(f"{found} ({count} videos)" for found, count in self.subsets.items())
            raise UsageError(self.source, f"has no subset {name!r}", f"there are: {listing or 'none'}")
        return replace(self, videos=videos)

    @property
    def default_subset(self) -> str:
        """The subset to evaluate when none is named.

        The only one with instances, or the first of `SUBSETS_BY_PREFERENCE` that has some.

        Raises:
            BadDataError: No video has an instance.
            UsageError: There are several, and none of them has such a name.
        """
        filled = sorted({video.subset for video in self.videos if video.instances})
        if not filled:
            raise BadDataError(self.source, "has no instances in any subset", "check the file")
        names = {name.lower(): name for name in filled}
        preferred = [names[name] for name in SUBSETS_BY_PREFERENCE if name in names]
        if preferred or len(names) == 1:
            return (preferred or filled)[0]
        raise UsageError(self.source, f"has several subsets: {', '.join(filled)}", "name one with --subset")

    def restricted_to(self, classes: Iterable[str]) -> Annotations:
        """Select the instances of some classes, and the videos that hold one of them (the open-set protocol)."""
        kept = frozenset(classes)
        videos = (
            replace(video, instances=tuple(i for i in video.instances if i.label in kept)) for video in self.videos
        )
        return replace(self, videos=tuple(video for video in videos if video.instances))


def read_annotations(
    path: Path, *, video_info: Path | None = None, class_names: Path | None = None, strict: bool = False
) -> Annotations:
    """Read ground truth in any of the forms above.

    Args:
        path: The JSON file.
        video_info: The CSV that names the subsets of `anet_anno_action.json`; beside it when not given.
        class_names: Class list for a file that numbers its classes, from 0.
        strict: Refuse the file at the first entry that no evaluator can use, instead of leaving it out.

    Raises:
        InputMissingError: There is no such file, or none where `video_info` or `class_names` was given.
        BadDataError: The content is in none of the forms; the message names the video and the instance.
    """
    content = files.read_json(path, limit=MAX_ANNOTATION_BYTES, finite=False)
    names = None if class_names is None else read_class_list(class_names)
    check = EntryCheck(strict=strict)
    if not isinstance(content, dict) or not content:
        raise BadDataError(path, "holds no annotations", _DATABASE_CURE)
    if "database" not in content and _is_published_form(content):
        return _read_published(path, content, video_info, names, check)
    database = _database(content)
    if database is None:
        raise BadDataError(path, "has no videos under 'database'", _DATABASE_CURE)
    notes: tuple[str, ...] = ()
    if not any(isinstance(entry, dict) and "subset" in entry for entry in database.values()):
        subsets = {video: _subset_by_id(video) for video in database}
        database = {
            video: {**entry, "subset": subsets[video]} if isinstance(entry, dict) else entry
            for video, entry in database.items()
        }
        notes = (_no_subsets_note(path, "it names no subsets", subsets),)
    videos = tuple(_official_video(_Place(path, video, names), entry, check) for video, entry in database.items())
    version = content.get("version")
    named = version if _is_name(version) else ""
    found = Annotations(str(path), videos, check.finish(), notes, named)
    return replace(found, videos=tuple(map(_ambiguous_apart, videos))) if found.is_thumos else found


def _database(content: dict[str, Any]) -> dict[str, Any] | None:
    """Find the videos of a file: under `database`, or right in it, or under the only other key that holds some."""
    if "database" in content:
        database = content["database"]
        return database if isinstance(database, dict) and database else None
    candidates = [content, *content.values()]
    found = [one for one in candidates if isinstance(one, dict) and one and all(map(_is_official_entry, one.values()))]
    return found[0] if len(found) == 1 else None


def _is_official_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and ("annotations" in entry or "actions" in entry)


def _ambiguous_apart(video: Video) -> Video:
    sure = tuple(instance for instance in video.instances if instance.label != AMBIGUOUS)
    ambiguous = tuple(instance for instance in video.instances if instance.label == AMBIGUOUS)
    return replace(video, instances=sure, ambiguous=ambiguous)


@dataclass(frozen=True, slots=True)
class _Place:
    """Position of a value in a file, for error messages."""

    path: Path
    video: str
    names: tuple[str, ...] | None = None
    """Names of the classes that the file numbers."""

    def error(self, problem: str, cure: str = "") -> BadDataError:
        return BadDataError(self.path, f"video {self.video[:128]} {problem}", cure)

    def unusable(self, kind: str, problem: str, cure: str = "") -> UnusableEntryError:
        return UnusableEntryError(kind, self.path, f"video {self.video[:128]} {problem}", cure)


def _is_published_form(content: dict[str, Any]) -> bool:
    first = next(iter(content.values()))
    return isinstance(first, dict) and "duration_second" in first


def _official_video(place: _Place, entry: Any, check: EntryCheck) -> Video:
    if not isinstance(entry, dict):
        raise place.error("is not an object", _DATABASE_CURE)
    subset = entry.get("subset")
    if not _is_name(subset):
        raise place.error("has no subset", _DATABASE_CURE)
    duration = None
    if entry.get("duration") is not None:
        try:
            duration = _duration(place, entry, "duration")
        except UnusableEntryError as error:
            check.leave_out(error, essential=False)
        else:
            check.use(essential=False)
    check_video_id(place.path, place.video)
    return Video(place.video, subset, duration, _instances(place, entry, check))


def _read_published(
    path: Path,
    content: dict[str, Any],
    video_info: Path | None,
    names: tuple[str, ...] | None,
    check: EntryCheck,
) -> Annotations:
    beside = path.parent / VIDEO_INFO_NAME
    notes: tuple[str, ...] = ()
    if video_info is not None or beside.exists():
        video_info = video_info or beside
        subsets = _read_subsets(video_info)
    else:
        subsets = {name: _subset_by_id(name) for name in content}
        notes = (_no_subsets_note(path, f"no {VIDEO_INFO_NAME} beside it names subsets", subsets),)
    videos: dict[str, Video] = {}
    for name, entry in content.items():
        place = _Place(path, name, names)
        if not isinstance(entry, dict):
            raise place.error("is not an object")
        if name not in subsets:
            raise place.error(f"has no line in {video_info}", "the two files belong together")
        duration = featured = None
        try:
            duration = _duration(place, entry, "duration_second")
            if entry.get("feature_frame") is not None:  # other tools write this form without it
                frames = _duration(place, entry, "duration_frame")
                featured = _duration(place, entry, "feature_frame") / frames * duration
        except UnusableEntryError as error:
            check.leave_out(error, essential=False)
        else:
            check.use(essential=False)
        check_video_id(path, name)
        bare = bare_id(name)
        if bare in videos:
            raise place.error("is there twice, with and without 'v_'", "keep one of them")
        videos[bare] = Video(bare, subsets[name], duration, _instances(place, entry, check), featured)
    found = Annotations(str(path), tuple(videos.values()), check.finish(), notes)
    return replace(found, videos=tuple(map(_ambiguous_apart, found.videos))) if found.is_thumos else found


def _subset_by_id(name: str) -> str:
    """Tell the subset from an id of THUMOS14; `UNNAMED_SUBSET` for any other."""
    thumos = _THUMOS_ID.fullmatch(bare_id(name))
    return thumos[1] if thumos else UNNAMED_SUBSET


def _no_subsets_note(path: Path, reason: str, subsets: Mapping[str, str]) -> str:
    return f"{path}: {reason}, so all videos are in: {', '.join(sorted(set(subsets.values())))}"


def _read_subsets(path: Path) -> dict[str, str]:
    """Subset of every video, from the columns `video` and `subset` of a CSV."""
    cure = "expected a CSV with the columns video and subset"
    try:
        text = files.read_bytes(path, limit=MAX_ANNOTATION_BYTES).decode("utf-8-sig")
        rows = [(row["video"], row["subset"]) for row in csv.DictReader(io.StringIO(text), strict=True)]
    except (UnicodeDecodeError, csv.Error, KeyError) as error:
        raise BadDataError(path, f"cannot be used ({error})", cure) from error
    if not all(_is_name(subset) for _, subset in rows):
        raise BadDataError(path, "has a line without a subset", cure)
    if len(subsets := dict(rows)) != len(rows):
        raise BadDataError(path, "names a video twice", "keep one line for each")
    return subsets


def _instances(place: _Place, entry: dict[str, Any], check: EntryCheck) -> tuple[Instance, ...]:
    annotations = entry.get("annotations", entry.get("actions"))
    if not isinstance(annotations, list):
        raise place.error("has no list 'annotations'", _DATABASE_CURE)
    found = []
    for index, annotation in enumerate(annotations):
        try:
            found.append(_instance(place, index, annotation))
        except UnusableEntryError as error:
            check.leave_out(error)
        else:
            check.use()
    return tuple(found)


def _instance(place: _Place, index: int, annotation: Any) -> Instance:
    try:
        if isinstance(annotation, list):  # of Charades
            label, *segment = annotation
        else:
            label, segment = annotation["label"], annotation["segment"]
        first, second = segment if isinstance(segment, list) else []
    except (KeyError, TypeError, ValueError):
        cure = 'expected {"segment": [start, end], "label": text}'
        raise place.error(f"has an annotation {index} that is not in the schema", cure) from None
    label = label.strip() if isinstance(label, str) else _named(place, index, label)
    if not _is_name(label):
        problem = f"has an annotation {index} whose label {label!r:.60} is no printable name"
        raise place.unusable("annotations whose label is no printable name", problem, "remove what cannot be seen")
    start, end = _seconds(first), _seconds(second)
    if start is None or end is None:
        problem = f"has an annotation {index} whose segment is not two finite numbers"
        raise place.unusable("segments that are not two finite numbers", problem)
    if not 0 <= start <= end:
        kind = "segments that start before the video" if start < 0 else "segments that end before they start"
        problem = f"has an annotation {index} from {start} to {end} s"
        raise place.unusable(kind, problem, "a segment starts at 0 or later and ends no earlier than it starts")
    return Instance(start, end, label)


def _named(place: _Place, index: int, label: Any) -> Any:
    """Name a class that the file numbers; anything but a number stays as it is."""
    if type(label) is not int:
        return label
    if place.names is None:
        problem = f"has an annotation {index} whose class is a number"
        cure = "name the classes with --class-names FILE, one a line, the first of them 0"
        raise place.unusable("annotations whose class is a number", problem, cure)
    if not 0 <= label < len(place.names):
        problem = f"has an annotation {index} of a class that is none of 0 to {len(place.names) - 1}"
        raise place.unusable("annotations of a class beyond the class list", problem, "complete the class list")
    return place.names[label]


def _duration(place: _Place, entry: dict[str, Any], key: str) -> float:
    value = _seconds(entry.get(key))
    if value is None or value <= 0:
        kind = f"videos whose {key} is no positive number"
        raise place.unusable(kind, f"has a {key} that is no positive number", "correct it")
    return value


def _seconds(value: Any) -> float | None:
    """Read a finite number, also one written as a string as THUMOS has them; nothing for anything else."""
    number = written_number(value)
    return number if math.isfinite(number) else None


def _is_name(value: Any) -> TypeGuard[str]:
    return type(value) is str and is_class_name(value)
