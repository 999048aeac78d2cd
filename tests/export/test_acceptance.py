"""A smaller file is tried on videos, and refused when it loses too much."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_edge_export.quantization.acceptance import Acceptance, Trial, TrialVideo
from stale_edge_runtime.contract import Kind
from stale_edge_runtime.detector import Detector
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.formats.annotations import Annotations, Instance, Video
from stale_edge_runtime.model_file import read_model
from stale_edge_runtime.synthetic import clip_like_features

TinyExport = Callable[..., Path]
Command = Callable[..., tuple[int, str, str]]

SECONDS = 100.0
LENGTHS = (60, 75, 91)


@pytest.fixture(scope="module")
def fp32(tiny_export: TinyExport) -> Path:
    return tiny_export(Kind.BAKED)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for index, length in enumerate(LENGTHS):
        np.save(folder / f"v_clip{index}.npy", clip_like_features(1, length, 32, seed=index)[0])
    return folder


@pytest.fixture(scope="module")
def truth(fp32: Path, videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ground truth on which the fp32 file has an mAP of 1: what it finds itself."""
    detector = Detector(fp32)
    database = {}
    for index in range(len(LENGTHS)):
        found = detector.detect(np.load(videos / f"v_clip{index}.npy"), SECONDS)
        entries = [{"segment": [item.start_s, item.end_s], "label": item.label} for item in found]
        database[f"clip{index}"] = {"subset": "validation", "duration": SECONDS, "annotations": entries}
    assert all(entry["annotations"] for entry in database.values())
    path = tmp_path_factory.mktemp("truth") / "gt.json"
    path.write_text(json.dumps({"database": database}))
    return path


def quantize(
    command: Command, fp32: Path, out: Path, *words: object, precision: str = "--int8"
) -> tuple[int, str, str]:
    # Not what this machine has: what the file loses must be the same on all.
    target = ("--target", "portable") if precision == "--int8" else ()
    return command("quantize", fp32, precision, "-o", out, "--json", "--quiet", *target, *words)


