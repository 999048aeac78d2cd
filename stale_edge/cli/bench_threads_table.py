"""Threads on one video against videos at the same time, as `stale-edge bench --threads 1,2` shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from stale_edge_runtime.bench.statistics import number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stale_edge_runtime.bench.records import Report

COLUMNS = ("T", "model", "threads", "videos", "bursts", "ms a video", "spread", "videos/s", "faster", "efficiency")
_CAPTION = (
    "videos: at the same time, each in a process of its own; faster: videos a second over one thread, with the 95 % "
    "interval; efficiency: the same over all threads"
)


def threads_table(report: Report) -> Table:
    """Lay out all ways to use some threads, by length and model.

    Args:
        report: The results.
    """
    left: Any = {"title_justify": "left", "caption_justify": "left"}
    title = "Threads on one video, and videos at the same time with one thread each, taking turns"
    found = Table(title=title, caption=_CAPTION, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), **left)
    for name in COLUMNS:
        found.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
    ways = sorted(report.thread_ways, key=lambda way: way.snippets)
    for place, way in enumerate(ways):
        is_one = way.threads * way.videos == 1
        group = (way.snippets, way.model)
        found.add_row(
            f"{way.snippets:,}" if is_one else "",
            escape(way.model) if is_one else "",
            str(way.threads),
            str(way.videos),
            str(way.bursts),
            number(way.median_ms),
            f"{(way.high_ms - way.low_ms) / way.median_ms:.0%}",
            number(way.videos_per_s),
            "1x" if is_one else f"{way.faster:.2f}x ({way.faster_low:.2f}-{way.faster_high:.2f})",
            f"{way.efficiency:.0%}",
            end_section=place + 1 == len(ways) or group != (ways[place + 1].snippets, ways[place + 1].model),
        )
    return found


def advice_lines(report: Report) -> Iterator[str]:
    """Word the recommended ways, a line for each file and length.

    Args:
        report: The results.
    """
    for item in report.thread_advice:
        yield f"{item.model} at T = {item.snippets:,}: {item.words}"


def core_line(machine: Mapping[str, Any]) -> str:
    """Tell physical cores from hyper-threads in a line.

    Args:
        machine: Description of the machine.
    """
    logical, physical, quota = machine["cores_allowed"], machine.get("physical_cores"), machine.get("cpu_quota_cores")
    if physical is None:
        line = f"{logical} processors allowed; this system does not tell physical cores from hyper-threads"
    elif physical < logical:
        line = f"{logical} processors allowed are hyper-threads of {physical} physical cores, which they share"
    else:
        line = f"{logical} processors allowed, each a physical core"
    return f"{line}; the container may use {quota:g} on average" if quota and quota < logical else line
