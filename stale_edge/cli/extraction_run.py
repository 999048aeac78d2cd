"""Progress and messages of making the features of many videos."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stale_edge import __version__
from stale_edge.cli.frames import MAX_MEGAPIXELS, PUBLISHED_STEP_S, feature_settings
from stale_edge.cli.interrupt import prompt_interrupt
from stale_edge_runtime.errors import StaleEdgeError
from stale_edge_runtime.formats.files import make_folder
from stale_edge_runtime.jobs import Progress, run_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stale_edge.cli.console import Reporter
    from stale_edge.cli.towers import TowerFile
    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.corpus import VideoFile
    from stale_edge_runtime.jobs import Engine, Result
    from stale_edge_runtime.video.features import ExtractionJob, FeatureSettings

FAILURES = "failures.jsonl"
STEPS_OF_A_VIDEO = 100
"""Steps of the progress bar for one video, where there are few."""
MAX_STEPS = 100_000
"""Steps of the progress bar for all videos, unless there are more of them."""


@dataclass
class Extraction:
    """Result of making features."""

    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Records of the features that were made, by the file of the features."""
    skipped: list[str] = field(default_factory=list)
    """Feature files that were there already, made the same way."""
    featured: list[VideoFile] = field(default_factory=list)
    """Videos that have features now, each with the file of its features."""
    failures: list[tuple[VideoFile, StaleEdgeError]] = field(default_factory=list)
    """Videos that could not be used, and why."""


@dataclass(frozen=True)
class FrameOptions:
    """Options of `detect` for the videos among its inputs."""

    image_tower: Path | None = None
    """File of the image tower; found beside the model without."""
    step_s: float | None = None
    """Seconds from one row to the next; what the model learned without."""
    approximate: tuple[str, ...] = ()
    """Modes that are faster and not exact."""
    frame_rate: float | None = None
    """Frames per second of videos that hold no times."""
    rotate: bool = True
    """Turn frames upright."""
    max_megapixels: float = MAX_MEGAPIXELS
    """Largest frames, in millions of pixels."""
    keep: Path | None = None
    """Folder to keep features in."""
    engine: Engine = field(default_factory=lambda: partial(run_jobs, jobs=1))
    """Processes that read videos."""
    threads: int = 1
    """Threads of the tower in each of them."""
    provider: str = "cpu"
    """Device that the tower runs on."""


@contextlib.contextmanager
def featured(
    videos: Sequence[VideoFile], info: ModelInfo, model: Path, options: FrameOptions, reporter: Reporter
) -> Iterator[Extraction]:
    """Make the features of those that are videos among the inputs of a model; they last as long as the block.

    Yields:
        All inputs with their features, in their order, and failures.
    """
    todo = [video for video in videos if video.is_video]
    if not todo:
        yield Extraction(featured=list(videos))
        return
    settings = settings_for(info, options, resized=info.resize_to)
    tower = tower_for(info, model, options)
    with contextlib.ExitStack() as stack:
        if options.keep is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stale-edge-")))
        else:
            folder = options.keep
            make_folder(folder)
        made = make_features(
            todo,
            folder,
            tower,
            settings,
            reporter,
            engine=options.engine,
            threads=options.threads,
            provider=options.provider,
        )
        ready = {video.video_id: video for video in made.featured}
        inputs = [ready.get(video.video_id) if video.is_video else video for video in videos]
        yield replace(made, featured=[video for video in inputs if video is not None])


def tower_for(info: ModelInfo, model: Path, options: FrameOptions) -> TowerFile:
    """Find the image tower for a model: the one that was named, or one with the weights that it learned with.

    Raises:
        StaleEdgeError: There is none, or it cannot be used.
    """
    from stale_edge.cli.towers import find_image_tower

    return find_image_tower(options.image_tower, [model.parent], sha256=info.tower_sha256)


def settings_for(info: ModelInfo, options: FrameOptions, *, resized: int = 0) -> FeatureSettings:
    """Choose how to make features for a model: at the step that it learned, or only the rows that it reads."""
    step = options.step_s or info.snippet_seconds or (PUBLISHED_STEP_S if resized else None)
    return feature_settings(
        step,
        frame_rate=options.frame_rate,
        approximate=options.approximate,
        rotate=options.rotate,
        max_megapixels=options.max_megapixels,
        positions=resized,
    )


