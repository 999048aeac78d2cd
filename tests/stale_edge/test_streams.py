"""Standard streams that are full, closed or in an old locale: results are never lost in silence."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-m", "stale_edge"]
MODEL = Path(__file__).parents[1] / "data" / "tiny_baked.onnx"
INSPECT = [*PROGRAM, "inspect", str(MODEL), "--json"]
HELP = [*PROGRAM, "bench", "--help"]


@pytest.fixture
def full_device(tmp_path):
    device = tmp_path / "full"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 7))
        return device.open("wb", buffering=0)
    except OSError as error:
        pytest.skip(f"no device node can be made here: {error}")


def run(words, **streams):
    return subprocess.run(words, timeout=120, check=False, **{"stderr": subprocess.PIPE, **streams})


@pytest.mark.parametrize("words", [INSPECT, HELP])
def test_a_full_stdout_is_an_error(full_device, words):
    done = run(words, stdout=full_device)
    assert done.returncode == 74
    assert done.stderr.startswith(b"error: standard output: cannot be written (No space left on device)")
    assert done.stderr.count(b"\n") == 1


def shell(line):
    return run(["bash", "-c", line, "shell", *INSPECT], stdout=subprocess.PIPE)


def test_a_closed_stdout_is_an_error():
    done = shell('"$@" >&-')
    assert done.returncode == 74
    assert b"Traceback" not in done.stderr
    assert b"standard output" in done.stderr


def test_a_closed_stderr_does_not_matter():
    done = shell('"$@" 2>&-')
    assert (done.returncode, done.stderr) == (0, b"")
    assert b'"kind": "baked"' in done.stdout


def test_a_closed_stderr_keeps_the_exit_code():
    done = run(["bash", "-c", '"$@" 2>&-', "shell", *PROGRAM, "inspect", "none.onnx"], stdout=subprocess.PIPE)
    assert done.returncode == 66


def test_a_closed_stdin_does_not_matter():
    done = shell('"$@" <&-')
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_reader_that_leaves_is_no_error():
    done = shell('"$@" | head -c 1; exit ${PIPESTATUS[0]}')
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("words", [INSPECT, HELP])
def test_an_ascii_locale_is_served(words):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = run(words, stdout=subprocess.PIPE, env=environment)
    assert done.returncode == 0, done.stderr
    done.stdout.decode("ascii")


def test_ctrl_c_while_python_imports_ends_quietly(tmp_path):
    """A module that is imported early interrupts the process, as Ctrl-C at that moment would."""
    package = tmp_path / "typer"
    package.mkdir()
    (package / "__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    program += "from stale_edge.__main__ import main; main()"
    done = run([sys.executable, "-c", program, "--help"], stdout=subprocess.PIPE, env=environment)
    assert done.returncode == 128 + signal.SIGINT
    assert b"Traceback" not in done.stderr
