"""Detection while the video still runs: snippets in as they come, detections out as they settle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.windows import WindowMerger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import BinaryIO

    from numpy.typing import NDArray

    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.segments import FloatArray
    from stale_edge_runtime.windows import WindowPlan

READ_BYTES = 1 << 20
NPY_MAGIC = b"\x93NUMPY"


class DetectionStream:
    """Detects in a video of unknown length, window by window.

    It holds one window of features, whatever the length of the video. The detections of a whole video are
    those of `detect_in_windows` on the same features, in order of settling instead of score.

    Args:
        detect: Takes features `[window, D]` and their duration in seconds; returns detections in seconds from
            the start of the window.
        plan: Positions of the windows.
        snippet_s: Seconds per snippet.
    """

    def __init__(
        self,
        detect: Callable[[FloatArray, float], Sequence[Detection]],
        plan: WindowPlan,
        snippet_s: float,
    ) -> None:
        self._detect = detect
        self._plan = plan
        self._snippet_s = snippet_s
        self._merger = WindowMerger(plan, snippet_s)
        self._rows: NDArray[np.float32] | None = None
        self._first = 0
        self._seen = 0

    @property
    def snippets(self) -> int:
        """Snippets taken in so far."""
        return self._first + (0 if self._rows is None else len(self._rows))

    def push(self, rows: FloatArray) -> list[Detection]:
        """Take in snippets `[n, D]`, any n; return the detections that this settles."""
        new = np.asarray(rows, dtype=np.float32)
        self._rows = new.copy() if self._rows is None else np.concatenate([self._rows, new])
        settled: list[Detection] = []
        while len(self._rows) >= self._plan.window:
            settled += self._run(self._rows[: self._plan.window])
            self._rows = self._rows[self._plan.hop :].copy()
            self._first += self._plan.hop
        return settled

    def finish(self) -> list[Detection]:
        """End the video: return the detections that were not settled yet."""
        settled: list[Detection] = []
        if self._rows is not None and self.snippets > self._seen:
            settled = self._run(self._rows)
        return settled + self._merger.finish()

    def _run(self, rows: NDArray[np.float32]) -> list[Detection]:
        self._seen = self._first + len(rows)
        found = self._detect(rows, len(rows) * self._snippet_s)
        return self._merger.add(self._first, self._seen, found)


def read_rows(
    stream: BinaryIO, width: int, *, name: str = "stdin", dtype: str = "float32"
) -> Iterator[NDArray[np.float32]]:
    """Features from a byte stream, as soon as whole snippets have come.

    The format is the plainest there is: little-endian floats, `width` numbers per snippet, nothing else.

    Args:
        stream: Unbuffered or buffered; `read1` is used where there is one, so that nothing waits for more.
        width: Numbers per snippet.
        name: The stream's name, for messages.
        dtype: Type of the numbers: float16, float32 or float64. Bytes do not tell it.

    Yields:
        `[n, width]`, n from 1 up.

    Raises:
        BadDataError: A number is not finite, the stream is an `.npy` file, or it ends inside a snippet;
            whole snippets before that have been yielded.
    """
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    number = np.dtype(dtype).newbyteorder("<")
    row_bytes = number.itemsize * width
    pending = b""
    snippets = 0
    while block := read(READ_BYTES):
        pending += block
        if snippets == 0 and len(pending) >= len(NPY_MAGIC) and pending.startswith(NPY_MAGIC):
            raise BadDataError(
                name, f"is an .npy file, not a stream of {dtype} rows", "name the file instead of --follow"
            )
        whole = len(pending) // row_bytes * row_bytes
        if not whole:
            continue
        with np.errstate(over="ignore"):  # what is beyond float32 is infinite then
            rows = np.frombuffer(pending[:whole], dtype=number).reshape(-1, width).astype(np.float32)
        pending = pending[whole:]
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            good = int(finite.argmin())
            if good:
                yield rows[:good]
            raise BadDataError(name, f"snippet {snippets + good} holds NaN or infinity", "check the feature extractor")
        snippets += len(rows)
        yield rows
    if pending:
        raise BadDataError(
            name,
            f"ends inside snippet {snippets}: {len(pending)} of {row_bytes} bytes",
            f"send whole rows of {width} {dtype} numbers",
        )
