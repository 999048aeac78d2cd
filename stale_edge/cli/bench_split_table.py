"""Results of `stale-edge bench` by length: medians, and the factor over the published PyTorch split into its steps."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from stale_edge.cli.bench_table import ratio_of
from stale_edge.cli.bench_towers import TOWER_KINDS
from stale_edge_runtime.bench.records import TEXT_CACHED
from stale_edge_runtime.bench.statistics import number
from stale_edge_runtime.contract import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stale_edge_runtime.bench.records import Report, Row


@dataclass(frozen=True)
class _FactorSteps:
    """Rows on the way from the published PyTorch to the fastest int8 file, at one length."""

    whole: Row
    """PyTorch fp32 as published, which encodes the text of every video anew."""
    cached: Row
    """The same with the text encoded once."""
    fp32: Row
    """The fp32 file of the same network."""
    int8: Row
    """The fastest int8 file of that network."""
    peers: tuple[Row, ...]
    """PyTorch's int8, as published and with the text encoded once."""


_STEPS: Final = (
    ("= text encoded once", attrgetter("whole"), attrgetter("cached")),
    ("× the graph", attrgetter("cached"), attrgetter("fp32")),
    ("× int8", attrgetter("fp32"), attrgetter("int8")),
)
"""Words of each step, and its rows before and after."""


def length_table(report: Report, threads: int, batch: int) -> Table:
    """Lay out the medians of one thread count and batch by contender and length, as papers show them.

    Args:
        report: The results.
        threads: Threads inside an operator.
        batch: Videos in one forward.
    """
    detectors = [row for row in report.rows if row.kind not in TOWER_KINDS]
    rows = [row for row in detectors if (row.threads, row.batch) == (threads, batch)]
    lengths = list(dict.fromkeys(row.snippets for row in rows))
    found = _table(
        f"Median time of a forward, ms: {threads} thread{'s' if threads > 1 else ''}, batch {batch}", lengths
    )
    for model in dict.fromkeys(row.model for row in rows):
        medians = {row.snippets: row.median_ms for row in rows if row.model == model}
        found.add_row(escape(model), *(number(medians.get(snippets)) for snippets in lengths))
    return found


def split_table(report: Report) -> Table | None:
    """Split the factor over the published PyTorch into its steps: text encoded once, the graph, int8.

    Only the fastest int8 file and the fp32 file of the network that PyTorch runs are looked at, on one thread.

    Args:
        report: The results.

    Returns:
        The table, or none where a step was not measured.
    """
    by_length = {snippets: _steps(report, snippets) for snippets in dict.fromkeys(row.snippets for row in report.rows)}
    found = {snippets: steps for snippets, steps in by_length.items() if steps is not None}
    if not found:
        return None
    first = next(iter(found.values()))
    table = _table("Times faster than PyTorch, step by step, with the 95 % interval", list(found))
    table.add_row(
        escape(f"{first.int8.model} against {first.whole.model}"),
        *(_factor(report, steps.whole, steps.int8) for steps in found.values()),
    )
    for words, slow, fast in _STEPS:
        table.add_row(words, *(_factor(report, slow(steps), fast(steps)) for steps in found.values()))
    for place, peer in enumerate(first.peers):
        factors = (_factor(report, steps.peers[place], steps.int8) for steps in found.values())
        table.add_row(escape(f"{first.int8.model} against {peer.model}"), *factors)
    return table


def _steps(report: Report, snippets: int) -> _FactorSteps | None:
    rows = [row for row in report.rows if (row.snippets, row.batch, row.threads) == (snippets, 1, 1)]
    of_torch = [row for row in rows if row.engine == "pytorch"]
    fp32_rows = [row for row in of_torch if row.precision == Precision.FP32]
    whole = next((row for row in fp32_rows if not row.model.endswith(TEXT_CACHED)), None)
    cached = next((row for row in fp32_rows if row.model.endswith(TEXT_CACHED)), None)
    same = {item.model for item in report.agreement}
    files = [row for row in rows if row.engine == "onnxruntime" and row.model in same and row.window is None]
    fp32 = next((row for row in files if row.precision == Precision.FP32), None)
    int8 = min((row for row in files if row.precision == Precision.INT8), key=lambda row: row.median_ms, default=None)
    if not (whole and cached and fp32 and int8):
        return None
    return _FactorSteps(whole, cached, fp32, int8, tuple(row for row in of_torch if row.precision == Precision.INT8))


def _factor(report: Report, slow: Row, fast: Row) -> str:
    """Write how many times faster one row is than another of its length, with the interval."""
    if (found := ratio_of(report, slow, fast)) is None:
        return f"{slow.median_ms / fast.median_ms:.3g}×"
    ratio, low, high = found
    return f"{ratio:.3g}× ({low:.3g}–{high:.3g})"


def _table(title: str, lengths: Sequence[int]) -> Table:
    found = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    found.add_column("")
    for snippets in lengths:
        found.add_column(f"T = {snippets:,}", justify="right", no_wrap=True)
    return found
