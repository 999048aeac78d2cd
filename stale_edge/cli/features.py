"""`stale-edge features`: videos become feature files, each with a record of how it was made."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.engines import ActorGpus, ActorMemory, Jobs, Ray, chosen_jobs, engine_of
from stale_edge.cli.frames import (
    MAX_MEGAPIXELS,
    PUBLISHED_STEP_S,
    Approximate,
    ColourOrder,
    FrameRate,
    ImageTowerFile,
    MaxMegapixels,
    Rotate,
    Step,
    feature_settings,
)
from stale_edge.cli.options import FORCE, FPS, OUTPUT, STRICT, JsonToStdout, Quiet
from stale_edge.cli.video_inputs import Threads  # noqa: TC001 (typer reads annotations when it runs)
from stale_edge_runtime.errors import EXIT_BAD_DATA, UsageError

PUBLISHED_POSITIONS = 100


class Sampling(StrEnum):
    """Choices of the frames to compute."""

    STEPS = "steps"
    PUBLISHED = "published"


def features(
    videos: Annotated[
        list[str],
        typer.Argument(metavar="VIDEO…", help="Videos, URLs, folders (the videos right inside), globs, or manifests."),
    ],
    output: Annotated[
        Path, typer.Option(*OUTPUT, metavar="DIR", help="Folder for NAME.npy and NAME.features.json of each video.")
    ],
    image_tower: ImageTowerFile = None,
    step: Step = None,
    fps: Annotated[
        float | None, typer.Option(FPS, min=1e-3, help="Rows of features per second, instead of --step.")
    ] = None,
    sampling: Annotated[
        Sampling,
        typer.Option(
            help=f"published: {PUBLISHED_POSITIONS} rows a video, interpolated from frames every {PUBLISHED_STEP_S:g} "
            "s as networks read them that resize; only frames that count are computed."
        ),
    ] = Sampling.STEPS,
    positions: Annotated[
        int | None, typer.Option(min=1, max=8192, help=f"Rows of --sampling published; {PUBLISHED_POSITIONS}.")
    ] = None,
    channels: ColourOrder = None,
    approximate: Approximate = None,
    frame_rate: FrameRate = None,
    rotate: Rotate = True,
    max_megapixels: MaxMegapixels = MAX_MEGAPIXELS,
    strict: Annotated[
        bool, typer.Option(STRICT, help="Refuse a video that is damaged or shorter than it says.")
    ] = False,
    force: Annotated[bool, typer.Option(FORCE, help="Make features again that are there already.")] = False,
    jobs: Jobs = None,
    ray: Ray = None,
    actor_gpus: ActorGpus = 0,
    actor_memory: ActorMemory = 0,
    threads: Threads = 1,
    json: JsonToStdout = False,
    quiet: Quiet = False,
) -> None:
    """Turn videos into CLIP features, a row every step, each row of the frame that is on screen at its time.

    Videos whose features are there, made the same way, are skipped, so that a run that was stopped goes on. One bad
    video never stops the others: it is listed at the end and in DIR/failures.jsonl, and the exit code is 65. A manifest
    (.csv, .jsonl, .parquet) has columns path or url, and where known id and duration_s.
    """
    from stale_edge.cli.extraction_run import FAILURES, make_features, write_failures
    from stale_edge.cli.towers import find_image_tower
    from stale_edge_runtime.corpus import VIDEO_SUFFIXES, find_videos
    from stale_edge_runtime.formats.files import make_folder

    reporter = Reporter(quiet=quiet)
    jobs = chosen_jobs(jobs, ray, threads)
    engine = engine_of(jobs, ray, cpus=threads, gpus=actor_gpus, memory_mb=actor_memory)
    published = sampling is Sampling.PUBLISHED
    if step is not None and fps is not None:
        raise UsageError("--step and --fps", "say the same", "leave one out")
    if positions is not None and not published:
        raise UsageError("--positions", "is of --sampling published", "give that as well")
    settings = feature_settings(
        step or (1 / fps if fps else PUBLISHED_STEP_S if published else None),
        frame_rate=frame_rate,
        approximate=approximate,
        rotate=rotate,
        max_megapixels=max_megapixels,
        strict=strict,
        positions=(positions or PUBLISHED_POSITIONS) if published else 0,
        channels=channels,
    )
    found = find_videos(videos, note=reporter.note, suffixes=VIDEO_SUFFIXES)
    if odd := [video for video in found if not video.is_video]:
        raise UsageError(odd[0].path, "is no video by its name", "name files that end in .mp4, .mkv and the like")
    tower = find_image_tower(image_tower, ())
    make_folder(output)
    result = make_features(found, output, tower, settings, reporter, engine=engine, threads=threads, force=force)
    write_failures(output / FAILURES, result.failures)
    if json:
        failed = {str(video.path): str(error) for video, error in result.failures}
        told = {"output": str(output), "made": result.made, "skipped": result.skipped, "failed": failed}
        reporter.result_json(told)
    else:
        rows = sum(record["rows"] for record in result.made.values())
        reporter.result(f"{output}: made the features of {len(result.made):,} of {len(found):,} videos, {rows:,} rows")
    if not result.failures:
        return
    if len(found) == 1:
        raise result.failures[0][1]
    reporter.warn(f"{len(result.failures):,} of {len(found):,} videos could not be used; the others are complete:")
    for _, error in result.failures:
        reporter.warn(str(error))
    raise typer.Exit(EXIT_BAD_DATA)
