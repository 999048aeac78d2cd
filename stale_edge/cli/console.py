"""Output of commands: results on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.segment import Segment

from stale_edge_runtime.errors import printable, printable_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import ConsoleOptions, RenderableType
    from rich.table import Column

PLAIN_PROGRESS_SECONDS = 10.0


class PrintableConsole(Console):
    """A console on which no text of a stranger's file acts: controls in it are shown as escapes."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Render as rich does, then escape the text of all that is shown."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                text = "\n".join(map(printable, segment.text.split("\n")))
                yield Segment(text, segment.style)


def number_columns(*headings: str) -> list[Column]:
    """Make columns of a table for numbers, which stand on the right."""
    from rich.table import Column

    return [Column(heading, justify="right") for heading in headings]


class Reporter:
    """Speaks for one command.

    Args:
        quiet: Keep notes and progress back; results, warnings and errors still come.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._out = PrintableConsole(highlight=False, soft_wrap=not sys.stdout.isatty())
        self._err = PrintableConsole(stderr=True, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Say what is going on."""
        if not self.quiet:
            self._err.print(escape(text))

    def warn(self, text: str) -> None:
        """Say what the user must not miss."""
        self._err.print(f"[yellow]warning:[/yellow] {escape(text)}")

    def result(self, item: RenderableType) -> None:
        """Print a result: a rich table, or text shown as it is."""
        if isinstance(item, str):
            self._out.print(item, markup=False)
            return
        # A table piped to a file must not be cut at 80 columns.
        console = self._out if sys.stdout.isatty() else PrintableConsole(highlight=False, width=200)
        console.print(item)

    def result_json(self, value: Any) -> None:
        """Print a result as JSON, in escapes where the locale lacks its characters."""
        ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
        text = json.dumps(value, indent=1, ensure_ascii=ascii_only, allow_nan=False)
        sys.stdout.write(printable_json(text) + "\n")

    @contextlib.contextmanager
    def progress(
        self, label: str, total: int, done: int = 0, *, estimate: bool = True
    ) -> Iterator[Callable[[str], None]]:
        """Follow long work: a bar on a terminal, a plain line now and then elsewhere.

        Args:
            label: Name of the work.
            total: Number of steps.
            done: Steps that an earlier run has done.
            estimate: Show the time that is left; not where the words after each step tell it better.

        Yields:
            A function to call after each step, with a word on what was done.
        """
        if self.quiet:
            yield lambda _text: None
        elif self._err.is_terminal:
            yield from self._bar(label, total, done, estimate=estimate)
        else:
            yield from self._lines(label, total, done)

    def _bar(self, label: str, total: int, done: int, *, estimate: bool) -> Iterator[Callable[[str], None]]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            *([TimeRemainingColumn()] if estimate else []),
            TextColumn("{task.fields[last]}"),
        )
        with Progress(*columns, console=self._err, transient=True) as progress:
            task = progress.add_task(label, total=total, completed=done, last="")
            yield lambda text: progress.update(task, advance=1, last=escape(text))

    def _lines(self, label: str, total: int, done: int) -> Iterator[Callable[[str], None]]:
        last = time.monotonic()

        def step(text: str) -> None:
            nonlocal done, last
            done += 1
            if done == total or time.monotonic() - last > PLAIN_PROGRESS_SECONDS:
                last = time.monotonic()
                self.note(f"{label}: {done}/{total} {text}".rstrip())

        yield step
