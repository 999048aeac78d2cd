"""`stale-edge train` as users type it: through the whole pipe, resumed, interrupted, and refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stale_edge.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from stale_edge_runtime.feature_origin import FeatureOrigin
from stale_edge_runtime.formats.feature_record import FeatureRecord, read_record, record_path
from stale_edge_runtime.formats.files import write_json
from stale_edge_runtime.formats.sole_writer import sole_writer
from stale_edge_runtime.model_file import read_model
from tests.stale_edge.training_driver import CLASSES, TEXT, WIDTH, training_run, video

PROGRAM = (sys.executable, "-c", "from stale_edge.__main__ import main; main()")
EXTRA = ("Playing chess", "Kite flying")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight videos of four classes, and first weights with the text of six."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "features").mkdir()
    database = {}
    for index in range(8):
        shown = video(index)
        np.save(folder / "features" / f"v_{shown.id}.npy", shown.features)
        annotations = [{"segment": [i.start_s, i.end_s], "label": i.label} for i in shown.instances]
        database[shown.id] = {"subset": "training", "duration": shown.duration_s, "annotations": annotations}
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    (folder / "seen.txt").write_text("\n".join(CLASSES[:3]))
    more = np.random.default_rng(5).standard_normal((2, WIDTH)).astype(np.float32)
    text = torch.from_numpy(np.concatenate([more, TEXT]))
    save_checkpoint(folder / "first.safetensors", Checkpoint(training_run().network, EXTRA + CLASSES, {}, text))
    np.save(folder / "text.npy", np.zeros((4, 512), np.float32))
    return folder


def words(data, run, *more):
    named = ("--annotations", data / "annotations.json", "--features", data / "features")
    first = ("--initial", data / "first.safetensors", "--threads", 1, "--batch", 4, "--lr", 4e-3)
    return ("train", "-o", run, *named, *first, "--model", run.parent / "model.safetensors", *more)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A trained run, and what the command said."""
    folder = tmp_path_factory.mktemp("pipe")
    arguments = list(
        map(str, words(data, folder / "run", "--epochs", 30, "--patience", 30, "--held-out", 0.5, "--json"))
    )
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout), done.stderr


