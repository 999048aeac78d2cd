"""Decoding time added to a forward: its time depends on what the network says, so two videos stand for all.

The *clear* video is what a trained network makes of five actions: a few candidates, few detections. The *noisy* one
is what an untrained network says: every curve rises and falls everywhere, and as many detections are kept as may be.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from stale_edge_runtime.bench.records import DecodeCost
from stale_edge_runtime.heads.registry import HEADS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.heads.base import VideoOutputs

LEAST_RUNS = 25
SECONDS = 0.1


def decode_costs(
    lengths: Sequence[int], info: ModelInfo, classes: Sequence[str], *, seconds: float = SECONDS
) -> Iterator[DecodeCost]:
    """Time the decoding of both videos at each length, on this thread.

    Args:
        lengths: Snippets T of the videos.
        info: Metadata of a file; its network says what is decoded.
        classes: Names of the classes.
        seconds: Measuring time of each video at each length.
    """
    for snippets in lengths:
        examples = HEADS[info.network].examples(info, snippets, len(classes))
        clear, noisy = (
            decode_cost_ms(examples[kind], snippets, info, classes, seconds=seconds) for kind in ("clear", "noisy")
        )
        yield DecodeCost(snippets, len(classes), clear, noisy)


def decode_cost_ms(
    outputs: VideoOutputs,
    duration_s: float,
    info: ModelInfo,
    classes: Sequence[str],
    *,
    seconds: float = SECONDS,
) -> float:
    """Measure the median time of decoding one video, warmed up, in milliseconds.

    Args:
        outputs: Outputs of the network, by name.
        duration_s: Length of the video.
        info: Metadata of the file.
        classes: Names of the classes.
        seconds: Measuring time; at least `LEAST_RUNS` runs are made.
    """
    decode = HEADS[info.network].decode
    samples: list[float] = []
    for _ in range(3):
        decode(outputs, duration_s, classes=classes, info=info)
    end = time.perf_counter() + seconds
    while len(samples) < LEAST_RUNS or time.perf_counter() < end:
        started = time.perf_counter()
        decode(outputs, duration_s, classes=classes, info=info)
        samples.append(time.perf_counter() - started)
    return 1e3 * float(np.median(samples))
