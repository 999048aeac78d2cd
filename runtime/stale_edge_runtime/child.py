"""A process of its own for what anyone's file may end or hang: messages in, answers out.

What comes back is JSON, never a pickle: the process may be under a stranger's control.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from stale_edge_runtime import errors
from stale_edge_runtime.errors import BadDataError, StaleEdgeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_ANSWER_BYTES: Final = 1 << 28
HOSTILE: Final = "the file is damaged or hostile: do not use it"
"""Cure for a file that ends or hangs its process."""
_LENGTH: Final = struct.Struct("<Q")


class ChildDiedError(Exception):
    """End of the process instead of an answer; the message says how it ended."""


class Child:
    """A process that runs one function of ours.

    Args:
        code: Statement that the process runs: an import and a call of a function that uses `Parent`.
    """

    def __init__(self, code: str) -> None:
        # Modules come from where this process has them, never from the working folder.
        paths = [path for path in sys.path if path]
        self._process = subprocess.Popen(  # noqa: S603 (our own module, no shell)
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # native code writes names of the file there
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C is for this process, which ends the other
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def fileno(self) -> int:
        """Descriptor that becomes readable when an answer comes or the process ends."""
        assert self._process.stdout is not None  # noqa: S101 (a pipe, as asked for)
        return self._process.stdout.fileno()

    def send(self, message: bytes) -> None:
        """Send a message; a process that is dead shows it in the answer."""
        with contextlib.suppress(BrokenPipeError):
            _send(self._process.stdin, message)

    def receive(self, limit_s: float) -> dict[str, Any]:
        """Wait for an answer.

        Raises:
            TimeoutError: It does not come in time.
            ChildDiedError: The process ended, or answered nonsense.
            StaleEdgeError: The error that it told.
        """
        try:
            told = json.loads(_receive(self._process.stdout, time.monotonic() + limit_s))
        except TimeoutError:
            self.close()
            raise
        except (EOFError, ValueError, RecursionError):
            raise ChildDiedError(self._end_of_life()) from None
        except BaseException:
            self.close()
            raise
        if not isinstance(told, dict):
            raise ChildDiedError(self._end_of_life())
        if "error" in told:
            raise error_of(told["error"])
        return told

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        self._process.wait()

    def _end_of_life(self) -> str:
        """Give up a process that answers no more, and say how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        code = self._process.returncode
        self.close()
        if code is None:
            return "it answered nonsense"
        try:
            return signal.Signals(-code).name if code < 0 else f"exit code {code}"
        except ValueError:
            return f"signal {-code}"


class Parent:
    """The process that started this one, as this one sees it; it ends with it.

    Standard output carries answers from here on, and whatever native code prints goes to standard error.
    """

    def __init__(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._answers = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        self._messages: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=_listen, args=(self._messages,), daemon=True).start()

    def receive(self) -> bytes:
        """Wait for the next message."""
        return self._messages.get()

    def send(self, answer: Mapping[str, Any]) -> None:
        """Send an answer, of JSON values."""
        _send(self._answers, json.dumps(answer).encode())

    def answer(self, work: Callable[[], Mapping[str, Any]]) -> None:
        """Send what some work gives, or the error that ends it."""
        try:
            told = dict(work())
        except StaleEdgeError as error:
            told = {"error": error_words(error)}
        except MemoryError:
            words = {"subject": "memory", "problem": "there is not enough for this video", "cure": "use --window"}
            told = {"error": {"kind": "BadDataError", **words}}
        self.send(told)


def _send(stream: BinaryIO | Any, message: bytes) -> None:
    stream.write(_LENGTH.pack(len(message)))
    stream.write(message)
    stream.flush()


def _receive(stream: Any, deadline: float) -> bytes:
    """Read one message.

    Raises:
        TimeoutError: It does not come in time.
        EOFError: The other end closed.
        ValueError: It is longer than any of ours.
    """
    (length,) = _LENGTH.unpack(_read(stream, _LENGTH.size, deadline))
    if length > MAX_ANSWER_BYTES:
        raise ValueError(f"a message of {length} bytes")
    return _read(stream, length, deadline)


def _read(stream: Any, length: int, deadline: float | None = None) -> bytes:
    found = bytearray()
    while len(found) < length:
        if deadline and not select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        block = os.read(stream.fileno(), min(length - len(found), 1 << 20))
        if not block:
            raise EOFError
        found += block
    return bytes(found)


def error_words(error: StaleEdgeError) -> dict[str, str]:
    """Write an error as JSON values."""
    words = {"subject": error.subject, "problem": error.problem, "cure": error.cure}
    return {"kind": type(error).__name__, **words}


def error_of(told: Mapping[str, str]) -> StaleEdgeError:
    """Rebuild the error that another process tells; any that is none of ours is bad data."""
    kind = getattr(errors, str(told.get("kind")), None)
    words = [str(told.get(key, "")) for key in ("subject", "problem", "cure")]
    if isinstance(kind, type) and issubclass(kind, StaleEdgeError):
        return kind(*words)
    return BadDataError(*words)


def _listen(messages: queue.Queue[bytes]) -> None:
    """Take messages in while native code computes, and end the process when nobody sends any more."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            header = _read(sys.stdin, _LENGTH.size)
            messages.put(_read(sys.stdin, *_LENGTH.unpack(header)))
    os._exit(0)
