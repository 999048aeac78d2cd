"""A detector in a process of its own, so that a model file from anyone can end or hang that process and nothing else.

The checks of `model_file` bound what a file may hold, not what its arithmetic does: an integer division by zero ends
a process by a signal, and products of constants can take hours while onnxruntime opens a file, deaf to Ctrl-C. The
process that runs the model is told videos and tells detections; when it dies, takes too long or is interrupted, it is
killed, the video at hand is a failure, and the next one gets a new process.

What comes back is JSON, never a pickle: the process may be under a stranger's control.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from stale_edge_runtime import errors
from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.errors import BadDataError, StaleEdgeError
from stale_edge_runtime.heads.registry import HEADS
from stale_edge_runtime.model_file import read_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from stale_edge_runtime.contract import ModelInfo

OPENING_S: Final = 120.0
"""Longest that a file may take to open; the largest of ours take seconds."""
VIDEO_S: Final = 3600.0
"""Longest that one video, or one window of it, may take."""
MAX_DEATHS: Final = 3
"""Processes that may die one after the other before no further one is started for a file."""
MAX_ANSWER_BYTES: Final = 1 << 28
_LENGTH: Final = struct.Struct("<Q")
_CURE: Final = "the file is damaged or hostile: do not use it"
_SERVE: Final = "from stale_edge_runtime.isolation import serve; serve()"


class IsolatedDetector:
    """Finds actions as `Detector` does, in a process of its own.

    Args:
        path: The file; its checked bytes are sent to the process.
        options: Further arguments of `Detector`, by name.

    Attributes:
        path: The file.
        info: What the file says about itself.
        classes: Names of the classes of detections.

    Raises:
        BadDataError: The file cannot be opened, or ends or hangs the process that opens it.
        StaleEdgeError: As `Detector` says.
    """

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths = 0
        self.classes: tuple[str, ...] = ()
        self.info: ModelInfo = self._start()

    @property
    def is_class_agnostic(self) -> bool:
        """Whether the file tells when and not what."""
        return HEADS[self.info.network].is_class_agnostic(self.info)

    def detect(
        self, features: NDArray[np.floating[Any]], duration_s: float | None = None, *, compat: str | None = None
    ) -> list[Detection]:
        """Find the actions in one video; see `Detector.detect`.

        Args:
            features: `[T, feature_dim]`, any float type.
            duration_s: Seconds that the T snippets cover.
            compat: `"stale"` for the published decoding.

        Raises:
            BadDataError: As `Detector` says, or the file ends or hangs the process that runs it.
        """
        if self._process is None:
            self._start()
        answer = self._ask(pickle.dumps((np.asarray(features), duration_s, compat)), VIDEO_S, "on a video")
        return [Detection(*row) for row in answer["found"]]

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        process.wait()

    def __del__(self) -> None:
        """End the process with its last user."""
        if getattr(self, "_process", None) is not None:
            self.close()

    def _start(self) -> ModelInfo:
        if self._deaths >= MAX_DEATHS:
            raise BadDataError(self.path, f"ended {self._deaths} processes, one after the other", _CURE)
        model = read_model(self.path)
        # Modules come from where this process has them, never from the working folder.
        paths = [path for path in sys.path if path]
        self._process = subprocess.Popen(  # noqa: S603 (our own module, no shell)
            [sys.executable, "-P", "-c", _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # native code writes names of the file there
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C is for this process, which ends the other
        )
        try:
            answer = self._ask(pickle.dumps((model, self._options)), OPENING_S, "while it was opened")
            self.classes = tuple(answer["classes"])
        except BaseException:
            self.close()
            raise
        return model.info

    def _ask(self, message: bytes, limit_s: float, when: str) -> Mapping[str, Any]:
        """Send a message and wait for the answer.

        Raises:
            BadDataError: The process died, took too long, or did not answer in form.
            StaleEdgeError: The error that it told.
        """
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise BadDataError(self.path, "has no process", _CURE)
        try:
            with contextlib.suppress(BrokenPipeError):  # it is dead, as the answer will show
                _send(process.stdin, message)
            answer = _receive(process.stdout, time.monotonic() + limit_s)
            told = json.loads(answer)
        except KeyboardInterrupt:
            self.close()
            raise
        except TimeoutError:
            self.close()
            self._deaths += 1
            raise BadDataError(self.path, f"took longer than {limit_s:,.0f} s {when}", _CURE) from None
        except (EOFError, ValueError, RecursionError):
            end = self._end_of_life()
            raise BadDataError(self.path, f"ended the process that ran it ({end}) {when}", _CURE) from None
        self._deaths = 0
        if "error" in told:
            raise _error(told["error"])
        return dict(told)

    def _end_of_life(self) -> str:
        """Give up a process that answers no more, and say how it ended."""
        process = self._process
        self._deaths += 1
        if process is None:
            return "killed"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
        code = process.returncode
        self.close()
        if code is None:
            return "it answered nonsense"
        try:
            return signal.Signals(-code).name if code < 0 else f"exit code {code}"
        except ValueError:
            return f"signal {-code}"


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


def _read(stream: Any, length: int, deadline: float) -> bytes:
    found = bytearray()
    while len(found) < length:
        if not select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        block = os.read(stream.fileno(), min(length - len(found), 1 << 20))
        if not block:
            raise EOFError
        found += block
    return bytes(found)


def _error(told: Mapping[str, str]) -> StaleEdgeError:
    """Rebuild the error that the other process tells; any that is none of ours is bad data."""
    kind = getattr(errors, str(told.get("kind")), None)
    words = [str(told.get(key, "")) for key in ("subject", "problem", "cure")]
    if isinstance(kind, type) and issubclass(kind, StaleEdgeError):
        return kind(*words)
    return BadDataError(*words)


def serve() -> None:
    """Run as the other process: open the file that is sent, then detect in the videos that are sent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing but answers goes there, whatever native code prints
    messages: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(messages,), daemon=True).start()
    from stale_edge_runtime.detector import Detector

    detector: Detector | None = None
    while True:
        message = pickle.loads(messages.get())  # noqa: S301 (from the process that started this one)
        try:
            if detector is None:
                model, options = message
                detector = Detector(model, **options)
                answer: dict[str, Any] = {"classes": list(detector.classes)}
            else:
                features, duration_s, compat = message
                found = detector.detect(features, duration_s, compat=compat)
                answer = {"found": [[float(d.start_s), float(d.end_s), d.label, float(d.score)] for d in found]}
        except StaleEdgeError as error:
            words = {"subject": error.subject, "problem": error.problem, "cure": error.cure}
            answer = {"error": {"kind": type(error).__name__, **words}}
        except MemoryError:
            words = {"subject": "memory", "problem": "there is not enough for this video", "cure": "use --window"}
            answer = {"error": {"kind": "BadDataError", **words}}
        _send(answers, json.dumps(answer).encode())


def _listen(messages: queue.Queue[bytes]) -> None:
    """Take messages in while native code computes, and end the process when nobody sends any more."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            header = _whole(_LENGTH.size)
            messages.put(_whole(_LENGTH.unpack(header)[0]))
    os._exit(0)


def _whole(length: int) -> bytes:
    found = bytearray()
    while len(found) < length:
        block = os.read(0, min(length - len(found), 1 << 20))
        if not block:
            raise EOFError
        found += block
    return bytes(found)
