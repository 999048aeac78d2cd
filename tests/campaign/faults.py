"""Faults of the file system at every step of a writer: a process that is told one writer, and tries all of its steps.

`python -m tests.campaign.faults WRITER ROOM` counts the calls that a writer makes to the system for files of its
output folder, then repeats it with each of them failing in each way, and with the process killed at each of them.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import importlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stale_edge_runtime.errors import StaleEdgeError
from tests.campaign.cases import EXIT_CODES, TORCHS_OWN, control_characters, enter, run_command, torn
from tests.campaign.kinds import ANNOTATIONS, DATA, RESULTS, npy_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT)
FUNCTIONS = ("open", "fsync", "chmod", "replace", "rename", "unlink", "rmdir", "mkdir", "scandir")
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
    (folder / "v1.npy").write_bytes(npy_bytes())
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


def _checkpoint() -> Any:
    import torch

    from stale_edge.checkpoint import Checkpoint
    from stale_edge.networks.stale.config import ModelConfig
    from stale_edge.seeded import seeded_network

    network = seeded_network(ModelConfig(feature_dim=8, anchors=10, heads=2, mask_channels=8, text=None), 3)
    return Checkpoint(network, ("a", "b"), {"source": "trained", "sha256": "0" * 64}, torch.eye(2, 8))


def _save_checkpoint(path: Path) -> None:
    from stale_edge.checkpoint import save_checkpoint

    save_checkpoint(path, _checkpoint())


def _write_features(path: Path) -> None:
    import numpy as np

    from stale_edge_runtime.feature_origin import FeatureOrigin
    from stale_edge_runtime.formats.feature_record import FeatureRecord, VideoFeatures
    from stale_edge_runtime.video.features import write_video_features

    write_video_features(path, VideoFeatures(np.ones((20, 8), np.float32), FeatureRecord(FeatureOrigin(), 10.0, 20)))


def _train(path: Path) -> None:
    """Train for one step, or go on where a state is."""
    from dataclasses import replace

    from tests.stale_edge.training_driver import SETTINGS, Videos, trainer, training_run

    job = trainer(path.parent, training_run(Videos(4)), replace(SETTINGS, epochs=1))
    if path.exists():
        job.resume()
    job.fit()


def _once(place: str, name: str) -> None:
    """Let a function of a module compute once and give the same again: only the writing is repeated."""
    module, kept = importlib.import_module(place), []
    function = getattr(module, name)

    def once(*arguments: Any, **options: Any) -> Any:
        if not kept:
            kept.append(function(*arguments, **options))
        return kept[0]

    setattr(module, name, once)


def _detect_here() -> None:
    """Detect in this process, where the faults are."""
    from stale_edge_runtime.heads import registry

    registry.SHIPPED = frozenset()


def _bench_once() -> None:
    from functools import partial

    from stale_edge.cli import bench
    from stale_edge_runtime.bench import runner

    bench.try_file = lambda *_: None
    runner.measure_ceiling = partial(runner.measure_ceiling, seconds=0.02)
    _once("stale_edge.cli.bench", "_measure")


def _export_once() -> None:
    from stale_edge_export.parity import Parity

    Parity.require = lambda *_: None  # a network of this size has numbers of another size than the tolerance
    for name in ("trace", "check_file"):
        _once("stale_edge_export.exporter", name)


def _convert_once() -> None:
    from stale_edge import checkpoint

    conversion = checkpoint.Conversion(_checkpoint(), 0, 1, {})
    checkpoint.read_published = lambda *_: conversion


def _detect(words: tuple[str, ...], inputs: Path, out: Path) -> tuple[int, str, str]:
    return run_command(("detect", inputs / "tiny.onnx", inputs / "v1.npy", *words, out))


def _bench(inputs: Path, out: Path) -> tuple[int, str, str]:
    words = ("bench", inputs / "tiny.onnx", "--lengths", 10, "--runs", 1, "--no-cold-start", "--json", out)
    named = {"csv": ".csv", "latex": ".tex", "markdown": ".md", "plot": ".svg"}
    return run_command((*words, *(word for key in named for word in (f"--{key}", out.with_suffix(named[key])))))


def _export(inputs: Path, out: Path) -> tuple[int, str, str]:
    source = inputs / "tiny.safetensors"
    if not source.exists():
        _save_checkpoint(source)
    return run_command(("export", source, "-o", out))


def _two_outputs(path: Path) -> None:
    from stale_edge_runtime.formats import files

    with files.together():
        files.write_json(path, {"new": 1})
        files.write_json(path.with_name("second.json"), {"new": 2})


@dataclass(frozen=True)
class Writer:
    """A writer whose every step is to fail."""

    output: str
    """Name of its output, or of the first of them."""
    write: Callable[[Path, Path], tuple[int, str, str]]
    """Writes it, given the folder of inputs and the output; gives exit code, stdout and stderr."""
    prepare: Callable[[], None] = lambda: None
    """Makes it quick to repeat."""
    in_parts: bool = False
    """Whether its files are written one after the other: each is whole, and the next run goes on."""


def _saving(name: str, save: Callable[[Path], object], *, in_parts: bool = False) -> Writer:
    return Writer(name, lambda _, out: _save(save, out), in_parts=in_parts)


WRITERS: dict[str, Writer] = {
    "evaluate": Writer(
        "out.json", lambda i, o: run_command(("evaluate", i / "results.json", "-g", i / "gt.json", "--json", o))
    ),
    "view": Writer("out.html", lambda i, o: run_command(("view", i / "results.json", "-o", o))),
    "quantize": Writer("out.onnx", lambda i, o: run_command(("quantize", i / "tiny.onnx", "--fp16", "-o", o))),
    "simulate": Writer(
        "world/world.json",
        lambda _, o: run_command(
            ("simulate", "-o", o.parent, "--classes", 4, "--videos", 2, "--validation", 1, "--force")
        ),
        in_parts=True,
    ),
    "results": _saving("out.json", _write_results),
    "results CSV": _saving("out.csv", _write_results),
    "checkpoint": _saving("out.safetensors", _save_checkpoint),
    "two outputs": _saving("out.json", _two_outputs),
    "features": _saving("out.npy", _write_features),
    "detect": Writer("out.json", partial(_detect, ("-o",)), _detect_here),
    "detect CSV": Writer("out.csv", partial(_detect, ("-o",)), _detect_here),
    "detect --page": Writer("out.html", partial(_detect, ("--page",)), _detect_here),
    "export": Writer("out.onnx", _export, _export_once),
    "convert": Writer("out.safetensors", lambda i, o: run_command(("convert", i / "gt.json", "-o", o)), _convert_once),
    "bench": Writer("out.json", _bench, _bench_once),
    "train": _saving("run/state.safetensors", _train, in_parts=True),
}


def main(writer: str, room: Path, most: int) -> list[str]:
    """Try all fault points of a writer, the first `most`; prints how many fired, gives what went wrong."""
    enter(room)
    inputs = _inputs(room)
    out = room / "out"
    chosen = WRITERS[writer]
    chosen.prepare()
    write, target = chosen.write, out / chosen.output

    def fresh() -> None:
        from stale_edge_runtime.formats import files

        shutil.rmtree(out, ignore_errors=True)
        target.parent.mkdir(parents=True)
        if writer == "simulate":
            target.write_text(json.dumps({"format": "stale-edge simulated world"}))
            target.with_name("annotations.json").write_bytes(OLD)
        elif not chosen.in_parts:
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
            fired += _with_little_room(-index - 1, chosen, inputs, target, where, wrong)
        elif error is None:
            fired += _killed(index, chosen, inputs, target, where, wrong)
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
            _check(outcome, chosen, inputs, target, where, wrong)
    with contextlib.suppress(OSError):
        shutil.rmtree(out)
    left = [str(path) for name in ("cwd", "home", "tmp") for path in (room / name).rglob("*")]
    fonts = os.environ.get("MPLCONFIGDIR", os.devnull)  # goes with the process
    left = [path for path in left if TORCHS_OWN not in path and not path.startswith(fonts)]
    if left:
        wrong.append(f"{writer}: left {left[:3]}")
    print(json.dumps({"writer": writer, "calls": len(counter.calls), "points": len(points[:most]), "fired": fired}))
    return wrong


def _errors(index: int, counter: Injector) -> tuple[int, ...]:
    """Every error for each call, or one in turn where calls are many."""
    return ERRORS if len(counter.calls) <= MOST_CALLS else (ERRORS[index % len(ERRORS)],)


def _check(
    outcome: tuple[int, str, str], writer: Writer, inputs: Path, target: Path, where: str, wrong: list[str]
) -> None:
    from stale_edge_runtime.formats import files

    code, said_out, said = outcome
    if code not in EXIT_CODES or "Traceback" in said + said_out or control_characters(said):
        wrong.append(f"{where}: exit code {code}: {said[-200:]}")
    if code and not said.strip():
        wrong.append(f"{where}: fails without a word")
    if not writer.in_parts:
        content = target.read_bytes() if target.exists() else b""
        if code and content != OLD and "written before it" not in said:
            wrong.append(f"{where}: failed with {code} and changed the target: {said[-200:]}")
        if not code and content == OLD:
            wrong.append(f"{where}: exit code 0 and nothing written")
    elif target.name == "world.json" and (found := _annotations_of(target)) == OLD and not code:
        wrong.append(f"{where}: exit code 0 and an old world")
    elif target.name == "world.json" and found == OLD and "classes" in target.read_text():
        wrong.append(f"{where}: a new world with old annotations")
    written = [path for path in target.parent.iterdir() if path.suffix == ".json"]
    wrong.extend(f"{where}: torn {path.name}" for path in written if torn(path, path.read_bytes()))
    if _orphans(target):  # a disk that fails while they are removed
        files._CLEANED.clear()
        writer.write(inputs, target)
        if orphans := _orphans(target):
            wrong.append(f"{where}: left {orphans} also after the next run")


def _orphans(target: Path) -> list[str]:
    return [path.name for path in target.parent.rglob("*.stale-edge.tmp")]


def _annotations_of(target: Path) -> bytes:
    path = target.with_name("annotations.json")
    return path.read_bytes() if path.exists() else b""


def _killed(index: int, writer: Writer, inputs: Path, target: Path, where: str, wrong: list[str]) -> bool:
    """Kill a copy of this process at a call, look at the target, and run again."""
    from stale_edge_runtime.formats import files

    child = os.fork()
    if not child:
        injector = Injector(target.parent)
        injector.fails_at = index
        with injector.installed(), contextlib.suppress(BaseException):
            writer.write(inputs, target)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not writer.in_parts and (content := target.read_bytes()) != OLD and torn(target, content):
        wrong.append(f"{where}: torn after a kill")
    files._CLEANED.clear()
    _check(writer.write(inputs, target), writer, inputs, target, f"{where}, then again", wrong)
    if left := _orphans(target):
        wrong.append(f"{where}: orphans after the next run {left}")
    return os.WIFSIGNALED(status)


def _with_little_room(size: int, writer: Writer, inputs: Path, target: Path, where: str, wrong: list[str]) -> bool:
    """Let no file grow beyond a size: the system itself cuts writes short."""
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, kept[1]))
    try:
        outcome = writer.write(inputs, target)
    except BaseException as raised:  # noqa: BLE001 (whatever leaves a command is a defect of it)
        wrong.append(f"{where}: traceback {raised!r}")
        return True
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    _check(outcome, writer, inputs, target, where, wrong)
    return outcome[0] != 0


if __name__ == "__main__":
    tempfile.tempdir = None
    found = main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps({"wrong": found}))
