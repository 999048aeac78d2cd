"""What the decoding makes of noisy outputs, in mAP: a faster decoding must not be a worse one."""

from __future__ import annotations

import numpy as np
import pytest

from stale_edge_runtime import decode
from stale_edge_runtime.formats.annotations import Annotations, Instance, Video
from stale_edge_runtime.metrics.evaluation import ACTIVITYNET_TIOUS, evaluate

CLASSES = tuple(f"class {index}" for index in range(20))
ANCHORS = 100


def smooth(noise, width):
    kernel = np.ones(width) / np.sqrt(width)
    return np.apply_along_axis(lambda column: np.convolve(column, kernel, "same"), 0, noise)


def noisy_video(seed, snippets):
    """Up to six actions of at most two classes, under smooth noise of several strengths."""
    rng = np.random.default_rng([seed, snippets])
    actions = int(rng.integers(1, 7))
    labels = rng.choice(len(CLASSES), 2, replace=False)
    noise, width, mask_noise = rng.choice([1, 2, 3]), rng.choice([1, 3, 7]), rng.choice([0.4, 1.6, 3.2])
    class_logits = smooth(rng.normal(0, noise, (snippets, len(CLASSES) + 1)), width)
    class_logits[:, -1] += 4
    mask_logits = smooth(rng.normal(0, mask_noise, (snippets, ANCHORS)), width).T - 2
    video_logits = rng.normal(0, 1, len(CLASSES))
    instances, first = [], 0
    for _ in range(actions):
        first += int(rng.integers(1, max(2, snippets // (2 * actions))))
        length = np.clip(rng.lognormal(np.log(snippets / (3 * actions)), 0.6), 2, snippets)
        end = min(first + int(length), snippets)
        if end - first < 2:
            break
        label = int(labels[rng.integers(0, 2)] if rng.random() < 0.4 else labels[0])
        instances.append(Instance(float(first), float(end), CLASSES[label]))
        class_logits[first:end, -1] -= 4
        class_logits[first:end, label] += 4 + 0.7 * noise
        mask_logits[first * ANCHORS // snippets : (end - 1) * ANCHORS // snippets + 1, first:end] += 4
        video_logits[label] = 5
        first = end
    outputs = [class_logits, 1 / (1 + np.exp(-mask_logits)), video_logits]
    return [output.astype(np.float32) for output in outputs], tuple(instances)


@pytest.mark.parametrize("snippets", [50, 200])
def test_decoding_is_worth_its_map(snippets):
    outputs, videos = {}, []
    for seed in range(60):
        video = f"video{seed}"
        outputs[video], instances = noisy_video(seed, snippets)
        videos.append(Video(video, "validation", float(snippets), instances))
    truth = Annotations("planted", tuple(videos))
    ours, published = (
        evaluate(
            truth,
            {name: decode(*video, float(snippets), classes=CLASSES, compat=mode) for name, video in outputs.items()},
            ACTIVITYNET_TIOUS,
        ).average_map
        for mode in (None, "stale")
    )
    assert ours > 0.85
    assert ours > 2 * published
