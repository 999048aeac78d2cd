"""Published results: `collect` takes finished runs into models/results, `write` renews what pages say of them.

`make results` runs `write`: every block of README.md and docs/*.md between `<!-- results: NAME -->` and
`<!-- /results -->`, and docs/results with the tables and figures of all studies. A block whose results are not there
yet keeps its text.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stale_edge.cli.report import _read
from stale_edge.paper_tables import markdown
from stale_edge.study.design import StudyName
from stale_edge.study.report.figures import write_figure
from stale_edge.study.report.labels import TITLES, Labelled, check_run, label_runs, one_line
from stale_edge.study.report.machines import runs_table
from stale_edge.study.report.page_writer import LEADS
from stale_edge.study.report.tables import tables_of
from stale_edge.study.store import CSV, JSON, StudyRun, to_csv
from stale_edge_runtime.bench.records import read_report
from stale_edge_runtime.errors import StaleEdgeError, UsageError
from stale_edge_runtime.formats.files import make_folder, read_json, write_bytes, write_json, write_text
from tests.published_tables import BENCH, FIGURES, Missing, Published, block, charts, picture

if TYPE_CHECKING:
    from stale_edge.study.report.charts import Chart

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "models" / "results"
LARGEST: Final = 1_000_000
"""Bytes of a file of results at most."""
DIGITS: Final = 6
BLOCK: Final = re.compile(r"<!-- results: (\S+) -->(.*?)<!-- /results -->", re.DOTALL)
INTRODUCTION: Final = (
    "Written by `make results` from [models/results](../../models/README.md#results); what the numbers mean is in "
    "[studies.md](../studies.md). `stale-edge report models/results -o report/` makes a page of the same, with figures "
    "that answer to the mouse."
)
PAGE: Final = Path("docs/results/README.md")


def pages(root: Path) -> list[Path]:
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def collect(sources: list[Path], target: Path = RESULTS, commit: str | None = None) -> list[Path]:
    """Take results in, as read by the product's own readers.

    Args:
        sources: Folders of finished studies, folders that hold some, and files of `stale-edge bench --json`.
        target: Folder of published results.
        commit: Commit that benchmarks ran from; the newest of their time by default.

    Raises:
        StaleEdgeError: A source is not a whole result, or too large.
    """
    written = []
    for source in sources:
        if source.is_file() and source.name != JSON:
            read_report(source)
            content = read_json(source)
            content.setdefault("commit", commit or commit_of(content["machine"]["date"]))
            content["machine"] = _plain(content["machine"])
            written.append(target / BENCH / source.name)
            make_folder(target / BENCH)
            write_json(written[-1], content, indent=None)
            continue
        for path, run in _read([source]):
            check_run(path, run)
            if not run.complete or run.options.get("quick"):
                raise UsageError(path, "is a trial or not finished", "go on with the study, and collect it then")
            folder = target / path.resolve().parent.name if path.is_file() else target / path.resolve().name
            make_folder(folder)
            kept = _rounded(run)
            write_json(folder / JSON, kept.to_json(), indent=None)
            write_text(folder / CSV, to_csv([kept]))
            written += [folder / JSON, folder / CSV]
    for path in written:
        if path.stat().st_size > LARGEST:
            raise UsageError(path, f"has more than {LARGEST:,} bytes", "publish fewer repeats of it")
    return written


def _rounded(run: StudyRun) -> StudyRun:
    """Numbers to six significant digits but whole ones, and no more of the system than its version."""
    values = tuple(
        one if one.value.is_integer() else replace(one, value=float(f"{one.value:.{DIGITS}g}"))
        for one in run.measurements
    )
    sessions = tuple(replace(one, machine=_plain(one.machine)) for one in run.sessions)
    return replace(run, measurements=values, machine=_plain(run.machine), sessions=sessions)


def _plain(machine: Any) -> dict[str, Any]:
    """A machine without the build of its system."""
    return {**machine, "os": str(machine.get("os")).split("-", 1)[0]}


def commit_of(date: str) -> str:
    """The newest commit of a time."""
    words = ["git", "-C", str(ROOT), "rev-list", "-1", "--abbrev-commit", "--abbrev=12", f"--before={date}", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() or "unknown"


def renewed(text: str, results: Published, missing: dict[str, str]) -> str:
    """A page with all blocks as the results have them; what is missing is added by the name of its block."""

    def content(found: re.Match[str]) -> str:
        name = found[1]
        try:
            made = block(name, results)
        except Missing as error:
            missing[name] = str(error)
            return found[0]
        own_line = found.start() == 0 or text[found.start() - 1] == "\n"
        return f"<!-- results: {name} -->\n{'' if own_line else chr(10)}{made}\n<!-- /results -->"

    return BLOCK.sub(content, text)


class Section(NamedTuple):
    """A folder of results on the page of all studies."""

    folder: str
    item: Labelled
    charts: list[Chart]


def sections(results: Published) -> list[Section]:
    """All folders, in the order of the studies."""
    order = list(StudyName)
    runs = sorted(results.studies().items(), key=lambda one: (order.index(one[1].study), one[0]))
    labelled = label_runs([run for _, run in runs])
    return [Section(folder, item, charts(item.run, folder)) for (folder, _), item in zip(runs, labelled, strict=True)]


def report_page(results: Published) -> str:
    """All tables and figures of the studies as one page of Markdown."""
    found = sections(results)
    lines = [
        "# Results of the studies",
        "",
        INTRODUCTION,
        "",
        f"<!-- figures of {digest(found)} -->",
        "",
    ]
    for folder, item, shown in found:
        study = item.run.study
        lines += [f"## {TITLES[study]}" + (f" ({folder})" if folder != study else ""), "", LEADS[study], ""]
        lines += [*(f"- {one_line(note)}" for note in item.run.notes), ""]
        lines += [f"{picture(chart).replace(f'({FIGURES}/', '(figures/')}\n" for chart in shown]
        lines += [markdown([table.for_paper() for table in tables_of([item])]), ""]
    runs = [section.item for section in found]
    lines.append(markdown([runs_table(runs).for_paper()]) if runs else "No study was collected yet.")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"


def digest(found: list[Section]) -> str:
    """Digest of what the figures show, so that old ones are noticed without drawing them."""
    shown = "".join(f"{one.key}\n{one.title}\n{one.to_csv()}" for section in found for one in section.charts)
    return hashlib.sha256(shown.encode()).hexdigest()[:16]


def write(root: Path = ROOT, folder: Path = RESULTS) -> dict[str, str]:
    """Renew all pages.

    Args:
        root: Folder of the pages.
        folder: Folder of published results.

    Returns:
        What is missing, by block.
    """
    results, missing = Published(folder), dict[str, str]()
    for path in pages(root):
        text = path.read_text("utf-8")
        if (new := renewed(text, results, missing)) != text:
            write_text(path, new)
    figures = root / "docs" / FIGURES
    make_folder(figures)
    with tempfile.TemporaryDirectory() as name:
        shown = [chart for section in sections(results) for chart in section.charts]
        drawn = {chart.key: write_figure(chart, Path(name)) for chart in shown}
    for old in figures.glob("*.svg"):
        if old.stem not in drawn:
            old.unlink()
    for key, content in drawn.items():
        write_bytes(figures / f"{key}.svg", content)
    write_text(root / PAGE, report_page(results))
    return missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("collect", help="take finished runs into models/results")
    one.add_argument("sources", nargs="+", type=Path, metavar="RESULT", help="folder of a study, or JSON of bench")
    one.add_argument("--commit", help="commit that benchmarks ran from; by default the newest of their time")
    one.set_defaults(work=lambda given: collect(given.sources, commit=given.commit))
    two = commands.add_parser("write", help="renew README.md, docs/*.md and docs/results from models/results")
    two.set_defaults(work=lambda _: write())
    options = parser.parse_args()
    try:
        found = options.work(options)
    except StaleEdgeError as error:
        sys.exit(str(error))
    if isinstance(found, dict):
        found = [f"{name}: no {what} yet; the text is left as it is" for name, what in found.items()]
    for line in found:
        print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
