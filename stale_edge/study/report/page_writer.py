"""The report as one page that needs no network. All text that comes from files is escaped here, and only here."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from stale_edge.page_parts import script_json, theme_script
from stale_edge.palette import COLOURS, DARK_COLOURS, page_variables
from stale_edge.study.report import thesis
from stale_edge.study.report.labels import TITLES, one_line
from stale_edge.study.report.machines import differences, options_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stale_edge.study.design import StudyName
    from stale_edge.study.report.charts import Chart
    from stale_edge.study.report.headlines import Headline
    from stale_edge.study.report.labels import Labelled
    from stale_edge.study.report.table import ReportTable

LEADS: Final[Mapping[str, str]] = {
    "open-set": "Training on some classes, detecting others: two ways to split the classes, all of the training data "
    "and about half of it, with and without an external classifier's labels.",
    "closed-set": "Training and detecting the same classes, with ever less training data.",
    "training": "Size of the network, time and memory of a training, and what it reaches.",
    "inference": "One forward of random features, by the number of snippets: its time, how much it uses of what the "
    "device can do, its arithmetic and its memory.",
    "quantization": "The same forward in several precisions and engines, against PyTorch's dynamic int8 (the thesis's "
    "result) and fp32, measured by turns in one run.",
    "ablation": "What changes in the recipe change in mAP, on classes that training saw and on classes that it did "
    "not.",
    "localization": "The boundary map in several worlds, beside what tells finding an action from naming the video: "
    "the whole video with the same labels, the true class, and names that belong to other classes.",
    "robustness": "Every network and reference in worlds that differ in one thing which the simulated world assumes.",
}
LOOKS: Final = {"light": COLOURS, "dark": DARK_COLOURS}
_POLICY: Final = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'"
)


@dataclass(frozen=True)
class Section:
    """One study in the report."""

    study: StudyName
    """Name of the study."""
    runs: tuple[Labelled, ...]
    """All of it."""
    charts: tuple[Chart, ...]
    """Figures of the study."""
    tables: tuple[ReportTable, ...]
    """Tables of the study."""


def page(
    title: str,
    headlines: Sequence[Headline],
    overview: Sequence[ReportTable],
    sections: Sequence[Section],
    stills: Mapping[str, bytes],
) -> str:
    """Write the whole page.

    Args:
        title: Title of the page.
        headlines: Figures to begin with.
        overview: Tables of runs and machines, shown last.
        sections: One for each study.
        stills: Vector pictures of all charts by key, for readers without scripts and for paper.
    """
    charts = [chart for section in sections for chart in section.charts]
    links = [*((str(section.study), TITLES[section.study]) for section in sections), ("runs", "What was run")]
    contents = "".join(f'<li><a href="#{escape(key)}">{escape(text.partition(":")[0])}</a></li>' for key, text in links)
    body = "\n".join([*(_section(section, stills) for section in sections), _overview(overview)])
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{page_variables()}{_asset("report.css")}</style>
<script>document.documentElement.classList.add("js")</script>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<div class="page">
<header>
<div>
<h1>{escape(title)}</h1>
<p class="lead">The experiments of the thesis on the efficiency of STALE, zero-shot temporal action localization
({escape(thesis.SOURCE)}), measured again. Its values stand beside ours where the two compare; {thesis.NONE} stands
elsewhere.</p>
</div>
<button id="theme" type="button" aria-pressed="false">Dark look</button>
</header>
<nav aria-label="Contents"><ul>{contents}</ul></nav>
<main id="content">
{_cards(headlines)}
{body}
</main>
<footer><p>Made by <code>stale-edge report</code>. The tables lie beside this page as CSV, LaTeX and Markdown, the
figures as SVG, PNG and PDF, the numbers behind them as CSV, every measurement under <code>measurements/</code>.</p>
</footer>
</div>
<script>{theme_script()}</script>
{_scripts(charts)}
</body>
</html>
"""


def _asset(name: str) -> str:
    return resources.files("stale_edge.study.report.page").joinpath(name).read_text(encoding="utf-8")


def _scripts(charts: Sequence[Chart]) -> str:
    if not charts:
        return ""
    from plotly.offline import get_plotlyjs

    data = script_json([_chart_data(chart) for chart in charts])
    library = get_plotlyjs().replace("</script", r"<\/script")
    return (
        f'<script type="application/json" id="charts">{data}</script>\n'
        f"<script>{library}</script>\n<script>const LOOKS = {script_json(LOOKS)};\n{_asset('report.js')}</script>"
    )


