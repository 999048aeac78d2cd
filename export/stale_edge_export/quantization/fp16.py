"""fp16 files for GPUs: products in half precision, float32 at the borders and where half precision is not enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from stale_edge_export.encoding import sort_nodes
from stale_edge_runtime.errors import BadDataError

if TYPE_CHECKING:
    from stale_edge_export.graphs.base import QuantizationRules

LARGEST = 65504.0


def to_fp16(model: onnx.ModelProto, rules: QuantizationRules) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Convert the products of a model to half precision; inputs and outputs stay float32.

    Args:
        model: An fp32 model of the exporter; it is not changed.
        rules: Rules of the file's network.

    Returns:
        The fp16 model, and the recipe for its metadata.
    """
    kept = [node.name for node in model.graph.node if _keeps_fp32(node, rules)]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    converted = convert_float_to_float16(
        copy, keep_io_types=True, op_block_list=list(DEFAULT_OP_BLOCK_LIST), node_block_list=kept
    )
    del converted.graph.value_info[:]
    _drop_round_trips(converted.graph, {node.name for node in model.graph.node})
    sort_nodes(converted.graph)  # the tool appends its casts
    recipe = {
        "method": "float16",
        "kept_fp32": [*rules.fp16_kept_stages, *rules.fp16_kept_operators],
        "tool": "onnxruntime.transformers.float16",
    }
    return converted, recipe


def check_range(model: onnx.ModelProto, feeds: dict[str, np.ndarray], rules: QuantizationRules) -> tuple[str, float]:
    """Refuse a model whose inner values do not fit half precision.

    The fp32 model is asked, because a CPU computes an fp16 file in float32 and would hide an overflow.

    Args:
        model: The fp32 model.
        feeds: Inputs, at the longest length to be supported.
        rules: Rules of the file's network.

    Returns:
        Name of the node with the largest value, and that value.

    Raises:
        BadDataError: A value that would be half precision is beyond its range or not finite.
    """
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    del probed.graph.output[:]
    probes = _append_probes(probed, rules)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(probed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = session.run(list(probes), feeds)
    largest: dict[str, float] = {}
    for output, value in zip(probes, values, strict=True):
        node = probes[output]
        largest[node] = max(largest.get(node, 0.0), abs(float(value)) if np.isfinite(value) else np.inf)
    worst = max(largest, key=lambda name: largest[name])
    if not largest[worst] <= LARGEST:
        raise BadDataError(worst, f"reaches {largest[worst]:.3g}, beyond half precision's {LARGEST:.0f}", "use --int8")
    return worst, largest[worst]


def _keeps_fp32(node: onnx.NodeProto, rules: QuantizationRules) -> bool:
    return node.name.split("/")[0] in rules.fp16_kept_stages or node.op_type in rules.fp16_kept_operators


def _drop_round_trips(graph: onnx.GraphProto, original: set[str]) -> None:
    """Let neighbours that both stay float32 hand over float32: the tool casts to half and back between them."""
    producers = {output: node for node in graph.node for output in node.output}
    outputs = {output.name for output in graph.output}
    sources: dict[str, str] = {}
    for node in graph.node:
        if _casts_to(node, TensorProto.FLOAT) and node.output[0] not in outputs:
            before = producers.get(node.input[0])
            # A cast that the model had itself makes numbers of a length; what goes into it is no float.
            if before is not None and _casts_to(before, TensorProto.FLOAT16) and before.name not in original:
                sources[node.output[0]] = before.input[0]
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = sources.get(name, name)
    _drop_unused_casts(graph, outputs)


def _drop_unused_casts(graph: onnx.GraphProto, outputs: set[str]) -> None:
    while True:
        used = outputs.union(*(node.input for node in graph.node))
        unused = [node for node in graph.node if node.op_type == "Cast" and node.output[0] not in used]
        if not unused:
            return
        for node in unused:
            graph.node.remove(node)


def _casts_to(node: onnx.NodeProto, element_type: int) -> bool:
    return node.op_type == "Cast" and any(item.name == "to" and item.i == element_type for item in node.attribute)


def _append_probes(model: onnx.ModelProto, rules: QuantizationRules) -> dict[str, str]:
    """Add the largest and smallest entry of every value that becomes half precision as outputs.

    An input of the file is probed under the name of a node that computes with it.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    values = (*inferred.graph.value_info, *inferred.graph.input)
    floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    inputs = floats.intersection(value.name for value in model.graph.input)
    probes: dict[str, str] = {}
    for node in list(model.graph.node):
        if _keeps_fp32(node, rules) or node.op_type == "Shape":
            continue
        probed = inputs.intersection(node.input)
        inputs -= probed
        for value in floats.intersection(node.output) | probed:
            for operator in ("ReduceMax", "ReduceMin"):
                output = f"{operator}:{value}"
                model.graph.node.append(helper.make_node(operator, [value], [output], keepdims=0))
                model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
                probes[output] = node.name
    return probes
