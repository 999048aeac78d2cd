"""Results of a demo as one HTML page that opens from disk and holds its pictures."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING, Any, Final

from stale_edge.palette import page_variables
from stale_edge_runtime.bench.statistics import number
from stale_edge_runtime.formats import files
from stale_edge_runtime.model_file import read_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

REFERENCE: Final = "PyTorch dynamic int8"
"""The row that speed is told against: the thesis's result."""
TIOUS: Final = ("0.50", "0.75", "0.95")
_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 0 auto; padding: 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td code { white-space: normal; }
img { max-width: 100%; background: #fff; border-radius: 4px; }
code { font-size: .85em; } p, figcaption { color: var(--soft); } figure { margin: 1rem 0; }
"""


_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>stale-edge demo</title><style>{style}</style></head>
<body>
{body}
</body></html>
"""


def write_page(
    target: Path, folder: Path, commands: Sequence[tuple[str, float]], *, checkpoint: Path, int8: Path
) -> None:
    """Write the page of a demo.

    Args:
        target: File to write.
        folder: Results of the demo's commands: `bench.json`, `seen.json`, `unseen.json` and the pictures.
        commands: Each command, and the seconds it took.
        checkpoint: The weights that the commands made.
        int8: The int8 file that they made.

    Raises:
        StaleEdgeError: Something is missing, or the page cannot be written.
    """
    bench = files.read_json(folder / "bench.json")
    detections = _detections(int8)
    shown = "Detections and ground truth: three videos of taught classes, three of others"
    parts = [
        "<h1>stale-edge: one demo</h1>",
        _paragraph(
            "A network was taught on a simulated world for a minute or two, exported, quantised, and measured.",
            "What it finds shows that all parts work together; it is no claim about real videos.",
        ),
        "<h2>What it finds</h2>",
        _table(("int8 file", *(f"mAP@{tiou}" for tiou in TIOUS), "average mAP"), _accuracy(folder)),
        _paragraph(
            f"On all {detections['videos']} videos, average mAP is {100 * detections['map_fp32']:.2f} in fp32 and",
            f"{100 * detections['map']:.2f} in int8; "
            f"{100 * detections['matched_share']:.1f} % of the detections are the same",
            "(class, and tIoU of 0.95). With so few videos mAP is higher than on a whole validation set.",
        ),
        _picture(folder / "timeline.png", shown),
        "<h2>What it costs on one CPU thread</h2>",
        _speed(bench),
        _paragraph(
            f"Medians of interleaved forward passes, and in brackets how many times faster than {REFERENCE}, the whole",
            "network with the text tower inside, as the thesis timed it. The network was taught with stored text, so a",
            "tower of the published size with seeded weights is run for its time.",
        ),
        _picture(folder / "bench.png", "Time of a forward pass against the length of the video"),
        _paragraph(f"Measured on {escape(_machine(bench['machine']))}."),
        "<h2>How</h2>",
        _table(("command", "seconds"), [(_command(words), f"{seconds:.0f}") for words, seconds in commands]),
        _paragraph(f"The weights are in <code>{checkpoint}</code>, the files beside it."),
    ]
    page = _PAGE.format(style=page_variables() + _STYLE, body="\n".join(parts))
    files.write_text(target, page)


def _detections(int8: Path) -> dict[str, Any]:
    """Describe the effect of quantising on detections, as the int8 file says it."""
    found: dict[str, Any] = read_model(int8).info.recipe["detections"]
    return found


def _accuracy(folder: Path) -> list[tuple[str, ...]]:
    rows = []
    for subset, words in (("seen", "taught classes"), ("unseen", "classes it never saw")):
        found = files.read_json(folder / f"{subset}.json")
        figures = [*(found["map"][tiou] for tiou in TIOUS), found["average_map"]]
        rows.append((f"{words} ({found['videos']} videos)", *(f"{100 * figure:.1f}" for figure in figures)))
    return rows


def _speed(bench: dict[str, Any]) -> str:
    lengths = sorted({row["snippets"] for row in bench["rows"]})
    median = {(row["model"], row["snippets"]): row["median_ms"] for row in bench["rows"]}
    ratio = {(item["b"], item["snippets"]): item for item in bench["comparisons"] if item["a"] == REFERENCE}
    rows = []
    for model in dict.fromkeys(row["model"] for row in bench["rows"]):
        cells = []
        for snippets in lengths:
            found = ratio.get((model, snippets))
            times = f" ({found['ratio']:.3g}x)" if found else ""
            cells.append(f"{number(median[model, snippets])} ms{times}")
        rows.append((escape(model), *cells))
    return _table(("", *(f"{snippets} snippets" for snippets in lengths)), rows)


def _machine(machine: dict[str, Any]) -> str:
    libraries = (f"{name} {version}" for name, version in machine["libraries"].items())
    return ", ".join([str(machine["cpu"]), machine["date"][:10], *libraries])


def _command(words: str) -> str:
    return f"<code>stale-edge {escape(words)}</code>"


def _paragraph(*parts: str) -> str:
    return f"<p>{' '.join(parts)}</p>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table of cells that are HTML already."""
    first = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{first}</tr></thead><tbody>{body}</tbody></table></div>'


def _picture(path: Path, words: str) -> str:
    content = base64.b64encode(files.read_bytes(path, limit=1 << 26)).decode()
    return f'<figure><img alt="{words}" src="data:image/png;base64,{content}"><figcaption>{words}</figcaption></figure>'
