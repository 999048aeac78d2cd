"""Statistics of timings: known cases, and what must hold for any samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_edge_runtime.bench.statistics import P90_RUNS, ratio_of_medians, summarize

timings = st.lists(st.floats(1e-3, 1e5), min_size=1, max_size=200)


def test_a_known_case() -> None:
    summary = summarize(np.array([[5.0, 1.0], [3.0, 2.0], [4.0, 100.0]]))
    assert (summary.runs, summary.median_ms, summary.min_ms) == (6, 3.5, 1.0)
    assert summary.low_ms == 2.25
    assert summary.high_ms == 4.75


@pytest.mark.parametrize(("runs", "known"), [(P90_RUNS - 1, False), (P90_RUNS, True)])
def test_p90_needs_64_runs(runs: int, known: bool) -> None:
    p90 = summarize(np.arange(float(runs))).p90_ms
    assert (p90 is not None) is known


def test_the_slow_tail_counts() -> None:
    samples = np.concatenate([np.ones(80), np.full(20, 1000.0)])
    assert summarize(samples).p90_ms == 1000.0


@pytest.mark.parametrize("samples", [[], [1.0, float("nan")], [float("inf")]])
def test_what_is_no_timing_is_refused(samples: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        summarize(np.array(samples))


@given(timings)
def test_order_of_the_figures(samples: list[float]) -> None:
    summary = summarize(np.array(samples))
    assert summary.min_ms <= summary.low_ms <= summary.median_ms <= summary.high_ms <= max(samples)
    if summary.p90_ms is not None:
        assert summary.p90_ms >= np.quantile(samples, 0.9) * (1 - 1e-12)
        assert summary.p90_ms in samples


@given(st.integers(1, 40), st.floats(0.01, 100), st.integers(0, 2**32))
def test_a_constant_factor_is_found_exactly(rounds: int, factor: float, seed: int) -> None:
    base = np.random.default_rng(seed).uniform(1, 50, (rounds, 1))
    ratio = ratio_of_medians(factor * base, base, resamples=50)
    assert ratio.value == pytest.approx(factor)
    assert ratio.low == pytest.approx(factor)
    assert ratio.high == pytest.approx(factor)


@given(st.integers(2, 30), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32))
def test_the_interval_holds_the_ratio_and_does_not_change(rounds: int, left: int, right: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    slow, fast = generator.uniform(5, 9, (rounds, left)), generator.uniform(1, 2, (rounds, right))
    ratio = ratio_of_medians(slow, fast, resamples=50)
    assert ratio.low <= ratio.value <= ratio.high
    assert ratio.low >= slow.min() / fast.max() * (1 - 1e-12)
    assert ratio.high <= slow.max() / fast.min() * (1 + 1e-12)
    assert ratio == ratio_of_medians(slow, fast, resamples=50)


def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for seed in range(100):
        disturbance = generator.lognormal(0, 0.3, (40, 1))
        slow = 3 * disturbance * generator.lognormal(0, 0.1, (40, 2))
        fast = disturbance * generator.lognormal(0, 0.1, (40, 2))
        ratio = ratio_of_medians(slow, fast, seed=seed, resamples=300)
        hits += ratio.low <= 3 <= ratio.high
    assert 85 <= hits <= 100


def test_runs_that_were_not_interleaved_are_refused() -> None:
    with pytest.raises(ValueError, match="not interleaved"):
        ratio_of_medians(np.ones((3, 1)), np.ones((4, 1)))
