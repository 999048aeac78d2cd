"""One loop over many videos: finding their features, timing them, detecting, collecting failures."""

from __future__ import annotations

import contextlib
import glob
import itertools
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stale_edge_runtime.decoding import enhance, fuse, localized
from stale_edge_runtime.errors import (
    BadDataError,
    InputMissingError,
    StaleEdgeError,
    StorageError,
    UnavailableError,
    UsageError,
)
from stale_edge_runtime.feature_origin import FeatureOrigin
from stale_edge_runtime.feature_scale import rescaled
from stale_edge_runtime.formats.feature_record import VideoFeatures, read_record, record_path
from stale_edge_runtime.formats.features import median_row_length, read_features
from stale_edge_runtime.formats.file_kinds import Wanted, misplaced, read_head
from stale_edge_runtime.formats.hdf5_features import FEATURES_NAME, dataset_names, read_dataset, read_video_file
from stale_edge_runtime.formats.manifests import MANIFEST_SUFFIXES, read_manifest
from stale_edge_runtime.formats.remote_files import fetched, is_url, url_name
from stale_edge_runtime.formats.video_ids import ID_RULE, IdIndex, bare_id, is_video_id, match_ids
from stale_edge_runtime.heads.registry import HEADS
from stale_edge_runtime.windows import detect_in_windows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.detector import Detector
    from stale_edge_runtime.formats.annotations import Annotations, Video
    from stale_edge_runtime.formats.external_scores import ExternalScores
    from stale_edge_runtime.formats.feature_record import FeatureRecord
    from stale_edge_runtime.isolation import IsolatedDetector
    from stale_edge_runtime.segments import FloatArray
    from stale_edge_runtime.windows import WindowPlan

HDF5_SUFFIXES: Final = (".h5", ".hdf5")
SUFFIXES: Final = (".npy", ".npz", *HDF5_SUFFIXES)
COMPANIONS: Final = ("_fps", "_timestamps_ms", "_timestamps")
"""Ends of the names of files that extractors write beside features."""
VIDEO_SUFFIXES: Final = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv", ".wmv"),
        *(".3gp", ".ogv", ".mxf", ".vob", ".h264", ".264", ".hevc", ".h265", ".265", ".ivf", ".gif"),
    }
)
"""Endings of the names of videos."""
SECONDS: Final = "seconds"
SNIPPETS: Final = "snippets"


@dataclass(frozen=True)
class VideoFile:
    """One video: its features, or the video itself."""

    video_id: str
    """Name as the annotations spell it, where they know the video; else the name without `v_`."""
    path: Path
    """The file."""
    dataset: str | None = None
    """Dataset in an HDF5 file of many videos; None where the file holds one video."""
    url: str | None = None
    """URL to fetch it from; the path is its name there. None for a file of this machine."""
    duration_s: float | None = None
    """Seconds, as a manifest tells them."""
    listed_id: str | None = None
    """Id in a manifest; None for videos that were named otherwise."""

    def __str__(self) -> str:
        return self.url or str(self.path)

    @property
    def name(self) -> str:
        """Id in a manifest, name of the dataset, or name of the file without its ending."""
        return self.listed_id or self.dataset or self.path.stem

    @property
    def length(self) -> float:
        """Length for the order of work: seconds where a manifest tells them, else bytes of the file."""
        if self.duration_s is not None:
            return self.duration_s
        with contextlib.suppress(OSError):
            return 0.0 if self.url else float(self.path.stat().st_size)
        return 0.0

    @contextlib.contextmanager
    def at_hand(self) -> Iterator[VideoFile]:
        """Give the video as a file of this machine; one that was fetched lasts as long as the block.

        Raises:
            InputMissingError: It cannot be fetched.
            UnavailableError: The packages for its kind of URL are not installed.
        """
        if self.url is None:
            yield self
            return
        beside = None if self.is_video else record_path(self.path).name
        with fetched(self.url, beside) as path:
            yield replace(self, path=path, url=None)

    @property
    def is_video(self) -> bool:
        """Tell whether it is the video itself, without features yet."""
        return self.dataset is None and self.path.suffix.lower() in VIDEO_SUFFIXES

    def record(self) -> FeatureRecord | None:
        """Read the record beside the features; None where there is none.

        Raises:
            BadDataError: It is not what it must be.
        """
        path = record_path(self.path)
        return None if self.dataset is not None or self.is_video or not path.exists() else read_record(path)

    def check_id(self) -> None:
        """Refuse a name that no video can have.

        Raises:
            BadDataError: The name is none that a video can have.
        """
        if not is_video_id(self.video_id):
            raise BadDataError(self.path, "has no name that a video can have", ID_RULE)

    def read(self, feature_dim: int | None) -> FloatArray:
        """Read the features `[snippets, feature_dim]`, checked; of any width where it is None.

        Raises:
            InputMissingError: There is no such file.
            BadDataError: The file is not what it must be, or its name is none that a video can have.
            UnavailableError: It is HDF5 and h5py is not installed.
        """
        self.check_id()
        if self.dataset is not None:
            return read_dataset(self.path, self.dataset, feature_dim)
        if self.path.suffix.lower() in HDF5_SUFFIXES:
            return read_video_file(self.path, feature_dim)
        return read_features(self.path, feature_dim)


