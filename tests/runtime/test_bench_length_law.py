"""Time by length: known laws are found again, and the longest video within a time is measured."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_edge_runtime.bench.budget import PRECISION, LongestVideo, Reach, find_budgets, longest_within
from stale_edge_runtime.bench.length_law import crossovers, fit_laws, nonnegative_fit
from stale_edge_runtime.bench.measure import Effort
from stale_edge_runtime.bench.records import Report, Row
from stale_edge_runtime.bench.runner import Plan
from stale_edge_runtime.bench.statistics import summarize

LENGTHS = (100, 200, 400, 700, 1000)
Law = tuple[float, float, float]


def time_ms(law: Law, snippets: int) -> float:
    return law[0] + law[1] * snippets + law[2] * snippets**2


def rows_of(law: Law, lengths=LENGTHS, *, model="m", provider="cpu") -> list[Row]:
    """Rows as a noiseless measurement of a law gives them."""
    found = []
    for snippets in lengths:
        summary = summarize(np.full((6, 2), time_ms(law, snippets)))
        found.append(
            Row(
                *(model, "baked", "onnxruntime", "fp32", provider, 1, 1, snippets, summary.runs, summary.median_ms),
                *(summary.p90_ms, summary.min_ms, summary.low_ms, summary.high_ms, *[None] * 8, 3),
            )
        )
    return found


coefficients = st.tuples(st.floats(0.1, 50), st.floats(1e-3, 1), st.floats(1e-7, 1e-3))


@given(coefficients)
def test_an_exact_law_is_found_again(law: Law) -> None:
    (found,) = fit_laws(rows_of(law))
    for snippets in (1, 100, 555, 2000):
        assert time_ms((found.a_ms, found.b_ms, found.c_ms), snippets) == pytest.approx(
            time_ms(law, snippets), rel=1e-4
        )
    assert found.misfit < 1e-5


@given(st.lists(st.floats(0.01, 100), min_size=5, max_size=5), st.integers(0, 2**32))
def test_no_other_law_without_negative_parts_fits_better(times: list[float], seed: int) -> None:
    powers = (np.array(LENGTHS)[:, None] / 1000.0) ** np.arange(3)
    target = np.array(times)
    found = nonnegative_fit(powers, target)
    assert (found >= 0).all()

    def error(candidate: np.ndarray) -> float:
        return float(np.square(powers @ candidate / target - 1).sum())

    generator = np.random.default_rng(seed)
    steps = found + generator.standard_normal((50, 3)) * generator.choice([1e-3, 0.1, 10], (50, 1))
    assert error(found) <= min(map(error, np.maximum(steps, 0))) * (1 + 1e-9) + 1e-12


def test_two_lengths_and_windows_follow_no_law() -> None:
    assert fit_laws(rows_of((1, 0.1, 1e-4), (100, 200))) == []
    assert fit_laws([replace(row, window=50, hop=25) for row in rows_of((1, 0.1, 1e-4))]) == []


def test_a_law_says_how_far_it_misses() -> None:
    """A step in the timings, as where another kernel takes over."""
    stepped = rows_of((1, 0.1, 0))
    stepped[2:] = [replace(row, median_ms=1.4 * row.median_ms) for row in stepped[2:]]
    (missing,) = fit_laws(stepped)
    assert missing.misfit > 0.05


@given(coefficients, st.floats(0.05, 5000), st.sets(st.integers(1, 8192), max_size=4), st.integers(1, 8192))
def test_the_longest_video_fits_and_the_next_measured_one_does_not(
    law: Law, budget_ms: float, lengths: set[int], longest: int
) -> None:
    known = {snippets: time_ms(law, snippets) for snippets in lengths if snippets <= longest}
    measured = dict(known)

    def measure(snippets: int) -> float:
        assert 1 <= snippets <= longest
        assert snippets not in measured, "measured twice"
        measured[snippets] = time_ms(law, snippets)
        return measured[snippets]

    low, high = longest_within(measure, known, budget_ms, longest)
    assert low == 0 or measured[low] <= budget_ms
    if high is None:
        assert low == longest
    else:
        assert measured[high] > budget_ms
        assert high - low <= max(1, PRECISION * low)
    assert len(measured) - len(known) <= 28


def test_a_disturbed_length_does_not_end_the_search() -> None:
    """A short video that took too long once bounds the answer; a longer one that fits does not lift it."""
    low, high = longest_within(lambda snippets: snippets / 10, {100: 30.0, 200: 20.0}, 20, 8192)
    assert (low, high) == (99, 100)


@dataclass
class Clocked:
    """A contender whose forward moves a clock by a law instead of taking time."""

    name: str
    law: Law
    clock: list[float] = field(default_factory=lambda: [0.0])
    provider: str = "cpu"
    feature_dim: int = 4
    windows: None = None

    def prepare(self, features, threads):
        took = time_ms(self.law, features.shape[1])

        def forward():
            self.clock[0] += took

        return forward


def test_budgets_are_measured_from_the_rows_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("stale_edge_runtime.bench.measure.time.perf_counter_ns", lambda: round(clock[0] * 1e6))
    ticks = count()
    monkeypatch.setattr("stale_edge_runtime.bench.measure.time.perf_counter", lambda: next(ticks))
    slow, fast = Clocked("slow", (2, 0.05, 5e-5), clock), Clocked("fast", (1, 0, 0), clock)
    rows = [*rows_of(slow.law, model="slow"), *rows_of(fast.law, model="fast")]
    said: list[str] = []
    plan = Plan(LENGTHS, effort=Effort(runs=2), cold_start=False)
    found = find_budgets([slow, fast], rows, plan, 40, 3000, said.append)  # type: ignore[list-item]
    assert said == ["slow", "fast"]
    assert (found[0].reach, found[1].reach) == (Reach.MEASURED, Reach.BEYOND)
    assert found[0].snippets <= 505 < found[0].high  # 2 + 0.05 T + 5e-5 T² = 40 at T = 505.9
    assert found[1] == LongestVideo("fast", "cpu", 1, 1, 40, 3000, None)
    assert find_budgets([slow], rows_of(slow.law, model="slow"), plan, 1, 3000)[0].reach is Reach.NONE


@pytest.mark.parametrize(
    ("gpu", "first", "low"),
    [
        ((8, 0.01, 1e-6), 400, 200),
        ((0.1, 0.01, 1e-6), 100, None),
        ((500, 0.01, 1e-6), None, 1000),
    ],
)
def test_where_a_gpu_overtakes(gpu: Law, first: int | None, low: int | None) -> None:
    slow = rows_of((50, 1, 1e-3), model="slow.onnx (cpu)")
    cpu = rows_of((0.5, 0.04, 1e-5), model="fast.onnx (cpu)")
    (found,) = crossovers([*slow, *cpu, *rows_of(gpu, model="fast.onnx (cuda)", provider="cuda")])
    assert (found.gpu, found.cpu, found.provider) == ("fast.onnx (cuda)", "fast.onnx (cpu)", "cuda")
    assert (found.snippets, found.low, found.horizon) == (first, low, 1000)


def test_without_a_gpu_there_is_no_crossover() -> None:
    assert crossovers(rows_of((1, 0.1, 0))) == []


def test_json_has_law_budget_and_crossover() -> None:
    rows = [*rows_of((1, 0.1, 1e-4)), *rows_of((50, 0.01, 1e-6), model="g", provider="cuda")]
    budgets = (LongestVideo("m", "cpu", 1, 1, 20.0, 166, 167), LongestVideo("m", "cpu", 1, 1, 0.5, 0, 1))
    report = Report({}, {}, tuple(rows), (), (), (), tuple(fit_laws(rows)), budgets, tuple(crossovers(rows)))
    values = json.loads(json.dumps(report.to_json(), allow_nan=False))
    law = values["length_law"][0]
    assert law["a_ms"] + 200 * law["b_ms"] + 200**2 * law["c_ms"] == pytest.approx(25, rel=1e-4)
    assert law["lengths"] == list(LENGTHS)
    assert [(item["low"], item["snippets"], item["high"], item["reach"]) for item in values["budget"]] == [
        (166, 166, 167, "measured"),
        (0, 0, 1, "none"),
    ]
    (crossover,) = values["crossover"]
    assert (crossover["low"], crossover["high"], crossover["reach"]) == (200, 400, "measured")
