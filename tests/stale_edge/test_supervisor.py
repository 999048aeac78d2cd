"""Commands that open files of anyone: a parent that outlives what native code does to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAD = "import os, signal, sys, time\nfrom stale_edge.supervisor import fork_for\n"
FORK = "code = fork_for(sys.argv[1:])\nif code is not None: sys.exit(code)\n"
FILE = str(Path(__file__).parents[1] / "data" / "tiny_baked.onnx")


def start(child: str, *words: str) -> subprocess.Popen[bytes]:
    """A program of the given child."""
    program = HEAD + FORK + child
    return subprocess.Popen(
        [sys.executable, "-c", program, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )


def test_the_exit_code_passes() -> None:
    process = start("sys.exit(66)", "inspect", FILE)
    assert (process.wait(20), process.communicate()[1]) == (66, b"")


def test_other_commands_are_not_forked() -> None:
    process = start("print(os.getppid())", "train")
    assert int(process.communicate()[0]) == os.getpid()


@pytest.mark.parametrize("name", ["SIGFPE", "SIGSEGV", "SIGABRT"])
def test_a_fault_is_bad_data(name: str) -> None:
    _, said = (process := start(f"os.kill(os.getpid(), signal.{name})", "--debug", "bench", FILE)).communicate()
    assert process.returncode == 65
    assert said.decode() == (
        f"error: {FILE}: ended the process that ran the command ({name}); a file among them is damaged or hostile: "
        "do not use it\n"
    )


def test_a_kill_by_the_system_is_told() -> None:
    _, said = (process := start("os.kill(os.getpid(), signal.SIGKILL)", "view", FILE)).communicate()
    assert process.returncode == 65
    assert b"for want of memory" in said


def test_a_request_to_end_ends_both() -> None:
    process = start("print(os.getpid(), flush=True); time.sleep(60)", "bench", FILE)
    child = int(process.stdout.readline())
    process.terminate()
    assert process.wait(20) == -signal.SIGTERM
    assert not Path(f"/proc/{child}").exists()


def test_ctrl_c_reaches_the_child_and_a_deaf_one_is_ended() -> None:
    obeys = "try: print(flush=True); time.sleep(60)\nexcept KeyboardInterrupt: sys.exit(130)"
    deaf = "signal.signal(signal.SIGINT, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    for child, words in ((obeys, b""), (deaf, b"interrupted; outputs already there are unchanged\n")):
        process = start(child, "quantize", FILE)
        process.stdout.readline()
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert time.monotonic() - begin < 5
        assert process.stderr.read() == words


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not end a child with its parent")
def test_the_child_does_not_outlive_a_killed_parent() -> None:
    process = start("print(os.getpid(), flush=True); time.sleep(60)", "detect", FILE)
    child = Path("/proc") / str(int(process.stdout.readline()))
    process.kill()
    process.wait()
    for _ in range(100):
        if not child.exists() or child.joinpath("stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError(child)
