"""A study in a table: one line for each combination of its factors."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from stale_edge.study.design import COLUMNS
from stale_edge.study.report.simulated import WORLD, is_simulated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from stale_edge.study.design import Factor
    from stale_edge.study.store import StudyRun

FRACTION = "fraction"


def summary(run: StudyRun) -> list[dict[str, Any]]:
    """Median, least, greatest and number of the values of each metric, for each combination of factors.

    Args:
        run: The study.

    Returns:
        JSON values, in the order of measuring.
    """
    columns = COLUMNS[run.study]
    groups: dict[tuple[Factor, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for measurement in run.measurements:
        key = tuple(measurement.factors[name] for name in columns.factors)
        groups[key][measurement.metric].append(measurement.value)
    return [
        {
            **dict(zip(columns.factors, key, strict=True)),
            **{metric: _summarize(values[metric]) for metric in columns.metrics if metric in values},
        }
        for key, values in groups.items()
    ]


def summary_table(run: StudyRun) -> Table:
    """Lay out the summary for people: the median, and the range where there are several values.

    Args:
        run: The study.
    """
    from rich.markup import escape
    from rich.table import Table

    columns = COLUMNS[run.study]
    world = f", {WORLD}" if is_simulated(run) else ""
    title = f"{run.study}{world}: median (least to greatest) of n values, {run.machine.get('cpu')}"
    table = Table(title=escape(title), title_justify="left")
    for name in columns.factors:
        table.add_column(escape(name))
    for metric, unit in columns.metrics.items():
        table.add_column(escape(_header(metric, unit)), justify="right")
    for row in summary(run):
        cells = [_shown(row.get(metric), unit) for metric, unit in columns.metrics.items()]
        table.add_row(*(escape(str(row[name])) for name in columns.factors), *cells)
    return table


def _header(metric: str, unit: str) -> str:
    """Head a column: the metric with the unit that its values are shown in, unless it is in its name."""
    if metric.endswith(f"_{unit.lower()}"):
        return metric
    return f"{metric} [{'%' if unit == FRACTION else unit}]"


def _summarize(values: Sequence[float]) -> dict[str, float | int]:
    from statistics import median

    return {"median": median(values), "min": min(values), "max": max(values), "n": len(values)}


def _shown(found: dict[str, Any] | None, unit: str) -> str:
    if found is None:
        return "-"
    middle, low, high = (_number(found[name], unit) for name in ("median", "min", "max"))
    return middle if found["n"] == 1 else f"{middle} ({low} to {high}) n={found['n']}"


def _number(value: float, unit: str) -> str:
    if unit == FRACTION:
        return f"{100 * value:.1f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
