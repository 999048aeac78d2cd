"""The report of studies: tables, figures, and a page that shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stale_edge.paper_tables import latex, markdown
from stale_edge.study.design import StudyName
from stale_edge.study.report.charts import charts_of
from stale_edge.study.report.figures import FIGURE_KINDS, write_figure
from stale_edge.study.report.files import FIGURES, MEASUREMENTS, TABLE_KINDS, TABLES, ReportFiles
from stale_edge.study.report.headlines import headlines
from stale_edge.study.report.labels import check_run, label_runs
from stale_edge.study.report.machines import machines_table, runs_table
from stale_edge.study.report.page_writer import Section, page
from stale_edge.study.report.tables import tables_of
from stale_edge.study.store import to_csv
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.formats.files import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stale_edge.paper_tables import PaperTable
    from stale_edge.study.report.table import ReportTable
    from stale_edge.study.store import StudyRun

PAGE = "report.html"
TITLE = "STALE at the edge: the studies"


def write_report(runs: Sequence[StudyRun], folder: Path) -> Path:
    """Write everything that runs say into a folder.

    report.html            all of it on one page, without any other file
    tables/*.csv           its tables, and for papers the same as .tex and .md
    figures/*.svg          its figures, also as .png and .pdf, and as .csv the numbers behind them
    measurements/*.csv     every measurement, one file for each study
    report-files.json      which of these files are the report's

    Args:
        runs: Runs of any studies and machines, at least one; partial ones are shown as such.
        folder: Made where it is missing. Files of an earlier report are replaced, or removed where this one has none of
            their name; all others stay.

    Returns:
        The page.

    Raises:
        UsageError: There is no run.
        BadDataError: A run holds values that cannot be shown, or the folder a damaged record of its files.
        CannotWriteError: The folder cannot be written.
        StorageError: The disk is full or failed.
    """
    if not runs:
        raise UsageError("report", "there is no run to report")
    for run in runs:
        check_run(f"study {run.study}", run)
    labelled = label_runs(runs)
    sections = []
    for study in StudyName:
        items = tuple(item for item in labelled if item.run.study is study)
        if items:
            sections.append(Section(study, items, charts_of(items), tables_of(items)))
    overview = (runs_table(labelled), machines_table(labelled))
    texts = _texts([*overview, *(table for section in sections for table in section.tables)], sections)
    charts = [chart for section in sections for chart in section.charts]
    names = [*texts, *(f"{FIGURES}/{chart.key}{kind}" for chart in charts for kind in FIGURE_KINDS)]
    files = ReportFiles(folder)
    files.begin(names)
    for name, text in texts.items():
        write_text(folder / name, text)
    stills = {chart.key: write_figure(chart, folder / FIGURES) for chart in charts}
    target = folder / PAGE
    write_text(target, page(TITLE, headlines(labelled), overview, sections, stills))
    files.end(names)
    return target


def paper_tables(runs: Sequence[StudyRun]) -> list[PaperTable]:
    """Make the tables of all studies for papers.

    Args:
        runs: Runs of any studies and machines; those without measurements are left out.

    Raises:
        BadDataError: A run holds values that cannot be shown.
    """
    for run in runs:
        check_run(f"study {run.study}", run)
    labelled = label_runs(runs)
    by_study = ([item for item in labelled if item.run.study is study] for study in StudyName)
    return [table.for_paper() for items in by_study for table in tables_of(items)]


def _texts(tables: Sequence[ReportTable], sections: Sequence[Section]) -> dict[str, str]:
    """Tables and measurements by their files' names."""
    texts: dict[str, str] = {}
    for table in tables:
        written = (table.to_csv(), latex([table.for_paper()]), markdown([table.for_paper()]))
        texts |= {f"{TABLES}/{table.key}{kind}": text for kind, text in zip(TABLE_KINDS, written, strict=True)}
    for section in sections:
        content = to_csv([item.run for item in section.runs], [item.machine for item in section.runs])
        texts[f"{MEASUREMENTS}/{section.study}.csv"] = content
    return texts
