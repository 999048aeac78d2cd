"""Videos per second with one process, with two and on Ray, and what many processors would give on paper.

`make scaling` runs `measure`, on a machine that does nothing else: equal videos, so that processors and not the order
of work decide; the rate is that after the first results, when all processes have opened their models. `cost` computes
the tables of docs/scale.md from measured seconds for a minute of video.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stale_edge_runtime.corpus import Clock, DetectionRun, find_videos
from stale_edge_runtime.detection_jobs import detection_task
from stale_edge_runtime.errors import StaleEdgeError
from stale_edge_runtime.isolation import IsolatedDetector
from stale_edge_runtime.jobs import Engine, Result, run_jobs
from stale_edge_runtime.ray_jobs import LOCAL, RayCluster, groups
from stale_edge_runtime.video.features import ExtractionJob, FeatureSettings, extraction_task
from stale_edge_runtime.video.options import VideoOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stale_edge_runtime.jobs import Task

DATA = Path(__file__).parent / "data"
SNIPPETS = 200


def write_video(path: Path, seconds: int) -> None:
    """A moving picture, 320x240 H.264 at 25 frames a second."""
    import av

    base = np.random.default_rng(0).integers(0, 255, (240, 960, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(25 * seconds):
            picture = np.ascontiguousarray(base[:, 2 * number % 640 :][:, :320])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def nothing() -> Task:
    """A task without work: its rate is that of handing out."""
    return lambda item, progress: {}


def timed(make: Callable[[], Task]) -> Task:
    """Do a task and tell when it ended: results reach the driver in bursts."""
    task = make()

    def told(item: Any, progress: Callable[[int, int | None], None]) -> dict[str, float]:
        task(item, progress)
        return {"ended": time.time()}

    return told


def rate(engine: Engine, make: Callable[[], Task], items: Sequence[Any], warm: int) -> float:
    """Items per second after the first ones."""
    ends = []
    for event in engine(partial(importlib.import_module("tests.scaling").timed, make), items):
        if isinstance(event, Result):
            assert not isinstance(event.value, StaleEdgeError), event.value
            ends.append(event.value["ended"])
    ends.sort()
    return (len(ends) - warm) / (ends[-1] - ends[warm - 1])


def measure(options: argparse.Namespace) -> None:
    engines: dict[str, Engine] = {"jobs 1": partial(run_jobs, jobs=1), "jobs 2": partial(run_jobs, jobs=2)}
    if find_spec("ray") is not None:
        engines |= {"ray 1": RayCluster(LOCAL, 1), "ray 2": RayCluster(LOCAL, 2)}
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_video(folder / "0.mp4", options.seconds)
        for number in range(1, options.videos):
            shutil.copy(folder / "0.mp4", folder / f"{number}.mp4")
        jobs = [ExtractionJob(folder / f"{n}.mp4", folder / f"{n}.npy") for n in range(options.videos)]
        if options.model is None:
            made = [sys.executable, "-m", "stale_edge", "export", "-q", "-o", str(folder / "stale.onnx")]
            subprocess.run(made, check=True)
        detector = IsolatedDetector(options.model or folder / "stale.onnx")
        detector.close()
        rng = np.random.default_rng(0)
        for number in range(10 * options.videos):
            np.save(folder / f"f{number}.npy", rng.standard_normal((SNIPPETS, detector.info.feature_dim), np.float32))
        features = find_videos([str(folder / "f*.npy")])
        run = DetectionRun(detector, Clock.of(detector.info, None, None, None))
        tasks: dict[str, tuple[Callable[[], Task], Sequence[Any]]] = {
            "features": (extraction_task(options.image_tower.absolute(), FeatureSettings(VideoOptions()), ""), jobs),
            "detect": (detection_task(run), features),
            "nothing": (importlib.import_module("tests.scaling").nothing, range(options.idle)),
        }
        for task, work in tasks.items():
            rates: dict[str, list[float]] = {engine: [] for engine in engines}
            for _ in range(options.rounds):  # taking turns, so that a slow minute is everybody's
                for engine, found in rates.items():
                    found.append(rate(engines[engine], *work, warm=4))
            best = {engine: float(np.median(found)) for engine, found in rates.items()}
            shown = {f"{engine} videos/s": round(value, 2) for engine, value in best.items()}
            shown["efficiency of 2 jobs"] = round(best["jobs 2"] / (2 * best["jobs 1"]), 3)
            if "ray 1" in best:
                shown["overhead of Ray"] = round(1 - best["ray 1"] / best["jobs 1"], 3)
            print(json.dumps({"task": task, **shown}))


class Corpus(NamedTuple):
    """Videos and hours."""

    name: str
    videos: int
    hours: float
    longest_s: float


CORPORA = (
    Corpus("ActivityNet", 20_000, 648, 760),
    Corpus("Kinetics-700", 650_000, 650_000 * 10 / 3600, 10),
    Corpus("10^6 hours", 12_000_000, 1e6, 14_400),
)
CORES = (100, 1_000, 10_000)


def span(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def cost(options: argparse.Namespace) -> None:
    per_minute = options.seconds_per_minute
    share = per_minute / 60
    print(f"| corpus | cores | time | videos/s | read, Gbit/s | limit |\n|{'---|' * 6}")
    for corpus in CORPORA:
        work_s = corpus.hours * 3600 * share
        for cores in CORES:
            usable = cores * options.efficiency
            by_cores, by_tail = work_s / usable, corpus.longest_s * share
            by_driver = len(groups(corpus.videos, cores)) / options.groups_per_second
            limits = {"processors": by_cores, "longest video": by_tail, "handing out": by_driver}
            limit, seconds = max(limits.items(), key=lambda one: one[1])
            rate = corpus.videos / seconds
            read = corpus.hours * 3600 * options.mbit / seconds / 1000
            print(f"| {corpus.name} | {cores:,} | {span(seconds)} | {rate:,.0f} | {read:,.2f} | {limit} |")
    hours = 1000 * share / options.efficiency
    print(f"\n1,000 hours of video: {hours:,.0f} core-hours, ${hours * options.price:,.2f}")
    machines = math.floor(options.nic * 1000 / (options.mbit / share))
    print(f"a network of {options.nic:g} Gbit/s feeds {machines:,} cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("measure")
    one.set_defaults(work=measure)
    one.add_argument("--videos", type=int, default=24)
    one.add_argument("--seconds", type=int, default=30, help="length of each video")
    one.add_argument("--idle", type=int, default=1000, help="items without work")
    one.add_argument("--rounds", type=int, default=3)
    one.add_argument("--image-tower", type=Path, default=DATA / "tiny_image_tower.onnx")
    one.add_argument("--model", type=Path, help="an untrained network of the published size without")
    two = commands.add_parser("cost")
    two.set_defaults(work=cost)
    two.add_argument("--seconds-per-minute", type=float, default=6.16, help="processor seconds for a minute of video")
    two.add_argument("--efficiency", type=float, default=0.9)
    two.add_argument("--price", type=float, default=0.0408, help="dollars for a core and an hour")
    two.add_argument("--mbit", type=float, default=2.0, help="megabits of a second of video")
    two.add_argument("--groups-per-second", type=float, default=100.0, help="groups that one Ray driver hands out")
    two.add_argument("--nic", type=float, default=12.5, help="network of a machine, Gbit/s")
    options = parser.parse_args()
    options.work(options)


if __name__ == "__main__":
    main()
