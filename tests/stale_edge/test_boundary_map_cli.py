"""The boundary map by the command line: trained, resumed, exported, quantised, run, evaluated and timed."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from stale_edge.checkpoint import load_checkpoint
from stale_edge_runtime.model_file import read_model
from stale_edge_runtime.session import open_session

NAME = "boundary-map"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve videos of two classes, and one that holds an action of a class that is not taught."""
    folder = tmp_path_factory.mktemp("map")
    rng = np.random.default_rng(0)
    text = rng.standard_normal((3, 512)).astype(np.float32)
    database = {}
    (folder / "features").mkdir()
    for number in range(12):
        features = 0.1 * rng.standard_normal((30, 512)).astype(np.float32)
        features[10:20] += text[number % 2]
        np.save(folder / "features" / f"video{number}.npy", features)
        action = {"segment": [10.0, 20.0], "label": ("run", "jump")[number % 2]}
        database[f"video{number}"] = {"subset": "training", "duration": 30.0, "annotations": [action]}
    (folder / "gt.json").write_text(json.dumps({"database": database}))
    (folder / "classes.txt").write_text("run\njump\nswim\n")
    (folder / "seen.txt").write_text("run\njump\n")
    np.save(folder / "text.npy", text)
    return folder


def words(data, run, *more):
    where = ("--annotations", data / "gt.json", "--features", data / "features", "--text-embeddings", data / "text.npy")
    how = ("--classes", data / "classes.txt", "--split", data / "seen.txt", "--network", NAME, "--held-out", 0.3)
    out = ("-o", data / run, "--model", data / f"{run}.safetensors", "--batch", 4, "--lr", 1e-3, "--epochs", 2)
    return ("train", *where, *how, *out, *more)


@pytest.fixture
def trained(data, command):
    if not (data / "run.safetensors").exists():
        code, _, err = command(*words(data, "run"))
        assert code == 0, err
    return data


@pytest.fixture
def exported(trained, command):
    if not (trained / "map.onnx").exists():
        chosen = ("--classes", trained / "seen.txt", "--snippet-seconds", 1)
        code, _, err = command("export", trained / "run.safetensors", *chosen, "-o", trained / "map.onnx")
        assert code == 0, err
        for precision in ("int8", "fp16"):
            code, _, err = command("quantize", trained / "map.onnx", f"--{precision}")
            assert code == 0, err
            onnx.checker.check_model(onnx.load(trained / f"map.{precision}.onnx"), full_check=True)
    return trained


FILES = ("map.onnx", "map.int8.onnx", "map.fp16.onnx")


def test_training_records_its_fit_and_stores_the_network(trained):
    checkpoint = load_checkpoint(trained / "run.safetensors")
    assert checkpoint.network_name == NAME
    assert checkpoint.classes == ("run", "jump", "swim")
    assert float(checkpoint.network.classes.common.abs().max()) > 0
    fit = checkpoint.origin["fit"]
    assert fit["videos"] == 8
    assert {"ridge", "whitening", "temperature", "accuracy on classes left out"} <= set(fit)
    assert fit["videos are trained on too"] is True


def test_a_resumed_training_fits_the_same_closed_form(trained, command):
    before = load_checkpoint(trained / "run.safetensors").network.state_dict()
    code, _, err = command(*words(trained, "run", "--resume"))
    assert code == 0, err
    after = load_checkpoint(trained / "run.safetensors").network.state_dict()
    assert all(value.equal(after[name]) for name, value in before.items())


def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(trained, command):
    code, _, err = command(*words(trained, "cut", "--max-minutes", 0))
    assert code == 0, err
    assert load_checkpoint(trained / "cut.safetensors").origin["step"] == 1
    code, _, err = command(*words(trained, "cut", "--resume"))
    assert code == 0, err
    whole, cut = (load_checkpoint(trained / f"{name}.safetensors") for name in ("run", "cut"))
    assert whole.origin == cut.origin
    for name, value in whole.network.state_dict().items():
        assert value.equal(cut.network.state_dict()[name]), name


