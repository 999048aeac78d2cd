"""Ground truth in all its forms, and what is refused."""

from __future__ import annotations

import json

import pytest

from stale_edge_runtime.errors import BadDataError, InputMissingError, UsageError
from stale_edge_runtime.formats.annotations import Annotations, Dirt, Instance, Video, read_annotations

ARCHERY = {"segment": [1, 2.5], "label": "Archery"}
OFFICIAL = {"subset": "validation", "duration": 10.0, "annotations": [ARCHERY]}
PUBLISHED = {"duration_second": 20.0, "duration_frame": 500, "feature_frame": 480, "annotations": [ARCHERY]}


def written(folder, content, name="gt.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def video(name, *instances, subset="test", duration=10.0):
    return Video(name, subset, duration, tuple(Instance(*instance) for instance in instances))


def test_official_form(tmp_path):
    path = written(tmp_path, {"version": "1.3", "taxonomy": [], "database": {"abc": OFFICIAL}})
    annotations = read_annotations(path)
    assert annotations.videos == (Video("abc", "validation", 10.0, (Instance(1.0, 2.5, "Archery"),)),)
    assert annotations.source == str(path)


def test_thumos_form_without_duration_and_with_text_for_numbers(tmp_path):
    entry = {"subset": "test", "annotations": [{"segment": ["18.6", "24.8"], "label": "HighJump"}]}
    annotations = read_annotations(written(tmp_path, {"database": {"video_test_0000896": entry}}))
    assert annotations.videos == (Video("video_test_0000896", "test", None, (Instance(18.6, 24.8, "HighJump"),)),)
    assert annotations.is_thumos


def test_published_form_takes_subsets_from_the_csv_beside_it(tmp_path):
    written(tmp_path, "video,subset,fps\nv_a,training,30\nv_b,validation,30\n", "video_info_new.csv")
    path = written(tmp_path, {"v_a": PUBLISHED, "v_b": PUBLISHED | {"annotations": []}})
    annotations = read_annotations(path)
    assert [(v.id, v.subset, v.duration_s) for v in annotations.videos] == [
        ("a", "training", 20.0),
        ("b", "validation", 20.0),
    ]
    assert annotations.videos[0].featured_s == pytest.approx(480 / 500 * 20)


def test_published_form_takes_the_csv_that_is_named(tmp_path):
    info = written(tmp_path, "subset,video\ntest,v_a\n", "other.csv")
    assert read_annotations(written(tmp_path, {"v_a": PUBLISHED}), video_info=info).subsets == {"test": 1}


@pytest.mark.parametrize(
    ("csv", "word"),
    [
        ("video,subset\n", "v_a has no line in"),
        ("video,other\nv_a,x\n", "'subset'"),
        ("", "v_a has no line in"),
        ("video,subset\nv_a\n", "line without a subset"),
        ("video,subset\nv_a,x\nv_a,y\n", "names a video twice"),
        (f"video,subset\nv_a,{'x' * 200_000}\n", "cannot be used"),
    ],
)
def test_bad_csv_is_named(tmp_path, csv, word):
    written(tmp_path, csv, "video_info_new.csv")
    with pytest.raises(BadDataError, match=r"video_info_new\.csv") as caught:
        read_annotations(written(tmp_path, {"v_a": PUBLISHED}))
    assert word in str(caught.value)


def test_csv_that_is_not_text_is_named(tmp_path):
    (tmp_path / "video_info_new.csv").write_bytes(b"video,subset\n\xff\xfe,x\n")
    with pytest.raises(BadDataError, match=r"video_info_new\.csv"):
        read_annotations(written(tmp_path, {"v_a": PUBLISHED}))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputMissingError, match=r"none\.json"):
        read_annotations(tmp_path / "none.json")


def test_published_form_does_without_its_csv(tmp_path):
    found = read_annotations(written(tmp_path, {"v_a": PUBLISHED}))
    assert found.subsets == {"all": 1}
    assert found.default_subset == "all"
    assert "no video_info_new.csv beside it" in found.notes[0]
    with pytest.raises(InputMissingError, match=r"other\.csv"):
        read_annotations(written(tmp_path, {"v_a": PUBLISHED}), video_info=tmp_path / "other.csv")
    entry = {key: value for key, value in PUBLISHED.items() if key not in {"feature_frame", "duration_frame"}}
    names = ("v_video_test_0000004", "v_video_validation_0000051")
    found = read_annotations(written(tmp_path, dict.fromkeys(names, entry)))
    assert found.subsets == {"test": 1, "validation": 1}
    assert not found.left_out


WRAPPED = {"a": OFFICIAL, "b": OFFICIAL}


