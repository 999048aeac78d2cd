"""Cold start and peak memory of one configuration, each in a process of its own.

A process that has run before can measure neither: its caches are warm, and its peak may be that of earlier work.
Linux tells the peak as `VmHWM`, which starts at nothing in a new program; `ru_maxrss` would start at the parent's size.
A child leaves when its parent does: it watches its standard input, which the parent holds open.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stale_edge_runtime.errors import StaleEdgeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TIMEOUT_S = 600.0
_STATUS = Path("/proc/self/status")
_RESET_PEAK = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class ColdStart:
    """Memory figures measured by a fresh process. Megabytes are 10^6 bytes."""

    load_ms: float
    """Reading the model, checking it and making it ready to run."""
    first_ms: float
    """The first run."""
    base_rss_mb: float | None
    """Memory peak before the model was loaded: interpreter, libraries, inputs."""
    peak_rss_mb: float | None
    """Memory peak over loading and two runs."""
    run_peak_rss_mb: float | None
    """Memory peak of the second run alone, the model in memory; none where the system cannot tell."""


class ChildError(StaleEdgeError, RuntimeError):
    """A measuring process that did not come back with its numbers.

    Attributes:
        was_killed: Whether a signal ended it or it took too long, rather than an error of its own.
    """

    def __init__(self, subject: object, problem: str, cure: str = "", *, was_killed: bool = False) -> None:
        super().__init__(subject, problem, cure)
        self.was_killed = was_killed


def run_child(words: Sequence[str], *, subject: str, timeout_s: float = TIMEOUT_S) -> ColdStart:
    """Let a fresh process measure a cold start.

    Args:
        words: Module to run and its arguments; the module must end in `report_cold_start`.
        subject: Subject of the measurement, for messages.
        timeout_s: Longest time it may take.

    Raises:
        ChildError: It failed, was killed, or took too long; it is gone then.
    """
    # -P: modules come from where this process has them, never from the working folder.
    command = [sys.executable, "-P", "-m", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 (our own module, no shell)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
        )
        try:
            process.wait(timeout_s)
            answer = process.stdout.read() if process.stdout else b""
        except subprocess.TimeoutExpired:
            raise ChildError(subject, f"did not start and run within {timeout_s:g} s", was_killed=True) from None
        finally:
            _end(process)
        errors.seek(0)
        reason = errors.read()[-4000:].decode(errors="replace").strip().rpartition("\n")[2]
    if process.returncode != 0:
        problem = f"the measuring process ended with {process.returncode} ({reason or 'no word'})"
        raise ChildError(subject, problem, was_killed=process.returncode < 0)
    return _read_answer(subject, answer)


def report_cold_start(
    load: Callable[[], Callable[[], object]], peak_mb: Callable[[], float | None] | None = None
) -> None:
    """Measure a cold start in this process and write it to standard output, for `run_child`.

    Args:
        load: Makes the model ready and returns what runs it once. Its imports must be done already.
        peak_mb: Tells the largest memory held so far on another device, for a model that runs there.
    """
    read_peak = peak_mb or peak_rss_mb
    base = read_peak()
    begin = time.perf_counter()
    forward = load()
    loaded = time.perf_counter()
    forward()
    first = time.perf_counter()
    before_second = read_peak()
    was_reset = peak_mb is None and reset_peak()
    forward()
    second = read_peak()
    peak = max(before_second, second) if before_second is not None and second is not None else None
    cold = ColdStart(1e3 * (loaded - begin), 1e3 * (first - loaded), base, peak, second if was_reset else None)
    sys.stdout.write(json.dumps(asdict(cold)))
    sys.stdout.flush()


def peak_rss_mb() -> float | None:
    """Largest memory this process has held, in 10^6 bytes; none where the system cannot tell."""
    with contextlib.suppress(OSError):
        match = re.search(r"^VmHWM:\s*(\d+) kB", _STATUS.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
        if match:
            return int(match.group(1)) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def leave_with_parent() -> None:
    """Exit when stdin closes, i.e. when the parent exits."""

    def watch() -> None:
        # The raw descriptor: a thread inside a buffered read would hold its lock when the interpreter ends.
        while os.read(sys.stdin.fileno(), 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def reset_peak() -> bool:
    """Let the peak start again at what is held now; Linux alone can."""
    try:
        _RESET_PEAK.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()


def _read_answer(subject: str, answer: bytes) -> ColdStart:
    try:
        values: dict[str, Any] = json.loads(answer)
        return ColdStart(**values)
    except (ValueError, TypeError) as error:
        raise ChildError(subject, f"the measuring process said {answer[:60]!r}") from error
