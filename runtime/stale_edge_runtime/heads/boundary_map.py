"""The boundary map's head: from scores of pairs of edges and poolable class evidence to detections.

A video of T snippets has M cells of r = ceil(T / MAX_CELLS) snippets, the last one perhaps shorter. `pair_logits`
`[M, M]` scores the segment from the first cell to the last one; below the diagonal it means nothing. The logits of a
segment's classes are the sum of its `class_logits` `[M, C]` over the root of the sum of its part of `class_gram`
`[M, M]`. `guide` `[T]` is high where the video's likely action is: cells of several snippets are refined by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from stale_edge_runtime.contract import BATCH, CLASS_LOGITS, CLASSES, SNIPPETS
from stale_edge_runtime.decoding import Detection, fuse, localized
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.heads.base import ANY_NAME, NO_CHOICES, AxisRule, Choices, Head, VideoOutputs
from stale_edge_runtime.heads.stale_proposals import DecodeOptions
from stale_edge_runtime.nms import soft_nms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from stale_edge_runtime.contract import ModelInfo

BOUNDARY_MAP = "boundary-map"
PAIR_LOGITS = "pair_logits"
CLASS_GRAM = "class_gram"
GUIDE = "guide"
MAX_CELLS = 128
"""Most cells of a video."""
PEAK_REACH = 2
"""Cells to either side over which a pair must be the highest."""
BEST_SHARE = 0.5
"""Share of the best segment's logits in those of every segment."""
OPTIONS = DecodeOptions(sigma=0.75)
"""Defaults; options of other decodings have no meaning here."""
SMALLEST = 1e-12

Float32Array: TypeAlias = "NDArray[np.float32]"
Float64Array: TypeAlias = "NDArray[np.float64]"
IntArray: TypeAlias = "NDArray[np.int64]"


