"""One definition for each option: its names and its help stand in one place."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import stale_edge.cli

COMMANDS = sorted(Path(stale_edge.cli.__file__).parent.glob("*.py"))


def options() -> list[tuple[str, ast.Call]]:
    """Every `typer.Option(…)` of the command line, with its file."""
    return [
        (path.name, node)
        for path in COMMANDS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "typer.Option"
    ]


def test_names_and_help_are_written_once() -> None:
    found = options()
    assert len(found) > 80
    files = defaultdict(set)
    helps = defaultdict(list)
    for file, call in found:
        for argument in call.args:
            if isinstance(argument, ast.Constant):
                files[argument.value].add(file)
        for word in call.keywords:
            if word.arg == "help":
                helps[ast.unparse(word.value)].append(file)
    assert {name: places for name, places in files.items() if len(places) > 1} == {}
    assert {text: places for text, places in helps.items() if len(places) > 1} == {}
