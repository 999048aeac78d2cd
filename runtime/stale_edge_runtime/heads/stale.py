"""STALE's head: from class logits, masks and video logits of one video to detections.

The default makes the proposals of `stale_proposals` and thins them with Gaussian soft-NMS; `compat="stale"` does what
the published code did, defects included. Source: docs/protocol.md §4.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from stale_edge_runtime.contract import BATCH, CLASS_LOGITS, CLASSES, MASKS, SNIPPETS, VIDEO_LOGITS, ModelInfo
from stale_edge_runtime.decoding import Detection, check_duration, enhance
from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.heads.base import ANY_NAME, NO_CHOICES, AxisRule, Choices, Head, VideoOutputs
from stale_edge_runtime.heads.stale_examples import clear_outputs, noisy_outputs
from stale_edge_runtime.heads.stale_proposals import DecodeOptions, Float32Array, propose
from stale_edge_runtime.heads.stale_published import published_proposals
from stale_edge_runtime.nms import published_soft_nms, soft_nms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stale_edge_runtime.segments import FloatArray

STALE = "stale"
ATTENTION_HEADS = 4
"""Attention heads of the published network; the metadata does not say."""
SCORE_COPIES = 2
"""Attention matrices `[heads, rows, T]` of float32 that are alive at once: before and after the softmax."""
_DEFAULTS = DecodeOptions()
_NEW_TUPLE: Any = tuple.__new__


def decode(
    class_logits: FloatArray,
    masks: FloatArray,
    video_logits: FloatArray,
    duration_s: float,
    *,
    classes: Sequence[str] | None = None,
    compat: str | None = None,
    external: tuple[str, float] | None = None,
    options: DecodeOptions | None = None,
) -> list[Detection]:
    """Turn the network's outputs for one video into detections, best first.

    Snippet t of T covers [t, t+1) / T of the duration.

    Args:
        class_logits: `[T, C+1]`, background last.
        masks: `[A, T]` in [0, 1]; row a says which snippets belong to the action that covers anchor a.
        video_logits: `[C]`.
        duration_s: Seconds that the T snippets cover.
        classes: Names of the C classes; without them a label is the class index as text.
        compat: `"stale"` for the published decoding, defects included.
        external: Label and score that an external classifier gives the video. The label replaces that of every
            detection whose score is lower (docs/protocol.md §4 (e)).
        options: Choices of the default decoding; the published one has none.

    Raises:
        BadDataError: Shapes that do not go together, values that are not finite, masks outside [0, 1].
        UsageError: An unknown `compat`, or options with it.
    """
    if compat not in {None, STALE}:
        raise UsageError("compat", f"is {compat!r}", f"give {STALE!r}, or leave it out")
    if compat == STALE and options is not None:
        raise UsageError("decode options", f"do not apply to compat={STALE!r}", "leave one of the two out")
    outputs = _checked(class_logits, masks, video_logits)
    _check_names(len(outputs[2]), duration_s, classes, external)
    if compat == STALE:
        times_s, labels, scores = _decode_published(outputs[0], outputs[1], duration_s)
    else:
        times_s, labels, scores = _decode_default(*outputs, duration_s, options or _DEFAULTS)
    named = [classes[index] for index in labels] if classes is not None else [str(index) for index in labels]
    rows = zip(*times_s.T.tolist(), named, scores, strict=True)
    # As `_make` does, without a call of its own for each.
    found: list[Detection] = list(map(_NEW_TUPLE, repeat(Detection), rows))
    if not (times_s[:, 0] < times_s[:, 1]).all():
        found = [detection for detection in found if detection.start_s < detection.end_s]
    return found if external is None else enhance(found, *external, unique=compat is None)


def _decode_default(
    class_logits: Float32Array,
    masks: Float32Array,
    video_logits: Float32Array,
    duration_s: float,
    options: DecodeOptions,
) -> tuple[FloatArray, list[int], list[float]]:
    """Starts and ends in seconds `[N, 2]`, class indices and scores."""
    found = propose(class_logits, masks, video_logits, options)
    kept, scores = soft_nms(
        found.segments,
        found.scores,
        found.labels,
        sigma=options.sigma,
        min_score=options.min_score,
        limit=options.max_detections,
    )
    times_s = np.minimum(found.segments[kept] * duration_s / len(class_logits), duration_s)
    return times_s, found.labels[kept].tolist(), scores.tolist()


def _decode_published(
    class_logits: Float32Array, masks: Float32Array, duration_s: float
) -> tuple[FloatArray, list[int], list[float]]:
    """Starts and ends in seconds `[N, 2]`, class indices and scores."""
    found = published_proposals(class_logits, masks)
    kept, scores = published_soft_nms(found.segments, found.scores)
    return found.segments[kept] * duration_s, [found.label] * len(kept), scores.tolist()


def _checked(class_logits: Any, masks: Any, video_logits: Any) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Convert the three outputs to float32, checked against each other."""
    logits = _array("class_logits", class_logits, 2)
    rows = _array("masks", masks, 2)
    video = _array("video_logits", video_logits, 1)
    if logits.shape[1] != len(video) + 1:
        raise BadDataError(
            "class_logits",
            f"has {logits.shape[1]} columns, video_logits has {len(video)} classes",
            "give one column for each class and one for the background",
        )
    if rows.shape[1] != len(logits):
        raise BadDataError("masks", f"cover {rows.shape[1]} snippets, class_logits {len(logits)}")
    if rows.min() < 0.0 or rows.max() > 1.0:
        raise BadDataError("masks", f"reach from {rows.min():g} to {rows.max():g}", "they must lie in [0, 1]")
    return logits, rows, video