def cell_size(snippets: int) -> int:
    """Give the snippets of a cell, of a video of so many."""
    return -(-snippets // MAX_CELLS)


def cell_count(snippets: int) -> int:
    """Give the cells of a video of so many snippets."""
    return -(-snippets // cell_size(snippets))


def decode(
    outputs: VideoOutputs, duration_s: float, *, classes: Sequence[str], info: ModelInfo, choices: Choices = NO_CHOICES
) -> list[Detection]:
    """Decode one video; see `heads.base.Decode`.

    Raises:
        UsageError: `compat` is given; there is nothing published to follow.
    """
    del info
    if choices.compat is not None:
        problem = f"is {choices.compat!r}, and {BOUNDARY_MAP} has no published decoding"
        raise UsageError("compat", problem, "leave it out")
    options = choices.options or OPTIONS
    cells, scores = peaks(outputs[PAIR_LOGITS], options.max_candidates)
    kept, scores = soft_nms(
        cells, scores, sigma=options.sigma, min_score=options.min_score, limit=options.max_detections
    )
    if not len(kept):
        return []
    segments = cells[kept]  # [N, 2]
    shares = _shares(outputs, segments)
    joint = scores[:, None] * shares  # [N, C]
    order = np.argsort(-joint, axis=None, kind="stable")[: options.max_detections]
    rows, labels = np.divmod(order[joint.reshape(-1)[order] > options.min_score], joint.shape[1])
    guide = outputs[GUIDE]
    snippets = len(guide)
    times_s = refine(guide, segments)[rows] * (duration_s / snippets)
    times_s = np.minimum(times_s, duration_s)
    found = [
        Detection(start, end, classes[label], min(score, 1.0))
        for (start, end), label, score in zip(
            times_s.tolist(), labels.tolist(), joint[rows, labels].tolist(), strict=True
        )
        if start < end
    ]
    return found if choices.external is None else _name_externally(found, choices.external)


def _name_externally(found: list[Detection], external: tuple[str, float]) -> list[Detection]:
    return fuse(localized(found), [external])


def class_shares(outputs: VideoOutputs, segments: Float64Array) -> Float64Array:
    """Give the share of each class in segments, which may be another network's.

    Args:
        outputs: Outputs by name.
        segments: `[N, 2]` in snippets, the best first, N at least one; cells that are touched count.

    Returns:
        `[N, C]`, rows of sum 1.
    """
    snippets = len(outputs[GUIDE])
    size, count = cell_size(snippets), cell_count(snippets)
    first = np.clip(np.floor(segments[:, 0] / size).astype(np.int64), 0, count - 1)
    last = np.clip(np.ceil(segments[:, 1] / size).astype(np.int64), first + 1, count)
    return _shares(outputs, np.stack((first, last), axis=1))


def _shares(outputs: VideoOutputs, segments: IntArray) -> Float64Array:
    logits = segment_logits(outputs[CLASS_LOGITS], outputs[CLASS_GRAM], segments)
    return _softmax(BEST_SHARE * logits[0] + (1 - BEST_SHARE) * logits)


def peaks(pair_logits: Float32Array, limit: int) -> tuple[IntArray, Float64Array]:
    """Find the pairs that no pair nearby exceeds.

    Args:
        pair_logits: `[M, M]`, first cell and last cell.
        limit: Most to give.

    Returns:
        First edge and last edge `[N, 2]` in cells, and scores `[N]` in [0, 1], best first.
    """
    count = len(pair_logits)
    upper = np.where(np.tri(count, k=-1, dtype=bool), np.float32(-np.inf), pair_logits)
    first, last = np.nonzero((upper >= _highest_near(_highest_near(upper).T).T) & np.isfinite(upper))
    values = upper[first, last].astype(np.float64)
    order = np.argsort(-values, kind="stable")[:limit]
    cells = np.stack((first[order], last[order] + 1), axis=1)
    return cells, 0.5 * (1.0 + np.tanh(0.5 * values[order]))


def segment_logits(class_logits: Float32Array, gram: Float32Array, segments: IntArray) -> Float64Array:
    """Pool class logits over segments.

    Args:
        class_logits: `[M, C]`.
        gram: `[M, M]`.
        segments: `[N, 2]`, first edge and last edge in cells.

    Returns:
        `[N, C]`.
    """
    sums = np.zeros((len(class_logits) + 1, class_logits.shape[1]))
    np.cumsum(class_logits, axis=0, dtype=np.float64, out=sums[1:])
    area = np.zeros((len(gram) + 1, len(gram) + 1))
    np.cumsum(np.cumsum(gram, axis=0, dtype=np.float64), axis=1, out=area[1:, 1:])
    start, end = segments.T
    squares = area[end, end] - area[start, end] - area[end, start] + area[start, start]
    pooled: Float64Array = (sums[end] - sums[start]) / np.sqrt(np.maximum(squares, SMALLEST))[:, None]
    return pooled


def refine(guide: Float32Array, segments: IntArray) -> Float64Array:
    """Put edges of cells on the snippet where the guide changes most within a cell to either side.

    Args:
        guide: `[T]`.
        segments: `[N, 2]`, first edge and last edge in cells.

    Returns:
        `[N, 2]` in snippets; those of the cells where a cell is one snippet.
    """
    snippets = len(guide)
    size = cell_size(snippets)
    edges = np.minimum(segments * size, snippets)
    if size == 1:
        return edges.astype(np.float64)
    refined = edges.copy()
    sums = np.concatenate(([0.0], np.cumsum(guide, dtype=np.float64)))  # [T + 1]
    offsets = np.arange(-size + 1, size)
    for side, sign in ((0, 1.0), (1, -1.0)):
        # An edge of the video itself stays one; else both sides of a split keep a snippet or more.
        at = edges[:, side]
        low, high = np.maximum(at - size, 0), np.minimum(at + size, snippets)
        split = np.clip(at[:, None] + offsets, low[:, None] + 1, np.maximum(high - 1, low + 1)[:, None])  # [N, 2r - 1]
        left, right = split - low[:, None], np.maximum(high[:, None] - split, 1)
        rise = (sums[high][:, None] - sums[split]) / right - (sums[split] - sums[low][:, None]) / left
        gain = sign * rise * np.sqrt(left * right)
        best = split[np.arange(len(at)), gain.argmax(axis=1)]
        inner = (at > 0) & (at < snippets) & (gain.max(axis=1) > 0)
        refined[inner, side] = best[inner]
    crossed = refined[:, 0] >= refined[:, 1]
    refined[crossed] = edges[crossed]
    return refined.astype(np.float64)


def _highest_near(values: Float32Array) -> Float32Array:
    """Highest value of each row within `PEAK_REACH` columns."""
    padded = np.pad(values, ((0, 0), (PEAK_REACH, PEAK_REACH)), constant_values=-np.inf)
    highest = values.copy()
    for offset in range(2 * PEAK_REACH + 1):
        np.maximum(highest, padded[:, offset : offset + values.shape[1]], out=highest)
    return highest


def _softmax(logits: Float64Array) -> Float64Array:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Float64Array = odds / odds.sum(axis=1, keepdims=True)
    return shares


def _axes(info: ModelInfo) -> Mapping[str, tuple[AxisRule, ...]]:
    return {
        PAIR_LOGITS: (BATCH, ANY_NAME, ANY_NAME),
        CLASS_LOGITS: (BATCH, ANY_NAME, len(info.classes) or CLASSES),
        CLASS_GRAM: (BATCH, ANY_NAME, ANY_NAME),
        GUIDE: (BATCH, SNIPPETS),
    }


def _shapes(info: ModelInfo, snippets: int, classes: int) -> Mapping[str, tuple[int, ...]]:
    del info
    cells = cell_count(snippets)
    return {
        PAIR_LOGITS: (cells, cells),
        CLASS_LOGITS: (cells, classes),
        CLASS_GRAM: (cells, cells),
        GUIDE: (snippets,),
    }


def _activation_floats(info: ModelInfo, snippets: int, classes: int, block: int) -> float:
    """Count floats that are alive at once: snippets twice, and for each cell its features, pairs and classes."""
    del block
    cells = cell_count(snippets)
    return 3 * snippets * info.feature_dim + cells * (4 * info.feature_dim + 4 * 32 * cells + classes)


def _examples(info: ModelInfo, snippets: int, classes: int) -> Mapping[str, VideoOutputs]:
    rng = np.random.default_rng([snippets, classes])
    cells = cell_count(snippets)
    evidence = rng.normal(0.0, 1.0, (cells, classes)).astype(np.float32)
    vectors = rng.normal(0.0, 1.0, (cells, 16)).astype(np.float32)
    shared = {CLASS_LOGITS: evidence, CLASS_GRAM: vectors @ vectors.T, GUIDE: rng.random(snippets, np.float32)}
    noisy = rng.normal(-3.0, 1.0, (cells, cells)).astype(np.float32)
    clear = np.full((cells, cells), -9.0, np.float32)
    clear[cells // 4, cells // 2] = clear[cells // 2, 3 * cells // 4] = 3.0
    del info
    return {"clear": {PAIR_LOGITS: clear, **shared}, "noisy": {PAIR_LOGITS: noisy, **shared}}


def _check_info(info: ModelInfo) -> None:
    del info  # the outputs say everything


BOUNDARY_MAP_HEAD = Head(
    outputs=(PAIR_LOGITS, CLASS_LOGITS, CLASS_GRAM, GUIDE),
    check_info=_check_info,
    axes=_axes,
    shapes=_shapes,
    decode=decode,
    activation_floats=_activation_floats,
    examples=_examples,
    name_externally=_name_externally,
    class_shares=class_shares,
    localizes=True,
)
"""Head of the network `boundary-map`."""