class TestPipe:
    def test_says_what_it_did(self, trained):
        folder, summary, said = trained
        assert summary["end"] == "finished"
        assert summary["steps"] == 30
        assert summary["model"] == str(folder / "model.safetensors")
        assert "4 videos of 4 classes in an epoch, 4 held out" in said
        assert "Warning" not in said
        stored = load_checkpoint(folder / "model.safetensors")
        assert stored.classes == EXTRA + CLASSES
        assert stored.origin["taught_classes"] == sorted(CLASSES)
        assert stored.origin["held_out_average_map"] == round(summary["held_out_average_map"], 6)

    def test_overfits_four_videos_through_export_detect_and_evaluate(self, trained, data, command):
        folder, _, _ = trained
        (folder / "classes.txt").write_text("\n".join(CLASSES))
        onnx = folder / "baked.onnx"
        rows = np.concatenate([np.load(path) for path in sorted((data / "features").iterdir())])
        assert load_checkpoint(folder / "model.safetensors").feature_norm == pytest.approx(
            np.median(np.linalg.norm(rows, axis=1)), rel=0.2
        )
        code, _, said = command("export", folder / "model.safetensors", "-o", onnx, "--classes", folder / "classes.txt")
        assert code == 0, said
        code, _, said = command(
            "detect", onnx, data / "features", "--annotations", data / "annotations.json", "-o", folder / "found.json"
        )
        assert code == 0, said
        assert read_model(onnx).info.feature_norm == load_checkpoint(folder / "model.safetensors").feature_norm
        assert "SCALE" not in said
        arguments = ("--ground-truth", data / "annotations.json", "--subset", "training")
        code, _, said = command("evaluate", folder / "found.json", *arguments, "--json", folder / "map.json")
        assert code == 0, said
        assert json.loads((folder / "map.json").read_text())["average_map"] >= 0.6

    def test_export_bakes_the_stored_text_and_refuses_other_classes(self, trained, command):
        folder, _, _ = trained
        (folder / "other.txt").write_text("Archery\nJuggling\n")
        code, _, said = command(
            "export", folder / "model.safetensors", "-o", folder / "x.onnx", "--classes", folder / "other.txt"
        )
        assert code == 65
        assert "class 'Juggling': is not among the 6 classes whose text the checkpoint stores" in said
        assert not (folder / "x.onnx").exists()

    def test_without_held_out_videos_the_last_weights_are_kept(self, data, tmp_path, command):
        for name in ("whole", "broken"):
            (tmp_path / name).mkdir()
        common = ("--epochs", 2, "--held-out", 0, "--json")
        code, out, said = command(*words(data, tmp_path / "whole" / "run", *common))
        assert code == 0, said
        assert "8 videos of 4 classes in an epoch, 0 held out" in said
        summary = json.loads(out)
        assert (summary["best_step"], summary["held_out_average_map"]) == (summary["steps"], None) == (4, None)
        stored = load_checkpoint(tmp_path / "whole/model.safetensors")
        assert stored.suggested_min_score is None
        broken = words(data, tmp_path / "broken" / "run", *common)
        assert json.loads(command(*broken, "--max-minutes", 0)[1])["best_step"] == 1
        assert command(*broken, "--resume")[0] == 0
        kept = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "broken")]
        assert kept[0] == kept[1]

    def test_resume_equals_unbroken(self, data, tmp_path, command):
        for name in ("whole", "broken"):
            (tmp_path / name).mkdir()
        common = ("--epochs", 3, "--batch", 2, "--split", data / "seen.txt", "--held-out", 0.4)
        assert command(*words(data, tmp_path / "whole" / "run", *common))[0] == 0
        broken = words(data, tmp_path / "broken" / "run", *common)
        code, out, _ = command(*broken, "--max-minutes", 0)
        assert code == 0
        assert "the time is up after 1 steps" in out
        code, _, said = command(*broken)
        assert code == 2
        assert "holds a training already; go on with --resume, or name another folder" in said
        code, _, said = command(*broken, "--resume")
        assert code == 0
        assert "going on after step 1 of 6" in said
        assert (tmp_path / "whole/model.safetensors").read_bytes() == (
            tmp_path / "broken/model.safetensors"
        ).read_bytes()
        code, _, said = command(*broken, "--resume", "--seed", 1)
        assert code == 2
        assert "another seed (0, now 1); resume with the options of its start" in said


def test_ctrl_c_ends_an_endless_training_and_says_how_to_go_on(data, tmp_path):
    arguments = list(
        map(str, words(data, tmp_path / "run", "--epochs", 10**6, "--patience", 10**6, "--save-minutes", 0))
    )
    child = subprocess.Popen(
        [*PROGRAM, *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    log = tmp_path / "run" / "training.csv"
    while child.poll() is None and not (log.exists() and log.read_text().count("\n") > 3):
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=120)  # only a failure takes that long
    assert child.returncode == 130
    assert "go on with the same command and --resume" in said
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("*.tmp"))
    assert (tmp_path / "run" / "state.safetensors").exists()
    assert not (tmp_path / "model.safetensors").exists()


