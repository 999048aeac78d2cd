"""`stale-edge web`: a static site that runs a model in the visitor's browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.options import OUTPUT, Quiet

SITE = Path("web")
RUNTIME = Path("build/web/node_modules/onnxruntime-web")
"""Folder that `make web` fills with the npm package."""


def web(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL.onnx", help="Detector with its classes inside, from `export --detections`."),
    ],
    clip_image: Annotated[
        Path | None,
        typer.Option(
            "--clip-image", metavar="FILE.onnx", help="CLIP image tower, so that the page takes videos, not features."
        ),
    ] = None,
    output: Annotated[Path, typer.Option(*OUTPUT, metavar="DIR", help="Folder of the site; made if missing.")] = SITE,
    runtime: Annotated[
        Path, typer.Option("--runtime", metavar="DIR", help="Folder of the npm package onnxruntime-web.")
    ] = RUNTIME,
    title: Annotated[str, typer.Option(help="Title of the site.")] = "Find actions",
    quiet: Quiet = False,
) -> None:
    """Build a static site: files dropped on its page are run in the browser, and nothing leaves the device.

    Any web server serves it, under any path: `python -m http.server -d DIR`. Once loaded, it works without a network.
    """
    from stale_edge.cli.extraction_run import FrameOptions, settings_for
    from stale_edge.pages.web.site import check_model, check_tower, read_runtime, site_files, write_site
    from stale_edge_runtime.model_file import read_model

    report = Reporter(quiet=quiet)
    detector = read_model(model)
    check_model(detector)
    tower = None if clip_image is None else read_model(clip_image)
    if tower is not None:
        check_tower(tower, detector)
    step_s = settings_for(detector.info, FrameOptions(), resized=detector.info.resize_to).video.step_s
    content = site_files(detector, tower, read_runtime(runtime), title=title, step_s=step_s)
    write_site(output, content)
    if detector.info.untrained:
        report.warn(f"{model} has untrained weights: what the page finds means nothing")
    size = sum(map(len, content.values())) / 1e6
    report.note(f"wrote {output}: {len(content)} files, {size:,.1f} MB; serve it: python -m http.server -d {output}")
