"""Judging of int8 files by the arithmetic of their target, whatever machine quantises them.

An x86 processor without VNNI sums pairs of 8-bit products in 16 bits and cuts off what does not fit (`saturation`), so
a file made for VNNI or ARM must not be judged by running it there. `exact_products` gives a model with the same answers
as the target's integer instructions, on any machine. The other way round nothing is needed: the files for such
processors keep to 7 bits, and sums of those fit everywhere.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from onnx import NodeProto, TensorProto, helper

from stale_edge_runtime.processor import EXACT_TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

    from stale_edge_export.quantization.int8 import Target


class Judging(StrEnum):
    """Way in which the answers of an int8 file on its target were found."""

    RUN = "run"
    """Run on this machine, whose integer products are the target's."""
    COMPUTED = "computed"
    """Integer products computed exactly in float64, because this machine's own would saturate."""


def judging_for(target: Target, host: str) -> Judging:
    """Choose how files for a target are judged on a machine.

    Args:
        target: The processors that a file is made for.
        host: Target that fits this machine, a key of `int8.TARGETS`.
    """
    return Judging.RUN if target.reduce_range or host in EXACT_TARGETS else Judging.COMPUTED


def exact_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy an int8 model with every integer product computed in float64.

    A sum of K products of bytes is a whole number below K * 2^16, which float64 holds exactly; so does int32 for any K
    that a file of ours has.

    Args:
        model: An int8 model of ours; it is not changed.
    """
    exact = type(model)()
    exact.CopyFrom(model)
    _replace(exact.graph)
    return exact


def _replace(graph: onnx.GraphProto) -> None:
    nodes = [part for node in graph.node for part in _exact(node)]
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _replace(attribute.g)


def _exact(node: NodeProto) -> Iterable[NodeProto]:
    """Make the nodes that do in float64 what `node` does in integers; `node` itself if that is not its work."""
    if node.op_type != "MatMulInteger":
        yield node
        return
    operands = []
    zeros = [*node.input[2:], "", ""][:2]
    for side, value, zero in zip(("left", "right"), node.input[:2], zeros, strict=True):
        base = f"{node.name}_{side}"
        yield helper.make_node("Cast", [value], [f"{base}_f64"], name=f"{base}_f64", to=TensorProto.DOUBLE)
        if not zero:
            operands.append(f"{base}_f64")
            continue
        yield helper.make_node("Cast", [zero], [f"{base}_zero_f64"], name=f"{base}_zero_f64", to=TensorProto.DOUBLE)
        shifted = [f"{base}_f64", f"{base}_zero_f64"]
        yield helper.make_node("Sub", shifted, [f"{base}_shifted"], name=f"{base}_shifted")
        operands.append(f"{base}_shifted")
    product = f"{node.name}_f64"
    yield helper.make_node("MatMul", operands, [product], name=product)
    yield helper.make_node("Cast", [product], list(node.output), name=node.name, to=TensorProto.INT32)
