"""A table of a report, and how its numbers are written."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stale_edge.paper_tables import PaperTable
from stale_edge.study.report.thesis import NONE
from stale_edge_runtime.formats.csv_cells import inert_cells

if TYPE_CHECKING:
    from stale_edge.study.report.samples import Spread
    from stale_edge_runtime.bench.statistics import Ratio


@dataclass(frozen=True)
class ReportTable:
    """A table, ready to be shown."""

    key: str
    """Name in the report, fit for a file name."""
    title: str
    """A few words."""
    caption: str
    """Cells, by row."""
    columns: tuple[str, ...]
    """Headings."""
    rows: tuple[tuple[str, ...], ...]
    """Cells, as many as columns."""
    note: str = ""
    """Notes below the table."""
    marked: frozenset[int] = frozenset()
    """Numbers of the rows that are the thesis's or reference points, not ours."""
    heads: int = 1
    """Number of columns at the left that identify a row."""

    def to_csv(self) -> str:
        """Headings and rows; headings and cells as they are shown."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(map(inert_cells, [self.columns, *self.rows]))
        return text.getvalue()

    def for_paper(self) -> PaperTable:
        """Give the table for a paper: what identifies a row to the left, notes below."""
        note = " ".join(filter(None, (self.caption, self.note)))
        return PaperTable(self.title, self.columns, self.rows, self.heads, note)


def three_digits(value: float) -> str:
    """Write a number with three significant digits at least, without an exponent."""
    size = abs(value)
    if size == 0:
        return "0"
    decimals = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.1 else 4
    return f"{value:,.{decimals}f}"


def with_deviation(spread: Spread | None, decimals: int = 1) -> str:
    """Mean ± standard deviation; the mean alone where all values are the same."""
    if spread is None:
        return NONE
    mean = f"{spread.middle:,.{decimals}f}"
    return mean if spread.low == spread.high else f"{mean} ± {spread.middle - spread.low:,.{decimals}f}"


def with_quartiles(spread: Spread | None) -> str:
    """Median (lower to upper quartile); the value alone where there is one."""
    if spread is None:
        return NONE
    middle = three_digits(spread.middle)
    low, high = three_digits(spread.low), three_digits(spread.high)
    return middle if low == middle == high else f"{middle} ({low}–{high})"


def times(ratio: Ratio, *, interval: bool) -> str:
    """Write a factor with its interval, where it has one."""
    value = f"{three_digits(ratio.value)}×"
    return f"{value} ({three_digits(ratio.low)}–{three_digits(ratio.high)})" if interval else value
