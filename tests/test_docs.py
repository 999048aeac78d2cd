"""README and docs: links lead somewhere, commands exist, and the quick start does what it says."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.main import get_command

from stale_edge.cli.app import app, run

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "models" / "README.md"])
SHOWN = [page for page in PAGES if page.name != "CHANGELOG.md"]
README_LINES = 150
PICTURE_BYTES = 250_000
QUICK_START = re.compile(r"<!-- quick start -->(.*?)<!-- /quick start -->", re.DOTALL)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")
SOURCES = [
    path
    for folder in ("stale_edge", "export", "runtime", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != Path(__file__)
]


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str


def blocks(text: str) -> list[Block]:
    return [Block(*found.groups()) for found in FENCE.finditer(text)]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text("utf-8"))


def inline_code(page: Path) -> list[str]:
    return [" ".join(found.split()) for found in CODE.findall(prose(page))]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def command_lines(text: str) -> list[list[str]]:
    """The words after `stale-edge` of each command line in a fenced block."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        while "stale-edge" in words:
            words = words[words.index("stale-edge") + 1 :]
            found.append(words[: words.index("|")] if "|" in words else words)
    return found


def commands() -> dict[str, Any]:
    return dict(get_command(app).commands)  # type: ignore[attr-defined]


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def ids(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= README_LINES


def test_pictures_are_small_and_shown() -> None:
    pictures = [path for path in (ROOT / "docs" / "pictures").iterdir() if path.suffix != ".md"]
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < PICTURE_BYTES
        assert any(picture.name in page.read_text("utf-8") for page in PAGES if page.parent != picture.parent)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{target}: no such file"
        assert file.is_relative_to(ROOT), f"{target} leaves the repository"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name})" not in index] == ["README.md"]


@pytest.mark.parametrize("page", SHOWN, ids=ids)
def test_command_lines_can_be_parsed(page: Path) -> None:
    known = commands()
    for block in blocks(page.read_text("utf-8")):
        for name, *words in () if block.language else command_lines(block.text):
            assert name in known, f"stale-edge {name}: no such command"
            known[name].make_context(name, list(words))


def test_command_lines_are_found_and_checked() -> None:
    assert command_lines("$ stale-edge a -x 1  # words\nmake b\nmore | stale-edge c 'd e' \\\n  -f | cat") == [
        ["a", "-x", "1"],
        ["c", "d e", "-f"],
    ]
    with pytest.raises(Exception, match="No such option"):
        commands()["export"].make_context("export", ["--no-such-option"])


@pytest.mark.parametrize("page", SHOWN, ids=ids)
def test_commands_and_options_in_sentences_exist(page: Path) -> None:
    known = commands()
    every = set().union(*map(options, known.values())) | {"--debug", "--version", "--help"}
    for code in inline_code(page):
        words = code.removeprefix("stale-edge ").split()
        if code.startswith("stale-edge ") and re.fullmatch(r"[a-z]+", words[0]):
            assert words[0] in known, f"{code}: no such command"
        elif code.startswith("--"):
            assert words[0] in every, f"{code}: no such option"
        if words and words[0] in known:
            wrong = {word for word in words if re.match(r"--[a-z]", word)} - options(known[words[0]]) - {"--help"}
            assert not wrong, f"{code}: no {wrong}"


@pytest.mark.parametrize("page", SHOWN, ids=ids)
def test_extras_and_make_targets_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for named in re.findall(r"pip install '\.\[([^\]]+)\]'", text):
        assert set(named.split(",")) <= set(extras)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    in_blocks = [name for block in blocks(text) for name in re.findall(r"^make ([a-z-]+)", block.text, re.MULTILINE)]
    in_sentences = [code.removeprefix("make ") for code in inline_code(page) if re.fullmatch(r"make [a-z-]+", code)]
    assert set(in_blocks + in_sentences) <= targets