def _chart_data(chart: Chart) -> dict[str, Any]:
    return {
        "key": chart.key,
        "bars": chart.is_bars,
        "marks": chart.is_thesis_marked,
        "log": chart.log_y,
        "reach": chart.reach,
        "x_label": chart.x_label,
        "y_label": chart.y_label,
        "categories": list(chart.categories) if chart.is_bars else [],
        "series": [
            {
                "name": series.name,
                "x": [point.x for point in series.points],
                "y": [point.middle for point in series.points],
                "low": [point.low for point in series.points],
                "high": [point.high for point in series.points],
                "count": [point.count for point in series.points],
                "colour": series.colour,
                "dash": series.dash,
                "thesis": series.is_thesis,
            }
            for series in chart.series
        ],
    }


def _cards(headlines: Sequence[Headline]) -> str:
    if not headlines:
        return ""
    cards = "".join(
        f'<dl class="card"><dt>{escape(one.topic)}</dt><dd class="value">{escape(one.value)}</dd>'
        f'<dd>{escape(one.detail)}</dd><dd class="thesis">{escape(one.thesis)}</dd></dl>\n'
        for one in headlines
    )
    title = '<h2 id="glance">At a glance</h2>'
    return f'<section aria-labelledby="glance">{title}\n<div class="cards">{cards}</div></section>'


def _overview(tables: Sequence[ReportTable]) -> str:
    blocks = "\n".join(_table(table, "prose long" if table.key == "machines" else "prose") for table in tables)
    return f'<section id="runs" aria-labelledby="runs-title"><h2 id="runs-title">What was run</h2>\n{blocks}</section>'


def _section(section: Section, stills: Mapping[str, bytes]) -> str:
    key = escape(str(section.study))
    parts = [
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{escape(TITLES[section.study])}</h2>',
        f'<p class="lead">{escape(LEADS[section.study])}</p>',
        *(_remarks(item, several=len(section.runs) > 1) for item in section.runs),
    ]
    if section.charts:
        figures = "\n".join(_figure(chart, stills[chart.key]) for chart in section.charts)
        parts.append(f'<div class="figures">{figures}</div>')
    parts += [_table(table) for table in section.tables]
    parts += [_options(item) for item in section.runs]
    return "\n".join([*parts, "</section>"])


def _remarks(item: Labelled, *, several: bool) -> str:
    """List remarks that a reader needs before the numbers of a run."""
    run = item.run
    whose = f"{item.machine}: " if several else ""
    lines = []
    if not run.complete:
        lines.append(f"{whose}partial: {run.finished} of {run.cells} cells were measured when this was written.")
    if not run.measurements:
        lines.append(f"{whose}nothing was measured yet.")
    if run.options.get("quick"):
        lines.append(f"{whose}a quick look: so little was measured that its numbers are not to be cited.")
    if differing := differences(run):
        count, what = len(run.history), ", ".join(differing)
        lines.append(f"{whose}measured in {count} sessions that were not alike ({what}): see what was run.")
    lines += [f"{whose}{one_line(note)}" for note in run.notes]
    return "".join(f'<p class="warn" role="note">{escape(line)}</p>' for line in lines)


def _figure(chart: Chart, still: bytes) -> str:
    picture = base64.b64encode(still).decode()
    key, title, caption = escape(chart.key), escape(chart.title), escape(chart.caption)
    return f"""<figure id="figure-{key}" aria-labelledby="figure-{key}-title">
<figcaption><h3 id="figure-{key}-title">{title}</h3><p class="caption">{caption}</p></figcaption>
<div class="chart" id="plot-{key}" role="img" aria-label="{title}"></div>
<noscript><img alt="{title}" src="data:image/svg+xml;base64,{picture}"></noscript>
</figure>"""


def _table(table: ReportTable, look: str = "") -> str:
    key = escape(table.key)
    head = "".join(_cell(text, place, table.heads, scope="col") for place, text in enumerate(table.columns))
    rows = []
    for number, row in enumerate(table.rows):
        cells = "".join(_cell(text, place, table.heads) for place, text in enumerate(row))
        rows.append(f'<tr class="marked">{cells}</tr>' if number in table.marked else f"<tr>{cells}</tr>")
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f"""<div class="block" id="table-{key}">
<h3 id="table-{key}-title">{escape(table.title)}</h3><p class="caption">{escape(table.caption)}</p>
<div class="scroll {look}" tabindex="0" role="region" aria-labelledby="table-{key}-title">
<table aria-labelledby="table-{key}-title"><thead><tr>{head}</tr></thead>
<tbody>{"".join(rows)}</tbody></table></div>{note}</div>"""


def _cell(text: str, place: int, heads: int, scope: str = "row") -> str:
    """Write a cell; those at the left that say what a row is about are headings."""
    if place >= heads:
        return f'<th scope="col">{escape(text)}</th>' if scope == "col" else f"<td>{escape(text)}</td>"
    return f'<th scope="{scope}" class="head{" first" if place == 0 else ""}">{escape(text)}</th>'


def _options(item: Labelled) -> str:
    if not item.run.options:
        return ""
    title = f"Options of the run on {item.machine}"
    return f"<details><summary>{escape(title)}</summary><pre>{escape(options_text(item.run.options))}</pre></details>"