class TestRefusals:
    @pytest.mark.parametrize(
        ("more", "code", "message"),
        [
            (("--annotations", "{data}/none.json"), 66, "none.json: no such file"),
            (("--features", "{data}/none"), 66, "no such file"),
            (("--initial", "{data}/none.safetensors"), 66, "no such file"),
            (("--initial", "{data}/seen.txt"), 65, "is not a safetensors file"),
            (("--simulated", "default"), 2, "--annotations: does not go with --simulated"),
            (("--text-embeddings", "{data}/text.npy"), 2, "belong together; give both, or neither"),
            (
                ("--text-embeddings", "{data}/text.npy", "--classes", "{data}/seen.txt"),
                65,
                "text.npy: is [4, 512], not [snippets, 32]",
            ),
            (("--text-tower", "{data}/first.safetensors"), 2, "does not go with --initial"),
            (("--train-text",), 2, "--train-text: needs a text tower"),
            (("--split", "{data}/annotations.json"), 65, "is no class name"),
            (("--epochs", "0"), 2, "epochs: is 0; give 1 or more"),
            (("--lr", "-1"), 2, "learning rate: is -1.0"),
            (("--fraction", "2"), 2, "fraction: is 2"),
            (("--held-out", "1"), 2, "--held-out: is 1; give 0 up to 1"),
            (("--held-out", "nan"), 2, "--held-out: is nan"),
            (("--subset", "testing"), 2, "testing"),
            (("--resume",), 66, "no such folder; there is nothing to resume"),
            (("--model", "{data}"), 73, "is a folder; name a file with --model"),
            (("--output", "{data}/seen.txt/run"), 73, "cannot be written"),
            (("--accelerator", "cuda"), 69, "has no CUDA"),
        ],
    )
    def test_one_line_with_the_cure(self, more, code, message, data, tmp_path, command):
        if "cuda" in more and torch.cuda.is_available():
            pytest.skip("this machine has CUDA")
        given = words(data, tmp_path / "run", "--epochs", 1, *(word.format(data=data) for word in more))
        found, out, said = command(*given, "--quiet")
        assert (found, out) == (code, ""), said
        assert message in said
        assert said.startswith("error: ")
        assert len(said.splitlines()) == 1
        assert not (tmp_path / "model.safetensors").exists()
        assert not (tmp_path / "run").exists()

    def test_folders_that_were_there_stay(self, data, tmp_path, command):
        (tmp_path / "runs" / "old").mkdir(parents=True)
        for run, left in (("runs/old", True), ("runs/new/first", False)):
            model = ("--model", tmp_path / "model.safetensors")
            assert command(*words(data, tmp_path / run, *model, "--features", data / "none"))[0] == 66
            assert (tmp_path / run).exists() == left
        assert [path.name for path in (tmp_path / "runs").iterdir()] == ["old"]

    def test_nothing_named(self, tmp_path, command):
        code, _, said = command("train", "-o", tmp_path / "run")
        assert (code, said.count("\n")) == (2, 1)
        assert "name annotations and features, or give --simulated default" in said

    def test_no_source_of_text(self, data, tmp_path, command):
        named = ("--annotations", data / "annotations.json", "--features", data / "features")
        code, _, said = command("train", "-o", tmp_path / "run", *named)
        assert code == 2
        assert "needs text embeddings of the classes; give --text-embeddings FILE.npy with --classes FILE" in said

    def test_a_bad_feature_file_is_left_out_counted_and_named(self, data, tmp_path, command):
        bad = tmp_path / "features"
        shutil.copytree(data / "features", bad)
        np.save(bad / "v_video3.npy", np.full((4, WIDTH), np.nan, np.float32))
        code, out, said = command("dataset", data / "annotations.json", "--features", bad, "--json")
        assert code == 0
        reason = "videos whose feature file cannot be used"
        assert json.loads(out)["subsets"]["training"]["left_out"] == {reason: 1}
        assert "1 of 8 feature files cannot be used; the first: " in said
        given = words(data, tmp_path / "run", "--features", bad, "--held-out", 0.3, "--epochs", 1)
        code, _, said = command(*given)
        assert code == 0, said
        assert f"left out: 1 {reason}" in said
        assert "v_video3.npy: 4 of 4 snippets hold NaN" in said

    def test_most_feature_files_bad_is_an_error(self, data, tmp_path, command):
        bad = tmp_path / "features"
        shutil.copytree(data / "features", bad)
        for index in range(5):
            np.save(bad / f"v_video{index}.npy", np.zeros((4, WIDTH + 1), np.float32))
        code, _, said = command(*words(data, tmp_path / "run", "--features", bad), "--quiet")
        assert code == 65
        assert "5 of 8 feature files cannot be used; the first: " in said
        assert "Traceback" not in said
        assert not (tmp_path / "run").exists()

    def test_a_class_without_text(self, data, tmp_path, command):
        bare = tmp_path / "bare.safetensors"
        save_checkpoint(bare, Checkpoint(training_run().network, CLASSES[:2], {}, torch.from_numpy(TEXT[:2])))
        code, _, said = command(*words(data, tmp_path / "run", "--initial", bare))
        assert code == 65
        assert "have no row for 'Doing kickboxing'" in said

    def test_two_trainings_in_one_folder(self, data, tmp_path, command):
        (tmp_path / "run").mkdir()
        with sole_writer(tmp_path / "run"):
            code, _, said = command(*words(data, tmp_path / "run", "--epochs", 1))
        assert code == 73
        assert "another training is writing to it; name another folder" in said

    def test_needs_its_extra(self, data, tmp_path, command, monkeypatch):
        import stale_edge.extras as extras

        monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "lightning_fabric" else object())
        code, _, said = command(*words(data, tmp_path / "run"))
        assert code == 69
        assert "pip install 'stale-edge[train]'" in said


