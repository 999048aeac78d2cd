"""Random parts of a data set: right size, every class kept, the same everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_edge.data.selection import LabelledVideo
from stale_edge.data.splits import hold_out, sample
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.formats.annotations import Instance


def video(name, *labels):
    return LabelledVideo(name, 10.0, tuple(Instance(0.0, 1.0, label) for label in labels))


def many(count):
    return [video(f"v{index}", "A" if index % 2 else "B") for index in range(count)]


LABELS = st.lists(st.lists(st.sampled_from("ABCDEFGH"), min_size=1, max_size=3), min_size=1, max_size=60)
SEEDS = st.integers(0, 2**32)


def classes_of(videos):
    return {instance.label for video in videos for instance in video.instances}


@given(LABELS, st.floats(0.01, 1.0), SEEDS)
def test_every_class_is_kept_and_the_size_is_the_fraction(labels, fraction, seed):
    videos = [video(f"v{index}", *row) for index, row in enumerate(labels)]
    drawn = sample(videos, fraction, seed)
    assert drawn == sorted(set(drawn))
    assert classes_of(videos[index] for index in drawn) == classes_of(videos)
    wanted = int(fraction * len(videos) + 0.5)
    assert wanted <= len(drawn) <= max(wanted, len(classes_of(videos)))


@given(LABELS, st.floats(0.01, 1.0), SEEDS, st.randoms(use_true_random=False))
def test_the_order_of_the_file_does_not_matter(labels, fraction, seed, random):
    videos = [video(f"v{index}", *row) for index, row in enumerate(labels)]
    shuffled = random.sample(videos, len(videos))
    ids = {videos[index].id for index in sample(videos, fraction, seed)}
    assert {shuffled[index].id for index in sample(shuffled, fraction, seed)} == ids


def test_the_draw_never_changes():
    assert sample(many(20), 0.25, 0) == [3, 5, 9, 10, 19]


def test_seeds_draw_all_videos_alike():
    videos, seeds = many(40), 400
    counts = [0] * len(videos)
    for seed in range(seeds):
        drawn = sample(videos, 0.25, seed)
        assert len(drawn) == 10
        for index in drawn:
            counts[index] += 1
    # 100 expected, standard deviation 8.7
    assert min(counts) > 60
    assert max(counts) < 140


def test_a_rare_class_takes_the_place_of_a_common_one():
    videos = [*many(99), video("rare", "C")]
    drawn = [sample(videos, 0.1, seed) for seed in range(20)]
    assert all(99 in indices and len(indices) == 10 for indices in drawn)


def test_a_smaller_fraction_lies_in_a_larger_one():
    videos = many(100)
    assert set(sample(videos, 0.1, 7)) < set(sample(videos, 0.5, 7)) < set(sample(videos, 1.0, 7)) == set(range(100))


def test_hold_out_sets_a_share_aside_and_leaves_every_class():
    videos = [*many(49), video("rare", "C")]
    kept = hold_out(videos, 0.2, 3)
    assert len(kept) == 40
    assert 49 in kept
    assert kept != hold_out(videos, 0.2, 4)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.0001, float("nan")])
def test_fractions_that_are_none(fraction):
    with pytest.raises(UsageError, match="fraction"):
        sample(many(3), fraction, 0)


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan")])
def test_shares_that_are_none(share):
    with pytest.raises(UsageError, match="held-out"):
        hold_out(many(3), share, 0)
