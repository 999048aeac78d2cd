"""Words and figures of runs on simulated videos: they say so, and no figure of ActivityNet stands beside theirs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from stale_edge.study.design import StudyName
from stale_edge.study.report import thesis
from stale_edge_runtime.formats.annotations import SIMULATED_WORLD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stale_edge.study.report.charts import Chart
    from stale_edge.study.report.headlines import Headline
    from stale_edge.study.report.labels import Labelled
    from stale_edge.study.report.table import ReportTable
    from stale_edge.study.store import StudyRun

WORLD: Final = SIMULATED_WORLD
"""Key of the data among a run's options, and what is written."""
NOT_COMPARED: Final = "The thesis's figures are of ActivityNet: they do not compare with those of a simulated world."
_TIMED: Final = (StudyName.INFERENCE, StudyName.QUANTIZATION)
_MAP: Final = "mAP"
_SECONDS: Final = "seconds"
SAME_DATA: Final = (
    "The thesis's values are of ActivityNet's features; beside runs on other data they show the trend, not a target."
)


def is_simulated(run: StudyRun) -> bool:
    """Tell whether what a run measured depends on simulated videos.

    Args:
        run: A run. Times of a forward do not depend on what is in a video.
    """
    data = run.options.get("data")
    return run.study not in _TIMED and isinstance(data, dict) and WORLD in data


def told_of_charts(charts: Sequence[Chart], runs: Sequence[Labelled]) -> tuple[Chart, ...]:
    """Say of charts that they are of a simulated world, and take the thesis's figures out of them.

    Args:
        charts: Charts of one study.
        runs: The runs that they are made from.
    """
    return tuple(map(_told_of_chart, charts)) if any(is_simulated(item.run) for item in runs) else tuple(charts)


def told_of_tables(tables: Sequence[ReportTable], runs: Sequence[Labelled]) -> tuple[ReportTable, ...]:
    """Say of tables that they are of a simulated world, and take the thesis's mAP and seconds out of them.

    Args:
        tables: Tables of one study.
        runs: The runs that they are made from.
    """
    return tuple(map(_told_of_table, tables)) if any(is_simulated(item.run) for item in runs) else tuple(tables)


def told_of_headline(headline: Headline, item: Labelled) -> Headline:
    """Say of a headline that it is of a simulated world, and take the thesis's figure out of it.

    Args:
        headline: Headline of a run.
        item: The run.
    """
    if not is_simulated(item.run):
        return headline
    beside = headline.thesis if headline.thesis == thesis.NO_EXPERIMENT else "Thesis: on ActivityNet, does not compare"
    return replace(headline, detail=f"{WORLD}; {headline.detail}", thesis=beside)


def _told_of_chart(chart: Chart) -> Chart:
    title = f"{chart.title}, {WORLD}"
    if not any(series.is_thesis for series in chart.series):
        return replace(chart, title=title)
    sentences = chart.caption.split(". ")
    kept = ". ".join(sentence for sentence in sentences if "thesis" not in sentence).rstrip(".")
    series = tuple(series for series in chart.series if not series.is_thesis)
    return replace(chart, title=title, caption=f"{kept}. {NOT_COMPARED}", series=series, is_thesis_marked=False)


def _told_of_table(table: ReportTable) -> ReportTable:
    kept = [place for place, name in enumerate(table.columns) if not name.startswith("thesis")]
    reached = {place for place, name in enumerate(table.columns) if _MAP in name or name == _SECONDS}
    rows = []
    for number, row in enumerate(table.rows):
        hidden = reached if number in table.marked and any("(thesis" in cell for cell in row) else set()
        rows.append(tuple(thesis.NONE if place in hidden else row[place] for place in kept))
    columns = tuple(table.columns[place] for place in kept)
    note = f"{NOT_COMPARED} {table.note.replace(SAME_DATA, '')}".strip()
    return replace(table, title=f"{table.title}, {WORLD}", columns=columns, rows=tuple(rows), note=note)
