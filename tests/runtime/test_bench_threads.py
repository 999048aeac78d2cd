"""Threads on one video against videos at the same time, and the cores behind them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stale_edge_runtime.bench.measure import Effort
from stale_edge_runtime.bench.onnx_contender import OnnxContender, vocabulary_for
from stale_edge_runtime.bench.parallel_videos import ParallelVideos
from stale_edge_runtime.bench.thread_ways import ThreadWay, measure_ways, recommend, time_ways
from stale_edge_runtime.errors import BadDataError, UnavailableError
from stale_edge_runtime.model_file import read_model
from stale_edge_runtime.processor import physical_cores, quota_cores, useful_threads

if TYPE_CHECKING:
    from collections.abc import Mapping

BAKED = Path(__file__).parents[1] / "data" / "tiny_baked.onnx"


def tiny() -> OnnxContender:
    model = read_model(BAKED)
    return OnnxContender(model, "tiny", "cpu", vocabulary_for(model))


def cpus(root: Path, siblings: Mapping[int, str]) -> Path:
    for number, told in siblings.items():
        folder = root / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(told + "\n")
    return root


def test_hyper_threads_are_one_core_and_only_allowed_ones_count(tmp_path: Path) -> None:
    root = cpus(tmp_path, {0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"})
    assert physical_cores((0, 1, 4, 5), root) == 2
    assert physical_cores((0, 4), root) == 1
    assert physical_cores((0, 5), root) == 2
    assert physical_cores((0, 2), root) is None  # one of which nothing is told
    assert physical_cores((), root) is None


def test_a_system_that_tells_no_cores_is_not_guessed_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert physical_cores((0, 1), tmp_path / "missing") is None
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    assert physical_cores() is None
    assert useful_threads(3, quota=tmp_path / "missing") == 3


@pytest.mark.parametrize(
    ("told", "cores", "useful"),
    [("max 100000\n", None, 4), ("150000 100000\n", 1.5, 1), ("50000 100000", 0.5, 1), ("250000 100000", 2.5, 2)],
)
def test_the_quota_of_a_container_limits_useful_threads(
    told: str, cores: float | None, useful: int, tmp_path: Path
) -> None:
    (tmp_path / "cpu.max").write_text(told)
    assert quota_cores(tmp_path / "cpu.max") == cores
    assert useful_threads(4, root=tmp_path / "missing", quota=tmp_path / "cpu.max") == useful


def test_efficiency_is_over_all_threads_and_ways_take_turns(clock: Any) -> None:
    order: list[tuple[int, int]] = []

    def burst(way: tuple[int, int], seconds: float) -> Any:
        def run() -> None:
            order.append(way)
            clock.sleep(seconds)

        return run

    seconds = {(1, 1): 0.4, (2, 1): 0.25, (1, 2): 0.5}
    bursts = {way: burst(way, took) for way, took in seconds.items()}
    found = time_ways("m", 200, bursts, 4, Effort(rounds=2, turn_s=0.01, turn_share=0.01))
    assert order[-6:] == [(1, 1), (2, 1), (1, 2), (1, 2), (2, 1), (1, 1)]
    one, threads, videos = found
    assert (one.median_ms, one.videos_per_s, one.faster, one.efficiency) == pytest.approx((100, 10, 1, 1))
    assert (threads.median_ms, threads.videos_per_s) == pytest.approx((62.5, 16))
    assert (threads.faster, threads.efficiency) == pytest.approx((1.6, 0.8))
    assert (videos.median_ms, videos.videos_per_s) == pytest.approx((125, 16))
    assert (videos.faster, videos.efficiency) == pytest.approx((1.6, 0.8))
    assert videos.faster_low <= videos.faster <= videos.faster_high


def way(threads: int, videos: int, ms: float) -> ThreadWay:
    rate = videos * 1e3 / ms
    faster = rate / 10
    return ThreadWay(
        *("m", 200, threads, videos, 6, ms, ms, ms, rate), faster, faster, faster, faster / (threads * videos)
    )


@pytest.mark.parametrize(
    ("ways", "expected", "one_video", "many"),
    [
        (
            [way(1, 1, 100), way(2, 1, 60), way(1, 2, 105)],
            (2, 1, 2),
            "2 threads (60 ms, 1.67x one thread)",
            "fastest 2 at a time with one thread each (--jobs 2): 19 videos/s against 16.7 with 2 threads on one",
        ),
        (
            [way(1, 1, 100), way(2, 1, 52), way(1, 2, 150)],
            (2, 2, 1),
            "2 threads (52 ms, 1.92x one thread)",
            "fastest one after the other with 2 threads: 19.2 videos/s against 13.3 with 2 at a time",
        ),
        (
            [way(1, 1, 100), way(2, 1, 99), way(1, 2, 199)],  # hyper-threads of one core
            (1, 1, 1),
            "1 thread (100 ms; more threads gain nothing)",
            "with one thread, one after the other",
        ),
        (
            [way(1, 1, 100), way(2, 1, 55), way(4, 1, 54), way(1, 2, 105), way(1, 4, 208)],
            (2, 1, 2),
            "2 threads (55 ms",
            "2 at a time",
        ),
        ([way(1, 1, 100), way(2, 1, 52), way(1, 2, 104)], (2, 1, 2), "2 threads", "2 at a time"),  # alike: processes
    ],
)
def test_the_better_way_is_recommended_in_words(
    ways: list[ThreadWay], expected: tuple[int, int, int], one_video: str, many: str
) -> None:
    (advice,) = recommend(ways)
    assert (advice.latency_threads, advice.throughput_threads, advice.throughput_videos) == expected
    first, _, second = advice.words.partition("; many videos ")
    assert f"one video is done soonest with {one_video}" in first
    assert many in second


def test_videos_run_in_processes_at_the_same_time() -> None:
    with ParallelVideos(tiny(), 2) as pool:
        assert [len(times) for times in pool.run(7, 3)] == [3, 3]
        assert all(ms > 0 for times in pool.run(20, 1) for ms in times)
        with pytest.raises(BadDataError, match=r"ended one of 2 processes \(exit code 1\); name fewer --threads"):
            pool.run(-1, 1)  # no length at all


def test_more_threads_than_cores_are_refused() -> None:
    with pytest.raises(UnavailableError, match="4096 threads"):
        list(measure_ways(tiny(), (7,), (1, 4096), Effort(rounds=2)))
