"""`stale-edge report`: studies, of one machine or of several, as tables, figures and one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.options import OUTPUT, JsonToStdout, LatexFile, MarkdownFile, Quiet, check_tables
from stale_edge.extras import require_report
from stale_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stale_edge.study.store import StudyRun


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Folders of `stale-edge study`, a folder that holds several such as runs/study, or their "
            "measurements.json, copied from as many machines as you like.",
        ),
    ],
    output: Annotated[Path, typer.Option(*OUTPUT, metavar="DIR", help="Folder of the report; made if missing.")],
    json: JsonToStdout = False,
    latex: LatexFile = None,
    markdown: MarkdownFile = None,
    quiet: Quiet = False,
) -> None:
    """Merge studies into one report: tables, figures, and a page that opens without a network."""
    require_report("report")
    from stale_edge.paper_tables import write_tables
    from stale_edge.study.report.labels import check_run, label_runs
    from stale_edge.study.report.report import paper_tables, write_report

    say = Reporter(quiet=quiet)
    check_tables(latex, markdown)
    found = _read(runs)
    for path, run in found:
        check_run(path, run)
        if not run.complete:
            say.warn(f"{path}: partial, {run.finished} of {run.cells} cells")
    page = write_report([run for _, run in found], output)
    say.note(f"wrote {page}, with its tables, figures and measurements as files beside it")
    for path in write_tables(paper_tables([run for _, run in found]), latex, markdown):
        say.note(f"wrote {path}")
    if json:
        machines = [item.machine for item in label_runs([run for _, run in found])]
        say.result_json(
            {
                "report": str(page),
                "runs": [
                    {
                        "path": str(path),
                        "study": str(run.study),
                        "machine": machine,
                        "cells": run.cells,
                        "finished": run.finished,
                        "measurements": len(run.measurements),
                    }
                    for (path, run), machine in zip(found, machines, strict=True)
                ],
            }
        )
    else:
        say.result(str(page))


def _read(paths: Sequence[Path]) -> list[tuple[Path, StudyRun]]:
    """Read all runs; a folder that holds studies in folders of its own stands for all of them."""
    from stale_edge.study.store import JSON, read_run

    found: list[tuple[Path, StudyRun]] = []
    for path in paths:
        inside = [] if not path.is_dir() or (path / JSON).exists() else sorted(path.glob(f"*/{JSON}"))
        for source in inside or [path]:
            run = read_run(source)
            same = next((other for other, known in found if known == run), None)
            if same is not None:
                raise UsageError(source, f"is the same run as {same}", "name each run once")
            found.append((source, run))
    return found
