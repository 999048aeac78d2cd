"""The simulated world against the figures of the real data, and against itself: same seed, same video."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_edge.simulation import SimulatedWorld, WorldConfig
from stale_edge.simulation import measured as real
from stale_edge.simulation.timeline import draw_timeline, overlap
from stale_edge_runtime.errors import BadDataError, InputMissingError, UsageError
from stale_edge_runtime.formats.annotations import read_annotations

VIDEOS = 400
SMALL = WorldConfig(classes=8, seen_classes=6, feature_dim=32, semantic_dim=8)
FROZEN_STARTS = [8.54702]
FROZEN_SHAPE = (58, 32)
FROZEN_FEATURES = [1.13292, -0.72699, 1.6341, -0.04766]


@pytest.fixture(scope="module")
def world():
    return SimulatedWorld()


@pytest.fixture(scope="module")
def videos(world):
    return {stream: list(world.evaluation(stream, VIDEOS)) for stream in ("seen", "unseen")}


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def timelines():
    return [draw_timeline(np.random.default_rng([7, index])) for index in range(6000)]


def test_videos_hold_as_many_instances_as_real_ones(timelines):
    counts = np.array([len(segments) for _, segments in timelines])
    for count, share in real.INSTANCE_COUNTS.items():
        assert np.mean(counts == count) == pytest.approx(share, abs=0.016)
    assert counts.mean() == pytest.approx(1.540, abs=0.05)


@pytest.mark.parametrize(
    ("figure", "quantiles"),  # at 10, 25, 50, 75, 90 %; of all training videos of ActivityNet v1.3
    [
        ("duration_s", (30.3, 61.7, 114.5, 172.7, 210.6)),
        ("coverage", (0.209, 0.438, 0.717, 0.900, 0.987)),
        ("relative length", (0.028, 0.076, 0.324, 0.792, 0.953)),
        ("length_s", (3.6, 8.5, 26.8, 72.7, 134.6)),
        ("start", (0.001, 0.053, 0.198, 0.477, 0.701)),
        ("end", (0.267, 0.510, 0.805, 0.943, 0.995)),
        ("before the first", (0.0, 0.013, 0.087, 0.215, 0.400)),
        ("after the last", (0.001, 0.028, 0.089, 0.201, 0.384)),
    ],
)
def test_instances_lie_as_real_ones(timelines, figure, quantiles):
    values = {
        "duration_s": [duration for duration, _ in timelines],
        "coverage": [np.diff(segments).sum() / duration for duration, segments in timelines],
        "relative length": [x for d, segments in timelines for x in np.diff(segments)[:, 0] / d],
        "length_s": [x for _, segments in timelines for x in np.diff(segments)[:, 0]],
        "start": [x for d, segments in timelines for x in segments[:, 0] / d],
        "end": [x for d, segments in timelines for x in segments[:, 1] / d],
        "before the first": [segments[0, 0] / d for d, segments in timelines],
        "after the last": [1 - segments[-1, 1] / d for d, segments in timelines],
    }[figure]
    drawn = np.quantile(values, (0.1, 0.25, 0.5, 0.75, 0.9))
    scale = 1.0 if quantiles[-1] < 2 else quantiles[-1]
    assert drawn / scale == pytest.approx(np.array(quantiles) / scale, abs=0.045)


def test_the_figures_are_those_of_the_real_annotations(shared):
    annotations = read_annotations(shared / "data/activitynet/anet_anno_action.json").subset("training")
    counts = np.array([len(video.instances) for video in annotations.videos])
    assert {n: round(float(np.mean(counts == n)), 4) for n in real.INSTANCE_COUNTS} == real.INSTANCE_COUNTS
    for group, low, high in ((real.ONE, 1, 1), (real.TWO, 2, 2), (real.FEW, 3, 4), (real.MANY, 5, 99)):
        durations = [v.duration_s for v in annotations.videos if low <= len(v.instances) <= high]
        assert group.durations_s == pytest.approx(np.quantile(durations, real.LEVELS), abs=0.06)
    several = [len({i.label for i in v.instances}) > 1 for v in annotations.videos if len(v.instances) > 1]
    assert np.mean(several) == pytest.approx(real.TWO_CLASSES_SHARE, abs=5e-5)


@settings(max_examples=200)
@given(st.integers(0, 2**40))
def test_instances_are_in_order_apart_and_inside(seed):
    duration, segments = draw_timeline(np.random.default_rng(seed))
    assert 0 < duration < 1000
    flat = segments.ravel()
    assert (segments[:, 0] < segments[:, 1]).all()
    assert (np.diff(flat) >= -1e-9).all()
    assert flat[0] >= 0
    assert flat[-1] <= duration


def clip_figures(features):
    """What `measured` says of the real clip, of [15, D] features."""
    length = np.linalg.norm(features, axis=1)
    around = features - features.mean(axis=0)
    variance = (around**2).sum(axis=1).mean()
    return {
        "norm": length.mean(),
        "mean norm": np.linalg.norm(features.mean(axis=0)),
        "around": np.sqrt(variance),
        "cosine": np.mean((unit(features)[:-1] * unit(features)[1:]).sum(axis=1)),
        "correlation": (around[:-1] * around[1:]).sum(axis=1).mean() / variance,
        "outlier": features.mean(axis=0)[92],
    }


REAL_CLIP = {
    "norm": (real.SNIPPET_NORM, 0.2),
    "mean norm": (real.CLIP_MEAN_NORM, 0.2),
    "around": (real.AROUND_MEAN_NORM, 0.2),
    "cosine": (real.NEIGHBOUR_COSINE, 0.01),
    "correlation": (real.NEIGHBOUR_CORRELATION, 0.05),
    "outlier": (real.OUTLIER_VALUE, 0.2),
}


def test_features_are_like_the_real_clip(world, videos):
    step = round(real.CLIP_SNIPPET_S / world.config.snippet_s)
    clips = [video.features[::step][: real.CLIP_SNIPPETS].astype(float) for video in videos["seen"]]
    figures = [clip_figures(clip) for clip in clips if len(clip) == real.CLIP_SNIPPETS]
    assert len(figures) > 300
    for name, (value, tolerance) in REAL_CLIP.items():
        assert np.mean([figure[name] for figure in figures]) == pytest.approx(value, abs=tolerance), name


def test_the_clip_figures_are_those_of_the_real_clip(shared):
    with np.load(shared / "data/features/clip_vitb32_15snippets.npz") as archive:
        clip = archive[archive.files[0]].reshape(15, 512).astype(float)
    for name, value in clip_figures(clip).items():
        assert value == pytest.approx(REAL_CLIP[name][0], abs=0.04), name


def test_texts_are_like_clips(world):
    text, groups = world.text_embeddings, world.semantics.groups
    assert text.shape == (200, 512)
    assert text.dtype == np.float32
    assert 6.5 < np.linalg.norm(text, axis=1).min() < np.linalg.norm(text, axis=1).max() < 10
    cosines = unit(text) @ unit(text).T
    other = groups[:, None] != groups
    same = ~other & ~np.eye(200, dtype=bool)
    assert cosines[other].mean() == pytest.approx(0.75, abs=0.01)
    assert cosines[same].mean() > 0.84
    assert np.bincount(groups).tolist() == [4] * 50


def zero_shot(world, some, names):
    """Top-1 of videos by raw cosines with all texts; raw cosines with the right text and with all in actions."""
    text = unit(world.text_embeddings)
    right, matched, everything = [], [], []
    for video in some:
        cosines = unit(video.features) @ text.T
        label = names.index(video.instances[0].label)
        right.append(cosines.mean(axis=0).argmax() == label)
        inside = overlap(
            np.array([[i.start_s, i.end_s] for i in video.instances]), video.duration_s, len(video.features)
        )
        active = inside.sum(axis=0) > 0.5
        matched.append(cosines[active, label].mean() if active.any() else np.nan)
        everything.append(cosines.mean())
    return np.mean(right), np.nanmean(matched), np.mean(everything)


def test_zero_shot_accuracy_and_cosines_are_those_of_clip_for_seen_and_unseen_alike(world, videos):
    seen, unseen = (zero_shot(world, videos[stream], world.classes) for stream in ("seen", "unseen"))
    for accuracy, matched, everything in (seen, unseen):
        assert accuracy == pytest.approx(0.64, abs=0.06)
        assert matched == pytest.approx(0.275, abs=0.02)
        assert everything == pytest.approx(0.20, abs=0.02)
    assert seen[0] == pytest.approx(unseen[0], abs=0.08)


def test_a_map_from_text_to_image_learned_on_seen_classes_holds_for_unseen_ones(world):
    seen, unseen = list(world.seen), list(world.unseen)
    text = world.text_embeddings - world.text_embeddings[seen].mean(axis=0)
    looks = world.semantics.class_directions
    ridge = 0.05 * np.eye(512) * np.trace(text[seen].T @ text[seen]) / 512
    learned = np.linalg.solve(text[seen].T @ text[seen] + ridge, text[seen].T @ looks[seen])
    direct = (unit(text[unseen]) * unit(looks[unseen])).sum(axis=1).mean()
    mapped = (unit(text[unseen] @ learned) * unit(looks[unseen])).sum(axis=1).mean()
    own_text = (unit(text[seen]) * unit(looks[seen])).sum(axis=1).mean()
    assert direct == pytest.approx(own_text, abs=0.03)
    assert direct == pytest.approx(world.config.alignment, abs=0.05)
    assert mapped > 0.5  # learned on other classes altogether
    shuffled = (unit(text[unseen[::-1]] @ learned) * unit(looks[unseen])).sum(axis=1).mean()
    assert abs(shuffled) < 0.1


def test_the_surroundings_of_an_action_look_like_its_class_too(world, videos):
    text = world.text_embeddings - world.text_embeddings.mean(axis=0)
    mean = np.mean([video.features.mean(axis=0) for video in videos["seen"]], axis=0)
    inside, outside = [], []
    for video in videos["seen"]:
        label = world.classes.index(video.instances[0].label)
        along = unit(video.features - mean) @ unit(text[label])
        spans = np.array([[i.start_s, i.end_s] for i in video.instances])
        active = overlap(spans, video.duration_s, len(along)).sum(axis=0)
        inside += along[active > 0.5].tolist()
        outside += along[active == 0].tolist()
    assert np.mean(inside) > 1.25 * np.mean(outside) > 0.1


def test_training_is_endless_and_the_rest_is_fixed(world):
    training = world.training(20)
    assert len(training) == 20
    again = SimulatedWorld().training(20)
    for index, epoch in ((3, 0), (3, 1), (19, 7)):
        np.testing.assert_array_equal(training.video(index, epoch).features, again.video(index, epoch).features)
        assert training.video(index, epoch).instances == again.video(index, epoch).instances
    names = {training.video(index, epoch).id for index in range(3) for epoch in range(3)}
    assert len(names) == 9
    assert training.video(3, 0).instances != training.video(3, 1).instances
    fixed = world.evaluation("selection", 5)
    np.testing.assert_array_equal(fixed.video(2, 0).features, fixed.video(2, 9).features)
    assert world.evaluation("seen", 5).video(2, 0).instances != fixed.video(2, 0).instances
    with pytest.raises(IndexError):
        fixed.video(5, 0)


def test_another_seed_is_another_world():
    one, other = SimulatedWorld(WorldConfig(seed=1)), SimulatedWorld(WorldConfig(seed=2))
    assert one.seen != other.seen
    assert np.abs(one.text_embeddings - other.text_embeddings).max() > 0.1


def test_seen_and_unseen_classes_are_apart():
    world = SimulatedWorld(SMALL)
    assert sorted(world.seen + world.unseen) == list(range(8))
    shown = {i.label for epoch in range(5) for n in range(30) for i in world.training(30).video(n, epoch).instances}
    assert shown == set(world.training(1).classes)
    unseen = world.evaluation("unseen", 10)
    assert {i.label for video in unseen for i in video.instances} == set(unseen.classes)
    assert not shown & set(unseen.classes)
    np.testing.assert_array_equal(unseen.text_embeddings, world.text_embeddings[list(world.unseen)])
    with pytest.raises(UsageError, match="all classes are seen"):
        SimulatedWorld(WorldConfig(classes=4, seen_classes=4)).evaluation("unseen", 1)


def test_a_frozen_video_stays_what_it_is():
    """Same numbers on every machine: what a seed gives is part of every result that names it."""
    video = SimulatedWorld(SMALL).training(4).video(1, 2)
    assert [round(i.start_s, 6) for i in video.instances] == FROZEN_STARTS
    assert video.features.shape == FROZEN_SHAPE
    assert video.features[0, :4] == pytest.approx(FROZEN_FEATURES, abs=1e-4)


@pytest.mark.parametrize(("field", "value"), [("classes", 0), ("seed", -1), ("alignment", 1.5), ("snippet_s", 0.0)])
def test_impossible_worlds_are_refused(field, value):
    with pytest.raises(UsageError, match=field):
        WorldConfig(**{field: value})


@pytest.mark.parametrize("content", ["{}", "[]", "not json", '{"format": "stale-edge simulated world", "version": 99}'])
def test_files_that_describe_no_world_are_refused(tmp_path, content):
    (tmp_path / "world.json").write_text(content)
    with pytest.raises(BadDataError, match=r"world\.json"):
        SimulatedWorld.from_file(tmp_path)


def test_a_world_file_with_odd_parameters_is_refused(tmp_path):
    with pytest.raises(InputMissingError):
        SimulatedWorld.from_file(tmp_path)
    good = {"format": "stale-edge simulated world", "version": 1, "world": SMALL.to_dict()}
    path = tmp_path / "world.json"
    path.write_text(json.dumps(good))
    assert SimulatedWorld.from_file(path).config == SMALL
    for change in ({"classes": "8"}, {"classes": 10**9}, {"feature_dim": 10**9}, {"odd": 1}, {"noise_norm": True}):
        path.write_text(json.dumps(good | {"world": good["world"] | change}))
        with pytest.raises(BadDataError, match=r"world\.json"):
            SimulatedWorld.from_file(path)


def test_jittered_boundaries_are_those_of_the_same_videos():
    exact, jittered = (
        SimulatedWorld(replace(WorldConfig(classes=8, seen_classes=6, feature_dim=16, semantic_dim=8), **changes))
        for changes in ({}, {"boundary_jitter": 0.05})
    )
    shares = []
    for one, other in zip(exact.training(60), jittered.training(60), strict=True):
        assert np.array_equal(one.features, other.features)
        for true, moved in zip(one.instances, other.instances, strict=True):
            assert 0 <= moved.start_s < moved.end_s <= one.duration_s
            if true.start_s > 0 and true.end_s < one.duration_s:
                shares.append((moved.end_s - true.end_s) / (true.end_s - true.start_s))
    assert 0.03 < np.std(shares) < 0.07
    assert WorldConfig.from_dict({k: v for k, v in exact.config.to_dict().items() if k != "boundary_jitter"})


def test_a_world_of_short_actions_is_laid_out_as_thumos14():
    config = WorldConfig(classes=8, seen_classes=6, feature_dim=8, semantic_dim=4, layout="thumos14", snippet_s=8.0)
    videos = list(SimulatedWorld(config).training(400))
    counts = [len(video.instances) for video in videos]
    lengths = [item.end_s - item.start_s for video in videos for item in video.instances]
    several = [len({item.label for item in video.instances}) > 1 for video in videos]
    assert 6 <= np.median(counts) <= 10
    assert 11 <= np.mean(counts) <= 18
    assert 2.2 <= np.median(lengths) <= 4.5
    assert 0.08 <= np.mean(several) <= 0.2
    for video in videos:
        ends = [0.0, *(item.end_s for item in video.instances)]
        assert all(item.start_s >= end - 1e-6 for item, end in zip(video.instances, ends, strict=False))
        assert ends[-1] <= video.duration_s + 1e-6
    with pytest.raises(UsageError, match="world parameter layout: is 'kinetics'; give activitynet or thumos14"):
        replace(config, layout="kinetics")
