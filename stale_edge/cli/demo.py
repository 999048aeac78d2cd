"""`stale-edge demo`: the main job from end to end, by the commands that a user would type."""

from __future__ import annotations

import shlex
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.options import OUTPUT, Quick, Quiet
from stale_edge.pages.demo_files import BENCH, CEILING, FILM_COST, MAP, NEAREST_TEXT, PLAYER, STALE, STAND_INS, WORLD
from stale_edge_runtime.formats.files import make_folder


@dataclass(frozen=True)
class DemoScale:
    """Amounts to simulate, train on and measure."""

    classes: int
    """Classes of the world; three of four are taught."""
    validation: int
    """Videos to detect in."""
    map_training: str
    """Options of the training of the boundary map."""
    stale_training: str
    """Options of the training of STALE."""
    is_timed: bool
    """Whether STALE is given the minutes that the boundary map took."""
    lengths: str
    """Lengths to benchmark at."""
    film_s: int
    """Seconds of the film whose way to detections is measured."""


FULL: Final = DemoScale(
    classes=200,
    validation=200,
    map_training="--videos 768 --batch 16 --epochs 5 --max-minutes 4",
    stale_training="--videos 512 --batch 32 --lr 1e-3",
    is_timed=True,
    lengths="200,1000",
    film_s=20,
)
QUICK: Final = DemoScale(
    classes=20,
    validation=20,
    map_training="--videos 16 --batch 8 --epochs 2",
    stale_training="--videos 16 --batch 8 --epochs 2 --lr 1e-3",
    is_timed=False,
    lengths="100,200",
    film_s=4,
)


def demo(
    output: Annotated[Path, typer.Option(*OUTPUT, help="Folder for the results.")] = Path("demo"),
    seconds: Annotated[float, typer.Option(min=0.1, help="Measuring time for each contender at each length.")] = 1.5,
    quick: Quick = False,
    quiet: Quiet = False,
) -> None:
    """Run the main job on a simulated world: train two networks, export, quantise, detect, evaluate, benchmark.

    The boundary map and STALE as published are taught for as long as each other. Some minutes on two cores, no
    downloads. Everything goes to the output folder, weights and files too; index.html there shows what came out.
    """
    from stale_edge.extras import require_train, require_video

    require_train("stale-edge demo")
    require_video("stale-edge demo")
    from stale_edge.pages.demo import DemoRun, write_page

    report = Reporter(quiet=quiet)
    make_folder(output)
    start = time.monotonic()
    steps = _DemoSteps(output, QUICK if quick else FULL, report)
    # The runs' folders go when the demo ends: their weights are beside the page then.
    with tempfile.TemporaryDirectory(prefix="training-", dir=output) as training:
        minutes = steps.train(Path(training))
    steps.use(seconds)
    with tempfile.TemporaryDirectory(prefix="towers-", dir=output) as towers:
        steps.film(Path(towers))
    page = output / "index.html"
    write_page(page, DemoRun(output, tuple(steps.done), minutes))
    report.note(f"done in {time.monotonic() - start:.0f} s; look at {page}")


