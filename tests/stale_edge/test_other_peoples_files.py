"""Files as other people's tools and habits make them, by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., tuple[int, str, str]]

DATA = Path(__file__).parents[1] / "data"
MODEL = DATA / "tiny_baked.onnx"
OPEN_MODEL = DATA / "tiny_open.onnx"
WIDTH = 8


NAMES = {
    "own ids begin with v_": ("v_00000000", "v_00000001"),
    "spaces, brackets, apostrophes": ("kid's room+stairs", "lat pulldown (2)"),
    "another script": ("客厅 03", "バレー"),
    "begins with a dash": ("-0edUL8zmA", "-1"),
}
SPELLINGS: dict[str, Callable[[str], str]] = {
    "exact": str,
    "without v_": lambda name: name.removeprefix("v_"),
    "with v_": lambda name: f"v_{name}",
    "of a video": lambda name: f"{name}.mp4",
}


def features(seed: int = 0, snippets: int = 40) -> np.ndarray:
    return (3 * np.random.default_rng(seed).standard_normal((snippets, WIDTH))).astype(np.float32)


def entry(label: str = "archery") -> dict[str, object]:
    return {"subset": "validation", "duration": 80.0, "annotations": [{"segment": [10.0, 30.0], "label": label}]}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_ids_of_two_sources_match_and_the_annotations_spelling_is_written(
    tmp_path: Path, command: Command, names: tuple[str, ...], spelling: Callable[[str], str]
) -> None:
    truth = write(tmp_path / "gt.json", {"database": {name: entry() for name in names}})
    folder, found = tmp_path / "features", tmp_path / "found.json"
    folder.mkdir()
    for name in names:
        np.save(folder / f"{spelling(name)}.npy", features())
    external = {spelling(name): {"class": "archery", "score": 0.5} for name in names}
    words = ["-g", truth, "--external", write(tmp_path / "external.json", external)]
    code, _, err = command("detect", MODEL, folder, "-o", found, *words)
    assert code == 0, err
    assert "for 2 of 2 videos" in err
    results = json.loads(found.read_text())["results"]
    assert sorted(results) == sorted(names)

    respelled = {"results": {spelling(name): rows for name, rows in results.items()}}
    maps = []
    for path in (found, write(tmp_path / "respelled.json", respelled)):
        code, out, err = command("evaluate", path, "-g", truth, "--json", "-")
        assert code == 0, err
        maps.append(json.loads(out)["average_map"])
    assert maps[0] == maps[1]

    code, out, _ = command("compare", MODEL, MODEL, "-f", folder, "-g", truth, "--json")
    assert code == 0
    assert json.loads(out)["map_a"] is not None
    code, out, _ = command("dataset", truth, "--features", folder, "--json")
    assert code == 0
    assert json.loads(out)["subsets"]["validation"] == {"videos": 2, "instances": 2, "left_out": {}}


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, with the row length that it learned."""
    model = onnx.load(MODEL)
    norm = model.metadata_props.add()
    norm.key, norm.value = "stale_edge.feature_norm", "8.5"
    path = tmp_path_factory.mktemp("scaled") / "tiny.onnx"
    onnx.save(model, path)
    return path


