"""Tables for papers: anything in a cell stays text."""

from __future__ import annotations

import re

from rich.table import Table

from stale_edge.paper_tables import PaperTable, from_rich, latex, markdown

HOSTILE = r"a_b & 50 % of $x^2$ {~} \ #1 | `c` *d* <e> [f]"
TABLE = PaperTable(HOSTILE, ("method", "mAP"), (("STALE", "36.05"), (HOSTILE, "± 1")), note="of 3 runs")


def test_latex_has_a_line_for_each_row_and_escapes_everything() -> None:
    text = latex([TABLE])
    assert r"\begin{tabular}{lr}" in text
    assert text.count(r" \\") == 3
    assert "$\\pm$ 1" in text
    escaped = r"a\_b \& 50 \% of \$x\textasciicircum{}2\$ \{\textasciitilde{}\} \textbackslash{} \#1"
    assert text.count(escaped) == 2
    body = re.sub(r"\\[&%$#_{}\\]|\\[a-z]+|\$\\pm\$", "", text)
    assert not re.search(r"[%$#_^~&]", body.replace("% Needs", "").replace(" & ", ""))


def test_markdown_keeps_its_columns() -> None:
    lines = markdown([TABLE]).splitlines()
    assert lines[2:5] == ["| method | mAP |", "| --- | ---: |", "| STALE | 36.05 |"]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines[2:6]] == [3] * 4
    assert lines[-1] == "of 3 runs"


def test_tables_of_the_terminal_keep_their_texts() -> None:
    shown = Table(title="times", caption="on a machine")
    for name in ("T", "model", "ms"):
        shown.add_column(name)
    shown.add_row("100", r"\[a].onnx", "[bold]5[/bold]")
    found = from_rich(shown, heads=("model",))
    assert found == PaperTable("times", ("T", "model", "ms"), (("100", "[a].onnx", "5"),), 2, "on a machine")