def _array(name: str, value: Any, axes: int) -> Float32Array:
    """`value` as a finite float32 array of that many axes, none of them empty."""
    array = np.asarray(value)
    if array.ndim != axes or 0 in array.shape or array.dtype.kind not in "fiu":
        raise BadDataError(
            name, f"has shape {array.shape} and type {array.dtype}", f"give numbers on {axes} axes, none empty"
        )
    if array.dtype != np.float32:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise BadDataError(name, f"holds {np.count_nonzero(~np.isfinite(array))} values that are not finite")
    return array


def _check_names(
    count: int, duration_s: float, classes: Sequence[str] | None, external: tuple[str, float] | None
) -> None:
    """Refuse a duration, names or an external verdict that cannot be used."""
    check_duration(duration_s)
    if classes is not None and len(classes) != count:
        raise BadDataError("classes", f"are {len(classes)} names for {count} classes")
    if external is not None and not np.isfinite(external[1]):
        raise BadDataError("external", f"has score {external[1]}", "give a finite number")


def _check_info(info: ModelInfo) -> None:
    if info.anchors < 1:
        raise BadDataError("stale_edge.anchors", f"is {info.anchors}, not 1 or more", "export the file again")


def _axes(info: ModelInfo) -> Mapping[str, tuple[AxisRule, ...]]:
    classes: AxisRule = len(info.classes) or CLASSES
    rows: AxisRule = len(info.classes) + 1 if info.classes else ANY_NAME
    return {
        CLASS_LOGITS: (BATCH, SNIPPETS, rows),
        MASKS: (BATCH, info.anchors, SNIPPETS),
        VIDEO_LOGITS: (BATCH, classes),
    }


def _shapes(info: ModelInfo, snippets: int, classes: int) -> Mapping[str, tuple[int, ...]]:
    return {CLASS_LOGITS: (snippets, classes + 1), MASKS: (info.anchors, snippets), VIDEO_LOGITS: (classes,)}


def _activation_floats(info: ModelInfo, snippets: int, classes: int, block: int) -> float:
    """Count floats that are alive at once.

    `SCORE_COPIES` attention matrices `[4, rows, T]` (a folded file attends from a block of rows at a time, a plain one
    from all T), as many matrices of the cross attention, and for each snippet the rows of its features, masks and
    logits. At 8192 snippets of the published size the whole process is predicted to take 377 MiB for a folded fp32 file
    and 343 for its int8 file, where 279 and 233 were measured, and 2,618 for a plain file, where 2,535 were measured.
    """
    dim = info.feature_dim
    scores = SCORE_COPIES * ATTENTION_HEADS * snippets * (min(snippets, block) + classes + 1)
    whole = block >= info.max_snippets
    features = 4 * ATTENTION_HEADS * dim + 4 * dim if whole else 8 * dim
    return scores + snippets * (features + 2 * (info.anchors + classes + 1))


def _decode_outputs(
    outputs: VideoOutputs, duration_s: float, *, classes: Sequence[str], info: ModelInfo, choices: Choices = NO_CHOICES
) -> list[Detection]:
    del info
    parts = (outputs[CLASS_LOGITS], outputs[MASKS], outputs[VIDEO_LOGITS])
    return decode(*parts, duration_s, classes=classes, **choices._asdict())


def _examples(info: ModelInfo, snippets: int, classes: int) -> Mapping[str, VideoOutputs]:
    names = (CLASS_LOGITS, MASKS, VIDEO_LOGITS)
    made = {"clear": clear_outputs, "noisy": noisy_outputs}
    return {kind: dict(zip(names, make(snippets, classes, info.anchors), strict=True)) for kind, make in made.items()}


STALE_HEAD = Head(
    outputs=(CLASS_LOGITS, MASKS, VIDEO_LOGITS),
    check_info=_check_info,
    axes=_axes,
    shapes=_shapes,
    decode=_decode_outputs,
    activation_floats=_activation_floats,
    examples=_examples,
    name_externally=lambda found, external: enhance(found, *external),
)
"""Head of the network `stale`."""
