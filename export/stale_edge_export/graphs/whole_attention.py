"""Attention in one piece again, for engines that cannot read it block by block.

Our files compute attention over blocks of query rows in a `Scan` whose body refers to values outside of it. Where an
engine's reader does not know such bodies, it gets the same products and the same softmax over all rows at once, and is
free to fuse them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from stale_edge_runtime.contract import BLOCKWISE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class OtherBlocksError(ValueError):
    """Blocks that were not made by our exporter's attention."""


def with_whole_attention(content: bytes) -> bytes:
    """Rewrite a model without blocks of rows.

    Args:
        content: A model file of our exporter or quantiser.

    Raises:
        OtherBlocksError: It holds a blockwise operator that is no attention of ours.
    """
    model = onnx.load_model_from_string(content)
    while (place := _first_blockwise(model.graph.node)) is not None:
        _unroll(model.graph, place)
    return bytes(model.SerializeToString())


def _first_blockwise(nodes: Sequence[onnx.NodeProto]) -> int | None:
    return next((place for place, node in enumerate(nodes) if node.op_type == BLOCKWISE), None)


def _unroll(graph: onnx.GraphProto, place: int) -> None:
    """Put the body of one blockwise operator in its place, on all rows."""
    nodes = list(graph.node)
    scan = nodes[place]
    body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
    if len(scan.input) != 1 or len(scan.output) != 1 or len(body.output) != 1:
        raise OtherBlocksError(f"{scan.name} has {len(scan.input)} inputs and {len(scan.output)} outputs, not one")
    consumers = {name: node for node in nodes for name in node.input[:1]}
    rows = {name: node for node in body.node for name in node.input[1:]}
    cutting = _expect(rows, body.input[0].name, "Gather")
    reshape = _expect(consumers, scan.output[0], "Reshape")
    joining = reshape, _expect(consumers, reshape.output[0], "Slice")
    renamed = {cutting.output[0]: cutting.input[0], body.output[0].name: joining[-1].output[0]}
    for node in body.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    gone = {node.name for node in (cutting, *joining)}
    kept = [*nodes[:place], *body.node, *nodes[place + 1 :]]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept if node.name not in gone]
    del graph.node[:]
    graph.node.extend(copies)


def _expect(neighbours: Mapping[str, onnx.NodeProto], value: str, operator: str) -> onnx.NodeProto:
    """Find the node at the other end of a value, which cuts rows into blocks or joins them."""
    node = neighbours.get(value)
    if node is None or node.op_type != operator:
        raise OtherBlocksError(f"{value} meets {node.op_type if node else 'nothing'}, not {operator}")
    return node
