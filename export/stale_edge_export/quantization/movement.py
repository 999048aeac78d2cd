"""Quantisation before rows are moved rather than after: the same numbers, and a quarter of the bytes to move.

A convolution that runs as a product takes rows side by side with those before and after them. Quantised behind that,
every row is quantised three times and moved in float32. All values of what is moved are those of the rows, so scale and
zero point are the same before, and so is every quantised number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from onnx import NodeProto, helper

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import GraphProto

QUANTIZE: Final = "DynamicQuantizeLinear"
MOVERS: Final = ("Slice", "Gather")
"""Operators whose output holds rows of their first input."""


def quantize_before_movement(graph: GraphProto) -> int:
    """Quantise the rows that a concatenation or a gathering arranges side by side, in place of the arranged ones.

    Every row must be in at least one part, which is so where the parts are shifts of the same rows. Rows of zeros that
    were put around them count as zero in any range, and become the zero point.

    Args:
        graph: Graph of an int8 model; changed in place.

    Returns:
        Number of quantisations that were moved.
    """
    makers = {output: node for node in graph.node for output in node.output}
    moved: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        if node.op_type == QUANTIZE and (instead := _before_joining(node, makers) or _before_gathering(node, makers)):
            moved[node.name] = instead
    if not moved:
        return 0
    nodes = [part for node in graph.node for part in moved.get(node.name, [node])]
    del graph.node[:]
    graph.node.extend(_alive(nodes, {output.name for output in graph.output}))
    return len(moved)


def _before_gathering(quantize: NodeProto, makers: Mapping[str, NodeProto]) -> list[NodeProto]:
    """Make the nodes that replace a quantisation of gathered rows side by side; none where it is of other things."""
    movers = []
    name = quantize.input[0]
    for operator in ("Reshape", "Gather", "Pad"):
        node = makers.get(name)
        if node is not None and node.op_type == operator and not (operator == "Pad" and _has_fill(node)):
            movers.append(node)
            name = node.input[0]
        elif operator != "Pad":
            return []
    values, scale, zero = quantize.output
    rows = f"{values}_rows"
    made = [helper.make_node(QUANTIZE, [name], [rows, scale, zero], name=f"{quantize.name}_rows")]
    for mover in reversed(movers):
        copied = NodeProto()
        copied.CopyFrom(mover)
        copied.name, copied.input[0] = f"{mover.name}_quantized", made[-1].output[0]
        copied.output[0] = values if mover is movers[0] else f"{values}_{mover.op_type.lower()}"
        if mover.op_type == "Pad":
            copied.input[:] = [*copied.input[:2], zero]
        made.append(copied)
    return made


def _has_fill(pad: NodeProto) -> bool:
    """Whether a padding is of other things than zeros: of edges, or of a value, or of chosen axes."""
    modes = [attribute.s for attribute in pad.attribute if attribute.name == "mode"]
    return modes not in ([], [b"constant"]) or any(pad.input[2:])


def _before_joining(quantize: NodeProto, makers: Mapping[str, NodeProto]) -> list[NodeProto] | None:
    """Make the nodes that replace a quantisation of parts of the same rows; None where it is of other things."""
    joined = makers.get(quantize.input[0])
    if joined is None or joined.op_type != "Concat" or len(joined.input) < 2:
        return None
    parts = [makers.get(name) for name in joined.input]
    if not all(part is not None and part.op_type in MOVERS for part in parts):
        return None
    movers = [part for part in parts if part is not None]
    if len({part.input[0] for part in movers}) != 1:
        return None
    values, scale, zero = quantize.output
    rows = f"{values}_rows"
    made = [helper.make_node(QUANTIZE, [movers[0].input[0]], [rows, scale, zero], name=f"{quantize.name}_rows")]
    names = []
    for index, part in enumerate(movers):
        copied = NodeProto()
        copied.CopyFrom(part)
        names.append(f"{values}_part_{index}")
        copied.name, copied.input[0], copied.output[0] = f"{part.name}_quantized", rows, names[-1]
        made.append(copied)
    concat = NodeProto()
    concat.CopyFrom(joined)
    concat.name, concat.output[0] = f"{joined.name}_quantized", values
    del concat.input[:]
    concat.input.extend(names)
    return [*made, concat]


def _alive(nodes: list[NodeProto], wanted: set[str]) -> list[NodeProto]:
    """Leave out nodes that no output depends on."""
    kept = []
    for node in reversed(nodes):
        if any(output in wanted for output in node.output):
            wanted.update(node.input)
            wanted.update(_captured(node))
            kept.append(node)
    return kept[::-1]


def _captured(node: NodeProto) -> set[str]:
    """Names that the subgraphs of a node take from around it."""
    bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return {name for body in bodies for inner in body.node for name in inner.input}