@pytest.mark.parametrize("content", [WRAPPED, {"GT": WRAPPED}, {"version": 1, "x": WRAPPED}])
def test_official_form_does_without_its_wrapper(tmp_path, content):
    whole = read_annotations(written(tmp_path, {"database": WRAPPED}))
    assert read_annotations(written(tmp_path, content)) == whole


@pytest.mark.parametrize("content", [{"x": WRAPPED, "y": WRAPPED}, {"a": OFFICIAL, "b": 1}, {"database": {}}])
def test_several_wrappers_or_other_content_are_refused(tmp_path, content):
    with pytest.raises(BadDataError, match="has no videos under 'database'"):
        read_annotations(written(tmp_path, content))


def test_published_video_named_with_and_without_prefix_is_refused(tmp_path):
    written(tmp_path, "video,subset\nv_a,x\na,x\n", "video_info_new.csv")
    with pytest.raises(BadDataError, match="twice"):
        read_annotations(written(tmp_path, {"v_a": PUBLISHED, "a": PUBLISHED}))


def entry_with(annotation):
    return {"database": {"abc": OFFICIAL | {"annotations": [ARCHERY, ARCHERY | annotation]}}}


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"database":' * 100_000, "is not JSON"),
        ("\x00\x01", "is not JSON"),
        ("null", "holds no annotations"),
        ("{}", "holds no annotations"),
        ([OFFICIAL], "holds no annotations"),
        ({"database": {}}, "no videos"),
        ({"database": [OFFICIAL]}, "no videos"),
        ({"other": 1}, "no videos"),
        ({"database": {"abc": 1}}, "abc is not an object"),
        ({"database": {"../../etc": OFFICIAL}}, "etc' is no id"),
        ({"database": {"": OFFICIAL}}, "is no id"),
        ({"database": {"a" * 256: OFFICIAL}}, "is no id"),
        ({"database": {"abc": OFFICIAL | {"subset": 1}}}, "abc has no subset"),
        ({"database": {"abc": {"duration": 1, "annotations": []}, "d": OFFICIAL}}, "abc has no subset"),
        ({"database": {"abc": OFFICIAL | {"duration": 0}}}, "duration"),
        ({"database": {"abc": OFFICIAL | {"duration": [1]}}}, "duration"),
        ({"database": {"abc": OFFICIAL | {"annotations": {}}}}, "no list 'annotations'"),
        ({"database": {"abc": {"subset": "x"}}}, "no list 'annotations'"),
        (entry_with({"segment": [2, 1]}), "annotation 1 from 2.0 to 1.0"),
        (entry_with({"segment": [-1, 1]}), "annotation 1 from -1.0 to 1.0"),
        (entry_with({"segment": ["x", "2"]}), "annotation 1 whose segment is not two finite numbers"),
        (entry_with({"segment": ["nan", "2"]}), "not two finite numbers"),
        (entry_with({"segment": ["1_0", "20"]}), "not two finite numbers"),
        (entry_with({"segment": [True, 2]}), "not two finite numbers"),
        (entry_with({"segment": [0, 10**400]}), "not two finite numbers"),
        (entry_with({"segment": [0]}), "annotation 1 that is not in the schema"),
        (entry_with({"segment": None}), "annotation 1 that is not in the schema"),
        (entry_with({"label": 4}), "annotation 1 whose class is a number; name the classes with --class-names"),
        (entry_with({"label": "a\u0007"}), "is no printable name"),
        (entry_with({"label": "\ud800"}), "is no printable name"),
        ({"database": {"abc": OFFICIAL | {"annotations": ["x"]}}}, "annotation 0 that is not in the schema"),
        (
            '{"database": {"abc": {"subset": "x", "annotations": [{"segment": [0, 1e999], "label": "x"}]}}}',
            "not two finite numbers",
        ),
        (
            '{"database": {"abc": {"subset": "x", "duration": Infinity, "annotations": []}}}',
            "duration that is no positive number",
        ),
        ('{"database": {"abc": {}, "abc": {}}}', "'abc' twice"),
        ('{"v_a": {"duration_second": 1, "annotations": []}, "v_b": 3}', "video"),
    ],
)
def test_hostile_files_are_refused_by_name(tmp_path, content, word):
    path = written(tmp_path, content, "hostile.json")
    written(tmp_path, "video,subset\nv_a,x\nv_b,x\n", "video_info_new.csv")
    with pytest.raises(BadDataError) as caught:
        read_annotations(path, strict=True)
    assert "hostile.json" in str(caught.value)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_subset_is_found_whatever_its_capitals():
    annotations = Annotations("gt.json", (video("a", subset="Test"), video("b", subset="Validation")))
    assert [v.id for v in annotations.subset("test").videos] == ["a"]
    with pytest.raises(UsageError, match=r"no subset 'training'; there are: Test \(1 videos\), Validation"):
        annotations.subset("training")


