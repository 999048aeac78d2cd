"""The border of the command line: help, version, usage mistakes, tracebacks on request."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from rich.console import Console

from stale_edge.cli.console import Reporter

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("words", [["inspect", "none.onnx"], ["--debug", "inspect", "none.onnx"]])
def test_debug_shows_the_traceback_and_keeps_the_exit_code(words: list[str], command: Command) -> None:
    code, out, err = command(*words)
    assert (code, out) == (66, "")
    assert err.rstrip().splitlines()[-1].startswith("error: none.onnx: no such file")
    assert ("Traceback" in err) == ("--debug" in words)


def test_debug_may_stand_anywhere(command: Command) -> None:
    assert "Traceback" in command("inspect", "none.onnx", "--debug")[2]


def test_nothing_typed_is_a_usage_error_with_help(command: Command) -> None:
    code, out, err = command()
    assert (code, out) == (2, "")
    assert "Usage: stale-edge" in err


@pytest.mark.parametrize(("word", "said"), [("expert", "No such command 'expert'"), ("--wrong", "No such option")])
def test_usage_mistakes_are_one_line(word: str, said: str, command: Command) -> None:
    code, out, err = command(word)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from stale_edge.cli.app import run; code = run(['bench', '--help']); "
        "heavy = {'numpy', 'torch', 'onnx', 'onnxruntime', 'matplotlib'} & set(sys.modules); "
        "print(code, sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "0 []"


@pytest.mark.parametrize("estimate", [True, False])
def test_a_bar_has_no_estimate_where_another_is_told(estimate: bool) -> None:
    text = io.StringIO()
    reporter = Reporter()
    reporter._err = Console(file=text, force_terminal=True, width=100)
    with reporter.progress("study", 4, 1, estimate=estimate) as step:
        step("first in 3 s, about 9 s left")
    assert "about 9 s left" in text.getvalue()
    assert bool(re.search(r"[\d-]:[\d-]{2}:[\d-]{2}", text.getvalue())) == estimate


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("detect", "m.onnx", "x.npy", "--max-memory", "inf"), "--max-memory"),
        (("detect", "m.onnx", "x.npy", "--min-score", "nan"), "--min-score"),
        (("detect", "m.onnx", "x.npy", "--fps", "25", "--stride", "9" * 30), "--stride"),
        (("detect", "m.onnx", "x.npy", "--window", "9" * 20), "--window"),
        (("train", "-o", "run", "--simulated", "default", "--lr", "nan"), "--lr"),
        (("train", "-o", "run", "--simulated", "default", "--seed", "-1"), "--seed"),
        (("train", "-o", "run", "--simulated", "default", "--max-minutes", "inf"), "--max-minutes"),
        (("dataset", "gt.json", "--fraction", "nan"), "--fraction"),
        (("simulate", "-o", "world", "--videos", "9" * 20), "--videos"),
        (("bench", "m.onnx", "--seconds", "inf"), "--seconds"),
    ],
)
def test_numbers_that_are_none_are_refused(command, words, option):
    code, _, err = command(*words)
    assert code == 2
    assert err.startswith(f"error: {option}: ")
    assert err.count("\n") == 1


LONG = "a" * 300


@pytest.mark.parametrize(
    "words",
    [
        ("inspect", LONG),
        ("detect", LONG, LONG),
        ("evaluate", LONG, "-g", LONG),
        ("dataset", LONG),
        ("convert", LONG),
        ("export", LONG),
        ("quantize", LONG, "--int8"),
        ("bench", LONG),
        ("compare", LONG, LONG, "-f", LONG),
        ("train", "-o", LONG, "--simulated", "default"),
        ("simulate", "-o", LONG),
        ("report", LONG, "-o", "r.html"),
        ("study", "open-set", "--data", LONG),
        ("export", "-o", LONG),
        ("demo", "-o", LONG),
    ],
)
def test_names_longer_than_a_file_system_takes_are_one_line(command, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = command(*words)
    assert code in {66, 73}, err
    assert "File name too long" in err
    assert "Traceback" not in err


def test_a_file_named_like_an_option_is_pointed_out(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "--0edUL8zmA.npy").touch()
    code, _, err = command("detect", "m.onnx", "--0edUL8zmA.npy")
    assert code == 2
    assert "is a file whose name begins with '-': write ./--0edUL8zmA.npy" in err


def test_running_out_of_memory_is_one_line(command, monkeypatch):
    def fail(*_args, **_more):
        raise MemoryError

    monkeypatch.setattr("stale_edge_runtime.model_file.read_bytes", fail)
    code, _, err = command("inspect", "m.onnx")
    assert code == 65
    assert err.count("\n") == 1


def test_help_of_a_narrow_terminal_cuts_no_option() -> None:
    names = ("detect", "bench", "train", "study", "report", "evaluate", "quantize", "view")
    program = f"from stale_edge.cli.app import run; [run([name, '--help']) for name in {names}]"
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert "--ground-truth, --annotations FILE" in done.stdout
    assert "--latex FILE.tex" in done.stdout
    assert "…" not in re.sub(r"FEATURES\S*|rtsp\S*|RESULTS…", "", done.stdout)
