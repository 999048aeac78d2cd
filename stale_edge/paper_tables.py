"""Tables as LaTeX and Markdown, for papers and notes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rich.table import Table

_LATEX: Final = str.maketrans(
    {
        **{letter: f"\\{letter}" for letter in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "×": r"$\times$",
        "·": r"$\cdot$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "→": r"$\to$",
        "–": "--",
        "\N{MINUS SIGN}": "$-$",
        "…": r"\dots{}",
        "²": r"$^2$",
        "\N{GREEK SMALL LETTER SIGMA}": r"$\sigma$",
    }
)
_MARKDOWN: Final = str.maketrans({letter: f"\\{letter}" for letter in "\\|`*_<>[]#"} | {"\n": " "})
LATEX_HEAD: Final = "% Needs \\usepackage{booktabs}.\n"


@dataclass(frozen=True)
class PaperTable:
    """A table of texts."""

    title: str
    """Title; '' for none."""
    columns: tuple[str, ...]
    """Headings."""
    rows: tuple[tuple[str, ...], ...]
    """Cells, as many as columns."""
    heads: int = 1
    """Number of columns at the left that hold words; numbers are set to the right."""
    note: str = ""
    """Note below the table."""


def latex(tables: Iterable[PaperTable]) -> str:
    """Write tables as LaTeX floats with the lines of booktabs.

    Args:
        tables: Tables whose texts may hold anything; what means something in LaTeX is escaped.
    """
    return LATEX_HEAD + "\n".join(map(_latex_table, tables))


def markdown(tables: Iterable[PaperTable]) -> str:
    """Write tables as Markdown, as GitHub reads it.

    Args:
        tables: Tables whose texts may hold anything; what means something in Markdown is escaped.
    """
    return "\n".join(map(_markdown_table, tables))


def from_rich(table: Table, heads: Sequence[str] = ()) -> PaperTable:
    """Take the texts of a table that is shown on a terminal.

    Args:
        table: The table; its first column and those named in `heads` hold words.
        heads: Headings of further columns that hold words.
    """
    from rich.text import Text

    def plain(cell: object) -> str:
        return Text.from_markup(cell).plain if isinstance(cell, str) else str(cell)

    columns = tuple(plain(column.header) for column in table.columns)
    cells = [[plain(cell) for cell in column.cells] for column in table.columns]
    words = max((place for place, name in enumerate(columns) if name in heads), default=0) + 1
    return PaperTable(
        plain(table.title or ""), columns, tuple(zip(*cells, strict=True)), words, plain(table.caption or "")
    )


def write_tables(tables: Sequence[PaperTable], latex_file: Path | None, markdown_file: Path | None) -> list[Path]:
    """Write tables into the files that were asked for.

    Returns:
        The files that were written.

    Raises:
        CannotWriteError: A file cannot be created.
        StorageError: The disk is full or failed.
    """
    from stale_edge_runtime.formats.files import write_text

    written = []
    for path, text in ((latex_file, latex), (markdown_file, markdown)):
        if path is not None:
            write_text(path, text(tables))
            written.append(path)
    return written


def _latex_table(table: PaperTable) -> str:
    rows = [" & ".join(cell.translate(_LATEX) for cell in row) + r" \\" for row in (table.columns, *table.rows)]
    note = [rf"\par\smallskip\footnotesize {table.note.translate(_LATEX)}"] if table.note else []
    caption = [rf"\caption{{{table.title.translate(_LATEX)}}}"] if table.title else []
    align = "l" * table.heads + "r" * (len(table.columns) - table.heads)
    lines = [
        r"\begin{table}",
        r"\centering",
        *caption,
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        rows[0],
        r"\midrule",
        *rows[1:],
        r"\bottomrule",
        r"\end{tabular}",
        *note,
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _markdown_table(table: PaperTable) -> str:
    marks = ["---"] * table.heads + ["---:"] * (len(table.columns) - table.heads)
    rows = [[cell.translate(_MARKDOWN) for cell in row] for row in table.rows]
    lines = [f"| {' | '.join(row)} |" for row in ([cell.translate(_MARKDOWN) for cell in table.columns], marks, *rows)]
    title = [f"**{table.title.translate(_MARKDOWN)}**", ""] if table.title else []
    note = ["", table.note.translate(_MARKDOWN)] if table.note else []
    return "\n".join([*title, *lines, *note]) + "\n"