def make_features(
    videos: Sequence[VideoFile],
    folder: Path,
    tower: TowerFile,
    settings: FeatureSettings,
    reporter: Reporter,
    *,
    engine: Engine,
    threads: int = 1,
    provider: str = "cpu",
    force: bool = False,
) -> Extraction:
    """Make the features of videos, in processes of their own, longest first, and show progress.

    Returns:
        Records, videos and failures in the order of the videos.
    """
    from stale_edge_runtime.formats.sole_writer import sole_writer
    from stale_edge_runtime.jobs import longest_first
    from stale_edge_runtime.video.features import ExtractionJob, extraction_task, is_made, made_origin

    result = Extraction()
    created_by = f"stale-edge {__version__}"
    origin = made_origin(tower.info, settings)
    todo: list[tuple[VideoFile, ExtractionJob]] = []
    places = {video.video_id: place for place, video in enumerate(videos)}
    for video in videos:
        job = ExtractionJob(video.path.absolute(), (folder / f"{video.video_id}.npy").absolute(), video.url)
        try:
            video.check_id()
        except StaleEdgeError as error:
            result.failures.append((video, error))
            continue
        if not force and is_made(job.target, None if video.url else job.video, origin, settings):
            result.skipped.append(str(folder / job.target.name))
            result.featured.append(replace(video, path=job.target, url=None))
        else:
            todo.append((video, job))
    if result.skipped:
        reporter.note(f"{len(result.skipped):,} of {len(videos):,} videos have their features already")
    _say_costs(settings, reporter)
    todo = [todo[index] for index in longest_first([video.length for video, _ in todo])]
    task = extraction_task(tower.path.absolute(), settings, created_by, threads, provider)
    with (
        sole_writer(folder),
        prompt_interrupt(),
        contextlib.closing(engine(task, [job for _, job in todo])) as events,
    ):
        for index, value in follow("features", events, [video.path.name for video, _ in todo], reporter):
            video, job = todo[index]
            if isinstance(value, StaleEdgeError):
                result.failures.append((video, value))
                continue
            result.made[str(folder / job.target.name)] = value
            result.featured.append(replace(video, path=job.target, url=None))
            for warning in value.get("warnings", ()):
                reporter.warn(f"{video.path}: {warning}")
    result.featured.sort(key=lambda video: places[video.video_id])
    result.failures.sort(key=lambda failure: places[failure[0].video_id])
    in_order = (str(folder / video.path.name) for video in result.featured)
    return replace(result, made={name: result.made[name] for name in in_order if name in result.made})


def write_failures(table: Path, failures: Sequence[tuple[VideoFile, StaleEdgeError]]) -> None:
    """Write the table of videos that could not be used; where there are none, that of an earlier run goes."""
    from stale_edge_runtime.formats.result_tables import failure_row, write_table

    if failures:
        write_table(table, [failure_row(video.video_id, str(video), error) for video, error in failures])
    else:
        table.unlink(missing_ok=True)


def follow(
    label: str,
    events: Iterator[Progress | Result],
    names: Sequence[str],
    reporter: Reporter,
    steps: int = STEPS_OF_A_VIDEO,
) -> Iterator[tuple[int, dict[str, Any] | StaleEdgeError]]:
    """Show the progress of all videos together, and pass results on as they come.

    Yields:
        Place of an item, and its result or the error that ended it.
    """
    shares = [0] * len(names)
    steps = max(1, min(steps, MAX_STEPS // max(1, len(names))))
    with reporter.progress(label, len(names) * steps) as step:
        for event in events:
            if isinstance(event, Progress):
                share = steps * event.done // event.total if event.total else 0
                to = min(share, steps - 1)
            else:
                to = steps
            for _ in range(shares[event.index], to):
                step(names[event.index])
            shares[event.index] = max(shares[event.index], to)
            if not isinstance(event, Progress):
                yield event.index, event.value if isinstance(event.value, StaleEdgeError) else dict(event.value)


def _say_costs(settings: FeatureSettings, reporter: Reporter) -> None:
    """Say what each mode costs that is not exact."""
    for price in settings.video.notes:
        reporter.warn(price)