@pytest.mark.parametrize(
    ("filled", "empty", "expected"),
    [
        (["training", "validation"], ["testing"], "validation"),
        (["Validation", "Test"], [], "Test"),
        (["test", "train"], [], "test"),
        (["mine"], ["test"], "mine"),
    ],
)
def test_default_subset_is_the_usual_one_with_instances(filled, empty, expected):
    videos = [video(f"f{i}", (0.0, 1.0, "x"), subset=name) for i, name in enumerate(filled)]
    videos += [video(f"e{i}", subset=name) for i, name in enumerate(empty)]
    assert Annotations("gt.json", tuple(videos)).default_subset == expected


def test_no_default_subset_where_none_is_usual():
    videos = tuple(video(name, (0.0, 1.0, "x"), subset=name) for name in ("north", "south"))
    with pytest.raises(UsageError, match="north, south; name one with --subset"):
        _ = Annotations("gt.json", videos).default_subset
    with pytest.raises(BadDataError, match="no instances"):
        _ = Annotations("gt.json", (video("a"),)).default_subset


def test_restriction_keeps_the_instances_of_classes_and_the_videos_that_hold_them():
    annotations = Annotations("gt.json", (video("a", (0, 1, "x"), (1, 2, "y")), video("b", (0, 1, "y")), video("c")))
    assert annotations.restricted_to(["x"]).videos == (video("a", (0, 1, "x")),)


def test_dirt_is_counted_and_kept():
    dirty = Annotations(
        "gt.json",
        (
            video("a", (1, 1, "x"), (2, 3, "x"), (2, 3, "x"), (2, 3, "y")),
            video("b", (9, 11, "x"), (10, 10, "x")),
            video("c", (9, 11, "x"), duration=None),
        ),
    )
    assert dirty.dirt == Dirt(zero_length=2, duplicates=1, past_end=1, several_classes=1)
    assert dirty.instance_count == 7


@pytest.mark.parametrize(
    ("name", "subset", "videos", "instances", "dirt"),
    [
        ("activitynet/validation_ground_truth.json", "validation", 4728, 7293, Dirt(3, 17, 71, 6)),
        ("activitynet/anet_anno_action.json", "validation", 4728, 7293, None),
        ("activitynet/anet_anno_action.json", "training", 9649, 14859, None),
        ("thumos14/thumos_gt.json", "test", 210, 3311, Dirt(0, 0, 0, 34)),
        ("thumos14/thumos_fps.json", "test", 212, 3358, None),
    ],
)
def test_real_files(shared, name, subset, videos, instances, dirt):
    annotations = read_annotations(shared / "data" / name).subset(subset)
    assert len(annotations.videos) == videos
    assert instances in {None, annotations.instance_count}
    assert dirt in {None, annotations.dirt}
    assert annotations.is_thumos == ("thumos" in name)


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ({"segment": [2, 1]}, "segments that end before they start"),
        ({"segment": [-0.04, 1]}, "segments that start before the video"),
        ({"segment": [0, float("nan")]}, "segments that are not two finite numbers"),
        ({"label": 4}, "annotations whose class is a number"),
    ],
)
def test_an_unusable_annotation_leaves_the_others(tmp_path, bad, kind):
    path = written(tmp_path, entry_with(bad), "gt.json")
    found = read_annotations(path)
    assert len(found.videos[0].instances) == 1
    assert {name: item.count for name, item in found.left_out.items()} == {kind: 1}
    assert str(path) in found.left_out[kind].first
    assert "annotation 1" in found.left_out[kind].first


def test_a_duration_of_zero_is_unknown(tmp_path):
    found = read_annotations(written(tmp_path, {"database": {"abc": OFFICIAL | {"duration": 0}}}, "gt.json"))
    assert found.videos[0].duration_s is None
    assert list(found.left_out) == ["videos whose duration is no positive number"]


def test_a_file_of_unusable_annotations_alone_is_refused(tmp_path):
    content = {"database": {"abc": OFFICIAL | {"annotations": [ARCHERY | {"segment": [2, 1]}]}}}
    with pytest.raises(BadDataError, match=r"annotation 0 from 2.0 to 1.0"):
        read_annotations(written(tmp_path, content, "gt.json"))


def test_a_bad_duration_does_not_refuse_a_file_that_holds_durations_alone(tmp_path):
    durations = {"a": 0, "b": 12.5}
    database = {name: {"subset": "test", "duration": value, "annotations": []} for name, value in durations.items()}
    found = read_annotations(written(tmp_path, {"database": database}, "gt.json"))
    assert [video.duration_s for video in found.videos] == [None, 12.5]
    assert [item.count for item in found.left_out.values()] == [1]
