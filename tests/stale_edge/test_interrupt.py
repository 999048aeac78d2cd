"""Ctrl-C while native code computes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from stale_edge.cli.interrupt import prompt_interrupt

BUSY = """
import hashlib
from stale_edge.cli.interrupt import prompt_interrupt
with {guard}:
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"one native call", b"of many minutes", 2_000_000_000)
"""


def interrupted_after(guard, patience_s):
    child = subprocess.Popen(
        [sys.executable, "-c", BUSY.format(guard=guard)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    child.stdout.readline()
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    started = time.monotonic()
    try:
        _, said = child.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return None
    return time.monotonic() - started, child.returncode, said


def test_native_code_is_ended():
    _, code, said = interrupted_after("prompt_interrupt()", patience_s=120)
    assert code == 130
    assert said == b"interrupted; outputs already there are unchanged\n"


@pytest.mark.realtime
def test_native_code_is_ended_within_two_seconds():
    seconds, _, _ = interrupted_after("prompt_interrupt()", patience_s=120)
    assert seconds < 2


@pytest.mark.realtime
def test_the_native_code_of_this_test_really_does_not_react_by_itself():
    assert interrupted_after("__import__('contextlib').nullcontext()", patience_s=2.5) is None


def test_the_block_leaves_signals_as_they_were():
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    with prompt_interrupt():
        pass
    after = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(after)
    assert after == before
