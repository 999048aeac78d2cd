"""Faults of the file system at every step of a writer: a process that is told one writer, and tries all of its steps.

`python -m tests.campaign.faults WRITER ROOM` counts the calls that a writer makes to the system for files of its
output folder, then repeats it with each of them failing in each way, and with the process killed at each of them.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stale_edge_runtime.errors import StaleEdgeError
from tests.campaign.cases import EXIT_CODES, TORCHS_OWN, control_characters, enter, run_command, torn
from tests.campaign.kinds import ANNOTATIONS, DATA, RESULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT)
FUNCTIONS = ("open", "fsync", "chmod", "replace", "rename", "unlink", "mkdir", "scandir")
SIZES = (0, 1, 7, 64)
MOST_CALLS = 30
OLD = b'{"old": 1}'


class Injector:
    """Fails, or kills the process at, one call to the system that concerns a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.calls: list[str] = []
        self.fails_at: int | None = None
        self.error: int | None = None
        self.fired = False

    def __call__(self, name: str, path: object) -> None:
        """Note a call; raise or end the process where it is the one."""
        if isinstance(path, int):
            with contextlib.suppress(OSError):
                path = Path(f"/proc/self/fd/{path}").readlink()
        if not isinstance(path, (str, os.PathLike)) or not str(path).startswith(self.folder):
            return
        self.calls.append(name)
        if len(self.calls) - 1 != self.fails_at:
            return
        self.fired = True
        if self.error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(self.error, os.strerror(self.error or 0), str(path))

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Put it between Python and the system."""
        kept = {name: getattr(os, name) for name in FUNCTIONS}
        opened = io.open

        def between(name: str) -> Callable[..., Any]:
            def call(path: Any, *more: Any, **options: Any) -> Any:
                self(name, path)
                return kept[name](path, *more, **options)

            return call

        def open_file(path: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
            if set(mode) & set("wax+"):
                self("open to write", path)
            return opened(path, mode, *more, **options)

        try:
            for name in FUNCTIONS:
                setattr(os, name, between(name))
            io.open = builtins.open = open_file
            yield
        finally:
            for name, function in kept.items():
                setattr(os, name, function)
            io.open = builtins.open = opened


def _inputs(room: Path) -> Path:
    folder = room / "inputs"
    folder.mkdir()
    (folder / "gt.json").write_text(json.dumps(ANNOTATIONS))
    (folder / "results.json").write_text(json.dumps(RESULTS))
    shutil.copy(DATA / "tiny_baked.onnx", folder / "tiny.onnx")
    return folder


def _save(save: Callable[[Path], object], path: Path) -> tuple[int, str, str]:
    try:
        save(path)
    except StaleEdgeError as error:
        return error.exit_code, "", f"error: {error}\n"
    return 0, "", ""


def _write_results(path: Path) -> None:
    from stale_edge_runtime.formats.results import read_results, write_results, write_results_csv

    found = read_results(path.parents[1] / "inputs" / "results.json").detections
    (write_results_csv if path.suffix == ".csv" else write_results)(path, found)


def _save_checkpoint(path: Path) -> None:
    import torch

    from stale_edge.checkpoint import Checkpoint, save_checkpoint
    from stale_edge.networks.stale.config import ModelConfig
    from stale_edge.seeded import seeded_network

    network = seeded_network(ModelConfig(feature_dim=8, anchors=10, heads=2, mask_channels=8, text=None), 3)
    save_checkpoint(path, Checkpoint(network, ("a", "b"), {"source": "trained"}, torch.eye(2, 8)))


def _two_outputs(path: Path) -> None:
    from stale_edge_runtime.formats import files

    with files.together():
        files.write_json(path, {"new": 1})
        files.write_json(path.with_name("second.json"), {"new": 2})


WRITERS: dict[str, tuple[str, Callable[[Path, Path], tuple[int, str, str]]]] = {
    "evaluate": (
        "out.json",
        lambda i, o: run_command(("evaluate", i / "results.json", "-g", i / "gt.json", "--json", o)),
    ),
    "view": ("out.html", lambda i, o: run_command(("view", i / "results.json", "-o", o))),
    "quantize": ("out.onnx", lambda i, o: run_command(("quantize", i / "tiny.onnx", "--fp16", "-o", o))),
    "simulate": (
        "world/world.json",
        lambda _, o: run_command(("simulate", "-o", o.parent, "--classes", 4, "--videos", 2, "--validation", 1)),
    ),
    "results": ("out.json", lambda _, o: _save(_write_results, o)),
    "results CSV": ("out.csv", lambda _, o: _save(_write_results, o)),
    "checkpoint": ("out.safetensors", lambda _, o: _save(_save_checkpoint, o)),
    "two outputs": ("out.json", lambda _, o: _save(_two_outputs, o)),
}
"""Writers: the name of their output, and a function of the folder of inputs and the output: code, stdout, stderr."""


def main(writer: str, room: Path, most: int) -> list[str]:
    """Try all fault points of a writer, the first `most`; prints how many fired, gives what went wrong."""
    enter(room)
    inputs = _inputs(room)
    out = room / "out"
    name, write = WRITERS[writer]
    target = out / name

    def fresh() -> None:
        from stale_edge_runtime.formats import files

        shutil.rmtree(out, ignore_errors=True)
        target.parent.mkdir(parents=True)
        if writer != "simulate":
            target.write_bytes(OLD)
        files._CLEANED.clear()

    wrong: list[str] = []
    fresh()
    write(inputs, target)  # imports what it needs
    new_bytes = len(target.read_bytes())
    fresh()
    counter = Injector(out)
    with counter.installed():
        assert write(inputs, target)[0] == 0
    points = [(index, error) for index in range(len(counter.calls)) for error in (*_errors(index, counter), None)]
    sizes = {size for size in (*SIZES, new_bytes // 2, new_bytes - 1) if size < new_bytes}
    points += [(-size - 1, None) for size in sorted(sizes)]
    fired = 0
    for index, error in points[:most]:
        fresh()
        step = counter.calls[index] if index >= 0 else "size"
        where = f"{writer}: {step} #{index} {errno.errorcode.get(error or 0, 'kill')}"
        if index < 0:
            fired += _with_little_room(-index - 1, write, inputs, target, where, wrong)
        elif error is None:
            fired += _killed(index, write, inputs, target, where, wrong)
        else:
            injector = Injector(out)
            injector.fails_at, injector.error = index, error
            try:
                with injector.installed():
                    outcome = write(inputs, target)
            except BaseException as raised:  # noqa: BLE001 (whatever leaves a command is a defect of it)
                wrong.append(f"{where}: traceback {raised!r}")
                continue
            fired += injector.fired
            _check(outcome, target, where, wrong)
    with contextlib.suppress(OSError):
        shutil.rmtree(out)
    left = [str(path) for name in ("cwd", "home", "tmp") for path in (room / name).rglob("*")]
    left = [path for path in left if TORCHS_OWN not in path]
    if left:
        wrong.append(f"{writer}: left {left[:3]}")
    print(json.dumps({"writer": writer, "calls": len(counter.calls), "points": len(points[:most]), "fired": fired}))
    return wrong


def _errors(index: int, counter: Injector) -> tuple[int, ...]:
    """Every error for each call, or one in turn where calls are many."""
    return ERRORS if len(counter.calls) <= MOST_CALLS else (ERRORS[index % len(ERRORS)],)


def _check(outcome: tuple[int, str, str], target: Path, where: str, wrong: list[str]) -> None:
    code, said_out, said = outcome
    if code not in EXIT_CODES or "Traceback" in said + said_out or control_characters(said):
        wrong.append(f"{where}: exit code {code}: {said[-200:]}")
    if code and not said.strip():
        wrong.append(f"{where}: fails without a word")
    if target.name != "world.json":
        content = target.read_bytes() if target.exists() else b""
        if code and content != OLD and not ("two outputs" in where and "written before it" in said):
            wrong.append(f"{where}: failed with {code} and changed the target: {said[-200:]}")
        if not code and content == OLD:
            wrong.append(f"{where}: exit code 0 and nothing written")
    written = [path for path in target.parent.iterdir() if path.suffix == ".json"]
    wrong.extend(f"{where}: torn {path.name}" for path in written if torn(path, path.read_bytes()))
    orphans = [path.name for path in target.parents[0].rglob("*.stale-edge.tmp")]
    if orphans and "unlink" not in where:
        wrong.append(f"{where}: left {orphans}")


def _killed(index: int, write: Any, inputs: Path, target: Path, where: str, wrong: list[str]) -> bool:
    """Kill a copy of this process at a call, look at the target, and run again."""
    from stale_edge_runtime.formats import files

    child = os.fork()
    if not child:
        injector = Injector(target.parent)
        injector.fails_at = index
        with injector.installed(), contextlib.suppress(BaseException):
            write(inputs, target)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if target.name != "world.json" and (content := target.read_bytes()) != OLD and torn(target, content):
        wrong.append(f"{where}: torn after a kill")
    files._CLEANED.clear()
    _check(write(inputs, target), target, f"{where}, then again", wrong)
    if left := [path.name for path in target.parent.rglob("*.stale-edge.tmp")]:
        wrong.append(f"{where}: orphans after the next run {left}")
    return os.WIFSIGNALED(status)


def _with_little_room(size: int, write: Any, inputs: Path, target: Path, where: str, wrong: list[str]) -> bool:
    """Let no file grow beyond a size: the system itself cuts writes short."""
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, kept[1]))
    try:
        outcome = write(inputs, target)
    except BaseException as raised:  # noqa: BLE001 (whatever leaves a command is a defect of it)
        wrong.append(f"{where}: traceback {raised!r}")
        return True
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    _check(outcome, target, where, wrong)
    return outcome[0] != 0


if __name__ == "__main__":
    tempfile.tempdir = None
    found = main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps({"wrong": found}))