def find_videos(
    arguments: Iterable[str],
    video_ids: Iterable[str] = (),
    note: Callable[[str], None] | None = None,
    *,
    suffixes: Collection[str] = SUFFIXES,
) -> list[VideoFile]:
    """Find the videos that the arguments name, in order of video id, or in that of a manifest.

    Args:
        arguments: Files, folders (the feature files right inside, one video each), globs, URLs, or manifests. An HDF5
            file that is named itself holds a video in each dataset, or one video in a dataset `features`.
        video_ids: Ids as the annotations spell them; see `formats.video_ids` for what matches.
        note: Called with a line about files that are passed over: what extractors write beside features, and videos
            whose features are there.
        suffixes: Endings of the files to take from folders.

    Raises:
        InputMissingError: A file is not there, a folder holds no features, a glob matches nothing.
        BadDataError: Two files are named like one video.
        UnavailableError: An HDF5 file is named and h5py is not installed.
    """
    found: dict[VideoFile, None] = {}
    arguments = list(arguments)
    for argument in arguments:
        found.update(dict.fromkeys(_expand(argument, note, suffixes)))
    spelled = match_ids((video.name for video in found), video_ids)
    named = [replace(video, video_id=spelled.get(video.name, video.video_id)) for video in found]
    kept = _without_featured(named, note)
    if not any(is_manifest(argument) for argument in arguments):
        kept = sorted(kept, key=lambda one: (one.video_id, one.path, one.dataset or ""))
    videos: dict[str, VideoFile] = {}
    for video in kept:
        other = videos.setdefault(video.video_id, video)
        if not _is_same(video, other):
            raise BadDataError(
                video.url or video.path,
                f"is named like video {video.video_id}, and so is {other.url or other.path}",
                "rename one, or name only one of them",
            )
    return list(videos.values())


def is_manifest(argument: str) -> bool:
    """Tell whether an argument names a manifest, by its ending."""
    return argument.lower().endswith(MANIFEST_SUFFIXES)


def _is_same(video: VideoFile, other: VideoFile) -> bool:
    if (video.dataset, video.url) != (other.dataset, other.url):
        return False
    return other.path == video.path or (video.path.exists() and other.path.exists() and video.path.samefile(other.path))


def _without_featured(videos: list[VideoFile], note: Callable[[str], None] | None) -> list[VideoFile]:
    """Leave out videos whose features were found as well: making them again would take minutes."""
    featured = {video.video_id for video in videos if not video.is_video}
    kept = [video for video in videos if not video.is_video or video.video_id not in featured]
    if note is not None and len(kept) < len(videos):
        note(f"{len(videos) - len(kept):,} videos are passed over for the features of them that were found")
    return kept


def _listed(manifest: Path) -> list[VideoFile]:
    """List the videos of a manifest, in its order."""
    videos = []
    for entry in read_manifest(manifest):
        video = _at_url(entry.location) if is_url(entry.location) else _one_video(manifest.parent / entry.location)
        video_id = video.video_id if entry.id is None else entry.id
        videos.append(replace(video, video_id=video_id, duration_s=entry.duration_s, listed_id=video_id))
    return videos


def _at_url(url: str) -> VideoFile:
    return replace(_one_video(Path(url_name(url))), url=url)


