"""Export of a checkpoint to one self-contained, checked ONNX file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stale_edge import __version__
from stale_edge.networks.clip_sources import weights_sha256
from stale_edge.networks.clip_text import clip_merges
from stale_edge.networks.registry import NETWORKS
from stale_edge_export.detections import decoding_of, with_detections
from stale_edge_export.encoding import encode_model
from stale_edge_export.graphs.clip_text import REWRITES, TextTowerGraph
from stale_edge_export.graphs.registry import GRAPHS
from stale_edge_export.graphs.text import text_embeddings, text_source, token_ids
from stale_edge_export.parity import Arrays, Parity, check_detection, check_text_tower
from stale_edge_export.tracing import trace_graph
from stale_edge_runtime.contract import (
    BATCH,
    CLASSES,
    INPUTS,
    PROMPT,
    SNIPPETS,
    TEXT_EMBEDDINGS,
    TOKEN_IDS,
    TOKENS,
    Kind,
    ModelInfo,
    Precision,
)
from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.formats.files import check_target, write_bytes
from stale_edge_runtime.heads.registry import output_names
from stale_edge_runtime.model_file import parse_model
from stale_edge_runtime.session import open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import onnx
    from torch import nn

    from stale_edge.checkpoint import Checkpoint
    from stale_edge_runtime.model_file import ModelFile

CHECK_VOCABULARIES = (
    ("Archery", "Long jump", "Doing kickboxing"),
    ("Surfing",),
    ("Playing water polo", "Polishing shoes"),
)


@dataclass(frozen=True)
class ExportReport:
    """Result of an export."""

    info: ModelInfo
    """Metadata of the file."""
    parity: Parity
    """Result of the check against the network."""
    size_bytes: int
    """Size of the file."""


def export_checkpoint(
    checkpoint: Checkpoint,
    target: Path,
    *,
    kind: Kind = Kind.BAKED,
    classes: tuple[str, ...] = (),
    fold: bool = True,
    snippet_seconds: float | None = None,
    merges: str = "",
    decode: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> ExportReport:
    """Export a checkpoint, check the file against the network, and write it.

    Args:
        checkpoint: Network and classes.
        target: File to write.
        kind: Kind of the file by its inputs.
        classes: Class names to bake in; the checkpoint's by default.
        fold: Apply the exact rewrites; without them the plain graph is written, for comparison.
        snippet_seconds: Seconds of video behind one snippet, to record in the file; by default what the checkpoint
            knows of the features that it learned.
        merges: Byte-pair merges of a text tower's vocabulary, as `encode_merges` packs them; CLIP's own by default.
        decode: Settings of a decoding inside the file that differ from its defaults; the file then gives detections.
            None for a file that gives the outputs of the network.
        progress: Called with a line on each step.

    Raises:
        BadDataError: The checkpoint cannot give this kind, or the file does not agree with the network, or with the
            numpy decoding; nothing is written.
        UsageError: Settings of a decoding for a network that cannot decode inside, or that it does not have.
        CannotWriteError: The target cannot be written.
    """
    network, names = checkpoint.network, classes or checkpoint.classes
    uses_text = NETWORKS[checkpoint.network_name].uses_text
    if not uses_text:
        _check_without_text(target, checkpoint, kind, classes)
    has_text = network.text_tower is not None or (kind is Kind.BAKED and checkpoint.text_embeddings is not None)
    if uses_text and not has_text and kind is not Kind.OPEN:
        cure = "use --open" if kind is Kind.BAKED else "name a checkpoint with one, as `convert` makes"
        raise BadDataError(target, f"a {kind} file needs the text tower, which the checkpoint lacks", cure)
    if kind is Kind.BAKED and not names:
        raise BadDataError(target, "the checkpoint names no classes", "give them with --classes FILE")
    if decode is not None and kind not in {Kind.BAKED, Kind.OPEN}:
        raise UsageError("--detections", f"does not go with a {kind} file", "leave it out")
    check_target(target)
    progress("tracing the network")
    text = text_embeddings(checkpoint, names) if uses_text and kind is Kind.BAKED else None
    module, applied = build_graph(checkpoint, kind, text, fold=fold)
    model = trace(module, checkpoint, kind)
    info = ModelInfo(
        kind=kind,
        precision=Precision.FP32,
        network=checkpoint.network_name,
        feature_dim=network.config.feature_dim,
        created_by=f"stale-edge {__version__}",
        classes=names if kind is Kind.BAKED else (),
        feature_extractor=checkpoint.features.extractor,
        tower_sha256=checkpoint.features.tower_sha256,
        channels=checkpoint.features.channels,
        snippet_seconds=snippet_seconds or checkpoint.features.step_s,
        feature_norm=checkpoint.feature_norm,
        suggested_min_score=checkpoint.suggested_min_score if kind is not Kind.TEXT_TOWER else None,
        text_sha256=_text_sha256(network) if kind in {Kind.OPEN, Kind.TEXT_TOWER} else "",
        prompt=PROMPT if uses_text and network.text_tower is not None else "",
        merges=(merges or clip_merges()) if kind is Kind.TEXT_TOWER else "",
        untrained=checkpoint.untrained,
        weights=checkpoint.origin,
        rewrites=applied,
        **NETWORKS[checkpoint.network_name].metadata(network.config),
    )
    progress("checking the file against PyTorch")
    parity = check_file(parse_model(encode_model(model, info), target), checkpoint, text, progress)
    parity.require(target)
    made = parse_model(encode_model(model, replace(info, parity=parity.to_metadata())), target)
    if decode is not None:
        made = with_detections(made, decoding_of(info.network).settings(info, decode), progress)
    write_bytes(target, made.content)
    return ExportReport(made.info, parity, made.size_bytes)


def _text_sha256(network: Any) -> str:
    """Hash the weights of a network's text tower; '' where it has none."""
    tower = getattr(network, "text_tower", None)
    return "" if tower is None else weights_sha256(network.config.text, tower.state_dict())


