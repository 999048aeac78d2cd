"""Time as a function of the length, and what follows from it, as `stale-edge bench` shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from stale_edge_runtime.bench.length_law import MAX_EXTRAPOLATION, Budget, Crossover, LengthLaw, Reach
from stale_edge_runtime.bench.statistics import number

if TYPE_CHECKING:
    from stale_edge_runtime.bench.records import Report

UNITS = ("a, ms", "b, µs", "c, ns")
FACTORS = (1.0, 1e3, 1e6)


def law_table(report: Report) -> Table:
    """The law of every contender, and the longest video within the budget where one was given.

    Args:
        report: The results, with at least one law.
    """
    budgets = {_key(item): item for item in report.budgets}
    lengths = report.length_laws[0].lengths
    uncertain = any(law.low_ms for law in report.length_laws)
    found = Table(
        title=f"Time by length: t = a + b T + c T², from {min(lengths):,} to {max(lengths):,} snippets",
        title_justify="left",
        caption=_caption(uncertain=uncertain, budget=bool(budgets)),
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    several = len({(law.threads, law.batch) for law in report.length_laws}) > 1
    found.add_column("model", no_wrap=True)
    for name in (*(("threads", "batch") if several else ()), *UNITS, "off by up to"):
        found.add_column(name, justify="right", no_wrap=True)
    if budgets:
        found.add_column(f"longest in {report.budgets[0].budget_ms:g} ms", no_wrap=True)
    for law in report.length_laws:
        cells = [escape(law.model), *([str(law.threads), str(law.batch)] if several else []), *_coefficients(law)]
        budget = budgets.get(_key(law))
        found.add_row(*cells, f"{law.misfit:.1%}", *([longest_text(law, budget)] if budget else []))
    return found


def longest_text(law: LengthLaw, budget: Budget) -> str:
    """The longest video within a budget, in words.

    Args:
        law: Of the same contender.
        budget: The answer.
    """
    if budget.reach is Reach.NONE:
        return "not even 1 snippet" + (f" (to {budget.high:,})" if budget.high else "")
    if budget.reach is Reach.BEYOND:
        return f"more than {law.horizon:,}; measured to {max(law.lengths):,}"
    text = f"{budget.snippets:,}"
    if budget.low is not None:
        text += f" ({budget.low:,}-{budget.high:,})" if budget.high else f" ({budget.low:,} to beyond {law.horizon:,})"
    return text + (", extrapolated" if budget.reach is Reach.EXTRAPOLATED else "")


def crossover_line(item: Crossover) -> str:
    """Where a GPU overtakes the CPU, in a sentence.

    Args:
        item: The answer.
    """
    if item.snippets is None:
        return f"{item.gpu} is not faster than {item.cpu} at any length up to {item.horizon:,} snippets"
    interval = ""
    if item.low is not None and item.high is not None:
        high = f"{item.high:,}" if item.high <= item.horizon else f"beyond {item.horizon:,}"
        interval = f" (95 %: {item.low:,} to {high})"
    outside = ", extrapolated" if item.reach is Reach.EXTRAPOLATED else ""
    return f"{item.gpu} is faster than {item.cpu} from {item.snippets:,} snippets on{interval}{outside}"


def _key(item: LengthLaw | Budget) -> tuple[str, str, int, int]:
    return item.model, item.provider, item.threads, item.batch


def _coefficients(law: LengthLaw) -> list[str]:
    cells = []
    for place, factor in enumerate(FACTORS):
        text = number(law.coefficients_ms[place] * factor)
        if law.low_ms and law.high_ms:
            text += f" ({number(law.low_ms[place] * factor)}-{number(law.high_ms[place] * factor)})"
        cells.append(text)
    return cells


def _caption(*, uncertain: bool, budget: bool) -> str:
    parts = ["a: whatever the length; b: for each snippet; c: for each pair of snippets; off: from a measured median"]
    parts.append("in brackets: 95 %" if uncertain else "a fourth length would tell how sure this is")
    if budget:
        parts.append(f"lengths are believed up to {MAX_EXTRAPOLATION} times the longest measured")
    return "; ".join(parts)
