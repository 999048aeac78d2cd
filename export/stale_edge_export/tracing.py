"""Tracing of a module to an ONNX graph that holds what our files hold and nothing of this machine."""

from __future__ import annotations

import ast
import contextlib
import logging
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

from stale_edge_export.encoding import inner_nodes
from stale_edge_runtime.contract import OPSET

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx
    from torch import Tensor, nn


def trace_graph(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    dynamic_shapes: tuple[Any, ...],
    *,
    name: str,
    translations: Mapping[Any, Any] | None = None,
) -> onnx.ModelProto:
    """Trace a module to ONNX, its nodes named by the stages of the module.

    Args:
        module: The module.
        inputs: Example inputs by name, in order.
        outputs: Names of the outputs.
        dynamic_shapes: Symbolic axes, arranged like the arguments of the module.
        name: Name of the graph.
        translations: ONNX functions of operators that the module has of its own.
    """
    with _quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=dynamic_shapes,
            opset_version=OPSET,
            dynamo=True,
            custom_translation_table=dict(translations or {}),
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the dynamo exporter gave no program")
    return _without_traces(program.model_proto, name)


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
