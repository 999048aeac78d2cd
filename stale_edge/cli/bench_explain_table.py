"""Time of each file by stage and operator, as `stale-edge bench --explain` shows it."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stale_edge_runtime.bench.explain import Explanation, Share

TOP_OPERATORS = 10
SMALL = 0.005

Key = tuple[str, str]


def explain_tables(explanations: Sequence[Explanation]) -> Iterator[Table]:
    """Lay out one table for each file, thread count and batch: its stages, each followed by its heaviest operators.

    Args:
        explanations: Explanations of all files at all lengths, the lengths of a file together.
    """
    for (name, threads, batch), group in groupby(explanations, lambda item: (item.model, item.threads, item.batch)):
        plural = "threads" if threads > 1 else "thread"
        yield _table(f"Where the time goes in {escape(name)}: {threads} {plural}, batch {batch}", list(group))


def _table(title: str, lengths: Sequence[Explanation]) -> Table:
    found = Table(
        title=title,
        title_justify="left",
        caption="ms and share of all operators, medians of separate profiled runs, which are slower than measured ones",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in ("stage", "operator"):
        found.add_column(name, no_wrap=True)
    for name in ("calls", *(f"T = {item.snippets:,}" for item in lengths)):
        found.add_column(name, justify="right", no_wrap=True)
    stages = [_by_key(item.stages) for item in lengths]
    operators = [_by_key(item.operators) for item in lengths]
    shown = _heaviest(operators)
    for key in _by_weight(stages):
        inside = [each for each in _by_weight(operators) if each[0] == key[0] and each in shown]
        found.add_row(key[0], "", *_cells(key, stages), style="bold", end_section=not inside)
        for each in inside:
            found.add_row("", each[1], *_cells(each, operators), end_section=each is inside[-1])
    found.add_row("run", "", "", *(f"{milliseconds(item.run_ms)}     " for item in lengths))
    return found


def _by_key(shares: Sequence[Share]) -> dict[Key, Share]:
    return {(share.stage, share.operator): share for share in shares}


def _by_weight(lengths: Sequence[dict[Key, Share]]) -> list[Key]:
    """Sort all keys, those first that take the largest share at any length."""
    keys = {key for shares in lengths for key in shares}
    return sorted(keys, key=lambda key: (-_largest(key, lengths), key))


def _heaviest(lengths: Sequence[dict[Key, Share]]) -> set[Key]:
    return {key for key in _by_weight(lengths)[:TOP_OPERATORS] if _largest(key, lengths) >= SMALL}


def _largest(key: Key, lengths: Sequence[dict[Key, Share]]) -> float:
    return max(shares[key].share for shares in lengths if key in shares)


def _cells(key: Key, lengths: Sequence[dict[Key, Share]]) -> list[str]:
    calls = {shares[key].calls for shares in lengths if key in shares}
    shares = [item.get(key) for item in lengths]
    # Attention runs in more blocks on longer videos.
    count = str(min(calls)) if len(calls) == 1 else f"{min(calls)}-{max(calls)}"
    return [count, *(f"{milliseconds(share.ms)} {share.share:4.0%}" if share else "" for share in shares)]


def milliseconds(value: float) -> str:
    """Write a time with three significant digits.

    Args:
        value: Milliseconds.
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.01 else f"{value:.1g}"
