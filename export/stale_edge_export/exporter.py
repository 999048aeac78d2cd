"""From a checkpoint to one self-contained, checked ONNX file."""

from __future__ import annotations

import ast
import contextlib
import logging
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from torch import nn

from stale_edge import __version__
from stale_edge.networks.clip_text import tokenize
from stale_edge_export.graphs.blocked_attention import TRANSLATIONS
from stale_edge_export.graphs.stale import DetectionGraph, GivenText, StoredText, text_embeddings
from stale_edge_export.graphs.stale_rewrites import REWRITES
from stale_edge_export.parity import Arrays, Parity, check_detection, check_text_tower
from stale_edge_runtime.contract import (
    BATCH,
    CLASSES,
    FEATURES,
    INPUTS,
    IR_VERSION,
    OPSET,
    SNIPPETS,
    STALE_NETWORK,
    TEXT_EMBEDDINGS,
    TOKEN_IDS,
    TOKENS,
    Kind,
    ModelInfo,
    Precision,
)
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.formats.files import atomic_path
from stale_edge_runtime.heads.registry import output_names
from stale_edge_runtime.model_file import read_model
from stale_edge_runtime.session import open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stale_edge.checkpoint import Checkpoint
    from stale_edge.networks.stale.model import STALE

# Sizes to trace with: none is 0 or 1, and none equals a constant of the network, so none is taken for one.
TRACE_BATCH, TRACE_SNIPPETS, TRACE_CLASSES, TRACE_TOKENS = 3, 37, 11, 9
CHECK_VOCABULARIES = (
    ("Archery", "Long jump", "Doing kickboxing"),
    ("Surfing",),
    ("Playing water polo", "Polishing shoes"),
)


@dataclass(frozen=True)
class ExportReport:
    """What an export made."""

    info: ModelInfo
    """Metadata of the file."""
    parity: Parity
    """Its check against the network."""
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
    """Export a checkpoint and check the written file against it.

    Args:
        checkpoint: Network and classes.
        target: Where the file goes.
        kind: What the file takes in.
        classes: Class names to bake in; the checkpoint's by default.
        fold: Apply the exact rewrites; without them the plain graph is written, for comparison.
        snippet_seconds: Seconds of video behind one snippet, to record in the file.
        progress: Called with a line on each step.

    Raises:
        BadDataError: The checkpoint cannot give this kind, or the written file does not agree with the network;
            no file is left.
        CannotWriteError: The target cannot be written.
    """
    network, names = checkpoint.network, classes or checkpoint.classes
    has_text = network.text_tower is not None or (kind is Kind.BAKED and checkpoint.text_embeddings is not None)
    if not has_text and kind is not Kind.OPEN:
        raise BadDataError(target, f"a {kind} file needs the text tower, which the checkpoint lacks", "use --open")
    if kind is Kind.BAKED and not names:
        raise BadDataError(target, "the checkpoint names no classes", "give them with --classes FILE")
    with atomic_path(target) as temporary:
        progress("tracing the network")
        text = text_embeddings(checkpoint, names) if kind is Kind.BAKED else None
        module, applied = build_graph(network, kind, text, fold=fold)
        model = trace(module, network, kind)
        info = ModelInfo(
            kind=kind,
            precision=Precision.FP32,
            anchors=network.config.anchors,
            feature_dim=network.config.feature_dim,
            created_by=f"stale-edge {__version__}",
            classes=names if kind is Kind.BAKED else (),
            feature_extractor="CLIP ViT-B/16" if checkpoint.origin.get("source") == "published" else "",
            snippet_seconds=snippet_seconds,
            untrained=checkpoint.untrained,
            weights=checkpoint.origin,
            rewrites=applied,
        )
        write_model(temporary, model, info)
        progress("checking the file against PyTorch")
        parity = check_file(temporary, network, kind, text, progress)
        parity.require(target)
        info = replace(info, parity=parity.to_metadata())
        write_model(temporary, model, info)
        read_model(temporary)
        size = temporary.stat().st_size
    return ExportReport(info, parity, size)


def build_graph(
    network: STALE, kind: Kind, text: torch.Tensor | None, *, fold: bool
) -> tuple[nn.Module, tuple[str, ...]]:
    """The module to trace, and the names of the rewrites applied to it.

    Args:
        network: The network.
        kind: What the file takes in.
        text: Text embeddings [C, D] of a baked file.
        fold: Apply the exact rewrites.
    """
    if kind is Kind.TEXT_TOWER and network.text_tower is not None:
        return network.text_tower, ()
    if text is not None:
        source: nn.Module = StoredText(text)
    else:
        source = network.text_tower if kind is Kind.FULL and network.text_tower else GivenText()
    graph = DetectionGraph(network, source)
    applied = tuple(REWRITES) if fold else ()
    for name in applied:
        REWRITES[name](graph, network)
    return graph.eval(), applied


