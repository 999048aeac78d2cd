"""`stale-edge convert`: a published checkpoint becomes a safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.options import CHECKPOINT, OUTPUT, JsonToStdout, Quiet, ready_default


def convert(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT.pth.tar", help="Checkpoint of the published STALE code.")],
    output: Annotated[Path, typer.Option(*OUTPUT, help="Where the safetensors file goes.")] = CHECKPOINT,
    classes: Annotated[
        Path | None,
        typer.Option(help="Class names, one a line, to store beside the weights; ActivityNet's 200 by default."),
    ] = None,
    json: JsonToStdout = False,
    quiet: Quiet = False,
) -> None:
    """Convert a published STALE checkpoint (a pickle) to safetensors, running no code from it.

    Every parameter is checked by name, shape, type and value; what the network does not use is left out and listed.
    """
    from stale_edge.extras import require_export

    require_export("stale-edge convert")
    from stale_edge.checkpoint import read_published, save_checkpoint
    from stale_edge.class_names import activitynet_classes
    from stale_edge_runtime.formats.class_list import read_class_list
    from stale_edge_runtime.formats.files import check_target

    report = Reporter(quiet=quiet)
    if output != CHECKPOINT or output.parent.is_dir():  # a folder of our own is made when there is something to write
        check_target(output, [checkpoint])
    names = read_class_list(classes) if classes else activitynet_classes()
    conversion = read_published(checkpoint, names)
    save_checkpoint(ready_default(output, CHECKPOINT), conversion.checkpoint)
    network = conversion.checkpoint.network
    summary = {
        "output": str(output),
        "parameters": sum(value.numel() for value in network.state_dict().values()),
        "tensors": conversion.used,
        "skipped": dict(conversion.skipped),
        "anchors": network.config.anchors,
        "classes": len(names),
        "epoch": conversion.epoch,
        "sha256": conversion.checkpoint.origin["sha256"],
    }
    if json:
        report.result_json(summary)
        return
    for prefix, count in conversion.skipped.items():
        tensors = "1 tensor" if count == 1 else f"{count} tensors"
        report.note(f"left out {prefix}: {tensors} that no output depends on")
    report.result(
        f"{output}: {summary['parameters'] / 1e6:.1f} M parameters in {conversion.used} tensors, "
        f"{network.config.anchors} anchors, {len(names)} classes"
    )