def test_a_share_of_the_videos_is_only_for_the_closed_form(trained, command):
    code, _, err = command(*words(trained, "share", "--fit-share", 0.5, "--json"))
    assert code == 0, err
    fit = load_checkpoint(trained / "share.safetensors").origin["fit"]
    assert (fit["videos"], fit["videos are trained on too"]) == (4, False)
    whole = load_checkpoint(trained / "run.safetensors").network.classes.common
    assert not whole.equal(load_checkpoint(trained / "share.safetensors").network.classes.common)
    refused = {
        ("--fit-share", 1.5): "--fit-share: is 1.5",
        ("--fit-share", 0.5, "--network", "stale"): "fits nothing before training",
    }
    for more, message in refused.items():
        code, _, err = command(*words(trained, "none", *more))
        assert code == 2
        assert message in err


def test_a_closed_set_needs_no_text(trained, command):
    line = [word for word in words(trained, "means") if str(word) not in {"--text-embeddings", "--classes"}]
    line = [word for word in line if word not in {trained / "text.npy", trained / "classes.txt"}]
    code, _, err = command(*line)
    assert code == 2
    assert "--class-means" in err
    code, _, err = command(*line, "--class-means")
    assert code == 0, err
    checkpoint = load_checkpoint(trained / "means.safetensors")
    assert set(checkpoint.classes) == {"run", "jump"}
    assert checkpoint.text_embeddings.shape == (2, 512)
    assert checkpoint.origin["fit"]["accuracy on classes left out"] == 1.0
    code, _, err = command(*words(trained, "none", "--class-means"))
    assert code == 2
    assert "--text-embeddings: does not go with --class-means" in err


def test_an_external_classifier_names_what_it_finds(exported, command):
    scores = {f"video{number}": {"class": "swim", "score": 0.9} for number in range(12)}
    (exported / "scores.json").write_text(json.dumps(scores))
    results = exported / "named.json"
    words = ("detect", exported / "map.onnx", exported / "features", "-o", results)
    code, _, err = command(*words, "--external", exported / "scores.json")
    assert code == 0, err
    found = json.loads(results.read_text())["results"]
    assert {item["label"] for items in found.values() for item in items} == {"swim"}
    code, _, err = command(*words, "--labels-from", exported / "map.onnx")
    assert code == 2
    assert "the model has classes of its own" in err


def test_unseen_text_never_reaches_training(trained, command):
    text = np.load(trained / "text.npy")
    text[2] *= -7
    np.save(trained / "other.npy", text)
    line = list(words(trained, "other"))
    line[line.index("--text-embeddings") + 1] = trained / "other.npy"
    code, _, err = command(*line)
    assert code == 0, err
    ours, theirs = (load_checkpoint(trained / f"{name}.safetensors").network for name in ("run", "other"))
    for name, value in ours.state_dict().items():
        assert value.equal(theirs.state_dict()[name]), name


@pytest.mark.parametrize("name", FILES)
def test_it_detects_and_is_evaluated(exported, command, name):
    assert read_model(exported / name).info.network == NAME
    results = exported / "results.json"
    code, _, err = command("detect", exported / name, exported / "features", "-o", results)
    assert code == 0, err
    scores = ("--ground-truth", exported / "gt.json", "--tiou", 0.5, "--json", exported / "m.json")
    code, _, err = command("evaluate", results, *scores)
    assert code == 0, err
    assert json.loads((exported / "m.json").read_text())["videos"] == 12


@pytest.mark.slow
def test_an_open_file_gives_what_the_baked_one_gives(exported, command):
    path = exported / "open.onnx"
    code, _, err = command("export", exported / "run.safetensors", "--open", "-o", path)
    assert code == 0, err
    features = np.random.default_rng(0).standard_normal((1, 57, 512)).astype(np.float32)
    text = np.load(exported / "text.npy")[:2]
    baked = open_session(read_model(exported / "map.onnx")).run(None, {"features": features})
    opened = open_session(read_model(path)).run(None, {"features": features, "text_embeddings": text})
    for a, b in zip(baked, opened, strict=True):
        assert np.abs(a - b).max() <= 1e-4


def test_it_is_timed_with_its_decoding(exported, command, brief_ceiling):
    quick = ("--lengths", "30,60", "--runs", 2, "--no-cold-start", "--json", exported / "bench.json")
    code, out, err = command("bench", exported / "map.onnx", exported / "map.int8.onnx", *quick)
    assert code == 0, err
    assert {row["snippets"] for row in json.loads((exported / "bench.json").read_text())["rows"]} == {30, 60}
    assert "decoding" in out
