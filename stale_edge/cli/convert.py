"""`stale-edge convert`: a published checkpoint becomes a safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.options import CHECKPOINT, MODELS, OUTPUT, JsonToStdout, Quiet, ready_default


def convert(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT.pth.tar", help="Checkpoint of the published code of STALE or ActionFormer.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(*OUTPUT, help=f"Where the safetensors file goes; {CHECKPOINT}, by the network's name."),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(help="Class names, one a line, to store beside the weights; those of the data set by default."),
    ] = None,
    json: JsonToStdout = False,
    quiet: Quiet = False,
) -> None:
    """Convert a published checkpoint (a pickle) of STALE or ActionFormer to safetensors, running no code from it.

    The names of its parameters tell which network it is. Averaged weights are taken where the file has them.

    Every parameter is checked by name, shape, type and value; what the network does not use is left out and listed.
    """
    from stale_edge.extras import require_export

    require_export("stale-edge convert")
    from stale_edge.checkpoint import read_published, save_checkpoint
    from stale_edge.networks.registry import NETWORKS
    from stale_edge_runtime.formats.class_list import read_class_list
    from stale_edge_runtime.formats.files import check_target

    report = Reporter(quiet=quiet)
    if output is not None:
        check_target(output, [checkpoint])
    conversion = read_published(checkpoint, read_class_list(classes) if classes else ())
    default = MODELS / f"{conversion.checkpoint.network_name}.safetensors"
    output = ready_default(output or default, default)
    check_target(output, [checkpoint])
    save_checkpoint(output, conversion.checkpoint)
    network = conversion.checkpoint.network
    summary = {
        "output": str(output),
        "parameters": sum(value.numel() for value in network.state_dict().values()),
        "tensors": conversion.used,
        "skipped": dict(conversion.skipped),
        "network": conversion.checkpoint.network_name,
        **NETWORKS[conversion.checkpoint.network_name].metadata(network.config),
        "classes": len(conversion.checkpoint.classes),
        "epoch": conversion.epoch,
        "sha256": conversion.checkpoint.origin["sha256"],
        "image_tower": conversion.checkpoint.image_tower is not None,
    }
    if json:
        report.result_json(summary)
        return
    for prefix, count in conversion.skipped.items():
        tensors = "1 tensor" if count == 1 else f"{count} tensors"
        report.note(f"left out {prefix}: {tensors} that no output depends on")
    if summary["image_tower"]:
        report.note(f"kept its image tower: stale-edge export --clip {output}")
    report.result(
        f"{output}: {summary['network']}, {summary['parameters'] / 1e6:.1f} M parameters in {conversion.used} tensors, "
        f"{summary['classes']} classes"
    )
