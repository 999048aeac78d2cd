"""`stale-edge simulate`, and what it writes read by everything that reads real data."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stale_edge.data.dataset import AnnotatedFeatures
from stale_edge.simulation import SimulatedWorld
from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.errors import StorageError
from stale_edge_runtime.formats import files
from stale_edge_runtime.formats.annotations import read_annotations
from stale_edge_runtime.formats.class_list import read_class_list
from stale_edge_runtime.formats.features import read_features
from stale_edge_runtime.formats.results import write_results

SMALL = ("--classes", 8, "--videos", 6, "--validation", 8, "--quiet")


@pytest.fixture
def folder(tmp_path, command):
    assert command("simulate", "-o", tmp_path / "sim", *SMALL)[0] == 0
    return tmp_path / "sim"


def test_the_files_are_those_of_the_real_data(folder):
    annotations = read_annotations(folder / "annotations.json")
    assert annotations.subsets == {"training": 6, "validation": 8}
    assert not annotations.dirt.past_end + annotations.dirt.zero_length + annotations.dirt.duplicates
    classes = read_class_list(folder / "classes.txt")
    seen, unseen = (read_class_list(folder / f"splits/{name}.list") for name in ("seen", "unseen"))
    assert sorted(seen + unseen) == sorted(classes)
    assert (len(seen), len(unseen)) == (6, 2)
    assert set(annotations.subset("training").classes) <= set(seen)
    assert len(annotations.subset("validation").restricted_to(unseen).videos) == 2
    assert np.load(folder / "text_embeddings.npy").shape == (8, 512)
    for video in annotations.videos:
        features = read_features(folder / "features" / f"v_{video.id}.npy", 512)
        assert len(features) == max(1, round(video.duration_s * 30 / 16))
    assert len(list((folder / "features").iterdir())) == 14


def test_the_folder_and_the_endless_world_are_one(folder):
    world = SimulatedWorld.from_file(folder)
    np.testing.assert_array_equal(world.text_embeddings, np.load(folder / "text_embeddings.npy"))
    video = world.training(6).video(4, 0)
    written = read_features(folder / "features" / f"v_{video.id}.npy", 512)
    assert written == pytest.approx(video.features, abs=5e-3)  # stored as float16
    source = AnnotatedFeatures.open(
        folder / "annotations.json", folder / "features", split=folder / "splits/seen.list", length=10
    )
    assert {source.video(index, 0).id for index in range(len(source))} == {v.id for v in world.training(6)}
    assert source.video(4, 0).instances == video.instances


def test_evaluate_reads_it(folder, tmp_path, command):
    truth = read_annotations(folder / "annotations.json").subset("validation")
    found = {
        video.id: [Detection(i.start_s, i.end_s, i.label, 0.9 - 0.01 * n) for n, i in enumerate(video.instances)]
        for video in truth.videos
    }
    write_results(tmp_path / "results.json", found)
    words = ("-g", folder / "annotations.json", "--subset", "validation", "--json", "-", "--quiet")
    code, out, err = command("evaluate", tmp_path / "results.json", *words)
    assert (code, err) == (0, "")
    assert json.loads(out)["average_map"] == 1.0
    code, out, _ = command("evaluate", tmp_path / "results.json", *words, "--classes", folder / "splits/unseen.list")
    assert (code, json.loads(out)["videos"]) == (0, 2)


def test_simulating_again_replaces_the_world_and_nothing_else(folder, command):
    (folder / "notes.txt").write_text("mine")
    (folder / "features" / "mine.npy").write_bytes(b"")
    words = ("simulate", "-o", folder, "--classes", 4, "--videos", 2, "--validation", 4, "--json", "-q")
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert "holds another simulated world; name another folder, or replace it by --force" in err
    assert "unseen.list" in {path.name for path in (folder / "splits").iterdir()}
    code, out, err = command(*words, "--force")
    assert (code, err) == (0, "")
    assert command(*words) == (0, out, "")  # the same world again
    summary = json.loads(out)
    assert (summary["training_videos"], summary["seen_videos"], summary["unseen_videos"]) == (2, 3, 1)
    assert (summary["classes"], summary["seen_classes"]) == (4, 3)
    assert (folder / "notes.txt").read_text() == "mine"
    names = {path.name for path in (folder / "features").iterdir()}
    videos = read_annotations(folder / "annotations.json").videos
    assert names == {f"v_{video.id}.npy" for video in videos} | {"mine.npy"}


def test_the_old_world_is_whole_until_the_new_one_is(folder, command, monkeypatch):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    written = files.write_json

    def full(target, value, **options):
        if target.name == "annotations.json":
            raise StorageError(target, "no space left on device")
        written(target, value, **options)

    monkeypatch.setattr(files, "write_json", full)
    code, _, _ = command(
        "simulate", "-o", folder, "--classes", 4, "--videos", 2, "--validation", 4, "--seed", 1, "--force"
    )
    assert code == 74
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not list(folder.glob(".*"))


def test_a_folder_that_a_killed_simulate_left_is_removed(tmp_path, command):
    left = tmp_path / "world" / ".folder.abcd1234.stale-edge.tmp"
    (left / "features").mkdir(parents=True)
    (left / "features" / "v_t000_000000.npy").write_bytes(b"half")
    assert command("simulate", "-o", tmp_path / "world", *SMALL)[0] == 0
    assert not left.exists()


def test_another_folder_is_left_alone(tmp_path, command):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    code, out, err = command("simulate", "-o", tmp_path / "mine", *SMALL)
    assert (code, out) == (2, "")
    assert "is not empty and holds no simulated world; name another folder, or add --force" in err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    assert command("simulate", "-o", tmp_path / "mine", *SMALL, "--force")[0] == 0
    assert (tmp_path / "mine" / "thesis.tex").exists()


@pytest.mark.parametrize("split", ["75", "a/b", "0/100", "-1/2", "75/25/1", "¾/1"])
def test_odd_splits_are_refused(tmp_path, command, split):
    code, _, err = command("simulate", "-o", tmp_path / "sim", "--split", split)
    assert code == 2
    assert "--split" in err
    assert not (tmp_path / "sim").exists()


@pytest.mark.parametrize(("split", "seen"), [("75/25", 6), ("50/50", 4), ("100/0", 8), ("1/1000", 1), ("999/1", 7)])
def test_splits(tmp_path, command, split, seen):
    words = ("--classes", 8, "--videos", 0, "--validation", 0, "--split", split, "--json", "-q")
    code, out, _ = command("simulate", "-o", tmp_path / "sim", *words)
    assert (code, json.loads(out)["seen_classes"]) == (0, seen)


def test_a_file_in_the_way_and_a_missing_option(tmp_path, command):
    (tmp_path / "file").write_text("x")
    code, _, err = command("simulate", "-o", tmp_path / "file", *SMALL)
    assert code == 73
    assert "name a folder with -o" in err
    assert command("simulate")[0] == 2


@pytest.mark.parametrize("option", ["--snippet-seconds", "--snippet-s"])
def test_the_length_of_a_snippet_is_named_as_elsewhere(option, tmp_path, command):
    assert command("simulate", "-o", tmp_path / "sim", *SMALL, option, 1.5)[0] == 0
    assert '"snippet_s": 1.5' in (tmp_path / "sim" / "world.json").read_text()


def test_needs_the_extra_of_those_who_train(tmp_path, command, monkeypatch):
    from stale_edge import extras

    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "torch" else object())
    code, _, err = command("simulate", "-o", tmp_path / "sim", *SMALL)
    assert code == 69
    assert "stale-edge simulate: needs torch, which is not installed; pip install 'stale-edge[train]'" in err


def test_the_result_is_one_line_and_the_rest_goes_to_stderr(tmp_path, command):
    code, out, err = command("simulate", "-o", tmp_path / "sim", *SMALL[:-1])
    assert code == 0
    assert "6 training videos of 6 seen classes, 6 validation videos of them and 2 of 2 unseen ones" in out
    assert out.count("\n") == 1
    assert "simulating: 14/14" in err
