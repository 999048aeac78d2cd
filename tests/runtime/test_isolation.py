"""A model in a process of its own: the same answers, and its death is a failure of one video."""

from __future__ import annotations

import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from stale_edge_runtime import isolation
from stale_edge_runtime.corpus import Clock, DetectionRun, find_videos, run_all
from stale_edge_runtime.detector import Detector
from stale_edge_runtime.errors import BadDataError, UnavailableError, UsageError
from stale_edge_runtime.isolation import MAX_DEATHS, IsolatedDetector

DATA = Path(__file__).parents[1] / "data"
MODEL = DATA / "tiny_baked.onnx"
WIDTH = 8


def features(seed: int, snippets: int = 40) -> np.ndarray:
    return (3 * np.random.default_rng(seed).standard_normal((snippets, WIDTH))).astype(np.float32)


def killed(detector: IsolatedDetector, number: int) -> None:
    assert detector._process is not None
    os.kill(detector._process.pid, number)
    detector._process._process.wait()


def test_answers_are_those_of_the_library() -> None:
    isolated, plain = IsolatedDetector(MODEL), Detector(MODEL)
    for snippets in (1, 2, 100, 257):
        assert isolated.detect(features(snippets, snippets), 80.0) == plain.detect(features(snippets, snippets), 80.0)
    assert isolated.detect(features(0), 80.0, compat="stale") == plain.detect(features(0), 80.0, compat="stale")
    assert (isolated.classes, isolated.info, isolated.path) == (plain.classes, plain.info, plain.path)
    isolated.close()


def test_a_pickled_detector_starts_a_process_of_its_own() -> None:
    isolated = IsolatedDetector(MODEL)
    copy = pickle.loads(pickle.dumps(isolated))
    assert (copy.classes, copy.info) == (isolated.classes, isolated.info)
    assert copy.detect(features(0), 80.0) == isolated.detect(features(0), 80.0)
    assert copy._process.pid != isolated._process.pid
    copy.close()
    isolated.close()


def test_text_embeddings_go_along() -> None:
    text = np.random.default_rng(0).standard_normal((3, WIDTH)).astype(np.float32)
    options = {"text_embeddings": text, "classes": ("a", "b", "c")}
    isolated, plain = IsolatedDetector(DATA / "tiny_open.onnx", **options), Detector(DATA / "tiny_open.onnx", **options)
    assert isolated.detect(features(1), 80.0) == plain.detect(features(1), 80.0)
    assert isolated.classes == ("a", "b", "c")
    isolated.close()


def test_errors_are_those_of_the_library(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="4096 threads"):
        IsolatedDetector(MODEL, threads=4096)
    with pytest.raises(UsageError, match="is an open-vocabulary file"):
        IsolatedDetector(DATA / "tiny_open.onnx", text_embeddings=features(0))
    isolated = IsolatedDetector(MODEL, max_memory_mb=10)
    with pytest.raises(BadDataError, match="--window"):
        isolated.detect(features(0, 300))
    with pytest.raises(BadDataError, match="not"):
        isolated.detect(features(0)[:, :3])
    isolated.close()


def test_a_death_is_one_video_s_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcde":
        np.save(tmp_path / f"{name}.npy", features(ord(name)))
    detector = IsolatedDetector(MODEL)
    run = DetectionRun(detector, Clock(None, 2.0))
    expected = run_all(run, find_videos([str(tmp_path)])).results

    def before(video: object) -> object:
        if video.video_id == "c":  # type: ignore[attr-defined]
            killed(detector, signal.SIGFPE)
        return run.read(video)  # type: ignore[arg-type]

    outcome = run_all(run, find_videos([str(tmp_path)]), read=before)
    assert [(video.video_id, "SIGFPE" in str(error)) for video, error in outcome.failures] == [("c", True)]
    assert outcome.results == {name: found for name, found in expected.items() if name != "c"}
    detector.close()


def test_a_file_that_always_kills_is_given_up() -> None:
    detector = IsolatedDetector(MODEL)
    for _ in range(MAX_DEATHS):
        if detector._process is None:
            detector._start()
        killed(detector, signal.SIGKILL)
        detector._deaths += 0
        with pytest.raises(BadDataError, match="SIGKILL"):
            detector._ask(b"", 10, "here")
        detector._deaths = detector._deaths or 1
    detector._deaths = MAX_DEATHS
    with pytest.raises(BadDataError, match="ended 3 processes, one after the other"):
        detector.detect(features(0))


def test_what_takes_too_long_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = IsolatedDetector(MODEL)
    assert detector._process is not None
    process = detector._process
    os.kill(process.pid, signal.SIGSTOP)
    monkeypatch.setattr(isolation, "VIDEO_S", 0.2)
    begin = time.monotonic()
    with pytest.raises(BadDataError, match="took longer than 0 s on a video"):
        detector.detect(features(0))
    assert time.monotonic() - begin < 10
    assert not process.alive
    detector.close()


def test_the_process_ends_with_its_user() -> None:
    detector = IsolatedDetector(MODEL)
    process = detector._process
    assert process is not None
    del detector
    assert not process.alive


@pytest.mark.parametrize("answer", [b"", b"nonsense", b"\xff" * 8, b"\x02" + bytes(7) + b"{]", b"\x01" + bytes(7)])
def test_an_answer_out_of_form_is_bad_data(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    serve = f"import os, sys; os.write(1, {answer!r}); os.close(1); sys.stdin.read()"
    monkeypatch.setattr(isolation, "_SERVE", serve)
    with pytest.raises(BadDataError, match="ended the process that ran it"):
        IsolatedDetector(MODEL)