class _DemoSteps:
    """Commands of the demo, run one after the other and remembered with their seconds."""

    def __init__(self, output: Path, scale: DemoScale, report: Reporter) -> None:
        self.output, self.scale, self.report = output, scale, report
        self.world = output / WORLD
        self.done: list[tuple[str, float]] = []

    def train(self, folder: Path) -> tuple[float, float]:
        """Simulate a world and train both networks; give the minutes that each took."""
        again = ("--force",) if self.world.exists() else ()
        scale, taught = self.scale, ("train", "--simulated", self.world)
        self._run("simulate", "-o", self.world, "--classes", scale.classes, "--videos", 0, *self._videos, *again)
        named = ("--network", MAP, "-o", folder / MAP, "--model", self.output / f"{MAP}.safetensors")
        map_s = self._run(*taught, *named, *scale.map_training.split())
        limit = ("--max-minutes", f"{map_s / 60:.2f}") if scale.is_timed else ()
        named = ("--network", STALE, "-o", folder / STALE, "--model", self.output / f"{STALE}.safetensors")
        stale_s = self._run(*taught, *named, *scale.stale_training.split(), *limit)
        return map_s / 60, stale_s / 60

    def use(self, seconds: float) -> None:
        """Export, quantise, detect, evaluate, time, and detect as reference points do."""
        truth, features, output = self.world / "annotations.json", self.world / "features", self.output
        judged = ("--features", features, "--ground-truth", truth, "--max-drop", 0.5)
        for name, more in ((MAP, judged), (STALE, ())):
            file, int8 = output / f"{name}.onnx", output / f"{name}.int8.onnx"
            self._run("export", output / f"{name}.safetensors", "-o", file)
            self._run("quantize", file, "--int8", *more, "-o", int8)
            self._run("detect", int8, features, "--annotations", truth, "-o", output / f"{name}.json")
            for subset in ("seen", "unseen"):
                chosen = ("--classes", self.world / "splits" / f"{subset}.list")
                found = output / f"{name}-{subset}.json"
                self._run("evaluate", output / f"{name}.json", "-g", truth, *chosen, "--json", found)
        self._detect_references()
        results = (output / f"{MAP}.json", output / f"{STALE}.json")
        self._make_stand_ins()
        shown = ("--videos", output / STAND_INS, "--title", "Demo, simulated world", "-o", output / PLAYER)
        self._run("view", *results, "-g", truth, *shown)
        models = (output / f"{name}{kind}.onnx" for name in (STALE, MAP) for kind in ("", ".int8"))
        fair = ("--compare", "torch", "--checkpoint", output / f"{STALE}.safetensors")
        measured = ("--lengths", self.scale.lengths, "--seconds", seconds, "--json", output / BENCH)
        self._run("bench", *models, "--provider", "cpu", "--threads", 1, *measured, *fair)

    def film(self, folder: Path) -> None:
        """Measure the way from a video to detections, with an image tower of the published size and seeded weights."""
        from stale_edge.simulation.film import write_film

        film, tower = self.output / "film.mp4", folder / "clip-image.int8.onnx"
        self.report.note(f"rendering {film}")
        write_film(film, self.scale.film_s)
        self.report.warn("no weights of CLIP are here: its tower gets SEEDED ones, so only the cost is real")
        self._run("export", "--clip", "untrained:ViT-B/32", "-o", folder)
        self._run("quantize", folder / "clip-image.onnx", "--int8", "-o", tower)
        measured = ("--rounds", 2, "--json", self.output / FILM_COST)
        self._run("bench", self.output / f"{MAP}.int8.onnx", "--video", film, "--image-tower", tower, *measured)

    @property
    def _videos(self) -> tuple[object, ...]:
        return ("--validation", self.scale.validation)

    def _make_stand_ins(self) -> None:
        """Render videos for the player in the place of those of the page, which nobody filmed."""
        from stale_edge.pages.demo import judged_subsets, length_of, shown_videos
        from stale_edge.simulation.film import write_stand_in

        make_folder(self.output / STAND_INS)
        videos = [video for truth in judged_subsets(self.output).values() for video in shown_videos(truth)]
        with self.report.progress("rendering", len(videos)) as step:
            for video in videos:
                write_stand_in(self.output / STAND_INS / f"{video.id}.mp4", length_of(video), video.instances)
                step(video.id)

    def _detect_references(self) -> None:
        """Detect as the reference points do; there is no command for it."""
        from stale_edge.simulation import SimulatedWorld
        from stale_edge.simulation.references import reference_detections
        from stale_edge_runtime.formats.annotations import read_annotations
        from stale_edge_runtime.formats.results import write_results

        world = SimulatedWorld.from_file(self.world)
        ids = [video.id for video in read_annotations(self.world / "annotations.json").videos]
        videos = {
            "seen": sum(name.startswith("s") for name in ids),
            "unseen": sum(name.startswith("u") for name in ids),
        }
        for file, point in ((NEAREST_TEXT, "nearest text"), (CEILING, "ceiling")):
            with self.report.progress(point, len(ids)) as step:
                found = reference_detections(world, MAP, point, videos, step)
            write_results(self.output / f"{file}.json", found)

    def _run(self, *words: object) -> float:
        """Run one command as a user would, and give its seconds; its failure ends the demo with its exit code."""
        from stale_edge.cli.app import run

        texts = [str(word) for word in words]
        self.report.note(f"{len(self.done) + 1}. stale-edge {shlex.join(texts)}")
        start = time.monotonic()
        code = run([*texts, *(["--quiet"] if self.report.quiet else [])])
        if code:
            raise typer.Exit(code)
        spent = time.monotonic() - start
        self.done.append((shlex.join(texts), spent))
        return spent
