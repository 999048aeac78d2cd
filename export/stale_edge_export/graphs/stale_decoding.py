"""STALE's default decoding as nodes: the arithmetic of `heads.stale_proposals` in its order, so that rows are equal.

Symbols: T snippets, A anchors, C classes, K candidate classes, R = K + 1 curves, S seeds, N segments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stale_edge_export.graphs.decoding import Decoding, DetectionRows, Settings, option_settings
from stale_edge_export.graphs.nodes import DOUBLE, END, FLOAT, INT
from stale_edge_export.graphs.soft_nms import soft_nms
from stale_edge_runtime.contract import CLASS_LOGITS, MASKS, VIDEO_LOGITS
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.heads import stale_proposals as rules
from stale_edge_runtime.heads.stale import decode
from stale_edge_runtime.heads.stale_proposals import DecodeOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stale_edge_export.graphs.nodes import NodeWriter, Value
    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.heads.base import VideoOutputs

MOST_CLASSES = 1000
"""Most classes of a video: each is put on a stretch of time of its own, all of which float32 must count exactly."""


def _write(
    writer: NodeWriter, outputs: Mapping[str, Value], snippets: Value, info: ModelInfo, settings: Settings
) -> DetectionRows:
    options = DecodeOptions(**settings)
    masks = outputs[MASKS]  # [A, T]
    labels, prior, curves = _candidate_classes(writer, outputs[CLASS_LOGITS], outputs[VIDEO_LOGITS], options)
    classes = curves.cut(0, -1)  # [K, T]
    sums = curves.cast(DOUBLE).transpose(1, 0)
    sums = writer.add("CumSum", sums, np.array(0)).transpose(1, 0)
    cumulative = writer.concat((curves.cut(0, 1, axis=1) * 0.0).cast(DOUBLE), sums, axis=1)  # [R, T + 1]
    seeds = _seeds(writer, classes, snippets, info.anchors, options.mask_rows)
    start, end = _segments(writer, curves, cumulative, masks, seeds, snippets, info.anchors)
    fits, weight = _fits(writer, cumulative.cut(0, -1), masks, start, end, snippets, info.anchors)
    scores = fits * prior.unsqueeze(1) * (weight * (1.0 - rules.LOWEST_MASK_WEIGHT) + rules.LOWEST_MASK_WEIGHT)
    values, places = writer.best(scores.transpose(1, 0).reshape(-1), options.max_candidates)
    enough = values.above(options.min_score)
    values, places = values.keep(enough), places.keep(enough)
    segment, lane = places / labels.size(0), places % labels.size(0)
    start, end = start.take(segment), end.take(segment)
    kept, found = soft_nms(
        writer,
        start.cast(DOUBLE),
        end.cast(DOUBLE),
        values,
        lane,
        sigma=options.sigma,
        min_score=options.min_score,
        limit=options.max_detections,
    )
    segments = writer.concat(start.take(kept).unsqueeze(1), end.take(kept).unsqueeze(1), axis=1)
    return DetectionRows(segments, labels.take(lane.take(kept)), found)


def _candidate_classes(
    writer: NodeWriter, class_logits: Value, video_logits: Value, options: DecodeOptions
) -> tuple[Value, Value, Value]:
    """Write indices `[K]`, priors `[K]`, and curves `[R, T]` of the classes that take part."""
    probabilities = writer.add("Softmax", class_logits, axis=1).transpose(1, 0)  # [C + 1, T]
    relative = (video_logits - video_logits.reduce("Max", 0)).cast(DOUBLE)
    prior = writer.largest(writer.add("Exp", relative * options.video_weight), rules.LOWEST_PRIOR)  # [C]
    strongest = probabilities.reduce("Max", 1).cut(0, -1).cast(DOUBLE)
    evidence, labels = writer.best(strongest * prior, options.max_classes)
    weak = evidence.below(evidence.cut(0, 1) * options.class_share)
    labels = labels.keep(writer.add("Not", weak))  # NaN is not weak: one class takes part at least
    curves = writer.concat(probabilities.take(labels), -probabilities.cut(-1, END) + 1.0)
    return labels, prior.take(labels), curves


def _seeds(writer: NodeWriter, classes: Value, snippets: Value, anchors: int, limit: int) -> Value:
    """Write the strongest snippet of each anchor, of the strongest ones only: `[S]`."""
    strength = classes.reduce("Max", 0)  # [T]
    _, weakest_first = writer.best(strength, snippets, largest=False)
    # A second stable sort puts the snippets of an anchor together, the strongest last.
    anchor, order = writer.best(weakest_first * anchors / snippets, snippets, largest=False)
    last = writer.concat(writer.differs(anchor).cut(1, END), np.array([True]))
    seeds = weakest_first.take(order).keep(last)
    _, strongest = writer.best(strength.take(seeds), limit)
    return seeds.take(strongest)


def _segments(
    writer: NodeWriter, curves: Value, cumulative: Value, masks: Value, seeds: Value, snippets: Value, anchors: int
) -> tuple[Value, Value]:
    """Write starts and ends `[N]` of the runs in curves and masks, without repetitions, in the order of the starts."""
    time, half = writer.range(snippets), rules.SMOOTHING // 2
    low, high = writer.largest(time - half, 0), writer.least(time + (half + 1), snippets)
    means = (cumulative.take(high, axis=1) - cumulative.take(low, axis=1)) / (high - low).cast(DOUBLE)
    above, threshold = _levels(writer.concat(curves, means.cast(FLOAT)), rules.CURVE_LEVELS)  # [2R, L, T]
    border = threshold.below(threshold)  # false after each row: no run crosses it
    flat = writer.concat(above, border, axis=2).reshape(-1)
    before = writer.concat(np.array([False]), flat.cut(0, -1))
    edges = writer.add("NonZero", writer.add("Not", writer.add("Equal", flat, before))).reshape(-1, 2)
    first, past = edges.take(0, axis=1), edges.take(1, axis=1)
    width = snippets + np.array([1])
    keys = (first % width) * width + past - first

    above, _ = _levels(masks.take(seeds * anchors / snippets), rules.MASK_LEVELS)  # [S, M, T]
    below = writer.add("Not", above).cast(FLOAT)
    t, seed = time.cast(FLOAT), seeds.cast(FLOAT).reshape(-1, 1, 1)
    reached = t.at_most(seed).cast(FLOAT) * (t + 1.0)
    first = (below * reached).reduce("Max", 2)  # [S, M], one past the last low snippet up to the seed
    reached = t.at_least(seed).cast(FLOAT) * (snippets.cast(FLOAT) - t)
    past = snippets.cast(FLOAT) - (below * reached).reduce("Max", 2)
    first, length = first.cast(INT).reshape(-1), (past - first).cast(INT).reshape(-1)
    around = (first * width + length).keep(length.above(0))

    keys = writer.concat(keys, around)
    keys, _ = writer.best(keys, keys.size(0), largest=False)
    keys = keys.keep(writer.differs(keys))
    start = keys / width
    return start, start + keys % width


def _levels(signals: Value, levels: Any) -> tuple[Value, Value]:
    """Write where each signal `[R, T]` reaches each level of its range `[R, L, T]`, and the thresholds `[R, L, 1]`."""
    lowest, highest = signals.reduce("Min", 1, keep=True), signals.reduce("Max", 1, keep=True)
    thresholds = ((highest - lowest) * levels + lowest).unsqueeze(2)
    return signals.unsqueeze(1).at_least(thresholds), thresholds


def _fits(
    writer: NodeWriter, cumulative: Value, masks: Value, start: Value, end: Value, snippets: Value, anchors: int
) -> tuple[Value, Value]:
    """Write how well each segment fits the curves of the classes `[K, N]` and the masks of its own anchors `[N]`."""
    length = end - start
    margin = (length + (rules.MARGIN_SHARE - 1)) / rules.MARGIN_SHARE
    columns = (writer.largest(start - margin, 0), start, end, writer.least(end + margin, snippets))
    outside = writer.largest(columns[3] - columns[0] - length, 1).cast(DOUBLE)
    size = length.cast(DOUBLE)
    fits = _contrast(writer, [cumulative.take(column, axis=1) for column in columns], size, outside)
    shortness = writer.least(snippets.cast(DOUBLE) * rules.SHORTNESS_SHARE, rules.SHORTNESS_LIMIT)
    fits = fits * (size / (size + shortness))

    above, below = start * anchors / snippets, (end - 1) * anchors / snippets + 1
    # Sums over integers up to 2^53 are exact in float64, in any order.
    fixed = float(rules.fixed_point(anchors))
    whole = writer.add("Floor", masks * fixed).cast(DOUBLE)
    table = writer.add("CumSum", writer.add("CumSum", whole, np.array(0)).transpose(1, 0), np.array(0))
    table = writer.add("Pad", table, np.array([1, 1, 0, 0])).reshape(-1)  # [(T + 1) · (A + 1)]
    places = [column * (anchors + 1) for column in columns]
    sums = [(table.take(place + below) - table.take(place + above)) / fixed for place in places]
    rows = (below - above).cast(DOUBLE)
    return fits, _contrast(writer, sums, rows * size, rows * outside)


def _contrast(writer: NodeWriter, sums: list[Value], size: Value, outer_size: Value) -> Value:
    """Write `stale_proposals._contrast` of the sums before the margin, the segment, what follows, and the end."""
    within = sums[2] - sums[1]
    around = sums[3] - sums[0] - within
    inside = writer.least(writer.largest(within / size, 0.0), 1.0)
    outside = writer.least(writer.largest(around / outer_size, 0.0), 1.0)
    share = inside / writer.largest(outside + inside, float(np.finfo(np.float64).tiny))
    return share * share * inside


def _decode(outputs: VideoOutputs, snippets: int, info: ModelInfo, settings: Settings) -> list[Detection]:
    del info
    parts = (outputs[CLASS_LOGITS], outputs[MASKS], outputs[VIDEO_LOGITS])
    return decode(*parts, float(snippets), options=DecodeOptions(**settings))


def _settings(info: ModelInfo, given: Mapping[str, Any]) -> Settings:
    del info
    settings = option_settings(DecodeOptions(), given)
    if settings["max_classes"] > MOST_CLASSES:
        problem = f"is {settings['max_classes']:,}, a decoding inside a file takes {MOST_CLASSES:,}"
        raise UsageError("decode option max_classes", problem, "give less")
    return settings


STALE_DECODING = Decoding(settings=_settings, write=_write, decode=_decode)
"""Decoding of the network `stale`."""
