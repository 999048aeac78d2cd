"""`stale-edge dataset`, from the words typed to the exit code."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from stale_edge.cli.app import run

ENTRIES = {
    "a": ("training", 10.0, [(0, 4, "Archery"), (3, 8, "Bowling")]),
    "b": ("training", 10.0, [(2, 6, "Bowling"), (2, 2, "Bowling")]),
    "c": ("training", 20.0, [(0, 22, "Tennis")]),
    "d": ("validation", 10.0, [(0, 1, "Tennis")]),
    "e": ("testing", 10.0, []),
}


def entry(subset, duration, instances):
    annotations = [{"segment": [start, end], "label": label} for start, end, label in instances]
    return {"subset": subset, "duration": duration, "annotations": annotations}


@pytest.fixture
def annotations(tmp_path):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"database": {name: entry(*row) for name, row in ENTRIES.items()}}))
    return path


def asked(capsys, *words):
    code = run(["dataset", *map(str, words)])
    spoken = capsys.readouterr()
    return code, spoken.out, spoken.err


def counted(capsys, *words):
    code, out, _ = asked(capsys, *words, "--json", "--quiet")
    assert code == 0
    return json.loads(out)


def sizes(content):
    return {name: (subset["videos"], subset["instances"]) for name, subset in content["subsets"].items()}


def listed(folder, *names):
    path = folder / "classes.txt"
    path.write_text("\n".join(names))
    return path


def test_json(capsys, annotations):
    assert counted(capsys, annotations) == {
        "subsets": {
            "training": {"videos": 3, "instances": 5, "left_out": {}},
            "validation": {"videos": 1, "instances": 1, "left_out": {}},
            "testing": {"videos": 0, "instances": 0, "left_out": {"videos without an instance": 1}},
        },
        "classes": ["Archery", "Bowling", "Tennis"],
    }


def test_table_on_stdout_and_dirt_on_stderr(capsys, annotations):
    code, out, err = asked(capsys, annotations)
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert ["│", "training", "│", "3", "│", "5", "│", "3", "│", "nothing", "│"] in rows
    assert "1 videos without an instance" in out
    assert "zero length 1, exact duplicates 0, past the end of their video 1; videos of several classes 1" in err
    code, _, err = asked(capsys, annotations, "--quiet")
    assert (code, err) == (0, "")


def test_split(capsys, annotations, tmp_path):
    content = counted(capsys, annotations, "--split", listed(tmp_path, "Tennis", "Archery"))
    assert content["classes"] == ["Tennis", "Archery"]
    assert sizes(content) == {"training": (2, 2), "validation": (1, 1), "testing": (0, 0)}
    assert content["subsets"]["training"]["left_out"] == {
        "instances of other classes": 3,
        "videos without an instance of the classes": 1,
    }


def test_compat(capsys, annotations):
    content = counted(capsys, annotations, "--compat", "stale")
    assert sizes(content) == {"training": (2, 2), "validation": (1, 1), "testing": (0, 0)}
    assert content["subsets"]["training"]["left_out"] == {
        "instances before the last one of their video": 2,
        "videos whose last instance is shorter than 6 % of them": 1,
    }


def test_fraction_samples_the_training_videos_alone(capsys, tmp_path):
    rows = {
        f"{subset[0]}{index}": (subset, 10.0, [(0, 4, "A")])
        for subset in ("training", "validation")
        for index in range(20)
    }
    path = tmp_path / "many.json"
    path.write_text(json.dumps({"database": {name: entry(*row) for name, row in rows.items()}}))
    content = counted(capsys, path, "--fraction", 0.25)
    assert sizes(content) == {"training": (5, 5), "validation": (20, 20)}
    assert content["subsets"]["training"]["left_out"] == {"videos outside the sampled fraction": 15}
    content = counted(capsys, path, "--fraction", 0.25, "--subset", "Validation")
    assert sizes(content) == {"training": (20, 20), "validation": (5, 5)}


def test_features(capsys, annotations, tmp_path):
    folder = tmp_path / "features"
    folder.mkdir()
    np.save(folder / "v_a.npy", np.ones((3, 4)))
    np.save(folder / "d.npy", np.ones((3, 4)))
    content = counted(capsys, annotations, "--features", folder)
    assert sizes(content) == {"training": (1, 2), "validation": (1, 1), "testing": (0, 0)}
    assert content["subsets"]["training"]["left_out"] == {"videos without a feature file": 2}
    empty = tmp_path / "empty"
    empty.mkdir()
    code, out, err = asked(capsys, annotations, "--features", empty)
    assert (code, out) == (66, "")
    assert f"error: {empty}: holds no .npy or .npz file and no HDF5 file" in err


def test_unknown_durations_are_said(capsys, annotations, tmp_path):
    content = json.loads(annotations.read_text())
    del content["database"]["a"]["duration"]
    annotations.write_text(json.dumps(content))
    np.save(tmp_path / "a.npy", np.ones((3, 4)))
    code, _, err = asked(capsys, annotations, "--json")
    assert code == 0
    assert "warning: 1 videos have no duration: training needs --snippet-seconds" in err
    found = counted(capsys, annotations, "--features", tmp_path)["subsets"]["training"]
    assert found["left_out"] == {"videos without a feature file": 2, "videos of unknown duration": 1}
    found = counted(capsys, annotations, "--features", tmp_path, "--snippet-seconds", 0.5)["subsets"]["training"]
    assert found["videos"] == 1


def test_published_form(capsys, tmp_path):
    """Subsets and class names come from the files beside the annotations, or from those that are named."""
    video = {"duration_second": 10.0, "duration_frame": 250, "feature_frame": 240}
    path = tmp_path / "anno.json"
    path.write_text(json.dumps({"v_a": {**video, "annotations": [{"segment": [0, 5], "label": "Tennis"}]}}))
    (tmp_path / "video_info_new.csv").write_text("video,subset\nv_a,training\n")
    assert counted(capsys, path)["classes"] == ["Tennis"]
    (tmp_path / "action_name.csv").write_text("action\nTennis\nArchery\n")
    assert counted(capsys, path)["classes"] == ["Tennis", "Archery"]
    (tmp_path / "names.csv").write_text("action\nBowling\nTennis\n")
    (tmp_path / "info.csv").write_text("video,subset\nv_a,odd\n")
    content = counted(capsys, path, "--action-names", tmp_path / "names.csv", "--video-info", tmp_path / "info.csv")
    assert content["classes"] == ["Bowling", "Tennis"]
    assert sizes(content) == {"odd": (1, 1)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("action\nArchery\n", "lacks 'Tennis', a class of"),
        ("action\nTennis\nTennis\n", "names a class twice"),
        ("name\nTennis\n", "expected a CSV with the column action"),
        ("\udcff", "expected a CSV with the column action"),
    ],
)
def test_bad_action_names(capsys, tmp_path, content, words):
    video = {"duration_second": 10.0, "duration_frame": 250, "feature_frame": 240}
    path = tmp_path / "anno.json"
    path.write_text(json.dumps({"v_a": {**video, "annotations": [{"segment": [0, 5], "label": "Tennis"}]}}))
    (tmp_path / "video_info_new.csv").write_text("video,subset\nv_a,training\n")
    (tmp_path / "action_name.csv").write_bytes(content.encode(errors="surrogateescape"))
    code, out, err = asked(capsys, path)
    assert (code, out) == (65, "")
    assert err.startswith(f"error: {tmp_path / 'action_name.csv'}: ")
    assert words in err


def test_split_of_another_data_set(capsys, annotations, tmp_path):
    path = listed(tmp_path, "Diving", "Shotput")
    code, out, err = asked(capsys, annotations, "--split", path)
    assert (code, out) == (65, "")
    assert f"error: {path}: names no class of the annotations; they have Archery, Bowling, Tennis …" in err
    code, _, err = asked(capsys, annotations, "--split", listed(tmp_path, "Tennis", "Shotput"))
    assert code == 0
    assert "1 names are no class of the annotations: Shotput" in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--fraction", "0"], 2, "error: fraction: is 0; give a share above 0 and up to 1"),
        (["--fraction", "1.5"], 2, "error: fraction: is 1.5"),
        (["--fraction", "nan"], 2, "error: --fraction: is nan"),
        (["--fraction", "0.5", "--subset", "odd"], 2, "has no subset 'odd'; there are: training (3 videos)"),
        (["--compat", "other"], 2, "'other' is not"),
        (["--split", "absent.list"], 66, "absent.list: no such file"),
        (["--snippet-seconds", "0"], 2, "--snippet-seconds"),
    ],
)
def test_mistakes(capsys, annotations, words, code, message):
    found, out, err = asked(capsys, annotations, *words)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


BAD_SEGMENTS = (
    [4, 1],
    [-1, 2],
    ["x", 2],
    [1],
    [1, 2, 3],
    [None, 1],
    [True, 2],
    "12",
    {"1": 0, "2": 0},
    [1, "1e999"],
    [[], 1],
)
HOSTILE = {
    "empty": "",
    "not JSON": "{",
    "list": "[]",
    "no database": '{"database": []}',
    "no videos": '{"database": {}}',
    "NaN": '{"database": {"a": {"subset": "t", "duration": NaN, "annotations": []}}}',
    "infinity": '{"database": {"a": {"subset": "t", "duration": 1e999, "annotations": []}}}',
    "deep": "[" * 100_000,
    "twice": '{"database": {}, "database": {}}',
    "id is a path": json.dumps({"database": {"../../etc/passwd": entry("training", 1, [])}}),
    "long id": json.dumps({"database": {"a" * 256: entry("training", 1, [])}}),
    "no subset": '{"database": {"a": {"duration": 1, "annotations": []}, "b": {"subset": "x", "annotations": []}}}',
    "subset is a number": '{"database": {"a": {"subset": 1, "duration": 1, "annotations": []}}}',
    "duration is zero": json.dumps({"database": {"a": entry("training", 0, [])}}),
    "duration is negative": json.dumps({"database": {"a": entry("training", -1, [])}}),
    "huge number": '{"database": {"a": {"subset": "t", "duration": 1' + "0" * 5000 + ', "annotations": []}}}',
    "control characters": json.dumps({"database": {"a": entry("training", 1, [(0, 1, "\x1b[2J")])}}),
    "long label": json.dumps({"database": {"a": entry("training", 1, [(0, 1, "x" * 501)])}}),
    "binary": "\udcff\udcfe\x00",
    **{
        f"segment {segment}": json.dumps(
            {"database": {"a": {"subset": "t", "duration": 9, "annotations": [{"segment": segment, "label": "A"}]}}}
        )
        for segment in BAD_SEGMENTS
    },
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_annotations(capsys, tmp_path, kind):
    path = tmp_path / "annotations.json"
    path.write_bytes(HOSTILE[kind].encode(errors="surrogateescape"))
    code, out, err = asked(capsys, path)
    assert (code, out) == (65, "")
    assert err.startswith(f"error: {path}: ")
    assert err.count("\n") == 1
    assert len(err) < 1000
    assert err[:-1].isprintable()


def test_missing_annotations(capsys, tmp_path):
    code, _, err = asked(capsys, tmp_path / "absent.json")
    assert code == 66
    assert "absent.json: no such file" in err
    assert asked(capsys, tmp_path)[0] == 65


def test_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from stale_edge.cli.app import run\n"
        "sys.exit(run(['dataset', 'absent.json']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (66, 1)


@pytest.mark.parametrize(
    ("split", "subset", "videos"),
    [
        (None, "training", 8840),
        (None, "validation", 4350),
        ("splits_75_25/ActivityNet1.3/train", "training", 6575),
        ("splits_75_25/ActivityNet1.3/test", "validation", 1094),
        ("splits_50_50/ActivityNet1.3/train", "training", 4353),
        ("splits_50_50/ActivityNet1.3/test", "validation", 2197),
    ],
)
def test_the_counts_of_the_thesis(capsys, shared, split, subset, videos):
    words = ["--split", shared / "data" / split / "split_0.list"] if split else []
    content = counted(capsys, shared / "data/activitynet/anet_anno_action.json", *words, "--compat", "stale")
    assert content["subsets"][subset]["videos"] == videos


def test_default_leaves_nothing_of_activitynet_out(capsys, shared):
    content = counted(capsys, shared / "data/activitynet/anet_anno_action.json")
    assert content["subsets"]["training"] == {"videos": 9649, "instances": 14859, "left_out": {}}
    assert content["subsets"]["validation"] == {"videos": 4728, "instances": 7293, "left_out": {}}
    assert len(content["classes"]) == 200
    half = counted(capsys, shared / "data/activitynet/anet_anno_action.json", "--fraction", 0.5, "--seed", 3)
    assert half["subsets"]["training"]["videos"] == 4825


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("thumos_gt.json", {"test": (210, 3311), "train": (200, 3007)}),
        ("thumos_fps.json", {"Test": (212, 3332), "Validation": (200, 3003)}),
    ],
)
def test_thumos(capsys, shared, name, expected):
    assert sizes(counted(capsys, shared / "data/thumos14" / name)) == expected
