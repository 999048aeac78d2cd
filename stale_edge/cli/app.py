"""The `stale-edge` program: its commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from typer.main import get_command

from stale_edge import __version__
from stale_edge.cli.bench import bench
from stale_edge.cli.convert import convert
from stale_edge.cli.demo import demo
from stale_edge.cli.export import export
from stale_edge.cli.inspect import inspect
from stale_edge.cli.quantize import quantize
from stale_edge_runtime.errors import EXIT_INTERRUPTED, EXIT_USAGE, StaleEdgeError

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    name="stale-edge",
    help="Zero-shot temporal action localization (STALE) on edge devices.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stale-edge {__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Zero-shot temporal action localization (STALE) on edge devices."""


for command in (demo, convert, export, quantize, bench, inspect):
    app.command(no_args_is_help=False)(command)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: The words after the program's name.
    """
    import click

    words = list(arguments)
    debug = "--debug" in words
    words = ["--debug", *(word for word in words if word != "--debug")] if debug else words
    try:
        outcome = get_command(app).main(args=words, prog_name="stale-edge", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_USAGE
    except click.ClickException as error:
        _say(f"error: {error.format_message()}; see --help")
        return EXIT_USAGE
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted; outputs already there are unchanged")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except StaleEdgeError as error:
        if debug:
            raise
        _say(f"error: {error}")
        return error.exit_code
    return outcome if isinstance(outcome, int) else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 (the border of the command line)


def main() -> None:
    """Entry point of the `stale-edge` program."""
    sys.exit(run(sys.argv[1:]))