def normalised(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_features_of_another_scale_are_warned_of_once_and_rescaled(
    tmp_path: Path, command: Command, scaled: Path
) -> None:
    folder = tmp_path / "features"
    folder.mkdir()
    for seed in range(3):
        np.save(folder / f"v{seed}.npy", normalised(features(seed)))
    np.save(folder / "raw.npy", features(9))
    code, out, err = command("detect", scaled, folder, "--json", "--quiet")
    assert code == 0
    assert err.count("FEATURES OF ANOTHER SCALE in 3 of 4 videos") == 1
    assert "learned rows of 8.5" in err
    code, rescaled, err = command("detect", scaled, folder, "--json", "--quiet", "--rescale")
    assert code == 0
    assert "SCALE" not in err
    assert json.loads(rescaled)["results"]["v0"] != json.loads(out)["results"]["v0"]
    np.save(folder / "v0.npy", 8.5 * normalised(features(0)))
    for name in ("v1", "v2", "raw"):
        (folder / f"{name}.npy").unlink()
    code, expected, err = command("detect", scaled, folder, "--json", "--quiet")
    assert "SCALE" not in err
    found, wanted = json.loads(rescaled)["results"]["v0"], json.loads(expected)["results"]["v0"]
    assert [row["label"] for row in found] == [row["label"] for row in wanted]
    assert [row["score"] for row in found] == pytest.approx([row["score"] for row in wanted], abs=1e-4)
    code, _, err = command("compare", scaled, scaled, "-f", folder, "--quiet")
    assert "SCALE" not in err
    np.save(folder / "v0.npy", normalised(features(0)))
    code, _, err = command("compare", scaled, scaled, "-f", folder, "--quiet")
    assert "FEATURES OF ANOTHER SCALE" in err


def test_rescale_needs_a_model_that_knows_its_scale(tmp_path: Path, command: Command) -> None:
    np.save(tmp_path / "a.npy", features())
    code, _, err = command("detect", MODEL, tmp_path / "a.npy", "--rescale")
    assert code == 2
    assert "does not say which length of rows it learned" in err


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("more", [(), ("--rescale",)])
def test_a_stream_is_read_in_the_type_that_is_named(scaled: Path, dtype: str, more: tuple[str, ...]) -> None:
    rows = features(0, 60).astype(np.float16)
    words = ("detect", str(scaled), "--follow", "--window", "20", *more)
    expected = follow(words, rows.astype(np.float32).tobytes())
    found = follow((*words, "--dtype", dtype), rows.astype(dtype).tobytes())
    assert found.returncode == expected.returncode == 0
    assert found.stdout == expected.stdout != b""
    assert b"SCALE" not in found.stderr


def test_a_stream_read_in_another_type_is_warned_of(scaled: Path) -> None:
    rows = (features(0, 60) / 500).astype(np.float32)
    done = follow(("detect", str(scaled), "--follow", "--quiet"), rows.tobytes())
    assert done.stderr.count(b"FEATURES OF ANOTHER SCALE") == 1
    assert b"--dtype" in done.stderr


def test_rows_before_a_broken_one_are_not_lost(scaled: Path) -> None:
    rows = features(0, 10)
    rows[7] = np.nan
    done = follow(("detect", str(scaled), "--follow", "--window", "20"), rows.tobytes())
    assert done.returncode == 65
    assert b"snippet 7 holds NaN" in done.stderr
    assert (
        done.stdout == follow(("detect", str(scaled), "--follow", "--window", "20"), rows[:7].tobytes()).stdout != b""
    )


def follow(words: tuple[str, ...], stream: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "stale_edge", *words], input=stream, capture_output=True, check=False)


def test_the_dtype_of_a_file_cannot_be_named(tmp_path: Path, command: Command) -> None:
    np.save(tmp_path / "a.npy", features())
    code, _, err = command("detect", MODEL, tmp_path / "a.npy", "--dtype", "float16")
    assert code == 2
    assert "--dtype: is of a stream" in err


def test_labels_with_what_cannot_be_seen(tmp_path: Path, command: Command) -> None:
    truth = write(tmp_path / "gt.json", {"database": {"a": entry("  archery\n"), "b": entry("arch\u200bery")}})
    rows = [{"label": "archery ", "score": 0.5, "segment": [10, 30]}]
    code, out, err = command("evaluate", write(tmp_path / "r.json", {"results": {"a": rows}}), "-g", truth)
    assert code == 0
    assert "100.00" in out
    assert r"'arch\u200bery'" in err


def test_labels_in_another_spelling_are_named(tmp_path: Path, command: Command) -> None:
    truth = write(tmp_path / "gt.json", {"database": {"a": entry("Long jump")}})
    rows = [{"label": "long_jump", "score": 0.5, "segment": [10, 30]}]
    code, _, err = command("evaluate", write(tmp_path / "r.json", {"results": {"a": rows}}), "-g", truth)
    assert code == 65
    assert "'long_jump' (is 'Long jump' meant?)" in err


