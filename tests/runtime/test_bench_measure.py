"""Turns, warm-up and cold starts of the benchmark."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stale_edge_runtime.bench.ceiling import measure_ceiling, product_model
from stale_edge_runtime.bench.machine import gpu
from stale_edge_runtime.bench.macs import count_macs
from stale_edge_runtime.bench.measure import Effort, time_together, warm_up
from stale_edge_runtime.bench.memory import ChildError, run_child
from stale_edge_runtime.bench.onnx_contender import OnnxContender, vocabulary_for
from stale_edge_runtime.bench.runner import Plan, check_answers, run
from stale_edge_runtime.bench.vocabulary import synthetic_vocabulary
from stale_edge_runtime.contract import Precision
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.model_file import read_model
from stale_edge_runtime.session import open_content
from stale_edge_runtime.synthetic import clip_like_features

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Clock

pytestmark = pytest.mark.usefixtures("brief_ceiling")
DATA = Path(__file__).parents[1] / "data"
PATIENCE_S = 120
"""Longest wait for what a loaded machine does late; only a failure takes that long."""
BAKED, OPEN = DATA / "tiny_baked.onnx", DATA / "tiny_open.onnx"


def contender(path: Path = BAKED, name: str = "") -> OnnxContender:
    model = read_model(path)
    return OnnxContender(model, name or path.name, "cpu", vocabulary_for(model, classes=5))


class Recorder:
    """A contender that writes its name into a log, and takes the time it is told to."""

    def __init__(self, log: list[str], name: str, work: Callable[[], None] = lambda: None) -> None:
        self.log, self.name, self.work = log, name, work

    def __call__(self) -> None:
        self.log.append(self.name)
        self.work()


def test_turns_are_a_b_b_a() -> None:
    log: list[str] = []
    timings = time_together([Recorder(log, "a"), Recorder(log, "b")], Effort(runs=4, warm_up=False))
    assert "".join(log) == "abbaabba"
    assert [timing.samples_ms.shape for timing in timings] == [(4, 1), (4, 1)]


def test_every_contender_has_the_same_rounds_and_the_slow_one_its_minimum(clock: Clock) -> None:
    log: list[str] = []
    slow, fast = Recorder(log, "s", lambda: clock.sleep(0.03)), Recorder(log, "f", lambda: clock.sleep(0.002))
    timings = time_together([slow, fast], Effort(seconds=0.02, min_rounds=6))
    assert len(timings[0].samples_ms) == len(timings[1].samples_ms) == 6
    assert timings[0].samples_ms.shape[1] < timings[1].samples_ms.shape[1]
    np.testing.assert_allclose(timings[0].samples_ms, 30)
    np.testing.assert_allclose(timings[1].samples_ms, 2)


@pytest.mark.realtime
def test_a_sleep_takes_the_time_it_sleeps() -> None:
    (timing,) = time_together([lambda: time.sleep(0.03)], Effort(runs=4, warm_up=False))
    assert 30 <= timing.samples_ms.min() < 60


def test_warm_up_goes_on_while_it_improves(clock: Clock) -> None:
    pauses = iter([0.02, 0.015, 0.01, 0.005, *[0.002] * 100])
    runs, best_s = warm_up(lambda: clock.sleep(next(pauses)), seconds=5)
    assert runs == 5 + 3
    assert best_s == pytest.approx(0.002)


def test_warm_up_ends_when_time_is_up(clock: Clock) -> None:
    runs, _ = warm_up(lambda: clock.sleep(0.05), seconds=0.01)
    assert runs == 2


def test_macs_equal_the_count_by_hand() -> None:
    dim, width, anchors, rows = 8, 16, 10, 4
    for snippets in (1, 7, 100, 512):
        by_hand = snippets * (dim * dim + dim * width + width * anchors + dim * rows) + 2 * dim * snippets**2
        assert count_macs(read_model(BAKED)).total(snippets) == by_hand
    count = count_macs(read_model(BAKED), batch=3)
    assert count.total(9) == 3 * count_macs(read_model(BAKED)).total(9)
    assert count.by_operator(9) == {"MatMul": count.total(9)}
    assert count.share("float32", 9) == 1
    assert count.share("int8", 9) == 0


def test_macs_of_an_open_file_grow_with_its_classes() -> None:
    few, many = (count_macs(read_model(OPEN), classes=classes).total(10) for classes in (3, 53))
    assert many - few == 10 * 8 * 50


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_the_hand_written_product_multiplies(precision: Precision, clock: Clock) -> None:
    integer = precision is Precision.INT8
    right = np.arange(-6, 6).reshape(3, 4).astype(np.int8 if integer else np.float32)
    left = np.arange(512 * 3).reshape(512, 3).astype(np.uint8 if integer else np.float32)
    (product,) = open_content(product_model(precision, right)).run(None, {"left": left})
    np.testing.assert_allclose(product, left.astype(np.float64) @ right.astype(np.float64), rtol=1e-6)
    clock.tick_s = 0.002
    ceiling = measure_ceiling(precision, threads=1, seconds=0.01)
    assert ceiling.gmacs_per_s == pytest.approx(512 * 1024 * 1024 / 0.002 / 1e9)


def test_figures_of_a_row_follow_from_its_times(clock: Clock) -> None:
    clock.tick_s = 0.002
    report = run([contender()], Plan((300,), effort=Effort(seconds=0.2), cold_start=False))
    (row,) = report.rows
    assert row.median_ms == row.min_ms == pytest.approx(2.0)
    assert row.gmacs == pytest.approx((300 * 384 + 16 * 300**2) / 1e9)
    assert row.gmacs_per_s == pytest.approx(row.gmacs / 0.002)
    assert row.utilisation == pytest.approx(row.gmacs_per_s / (512 * 1024 * 1024 / 0.002 / 1e9))


@pytest.mark.realtime
def test_timings_are_plausible_beside_a_plain_loop() -> None:
    entrant = contender()
    report = run([entrant], Plan((300,), effort=Effort(seconds=0.2), cold_start=False))
    (row,) = report.rows
    forward = entrant.prepare(clip_like_features(1, 300, 8, seed=0), 1)
    loop = []
    for _ in range(200):
        begin = time.perf_counter()
        forward()
        loop.append(1e3 * (time.perf_counter() - begin))
    assert np.median(loop) / 5 < row.median_ms < np.median(loop) * 5
    assert row.min_ms <= row.median_ms
    assert row.gmacs == pytest.approx((300 * 384 + 16 * 300**2) / 1e9)
    assert row.gmacs_per_s == pytest.approx(row.gmacs / row.median_ms * 1e3)
    assert 0 < row.utilisation < 2


def test_every_configuration_has_a_row_and_every_pair_a_comparison() -> None:
    plan = Plan((3, 10), batches=(1, 2), effort=Effort(runs=2), cold_start=False)
    steps: list[str] = []
    report = run([contender(), contender(OPEN), contender(name="again")], plan, steps.append)
    assert len(steps) == 4
    assert [(row.batch, row.snippets, row.model) for row in report.rows[:4]] == [
        (1, 3, "tiny_baked.onnx"),
        (1, 3, "tiny_open.onnx"),
        (1, 3, "again"),
        (1, 10, "tiny_baked.onnx"),
    ]
    assert len(report.rows) == 12
    assert len(report.comparisons) == 12
    assert all(item.low <= item.ratio <= item.high for item in report.comparisons)
    assert all(row.runs == 2 and row.p90_ms is None for row in report.rows)


def test_memory_of_a_child_does_not_depend_on_the_parent() -> None:
    words = contender().cold_start_words(1, 1, 50)
    before = run_child(words, subject="tiny")
    ballast = np.ones(300_000_000 // 8)
    after = run_child(words, subject="tiny")
    assert ballast.sum() > 0
    assert before.peak_rss_mb is not None
    assert after.peak_rss_mb is not None
    assert 20 < before.base_rss_mb <= before.peak_rss_mb < 250
    assert abs(after.peak_rss_mb - before.peak_rss_mb) < 30
    assert before.load_ms > 0
    assert before.first_ms > 0


def test_a_longer_video_needs_more_memory() -> None:
    short, long = (run_child(contender().cold_start_words(1, batch, 512), subject="tiny") for batch in (1, 32))
    # 32 videos: attention alone is 32 x 512 x 512 floats.
    assert long.peak_rss_mb - short.peak_rss_mb > 30


def test_a_child_that_fails_says_why() -> None:
    words = list(contender().cold_start_words(1, 1, 50))
    words[1] = words[1].replace("tiny_baked", "missing")
    with pytest.raises(ChildError, match=r"tiny: the measuring process ended with 1 .*missing\.onnx: no such file"):
        run_child(words, subject="tiny")


def test_a_child_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Impatient(subprocess.Popen):  # type: ignore[type-arg]
        """A child whose time is up at once."""

        def __init__(self, *words: Any, **named: Any) -> None:
            super().__init__(*words, **named)
            started.append(self)

        def wait(self, timeout: float | None = None) -> int:
            if timeout == 7.5:
                raise subprocess.TimeoutExpired(self.args, timeout)
            return super().wait(timeout)

    monkeypatch.setattr(subprocess, "Popen", Impatient)
    with pytest.raises(ChildError, match=r"within 7\.5 s"):
        run_child(["timeit", "-n1", "-r1", "import time; time.sleep(600)"], subject="sleeper", timeout_s=7.5)
    (child,) = started
    assert child.returncode == -signal.SIGKILL


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the child through /proc")
def test_a_child_leaves_when_its_parent_is_killed(tmp_path: Path) -> None:
    child = (
        "import time; from pathlib import Path; from stale_edge_runtime.bench.memory import leave_with_parent;"
        f"import os; Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid())); leave_with_parent(); time.sleep(600)"
    )
    (tmp_path / "child.py").write_text(child)
    parent = (
        "import sys; sys.path.insert(0, sys.argv[1]); from stale_edge_runtime.bench.memory import run_child;"
        "run_child(['child'], subject='child')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen([sys.executable, "-c", parent, str(tmp_path)], env=environment)
    pid_file = tmp_path / "pid"
    assert comes_true(lambda: process.poll() is not None or (pid_file.exists() and pid_file.read_text() != ""))
    child_pid = int(pid_file.read_text())
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert comes_true(lambda: not is_running(child_pid))


def comes_true(condition: Callable[[], bool]) -> bool:
    """Wait for what a loaded machine does late."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def test_a_lost_child_leaves_a_note_and_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    entrant = contender()
    monkeypatch.setattr(OnnxContender, "cold_start_words", lambda *_: ("stale_edge_runtime.bench.nowhere",))
    report = run([entrant], Plan((5,), effort=Effort(runs=1)))
    (row,) = report.rows
    assert (row.load_ms, row.first_ms, row.peak_rss_mb) == (None, None, None)
    assert "no cold start: tiny_baked.onnx at 5 snippets" in report.notes[0]
    json.dumps(report.to_json(), allow_nan=False)


