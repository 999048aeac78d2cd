"""Plain language: docstrings and messages that say what they describe, the field's names, no name twice."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUSE = Path(__file__).parents[1]
PACKAGES = (HOUSE / "stale_edge", HOUSE / "export" / "stale_edge_export", HOUSE / "runtime" / "stale_edge_runtime")
FILES = [path for package in PACKAGES for path in sorted(package.rglob("*.py"))]
NO_SUBJECT = re.compile(
    r"(What|How|Of|That|Which|Whose|Whom?|Where|When|Why|Those|These|This|Its?|Their|They|Them|He|She|Whether it"
    r"|At|By|With|Without|In|From|To|For|Before|After|As|Over|Between|Or|And|Nothing|Something|None of)\b"
)
"""First words of a clause that leaves open what it is about."""
NO_VERB = re.compile(r"(The|An?|All|Every|Each|One|Both|Some|Any|Only|Other|No|Same)\b")
"""First words of a function's docstring that begins with no verb."""
OLD_NAMES = re.compile(r"lesson|exam(?!ple|ine)|roster|entrant|laborator|workplace|pupil|teacher", re.IGNORECASE)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


@cache
def docstrings(path: Path) -> list[tuple[int, str, bool]]:
    """Line and text of every docstring, of fields and constants too, and whether it is that of a function."""
    of_functions = {
        id(node.body[0]): True
        for node in ast.walk(tree(path))
        if isinstance(node, FUNCTIONS) and ast.get_docstring(node) and not is_property(node)
    }
    return [
        (node.lineno, node.value.value.strip(), id(node) in of_functions)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]


def described(text: str) -> Iterator[str]:
    """Descriptions of the arguments in a docstring."""
    arguments = re.search(r"^ *Args:\n(.*?)(?=\n *\n|\Z)", text, re.MULTILINE | re.DOTALL)
    if arguments:
        yield from re.findall(r"^ +\*{0,2}\w+: (.*)$", arguments[1], re.MULTILINE)


def places(path: Path, found: list[tuple[int, str]]) -> list[str]:
    return [f"{path.relative_to(HOUSE)}:{line}: {text.splitlines()[0]}" for line, text in found]


def test_docstrings_name_their_subject() -> None:
    assert sum(len(docstrings(path)) for path in FILES) > 2000
    wrong = []
    for path in FILES:
        wrong += places(path, [(line, text) for line, text, _ in docstrings(path) if NO_SUBJECT.match(text)])
        arguments = ((line, each) for line, text, _ in docstrings(path) for each in described(text))
        wrong += places(path, [(line, each) for line, each in arguments if NO_SUBJECT.match(each)])
    assert wrong == []


def test_docstrings_of_functions_begin_with_a_verb() -> None:
    wrong = []
    for path in FILES:
        wrong += places(
            path, [(line, text) for line, text, is_function in docstrings(path) if is_function and NO_VERB.match(text)]
        )
    assert wrong == []


def test_help_names_its_subject() -> None:
    texts = [
        (path, word.value.lineno, word.value.value)
        for path in (HOUSE / "stale_edge" / "cli").glob("*.py")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("typer.")
        for word in node.keywords
        if word.arg == "help" and isinstance(word.value, ast.Constant)
    ]
    assert len(texts) > 80
    assert [f"{path.name}:{line}: {text}" for path, line, text in texts if re.match(NO_SUBJECT, text)] == []


def test_no_class_name_is_defined_twice() -> None:
    found = defaultdict(list)
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(HOUSE)))
    assert len(found) > 200
    assert {name: where for name, where in found.items() if len(where) > 1} == {}


def test_names_are_the_fields_terms() -> None:
    names = []
    for path in FILES:
        for node in ast.walk(tree(path)):
            name = getattr(node, "name", None) or getattr(node, "id", None) or getattr(node, "arg", None)
            if isinstance(name, str) and OLD_NAMES.search(name):
                names.append(f"{path.relative_to(HOUSE)}: {name}")
    assert names == []


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """Problems and cures of errors, with `{}` for what is put in; their subject is the first argument."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Error"):
            for argument in node.args[1:]:
                parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
                words = [ast.literal_eval(part) if isinstance(part, ast.Constant) else "{}" for part in parts]
                yield node.lineno, "".join(map(str, words))


def test_messages_go_on_from_their_subject() -> None:
    """An error reads `SUBJECT: problem; cure`: neither part begins a clause of its own, or ends a sentence."""
    found = [(path, line, text) for path in FILES for line, text in messages(path)]
    assert len(found) > 700
    odd = re.compile(rf"{NO_SUBJECT.pattern}|[A-Z][a-z]+ |.*\.$|.*  ", re.DOTALL)
    wrong = [place for place in found if odd.match(place[2]) or OLD_NAMES.search(place[2])]
    assert wrong == []


def test_pages_use_the_fields_terms() -> None:
    pages = [HOUSE / "README.md", HOUSE / "CHANGELOG.md", *sorted((HOUSE / "docs").glob("*.md"))]
    vague = re.compile(r"^(?:- |\d+\. )(?:It|They|Nothing|Something|That|Which)\b")
    lines = [(page.name, line) for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    assert len(lines) > 1000
    assert [place for place in lines if OLD_NAMES.search(place[1]) or vague.match(place[1])] == []


@pytest.mark.parametrize(
    "text", ["What is wrong, or nothing.", "Of what.", "Its name.", "Whether it is", "From a to b."]
)
def test_riddles_are_found(text: str) -> None:
    assert NO_SUBJECT.match(text)


@pytest.mark.parametrize("text", ["Violation message, or ''.", "Whether the file is open.", "Format of it.", "Asset."])
def test_plain_words_pass(text: str) -> None:
    assert not NO_SUBJECT.match(text)
    assert not NO_VERB.match(text)
