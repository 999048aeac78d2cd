"""ActionFormer's decoding as nodes: the float32 arithmetic of `heads.actionformer` in its order.

Where scores are equal, the first candidate is taken; the published code, and numpy after it, goes by the order in which
its memory was swapped.

Symbols: n snippets, P positions of all levels, C classes, N candidates, K kept.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from stale_edge_export.graphs.decoding import Decoding, DetectionRows, Settings
from stale_edge_export.graphs.nodes import DOUBLE, END, FLOAT, INT, NodeWriter, Value
from stale_edge_export.graphs.soft_nms import scan
from stale_edge_runtime.contract import CLASS_LOGITS, OFFSETS
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.heads.actionformer import decode
from stale_edge_runtime.heads.actionformer_nms import LENGTH_MARGIN
from stale_edge_runtime.heads.actionformer_options import DecodeSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.heads.base import VideoOutputs


def _settings(info: ModelInfo, given: Mapping[str, Any]) -> Settings:
    known = [item.name for item in fields(DecodeSettings)]
    if unknown := sorted(given.keys() - set(known)):
        raise UsageError(f"decode option {unknown[0]}", "is not known", f"use {', '.join(known)}")
    try:
        settings = DecodeSettings.from_dict({**info.decoding, **given})
    except ValueError as error:
        raise UsageError("--decode", str(error), "give another value") from error
    if settings.min_score > settings.threshold and settings.method != "none":
        problem = f"is {settings.min_score:g}, above the threshold {settings.threshold:g} of candidates"
        raise UsageError("decode option min_score", problem, f"set threshold={settings.min_score:g} as well")
    return settings.to_dict()


def _write(
    writer: NodeWriter, outputs: Mapping[str, Value], snippets: Value, info: ModelInfo, given: Settings
) -> DetectionRows:
    settings = DecodeSettings.from_dict(given)
    start, end, values, labels = _candidates(writer, outputs, snippets, info, settings)
    scores = values
    if settings.method != "none":
        if settings.per_class:  # the candidates of a class together, so that of equal scores its first one wins
            labels, order = writer.best(labels, labels.size(0), largest=False)
            start, end, values = start.take(order), end.take(order), values.take(order)
        start, end, scores, labels = _suppressed(writer, start, end, values, labels, settings)
    # The last snippet looks as far behind its centre as the first one looks before its own.
    length = snippets.cast(DOUBLE) + (2 * info.offset - 1)
    times = [writer.least(writer.largest(t.cast(DOUBLE) + info.offset, 0.0), length) for t in (start, end)]
    some = times[0].below(times[1])
    segments = writer.concat(*(time.keep(some).unsqueeze(1) for time in times), axis=1)
    return DetectionRows(segments, labels.keep(some), scores.keep(some))


def _candidates(
    writer: NodeWriter, outputs: Mapping[str, Value], snippets: Value, info: ModelInfo, settings: DecodeSettings
) -> tuple[Value, Value, Value, Value]:
    """Write starts, ends, scores and labels `[N]` of the best candidates of each level."""
    logits = outputs[CLASS_LOGITS]
    probabilities = writer.add("Div", 1.0, writer.add("Exp", -logits) + 1.0)  # [P, C]
    classes = logits.size(1)
    parts: list[tuple[Value, ...]] = []
    first = snippets * 0
    for stride in info.strides:
        past = first + (snippets + (stride - 1)) / stride
        level = probabilities.cut(first, past).reshape(-1)
        passing = writer.add("NonZero", level.above(settings.threshold)).reshape(-1)
        values, order = writer.best(level.take(passing), settings.candidates)
        chosen = passing.take(order)
        row = chosen / classes
        distances = outputs[OFFSETS].take(row + first)  # [N, 2]
        time = (row * stride).cast(FLOAT)
        start = time - distances.take(0, axis=1) * float(stride)
        end = time + distances.take(1, axis=1) * float(stride)
        parts.append((start, end, values, chosen % classes))
        first = past
    start, end, values, labels = (writer.concat(*level) for level in zip(*parts, strict=True))
    some = (end - start).above(settings.shortest)
    return start.keep(some), end.keep(some), values.keep(some), labels.keep(some)


def _suppressed(
    writer: NodeWriter, start: Value, end: Value, values: Value, labels: Value, settings: DecodeSettings
) -> tuple[Value, Value, Value, Value]:
    """Write starts, ends, scores and labels `[K]` of what is kept, best first, moved by the votes of the candidates."""
    # A candidate without length or score, for a `Scan` takes one step or more; it is never kept.
    start, end, values = (writer.concat(value, np.zeros(1, np.float32)) for value in (start, end, values))
    labels = writer.concat(labels, np.array([np.iinfo(np.int64).max]))
    body = NodeWriter("decoding.nms", constants=writer.constants)
    left = Value(body, "decoding.nms/left", FLOAT)
    place, score = body.add("ArgMax", left, axis=0, keepdims=1), left.reduce("Max", 0)
    others = (start, end, (end - start) + float(LENGTH_MARGIN))
    inner = tuple(Value(body, value.name, value.dtype) for value in others)
    starts, ends, lengths = inner
    first = past = None
    if settings.per_class:
        first, past = (Value(body, bound.name, INT).take(place) for bound in _bounds(writer, labels))
        starts, ends, lengths = (value.cut(first, past) for value in inner)
    own_start, own_end, own_length = (value.take(place) for value in inner)
    shared = body.largest(body.least(ends, own_end) - body.largest(starts, own_start), 0.0)
    decay = _decay(body, shared / (own_length + lengths - shared), settings)
    if first is None or past is None:
        lowered = left * decay
    else:
        lowered = body.concat(left.cut(0, first), left.cut(first, past) * decay, left.cut(past, END))
    lowered = body.add("ScatterElements", lowered, place, np.zeros(1, np.float32), axis=0)
    steps = writer.range(writer.least(values.size(0), np.array([settings.limit])))
    kept, scores = scan(
        writer, body, {left.name: (values, lowered)}, [(steps, "decoding.nms/step")], [body.scalar(place), score]
    )
    some = writer.add("And", scores.above(0.0), scores.at_least(settings.min_score))
    kept = kept.keep(some)
    found = start.take(kept), end.take(kept)
    if settings.vote > 0 and not settings.per_class:
        found = _voted(writer, found, (start, end), values, settings.vote)
    return *found, scores.keep(some), labels.take(kept)


def _voted(
    writer: NodeWriter, kept: tuple[Value, Value], others: tuple[Value, Value], scores: Value, threshold: float
) -> tuple[Value, Value]:
    """Write segments `[K]` moved to the mean of the candidates `[N]` that they overlap, by score and overlap."""
    start, end = (value.unsqueeze(1) for value in kept)
    shared = writer.largest(writer.least(end, others[1]) - writer.largest(start, others[0]), 0.0)  # [K, N]
    overlap = shared / ((end - start) + (others[1] - others[0]) - shared)
    weight = overlap * scores * overlap.at_least(threshold).cast(FLOAT)
    total = weight.reduce("Sum", 1)
    moved = total.above(0.0)
    sums = ((weight * value).reduce("Sum", 1) for value in others)
    voted = [writer.choose(moved, each / total, old) for each, old in zip(sums, kept, strict=True)]
    return voted[0], voted[1]


def _bounds(writer: NodeWriter, labels: Value) -> tuple[Value, Value]:
    """Write first place and one past the last `[N]` of the class of each candidate; `labels` are sorted."""
    changes = writer.differs(labels)
    firsts = writer.add("NonZero", changes).reshape(-1)
    group = writer.add("CumSum", changes.cast(INT), np.array(0))  # from 1
    ends = writer.concat(firsts, labels.size(0))
    return ends.take(group - 1), ends.take(group)


def _decay(body: NodeWriter, overlap: Value, settings: DecodeSettings) -> Value:
    """Write the factors that overlaps `[N]` with the best candidate lower scores by."""
    if settings.method == "soft":
        return body.add("Exp", overlap * overlap / -settings.sigma)
    if settings.method == "hard":
        return overlap.below(settings.overlap).cast(FLOAT)
    return -(overlap * overlap.at_least(settings.overlap).cast(FLOAT)) + 1.0


def _decode(outputs: VideoOutputs, snippets: int, info: ModelInfo, settings: Settings) -> list[Detection]:
    return decode(
        outputs[CLASS_LOGITS],
        outputs[OFFSETS],
        snippets + 2 * info.offset - 1,
        snippets=snippets,
        strides=info.strides,
        settings=DecodeSettings.from_dict(settings),
        offset=info.offset,
        step_s=1.0,
    )


ACTIONFORMER_DECODING = Decoding(settings=_settings, write=_write, decode=_decode)
"""Decoding of the network `actionformer`."""
