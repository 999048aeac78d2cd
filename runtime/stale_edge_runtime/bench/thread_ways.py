"""Ways to use several cores: more threads on one video, or more videos at the same time with one thread each.

All ways at a length take turns, in bursts that are long against the messages between processes. The time of a burst of
videos in parallel ends with its last process.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

from stale_edge_runtime.bench.measure import time_together, warm_up
from stale_edge_runtime.bench.parallel_videos import ParallelVideos
from stale_edge_runtime.bench.statistics import number, ratio_of_medians, summarize
from stale_edge_runtime.session import check_threads
from stale_edge_runtime.synthetic import clip_like_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stale_edge_runtime.bench.measure import Effort
    from stale_edge_runtime.bench.onnx_contender import OnnxContender

BURST_S: Final = 0.1
"""Length of a burst of a fast file."""
MAX_BURST: Final = 32
MIN_GAIN: Final = 1.03
"""Least factor by which a way with more threads, or more processes, must be better to be recommended."""

Way = tuple[int, int]
"""Threads inside an operator, and videos at the same time."""


@dataclass(frozen=True)
class ThreadWay:
    """One way to use some cores at one length."""

    model: str
    """Name of the contender."""
    snippets: int
    """Length of each video."""
    threads: int
    """Threads inside an operator."""
    videos: int
    """Videos at the same time, each in a process of its own where there are several."""
    bursts: int
    """Measured bursts of forwards."""
    median_ms: float
    """Median time of a video."""
    low_ms: float
    """First quartile."""
    high_ms: float
    """Third quartile."""
    videos_per_s: float
    """Videos a second."""
    faster: float
    """Videos a second over those of one thread."""
    faster_low: float
    """Lower end of its 95 % interval."""
    faster_high: float
    """Upper end of its 95 % interval."""
    efficiency: float
    """`faster` over the threads of all videos."""


@dataclass(frozen=True)
class ThreadAdvice:
    """Recommended ways at one length."""

    model: str
    """Name of the contender."""
    snippets: int
    """Length of each video."""
    latency_threads: int
    """Threads that finish one video soonest."""
    throughput_threads: int
    """Threads of each video that finish most videos a second."""
    throughput_videos: int
    """Videos at the same time that do."""
    words: str
    """Both in a sentence."""


def measure_ways(
    contender: OnnxContender,
    lengths: Sequence[int],
    counts: Sequence[int],
    effort: Effort,
    step: Callable[[str], None] = lambda _text: None,
) -> Iterator[ThreadWay]:
    """Measure each number of threads on one video, and as many videos at the same time with one thread each.

    Args:
        contender: A file on the CPU.
        lengths: Snippets of a video.
        counts: Numbers of threads.
        effort: Measuring time of each way.
        step: Called after each length, with a word on it.

    Raises:
        UnavailableError: There are not that many threads here.
        BadDataError: The file does not run, or a process ended.
    """
    several = sorted({count for count in counts if count > 1})
    for count in several:
        check_threads(count)
    with contextlib.ExitStack() as stack:
        pools = {count: stack.enter_context(ParallelVideos(contender, count)) for count in several}
        for snippets in lengths:
            features = clip_like_features(1, snippets, contender.feature_dim)
            alone = {threads: contender.prepare(features, threads) for threads in (1, *several)}
            _, best_s = warm_up(alone[1], effort.seconds)
            burst = max(1, min(MAX_BURST, round(BURST_S / max(best_s, 1e-9))))
            bursts: dict[Way, Callable[[], object]] = {
                **{(threads, 1): _repeated(forward, burst) for threads, forward in alone.items()},
                **{(1, videos): _burst_of(pool, snippets, burst) for videos, pool in pools.items()},
            }
            yield from time_ways(contender.name, snippets, bursts, burst, effort)
            step(f"{contender.name}, {snippets} snippets")


def time_ways(
    model: str, snippets: int, bursts: Mapping[Way, Callable[[], object]], burst: int, effort: Effort
) -> list[ThreadWay]:
    """Time ways in turn.

    Args:
        model: Name of the file.
        snippets: Length of a video.
        bursts: A function for each way that runs a burst; (1, 1) among them.
        burst: Forwards of each process in a burst.
        effort: Measuring time of each way.
    """
    timings = dict(zip(bursts, time_together(list(bursts.values()), effort), strict=True))
    one = timings[1, 1].samples_ms / burst
    found = []
    for (threads, videos), timing in timings.items():
        samples = timing.samples_ms / burst
        summary, ratio = summarize(samples), ratio_of_medians(one, samples)
        found.append(
            ThreadWay(
                *(model, snippets, threads, videos),
                bursts=summary.runs,
                median_ms=summary.median_ms,
                low_ms=summary.low_ms,
                high_ms=summary.high_ms,
                videos_per_s=videos * 1e3 / summary.median_ms,
                faster=videos * ratio.value,
                faster_low=videos * ratio.low,
                faster_high=videos * ratio.high,
                efficiency=ratio.value / threads,
            )
        )
    return found


def recommend(ways: Sequence[ThreadWay]) -> list[ThreadAdvice]:
    """Recommend a way for one video and one for many, for each file and length.

    Args:
        ways: Measured ways, those of a file and length together.
    """
    found = []
    for (model, snippets), group in groupby(ways, lambda way: (way.model, way.snippets)):
        # Few threads first, and of as many, processes first: they share no locks and work at any length.
        ordered = sorted(group, key=lambda way: (way.threads * way.videos, way.threads))
        latency = ordered[0]
        throughput = ordered[0]
        for way in ordered:
            if way.videos == 1 and latency.median_ms > MIN_GAIN * way.median_ms:
                latency = way
            if way.videos_per_s > MIN_GAIN * throughput.videos_per_s:
                throughput = way
        words = _words(latency, throughput, ordered)
        found.append(ThreadAdvice(model, snippets, latency.threads, throughput.threads, throughput.videos, words))
    return found


def _words(latency: ThreadWay, throughput: ThreadWay, ways: Sequence[ThreadWay]) -> str:
    one = f"{latency.threads} threads" if latency.threads > 1 else "1 thread"
    first = f"one video is done soonest with {one} ({number(latency.median_ms)} ms"
    first += f", {latency.faster:.2f}x one thread)" if latency.threads > 1 else "; more threads gain nothing)"
    cores = throughput.threads * throughput.videos
    if cores == 1:
        return f"{first}; many videos with one thread, one after the other"
    if throughput.videos > 1:
        way = f"{throughput.videos} at a time with one thread each (--jobs {throughput.videos})"
        other = next((each for each in ways if each.threads == cores), None)
        against = f"{cores} threads on one"
    else:
        way = f"one after the other with {cores} threads"
        other = next((each for each in ways if each.videos == cores), None)
        against = f"{cores} at a time"
    rates = f"{number(throughput.videos_per_s)} videos/s"
    rates += f" against {number(other.videos_per_s)} with {against}" if other else ""
    return f"{first}; many videos go fastest {way}: {rates}"


def _repeated(forward: Callable[[], object], times: int) -> Callable[[], object]:
    def burst() -> None:
        for _ in range(times):
            forward()

    return burst


def _burst_of(pool: ParallelVideos, snippets: int, times: int) -> Callable[[], object]:
    return lambda: pool.run(snippets, times)