def test_a_small_simulated_world(tmp_path, command):
    """Endless videos of a world in a folder; the network keeps the text of the unseen classes too."""
    code, _, said = command("simulate", "-o", tmp_path / "world", "--classes", 4, "--videos", 2, "--validation", 2)
    assert code == 0, said
    run = ("train", "--simulated", tmp_path / "world", "-o", tmp_path / "run", "--model", tmp_path / "m.safetensors")
    code, out, said = command(*run, "--videos", 4, "--batch", 4, "--epochs", 1, "--json")
    assert code == 0, said
    assert json.loads(out)["steps"] == 1
    stored = load_checkpoint(tmp_path / "m.safetensors")
    assert len(stored.classes) == 4
    assert len(stored.origin["taught_classes"]) == 3
    assert stored.text_embeddings is not None


def test_videos_are_drawn_ahead_to_the_same_bytes(tmp_path, command):
    run = ("train", "--simulated", tmp_path / "world", "--videos", 4, "--batch", 4, "--epochs", 1, "--threads", 1)
    assert command("simulate", "-o", tmp_path / "world", "--classes", 4, "--videos", 2, "--validation", 2)[0] == 0
    for workers in (0, 1):
        places = ("-o", tmp_path / f"run{workers}", "--model", tmp_path / f"{workers}.safetensors")
        code, _, said = command(*run, *places, "--workers", workers)
        assert code == 0, said
    assert (tmp_path / "0.safetensors").read_bytes() == (tmp_path / "1.safetensors").read_bytes()


@pytest.mark.slow
def test_torchrun_shares_a_training_and_one_process_goes_on(data, tmp_path, command):
    """Seven videos of the eight in batches of four: the second batch of an epoch is shared unequally."""
    root = Path(__file__).parents[2]
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m")
    options = ("--held-out", 0.125, "--epochs", 4, "--accelerator", "cpu")
    started = [*launcher, "stale_edge", *words(data, tmp_path / "run", *options, "--max-minutes", 0)]
    paths = os.pathsep.join(str(root / folder) for folder in (".", "export", "runtime"))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, started)), capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "7 videos" in done.stderr
    code, out, said = command(*words(data, tmp_path / "run", *options, "--resume", "--json"))
    assert code == 0, said
    assert "warning: 2 processes trained so far, and 1 go on" in said
    assert json.loads(out)["steps"] == 8


