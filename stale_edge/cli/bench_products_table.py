"""Products of each file by shape, and the parts of a forward, as `stale-edge bench --explain` shows them."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from stale_edge.cli.bench_explain_table import milliseconds
from stale_edge_runtime.bench.product_parts import PartKind
from stale_edge_runtime.bench.statistics import number
from stale_edge_runtime.contract import Precision

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stale_edge_runtime.bench.explain import Explanation
    from stale_edge_runtime.bench.product_parts import ProductShare

SMALL = 0.005
"""Share of a run up to which products are shown in one line together."""
TOP_PASSES = 6
COLUMNS = ("times", "GMACs", "ms", "quantising", "product", "rescaling", "of ceiling", "alone")
_CAPTION = (
    "rows x inner x columns; w: by a weight, packed beforehand; ms: all of them in a profiled forward, split as "
    "measured alone; of ceiling: share of the product ceiling that multiplying reaches in the run, and a product of "
    "this shape alone"
)


def product_tables(explanations: Sequence[Explanation]) -> Iterator[Table | str]:
    """Lay out a table of products for each explanation, and one of the parts for each file, thread count and batch.

    Args:
        explanations: Explanations of all files at all lengths, the lengths of a file together.
    """
    for (name, threads, batch), group in groupby(explanations, lambda item: (item.model, item.threads, item.batch)):
        lengths = list(group)
        subject = f"{escape(name)}: {threads} {'threads' if threads > 1 else 'thread'}, batch {batch}"
        for item in lengths:
            if item.products:
                yield _products(f"Products of {subject}, T = {item.snippets:,}", item)
        precisions = {product.precision for item in lengths for product in item.products}
        if not precisions:
            yield f"{name} has no matrix products"
        elif Precision.INT8 not in precisions:
            yield f"{name} has no 8-bit products: nothing is quantised or rescaled, and the ceiling is that of fp32"
        yield _parts(f"Parts of a forward of {subject}", lengths)


def _table(title: str, caption: str, heads: Sequence[str], columns: Sequence[str]) -> Table:
    found = Table(
        title=title,
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in heads:
        found.add_column(name, no_wrap=True)
    for name in columns:
        found.add_column(name, justify="right", no_wrap=True)
    return found


def _products(title: str, item: Explanation) -> Table:
    found = _table(title, _CAPTION, ("product", "precision", "operator", "stages"), COLUMNS)
    small = [product for product in item.products if product.ms < SMALL * item.run_ms]
    for product in item.products:
        if product not in small:
            found.add_row(*_cells(product))
    if small:
        ms, times = sum(product.ms for product in small), sum(product.times for product in small)
        gmacs = number(sum(product.gmacs for product in small))
        found.add_row("smaller ones", "", "", "", str(times), gmacs, milliseconds(ms))
    return found


def _cells(product: ProductShare) -> tuple[str, ...]:
    eight = product.precision is Precision.INT8
    return (
        f"{product.rows} x {product.inner} x {product.columns}{' w' if product.is_constant else ''}",
        str(product.precision),
        product.operator,
        escape(", ".join(product.stages)),
        str(product.times),
        number(product.gmacs),
        milliseconds(product.ms),
        milliseconds(product.quantising_ms) if eight else "",
        milliseconds(product.product_ms),
        milliseconds(product.rescaling_ms) if eight else "",
        f"{product.of_ceiling:.0%}",
        "" if product.of_ceiling_alone is None else f"{product.of_ceiling_alone:.0%}",
    )


def _parts(title: str, lengths: Sequence[Explanation]) -> Table:
    caption = "ms and share of a profiled forward; the last line is a forward that is not profiled, timed in turn"
    found = _table(title, caption, ("part", "operator"), [f"T = {item.snippets:,}" for item in lengths])
    parts = [{(part.kind, part.operator): part.ms for part in item.parts} for item in lengths]
    passes = {
        key: max(each.get(key, 0.0) for each in parts) for each in parts for key in each if key[0] is PartKind.PASSES
    }
    shown = sorted(passes, key=lambda key: (-passes[key], key))[:TOP_PASSES]
    for kind in PartKind:
        if kind is not PartKind.PASSES:
            found.add_row(kind, "", *(_share(each[kind, ""], item) for each, item in zip(parts, lengths, strict=True)))
            continue
        for key in shown:
            found.add_row(
                kind if key is shown[0] else "",
                key[1],
                *(_share(each.get(key, 0.0), item) for each, item in zip(parts, lengths, strict=True)),
            )
        if left := passes.keys() - set(shown):
            sums = [sum(each.get(key, 0.0) for key in left) for each in parts]
            cells = [_share(ms, item) for ms, item in zip(sums, lengths, strict=True)]
            found.add_row("", f"{len(left)} other kinds", *cells)
    found.add_section()
    found.add_row("run", "", *(f"{milliseconds(item.run_ms)} 100%" for item in lengths))
    found.add_row("run without profile", "", *(f"{milliseconds(item.plain_ms)}     " for item in lengths))
    return found


def _share(ms: float, item: Explanation) -> str:
    return f"{'-' if ms < 0 else ''}{milliseconds(abs(ms))} {ms / item.run_ms:4.0%}"
