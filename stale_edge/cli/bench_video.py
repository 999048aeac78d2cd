"""`stale-edge bench --video`: cost by stage from a video file to detections."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stale_edge.cli.options import STDOUT
from stale_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.table import Table

    from stale_edge.cli.console import Reporter
    from stale_edge.cli.towers import TowerFile
    from stale_edge_runtime.bench.video_cost import VideoContender, VideoCost
    from stale_edge_runtime.contract import ModelInfo

TRANSFORMERS = "transformers"
ROUNDS = 3
USUAL_BATCHES = (8, 1)


@dataclass(frozen=True)
class VideoQuestion:
    """Options of `bench --video`."""

    video: Path
    """The video."""
    image_tower: Path | None
    """File of the image tower; found in `models/` without."""
    model: Path | None
    """File of the detector; None ends with features."""
    step_s: float | None
    """Seconds from one row of features to the next."""
    engines: tuple[str, ...]
    """Other ways to measure beside ours."""
    rounds: int = ROUNDS
    """Measurements of each."""
    threads: int = 1
    """Threads of each."""


def bench_video(question: VideoQuestion, output: Path | None, reporter: Reporter) -> None:
    """Measure the way from a video to detections, beside others where that is asked for.

    Args:
        question: Options.
        output: File for the report as JSON; `-` is stdout.
        reporter: Reporter for progress and the table.

    Raises:
        UsageError: The tower's file does not tell its sizes.
        StaleEdgeError: A file cannot be used.
    """
    from stale_edge.cli.frames import feature_settings
    from stale_edge.cli.interrupt import prompt_interrupt
    from stale_edge.cli.towers import find_image_tower
    from stale_edge_runtime.bench.machine import describe_machine, read_load
    from stale_edge_runtime.bench.video_cost import VideoContender, measure_video, ours
    from stale_edge_runtime.formats.files import check_target, write_json
    from stale_edge_runtime.video.reader import VideoReader

    if output is not None and output != STDOUT:
        check_target(output, [question.video])
    before = read_load()
    settings = feature_settings(question.step_s)
    tower = find_image_tower(question.image_tower, [] if question.model is None else [question.model.parent])
    index = VideoReader(question.video, settings.video).index
    make = ours(tower.path.absolute(), question.model and question.model.absolute(), settings, question.threads)
    contenders = [VideoContender(tower.path.name, make)]
    contenders += _others(question, tower.info, settings.video.step_s)
    with prompt_interrupt(), reporter.progress("bench", question.rounds * len(contenders)) as step:
        costs = measure_video(contenders, question.video.absolute(), question.rounds, step)
    floor = _floor(tower, costs[0], question.threads)
    video: dict[str, Any] = {"seconds": costs[0].runs[0].seconds}
    video |= {"codec": index.codec, "width": index.width, "height": index.height} if index else {}
    comparisons = [_comparison(costs[0], cost) for cost in costs[1:]]
    report = {
        "schema": 1,
        "machine": describe_machine(before, read_load(), ["CPUExecutionProvider"]),
        "video": video,
        "step_s": settings.video.step_s,
        "rows": [cost.to_json() for cost in costs],
        "floor_cpu_s_per_minute": floor,
        "comparisons": comparisons,
    }
    if output == STDOUT:
        reporter.result_json(report)
        return
    if output is not None:
        write_json(output, report)
        reporter.note(f"wrote {output}")
    reporter.result(_table(costs, floor))
    for pair in comparisons:
        reporter.result(_in_words(pair))


def _in_words(pair: dict[str, Any]) -> str:
    """Say how many times as fast one contender is as another, or how many times as long it takes."""
    ratio, low, high = pair["ratio"], pair["low"], pair["high"]
    if ratio >= 1:
        return f"{pair['b']} is {ratio:.2f} times as fast as {pair['a']} ({low:.2f} to {high:.2f})"
    return f"{pair['b']} takes {1 / ratio:.2f} times as long as {pair['a']} ({1 / high:.2f} to {1 / low:.2f})"


def _others(question: VideoQuestion, info: ModelInfo, step_s: float) -> list[VideoContender]:
    """Make the contenders of other engines."""
    from stale_edge_runtime.bench.video_cost import VideoContender

    if TRANSFORMERS not in question.engines:
        return []
    from stale_edge.extras import require_transformers

    require_transformers("bench --compare transformers")
    from stale_edge_export.contenders.transformers import usual_way

    config = info.extra.get("vision_config")
    if config is None:
        raise UsageError("--compare", "needs the sizes of the tower, and its file lacks them", "export it again")
    sizes: dict[str, Any] = json.loads(config)
    return [
        VideoContender(f"transformers fp32, batch {batch}", usual_way(sizes, step_s, batch, question.threads))
        for batch in USUAL_BATCHES
    ]


def _floor(tower: TowerFile, cost: VideoCost, threads: int) -> float | None:
    """Compute the least processor time for a minute, where the file says how much a tower multiplies."""
    from stale_edge_runtime.bench.ceiling import ceiling_precision, measure_ceiling

    gmacs, precision = tower.info.extra.get("gmacs_per_image"), ceiling_precision(str(tower.info.precision))
    if gmacs is None or precision is None:
        return None
    return cost.floor_s_per_minute(float(gmacs), measure_ceiling(precision, threads).gmacs_per_s)


def _comparison(ours: VideoCost, other: VideoCost) -> dict[str, Any]:
    ratio = ours.times_faster_than(other)
    return {
        "a": other.contender,
        "b": ours.contender,
        "ratio": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
    }


def _table(costs: Sequence[VideoCost], floor: float | None) -> Table:
    """Lay the costs out, processor seconds for a minute of video."""
    from rich.markup import escape
    from rich.table import Table

    from stale_edge_runtime.video.stages import STAGES

    table = Table("contender", title="Processor seconds for a minute of video")
    for heading in ("total", *STAGES, "× real time", "peak MB"):
        table.add_column(heading, justify="right")
    for cost in costs:
        parts = cost.parts_per_minute
        peak = "–" if cost.peak_rss_mb is None else f"{cost.peak_rss_mb:.0f}"
        cells = (f"{cost.cpu_s_per_minute:.2f}", *(f"{parts[name]:.2f}" for name in STAGES))
        table.add_row(escape(cost.contender), *cells, f"{cost.times_real_time:.1f}", peak)
    if floor is not None:
        table.caption = f"floor: {floor:.2f} s (products at their ceiling, and decoding); {costs[0].contender} takes "
        table.caption += f"{costs[0].cpu_s_per_minute / floor:.2f} times that"
    return table
