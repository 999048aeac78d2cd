"""Cases of a campaign: a kind of hostile input, what must come of it, and the verdict on one run of it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import resource
import signal
import sys
import time
import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from stale_edge_runtime.bench.memory import peak_rss_mb, reset_peak
from stale_edge_runtime.errors import StaleEdgeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from random import Random

EXIT_CODES = {0, 2, 65, 66, 69, 73, 74, 130}
LONGEST_CPU_S = 10.0
LONGEST_WALL_S = 60.0
TORCHS_OWN = "torchinductor_"
"""An empty folder that torch makes among temporary files when some of its modules are imported."""


class Expect(StrEnum):
    """Outcome that a kind of input must have."""

    REFUSED = "refused"
    """An error that names the cause."""
    SAID = "said"
    """An error, or a result with a word about it on stderr."""
    ANY = "any"
    """An error or a result: the input may be good by chance."""


@dataclass(frozen=True)
class Call:
    """Work of one case."""

    words: tuple[object, ...] = ()
    """A command line."""
    reader: Callable[[], object] | None = None
    """A reader to call instead."""
    output: Path | None = None
    """The one file or folder that may change."""


@dataclass(frozen=True)
class Kind:
    """A kind of hostile input."""

    name: str
    build: Callable[[Path, Random], Call]
    """Writes the case's files into an empty folder."""
    expect: Expect = Expect.ANY


@dataclass
class Verdict:
    """Outcome of a case."""

    kind: str
    seed: int
    code: int = 0
    """Exit code of a command; of a reader 0, or that of its error."""
    cpu_s: float = 0.0
    said: str = ""
    violations: list[str] = field(default_factory=list)


class _TooLongError(BaseException):
    """Ends a case that does not end."""


def _stop(_number: int, _frame: object) -> None:
    raise _TooLongError


def judge(kind: Kind, seed: int, call: Call, room: Path) -> Verdict:
    """Run one case and judge it.

    Args:
        kind: The kind.
        seed: The case's seed.
        call: What it runs.
        room: Folder with `case`, and with the empty `cwd`, `home` and `tmp` that nothing may be left in.
    """
    verdict = Verdict(kind.name, seed)
    bad = verdict.violations
    before = _tree(room, call.output)
    old_output = None if call.output is None or not call.output.is_file() else call.output.read_bytes()
    start_s, begin_s = _cpu_s(), time.monotonic()
    signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_WALL_S)
    try:
        verdict.code, out, err = _run_reader(call.reader) if call.reader else run_command(call.words)
    except _TooLongError:
        bad.append(f"longer than {LONGEST_WALL_S:.0f} s")
        out = err = ""
    except BaseException as error:  # noqa: BLE001 (whatever leaves a command is a defect of it)
        bad.append(f"traceback: {type(error).__name__}: {error}"[:300])
        out = err = ""
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    verdict.cpu_s = _cpu_s() - start_s
    if not bad and time.monotonic() - begin_s >= LONGEST_WALL_S:  # native code may swallow the alarm
        bad.append(f"longer than {LONGEST_WALL_S:.0f} s")
    verdict.said = err[-300:]
    if bad:
        return verdict
    bad += _wrong_words(kind, verdict, out, err)
    if (after := _tree(room, call.output)) != before:
        changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        bad.append(f"other files changed: {sorted(changed)}"[:300])
    if call.output is not None and call.output.is_file() and (content := call.output.read_bytes()) != old_output:
        bad.extend(torn(call.output, content))
        if verdict.code and old_output is not None:
            bad.append("failed and changed its output")
    return verdict


def _wrong_words(kind: Kind, verdict: Verdict, out: str, err: str) -> list[str]:
    """Say what is wrong with the words and the exit code of a case."""
    wrong: list[str] = []
    if "Traceback" in out + err:
        wrong.append("traceback in the output")
    if verdict.code not in EXIT_CODES:
        wrong.append(f"exit code {verdict.code}")
    if raw := control_characters(out + err):
        wrong.append(f"raw control characters {raw}")
    if verdict.code and not err.strip():
        wrong.append("an error without a word")
    if verdict.code and len([line for line in err.splitlines() if line.startswith("error:")]) > 2:
        wrong.append("more than two lines of errors")
    if verdict.cpu_s > LONGEST_CPU_S:
        wrong.append(f"{verdict.cpu_s:.1f} s of CPU")
    if kind.expect is Expect.REFUSED and verdict.code == 0:
        wrong.append("not refused")
    if kind.expect is Expect.SAID and verdict.code == 0 and not err.strip():
        wrong.append("silent")
    return wrong


def run_command(words: tuple[object, ...]) -> tuple[int, str, str]:
    """Run a command line in this process; gives exit code, stdout and stderr."""
    from stale_edge.cli.app import run

    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(word) for word in words])
    return code, *(stream.buffer.getvalue().decode(errors="backslashreplace") for stream in (out, err))


def _run_reader(reader: Callable[[], object]) -> tuple[int, str, str]:
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        try:
            found: Any = reader()
        except StaleEdgeError as error:
            return error.exit_code, "", f"error: {error}\n"
    notes = getattr(found, "left_out", None) or getattr(getattr(found, "dirt", None), "left_out", None)
    return 0, "", err.getvalue() + (f"left out: {notes!r}\n" if notes else "")


def control_characters(text: str) -> list[str]:
    """List the characters of a text that a terminal would act on."""
    return sorted({repr(c) for c in text if unicodedata.category(c) == "Cc" and c not in "\n\t"})


def torn(path: Path, content: bytes) -> list[str]:
    """Say what is wrong with an output that was written, by its form."""
    if path.suffix == ".json":
        try:
            json.loads(content)
        except ValueError:
            return ["torn output"]
    return [] if content else ["empty output"]


def _cpu_s() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _tree(room: Path, output: Path | None) -> dict[str, str]:
    """Every path of the room but the output and what is in it, with the hash of what is small enough to hash."""
    return {str(path): _fingerprint(path) for path in _paths(room) if output not in (path, *path.parents)}


def _paths(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if not path.name.startswith(TORCHS_OWN):
            yield path


def _fingerprint(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        return "link" if path.is_symlink() else "other"
    size = path.stat().st_size
    return str(size) if size > 1 << 22 else hashlib.sha256(path.read_bytes()).hexdigest()


def peak_mb(*, anew: bool = False) -> float:
    """Most memory that this process held, in MiB; `anew` begins with what it holds now.

    The system's own figure, `ru_maxrss`, begins with that of the parent.
    """
    if anew:
        assert reset_peak()
    return (peak_rss_mb() or 0.0) / 1.048576


def enter(room: Path) -> None:
    """Make the empty working, home and temporary folders of a campaign, and live in them."""
    for name, variable in (("cwd", None), ("home", "HOME"), ("tmp", "TMPDIR")):
        (room / name).mkdir(parents=True)
        if variable:
            os.environ[variable] = str(room / name)
    os.chdir(room / "cwd")
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None
