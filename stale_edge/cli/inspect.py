"""`stale-edge inspect`: what a model file is, takes in, gives out and was checked for."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stale_edge.cli.console import Reporter
from stale_edge.cli.interrupt import prompt_interrupt
from stale_edge.cli.options import CHECKPOINT, JsonToStdout, Quiet
from stale_edge.cli.trial import try_file
from stale_edge_runtime.contract import MAX_TOKENS, Role
from stale_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stale_edge_runtime.bench.macs import MacCount
    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.model_file import ModelFile, TensorInfo

SCHEMA = 1
SHOWN_CLASSES = 6
LONGEST_LIST = 12
"""Names of a list that are shown in whole; --json shows all of any."""
COUNTED_SNIPPETS = 200
_UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


def inspect(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="An .onnx file that stale-edge exported, or a .safetensors checkpoint."),
    ],
    *,
    macs: Annotated[bool, typer.Option("--macs", help="Count multiply-accumulates too; this runs the model.")] = False,
    class_names: Annotated[bool, typer.Option("--classes", help="Print the names of its classes, one a line.")] = False,
    as_json: JsonToStdout = False,
    quiet: Quiet = False,
) -> None:
    """Show what a model file is: kind, precision, classes, axes, operators, size, checks."""
    from stale_edge_runtime.model_file import read_model
    from stale_edge_runtime.processor import saturation_warning

    reporter = Reporter(quiet=quiet)
    if model.suffix.lower() == CHECKPOINT.suffix:
        content, lines, untrained = _checkpoint(model, macs=macs)
    else:
        file = read_model(model)
        with prompt_interrupt():
            count = _count(file) if macs else None
        content, lines, untrained = describe(file, count), _lines(file, count), file.info.untrained
        if warning := saturation_warning(file.info, model):
            reporter.warn(warning)
    if as_json:
        reporter.result_json(content)
        return
    if class_names:
        reporter.result("\n".join(map(_printable, content["classes"])))
        return
    reporter.result(_table(lines))
    if untrained:
        reporter.warn("the weights are seeded noise: right for timing, useless for detection")


def describe(file: ModelFile, count: MacCount | None = None) -> dict[str, Any]:
    """Describe all that is known about a file, ready for JSON."""
    info = file.info
    return {
        "schema": SCHEMA,
        "file": str(file.path),
        "network": info.network,
        "role": str(info.role),
        "text": None if info.text is None else str(info.text),
        "kind": str(info.kind),
        "precision": str(info.precision),
        "untrained": info.untrained,
        "classes": list(info.classes),
        "anchors": info.anchors,
        "feature_dim": info.feature_dim,
        "min_snippets": info.min_snippets,
        "max_snippets": info.max_snippets,
        "feature_extractor": info.feature_extractor,
        "tower_sha256": info.tower_sha256,
        "channels": info.channels,
        "text_sha256": info.text_sha256,
        "image_size": info.image_size,
        "prompt": info.prompt,
        "has_merges": bool(info.merges),
        "snippet_seconds": info.snippet_seconds,
        "feature_norm": info.feature_norm,
        "suggested_min_score": info.suggested_min_score,
        "detections": dict(info.detections) or None,
        "inputs": [_tensor(tensor) for tensor in file.inputs],
        "outputs": [_tensor(tensor) for tensor in file.outputs],
        "ir_version": file.ir_version,
        "opset": file.opset,
        "operators": dict(file.operators),
        "size_bytes": file.size_bytes,
        "weight_bytes": dict(file.weight_bytes),
        "created_by": info.created_by,
        "producer": file.producer,
        "weights": dict(info.weights),
        "rewrites": list(info.rewrites),
        "recipe": dict(info.recipe),
        "parity": dict(info.parity),
        "further_metadata": dict(info.extra),
        "macs": None if count is None else _macs(count),
    }


def _macs(count: MacCount) -> dict[str, float]:
    """Coefficients of the polynomial in T, or counts at some T where there is none."""
    if (coefficients := count.coefficients()) is not None:
        return dict(zip(("1", "T", "T^2"), coefficients, strict=True))
    return {f"T = {snippets}": count.total(snippets) for snippets in (COUNTED_SNIPPETS, 5 * COUNTED_SNIPPETS)}


def _tensor(tensor: TensorInfo) -> dict[str, Any]:
    return {"name": tensor.name, "type": tensor.element_type, "axes": list(tensor.axes)}


def _count(file: ModelFile) -> MacCount:
    from stale_edge_runtime.bench.macs import count_macs

    try_file(file, file.info.min_snippets)
    return count_macs(file)


def _checkpoint(path: Path, *, macs: bool) -> tuple[dict[str, Any], Iterable[tuple[str, str]], bool]:
    """Describe a checkpoint: for JSON, for the table, and whether it is untrained."""
    from stale_edge.extras import require_checkpoint

    if macs:
        raise UsageError("--macs", "counts in .onnx files", "leave it out, or export the checkpoint first")
    require_checkpoint(f"stale-edge inspect of a {CHECKPOINT.suffix} file")
    from stale_edge.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "file": str(path),
        "kind": "checkpoint",
        "network": checkpoint.network_name,
        "untrained": checkpoint.untrained,
        "classes": list(checkpoint.classes),
        "parameters": sum(value.numel() for value in checkpoint.network.state_dict().values()),
        "text": "tower" if checkpoint.text_embeddings is None else "embeddings",
        "config": asdict(checkpoint.network.config),
        "origin": dict(checkpoint.origin),
        "further_metadata": dict(checkpoint.extra),
        "size_bytes": path.stat().st_size,
    }
    return content, _checkpoint_lines(content), checkpoint.untrained


def _checkpoint_lines(content: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "file", content["file"]
    yield "network", content["network"]
    yield "kind", "checkpoint, fp32" + (", untrained" if content["untrained"] else "")
    yield "classes", _shown_classes(tuple(content["classes"]))
    yield "text from", f"its {content['text']}"
    yield "parameters", f"{content['parameters']:,}"
    yield "size", _size(content["size_bytes"])
    yield "config", _pairs(content["config"])
    yield "weights from", _pairs(content["origin"])
    yield "further", _pairs(content["further_metadata"])


def _table(lines: Iterable[tuple[str, str]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines:
        if value:
            table.add_row(name, escape(_printable(value)))
    return table


def _lines(file: ModelFile, count: MacCount | None) -> Iterable[tuple[str, str]]:
    info = file.info
    lengths = f"{info.min_snippets:,} to {info.max_snippets:,} snippets of width {info.feature_dim}"
    each = f", {info.snippet_seconds:g} s each" if info.snippet_seconds else ""
    each += f", rows of length {info.feature_norm:.3g}" if info.feature_norm else ""
    yield "file", str(file.path)
    network = f"{info.network}, {info.role}" if info.role is Role.DETECTOR else str(info.role)
    yield "network", network + (f", {info.text} text" if info.text else "")
    yield "kind", f"{info.kind}, {info.precision}" + (", untrained" if info.untrained else "")
    yield "classes", _shown_classes(info.classes) if info.role is Role.DETECTOR else ""
    yield "takes", _tower_takes(info) or lengths + each
    tower = f"weights {info.tower_sha256[:12]}" if info.tower_sha256 else ""
    colours = f"{info.channels.upper()} frames" if info.channels else ""
    yield "suggests", f"--min-score {info.suggested_min_score:.4g}" if info.suggested_min_score else ""
    yield "features by", ", ".join(filter(None, (info.feature_extractor, tower, colours)))
    yield "inputs", "\n".join(map(_shape, file.inputs))
    yield "outputs", "\n".join(map(_shape, file.outputs))
    yield "decodes", f"inside: {_value(dict(info.detections))}" if info.detections else ""
    yield "format", f"opset {file.opset}, IR version {file.ir_version}"
    yield "operators", _counts(file.operators)
    yield "size", _size(file.size_bytes)
    yield "weights in", ", ".join(f"{name} {_size(size)}" for name, size in file.weight_bytes.items())
    yield "weights from", _pairs(info.weights)
    yield "rewrites", "\n".join(info.rewrites)
    yield "recipe", _recipe(info.recipe)
    yield "parity", _pairs(info.parity) or "not checked"
    yield "further", _pairs(info.extra)
    yield "products", _products(count, info.role) if count else ""
    yield "made by", info.created_by + (f" ({file.producer})" if file.producer else "")


def _tower_takes(info: ModelInfo) -> str:
    """Say what goes into a tower and comes out of it; nothing for a detector."""
    embeddings = f"to embeddings of width {info.feature_dim}"
    if info.role is Role.IMAGE_TOWER:
        return f"images of {info.image_size} x {info.image_size} pixels, RGB, {embeddings}"
    return f"texts of at most {MAX_TOKENS} tokens, {embeddings}" if info.role is Role.TEXT_TOWER else ""


def _shown_classes(classes: tuple[str, ...]) -> str:
    if not classes:
        return "any: their text embeddings or tokens are an input"
    more = f", … {len(classes) - SHOWN_CLASSES} more" if len(classes) > SHOWN_CLASSES else ""
    return f"{len(classes)}: " + ", ".join(classes[:SHOWN_CLASSES]) + more


def _shape(tensor: TensorInfo) -> str:
    return f"{tensor.name} {tensor.element_type} [{', '.join(str(axis) for axis in tensor.axes)}]"


def _counts(counts: Mapping[str, int]) -> str:
    return f"{sum(counts.values())}: " + ", ".join(f"{name} {number}" for name, number in counts.items())


def _pairs(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}: {_value(value)}" for name, value in values.items())


def _recipe(recipe: Mapping[str, Any]) -> str:
    """Sum a recipe up in a few lines: its words and numbers, how long its lists are, and what became of detections."""
    words = {name: value for name, value in recipe.items() if not isinstance(value, dict | list)}
    counts = {name: len(value) for name, value in recipe.items() if isinstance(value, list)}
    detections = recipe.get("detections")
    lines = [_value(part) for part in (words, counts, detections) if isinstance(part, dict) and part]
    return "\n".join([*lines, "all of it: --json"]) if recipe else ""


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(item)}" for name, item in value.items())
    if isinstance(value, list):
        more = f", … {len(value) - SHOWN_CLASSES} more" if len(value) > LONGEST_LIST else ""
        return ", ".join(map(_value, value[:SHOWN_CLASSES] if more else value)) + more
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _products(count: MacCount, role: Role) -> str:
    if role is not Role.DETECTOR:
        one = "an image" if role is Role.IMAGE_TOWER else "a text of 12 tokens"
        return f"{count.total(1) / 1e9:.3g} billion for {one}"
    if (coefficients := count.coefficients()) is None:
        return ", ".join(f"{value / 1e9:.3g} billion at {name}" for name, value in _macs(count).items())
    a, b, c = (value / 1e6 for value in coefficients)
    at = count.total(COUNTED_SNIPPETS) / 1e9
    return f"{a:.4g} + {b:.4g} T + {c:.4g} T² million; {at:.3g} billion at T = {COUNTED_SNIPPETS}"


def _size(size: int) -> str:
    unit, scale = next(((unit, scale) for unit, scale in _UNITS if size >= scale), ("bytes", 1))
    return f"{size / scale:.3g} {unit}" if scale > 1 else f"{size} bytes"


def _printable(text: str) -> str:
    """Text from a file without what could steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