@pytest.mark.parametrize("page", SHOWN, ids=ids)
def test_files_of_code_in_sentences_exist(page: Path) -> None:
    written = [
        code for code in inline_code(page) if re.fullmatch(r"(stale_edge|export|runtime|tests)/[\w/]+\.py", code)
    ]
    assert [code for code in written if "NAME" not in code and not (ROOT / code).is_file()] == []


def test_code_cites_pages_and_sections_that_exist() -> None:
    cited = 0
    for source in SOURCES:
        text = source.read_text("utf-8")
        assert "spec/" not in re.sub(r"\w/spec/|shared/spec/", "", text), f"{source} cites a page that is not here"
        for name, rest in re.findall(r"docs/(\w+\.md)((?:,? (?:§\d|part \d|\"[^\"\n]+\"))?)", text):
            page = ROOT / "docs" / name
            assert page.is_file(), f"{source} cites docs/{name}"
            cited += 1
            wanted = re.sub(r",? (?:§(\d)|part (\d)|\"([^\"]+)\")", _heading, rest)
            assert not rest or re.search(rf"^##+ {wanted}", page.read_text("utf-8"), re.MULTILINE), (source, name, rest)
    assert cited > 20


def _heading(found: re.Match[str]) -> str:
    section, part, title = found.groups()
    return rf"{section}\. " if section else f"Part {part}:" if part else re.escape(title.rstrip(".,"))


def test_version_is_written_the_same_everywhere() -> None:
    from stale_edge import __version__

    assert tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"] == __version__
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE).group(1) == __version__


@pytest.mark.parametrize("page", SHOWN, ids=ids)
def test_python_imports_what_exists(page: Path) -> None:
    for block in blocks(page.read_text("utf-8")):
        if block.language == "python":
            program = "\n".join(line for line in block.text.splitlines() if re.match("(from|import) ", line))
            exec(compile(program, page.name, "exec"), {})


def quick_start() -> tuple[list[list[str]], str]:
    """The quick start's command lines, and its Python."""
    shell, python = blocks(QUICK_START.search((ROOT / "README.md").read_text("utf-8")).group(1))
    assert python.language == "python"
    return command_lines(shell.text), python.text


# What makes a quick start of minutes one of seconds. Later options win.
SMALL = {
    "simulate": ["--classes", "4", "--videos", "4", "--validation", "4"],
    "train": ["--videos", "4", "--epochs", "1", "--batch", "4", "--threads", "1"],
}


def walk(words: list[str]) -> None:
    assert run([*words, *SMALL.get(words[0], [])]) == 0, words


def run_python(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    video = next(Path("world/features").iterdir()).name
    assert "VIDEO.npy" in program
    capsys.readouterr()
    exec(compile(program.replace("VIDEO.npy", video), "README.md", "exec"), {})
    assert re.match(r" +\d+\.\d +\d+\.\d  \d\.\d\d  \w", capsys.readouterr().out)


def test_quick_start_in_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All but export and quantisation, which take their time: a tiny model stands in for the file they make."""
    import numpy as np

    monkeypatch.chdir(tmp_path)
    lines, python = quick_start()
    assert [words[0] for words in lines] == ["simulate", "train", "export", "quantize", "detect", "evaluate"]
    for words in lines[:2]:
        walk(words)
    assert Path("models/stale.safetensors").is_file()
    Path("models/stale.int8.onnx").write_bytes((ROOT / "tests/data/tiny_baked.onnx").read_bytes())
    for path in Path("world/features").iterdir():
        np.save(path, np.load(path)[:, :8])  # as wide as the tiny model
    truth = Path("world/annotations.json")
    truth.write_text(re.sub(r'"label": *"[^"]+"', '"label": "archery"', truth.read_text()))  # a class of the tiny model
    for words in lines[4:]:
        walk(words)
    run_python(python, capsys)


@pytest.mark.slow
def test_quick_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    lines, python = quick_start()
    for words in lines:
        walk(words)
    run_python(python, capsys)
