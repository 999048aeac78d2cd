"""Ctrl-C at any moment, also while native code computes for seconds and Python cannot react."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING

from stale_edge_runtime.errors import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERRUPTED = "interrupted; outputs already there are unchanged"
GRACE_S = 1.0


@contextlib.contextmanager
def prompt_interrupt(message: str = INTERRUPTED) -> Iterator[None]:
    """End the program about a second after Ctrl-C within the block, whatever it is computing.

    Python raises KeyboardInterrupt only between its own instructions, and one forward of a long video takes
    longer than anyone waits. So a thread watches for the signal, and where the usual way out has not been taken
    after `GRACE_S` it ends the process. The block may write no files.

    Args:
        message: Message where the process has to be ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waker, watched = socket.socketpair()
    waker.setblocking(False)
    left = threading.Event()
    before = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(watched, left, message), daemon=True).start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(before)
        waker.close()


def _watch(watched: socket.socket, left: threading.Event, message: str) -> None:
    """End the process when Ctrl-C is not obeyed in time; return when the block has been left."""
    with watched:
        while numbers := watched.recv(64):
            if signal.SIGINT in numbers and not left.wait(GRACE_S):
                # A progress bar hides the cursor, and nobody else will show it again.
                sys.stderr.write(("\r\x1b[?25h\x1b[K" if sys.stderr.isatty() else "") + message + "\n")
                sys.stderr.flush()
                os._exit(EXIT_INTERRUPTED)
