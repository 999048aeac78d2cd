"""One loop over many videos: which are found, in which order, how long they are, and what a bad one does."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stale_edge_runtime.corpus import Clock, DetectionRun, VideoFile, find_videos, run_all
from stale_edge_runtime.detector import Detector
from stale_edge_runtime.errors import BadDataError, InputMissingError, UnavailableError, UsageError
from stale_edge_runtime.formats.feature_record import VideoFeatures

if TYPE_CHECKING:
    from stale_edge_runtime.contract import ModelInfo

DATA = Path(__file__).parents[1] / "data"
MODEL = DATA / "tiny_baked.onnx"


@pytest.fixture
def run() -> DetectionRun:
    return DetectionRun(Detector(MODEL), Clock(None, 0.5))


def _features(info: ModelInfo, snippets: int) -> np.ndarray:
    return np.random.default_rng(snippets).standard_normal((snippets, info.feature_dim)).astype(np.float32)


def _folder(folder: Path, info: ModelInfo) -> None:
    np.save(folder / "v_b.npy", _features(info, 3))
    np.savez(folder / "a.npz", features=_features(info, 100))
    np.save(folder / "d.npy", _features(info, 1))
    (folder / "c.npy").write_bytes(b"not an array")
    (folder / "notes.txt").write_text("none of ours")


def test_a_bad_file_is_a_failure_and_the_others_are_complete(tmp_path: Path, run: DetectionRun) -> None:
    _folder(tmp_path, run.detector.info)
    videos = find_videos([str(tmp_path)])
    assert [video.video_id for video in videos] == ["a", "b", "c", "d"]
    seen: list[str] = []
    outcome = run_all(run, videos, seen.append)
    assert seen == ["a", "b", "c", "d"]
    assert list(outcome.results) == ["a", "b", "d"]
    assert outcome.lengths == {"a": 50.0, "b": 1.5, "d": 0.5}
    [(failed, error)] = outcome.failures
    assert failed.video_id == "c"
    assert "c.npy" in str(error)


def test_a_file_named_twice_is_one_video_and_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "v_a.npy", tmp_path / "a.npz"
    first.touch()
    assert find_videos([str(first), str(tmp_path), f"{tmp_path}/*.npy"]) == [VideoFile("a", first)]
    second.touch()
    with pytest.raises(BadDataError, match="is named like video a"):
        find_videos([str(tmp_path)])


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    for argument in (tmp_path, tmp_path / "no.npy", tmp_path / "*.npy"):
        with pytest.raises(InputMissingError):
            find_videos([str(argument)])


def test_a_clock_needs_both_options_and_prefers_them_to_the_model(run: DetectionRun) -> None:
    info = run.detector.info
    video = VideoFile("a", Path("a.npy"))
    assert Clock.of(info, None, 25.0, 10).duration(video, 5) == pytest.approx(2.0)
    assert Clock(None, None).duration(video, 5) == 5.0
    with pytest.raises(UsageError, match="belong together"):
        Clock.of(info, None, 25.0, None)


def test_hdf5_of_one_video_and_of_many_read_like_npy(tmp_path: Path, run: DetectionRun) -> None:
    h5py = pytest.importorskip("h5py")
    features = _features(run.detector.info, 7)
    np.save(tmp_path / "a.npy", features)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["features"] = features
    many = tmp_path / "many"
    many.mkdir()
    with h5py.File(many / "all.hdf5", "w") as file:
        file["v_c"], file["d"] = features, features
    videos = find_videos([str(tmp_path), str(many / "all.hdf5")])
    assert [video.video_id for video in videos] == ["a", "b", "c", "d"]
    outcome = run_all(run, videos)
    assert not outcome.failures
    assert all(outcome.results[name] == outcome.results["a"] for name in "bcd")


def test_without_h5py_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    path = tmp_path / "a.h5"
    path.touch()
    with pytest.raises(UnavailableError, match=r"stale-edge\[hdf5\]"):
        find_videos([str(path)])
    with pytest.raises(UnavailableError, match=r"stale-edge\[hdf5\]"):
        find_videos([str(tmp_path)])[0].read(8)


def test_a_pickled_detector_opens_its_file_again(run: DetectionRun) -> None:
    features = _features(run.detector.info, 20)
    again = pickle.loads(pickle.dumps(run.detector))
    assert again.detect(features) == run.detector.detect(features)


def test_without_h5py_the_other_videos_of_a_folder_are_complete(
    tmp_path: Path, run: DetectionRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    np.save(tmp_path / "a.npy", _features(run.detector.info, 7))
    (tmp_path / "b.h5").touch()
    outcome = run_all(run, find_videos([str(tmp_path)]))
    assert list(outcome.results) == ["a"]
    assert [video.video_id for video, _ in outcome.failures] == ["b"]


def test_features_at_hand_are_not_read_again(run: DetectionRun) -> None:
    features = _features(run.detector.info, 7)
    outcome = run_all(run, [VideoFile("a", Path("nowhere.npy"))], read=lambda _video: VideoFeatures(features))
    assert outcome.results["a"] == run.detector.detect(features, 3.5)
