"""`stale-edge text`: class names become the text embeddings of an open-vocabulary detector."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.options import OUTPUT, JsonToStdout, Quiet
from stale_edge.cli.video_inputs import Threads  # noqa: TC001 (typer reads annotations when it runs)
from stale_edge.cli.vocabulary import (
    Cache,
    ClassWords,
    TextTowerFile,
    embedded,
    given_names,
    open_text_tower,
)
from stale_edge_runtime.contract import PROMPT
from stale_edge_runtime.errors import UsageError


def text(
    classes: Annotated[
        Path | None, typer.Argument(metavar="[NAMES]", help="Class names, one a line; or give them with --class.")
    ] = None,
    output: Annotated[Path, typer.Option(*OUTPUT, metavar="FILE.npy", help="File for the embeddings.")] = Path(
        "names.npy"
    ),
    names: ClassWords = None,
    text_tower: TextTowerFile = None,
    prompt: Annotated[str, typer.Option(help="Words before each name; detectors expect those of their training.")] = (
        PROMPT
    ),
    cache: Cache = True,
    threads: Threads = 1,
    json: JsonToStdout = False,
    quiet: Quiet = False,
) -> None:
    """Turn class names into text embeddings, for `detect --text-embeddings` and `train --text-embeddings`.

    Names that were given with --class are written beside them, one a line, for --classes.
    """
    import numpy as np

    from stale_edge_runtime.formats.files import check_target, together, write_bytes, write_text

    reporter = Reporter(quiet=quiet)
    found = given_names(classes, names or ())
    if not found:
        raise UsageError("NAMES", "are missing", "name a file with one name a line, or give --class NAME")
    listed = None if classes else output.with_suffix(".txt")
    for target in filter(None, (output, listed)):
        check_target(target, [classes] if classes else [])
    if listed == output:
        raise UsageError(f"-o {output}", "is the name of the list of classes", "name a .npy file")
    tower = open_text_tower(text_tower, (), threads=threads)
    embeddings = embedded(tower, found, prompt, reporter, cache=cache)
    content = io.BytesIO()
    np.save(content, embeddings)
    with together():
        write_bytes(output, content.getvalue())
        if listed is not None:
            write_text(listed, "".join(f"{name}\n" for name in found))
    if json:
        told = {"output": str(output), "classes": list(found), "width": embeddings.shape[1], "prompt": prompt}
        reporter.result_json(told if listed is None else {**told, "list": str(listed)})
    else:
        reporter.result(f"{output}: text embeddings of {len(found):,} classes, {embeddings.shape[1]} numbers each")
        if listed is not None:
            reporter.result(f"{listed}: their names")
