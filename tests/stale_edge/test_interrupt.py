"""Ctrl-C while native code computes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from stale_edge.cli.interrupt import prompt_interrupt

BUSY = """
import hashlib
from stale_edge.cli.interrupt import prompt_interrupt
with {guard}:
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"one native call", b"of many seconds", 200_000_000)
"""


def interrupted_after(guard):
    child = subprocess.Popen(
        [sys.executable, "-c", BUSY.format(guard=guard)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    child.stdout.readline()
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    started = time.monotonic()
    try:
        _, said = child.communicate(timeout=2.5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return None
    return time.monotonic() - started, child.returncode, said


def test_native_code_is_ended_within_two_seconds():
    seconds, code, said = interrupted_after("prompt_interrupt()")
    assert seconds < 2
    assert code == 130
    assert said == b"interrupted; outputs already there are unchanged\n"


def test_the_native_code_of_this_test_really_does_not_react_by_itself():
    assert interrupted_after("__import__('contextlib').nullcontext()") is None


def test_the_block_leaves_signals_as_they_were():
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    with prompt_interrupt():
        pass
    after = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(after)
    assert after == before
