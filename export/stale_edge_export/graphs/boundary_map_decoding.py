"""The boundary map's decoding as nodes: the arithmetic of `heads.boundary_map` in its order, so that rows are equal.

Symbols: T snippets, M cells of r snippets, C classes, P peaks, N segments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stale_edge_export.graphs.decoding import Decoding, DetectionRows, Settings, option_settings
from stale_edge_export.graphs.nodes import DOUBLE
from stale_edge_export.graphs.soft_nms import soft_nms
from stale_edge_runtime.contract import CLASS_LOGITS
from stale_edge_runtime.heads import boundary_map as rules
from stale_edge_runtime.heads.base import Choices
from stale_edge_runtime.heads.stale_proposals import DecodeOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stale_edge_export.graphs.nodes import NodeWriter, Value
    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.heads.base import VideoOutputs


def _write(
    writer: NodeWriter, outputs: Mapping[str, Value], snippets: Value, info: ModelInfo, settings: Settings
) -> DetectionRows:
    del snippets, info
    options = DecodeOptions(**settings)
    first, last, scores = _peaks(writer, outputs[rules.PAIR_LOGITS], options.max_candidates)
    kept, scores = soft_nms(
        writer,
        first.cast(DOUBLE),
        last.cast(DOUBLE),
        scores,
        None,
        sigma=options.sigma,
        min_score=options.min_score,
        limit=options.max_detections,
    )
    first, last = first.take(kept), last.take(kept)
    shares = _shares(writer, outputs[CLASS_LOGITS], outputs[rules.CLASS_GRAM], first, last)
    joint = (scores.unsqueeze(1) * shares).reshape(-1)
    values, places = writer.best(joint, options.max_detections)
    enough = values.above(options.min_score)
    values, places = values.keep(enough), places.keep(enough)
    classes = outputs[CLASS_LOGITS].size(1)
    segments = _refined(writer, outputs[rules.GUIDE], first, last).take(places / classes)
    return DetectionRows(segments, places % classes, writer.least(values, 1.0))


def _peaks(writer: NodeWriter, pair_logits: Value, limit: int) -> tuple[Value, Value, Value]:
    """Write first and last edges in cells and scores, `[P]` each, of pairs that no pair nearby exceeds, best first."""
    count = pair_logits.size(0)
    cells = writer.range(count)
    ordered = cells.unsqueeze(1).at_most(cells.unsqueeze(0))
    upper = writer.choose(ordered, pair_logits, -np.inf)
    near = upper
    for axis in (1, 0):
        margins = np.zeros(4, np.int64)
        margins[[axis, 2 + axis]] = rules.PEAK_REACH
        padded = writer.add("Pad", near, margins, np.array(-np.inf, np.float32))
        reach = range(2 * rules.PEAK_REACH + 1)
        near = writer.largest(*(padded.cut(np.array([i]), count + np.array([i]), axis) for i in reach))
    peaks = writer.add("NonZero", writer.add("And", upper.at_least(near), ordered))  # [2, P]
    first, last = peaks.take(0), peaks.take(1)
    values, order = writer.best(upper.reshape(-1).take(first * count + last).cast(DOUBLE), limit)
    return first.take(order), last.take(order) + 1, writer.steady(writer.add("Sigmoid", values))


def _shares(writer: NodeWriter, class_logits: Value, gram: Value, first: Value, last: Value) -> Value:
    """Write the share of each class in each segment `[N, C]`."""
    zero = np.array(0)
    sums = writer.add("CumSum", class_logits.cast(DOUBLE), zero)
    sums = writer.add("Pad", sums, np.array([1, 0, 0, 0]))  # [M + 1, C]
    area = writer.add("CumSum", writer.add("CumSum", gram.cast(DOUBLE), zero), np.array(1))
    area = writer.add("Pad", area, np.array([1, 1, 0, 0])).reshape(-1)  # [(M + 1)²]
    width = gram.size(0) + 1
    corners = ((last, last), (first, last), (last, first), (first, first))
    whole, left, above, both = (area.take(row * width + column) for row, column in corners)
    squares = writer.largest(whole - left - above + both, rules.SMALLEST)
    logits = (sums.take(last) - sums.take(first)) / writer.add("Sqrt", squares).unsqueeze(1)
    logits = logits.cut(0, 1) * rules.BEST_SHARE + logits * (1 - rules.BEST_SHARE)
    odds = writer.steady(writer.add("Exp", logits - logits.reduce("Max", 1, keep=True)))
    return odds / writer.steady(odds.reduce("Sum", 1, keep=True))


def _refined(writer: NodeWriter, guide: Value, first: Value, last: Value) -> Value:
    """Write segments `[N, 2]` in snippets, their edges where the guide changes most within a cell to either side."""
    snippets = guide.size(0)
    size = (snippets + (rules.MAX_CELLS - 1)) / rules.MAX_CELLS  # r
    sums = writer.add("Pad", writer.add("CumSum", guide.cast(DOUBLE), np.array(0)), np.array([1, 0]))  # [T + 1]
    offsets = writer.range(size * 2 - 1) - size + 1  # [2r - 1]
    edges = [writer.least(edge * size, snippets) for edge in (first, last)]
    refined = []
    for at, sign in zip(edges, (1.0, -1.0), strict=True):
        low, high = writer.largest(at - size, 0), writer.least(at + size, snippets)
        end = writer.largest(high - 1, low + 1)
        split = writer.largest(at.unsqueeze(1) + offsets, (low + 1).unsqueeze(1))
        split = writer.least(split, end.unsqueeze(1))  # [N, 2r - 1]
        left = (split - low.unsqueeze(1)).cast(DOUBLE)
        right = writer.largest(high.unsqueeze(1) - split, 1).cast(DOUBLE)
        middle = sums.take(split)
        rise = (sums.take(high).unsqueeze(1) - middle) / right - (middle - sums.take(low).unsqueeze(1)) / left
        gain = rise * sign * writer.add("Sqrt", left * right)
        place = writer.add("ArgMax", gain, axis=1, keepdims=1)
        best = writer.add("Squeeze", writer.add("GatherElements", split, place, axis=1), np.array([1]))
        inner = writer.add("And", at.above(0), at.below(snippets))
        inner = writer.add("And", inner, gain.reduce("Max", 1).above(0.0))
        refined.append(writer.choose(inner, best, at))
    apart = refined[0].below(refined[1]).unsqueeze(1)
    moved, still = (writer.concat(*(edge.unsqueeze(1) for edge in pair), axis=1) for pair in (refined, edges))
    return writer.choose(apart, moved, still)


def _decode(outputs: VideoOutputs, snippets: int, info: ModelInfo, settings: Settings) -> list[Detection]:
    names = [str(index) for index in range(outputs[CLASS_LOGITS].shape[1])]
    choices = Choices(options=DecodeOptions(**settings))
    return rules.decode(outputs, float(snippets), classes=names, info=info, choices=choices)


BOUNDARY_MAP_DECODING = Decoding(
    settings=lambda _, given: option_settings(rules.OPTIONS, given), write=_write, decode=_decode
)
"""Decoding of the network `boundary-map`."""