def _expand(argument: str, note: Callable[[str], None] | None, suffixes: Collection[str]) -> list[VideoFile]:
    if is_url(argument) and is_manifest(argument):
        with fetched(argument) as path:
            return _listed(path)
    if is_url(argument):
        return [_at_url(argument)]
    path = Path(argument)
    if is_manifest(argument) and path.is_file():
        return _listed(path)
    if path.is_dir():
        children = sorted(child for child in path.iterdir() if not child.is_dir())
        found = [child for child in children if child.suffix.lower() in suffixes]
        if not found:
            raise _none_in(path, children, suffixes)
        return [_one_video(child) for child in _without_companions(found, argument, note)]
    if path.exists():
        return _named(path)
    if any(letter in argument for letter in "*?["):
        if matches := sorted(Path(match) for match in glob.glob(argument, recursive=True)):  # noqa: PTH207 (absolute too)
            matches = [match for match in matches if not match.is_dir()]
            return [_one_video(match) for match in _without_companions(matches, argument, note)]
        raise InputMissingError(argument, "matches no file", "check the pattern")
    raise InputMissingError(path, "no such file", "check the path")


def _none_in(folder: Path, children: Sequence[Path], suffixes: Collection[str]) -> StaleEdgeError:
    """Make the error for a folder without what is wanted, which says what is there instead."""
    if not set(SUFFIXES) <= set(suffixes):
        return InputMissingError(folder, "holds no video", "name the folder right above the videos")
    for child in children:
        if not child.name.startswith(".") and (error := misplaced(child, read_head(child), Wanted.FEATURES)):
            return error
    what = ", and no video" if set(suffixes) >= VIDEO_SUFFIXES else ""
    return InputMissingError(
        folder, f"holds no .npy or .npz file and no HDF5 file{what}", "name the folder right above the features"
    )


def _without_companions(paths: list[Path], argument: str, note: Callable[[str], None] | None) -> list[Path]:
    """Leave out what extractors write beside the features of a video, where those are there too."""
    names = sorted(path.stem for path in paths)

    def is_companion(path: Path) -> bool:
        begin = next((path.stem.removesuffix(end) for end in COMPANIONS if path.stem.endswith(end)), "")
        others = names[bisect_left(names, begin) :] if begin else []
        beside = itertools.takewhile(lambda name: name.startswith(begin), others)
        return any(not name.endswith(COMPANIONS) for name in beside)

    kept = [path for path in paths if not is_companion(path)]
    if note is not None and len(kept) < len(paths):
        ends = " and ".join(end for end in COMPANIONS if any(name.endswith(end) for name in names))
        note(f"{argument}: {len(paths) - len(kept):,} files that end in {ends} are no features and were skipped")
    return kept


def _one_video(path: Path) -> VideoFile:
    return VideoFile(bare_id(path.stem), path)


def _named(path: Path) -> list[VideoFile]:
    """List the videos of a file that was named itself."""
    if path.suffix.lower() not in HDF5_SUFFIXES:
        return [_one_video(path)]
    names = dataset_names(path)
    if FEATURES_NAME in names:
        return [_one_video(path)]
    if not names:
        raise BadDataError(path, "holds no dataset", "name a file with features")
    return [VideoFile(bare_id(name), path, name) for name in names]