class TestOurOptions:
    def train(self, data, tmp_path, command, *more):
        text = np.random.default_rng(1).standard_normal((4, 512)).astype(np.float32)
        wide = tmp_path / "features"
        wide.mkdir()
        for path in (data / "features").iterdir():
            np.save(wide / path.name, np.tile(np.load(path), 512 // WIDTH) + 50)
        np.save(tmp_path / "text.npy", text)
        (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
        named = ("--annotations", data / "annotations.json", "--features", wide, "--held-out", 0.5, "--epochs", 1)
        texts = ("--text-embeddings", tmp_path / "text.npy", "--classes", tmp_path / "classes.txt")
        model = tmp_path / "m.safetensors"
        return (*command("train", "-o", tmp_path / "run", *named, *texts, "--model", model, *more), text)

    def test_are_trained_with_what_the_videos_have_in_common(self, data, tmp_path, command):
        code, _, said, text = self.train(data, tmp_path, command, "--design", "centring,no-gate")
        assert code == 0, said
        network = load_checkpoint(tmp_path / "m.safetensors").network
        assert network.config.ours.names == ("centring", "no-gate")
        torch.testing.assert_close(network.common.texts, torch.from_numpy(text.mean(axis=0)))
        assert float(network.common.features.mean()) == pytest.approx(50, abs=3)

    def test_all_of_them(self, data, tmp_path, command):
        code, _, said, _ = self.train(data, tmp_path, command, "--design", "all")
        assert code == 0, said
        names = load_checkpoint(tmp_path / "m.safetensors").network.config.ours.names
        assert names == ("centring", "signed-similarity", "no-gate")

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (
                ("--design", "gating"),
                "--design: 'gating' is not known; choose from centring, signed-similarity, no-gate",
            ),
            (("--design", "all", "--compat", "stale"), "--design: does not go with --compat"),
        ],
    )
    def test_refuse_what_does_not_go(self, more, message, data, tmp_path, command):
        code, _, said, _ = self.train(data, tmp_path, command, *more)
        assert code == 2
        assert message in said

    def test_do_not_go_with_a_checkpoint_to_start_from(self, data, tmp_path, command):
        code, _, said = command(*words(data, tmp_path / "run", "--design", "all"))
        assert code == 2
        assert "--design: does not go with --initial" in said


@pytest.mark.parametrize("more", [(), ("--train-text",), ("--compat", "stale")])
def test_the_text_tower_of_another_checkpoint(more, data, tiny_file, tmp_path, command):
    """It stays as it is unless it is to be trained, as the published preset does."""
    named = ("--annotations", data / "annotations.json", "--features", data / "features", "--text-tower", tiny_file)
    target = tmp_path / "m.safetensors"
    code, _, said = command("train", "-o", tmp_path / "run", *named, "--epochs", 1, "--model", target, *more)
    assert code == 0, said
    assert ("the text tower is trained too" in said) == bool(more)
    before, after = (load_checkpoint(path) for path in (tiny_file, target))
    assert after.text_embeddings is None
    assert after.classes == tuple(sorted(CLASSES))
    same = [torch.equal(value, after.network.state_dict()[name]) for name, value in before.network.state_dict().items()]
    towers = [name.startswith("text_tower") for name in before.network.state_dict()]
    assert all(equal for equal, tower in zip(same, towers, strict=True) if tower) != bool(more)
    assert not all(same)


def test_statistics_are_computed_only_for_a_network_that_needs_them():
    from stale_edge.networks.base import FirstSizes
    from stale_edge.networks.stale.spec import STALE_SPEC

    calls = []

    def means():
        calls.append(1)
        return torch.ones(512), torch.zeros(512)

    for options in ((), ("centring",)):
        STALE_SPEC.set_statistics(STALE_SPEC.build(STALE_SPEC.first_config(FirstSizes(512, options=options))), means)
    assert len(calls) == 1


class TestFeatureOrigin:
    """The way features were made goes from their records through the checkpoint into the exported file."""

    @pytest.fixture
    def recorded(self, data, tmp_path):
        folder = tmp_path / "data"
        shutil.copytree(data, folder)
        for path in (folder / "features").glob("*.npy"):
            origin = FeatureOrigin("CLIP ViT-B/32", "ab" * 32, "rgb", 0.5)
            record = FeatureRecord(origin, 30.0, len(np.load(path)))
            write_json(record_path(path), record.to_dict())
        return folder

    def test_is_recorded(self, recorded, tmp_path, command):
        code, _, err = command(*words(recorded, tmp_path / "run", "--epochs", 1, "--held-out", 0.5))
        assert code == 0, err
        # Every video is resized to one length, so no step was learned.
        learned = FeatureOrigin("CLIP ViT-B/32", "ab" * 32, "rgb")
        assert load_checkpoint(tmp_path / "model.safetensors").features == learned
        code, _, err = command("export", tmp_path / "model.safetensors", "-o", tmp_path / "model.onnx")
        assert code == 0, err
        assert FeatureOrigin.of(read_model(tmp_path / "model.onnx").info) == learned

    def test_two_ways_are_refused(self, recorded, tmp_path, command):
        path = sorted((recorded / "features").glob("*.json"))[3]
        record = read_record(path)
        write_json(path, replace(record, origin=replace(record.origin, tower_sha256="cd" * 32)).to_dict())
        code, _, err = command(*words(recorded, tmp_path / "run", "--epochs", 1, "--held-out", 0.5))
        assert code == 65
        assert "(cdcdcdcdcdcd), not of CLIP ViT-B/32 (abababababab)" in err
        assert "make all of them the same way with `stale-edge features`" in err
