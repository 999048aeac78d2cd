"""A parent for commands that open files from anyone: native code may end or hang the child, and never the exit code.

A model, a tower or a video can end a process by a signal or keep it from Ctrl-C for minutes. The program forks before
it imports anything of the size of a network runtime. The child runs the command; the parent waits, hands signals on,
ends a child that ignores Ctrl-C, and says what happened.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stale_edge_runtime.errors import EXIT_BAD_DATA, EXIT_INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS: Final = frozenset(
    {"bench", "compare", "convert", "detect", "export", "features", "inspect", "quantize", "text", "view"}
)
"""Commands that open models, towers or videos of anyone; `train` and the studies handle kills by their own state."""
PATIENCE_S: Final = 1.7
"""Longest from Ctrl-C to the end of a child that does not obey; it obeys within a second while Python runs."""
_FAULTS: Final = frozenset(
    {signal.SIGSEGV, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP}
    | ({signal.SIGBUS} if hasattr(signal, "SIGBUS") else set())
)
_SET_DEATH_SIGNAL: Final = 1


def fork_for(words: Sequence[str]) -> int | None:
    """Run what follows in a child where a command opens files of anyone, and wait for it.

    Returns:
        Exit code, in the parent; None in the child, and where nothing was forked.
    """
    command = next((word for word in words if not word.startswith("-")), "")
    if command not in COMMANDS or not all(map(hasattr, (os, signal), ("fork", "sigtimedwait"))):
        return None
    watched = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
    watched -= {number for number in watched if signal.getsignal(number) is signal.SIG_IGN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    parent = os.getpid()
    child = os.fork()
    if not child:
        _end_with(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return None
    status, was_ended = _wait(child, watched)
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    if was_ended:
        _say("interrupted; outputs already there are unchanged")
        return EXIT_INTERRUPTED
    return _explain(-code, words, before)


def _wait(child: int, watched: set[signal.Signals]) -> tuple[int, bool]:
    """Wait for a child and hand signals on; tell its status, and whether it was ended for ignoring Ctrl-C."""
    deadline = None
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status, deadline is not None and os.WIFSIGNALED(status)
        told = signal.sigtimedwait(watched, 0.1 if deadline else 60.0)
        if told is not None and told.si_signo != signal.SIGCHLD:
            if told.si_code <= 0:  # from a process, to this one alone; a terminal sends to both
                os.kill(child, told.si_signo)
            if told.si_signo == signal.SIGINT:
                deadline = deadline or time.monotonic() + PATIENCE_S
        if deadline and time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)


def _explain(number: int, words: Sequence[str], mask: set[int | signal.Signals]) -> int:
    """Say what ended the child; end this process the same way where it was a request."""
    if number in _FAULTS or number == signal.SIGKILL:
        named = [word for word in words if _is_file(word)]
        files = ", ".join(ascii(name)[1:-1] for name in named[:3]) + (" …" if len(named) > 3 else "")
        ended = f"ended the process that ran the command ({signal.Signals(number).name})"
        if number == signal.SIGKILL:
            _say(f"error: memory: the system {ended}, most likely for want of memory; give smaller inputs")
        else:
            _say(f"error: {files or 'a file'}: {ended}; a file among them is damaged or hostile: do not use it")
        return EXIT_BAD_DATA
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.kill(os.getpid(), number)
    return 128 + number


def _is_file(word: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return Path(word).is_file()
    return False


def _end_with(parent: int) -> None:
    """Let the system end this process with its parent, where it can; a parent that is gone already ends it now."""
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _say(line: str) -> None:
    with contextlib.suppress(OSError, AttributeError):  # stderr may be closed
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
