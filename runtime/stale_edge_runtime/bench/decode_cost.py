"""What the decoding adds to a forward: its time depends on what the network says, so two videos stand for all.

The *clear* video is what a trained network makes of five actions: a few candidates, few detections. The *noisy* one
is what an untrained network says: every curve rises and falls everywhere, and as many detections are kept as may be.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from stale_edge_runtime.bench.records import DecodeCost
from stale_edge_runtime.decoding import decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

Outputs: TypeAlias = "tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]"

ACTIONS = ((0.05, 0.15, 0), (0.2, 0.3, 1), (0.4, 0.45, 0), (0.55, 0.75, 0), (0.8, 0.95, 1))
"""Start and end as shares of the clear video, and which of its two classes."""
LEAST_RUNS = 25
SECONDS = 0.1


def decode_costs(
    lengths: Sequence[int], classes: int, anchors: int, *, seconds: float = SECONDS
) -> Iterator[DecodeCost]:
    """Time the decoding of both videos at each length, on this thread.

    Args:
        lengths: Snippets T of the videos.
        classes: C.
        anchors: A.
        seconds: Measuring time of each video at each length.
    """
    for snippets in lengths:
        clear, noisy = (
            decode_cost_ms(*outputs(snippets, classes, anchors), snippets, seconds=seconds)
            for outputs in (clear_outputs, noisy_outputs)
        )
        yield DecodeCost(snippets, classes, clear, noisy)


def decode_cost_ms(
    class_logits: NDArray[np.float32],
    masks: NDArray[np.float32],
    video_logits: NDArray[np.float32],
    duration_s: float,
    *,
    seconds: float = SECONDS,
) -> float:
    """Median time of decoding one video, warmed up, in milliseconds.

    Args:
        class_logits: `[T, C+1]`, like all of these as `decode` takes it.
        masks: `[A, T]`.
        video_logits: `[C]`.
        duration_s: Of the video.
        seconds: Measuring time; at least `LEAST_RUNS` runs are made.
    """
    samples: list[float] = []
    for _ in range(3):
        decode(class_logits, masks, video_logits, duration_s)
    end = time.perf_counter() + seconds
    while len(samples) < LEAST_RUNS or time.perf_counter() < end:
        started = time.perf_counter()
        decode(class_logits, masks, video_logits, duration_s)
        samples.append(time.perf_counter() - started)
    return 1e3 * float(np.median(samples))


def clear_outputs(snippets: int, classes: int, anchors: int) -> Outputs:
    """Class logits, masks and video logits of a network that sees the actions of `ACTIONS`.

    Args:
        snippets: T.
        classes: C.
        anchors: A.
    """
    rng = np.random.default_rng([snippets, classes, anchors])
    class_logits = rng.normal(0.0, 1.0, (snippets, classes + 1))
    class_logits[:, -1] += 10.0
    masks = rng.uniform(0.0, 0.2, (anchors, snippets))
    video_logits = rng.normal(0.0, 1.0, classes)
    for start, end, number in ACTIONS:
        inside = slice(int(start * snippets), max(int(end * snippets), int(start * snippets) + 1))
        label = min(number, classes - 1)
        class_logits[inside, label] += 12.0
        masks[int(start * anchors) : max(int(end * anchors), int(start * anchors) + 1), inside] += 0.8
        video_logits[label] = 10.0
    masks = np.minimum(masks, 1.0)
    return class_logits.astype(np.float32), masks.astype(np.float32), video_logits.astype(np.float32)


def noisy_outputs(snippets: int, classes: int, anchors: int) -> Outputs:
    """Class logits, masks and video logits of a network that sees nothing.

    Args:
        snippets: T.
        classes: C.
        anchors: A.
    """
    rng = np.random.default_rng([snippets, classes, anchors])
    class_logits = rng.normal(0.0, 3.0, (snippets, classes + 1)).astype(np.float32)
    masks = rng.random((anchors, snippets), dtype=np.float32)
    return class_logits, masks, rng.normal(0.0, 1.0, classes).astype(np.float32)