def test_one_video_of_each_class_says_what_helps(tmp_path: Path, command: Command) -> None:
    database = {f"v{i}": {**entry(f"class {i}"), "subset": "training"} for i in range(3)}
    (tmp_path / "features").mkdir()
    for name in database:
        np.save(tmp_path / "features" / f"{name}.npy", np.ones((10, 512), np.float32))
    (tmp_path / "classes.txt").write_text("\n".join(f"class {i}" for i in range(3)))
    np.save(tmp_path / "text.npy", np.eye(3, 512, dtype=np.float32))
    data = ("-g", write(tmp_path / "gt.json", {"database": database}), "--features", tmp_path / "features")
    text = ("--classes", tmp_path / "classes.txt", "--text-embeddings", tmp_path / "text.npy")
    code, _, err = command("train", "-o", tmp_path / "run", *data, *text, "--model", tmp_path / "m.safetensors")
    assert code == 2
    assert "every class keeps one in training; annotate second videos of classes" in err


def test_training_with_more_threads_than_cores_is_refused(tmp_path: Path, command: Command) -> None:
    words = ("train", "-o", tmp_path / "run", "--simulated", "default", "--model", tmp_path / "m.safetensors")
    code, _, err = command(*words, "--threads", "4096")
    assert code == 69
    assert "4096 threads" in err


CHARADES = {
    "a": {"subset": "testing", "duration": 80.0, "actions": [[1, 10.0, 30.0], [0, 40.0, 50.0]]},
    "b": {"subset": "testing", "duration": 60.0, "actions": [[1, 5.0, 9.0]]},
}


def numbered(tmp_path: Path) -> tuple[object, ...]:
    (tmp_path / "names.txt").write_text("Long jump\nArchery\n")
    return "--class-names", tmp_path / "names.txt"


@pytest.mark.parametrize(
    "truth",
    [
        CHARADES,
        {"database": {"a": {**entry(), "annotations": [{"segment": [10.0, 30.0], "label": 1}]}}},
        {"a": {"duration_second": 80.0, "annotations": [{"segment": [10.0, 30.0], "label": 1}]}},
    ],
    ids=["Charades", "official", "published"],
)
def test_classes_that_are_numbers_are_named_by_a_list(tmp_path: Path, command: Command, truth: object) -> None:
    gt = write(tmp_path / "gt.json", truth)
    rows = [{"label": "Archery", "score": 0.5, "segment": [10, 30]}]
    results = write(tmp_path / "r.json", {"results": {"a": rows}})
    code, _, err = command("evaluate", results, "-g", gt)
    assert code == 65
    assert "video a has an annotation 0 whose class is a number; name the classes with --class-names FILE" in err
    code, out, err = command("evaluate", results, "-g", gt, *numbered(tmp_path), "--json", "-")
    assert code == 0, err
    assert json.loads(out)["map"]["0.50"] > 0
    code, out, err = command("dataset", gt, *numbered(tmp_path), "--json")
    assert code == 0, err
    assert "Archery" in json.loads(out)["classes"]
    (tmp_path / "names.txt").write_text("Long jump\n")
    words = ("view", results, "-g", gt, "--class-names", tmp_path / "names.txt", "-o", tmp_path / "o.html")
    assert "has an annotation 0 of a class that is none of 0 to 0" in command(*words)[2]


@pytest.mark.parametrize("outer", [lambda one: one, lambda one: {"database": one}, lambda one: {"GT": one}])
def test_a_file_without_subsets_is_one(tmp_path: Path, command: Command, outer: Callable[[object], object]) -> None:
    bare = {key: value for key, value in entry().items() if key != "subset"}
    gt = write(tmp_path / "gt.json", outer({"a": bare, "b": bare}))
    code, out, err = command("dataset", gt, "--json")
    assert code == 0, err
    assert json.loads(out)["subsets"]["all"]["videos"] == 2
    assert "it names no subsets, so all videos are in: all" in err
    gt = write(tmp_path / "gt.json", {"database": {"a": bare, "b": entry()}})
    code, _, err = command("dataset", gt)
    assert (code, "video a has no subset" in err) == (65, True)


def test_results_without_their_outer_key_are_read(tmp_path: Path, command: Command) -> None:
    gt = write(tmp_path / "gt.json", {"database": {"a": entry()}})
    rows = [{"label": "archery", "score": 0.5, "segment": [10, 30]}]
    code, out, err = command("evaluate", write(tmp_path / "r.json", {"a": rows, "b": []}), "-g", gt)
    assert code == 0, err
    assert "100.00" in out
    for other in ([rows], {"a": [{"segments": rows}]}, {"images": [1]}):
        code, _, err = command("evaluate", write(tmp_path / "r.json", other), "-g", gt)
        assert (code, "has no object 'results'" in err) == (65, True)
