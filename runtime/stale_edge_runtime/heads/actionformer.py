"""ActionFormer's head: from class logits and offsets of every moment of one video to detections.

Symbols: n snippets, P positions of all levels, C classes, N candidates.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from stale_edge_runtime.contract import ACTION, BATCH, CLASS_LOGITS, OFFSETS
from stale_edge_runtime.decoding import Detection, check_duration
from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.heads.actionformer_nms import Floats, Indices, suppress, vote
from stale_edge_runtime.heads.actionformer_options import DecodeSettings
from stale_edge_runtime.heads.base import ANY_NAME, NO_CHOICES, AxisRule, Choices, Head, VideoOutputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stale_edge_runtime.contract import ModelInfo


WIDTHS_ALIVE: Final = 21
"""Rows of the features' width that are alive at once for each snippet; the embedding is no wider."""


class Found(NamedTuple):
    """Segments on the grid of snippets."""

    segments: Floats
    """Start and end [N, 2], snippet j at time j."""
    scores: Floats
    """[N], the best first."""
    labels: Indices
    """Index of the class [N]."""


@lru_cache(maxsize=64)
def positions(snippets: int, strides: tuple[int, ...]) -> tuple[Floats, Floats, tuple[int, ...]]:
    """Give the moments of a video: times [P] and strides [P], and the positions of each level.

    Args:
        snippets: n.
        strides: Strides of the levels, the finest first.
    """
    counts = tuple(-(-snippets // stride) for stride in strides)
    times = np.concatenate([np.arange(count) * stride for count, stride in zip(counts, strides, strict=True)])
    return times.astype(np.float32), np.repeat(np.array(strides, dtype=np.float32), counts), counts


def decode_grid(
    class_logits: Floats, offsets: Floats, snippets: int, strides: tuple[int, ...], settings: DecodeSettings
) -> Found:
    """Find segments on the grid, as published; equal scores keep their order.

    Args:
        class_logits: [P, C].
        offsets: [P, 2], in strides of the level.
        snippets: n.
        strides: Strides of the levels, the finest first.
        settings: Numbers of the decoding.
    """
    times, steps, counts = positions(snippets, strides)
    with np.errstate(over="ignore"):
        scores = 1 / (1 + np.exp(-class_logits))  # [P, C]
    classes = scores.shape[1]
    flat = scores.ravel()
    chosen, first = [], 0
    for count in counts:
        level = flat[first * classes : (first + count) * classes]
        passing = np.flatnonzero(level > settings.threshold)
        order = np.argsort(-level[passing], kind="stable")[: settings.candidates]
        chosen.append(first * classes + passing[order])
        first += count
    index = np.concatenate(chosen)
    rows, labels = np.divmod(index, classes)
    starts = times[rows] - offsets[rows, 0] * steps[rows]
    ends = times[rows] + offsets[rows, 1] * steps[rows]
    long_enough = ends - starts > settings.shortest
    segments = np.stack((starts, ends), axis=1)[long_enough]
    values, labels = flat[index][long_enough], labels[long_enough]
    kept, lowered = suppress(segments, values, labels, settings)
    found = segments[kept]
    if settings.vote > 0 and not settings.per_class and settings.method != "none" and len(kept):
        found = vote(found, segments, values, settings.vote)
    if settings.method == "none":
        return Found(found, lowered, labels[kept])
    order = np.argsort(-lowered, kind="stable")[: settings.limit]
    return Found(found[order], lowered[order], labels[kept][order])


def decode(
    class_logits: Any,
    offsets: Any,
    duration_s: float,
    *,
    snippets: int,
    strides: tuple[int, ...],
    settings: DecodeSettings | None = None,
    classes: Sequence[str] | None = None,
    offset: float = 0.5,
    step_s: float | None = None,
) -> list[Detection]:
    """Turn the network's outputs for one video into detections, best first.

    Grid time g is second (g + offset) · step; before 0 and after the duration is cut off.

    Args:
        class_logits: [P, C], levels concatenated, the finest first.
        offsets: [P, 2], in strides.
        duration_s: Seconds of the video.
        snippets: n, of the video as the network saw it.
        strides: Strides of the levels.
        settings: Numbers of the decoding; those of ActivityNet by default.
        classes: Names of the classes; without them a label is the class index as text.
        offset: Centre of the first snippet, in snippets.
        step_s: Seconds from one snippet to the next; the duration divided by the snippets by default.

    Raises:
        BadDataError: Shapes that do not go together, values that are not finite, a duration that is not positive.
    """
    logits, distances = _checked(class_logits, offsets, snippets, strides)
    check_duration(duration_s)
    if classes is not None and len(classes) != logits.shape[1]:
        raise BadDataError("classes", f"are {len(classes)} names for {logits.shape[1]} classes")
    found = decode_grid(logits, distances, snippets, strides, settings or DecodeSettings())
    seconds = (found.segments.astype(np.float64) + offset) * (step_s or duration_s / snippets)
    seconds = np.clip(seconds, 0.0, duration_s)
    names = [classes[label] if classes else str(label) for label in found.labels.tolist()]
    rows = zip(*seconds.T.tolist(), names, found.scores.tolist(), strict=True)
    return [Detection(*row) for row in rows if row[0] < row[1]]


def _checked(class_logits: Any, offsets: Any, snippets: int, strides: tuple[int, ...]) -> tuple[Floats, Floats]:
    wanted = sum(-(-snippets // stride) for stride in strides)
    found = []
    for name, value in ((CLASS_LOGITS, class_logits), (OFFSETS, offsets)):
        array = np.asarray(value, dtype=np.float32)
        if array.ndim != 2 or len(array) != wanted or not array.shape[1]:
            raise BadDataError(
                name, f"has shape {array.shape}", f"give {wanted} rows for {snippets} snippets on {len(strides)} levels"
            )
        if not np.isfinite(array).all():
            raise BadDataError(name, f"holds {np.count_nonzero(~np.isfinite(array))} values that are not finite")
        found.append(array)
    if found[1].shape[1] != 2:
        raise BadDataError(OFFSETS, f"has {found[1].shape[1]} columns", "give distances to start and end")
    if found[1].min(initial=0.0) < 0:
        raise BadDataError(OFFSETS, f"reach down to {found[1].min():g}", "distances are not negative")
    return found[0], found[1]


def _snippets(info: ModelInfo, points: int) -> int:
    """Count the snippets that so many positions come from."""
    low, high = 1, points
    while low < high:
        middle = (low + high) // 2
        if sum(-(-middle // stride) for stride in info.strides) < points:
            low = middle + 1
        else:
            high = middle
    return low


def _settings(info: ModelInfo) -> DecodeSettings:
    try:
        return DecodeSettings.from_dict(dict(info.decoding))
    except ValueError as error:
        raise BadDataError("metadata 'stale_edge.decoding'", str(error), "export the file again") from error


def _step_s(info: ModelInfo, snippets: int, duration_s: float) -> float:
    """Seconds of a snippet: the file's, where the duration is that of so many, up to what one of them looks at.

    Snippets that overlap cover more than their number says, so the duration alone would stretch the grid.
    """
    own = info.snippet_seconds
    if own is not None and not info.resize_to and abs(duration_s - snippets * own) <= 2 * info.offset * own:
        return own
    return duration_s / snippets


def _decode_outputs(
    outputs: VideoOutputs, duration_s: float, *, classes: Sequence[str], info: ModelInfo, choices: Choices = NO_CHOICES
) -> list[Detection]:
    if choices.compat is not None or choices.options is not None:
        name = "compat" if choices.compat is not None else "decode options"
        raise UsageError(name, "belongs to the network stale; this file holds actionformer", "leave it out")
    snippets = _snippets(info, len(outputs[CLASS_LOGITS]))
    return decode(
        outputs[CLASS_LOGITS],
        outputs[OFFSETS],
        duration_s,
        snippets=snippets,
        strides=info.strides,
        settings=_settings(info),
        classes=classes,
        offset=info.offset,
        step_s=_step_s(info, snippets, duration_s),
    )


def _check_info(info: ModelInfo) -> None:
    if not info.strides or list(info.strides) != [1 << level for level in range(len(info.strides))]:
        problem = f"are {list(info.strides)}, not 1, 2, 4 and so on"
        raise BadDataError("stale_edge.strides", problem, "export the file again")
    _settings(info)


def _axes(info: ModelInfo) -> Mapping[str, tuple[AxisRule, ...]]:
    return {CLASS_LOGITS: (BATCH, ANY_NAME, len(info.classes)), OFFSETS: (BATCH, ANY_NAME, 2)}


def _shapes(info: ModelInfo, snippets: int, classes: int) -> Mapping[str, tuple[int, ...]]:
    points = sum(-(-snippets // stride) for stride in info.strides)
    return {CLASS_LOGITS: (points, classes), OFFSETS: (points, 2)}


def _activation_floats(info: ModelInfo, snippets: int, classes: int, block: int) -> float:
    """Count floats that are alive at once: rows beside their neighbours, and the outputs of all levels.

    At 8192 snippets of the published THUMOS14 size the whole process is predicted to take 1,772 MiB in fp32, where 906
    were measured.
    """
    del block
    return snippets * (WIDTHS_ALIVE * info.feature_dim + 2 * (classes + 2))


def _examples(info: ModelInfo, snippets: int, classes: int) -> Mapping[str, VideoOutputs]:
    """Make outputs of a network that sees five actions, and of one that sees everything everywhere."""
    rng = np.random.default_rng([snippets, classes])
    times, _, _ = positions(snippets, info.strides)
    shapes = _shapes(info, snippets, classes)
    noisy = {name: np.abs(rng.normal(0, 2, shape)).astype(np.float32) for name, shape in shapes.items()}
    noisy[CLASS_LOGITS] = rng.normal(-2, 1, shapes[CLASS_LOGITS]).astype(np.float32)
    logits = rng.normal(-8, 0.5, shapes[CLASS_LOGITS]).astype(np.float32)
    for start, end in ((0.05, 0.15), (0.2, 0.3), (0.4, 0.45), (0.55, 0.75), (0.8, 0.95)):
        first = int(start * snippets)
        inside = (times >= first) & (times < max(int(end * snippets), first + 1))
        logits[inside, int(rng.integers(classes))] += 7
    return {"clear": {**noisy, CLASS_LOGITS: logits}, "noisy": noisy}


ACTIONFORMER_HEAD = Head(
    outputs=(CLASS_LOGITS, OFFSETS),
    check_info=_check_info,
    axes=_axes,
    shapes=_shapes,
    decode=_decode_outputs,
    activation_floats=_activation_floats,
    examples=_examples,
    step_s=_step_s,
    is_class_agnostic=lambda info: info.classes == (ACTION,),
)
"""Head of the network `actionformer`."""
