"""The `stale-edge` program: its commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import contextlib
import shutil
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.main import get_command

from stale_edge import __version__
from stale_edge.cli.bench import bench
from stale_edge.cli.compare import compare
from stale_edge.cli.convert import convert
from stale_edge.cli.dataset import dataset
from stale_edge.cli.demo import demo
from stale_edge.cli.detect import detect
from stale_edge.cli.engines import CorpusCommand
from stale_edge.cli.evaluate import evaluate
from stale_edge.cli.export import export
from stale_edge.cli.features import features
from stale_edge.cli.inspect import inspect
from stale_edge.cli.interrupt import INTERRUPTED
from stale_edge.cli.numbers import with_sane_numbers
from stale_edge.cli.quantize import quantize
from stale_edge.cli.report import report
from stale_edge.cli.simulate import simulate
from stale_edge.cli.streams import drop_stream, prepare_streams
from stale_edge.cli.study import study
from stale_edge.cli.text import text
from stale_edge.cli.train import train
from stale_edge.cli.view import view
from stale_edge.cli.web import web
from stale_edge_runtime.errors import (
    EXIT_BAD_DATA,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    InputMissingError,
    StaleEdgeError,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

# Typer keeps its own copy of click, or uses click itself, by version; the class is the same either way.
UsageMistake: type[Any] = typer.BadParameter.__mro__[1]

WIDE_HELP: Final = 100
"""Columns from which help is laid out in boxes."""

app = typer.Typer(
    name="stale-edge",
    help="Zero-shot temporal action localization (STALE) on edge devices.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    # Where a terminal is narrow, rich cuts the names of options in the middle; plain help never does.
    rich_markup_mode="rich" if shutil.get_terminal_size().columns >= WIDE_HELP else None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stale-edge {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Zero-shot temporal action localization (STALE) on edge devices."""
    del debug, version  # `run` and the callback of --version act on them
    if context.invoked_subcommand is None:
        with contextlib.redirect_stdout(sys.stderr):  # typer prints rich help while it makes it
            typer.echo(context.get_help())
        raise typer.Exit(EXIT_USAGE)


for command in (
    demo,
    convert,
    export,
    quantize,
    bench,
    inspect,
    features,
    text,
    detect,
    evaluate,
    view,
    web,
    compare,
    dataset,
    simulate,
    train,
    study,
    report,
):
    app.command(no_args_is_help=False, cls=CorpusCommand if command in {features, detect} else None)(
        with_sane_numbers(command)
    )


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    words = list(arguments)
    debug = "--debug" in words
    words = ["--debug", *(word for word in words if word != "--debug")] if debug else words
    try:
        outcome = get_command(app).main(args=words, prog_name="stale-edge", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        outcome = EXIT_INTERRUPTED
    except BrokenPipeError:
        drop_stream(sys.stdout.fileno())
        return 0
    except Exception as error:
        explained = _explain(error, words)
        if explained is None:
            raise
        if debug and not isinstance(error, UsageMistake):
            traceback.print_exc()
        _say(f"error: {explained[0]}")
        return explained[1]
    if outcome == EXIT_INTERRUPTED:  # some versions of typer turn Ctrl-C into its exit code themselves
        _say(INTERRUPTED)
    return outcome if isinstance(outcome, int) else 0


def _explain(error: Exception, words: Sequence[str]) -> tuple[str, int] | None:
    """Give message and exit code of an error; None for a defect of the program."""
    if isinstance(error, StaleEdgeError):
        return str(error), error.exit_code
    if isinstance(error, UsageMistake):
        return _usage(error, words), EXIT_USAGE
    if isinstance(error, MemoryError):
        return "memory: there is not enough of it; give smaller numbers or inputs", EXIT_BAD_DATA
    if isinstance(error, OSError) and error.filename is not None:  # a name too long, before any reader came to it
        reason = error.strerror or str(error)
        missing = InputMissingError(error.filename, f"cannot be used ({reason})", "check the path")
        return str(missing), missing.exit_code
    return None


def _usage(error: Any, words: Sequence[str]) -> str:
    """Word what is wrong with a command line; files whose names look like options are pointed out."""
    for word in words:
        with contextlib.suppress(OSError):
            if word.startswith("-") and len(word) > 1 and Path(word).exists():
                return f"{word} is a file whose name begins with '-': write ./{word}"
    return f"{error.format_message().rstrip('.')}; see --help"


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # whoever closed or filled stderr still gets the exit code
        print(printable(line), file=sys.stderr, flush=True)  # noqa: T201 (the border of the command line)


def run_process(arguments: Sequence[str]) -> int:
    """Run one command in a process of its own: `run`, with standard streams that lose nothing in silence.

    Returns:
        The exit code; that of a full disk where results could not be written to standard output.
    """
    prepare_streams()
    code = run(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        drop_stream(sys.stdout.fileno())
    except StaleEdgeError as error:
        drop_stream(sys.stdout.fileno())
        _say(f"error: {error}")
        return code or error.exit_code
    try:
        sys.stderr.flush()
    except OSError:
        drop_stream(sys.stderr.fileno())
    return code