def test_the_same_weights_agree() -> None:
    (agreement,) = check_answers([contender(), contender(name="again")], contender(name="reference"), 20)[1:]
    assert agreement.max_relative == 0
    assert agreement.top1_changed == 0


def test_another_network_is_refused() -> None:
    with pytest.raises(BadDataError, match="unlike reference: other weights or another class list"):
        check_answers([contender(OPEN)], contender(name="reference"), 20)


def test_other_weights_are_refused() -> None:
    def with_seed(seed: int) -> OnnxContender:
        return OnnxContender(read_model(OPEN), f"seed {seed}", "cpu", synthetic_vocabulary(8, classes=5, seed=seed))

    with pytest.raises(BadDataError, match=r"seed 1: gives logits .* off, unlike seed 0"):
        check_answers([with_seed(1)], with_seed(0), 20)


@pytest.mark.parametrize("token_table", [49_408, 40])
@pytest.mark.parametrize("tokens", [3, 12, 77])
def test_made_up_prompts_are_prompts(token_table: int, tokens: int) -> None:
    vocabulary = synthetic_vocabulary(16, classes=7, tokens=tokens, token_table=token_table)
    ids = vocabulary.token_ids
    assert ids.shape == (7, tokens)
    assert ids.min() >= 0
    assert ids.max() == token_table - 1
    first_end = (ids == token_table - 1).argmax(axis=1)
    assert all((row[end:] == token_table - 1).all() for row, end in zip(ids, first_end, strict=True))
    assert (ids[:, 0] == token_table - 2).all()
    assert vocabulary.text_embeddings.shape == (7, 16)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("echo 'NVIDIA H100 80GB HBM3, 81559'", {"name": "NVIDIA H100 80GB HBM3", "memory_mb": 85_520}),
        ("echo 'Orin (nvgpu), [N/A]'", {"name": "Orin (nvgpu)", "memory_mb": None}),
        ("echo 'no devices were found'; exit 6", None),
        ("echo", None),
    ],
)
def test_a_gpu_is_named_as_its_driver_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, expected: object
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{told}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu.__wrapped__() == expected
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu.__wrapped__() is None


def test_without_a_driver_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.__wrapped__() is None
