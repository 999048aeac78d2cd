"""What `detect` and `compare` take in: feature files and the clock that turns snippets into seconds."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stale_edge.cli.option_names import GROUND_TRUTH, PROVIDER
from stale_edge_runtime.errors import BadDataError, InputMissingError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.formats.annotations import Annotations, Video

SUFFIXES = (".npy", ".npz")
SECONDS = "seconds"
SNIPPETS = "snippets"

AnnotationsFile = Annotated[
    Path | None,
    typer.Option(
        *GROUND_TRUTH,
        metavar="FILE",
        help="ActivityNet or THUMOS JSON: durations of the videos, and the ground truth.",
    ),
]
Fps = Annotated[float | None, typer.Option("--fps", help="Frames per second of the videos; with --stride.")]
Stride = Annotated[int | None, typer.Option("--stride", help="Frames from one snippet to the next; with --fps.")]
Threads = Annotated[int, typer.Option("--threads", help="Processor threads.")]
Provider = Annotated[str, typer.Option(*PROVIDER, help="Device: cpu or cuda. Never another one silently.")]
Window = Annotated[
    int | None, typer.Option("--window", metavar="SNIPPETS", help="Run long videos in windows of this length.")
]
Hop = Annotated[
    int | None,
    typer.Option(
        "--hop", metavar="SNIPPETS", help="From one window's start to the next.", show_default="half a window"
    ),
]
TextEmbeddings = Annotated[
    Path | None, typer.Option(metavar="FILE.npy", help="What an open-vocabulary model looks for: classes x width.")
]
ClassNames = Annotated[Path | None, typer.Option(metavar="FILE", help="Names of these classes, one a line.")]
Top = Annotated[int | None, typer.Option("--top", min=1, help="Keep the best N detections of a video.")]
MinScore = Annotated[float, typer.Option("--min-score", help="Leave out detections that score less.")]


@dataclass(frozen=True)
class VideoFile:
    """The features of one video."""

    video_id: str
    """Name of the file without its ending and without `v_`."""
    path: Path
    """The file."""


def find_videos(arguments: Iterable[str]) -> list[VideoFile]:
    """The feature files that the arguments name, in order of video id.

    Args:
        arguments: Files, folders (the `.npy` and `.npz` files right inside), or globs.

    Raises:
        InputMissingError: A file is not there, a folder holds no features, a glob matches nothing.
        BadDataError: Two files are named like one video.
    """
    paths: dict[Path, None] = {}
    for argument in arguments:
        paths.update(dict.fromkeys(_expand(argument)))
    videos: dict[str, Path] = {}
    for path in sorted(paths):
        video_id = path.stem.removeprefix("v_")
        other = videos.setdefault(video_id, path)
        if other != path and not other.samefile(path):
            raise BadDataError(
                path, f"is named like video {video_id}, and so is {other}", "rename one, or name only one of them"
            )
    return [VideoFile(video_id, path) for video_id, path in sorted(videos.items())]


def _expand(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_dir():
        found = sorted(child for child in path.iterdir() if child.suffix.lower() in SUFFIXES)
        if not found:
            raise InputMissingError(path, "holds no .npy or .npz file", "name the folder right above the features")
        return found
    if path.exists():
        return [path]
    if any(letter in argument for letter in "*?["):
        if matches := sorted(Path(match) for match in glob.glob(argument, recursive=True)):  # noqa: PTH207 (absolute too)
            return [match for match in matches if not match.is_dir()]
        raise InputMissingError(argument, "matches no file", "check the pattern")
    raise InputMissingError(path, "no such file", "check the path")


@dataclass(frozen=True)
class Clock:
    """Turns numbers of snippets into durations."""

    annotations: Annotations | None
    """Durations of videos, where they were given."""
    snippet_s: float | None
    """Seconds from one snippet to the next, where known."""

    @classmethod
    def of(cls, info: ModelInfo, annotations: Annotations | None, fps: float | None, stride: int | None) -> Clock:
        """A clock from options, or else from what the model says.

        Raises:
            UsageError: `--fps` without `--stride` or the other way round, or one that is not positive.
        """
        if (fps is None) != (stride is None):
            raise UsageError("--fps and --stride", "belong together", "give both, or neither")
        if fps is None or stride is None:
            return cls(annotations, info.snippet_seconds)
        if not 0 < fps < 1e6 or stride < 1:
            raise UsageError("--fps and --stride", f"are {fps:g} and {stride}", "give positive numbers")
        return cls(annotations, stride / fps)

    @property
    def unit(self) -> str:
        """What times are in: seconds, or snippets where nothing tells the seconds."""
        return SECONDS if self.annotations is not None or self.snippet_s is not None else SNIPPETS

    @property
    def source(self) -> str:
        """Where times come from, for a note to the user."""
        if self.annotations is not None:
            return f"seconds, from {self.annotations.source}"
        if self.snippet_s is not None:
            return f"seconds, {self.snippet_s:g} per snippet"
        return "snippets: give --annotations, or --fps and --stride, to have seconds"

    def duration(self, video: VideoFile, snippets: int) -> float:
        """Length of a video in this clock's unit.

        Raises:
            BadDataError: The annotations do not tell it, and nothing else does.
        """
        annotated = self._annotated.get(video.video_id)
        if annotated is not None and (annotated.featured_s or annotated.duration_s):
            return float(annotated.featured_s or annotated.duration_s or 0.0)
        if self.snippet_s is not None:
            return snippets * self.snippet_s
        if self.annotations is not None:
            raise BadDataError(
                video.path,
                f"{self.annotations.source} has no duration of video {video.video_id}",
                "give --fps and --stride as well",
            )
        return float(snippets)

    def truth(self, video_id: str) -> Sequence[tuple[float, float, str]] | None:
        """Ground truth of a video as start, end, label; None where there is none."""
        annotated = self._annotated.get(video_id)
        return None if annotated is None else [(i.start_s, i.end_s, i.label) for i in annotated.instances]

    @cached_property
    def _annotated(self) -> dict[str, Video]:
        return {} if self.annotations is None else {video.id: video for video in self.annotations.videos}