def _check_without_text(target: Path, checkpoint: Checkpoint, kind: Kind, classes: tuple[str, ...]) -> None:
    """Refuse text for a network that takes none, and names that are not one for each of its classes.

    Raises:
        BadDataError: The message says what to leave out.
    """
    name = checkpoint.network_name
    if kind is not Kind.BAKED:
        raise BadDataError(target, f"cannot be a {kind} file: the network {name} takes no text", "leave the option out")
    if classes and len(classes) != len(checkpoint.classes):
        problem = f"gets {len(classes)} class names, and the network has {len(checkpoint.classes)} classes"
        raise BadDataError(target, problem, "leave --classes out, or name as many")


def build_graph(
    checkpoint: Checkpoint, kind: Kind, text: torch.Tensor | None, *, fold: bool
) -> tuple[nn.Module, tuple[str, ...]]:
    """Build the module to trace; give it with the names of the rewrites applied to it.

    Args:
        checkpoint: The network and its name.
        kind: Kind of the file by its inputs.
        text: Text embeddings [C, D] of a baked file.
        fold: Apply the exact rewrites.
    """
    network, spec = checkpoint.network, GRAPHS[checkpoint.network_name]
    if kind is Kind.TEXT_TOWER and network.text_tower is not None:
        return (TextTowerGraph(network.text_tower).eval(), REWRITES) if fold else (network.text_tower, ())
    graph = spec.build(network, text_source(network, kind, text))
    applied = tuple(spec.rewrites) if fold else ()
    for name in applied:
        spec.rewrites[name](graph, network)
    return graph.eval(), applied


def trace(module: nn.Module, checkpoint: Checkpoint, kind: Kind) -> onnx.ModelProto:
    """Trace a module to ONNX with the axes of the contract."""
    spec = GRAPHS[checkpoint.network_name]
    examples = spec.examples(checkpoint.network)
    symbolic = {BATCH, SNIPPETS, CLASSES, TOKENS}
    inputs = INPUTS[kind]
    axes = tuple({i: axis for i, axis in enumerate(names) if axis in symbolic} for names in inputs.values())
    return trace_graph(
        module,
        {name: examples[name] for name in inputs},
        output_names(checkpoint.network_name, kind),
        _as_signature(kind, axes),
        name=checkpoint.network_name,
        translations=spec.translations,
    )


def check_file(
    file: ModelFile, checkpoint: Checkpoint, text: torch.Tensor | None, progress: Callable[[str], None]
) -> Parity:
    """Run an exported file beside the network.

    Args:
        file: The file.
        checkpoint: The network it was made from, and its name.
        text: Text embeddings [C, D] of a baked file.
        progress: Called after each case.
    """
    session = open_session(file)
    network, kind = checkpoint.network, file.info.kind
    outputs = list(output_names(checkpoint.network_name, kind))

    def run(inputs: Arrays) -> Arrays:
        return dict(zip(outputs, session.run(outputs, inputs), strict=True))

    vocabularies = [token_ids(network, names) for names in CHECK_VOCABULARIES] if network.text_tower else []
    if kind is Kind.TEXT_TOWER:
        everything = tuple(name for names in CHECK_VOCABULARIES for name in names)
        labelled = {f"{ids.shape[0]} classes, {ids.shape[1]} tokens": ids for ids in vocabularies}
        longest = token_ids(network, (" ".join(everything * 8), *everything))
        return check_text_tower(run, network, {**labelled, "a text of full length": longest})

    def texts(case: int) -> tuple[torch.Tensor, Arrays]:
        if text is not None or not NETWORKS[checkpoint.network_name].uses_text:
            return torch.zeros(0, 1) if text is None else text, {}
        if kind is Kind.OPEN:
            rng = np.random.default_rng(case)
            given = rng.standard_normal((case % 5 + 1, file.info.feature_dim)).astype(np.float32)
            return torch.from_numpy(given), {TEXT_EMBEDDINGS: given}
        ids = vocabularies[case % len(vocabularies)]
        with torch.inference_mode():
            return network.encode_text(torch.from_numpy(ids)), {TOKEN_IDS: ids}

    def reference(features: torch.Tensor, embeddings: torch.Tensor) -> Any:
        return NETWORKS[checkpoint.network_name].outputs(network, features, embeddings)

    spec = GRAPHS[checkpoint.network_name]
    return check_detection(run, reference, spec, file.info.feature_dim, texts, progress)


def _as_signature(kind: Kind, axes: tuple[dict[int, str], ...]) -> tuple[Any, ...]:
    """Axes arranged like the arguments of the traced module: `(token_ids)` or `(features, *text_inputs)`."""
    return axes if kind is Kind.TEXT_TOWER or len(axes) == 1 else (axes[0], axes[1:])