@dataclass(frozen=True)
class Clock:
    """Turns numbers of snippets into durations."""

    annotations: Annotations | None
    """Durations of videos, where they were given."""
    snippet_s: float | None
    """Seconds from one snippet to the next, where known."""
    recorded: bool = False
    """Whether videos tell their own length in seconds: videos themselves, and features with a record."""

    @classmethod
    def of(
        cls,
        info: ModelInfo,
        annotations: Annotations | None,
        fps: float | None,
        stride: int | None,
        videos: Sequence[VideoFile] = (),
    ) -> Clock:
        """Make a clock from options, or else from what the videos and the model say.

        Raises:
            UsageError: `--fps` without `--stride` or the other way round, or one that is not positive.
        """
        if (fps is None) != (stride is None):
            raise UsageError("--fps and --stride", "belong together", "give both, or neither")
        if fps is None or stride is None:
            recorded = any(
                video.is_video or video.url or video.duration_s or record_path(video.path).exists() for video in videos
            )
            return cls(annotations, info.snippet_seconds, recorded)
        if not 0 < fps < 1e6 or stride < 1:
            raise UsageError("--fps and --stride", f"are {fps:g} and {stride}", "give positive numbers")
        return cls(annotations, stride / fps)

    @property
    def unit(self) -> str:
        """Unit of times: seconds, or snippets where nothing tells the seconds."""
        known = self.annotations is not None or self.snippet_s is not None or self.recorded
        return SECONDS if known else SNIPPETS

    @property
    def source(self) -> str:
        """Source of times, for a note to the user."""
        if self.annotations is not None:
            return f"seconds, from {self.annotations.source}"
        if self.recorded:
            return "seconds, as the videos tell"
        if self.snippet_s is not None:
            return f"seconds, {self.snippet_s:g} per snippet"
        return "snippets: give --annotations, or --fps and --stride, to have seconds"

    def duration(self, video: VideoFile, snippets: int, record: FeatureRecord | None = None) -> float:
        """Length of a video in this clock's unit.

        Raises:
            BadDataError: The annotations do not tell it, and nothing else does.
        """
        annotated = self._annotated_video(video.video_id)
        if annotated is not None and (annotated.featured_s or annotated.duration_s):
            return float(annotated.featured_s or annotated.duration_s or 0.0)
        if self.recorded and record is not None:
            return record.duration_s
        if self.recorded and video.duration_s is not None:
            return video.duration_s
        if self.snippet_s is not None:
            return snippets * self.snippet_s
        if self.recorded:
            raise BadDataError(video.path, "has no record that tells its seconds", "give --fps and --stride as well")
        if self.annotations is not None:
            raise BadDataError(
                video.path,
                f"{self.annotations.source} has no duration of video {video.video_id}",
                "give --fps and --stride as well",
            )
        return float(snippets)

    def truth(self, video_id: str) -> Sequence[tuple[float, float, str]] | None:
        """Ground truth of a video as start, end, label; None where there is none."""
        annotated = self._annotated_video(video_id)
        return None if annotated is None else [(i.start_s, i.end_s, i.label) for i in annotated.instances]

    def _annotated_video(self, video_id: str) -> Video | None:
        known = self._index.find(video_id)
        return None if known is None else self._annotated[known]

    @cached_property
    def _annotated(self) -> dict[str, Video]:
        return {} if self.annotations is None else {video.id: video for video in self.annotations.videos}

    @cached_property
    def _index(self) -> IdIndex:
        return IdIndex(self._annotated)


@dataclass(frozen=True)
class DetectionRun:
    """Options of a run over videos."""

    detector: Detector | IsolatedDetector
    """The model, in this process or in one of its own."""
    clock: Clock
    """Turns snippets into seconds."""
    plan: WindowPlan | None = None
    """Windows; None runs every video in one piece."""
    compat: str | None = None
    """`"stale"` for the published decoding."""
    external: ExternalScores | None = None
    """External classifier for score enhancement."""
    top: int | None = None
    """Most detections of a video; all without it."""
    min_score: float = 0.0
    """Detections that score less are left out."""
    rescale_to: float | None = None
    """Median row length that the features of every video are multiplied to; None takes them as they are."""
    any_origin: bool = False
    """Take features that were made another way than those that the model learned."""

    def read(self, video: VideoFile) -> VideoFeatures:
        """Read the features of a video, checked, and rescaled where that was asked for.

        Raises:
            StaleEdgeError: They cannot be had, or were made another way than those that the model learned.
        """
        features = VideoFeatures(video.read(self.detector.info.feature_dim), video.record())
        check_record(video, features, self.detector.info, self.detector.path, any_origin=self.any_origin)
        rows = features.rows if self.rescale_to is None else rescaled(features.rows, self.rescale_to)
        return replace(features, rows=rows)

    def detect(
        self, video: VideoFile, features: VideoFeatures, after_window: Callable[[int, int], None] | None = None
    ) -> list[Detection]:
        """Detections of one video, best first.

        Args:
            video: The video.
            features: Features that `read` gave.
            after_window: Called with the first snippet and one past the last of every window that is done.

        Raises:
            BadDataError: The features do not fit the model or the memory that is allowed, or the clock has no
                duration for them.
        """
        duration = self.clock.duration(video, len(features.rows), features.record)
        if self.plan is None:
            found = self.detect_piece(features.rows, duration)
        else:
            found = detect_in_windows(
                self.detect_piece, features.rows, self.plan, duration_s=duration, after_window=after_window
            )
        return self.select(self._enhance(video.video_id, found))

    def detect_piece(self, features: FloatArray, duration: float) -> list[Detection]:
        """Detections of a video or a window of one, before enhancement and selection."""
        return self.detector.detect(features, duration, compat=self.compat)

    def select(self, found: Sequence[Detection]) -> list[Detection]:
        """Select the detections that `top` and `min_score` leave."""
        return [d for d in found if d.score >= self.min_score][: self.top]

    def _enhance(self, video_id: str, found: list[Detection]) -> list[Detection]:
        ranking = () if self.external is None else self.external.ranking(video_id)
        if self.external is not None and self.detector.is_class_agnostic:
            if not ranking:
                problem = "is not in the external scores, and the model takes its classes from them"
                raise BadDataError(f"video {video_id}", problem, "add it, or give --text-embeddings and --classes")
            return fuse(found, ranking)
        if ranking and HEADS[self.detector.info.network].localizes:
            return fuse(localized(found), ranking)
        return enhance(found, *ranking[0], unique=self.compat is None) if ranking else found


