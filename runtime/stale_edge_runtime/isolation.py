"""A detector in a process of its own, so that a model file from anyone can end or hang that process and nothing else.

The checks of `model_file` bound what a file may hold, not what its arithmetic does: an integer division by zero ends
a process by a signal, and products of constants can take hours while onnxruntime opens a file, deaf to Ctrl-C. The
process that runs the model is told videos and tells detections; when it dies, takes too long or is interrupted, it is
killed, the video at hand is a failure, and the next one gets a new process.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stale_edge_runtime.child import HOSTILE, Child, ChildDiedError, Parent
from stale_edge_runtime.decoding import Detection, plain_rows
from stale_edge_runtime.errors import BadDataError, StaleEdgeError
from stale_edge_runtime.heads.registry import HEADS
from stale_edge_runtime.model_file import read_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.detector import Detector

OPENING_S: Final = 120.0
"""Longest that a file may take to open; the largest of ours take seconds."""
VIDEO_S: Final = 3600.0
"""Longest that one video, or one window of it, may take."""
MAX_DEATHS: Final = 3
"""Processes that may die one after the other before no further one is started for a file."""
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
        self._file = path.absolute()
        self._options = options
        self._process: Child | None = None
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

    def opened_here(self) -> Detector:
        """Open the file in this process: one that is there for it alone already.

        Raises:
            StaleEdgeError: As `Detector` says.
        """
        from stale_edge_runtime.detector import Detector

        detector = Detector(self._file, **self._options)
        detector.path = self.path
        return detector

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the process out: a copy elsewhere starts one of its own with its first video."""
        return {**self.__dict__, "_process": None, "_deaths": 0}

    def __del__(self) -> None:
        """End the process with its last user."""
        if getattr(self, "_process", None) is not None:
            self.close()

    def _start(self) -> ModelInfo:
        if self._deaths >= MAX_DEATHS:
            raise BadDataError(self.path, f"ended {self._deaths} processes, one after the other", HOSTILE)
        model = read_model(self.path)
        self._process = Child(_SERVE)
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
        if self._process is None:
            raise BadDataError(self.path, "has no process", HOSTILE)
        self._process.send(message)
        try:
            told = self._process.receive(limit_s)
        except KeyboardInterrupt:
            self.close()
            raise
        except (TimeoutError, ChildDiedError) as end:
            self.close()
            self._deaths += 1
            late = isinstance(end, TimeoutError)
            problem = f"took longer than {limit_s:,.0f} s" if late else f"ended the process that ran it ({end})"
            raise BadDataError(self.path, f"{problem} {when}", HOSTILE) from None
        except StaleEdgeError:
            self._deaths = 0  # it lives, and told an error
            raise
        self._deaths = 0
        return told


def serve() -> None:
    """Run as the other process: open the file that is sent, then detect in the videos that are sent."""
    parent = Parent()
    from stale_edge_runtime.detector import Detector

    detector: Detector | None = None

    def answer() -> dict[str, Any]:
        nonlocal detector
        if detector is None:
            model, options = message
            detector = Detector(model, **options)
            return {"classes": list(detector.classes)}
        features, duration_s, compat = message
        return {"found": plain_rows(detector.detect(features, duration_s, compat=compat))}

    while True:
        message = pickle.loads(parent.receive())  # noqa: S301 (from the process that started this one)
        parent.answer(answer)
