"""`stale-edge demo`: the main job from end to end, by the commands that a user would type."""

from __future__ import annotations

import shlex
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.options import CHECKPOINT, FP16, INT8, MODELS, ONNX, OUTPUT, Quick, Quiet
from stale_edge_runtime.formats.files import make_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN: Final = 3
"""Videos of seen classes in the picture, and as many of unseen ones."""


@dataclass(frozen=True)
class DemoScale:
    """Amounts to simulate, train on and measure."""

    classes: int
    """Classes of the world; three of four are taught."""
    validation: int
    """Videos to detect in."""
    videos: int
    """Simulated videos in an epoch of training."""
    epochs: int
    """Epochs of training."""
    batch: int
    """Videos in a step."""
    lengths: str
    """Lengths to benchmark at."""


FULL: Final = DemoScale(classes=200, validation=200, videos=512, epochs=2, batch=32, lengths="100,200,1000")
QUICK: Final = DemoScale(classes=20, validation=20, videos=16, epochs=2, batch=8, lengths="100,200")


def demo(
    output: Annotated[Path, typer.Option(*OUTPUT, help="Folder for the results.")] = Path("demo"),
    seconds: Annotated[float, typer.Option(min=0.1, help="Measuring time for each contender at each length.")] = 2.0,
    quick: Quick = False,
    quiet: Quiet = False,
) -> None:
    """Run the main job on a simulated world: train, export, quantise, detect, evaluate, and benchmark against PyTorch.

    Some minutes on two cores, no downloads. Models go to models/, all else to the output folder; index.html there shows
    what came out.
    """
    from stale_edge.extras import require_plot, require_train

    require_train("stale-edge demo")
    require_plot("stale-edge demo")
    from stale_edge.pages.demo import write_page

    report = Reporter(quiet=quiet)
    for folder in (MODELS, output):
        make_folder(folder)
    start = time.monotonic()
    # The run's folder goes when the demo ends: its weights are in models/ then.
    with tempfile.TemporaryDirectory(prefix="training-", dir=output) as training:
        commands = _commands(output, Path(training), QUICK if quick else FULL, seconds)
        took = [_run(words, f"{number}/{len(commands)}", report) for number, words in enumerate(commands, start=1)]
    page = output / "index.html"
    timed = [(shlex.join(words), spent) for words, spent in zip(commands, took, strict=True)]
    write_page(page, output, timed, checkpoint=CHECKPOINT, int8=INT8)
    report.note(f"done in {time.monotonic() - start:.0f} s; look at {page}")


def _commands(output: Path, training: Path, scale: DemoScale, seconds: float) -> list[list[str]]:
    """List the commands in the order in which they run."""
    world, results = output / "world", output / "results.json"
    features, truth = world / "features", world / "annotations.json"
    seen, unseen = ([features / f"v_{kind}000_{index:06d}.npy" for index in range(SHOWN)] for kind in "su")
    teach = [
        "--epochs",
        scale.epochs,
        "--videos",
        scale.videos,
        "--batch",
        scale.batch,
        "--lr",
        1e-3,
        "--design",
        "all",
    ]
    pictures = ["--json", output / "bench.json", "--csv", output / "bench.csv", "--plot", output / "bench.png"]
    evaluate = ["evaluate", results, "--ground-truth", truth, "--classes"]
    commands: list[list[object]] = [
        ["simulate", "-o", world, "--classes", scale.classes, "--videos", 0, "--validation", scale.validation],
        ["train", "--simulated", world, *teach, "-o", training, "--model", CHECKPOINT],
        ["export", CHECKPOINT, "-o", ONNX],
        ["quantize", ONNX, "--fp16", "-o", FP16],
        ["quantize", ONNX, "--int8", "--features", features, "--ground-truth", truth, "--max-drop", 0.5, "-o", INT8],
        ["detect", INT8, features, "--annotations", truth, "-o", results],
        [*evaluate, world / "splits" / "seen.list", "--json", output / "seen.json"],
        [*evaluate, world / "splits" / "unseen.list", "--json", output / "unseen.json"],
        [
            *("detect", INT8, *seen, *unseen, "--annotations", truth, "--top", 5),
            *("-o", output / "shown.json", "--picture", output / "timeline.png"),
        ],
        [
            *(
                "bench",
                ONNX,
                INT8,
                FP16,
                "--provider",
                "cpu",
                "--threads",
                1,
                "--lengths",
                scale.lengths,
                "--seconds",
                seconds,
            ),
            *("--compare", "torch", "--checkpoint", CHECKPOINT, *pictures),
        ],
    ]
    return [[str(word) for word in words] for words in commands]


def _run(words: Sequence[str], place: str, report: Reporter) -> float:
    """Run one command as a user would, and give its seconds; its failure ends the demo with its exit code."""
    from stale_edge.cli.app import run

    report.note(f"{place} stale-edge {shlex.join(words)}")
    start = time.monotonic()
    code = run([*words, *(["--quiet"] if report.quiet else [])])
    if code:
        raise typer.Exit(code)
    return time.monotonic() - start
