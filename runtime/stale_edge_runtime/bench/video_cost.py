"""Cost of going from a video file to detections, stage by stage, each measurement in a fresh process.

Times are processor time: on a machine that others use too, the clock on the wall measures them as well.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stale_edge_runtime.bench.memory import peak_rss_mb
from stale_edge_runtime.bench.statistics import Ratio, ratio_of_medians
from stale_edge_runtime.detector import Detector
from stale_edge_runtime.errors import BadDataError, StaleEdgeError
from stale_edge_runtime.jobs import Result, run_jobs
from stale_edge_runtime.video.features import FeatureExtractor
from stale_edge_runtime.video.stages import DECODE, NETWORK, SEGMENTS, STAGES, StageClock
from stale_edge_runtime.video.tower import ImageTower

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stale_edge_runtime.jobs import Task
    from stale_edge_runtime.video.features import FeatureSettings


@dataclass(frozen=True)
class VideoContender:
    """A way from a video to detections."""

    name: str
    """Name in tables."""
    make: Callable[[], Task]
    """Makes the task in a fresh process: from a video's path to the fields of `VideoRun`."""


@dataclass(frozen=True)
class VideoRun:
    """One measurement of one contender."""

    cpu_s: float
    """Processor seconds of all threads, from the opened models to the detections."""
    load_s: float
    """Processor seconds to open the models."""
    parts: Mapping[str, float]
    """Processor seconds by stage."""
    peak_rss_mb: float | None
    """Memory peak of the process, 10^6 bytes; None where the system cannot tell."""
    samples: int
    """Images that went through the tower."""
    seconds: float
    """Length of the video."""


@dataclass(frozen=True)
class VideoCost:
    """Measurements of one contender."""

    contender: str
    """Name of the contender."""
    runs: Sequence[VideoRun]
    """Measurements, one a round."""

    @property
    def cpu_s_per_minute(self) -> float:
        """Processor seconds for a minute of video, the median of the rounds."""
        return float(np.median([run.cpu_s / run.seconds for run in self.runs])) * 60

    @property
    def times_real_time(self) -> float:
        """Seconds of video for a processor second."""
        return 60 / self.cpu_s_per_minute

    @property
    def parts_per_minute(self) -> dict[str, float]:
        """Processor seconds for a minute of video by stage, medians of the rounds."""
        return {
            name: float(np.median([run.parts.get(name, 0.0) / run.seconds for run in self.runs])) * 60
            for name in STAGES
        }

    @property
    def peak_rss_mb(self) -> float | None:
        """Largest memory peak of the rounds."""
        return max((run.peak_rss_mb for run in self.runs if run.peak_rss_mb is not None), default=None)

    def times_faster_than(self, other: VideoCost) -> Ratio:
        """Compute the ratio of the other's processor time to this one's, with its interval.

        Args:
            other: Measurements in the same rounds.
        """
        slow, fast = (np.array([[1e3 * run.cpu_s] for run in cost.runs]) for cost in (other, self))
        return ratio_of_medians(slow, fast)

    def floor_s_per_minute(self, gmacs_per_image: float, gmacs_per_s: float) -> float:
        """Compute the least processor time for a minute: the tower's products at their ceiling, and decoding.

        Args:
            gmacs_per_image: Multiply-accumulates of the tower for an image, in 10^9.
            gmacs_per_s: Ceiling of products of that precision, in 10^9 a second.
        """
        images = self.runs[0].samples / self.runs[0].seconds * 60
        return images * gmacs_per_image / gmacs_per_s + self.parts_per_minute[DECODE]

    def to_json(self) -> dict[str, Any]:
        """Give the row of the report."""
        return {
            "contender": self.contender,
            "cpu_s_per_minute": self.cpu_s_per_minute,
            "parts": self.parts_per_minute,
            "times_real_time": self.times_real_time,
            "peak_rss_mb": self.peak_rss_mb,
            "load_s": float(np.median([run.load_s for run in self.runs])),
            "samples": self.runs[0].samples,
            "rounds": len(self.runs),
        }


def measure_video(
    contenders: Sequence[VideoContender], video: Path, rounds: int, progress: Callable[[str], None] = lambda _: None
) -> list[VideoCost]:
    """Measure contenders on one video, taking turns.

    Args:
        contenders: Ways from the video to detections.
        video: The video.
        rounds: Measurements of each.
        progress: Called with the name of a contender after each measurement.

    Raises:
        StaleEdgeError: One of them cannot use the video.
    """
    runs: dict[str, list[VideoRun]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        for contender in contenders if number % 2 == 0 else contenders[::-1]:
            runs[contender.name].append(_one_run(contender, video))
            progress(contender.name)
    return [VideoCost(contender.name, runs[contender.name]) for contender in contenders]


def ours(tower: Path, model: Path | None, settings: FeatureSettings, threads: int = 1) -> Callable[[], Task]:
    """Give a picklable function that makes the task of this project's way.

    Args:
        tower: File of the image tower.
        model: File of the detector, with its classes baked in; None ends with features.
        settings: Settings of the features besides the tower.
        threads: Threads inside an operator.
    """
    return functools.partial(_make_ours, tower, model, settings, threads)


def _one_run(contender: VideoContender, video: Path) -> VideoRun:
    for event in run_jobs(contender.make, [str(video)], 1):
        if isinstance(event, Result):
            if isinstance(event.value, StaleEdgeError):
                raise event.value
            return VideoRun(**event.value)
    raise BadDataError(video, f"gave no measurement of {contender.name}", "try another video")


def _make_ours(tower_file: Path, model: Path | None, settings: FeatureSettings, threads: int) -> Task:
    begin = time.process_time()
    tower = ImageTower(tower_file, threads=threads)
    detector = None if model is None else Detector(model, threads=threads)
    load_s = time.process_time() - begin

    def task(item: Any, progress: Callable[[int, int | None], None]) -> dict[str, Any]:
        stages, start = StageClock(), time.process_time()
        made = FeatureExtractor(tower, settings, "bench", stages).extract(Path(item), progress)
        seconds = made.record.duration_s if made.record else 0.0
        if detector is not None:
            with stages.stage(SEGMENTS):
                detector.detect(made.rows, seconds)
        cpu_s = time.process_time() - start
        if detector is not None:  # the network once more, to tell it from the decoding of its outputs
            with stages.stage(NETWORK):
                detector.forward(made.rows)
            stages.seconds[SEGMENTS] = max(stages.seconds[SEGMENTS] - stages.seconds[NETWORK], 0.0)
        return {
            "cpu_s": cpu_s,
            "load_s": load_s,
            "parts": stages.seconds,
            "peak_rss_mb": peak_rss_mb(),
            "samples": len(made.rows),
            "seconds": seconds,
        }

    return task
