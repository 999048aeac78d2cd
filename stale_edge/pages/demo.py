"""Results of a demo as one HTML page that opens from disk, without scripts or pictures of a fixed size."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from stale_edge.pages import html_charts
from stale_edge.pages.demo_files import (
    BENCH,
    CEILING,
    FILM_COST,
    MAP,
    NEAREST_TEXT,
    PLAYER,
    SHOWN_VIDEOS,
    STALE,
    WORLD,
)
from stale_edge.pages.html_charts import ClipRow, HtmlBar, bars, clip
from stale_edge.palette import page_variables
from stale_edge_runtime.bench.busy import busy_machine_warning
from stale_edge_runtime.bench.statistics import number
from stale_edge_runtime.formats import files
from stale_edge_runtime.formats.annotations import read_annotations
from stale_edge_runtime.formats.class_list import read_class_list
from stale_edge_runtime.formats.results import read_results
from stale_edge_runtime.metrics.baselines import whole_videos
from stale_edge_runtime.metrics.evaluation import evaluate
from stale_edge_runtime.model_file import read_model
from stale_edge_runtime.video.stages import COLOUR, DECODE, NETWORK, RESIZE, SEGMENTS, TOWER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.formats.annotations import Annotations, Video

REFERENCE: Final = "PyTorch dynamic int8"
"""The row that speed is told against: the thesis's result."""
SHOWN_DETECTIONS: Final = 3
VIT_B16: Final = {"width": 768, "layers": 12, "patches": 196, "patch_values": 768, "out": 512}
"""Sizes of CLIP's image tower ViT-B/16 at 224 pixels."""
STAGE_WORDS: Final = {
    DECODE: "reading and decoding frames",
    COLOUR: "conversion to RGB",
    RESIZE: "resizing and cropping",
    TOWER: "CLIP's image tower",
    NETWORK: "boundary map",
    SEGMENTS: "detections from its outputs",
}
"""Words for the stages from a video to detections."""
_STYLE: Final = """
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 56rem;
  margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { line-height: 1.2; margin-bottom: .4rem; } h2 { margin: 2.6rem 0 .4rem; line-height: 1.25; }
h3 { margin-bottom: .2rem; }
p { color: var(--soft); max-width: 46rem; } .lead { font-size: 1.1rem; color: var(--ink); }
p strong { color: var(--ink); } a { color: var(--accent); }
.tag { display: inline-block; border: 1px solid var(--warn-line); background: var(--warn-paper); color: var(--warn-ink);
  border-radius: 999px; padding: .1rem .7rem; font-size: .87rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .4rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { font-size: .87rem; color: var(--soft); vertical-align: bottom; }
tr.ours td { font-weight: 700; } tr.beside td { color: var(--soft); } tr.beside td:first-child { padding-left: 1rem; }
figure { margin-inline: 0; } code { font-size: .85em; }
ol li { margin: .3rem 0; } ol span { color: var(--soft); }
"""
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">
<title>stale-edge demo</title><style>{style}</style></head>
<body>
{body}
</body></html>
"""


@dataclass(frozen=True)
class DemoRun:
    """Record of a demo."""

    folder: Path
    """Results of its commands, the world among them."""
    commands: Sequence[tuple[str, float]]
    """Each command, and the seconds it took."""
    minutes: tuple[float, float]
    """Minutes that the boundary map and STALE were trained for."""


def write_page(target: Path, run: DemoRun) -> None:
    """Write the page of a demo.

    Raises:
        StaleEdgeError: Something is missing, or the page cannot be written.
    """
    folder = run.folder
    subsets = judged_subsets(folder)
    found = {name: read_results(folder / f"{name}.json").detections for name in (MAP, STALE, NEAREST_TEXT, CEILING)}
    bench = files.read_json(folder / BENCH)
    parts = [
        *_top(run, subsets, found),
        *_timelines(subsets, found),
        *_accuracy(subsets, found, _recorded(folder / f"{MAP}.int8.onnx")),
        *_cost(bench),
        *_video_cost(files.read_json(folder / FILM_COST)),
        *_how(run),
    ]
    style = page_variables(with_classes=True) + html_charts.STYLE + _STYLE
    files.write_text(target, _PAGE.format(style=style, body="\n".join(parts)))


def judged_subsets(folder: Path) -> dict[str, Annotations]:
    """Read the ground truth of a demo by subset: seen and unseen classes.

    Raises:
        StaleEdgeError: The world is not there, or damaged.
    """
    truth = read_annotations(folder / WORLD / "annotations.json")
    lists = {name: read_class_list(folder / WORLD / "splits" / f"{name}.list") for name in ("seen", "unseen")}
    return {name: truth.restricted_to(classes) for name, classes in lists.items()}


def shown_videos(truth: Annotations) -> list[Video]:
    """Choose the videos of a subset that the page shows."""
    return sorted(truth.videos, key=lambda video: video.id)[:SHOWN_VIDEOS]


def length_of(video: Video, found: Sequence[Detection] = ()) -> float:
    """Give the length of a video in seconds; where it is not told, the end of what is known in it."""
    ends = [one.end_s for one in video.instances] + [one.end_s for one in found]
    return video.duration_s or max(ends, default=1.0)


def image_tower_gmacs(*, width: int, layers: int, patches: int, patch_values: int, out: int) -> float:
    """Count the multiply-accumulates of a vision transformer for one frame, in billions.

    Args:
        width: Width of a token.
        layers: Blocks, each with an MLP four times as wide.
        patches: Patches of a frame; one more token is the class token.
        patch_values: Values of a patch.
        out: Width of the embedding.
    """
    tokens = patches + 1
    block = 12 * width**2 * tokens + 2 * tokens**2 * width
    return (layers * block + patches * patch_values * width + width * out) / 1e9


def _recorded(path: Path) -> dict[str, Any]:
    """Read what quantising changed in detections, as the int8 file records it."""
    found: dict[str, Any] = read_model(path).info.recipe["detections"]
    return found


def _map_of(truth: Annotations, found: Mapping[str, Sequence[Detection]]) -> float:
    return 100 * evaluate(truth, found).average_map


def _top(
    run: DemoRun, subsets: Mapping[str, Annotations], found: Mapping[str, Mapping[str, Sequence[Detection]]]
) -> list[str]:
    unseen = {name: _map_of(subsets["unseen"], found[name]) for name in (MAP, STALE)}
    minutes = max(run.minutes)
    lead = (
        f"This machine taught two networks for {minutes:.1f} minutes each, exported and quantised them, and detected",
        "actions of classes that neither had seen. The boundary map, which looks for beginnings and ends, reaches",
        f"{unseen[MAP]:.1f} average mAP there; STALE, designed as published, {unseen[STALE]:.1f}.",
    )
    return [
        "<h1>When does what happen? Two networks, the same minutes</h1>",
        '<p class="tag">simulated world: no figure here is about real videos</p>',
        f'<p class="lead">{" ".join(lead)}</p>',
        f'<p><a href="{PLAYER}">Watch all detections beside the truth</a>: both networks, all videos, worst first. The',
        "videos below play there. Nobody filmed them: their picture has the colour of a class while its action lasts.",
        "</p>",
    ]


def _timelines(subsets: Mapping[str, Annotations], found: Mapping[str, Mapping[str, Sequence[Detection]]]) -> list[str]:
    parts = [
        "<h2>What they find in the simulated world</h2>",
        _paragraph(
            "The three best detections of each network; the best is the thick bar, written below it. The colour is",
            "that of the class. First three videos of taught classes, then three of classes never shown in training.",
        ),
    ]
    for name, words in (("seen", "taught class"), ("unseen", "class never seen")):
        for video in shown_videos(subsets[name]):
            rows = [
                ClipRow(label, found[method].get(video.id, ())[:SHOWN_DETECTIONS])
                for method, label in ((MAP, "boundary map"), (STALE, "STALE"))
            ]
            length_s = length_of(video, [one for row in rows for one in row.detections])
            parts.append(clip(video.id, words, length_s, video.instances, rows, f"{PLAYER}#video={quote(video.id)}"))
    return parts


def _accuracy(
    subsets: Mapping[str, Annotations],
    found: Mapping[str, Mapping[str, Sequence[Detection]]],
    recorded: Mapping[str, Any],
) -> list[str]:
    names = tuple(subsets)
    rows: list[tuple[str, str, Mapping[str, Sequence[Detection]]]] = [
        ("boundary map, int8", "ours", found[MAP]),
        ("whole video, same labels", "beside", {}),
        ("STALE as published, int8", "", found[STALE]),
        ("whole video, same labels", "beside", {}),
        ("nearest text, nothing trained", "", found[NEAREST_TEXT]),
        ("decoder's ceiling: true outputs", "", found[CEILING]),
    ]
    lines, last = [], found[MAP]
    for label, kind, results in rows:
        last = results or last
        cells = []
        for name in names:
            judged = results or whole_videos(subsets[name], last)
            cells.append(f"{_map_of(subsets[name], judged):.1f}")
        lines.append((kind, (label, *cells)))
    heads = ("average mAP, tIoU 0.5 to 0.95", *(_subset_words(name, subsets[name]) for name in names))
    return [
        "<h2>How good that is in the simulated world</h2>",
        _table(heads, lines),
        _paragraph(
            "<strong>Localising or labelling?</strong> Many actions here are long, as in ActivityNet, so the right",
            "label with the whole video as its segment scores well. What a network reaches above the row below it, it",
            "localised; where it is below, its borders cost mAP.",
        ),
        _why_unseen(subsets, found),
        _paragraph(
            f"In the {recorded['videos']} videos, the boundary map's average mAP is",
            f"{100 * recorded['map_fp32']:.1f} in fp32 and {100 * recorded['map']:.1f} in int8;",
            f"{100 * recorded['matched_share']:.0f} % of its detections are the same (class, and tIoU of 0.95).",
        ),
    ]


def _subset_words(name: str, truth: Annotations) -> str:
    words = "taught classes" if name == "seen" else "classes never seen"
    return f"{words}, {len(truth.videos)} videos"


def _why_unseen(subsets: Mapping[str, Annotations], found: Mapping[str, Mapping[str, Sequence[Detection]]]) -> str:
    """Explain a higher figure on unseen classes by what differs between the two lists of videos."""
    seen, unseen = subsets["seen"], subsets["unseen"]
    here, there = (_map_of(truth, found[MAP]) for truth in (seen, unseen))
    if there <= here:
        return ""
    size = len(unseen.classes)
    groups = [seen.classes[place : place + size] for place in range(0, len(seen.classes) - size + 1, size)]
    alike = [_map_of(seen.restricted_to(group), found[MAP]) for group in groups]
    untaught = [_map_of(truth, found[NEAREST_TEXT]) for truth in (seen, unseen)]
    covered = [100 * _covered(truth) for truth in (seen, unseen)]
    parts = [
        "<strong>Why is the figure of unseen classes higher?</strong> Look at the nearest text, which was taught",
        f"nothing: it reaches {untaught[0]:.1f} and {untaught[1]:.1f}. The two lists hold other videos: actions cover",
        f"{covered[0]:.0f} % of those of taught classes and {covered[1]:.0f} % of the others, and long ones are easier",
        "to hit.",
    ]
    if alike:
        parts.append(
            f"The number of videos matters less: judged {size} classes at a time, taught ones reach "
            f"{sum(alike) / len(alike):.1f} instead of {here:.1f}."
        )
    return _paragraph(*parts)


def _covered(truth: Annotations) -> float:
    """Mean share of a video that its actions cover."""
    shares = [
        min(1.0, sum(one.end_s - one.start_s for one in video.instances) / video.duration_s)
        for video in truth.videos
        if video.duration_s
    ]
    return sum(shares) / max(1, len(shares))


def _cost(bench: dict[str, Any]) -> list[str]:
    lengths = sorted({row["snippets"] for row in bench["rows"]})
    faster = _times_faster(bench["comparisons"])
    spreads = [(row["high_ms"] - row["low_ms"]) / row["median_ms"] for row in bench["rows"]]
    busy = busy_machine_warning(bench["machine"], spreads)
    parts = [
        "<h2>What it costs on one CPU thread</h2>",
        *([f'<p class="tag">{escape(busy)}</p>'] if busy else []),
        _paragraph(
            "Median time of a forward pass, all taking turns, and how many times faster it is than",
            f"{REFERENCE}, the whole STALE with its text tower, as the thesis timed it. Features come as they are: see",
            "the price of CLIP below.",
        ),
    ]
    for snippets in lengths:
        rows = []
        for row in (row for row in bench["rows"] if row["snippets"] == snippets):
            ratio = faster.get((row["model"], snippets))
            compared = "" if ratio is None else f", {_compared(ratio)}"
            macs = f", {number(row['gmacs'])} G multiply-accumulates" if row.get("gmacs") else ""
            text = f"{number(row['median_ms'])} ms{compared}{macs}"
            rows.append(HtmlBar(row["model"], row["median_ms"], text, row["model"].startswith(MAP)))
        parts += [f"<h3>{snippets:,} snippets</h3>", bars(rows)]
    return [*parts, *_price_of_clip(bench, lengths), _paragraph(f"Measured on {escape(_machine(bench['machine']))}.")]


def _times_faster(comparisons: Sequence[dict[str, Any]]) -> dict[tuple[str, int], float]:
    """Look up how many times faster than the reference each model is, by model and length."""
    found = {(item["b"], item["snippets"]): item["ratio"] for item in comparisons if item["a"] == REFERENCE}
    return found | {(item["a"], item["snippets"]): 1 / item["ratio"] for item in comparisons if item["b"] == REFERENCE}


def _compared(ratio: float) -> str:
    return f"{ratio:.3g} times faster" if ratio >= 1 else f"{1 / ratio:.3g} times slower"


def _price_of_clip(bench: dict[str, Any], lengths: Sequence[int]) -> list[str]:
    snippets = 200 if 200 in lengths else lengths[-1]
    frame = image_tower_gmacs(**VIT_B16)
    rows = [HtmlBar(f"CLIP's image tower, {snippets} frames", frame * snippets, f"{frame * snippets:,.0f} G")]
    rows += [
        HtmlBar(row["model"], row["gmacs"], f"{number(row['gmacs'])} G", row["model"].startswith(MAP))
        for row in bench["rows"]
        if row["snippets"] == snippets and row["model"].endswith(".int8.onnx") and row.get("gmacs")
    ]
    return [
        "<h3>The price of CLIP</h3>",
        _paragraph(
            "Every snippet is a frame that went through an image tower first. By the sizes of ViT-B/16, one",
            f"frame takes {frame:.1f} G multiply-accumulates (counted, not measured here), so where features have to",
            "be made, they are nearly all of the cost:",
        ),
        bars(rows),
    ]


def _video_cost(report: dict[str, Any]) -> list[str]:
    """Show where the time goes from a video file to detections."""
    row, video = report["rows"][0], report["video"]
    parts = [
        HtmlBar(words, row["parts"][stage], f"{number(row['parts'][stage])} s", stage == NETWORK)
        for stage, words in STAGE_WORDS.items()
    ]
    return [
        "<h2>From a video file to detections</h2>",
        _paragraph(
            "<strong>The tower's weights are seeded, not CLIP's</strong>: only the cost is real. Processor seconds for",
            f"a minute of video ({escape(video['codec'])}, {video['width']} × {video['height']}), a frame every",
            f"{report['step_s']:g} s, one thread, image tower ViT-B/32 in 8 bits:",
        ),
        bars(parts),
        _paragraph(
            f"All in all {number(row['cpu_s_per_minute'])} s, {row['times_real_time']:.1f} times faster than the video",
            f"plays, in {row['peak_rss_mb']:.0f} MB.",
        ),
    ]


def _how(run: DemoRun) -> list[str]:
    items = "".join(
        f"<li><code>stale-edge {escape(words)}</code> <span>{spent:.0f} s</span></li>" for words, spent in run.commands
    )
    return ["<h2>How</h2>", f"<ol>{items}</ol>", _paragraph("Files and weights are beside this page.")]


def _machine(machine: dict[str, Any]) -> str:
    libraries = (f"{name} {version}" for name, version in machine["libraries"].items())
    return ", ".join([str(machine["cpu"]), machine["date"][:10], *libraries])


def _paragraph(*parts: str) -> str:
    return f"<p>{' '.join(parts)}</p>"


def _table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Write a table of plain texts; each row has the class of its look."""
    first = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr class="{kind}">' + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for kind, row in rows
    )
    return f"<table><thead><tr>{first}</tr></thead><tbody>{body}</tbody></table>"
