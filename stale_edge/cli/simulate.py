"""`stale-edge simulate`: a data set that behaves like CLIP features of ActivityNet, in the same formats."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.options import FORCE, OUTPUT, SNIPPET_SECONDS, JsonToStdout, Quiet
from stale_edge_runtime.errors import UsageError


def simulate(
    output: Annotated[Path, typer.Option(*OUTPUT, metavar="DIR", help="Folder for the data set.")],
    classes: Annotated[int, typer.Option(min=1, help="Number of classes.")] = 200,
    videos: Annotated[int, typer.Option(min=0, help="Training videos, all of seen classes.")] = 600,
    validation: Annotated[int, typer.Option(min=0, help="Validation videos, of seen and unseen classes.")] = 400,
    split: Annotated[str, typer.Option(metavar="SEEN/UNSEEN", help="Share of the classes that training shows.")] = (
        "75/25"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another world.")] = 0,
    snippet_s: Annotated[
        float,
        typer.Option(SNIPPET_SECONDS, "--snippet-s", help="Seconds of a snippet: 16 frames at 30 a second."),
    ] = 16 / 30,
    layout: Annotated[
        str, typer.Option(metavar="NAME", help="Timelines of activitynet, or of thumos14: many short actions.")
    ] = "activitynet",
    force: Annotated[
        bool, typer.Option(FORCE, help="Replace another world; write into a folder that holds other things.")
    ] = False,
    json: JsonToStdout = False,
    quiet: Quiet = False,
) -> None:
    """Simulate features, annotations, class splits and text embeddings in the formats of the real data.

    Segments follow ActivityNet's annotations, features the statistics of CLIP's; world.json says how, and training can
    draw endlessly many videos of the same world from it.
    """
    seen = seen_classes(split, classes)
    from stale_edge.extras import require_simulation

    require_simulation("stale-edge simulate")
    from stale_edge.simulation import SimulatedWorld, WorldConfig
    from stale_edge.simulation.folder import write_world

    world = SimulatedWorld(
        WorldConfig(classes=classes, seen_classes=seen, seed=seed, snippet_s=snippet_s, layout=layout)
    )
    report = Reporter(quiet=quiet)
    with report.progress("simulating", videos + validation) as step:
        written = write_world(output, world, videos=videos, validation=validation, force=force, step=step)
    if json:
        summary = {"output": str(output), "classes": classes, "seen_classes": seen, "seed": seed}
        report.result_json(summary | asdict(written))
        return
    report.result(
        f"{output}: {written.training_videos} training videos of {seen} seen classes, {written.seen_videos} validation "
        f"videos of them and {written.unseen_videos} of {classes - seen} unseen ones, {written.instances} instances, "
        f"{written.snippets} snippets"
    )


def seen_classes(split: str, classes: int) -> int:
    """Count the classes that a split such as 75/25 shows in training, at least one.

    Raises:
        UsageError: It is not two whole numbers, or the first is 0.
    """
    parts = split.split("/")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) <= 6 for part in parts):
        raise UsageError("--split", f"is {split!r}", "give two numbers, as in 75/25")
    seen, unseen = map(int, parts)
    if not seen:
        raise UsageError("--split", "shows no class in training", "give two numbers, as in 75/25")
    return min(max(1, round(classes * seen / (seen + unseen))), classes if not unseen else max(1, classes - 1))