@pytest.fixture
def everything_in_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the choice of products, which would keep the loss small."""
    monkeypatch.setattr("stale_edge_export.quantization.quantize.choose", lambda _laboratory, choice, _budget: choice)


@pytest.mark.usefixtures("everything_in_int8")
def test_a_loss_beyond_what_is_allowed_leaves_no_file(
    fp32: Path, videos: Path, truth: Path, tmp_path: Path, command: Command
) -> None:
    words = ("--features", videos, "--ground-truth", truth)
    code, out, err = quantize(command, fp32, tmp_path / "a.onnx", *words)
    assert code == 0, err
    seen = json.loads(out)["recipe"]["detections"]
    assert seen["videos"] == 3
    assert seen["map_fp32"] == 1.0
    assert 0.5 < seen["map"] < 1.0
    drop = 100 * (1 - seen["map"])
    (tmp_path / "a.onnx").unlink()

    code, out, err = quantize(command, fp32, tmp_path / "a.onnx", *words, "--max-drop", f"{drop / 2:.3f}")
    assert (code, out) == (65, "")
    assert f"a.onnx: average mAP falls from 100.00 to {100 * seen['map']:.2f}" in err
    assert "on 3 videos; --max-drop allows" in err
    assert not list(tmp_path.iterdir())

    code, _, err = quantize(command, fp32, tmp_path / "a.onnx", *words, "--max-drop", f"{drop * 1.1:.3f}")
    assert code == 0, err
    assert read_model(tmp_path / "a.onnx").info.recipe["detections"] == seen


@pytest.mark.usefixtures("everything_in_int8")
def test_a_refused_file_leaves_the_old_one(
    fp32: Path, videos: Path, truth: Path, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "a.onnx").write_bytes(b"old")
    code, _, _ = quantize(command, fp32, tmp_path / "a.onnx", "-f", videos, "--ground-truth", truth, "--max-drop", "0")
    assert code == 65
    assert (tmp_path / "a.onnx").read_bytes() == b"old"


def test_both_figures_are_shown(fp32: Path, videos: Path, truth: Path, tmp_path: Path, command: Command) -> None:
    words = ("quantize", fp32, "--fp16", "-o", tmp_path / "a.onnx", "-f", videos / "v_clip1.npy")
    code, out, err = command(*words, "--ground-truth", truth)
    assert code == 0, err
    assert "1 videos: " in out
    assert "average mAP 100.00 in fp32, " in out
    assert " in fp16 (" in out
    assert "Arm cores with half arithmetic" in err


def test_detections_on_videos_decide_what_is_quantised(
    fp32: Path, videos: Path, truth: Path, tmp_path: Path, command: Command
) -> None:
    said = []
    for words in ((), ("-f", videos), ("-f", videos, "--ground-truth", truth, "--report")):
        code, out, err = quantize(command, fp32, tmp_path / "a.onnx", *words)
        assert code == 0, err
        said.append(json.loads(out))
    assert [item["recipe"]["budget"]["measured_on"] for item in said] == ["CLIP-like features", *["given videos"] * 2]
    assert "detections" not in said[0]["recipe"]
    assert set(said[1]["recipe"]["detections"]) == {"videos", "matched_share"}
    # The budget holds: a tiny random network loses more than that with all of it in int8.
    assert all(item["recipe"]["detections"]["matched_share"] >= 0.97 for item in said[1:])
    assert said[2]["recipe"]["detections"]["map"] >= 0.997
    assert len(said[2]["recipe"]["kept_fp32"]) > 0
    for layer in said[2]["layers"]:
        assert 0 <= layer["harm"]["matched_share"] <= 1
        assert "map_drop_points" in layer["harm"]


def test_an_open_file_detects_with_the_text_it_is_given(
    tiny_export: TinyExport, videos: Path, tmp_path: Path, command: Command
) -> None:
    np.save(tmp_path / "text.npy", np.random.default_rng(0).standard_normal((2, 32)).astype(np.float32))
    (tmp_path / "classes.txt").write_text("a\nb\n")
    words = ("-f", videos, "--text-embeddings", tmp_path / "text.npy", "--classes", tmp_path / "classes.txt")
    model = tiny_export(Kind.OPEN)
    for given_text, measured in ((words, True), (words[:2], False)):
        code, out, err = quantize(command, model, tmp_path / "a.onnx", *given_text, precision="--fp16")
        assert code == 0, err
        assert ("detections" in json.loads(out)["recipe"]) is measured


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--max-drop", "1"], 2, "--max-drop: needs ground truth; give --ground-truth"),
        (["--ground-truth", "{truth}"], 2, "--ground-truth: needs videos; give their --features"),
        (["-f", "{videos}", "--ground-truth", "none.json"], 66, "none.json: no such file"),
        (["-f", "no*.npy"], 66, "no*.npy: matches no file"),
        (["-f", "{videos}", "--ground-truth", "{other}"], 65, "other.json has no duration of video clip0"),
        (["-f", "{videos}", "--ground-truth", "{other}", "--fps", "1", "--stride", "1"], 65, "has no instances"),
        (["-f", "{videos}", "--text-embeddings", "a.npy"], 2, "belong together"),
    ],
)
def test_errors(
    words: list[str], code: int, message: str, fp32: Path, videos: Path, truth: Path, tmp_path: Path, command: Command
) -> None:
    other = tmp_path / "other.json"
    other.write_text(truth.read_text().replace("clip", "film"))
    filled = [word.format(truth=truth, videos=videos, other=other) for word in words]
    found, out, err = quantize(command, fp32, tmp_path / "a.onnx", *filled)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "a.onnx").exists()


def test_a_loss_that_is_not_known_is_refused() -> None:
    with pytest.raises(BadDataError, match="not known"):
        Acceptance(3, 1.0, None, None).require(Path("a.onnx"), 1.0)


@pytest.mark.parametrize(("allowed", "holds"), [(0.5, True), (0.49, False), (0.0, False)])
def test_drops_are_in_points(allowed: float, holds: bool) -> None:
    seen = Acceptance(3, 1.0, 0.345, 0.340)
    assert seen.drop_points == pytest.approx(0.5)
    if holds:
        seen.require(Path("a.onnx"), allowed + 1e-9)
    else:
        with pytest.raises(BadDataError, match=r"from 34\.50 to 34\.00, by 0\.50 points on 3 videos"):
            seen.require(Path("a.onnx"), allowed)


def test_products_are_tried_on_annotated_videos() -> None:
    empty = np.zeros((1, 4), np.float32)
    videos = tuple(TrialVideo(str(index), empty, 1.0) for index in range(100))
    annotated = tuple(Video(str(index), "validation", 1.0, (Instance(0, 1, "a"),)) for index in (7, 11, 12))
    silent = Video("8", "validation", 1.0, ())
    thinned = Trial(videos, Annotations("gt.json", (*annotated, silent))).thinned(2)
    assert [video.video_id for video in thinned.videos] == ["7", "11"]
    assert len(Trial(videos, Annotations("gt.json", (silent,))).thinned(10).videos) == 10


def test_a_video_that_does_not_fit_is_named(fp32: Path) -> None:
    long = TrialVideo("tall", np.zeros((9000, 32), np.float32), 1.0)
    with pytest.raises(BadDataError, match="video tall: features 9,000 snippets, the model takes at most 8,192"):
        Trial((long,)).detect(read_model(fp32))


@given(st.integers(1, 60), st.integers(1, 40))
def test_thinning_takes_evenly(count: int, most: int) -> None:
    empty = np.zeros((1, 4), np.float32)
    thinned = Trial(tuple(TrialVideo(str(index), empty, 1.0) for index in range(count))).thinned(most)
    kept = [int(video.video_id) for video in thinned.videos]
    assert len(kept) == min(count, most)
    gaps = np.diff([*kept, count])
    assert kept[0] == 0
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1
