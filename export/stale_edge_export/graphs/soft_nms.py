"""Soft non-maximum suppression inside a graph: a `Scan` that takes the best segment and lowers the rest, again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from stale_edge_export.graphs.nodes import DOUBLE, FLOAT, NodeWriter, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import ValueInfoProto


def soft_nms(
    writer: NodeWriter,
    start: Value,
    end: Value,
    scores: Value,
    labels: Value | None,
    *,
    sigma: float,
    min_score: float,
    limit: int,
) -> tuple[Value, Value]:
    """Write the Gaussian soft-NMS of `stale_edge_runtime.nms.soft_nms`, for starts and ends that are whole numbers.

    Args:
        writer: Writer of the graph.
        start: Starts `[N]`.
        end: Ends `[N]`.
        scores: `[N]`, not negative.
        labels: Class of each `[N]`, few and from 0; different ones leave each other alone. All of one without it.
        sigma: Width of the Gaussian.
        min_score: Score at or below which a faded segment is dropped.
        limit: Most segments to keep.

    Returns:
        Places of the kept segments `[K]` and their faded scores `[K]`, best first.
    """
    zero = np.zeros(1)
    if labels is not None:
        # As in numpy: each class on a stretch of time of its own. No segments have no last end, and need none.
        lane = labels.cast(DOUBLE) * (writer.concat(end, zero).reduce("Max", 0) + 1.0)
        start, end = start + lane, end + lane
    # A segment without length or score, for a `Scan` takes one step or more; it is never kept.
    start, end, scores = (writer.concat(value, zero) for value in (start, end, scores))
    factors = _factors(writer, start, end, sigma)
    count = writer.least(scores.size(0), np.array([limit]))
    body = NodeWriter("decoding.nms", constants=writer.constants)
    left = Value(body, "decoding.nms/left", DOUBLE)
    place = body.add("ArgMax", left, axis=0, keepdims=0)
    score = left.reduce("Max", 0)
    lowered = left * Value(body, factors.name, DOUBLE).take(place)
    places, found = scan(
        writer, body, {left.name: (scores, lowered)}, [(writer.range(count), "decoding.nms/step")], [place, score]
    )
    kept = found.above(max(min_score, 0.0))
    return places.keep(kept), found.keep(kept)


def _factors(writer: NodeWriter, start: Value, end: Value, sigma: float) -> Value:
    """Factors by which each segment lowers all `[N, N]`: exp(-tIoU² / sigma); 0 for itself."""
    # float32 is exact for sums of snippets, and its exponential rounds equal numbers equally wherever they stand.
    start, end = start.cast(FLOAT), end.cast(FLOAT)
    length = writer.largest(end - start, float(np.finfo(np.float32).tiny))
    overlap = writer.least(end.unsqueeze(0), end.unsqueeze(1)) - writer.largest(start.unsqueeze(0), start.unsqueeze(1))
    overlap = writer.largest(overlap, 0.0)
    overlap = overlap / (length.unsqueeze(0) + length.unsqueeze(1) - overlap)
    fading = writer.add("Exp", overlap * overlap * (-1.0 / sigma))
    row = writer.range(start.size(0)).cast(FLOAT)
    others = writer.add("Not", writer.add("Equal", row.unsqueeze(0), row.unsqueeze(1)))
    return (fading * others.cast(FLOAT)).cast(DOUBLE)


def scan(
    writer: NodeWriter,
    body: NodeWriter,
    states: Mapping[str, tuple[Value, Value]],
    steps: list[tuple[Value, str]],
    results: list[Value],
) -> list[Value]:
    """Write a `Scan`.

    Args:
        writer: Writer of the graph around it.
        body: Nodes of one step.
        states: Value before the first step, and after one step, of each name that the body reads.
        steps: Values `[S]` of which each step sees one element, and the body's name for it.
        results: Scalars of one step.

    Returns:
        The results of all steps, `[S]` each.
    """
    inputs = [_info(name, first, 1) for name, (first, _) in states.items()]
    inputs += [_info(name, value, 0) for value, name in steps]
    ends = [_info(after.name, after, 1) for _, after in states.values()]
    outputs = [*ends, *(_info(value.name, value, 0) for value in results)]
    graph = helper.make_graph(body.nodes, body.stage, inputs, outputs)
    types = [first.dtype for first, _ in states.values()] + [value.dtype for value in results]
    firsts = [first for first, _ in states.values()]
    made = writer.add_many(
        "Scan", *firsts, *(value for value, _ in steps), types=types, body=graph, num_scan_inputs=len(steps)
    )
    return made[len(states) :]


def _info(name: str, value: Value, axes: int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * axes)
