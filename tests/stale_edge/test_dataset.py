"""Real data as a source of training videos, and what of it reaches the loss."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from stale_edge.data.dataset import AnnotatedFeatures, TrainingVideo, collate
from stale_edge.data.feature_store import FeatureStore
from stale_edge.data.selection import Reason, select
from stale_edge.networks.stale.config import ModelConfig
from stale_edge.networks.stale.spec import STALE_SPEC
from stale_edge_runtime.corpus import VideoFile
from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.formats.annotations import Annotations, Instance, Video, read_annotations

WIDTH = 8
SEEN = ("Archery", "Long jump", "Tennis")
UNSEEN = ("Bowling", "Surfing")


def write(folder, videos, name="annotations.json"):
    """Annotations `{id: (subset, duration, [(start, end, label)])}` and a feature file for every video."""
    database = {}
    for index, (video_id, (subset, duration, instances)) in enumerate(videos.items()):
        annotations = [{"segment": [start, end], "label": label} for start, end, label in instances]
        database[video_id] = {"subset": subset, "duration": duration, "annotations": annotations}
        if duration is None:
            del database[video_id]["duration"]
        rows = np.random.default_rng(index).standard_normal((20 + index, WIDTH))
        np.save(folder / f"v_{video_id}.npy", rows.astype(np.float32))
    path = folder / name
    path.write_text(json.dumps({"database": database}))
    return path


def opened(annotations, **more):
    return AnnotatedFeatures.open(annotations, annotations.parent, feature_dim=WIDTH, length=10, **more)


def split(folder, *names):
    path = folder / "classes.txt"
    path.write_text("\n".join(names))
    return path


MIXED = {
    "a": ("training", 10.0, [(0, 4, "Archery"), (3, 8, "Bowling")]),
    "b": ("training", 10.0, [(2, 6, "Bowling")]),
    "c": ("training", 20.0, [(0, 20, "Tennis"), (25, 30, "Tennis")]),
    "d": ("training", 10.0, []),
    "e": ("training", 10.0, [(12, 13, "Tennis")]),
    "f": ("validation", 10.0, [(0, 1, "Long jump")]),
}


def test_closed_set(tmp_path):
    source = opened(write(tmp_path, MIXED))
    assert source.classes == ("Archery", "Bowling", "Long jump", "Tennis")
    videos = [source.video(index, epoch=0) for index in range(len(source))]
    assert [video.id for video in videos] == ["a", "b", "c"]
    assert [video.duration_s for video in videos] == [10.0, 10.0, 20.0]
    assert videos[0].instances == (Instance(0, 4, "Archery"), Instance(3, 8, "Bowling"))
    assert videos[2].instances == (Instance(0, 20, "Tennis"),)
    assert all(video.features.shape == (10, WIDTH) and video.features.dtype == np.float32 for video in videos)
    assert source.left_out == {Reason.NO_INSTANCE: 1, Reason.AFTER_END: 2, Reason.ALL_AFTER_END: 1}


def test_open_set_keeps_seen_instances_and_hides_the_others(tmp_path):
    source = opened(write(tmp_path, MIXED), split=split(tmp_path, *SEEN))
    assert source.classes == SEEN
    videos = [source.video(index, epoch=0) for index in range(len(source))]
    assert [(video.id, video.instances, video.hidden) for video in videos] == [
        ("a", (Instance(0, 4, "Archery"),), ((3, 8),)),
        ("c", (Instance(0, 20, "Tennis"),), ()),
    ]
    assert source.left_out[Reason.OTHER_CLASSES] == 2
    assert source.left_out[Reason.NO_CLASS] == 1
    targets = collate(videos, source.classes, STALE_SPEC, ModelConfig(anchors=10)).targets
    assert targets.snippet_classes[0].tolist() == [0] * 4 + [3] * 6
    assert targets.known[0].tolist() == [True] * 4 + [False] * 4 + [True] * 2


def test_compat_teaches_the_last_instance_and_the_rest_as_background(tmp_path):
    path = write(
        tmp_path,
        {
            "a": ("training", 10.0, [(3, 8, "Bowling"), (0, 4, "Archery")]),
            "b": ("training", 10.0, [(0, 4, "Archery"), (3, 8, "Bowling")]),
            "c": ("training", 10.0, [(0, 9, "Archery"), (1, 1.5, "Archery")]),
            "d": ("training", 10.0, [(1, 1.6, "Archery")]),
        },
    )
    source = opened(path, split=split(tmp_path, *SEEN), compat="stale")
    assert [source.video(index, 0).id for index in range(len(source))] == ["a", "d"]
    assert source.left_out == {
        Reason.NOT_LAST: 3,
        Reason.OTHER_CLASSES: 1,
        Reason.NO_CLASS: 1,
        Reason.TOO_SHORT: 1,
    }
    assert collate(
        [source.video(0, 0)], source.classes, STALE_SPEC, ModelConfig(anchors=10), compat="stale"
    ).targets.known.all()


INSTANCES = st.tuples(st.floats(0, 12), st.floats(0, 12), st.sampled_from(SEEN + UNSEEN)).map(
    lambda i: Instance(min(i[:2]), max(i[:2]), i[2])
)
VIDEOS = st.lists(st.lists(INSTANCES, max_size=5), min_size=1, max_size=6)


@pytest.mark.parametrize("compat", [None, "stale"])
def test_open_set_training_never_sees_an_unseen_label(tmp_path, compat):
    """Inputs of the loss are the same whatever the unseen classes are called, and name none of them."""
    path = tmp_path / "features.npy"
    np.save(path, np.ones((4, WIDTH), np.float32))

    def batch(videos):
        annotations = Annotations("test", tuple(videos))
        selection = select(annotations, SEEN, compat=compat)
        count = len(selection.videos)
        store = FeatureStore([VideoFile("a", path)] * count, WIDTH, length=12, cache_mb=1)
        source = AnnotatedFeatures(list(zip(selection.videos, range(count), strict=True)), SEEN, store, {})
        drawn = [source.video(index, epoch=0) for index in range(count)]
        assert not any(name in repr(video) for video in drawn for name in (*UNSEEN, "Renamed"))
        return collate(drawn, source.classes, STALE_SPEC, ModelConfig(anchors=12), compat=compat) if drawn else None

    @settings(max_examples=60)
    @given(VIDEOS)
    def check(rows):
        videos = [Video(f"v{index}", "training", 10.0, tuple(row)) for index, row in enumerate(rows)]
        renamed = [
            Video(
                v.id,
                v.subset,
                10.0,
                tuple(i if i.label in SEEN else Instance(i.start_s, i.end_s, "Renamed") for i in v.instances),
            )
            for v in videos
        ]
        found, other = batch(videos), batch(renamed)
        if found is None:
            assert other is None
            return
        for one, two in zip(found.targets.tensors(), other.targets.tensors(), strict=True):
            assert torch.equal(one, two)
        assert torch.equal(found.features, other.features)
        targets = found.targets
        assert targets.video_classes.shape[1] == len(SEEN)
        assert targets.snippet_classes.max() <= len(SEEN)
        assert torch.equal(targets.foreground, targets.snippet_classes < len(SEEN))

    check()


@settings(max_examples=60)
@given(VIDEOS)
def test_every_instance_is_taught_or_counted(rows):
    videos = tuple(Video(f"v{index}", "training", 10.0, tuple(row)) for index, row in enumerate(rows))
    annotations = Annotations("test", videos)
    selection = select(annotations, SEEN)
    lost = {"videos": 0, "instances": 0}
    for reason, count in selection.left_out.items():
        assert count > 0
        lost[str(reason).split()[0]] += count
    assert len(selection.videos) + lost["videos"] == len(videos)
    assert selection.instance_count + lost["instances"] == annotations.instance_count


def test_videos_without_features_are_counted(tmp_path):
    path = write(tmp_path, MIXED)
    (tmp_path / "v_b.npy").unlink()
    source = opened(path)
    assert len(source) == 2
    assert source.left_out[Reason.NO_FEATURES] == 1


def test_unknown_durations_come_from_the_snippets(tmp_path):
    path = write(tmp_path, {"a": ("train", None, [(0, 4, "Archery")]), "b": ("train", 10.0, [(0, 4, "Archery")])})
    assert opened(path).left_out == {Reason.NO_DURATION: 1}
    source = opened(path, snippet_s=0.5)
    assert source.left_out == {}
    assert [source.video(index, 0).duration_s for index in range(2)] == [20 * 0.5, 10.0]


def test_fraction_and_hold_out(tmp_path):
    path = write(tmp_path, {f"v{i}": ("training", 10.0, [(0, 4, SEEN[i % 3])]) for i in range(30)})
    half = opened(path, fraction=0.5, seed=1)
    assert len(half) == 15
    assert half.left_out == {Reason.NOT_SAMPLED: 15}
    kept, held = half.hold_out(0.2, seed=1)
    ids = [{part.video(index, 0).id for index in range(len(part))} for part in (half, kept, held)]
    assert (len(kept), len(held)) == (12, 3)
    assert ids[1] | ids[2] == ids[0]
    by_id = {half.video(index, 0).id: half.video(index, 0).features for index in range(15)}
    for part in (kept, held):
        for index in range(len(part)):
            np.testing.assert_array_equal(part.video(index, 0).features, by_id[part.video(index, 0).id])


def test_nothing_left_says_why(tmp_path):
    path = write(tmp_path, {"a": ("training", 10.0, [(0, 4, "Bowling")])})
    with pytest.raises(
        BadDataError, match=r"nothing of subset training to train on; .*1 videos without an instance of"
    ):
        opened(path, split=split(tmp_path, *SEEN))


def test_a_subset_that_is_not_there(tmp_path):
    path = write(tmp_path, {"a": ("odd", 10.0, [(0, 4, "Bowling")])})
    with pytest.raises(UsageError, match="no subset that is usual for training; with instances: odd"):
        opened(path)
    assert len(opened(path, subset="odd")) == 1


class Examples(torch.utils.data.Dataset):
    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        return self.source.video(index, 0)


def test_workers_share_what_any_of_them_has_read(tmp_path):
    path = write(tmp_path, {f"v{i}": ("training", 10.0, [(0, 4, SEEN[i % 3])]) for i in range(8)})
    source = opened(path)

    def epoch():
        loader = DataLoader(
            Examples(source),
            batch_size=2,
            num_workers=2,
            collate_fn=lambda videos: collate(videos, source.classes, STALE_SPEC, ModelConfig(anchors=10)),
            multiprocessing_context="fork",
        )
        return torch.cat([batch.features for batch in loader])

    first = epoch()
    for file in tmp_path.glob("*.npy"):
        file.unlink()
    assert torch.equal(epoch(), first)
    assert torch.equal(torch.from_numpy(source.video(3, 0).features), first[3])


@pytest.mark.parametrize("length", [1, 2, 3, 99, 100, 101, 257])
def test_collate_resizes_any_length(length):
    rows = np.random.default_rng(length).standard_normal((length, WIDTH)).astype(np.float32)
    video = TrainingVideo("a", 10.0, (Instance(0, 5, "Archery"),), rows)
    batch = collate([video, video], SEEN, STALE_SPEC, ModelConfig(anchors=100))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(rows.T).double()[None], 100, mode="linear", align_corners=False
    )
    assert batch.features.shape == (2, 100, WIDTH)
    torch.testing.assert_close(batch.features[1], expected[0].T.float(), atol=1e-6, rtol=0)
    assert batch.targets.masks.shape == (2, 100, 100)
    assert batch.targets.foreground[0].sum() == 50


def test_real_annotations_become_targets(shared):
    """All 9,649 training videos of ActivityNet: no instance is emptied, none is lost."""
    path = shared / "data/activitynet/anet_anno_action.json"
    annotations = read_annotations(path)
    selection = select(annotations.subset("training"), None)
    assert (len(selection.videos), selection.instance_count) == (9649, 14859)
    rows = np.zeros((1, 1), np.float32)
    taken = selection.videos[::10]
    videos = [TrainingVideo(v.id, v.duration_s, v.instances, rows) for v in taken]
    targets = collate(videos, annotations.classes, STALE_SPEC, ModelConfig(anchors=100)).targets
    assert targets.known.all()
    assert torch.equal(
        targets.video_classes.sum(dim=1), torch.tensor([len({i.label for i in v.instances}) for v in taken])
    )
    assert targets.foreground.any(dim=1).all()


def test_annotations_that_nobody_can_use_are_counted_among_what_is_left_out(tmp_path):
    good = {"segment": [0, 4], "label": "run"}
    database = {"a": {"subset": "training", "duration": 9, "annotations": [good, good | {"segment": [4, 0]}]}}
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    np.save(tmp_path / "a.npy", np.ones((3, 4), np.float32))
    source = AnnotatedFeatures.open(tmp_path / "gt.json", tmp_path, feature_dim=4, length=10)
    assert dict(source.left_out) == {"segments that end before they start": 1}
