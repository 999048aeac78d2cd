"""Export of a checkpoint to one self-contained, checked ONNX file."""

from __future__ import annotations

import ast
import contextlib
import logging
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stale_edge import __version__
from stale_edge.networks.clip_text import clip_merges
from stale_edge.networks.registry import NETWORKS
from stale_edge_export.encoding import encode_model, inner_nodes
from stale_edge_export.graphs.registry import GRAPHS
from stale_edge_export.graphs.text import text_embeddings, text_source, token_ids
from stale_edge_export.parity import Arrays, Parity, check_detection, check_text_tower
from stale_edge_runtime.contract import (
    BATCH,
    CLASSES,
    INPUTS,
    OPSET,
    PROMPT,
    SNIPPETS,
    TEXT_EMBEDDINGS,
    TOKEN_IDS,
    TOKENS,
    Kind,
    ModelInfo,
    Precision,
)
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.formats.files import check_target, write_bytes
from stale_edge_runtime.heads.registry import output_names
from stale_edge_runtime.model_file import parse_model
from stale_edge_runtime.session import open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
        progress: Called with a line on each step.

    Raises:
        BadDataError: The checkpoint cannot give this kind, or the file does not agree with the network; nothing is
            written.
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
        prompt=PROMPT if uses_text and network.text_tower is not None else "",
        merges=clip_merges() if kind is Kind.TEXT_TOWER else "",
        untrained=checkpoint.untrained,
        weights=checkpoint.origin,
        rewrites=applied,
        **NETWORKS[checkpoint.network_name].metadata(network.config),
    )
    progress("checking the file against PyTorch")
    parity = check_file(parse_model(encode_model(model, info), target), checkpoint, text, progress)
    parity.require(target)
    made = parse_model(encode_model(model, replace(info, parity=parity.to_metadata())), target)
    write_bytes(target, made.content)
    return ExportReport(made.info, parity, made.size_bytes)


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
        return network.text_tower, ()
    graph = spec.build(network, text_source(network, kind, text))
    applied = tuple(spec.rewrites) if fold else ()
    for name in applied:
        spec.rewrites[name](graph, network)
    return graph.eval(), applied


def trace(module: nn.Module, checkpoint: Checkpoint, kind: Kind) -> onnx.ModelProto:
    """Trace a module to ONNX with the axes of the contract.

    Args:
        module: Module that `build_graph` gave.
        checkpoint: The network, for its sizes, and its name.
        kind: Kind of the file by its inputs.
    """
    spec = GRAPHS[checkpoint.network_name]
    examples = spec.examples(checkpoint.network)
    symbolic = {BATCH, SNIPPETS, CLASSES, TOKENS}
    inputs = INPUTS[kind]
    axes = tuple({i: axis for i, axis in enumerate(names) if axis in symbolic} for names in inputs.values())
    with _quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            module,
            tuple(examples[name] for name in inputs),
            input_names=list(inputs),
            output_names=list(output_names(checkpoint.network_name, kind)),
            dynamic_shapes=_as_signature(kind, axes),
            opset_version=OPSET,
            dynamo=True,
            custom_translation_table=dict(spec.translations),
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the dynamo exporter gave no program")
    return _without_traces(program.model_proto, checkpoint.network_name)


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


def _name_by_stage(model: onnx.ModelProto) -> None:
    """Name nodes by the stage of the graph that they come from, as in `temporal/MatMul_2`, `temporal.norm/…`."""
    counts: Counter[str] = Counter()
    for node in model.graph.node:
        scopes = next((item.value for item in node.metadata_props if item.key == "pkg.torch.onnx.name_scopes"), "[]")
        path = [part for part in ast.literal_eval(scopes) if part][:-1]
        stage = ".".join(path[-1].split(".")[:2]) if path and not path[0].startswith("_") else "graph"
        for part in (node, *inner_nodes(node)):
            label = f"{stage}/{part.op_type}"
            part.name = f"{label}_{counts[label]}"
            counts[label] += 1


def _without_traces(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Leave out what only the exporter wanted: stack traces with paths of this machine, and shapes of inner values."""
    _name_by_stage(model)
    model.doc_string = model.graph.doc_string = ""
    model.graph.name = name
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    bodies = [part for node in model.graph.node for part in inner_nodes(node)]
    for item in (*model.graph.node, *bodies, *model.graph.initializer, *model.graph.input, *model.graph.output):
        item.doc_string = ""
        del item.metadata_props[:]
    return model


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporter's own chatter (missing torchvision, deprecations inside torch) from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