@dataclass
class Outcome:
    """Result of a run over many videos."""

    results: dict[str, list[Detection]] = field(default_factory=dict)
    """Detections of every video that could be used."""
    lengths: dict[str, float] = field(default_factory=dict)
    """Length of each of them, in the clock's unit."""
    row_lengths: dict[str, float] = field(default_factory=dict)
    """Median length of the rows of features of each of them."""
    failures: list[tuple[VideoFile, StaleEdgeError]] = field(default_factory=list)
    """The others, and why."""

    def with_failures_of(self, other: Outcome) -> Outcome:
        """Keep the videos that both could use, and each failure once."""
        results = {video: found for video, found in self.results.items() if video in other.results}
        known = {str(error) for _, error in self.failures}
        new = [(video, error) for video, error in other.failures if str(error) not in known]
        return Outcome(results, self.lengths, self.row_lengths, self.failures + new)


def check_record(
    video: VideoFile, features: VideoFeatures, info: ModelInfo, model: Path, *, any_origin: bool = False
) -> None:
    """Refuse features whose record says that they are others than a model learned, or whose record is of others.

    Raises:
        BadDataError: The message says how they differ.
    """
    record = features.record
    if record is None:
        return
    if record.rows != len(features.rows):
        problem = f"is of {record.rows:,} rows, and the features have {len(features.rows):,}"
        raise BadDataError(record_path(video.path), problem, "make the features again, or remove the record")
    learned = FeatureOrigin.of(info)
    if not any_origin and (difference := learned.difference(record.origin)):
        step = f" --step {learned.step_s:g}" if learned.step_s else ""
        cure = f"make them as the model learned them (`stale-edge features{step}`), or use --any-features"
        raise BadDataError(video.path, f"features {difference}, as {model} learned them", cure)


def run_all(
    run: DetectionRun,
    videos: Sequence[VideoFile],
    progress: Callable[[str], None] | None = None,
    after_window: Callable[[int, int], None] | None = None,
    read: Callable[[VideoFile], VideoFeatures] | None = None,
) -> Outcome:
    """Detect in every video, in the order given; a failure of one is kept in the outcome.

    Args:
        run: Model and options.
        videos: Videos of `find_videos`.
        progress: Called with the id of every video that is done or failed.
        after_window: Called with the first snippet and one past the last of every window that is done.
        read: Gives the features of a video; `DetectionRun.read` by default.
    """
    outcome = Outcome()
    for video in videos:
        try:
            with video.at_hand() as file:
                features = (read or run.read)(file)
            found = run.detect(video, features, after_window)
            outcome.lengths[video.video_id] = run.clock.duration(video, len(features.rows), features.record)
            outcome.row_lengths[video.video_id] = median_row_length(features.rows)
            outcome.results[video.video_id] = found
        except (BadDataError, InputMissingError, StorageError, UnavailableError) as error:
            outcome.failures.append((video, _naming(video, error)))
        except MemoryError:
            problem = BadDataError(video.path, "needs more memory than there is", "run it in windows with --window")
            outcome.failures.append((video, problem))
        if progress is not None:
            progress(video.video_id)
    return outcome


def _naming(video: VideoFile, error: StaleEdgeError) -> StaleEdgeError:
    """Repeat an error, naming the file where it named an array."""
    if StaleEdgeError(video.path, "").subject in str(error):  # as messages write it
        return error
    return type(error)(video.path, f"{error.subject} {error.problem}", error.cure)
