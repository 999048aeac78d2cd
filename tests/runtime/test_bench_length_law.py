"""Time as a function of the length: known laws are found again, and nothing is said that was not measured."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_edge_runtime.bench.length_law import (
    LengthLaw,
    Reach,
    crossovers,
    fit_laws,
    longest_within,
    nonnegative_fit,
)
from stale_edge_runtime.bench.records import Report, Row
from stale_edge_runtime.bench.statistics import summarize

LENGTHS = (100, 200, 400, 700, 1000)


def rows_of(law, lengths=LENGTHS, *, noise=0.0, seed=0, model="m", provider="cpu", rounds=12) -> list[Row]:
    """What a measurement of a true law a + b T + c T² might have given."""
    a, b, c = law
    generator = np.random.default_rng(seed)
    found = []
    for snippets in lengths:
        true = a + b * snippets + c * snippets**2
        samples = true * generator.lognormal(0, noise, (rounds, 2))
        summary = summarize(samples)
        found.append(
            Row(
                *(model, "baked", "onnxruntime", "fp32", provider, 1, 1, snippets, summary.runs, summary.median_ms),
                *(summary.p90_ms, summary.min_ms, summary.low_ms, summary.high_ms, *[None] * 8, 3),
                samples_ms=tuple(map(tuple, samples.tolist())),
            )
        )
    return found


def law_of(law, lengths=LENGTHS, **options) -> LengthLaw:
    (found,) = fit_laws(rows_of(law, lengths, **options))
    return found


coefficients = st.tuples(st.floats(0.1, 50), st.floats(1e-3, 1), st.floats(1e-7, 1e-3))


@given(coefficients)
def test_an_exact_law_is_found_again(law: tuple[float, float, float]) -> None:
    found = law_of(law)
    for snippets in (1, 100, 555, 2000):
        expected = law[0] + law[1] * snippets + law[2] * snippets**2
        assert found.at(snippets) == pytest.approx(expected, rel=1e-4)
    assert found.misfit < 1e-5
    assert found.horizon == 2000


@given(st.lists(st.floats(0.01, 100), min_size=5, max_size=5), st.integers(0, 2**32))
def test_no_other_law_without_negative_parts_fits_better(times: list[float], seed: int) -> None:
    powers = (np.array(LENGTHS)[:, None] / 1000.0) ** np.arange(3)
    target, weights = np.array([times]), 1 / np.array(times)
    (found,) = nonnegative_fit(powers, target, weights)
    assert (found >= 0).all()

    def error(candidate: np.ndarray) -> float:
        return float(np.square((powers @ candidate - target[0]) * weights).sum())

    generator = np.random.default_rng(seed)
    steps = found + generator.standard_normal((50, 3)) * generator.choice([1e-3, 0.1, 10], (50, 1))
    assert error(found) <= min(map(error, np.maximum(steps, 0))) * (1 + 1e-9) + 1e-12


def test_three_lengths_are_said_without_uncertainty_and_two_not_at_all() -> None:
    assert fit_laws(rows_of((1, 0.1, 1e-4), (100, 200))) == []
    three = law_of((1, 0.1, 1e-4), (100, 200, 400), noise=0.05)
    assert (three.low_ms, three.high_ms) == (None, None)
    answer = longest_within(three, 20)
    assert answer.snippets > 0
    assert (answer.low, answer.high) == (None, None)
    four = law_of((1, 0.1, 1e-4), (100, 200, 400, 800), noise=0.05)
    assert four.low_ms is not None
    assert four.high_ms is not None
    assert all(low <= high for low, high in zip(four.low_ms, four.high_ms, strict=True))


def test_windows_follow_no_law_of_one_piece() -> None:
    rows = [replace(row, window=50, hop=25) for row in rows_of((1, 0.1, 1e-4))]
    assert fit_laws(rows) == []


def test_a_law_that_misses_is_less_sure_than_one_that_fits() -> None:
    """A step in the timings, as where another kernel takes over."""
    straight = law_of((1, 0.1, 0))
    stepped = rows_of((1, 0.1, 0))
    stepped[2:] = [
        replace(row, median_ms=1.4 * row.median_ms, samples_ms=tuple((1.4 * x, 1.4 * y) for x, y in row.samples_ms))
        for row in stepped[2:]
    ]
    (missing,) = fit_laws(stepped)
    assert missing.misfit > 0.05 > straight.misfit
    sure, unsure = longest_within(straight, 60), longest_within(missing, 60)
    assert unsure.high - unsure.low > 20 * max(1, sure.high - sure.low)


def test_the_interval_of_the_longest_video_holds_the_truth_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(60):
        answer = longest_within(law_of((2, 0.05, 5e-5), noise=0.1, seed=seed), 40)
        hits += answer.low <= 505 <= answer.high  # 2 + 0.05 T + 5e-5 T² = 40 at T = 505.9
    assert hits >= 50


@given(coefficients, st.floats(0.05, 5000))
def test_the_longest_video_fits_and_the_next_does_not(law: tuple[float, float, float], budget_ms: float) -> None:
    found = law_of(law)
    answer = longest_within(found, budget_ms)
    if answer.reach is Reach.NONE:
        assert answer.snippets == 0
        assert found.at(1) > budget_ms * (1 - 1e-6)
        return
    assert found.at(answer.snippets) <= budget_ms * (1 + 1e-6)
    if answer.reach is Reach.BEYOND:
        assert answer.snippets == found.horizon
        assert answer.high is None
    else:
        assert found.at(answer.snippets + 1) > budget_ms * (1 - 1e-6)
        assert (answer.reach is Reach.MEASURED) == (100 <= answer.snippets <= 1000)
        assert answer.low <= answer.snippets
        assert answer.high is None or answer.snippets <= answer.high


def test_time_that_does_not_grow_promises_nothing_beyond_what_was_measured() -> None:
    answer = longest_within(law_of((5, 0, 0)), 20)
    assert (answer.snippets, answer.reach) == (2000, Reach.BEYOND)
    assert longest_within(law_of((5, 0, 0)), 4).reach is Reach.NONE
    assert law_of((5, 0.1, 0), (2000, 5000, 8192)).horizon == 8192


def measured(cpu, gpu, **options) -> list[LengthLaw]:
    slow = rows_of((50, 1, 1e-3), model="slow.onnx (cpu)")
    return fit_laws(
        [
            *slow,
            *rows_of(cpu, model="fast.onnx (cpu)", **options),
            *rows_of(gpu, model="fast.onnx (cuda)", provider="cuda", **options),
        ]
    )


@pytest.mark.parametrize(
    ("cpu", "gpu", "reach"),
    [
        ((0.5, 0.04, 1e-5), (8, 0.01, 1e-6), Reach.MEASURED),
        ((0.5, 0.04, 1e-5), (1.5, 0.01, 1e-6), Reach.EXTRAPOLATED),
        ((0.5, 0.01, 1e-5), (20, 0.01, 1e-6), Reach.EXTRAPOLATED),
        ((0.5, 0.04, 1e-5), (0.1, 0.01, 1e-6), Reach.EXTRAPOLATED),
        ((0.5, 0.001, 1e-7), (20, 0.01, 1e-6), Reach.NONE),
    ],
)
def test_where_a_gpu_overtakes(cpu, gpu, reach: Reach) -> None:
    (found,) = crossovers(measured(cpu, gpu))
    lengths = np.arange(1, 2001)
    ahead = sum(g * lengths**p for p, g in enumerate(gpu)) < sum(c * lengths**p for p, c in enumerate(cpu))
    assert (found.gpu, found.cpu, found.provider) == ("fast.onnx (cuda)", "fast.onnx (cpu)", "cuda")
    assert found.reach is reach
    if reach is Reach.NONE:
        assert found.snippets is None
    else:
        assert abs(found.snippets - lengths[ahead][0]) <= 1
        assert found.low <= found.snippets <= found.high


def test_noise_widens_the_crossover() -> None:
    (found,) = crossovers(measured((0.5, 0.04, 1e-5), (8, 0.01, 1e-6), noise=0.1))
    assert found.low < 233 < found.high  # where the true laws cross
    assert found.high - found.low > 5


def test_without_a_gpu_there_is_no_crossover() -> None:
    assert crossovers(fit_laws(rows_of((1, 0.1, 0)))) == []


def test_json_has_the_law_and_no_draws() -> None:
    rows = rows_of((1, 0.1, 1e-4), noise=0.05)
    laws = tuple(fit_laws(rows))
    report = Report({}, {}, tuple(rows), length_laws=laws, budgets=tuple(longest_within(law, 20) for law in laws))
    values = json.loads(json.dumps(report.to_json(), allow_nan=False))
    (law,) = values["length_law"]
    assert law["a_ms"] + 200 * law["b_ms"] + 200**2 * law["c_ms"] == pytest.approx(laws[0].at(200), rel=1e-4)
    assert len(law["low_ms"]) == len(law["high_ms"]) == 3
    assert law["lengths"] == list(LENGTHS)
    assert "draws_ms" not in law
    (budget,) = values["budget"]
    assert budget["budget_ms"] == 20
    assert budget["low"] <= budget["snippets"] <= budget["high"]
    assert budget["reach"] == "measured"
