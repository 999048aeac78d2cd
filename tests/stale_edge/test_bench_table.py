"""Words beside the table of `bench`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from stale_edge.cli.bench_split_table import length_table, split_table
from stale_edge.cli.bench_table import busy_warning
from stale_edge.cli.bench_video import _in_words
from stale_edge.paper_tables import from_rich


def row(model: str, engine: str, precision: str, median_ms: float, spread: float = 0.0) -> Any:
    times = {"low_ms": median_ms, "median_ms": median_ms, "high_ms": median_ms * (1 + spread)}
    place = {"snippets": 200, "batch": 1, "threads": 1, "window": None, "kind": "baked"}
    return SimpleNamespace(model=model, engine=engine, precision=precision, **times, **place)


ROWS = [
    row("PyTorch fp32", "pytorch", "fp32", 4000),
    row("PyTorch dynamic int8", "pytorch", "int8", 2500),
    row("PyTorch fp32, text cached", "pytorch", "fp32", 80),
    row("a.onnx", "onnxruntime", "fp32", 32),
    row("a.int8.onnx", "onnxruntime", "int8", 20),
    row("other.int8.onnx", "onnxruntime", "int8", 1),
]


def test_the_factor_is_split_into_its_steps() -> None:
    agreement = [SimpleNamespace(model=name) for name in ("a.onnx", "a.int8.onnx", "PyTorch fp32, text cached")]
    place = {"threads": 1, "batch": 1, "snippets": 200}
    turned = SimpleNamespace(a="a.int8.onnx", b="a.onnx", ratio=0.625, low=0.5, high=0.8, **place)
    report: Any = SimpleNamespace(rows=ROWS, agreement=agreement, comparisons=[turned])
    split = split_table(report)
    assert split is not None
    assert from_rich(split).rows == (
        ("a.int8.onnx against PyTorch fp32", "200×"),
        ("= text encoded once", "50×"),
        ("× the graph", "2.5×"),
        ("× int8", "1.6× (1.25–2)"),
        ("a.int8.onnx against PyTorch dynamic int8", "125×"),
    )
    assert split_table(SimpleNamespace(rows=ROWS[3:], agreement=agreement)) is None  # type: ignore[arg-type]


def test_medians_by_length_are_for_papers() -> None:
    longer = SimpleNamespace(**{**vars(ROWS[3]), "snippets": 1000, "median_ms": 300.0})
    report: Any = SimpleNamespace(rows=[*ROWS, longer])
    table = from_rich(length_table(report, 1, 1))
    assert table.columns == ("", "T = 200", "T = 1,000")
    assert ("a.onnx", "32", "300") in table.rows
    assert ("a.int8.onnx", "20", "") in table.rows


@pytest.mark.parametrize(
    ("load", "steal", "spread", "said"),
    [
        (0.2, 0.1, 0.1, ""),
        (None, None, 0.0, ""),
        (6.8, 0.0, 0.1, "BUSY MACHINE, DO NOT CITE THESE TIMES: load 6.8 before the first run"),
        (0.0, 9.0, 0.5, "9 % of the processor's time went to other machines, half of the rows spread by 50% or more"),
    ],
)
def test_a_busy_machine_is_said_loudly(load: float | None, steal: float | None, spread: float, said: str) -> None:
    machine = {"load_1min": [load, 9.0], "steal_percent": steal}
    found = busy_warning(SimpleNamespace(machine=machine, rows=[row("a", "onnxruntime", "fp32", 5, spread)]))  # type: ignore[arg-type]
    assert found.endswith(said)
    assert bool(found) == bool(said)


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        ((2.0, 1.9, 2.5), "ours is 2.00 times as fast as theirs (1.90 to 2.50)"),
        ((0.5, 0.4, 0.8), "ours takes 2.00 times as long as theirs (1.25 to 2.50)"),
    ],
)
def test_a_loss_is_said_as_plainly_as_a_gain(ratio: tuple[float, float, float], said: str) -> None:
    assert _in_words({"a": "theirs", "b": "ours", **dict(zip(("ratio", "low", "high"), ratio, strict=True))}) == said
