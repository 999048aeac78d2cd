"""Encoding of a graph into the bytes of a file: metadata, versions and the order of nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from stale_edge import __version__

if TYPE_CHECKING:
    from stale_edge_runtime.contract import ModelInfo


def encode_model(model: onnx.ModelProto, info: ModelInfo) -> bytes:
    """Encode a model with its metadata, under the lowest IR version that its operator set allows.

    Args:
        model: The graph; producer, IR version and metadata are replaced in it.
        info: Metadata of the file.
    """
    model.producer_name, model.producer_version = "stale-edge", __version__
    model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import))
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, info.to_metadata())
    return bytes(model.SerializeToString(deterministic=True))


def inner_nodes(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """List the nodes in the body of a blockwise node; none for others."""
    return [part for attribute in node.attribute if attribute.HasField("g") for part in attribute.g.node]


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put every node behind those that make its inputs, as ONNX demands; the order changes no more than it must.

    Args:
        graph: Graph without circles; it is changed.
    """
    producers = {output: place for place, node in enumerate(graph.node) for output in node.output}
    needs = [_needed(node, producers) for node in graph.node]
    order: dict[int, None] = {}
    for last in range(len(needs)):
        stack = [last]
        while stack:
            waiting = [place for place in needs[stack[-1]] if place not in order]
            if waiting:
                stack.extend(reversed(waiting))
            else:
                order[stack.pop()] = None
    copies = [onnx.NodeProto.FromString(graph.node[place].SerializeToString()) for place in order]
    del graph.node[:]
    graph.node.extend(copies)


def _needed(node: onnx.NodeProto, producers: dict[str, int]) -> list[int]:
    """Places of the nodes whose outputs a node, or its body, takes in."""
    names = [name for part in (node, *inner_nodes(node)) for name in part.input]
    return list(dict.fromkeys(producers[name] for name in names if name in producers))
