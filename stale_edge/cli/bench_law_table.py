"""Time by length, the longest video within a budget and the crossover to a GPU, as `stale-edge bench` shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from stale_edge_runtime.bench.budget import Reach
from stale_edge_runtime.bench.statistics import number

if TYPE_CHECKING:
    from stale_edge_runtime.bench.budget import LongestVideo
    from stale_edge_runtime.bench.length_law import Crossover
    from stale_edge_runtime.bench.records import Report


def law_table(report: Report) -> Table:
    """Lay out the law of every contender.

    Args:
        report: The results, with at least one law.
    """
    lengths = report.length_laws[0].lengths
    found = Table(
        title=f"Time by length: t = a + b T + c T², from {min(lengths):,} to {max(lengths):,} snippets",
        title_justify="left",
        caption="a: constant; b: for each snippet; c: for each pair of snippets; off: from a measured median",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    several = len({(law.threads, law.batch) for law in report.length_laws}) > 1
    found.add_column("model", no_wrap=True)
    for name in (*(("threads", "batch") if several else ()), "a, ms", "b, µs", "c, ns", "off by up to"):
        found.add_column(name, justify="right", no_wrap=True)
    for law in report.length_laws:
        setting = [str(law.threads), str(law.batch)] if several else []
        parts = map(number, (law.a_ms, law.b_ms * 1e3, law.c_ms * 1e6))
        found.add_row(escape(law.model), *setting, *parts, f"{law.misfit:.1%}")
    return found


def budget_line(item: LongestVideo) -> str:
    """Say the longest video within a budget in a sentence."""
    limit = f"{item.budget_ms:g} ms"
    plural = "threads" if item.threads > 1 else "thread"
    subject = f"{item.model}, {item.threads} {plural}, batch {item.batch}"
    if item.reach is Reach.NONE:
        return f"{subject}: not even 1 snippet in {limit}"
    if item.reach is Reach.BEYOND:
        return f"{subject}: {item.snippets:,} snippets, the most that it takes, fit into {limit}"
    return f"{subject}: {item.snippets:,} snippets fit into {limit}, {item.high:,} do not (measured)"


def crossover_line(item: Crossover) -> str:
    """Say where a GPU overtakes the CPU in a sentence."""
    if item.snippets is None:
        return f"{item.gpu} is not faster than {item.cpu} at {item.horizon:,} snippets, the longest measured"
    slower = f", slower at {item.low:,}" if item.low else ""
    return f"{item.gpu} is faster than {item.cpu} from {item.snippets:,} measured snippets on{slower}"