def trace(module: nn.Module, network: STALE, kind: Kind) -> onnx.ModelProto:
    """Trace a module to ONNX with the axes of the contract.

    Args:
        module: What `build_graph` gave.
        network: The network, for its sizes.
        kind: What the file takes in.
    """
    dim = network.config.feature_dim
    end_token = network.config.text.vocabulary - 1 if network.config.text else 0
    token_ids = torch.zeros(TRACE_CLASSES, TRACE_TOKENS, dtype=torch.int64)
    token_ids[:, -1] = end_token
    examples = {
        FEATURES: torch.zeros(TRACE_BATCH, TRACE_SNIPPETS, dim),
        TEXT_EMBEDDINGS: torch.ones(TRACE_CLASSES, dim),
        TOKEN_IDS: token_ids,
    }
    symbolic = {BATCH, SNIPPETS, CLASSES, TOKENS}
    inputs = INPUTS[kind]
    axes = tuple({i: axis for i, axis in enumerate(names) if axis in symbolic} for names in inputs.values())
    with _quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            module,
            tuple(examples[name] for name in inputs),
            input_names=list(inputs),
            output_names=list(output_names(STALE_NETWORK, kind)),
            dynamic_shapes=_as_signature(kind, axes),
            opset_version=OPSET,
            dynamo=True,
            custom_translation_table=TRANSLATIONS,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the dynamo exporter gave no program")
    return _without_traces(program.model_proto)


def write_model(path: Path, model: onnx.ModelProto, info: ModelInfo) -> None:
    """Write a model with its metadata, in place of what `path` holds.

    Args:
        path: A temporary file.
        model: The graph; its metadata is replaced.
        info: What the file says of itself.
    """
    model.producer_name, model.producer_version = "stale-edge", __version__
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, info.to_metadata())
    path.write_bytes(model.SerializeToString(deterministic=True))


def check_file(
    path: Path, network: STALE, kind: Kind, text: torch.Tensor | None, progress: Callable[[str], None]
) -> Parity:
    """Run the written file beside the network.

    Args:
        path: The file.
        network: The network it was made from.
        kind: What the file takes in.
        text: Text embeddings [C, D] of a baked file.
        progress: Called after each case.
    """
    session = open_session(read_model(path))

    def run(inputs: Arrays) -> Arrays:
        return dict(
            zip(
                output_names(STALE_NETWORK, kind),
                session.run(list(output_names(STALE_NETWORK, kind)), inputs),
                strict=True,
            )
        )

    vocabularies = [_token_ids(network, names) for names in CHECK_VOCABULARIES] if network.text_tower else []
    if kind is Kind.TEXT_TOWER:
        everything = tuple(name for names in CHECK_VOCABULARIES for name in names)
        labelled = {f"{ids.shape[0]} classes, {ids.shape[1]} tokens": ids for ids in vocabularies}
        longest = _token_ids(network, (" ".join(everything * 8), *everything))
        return check_text_tower(run, network, {**labelled, "a text of full length": longest})

    def texts(case: int) -> tuple[torch.Tensor, Arrays]:
        if text is not None:
            return text, {}
        if kind is Kind.OPEN:
            rng = np.random.default_rng(case)
            given = rng.standard_normal((case % 5 + 1, network.config.feature_dim)).astype(np.float32)
            return torch.from_numpy(given), {TEXT_EMBEDDINGS: given}
        ids = vocabularies[case % len(vocabularies)]
        with torch.inference_mode():
            return network.encode_text(torch.from_numpy(ids)), {TOKEN_IDS: ids}

    return check_detection(run, network, texts, progress)


def _as_signature(kind: Kind, axes: tuple[dict[int, str], ...]) -> tuple[Any, ...]:
    """Axes arranged like the arguments of the traced module: `(token_ids)` or `(features, *text_inputs)`."""
    return axes if kind is Kind.TEXT_TOWER or len(axes) == 1 else (axes[0], axes[1:])


def _token_ids(network: STALE, names: tuple[str, ...]) -> np.ndarray:
    config = network.config.text
    return tokenize(names, config.context) if config else tokenize(names)


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


def inner_nodes(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes in the body of a blockwise node; none for others."""
    return [part for attribute in node.attribute if attribute.HasField("g") for part in attribute.g.node]


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Leave out what only the exporter wanted: stack traces with paths of this machine, and shapes of inner values."""
    _name_by_stage(model)
    model.ir_version = IR_VERSION
    model.doc_string = model.graph.doc_string = ""
    model.graph.name = "stale"
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
