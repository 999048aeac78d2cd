"""ActionFormer's decoding as nodes: the float32 arithmetic of `heads.actionformer` in its order.

Where scores are equal, the first candidate is taken; the published code, and numpy after it, goes by the order in which
its memory was swapped.

Symbols: n snippets, P positions of all levels, C classes, N candidates, K kept.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from stale_edge_export.graphs.decoding import Decoding, Found, Settings
from stale_edge_export.graphs.nodes import DOUBLE, FLOAT, INT, NodeWriter, Value
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
) -> Found:
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
    return Found(segments, labels.keep(some), scores.keep(some))


def _candidates(
    writer: NodeWriter, outputs: Mapping[str, Value], snippets: Value, info: ModelInfo, settings: DecodeSettings
) -> tuple[Value, Value, Value, Value]:
    """Write starts, ends, scores and labels `[N]` of the best candidates of each level."""
    logits = outputs[CLASS_LOGITS]
    probabilities = writer.add("Exp", -logits) + 1.0
    probabilities = writer.add("Reciprocal", probabilities)  # [P, C]
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
    labels = writer.concat(labels, np.array([-1]))
    places = writer.range(values.size(0))
    raw = end - start
    length = raw + float(LENGTH_MARGIN)
    body = NodeWriter("decoding.nms", constants=writer.constants)
    starts, ends, raws, lengths, weights = (Value(body, x.name, FLOAT) for x in (start, end, raw, length, values))
    classes, indices = (Value(body, x.name, INT) for x in (labels, places))
    left = Value(body, "decoding.nms/left", FLOAT)
    place = body.add("ArgMax", left, axis=0, keepdims=0)
    score = left.reduce("Max", 0)
    shared = body.least(ends, ends.take(place)) - body.largest(starts, starts.take(place))
    shared = body.largest(shared, 0.0)
    overlap = shared / (lengths.take(place) + lengths - shared)
    lowered = left * _decay(body, overlap, settings)
    if settings.per_class:
        lowered = body.choose(body.add("Equal", classes, classes.take(place)), lowered, left)
    lowered = body.choose(body.add("Equal", indices, place), 0.0, lowered)
    results = [place, score]
    votes = settings.vote > 0 and not settings.per_class
    if votes:
        overlap = shared / (raws.take(place) + raws - shared)
        weight = body.choose(overlap.at_least(settings.vote), overlap * weights, 0.0)
        results += [each.reduce("Sum", 0) for each in (weight, weight * starts, weight * ends)]
    steps = writer.range(writer.least(values.size(0), np.array([settings.limit])))
    kept, scores, *voted = scan(writer, body, {left.name: (values, lowered)}, [(steps, "decoding.nms/step")], results)
    some = scores.above(0.0)
    some = writer.add("And", some, scores.at_least(settings.min_score))
    start, end = start.take(kept), end.take(kept)
    if votes:
        total, new_start, new_end = voted
        moved = total.above(0.0)
        start, end = (writer.choose(moved, new / total, old) for new, old in ((new_start, start), (new_end, end)))
    return start.keep(some), end.keep(some), scores.keep(some), labels.take(kept).keep(some)


def _decay(body: NodeWriter, overlap: Value, settings: DecodeSettings) -> Value:
    """Write the factors that overlaps `[N]` with the best candidate lower scores by."""
    if settings.method == "soft":
        return body.add("Exp", overlap * overlap / -settings.sigma)
    high = overlap.at_least(settings.overlap)
    return body.choose(high, 0.0 if settings.method == "hard" else -overlap + 1.0, overlap * 0.0 + 1.0)


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
