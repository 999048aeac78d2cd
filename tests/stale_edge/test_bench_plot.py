"""Pictures of `bench`: few lines in a panel, readable names, no spread of one run."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stale_edge.cli.bench_plot import draw
from stale_edge.palette import MOST_SERIES


def report(names: int, lengths: tuple[int, ...], runs: int) -> Any:
    rows = [
        SimpleNamespace(
            model=f"m{name}",
            threads=1,
            batch=1,
            snippets=snippets,
            window=None,
            runs=runs,
            median_ms=10.0 + name + snippets,
            low_ms=9.0 + name,
            high_ms=30.0 + name + snippets,
        )
        for name in range(names)
        for snippets in lengths
    ]
    return SimpleNamespace(rows=rows, machine={"cpu": "CPU"}, protocol={"name": "steady"})


@pytest.mark.parametrize(("names", "panels"), [(MOST_SERIES, 1), (MOST_SERIES + 1, 2), (11, 2)])
def test_more_lines_than_can_be_told_apart_go_into_panels(tmp_path: Path, names: int, panels: int) -> None:
    pytest.importorskip("matplotlib")
    target = tmp_path / "lines.svg"
    draw(report(names, (100, 200), 5), target)
    drawn = target.read_text()
    assert len(re.findall(r'id="axes_\d+"', drawn)) == panels
    assert all(f"<!-- m{name} -->" in drawn for name in range(names))


@pytest.mark.parametrize(("runs", "whiskers"), [(5, 3), (1, 0)])
def test_one_run_has_no_whisker(tmp_path: Path, runs: int, whiskers: int) -> None:
    pytest.importorskip("matplotlib")
    target = tmp_path / "bars.svg"
    draw(report(3, (200,), runs), target)
    collection = re.search(r'<g id="LineCollection_1">.*?</g>', target.read_text(), re.DOTALL)
    assert (collection[0].count('d="M') if collection else 0) == whiskers
