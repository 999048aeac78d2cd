"""Features tell how they were made, and a model refuses those that were made another way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stale_edge_runtime.corpus import Clock, DetectionRun, find_videos, run_all
from stale_edge_runtime.detector import Detector
from stale_edge_runtime.errors import BadDataError, InputMissingError
from stale_edge_runtime.feature_origin import FeatureOrigin, common_origin
from stale_edge_runtime.formats.feature_record import FeatureRecord, read_record, record_path
from stale_edge_runtime.formats.files import write_json

MODEL = Path(__file__).parents[1] / "data" / "tiny_baked.onnx"
LEARNED = FeatureOrigin("CLIP ViT-B/32", "ab" * 32, "rgb", 0.5)


@pytest.mark.parametrize(
    ("given", "difference"),
    [
        (LEARNED, ""),
        (FeatureOrigin(), ""),
        (replace(LEARNED, step_s=0.5005), ""),
        (replace(LEARNED, extractor="renamed"), ""),
        (replace(LEARNED, step_s=1.0), "have a row every 1 s, not every 0.5 s"),
        (replace(LEARNED, channels="bgr"), "are of BGR frames, not of RGB"),
        (replace(LEARNED, tower_sha256="cd" * 32), "are of CLIP ViT-B/32 (cdcdcdcdcdcd), not of CLIP ViT-B/32 (abab"),
        (FeatureOrigin(tower_sha256="cd" * 32), "are of the image tower cdcdcdcdcdcd, not"),
    ],
)
def test_differences_are_named(given: FeatureOrigin, difference: str) -> None:
    found = LEARNED.difference(given)
    assert found.startswith(difference) if difference else found == ""
    assert bool(given.difference(LEARNED)) == bool(difference)


def test_what_features_share_is_kept() -> None:
    assert common_origin([LEARNED, LEARNED]) == LEARNED
    assert common_origin([LEARNED, replace(LEARNED, step_s=1.0)]) == replace(LEARNED, step_s=None)
    assert common_origin([]) == FeatureOrigin()


def test_an_origin_survives_json() -> None:
    for origin in (LEARNED, FeatureOrigin(), FeatureOrigin(channels="bgr")):
        assert FeatureOrigin.from_dict(json.loads(json.dumps(origin.to_dict()))) == origin


RECORD = FeatureRecord(LEARNED, 10.0, 20, {"video": "a.mp4", "damaged": [3]})


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = record_path(tmp_path / "a.npy")
    write_json(path, RECORD.to_dict())
    assert path.name == "a.features.json"
    assert read_record(path) == RECORD


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"format": 2}, "no record of features of format 1"),
        ({"duration_s": 0}, "duration_s '0'"),
        ({"duration_s": "10"}, "duration_s '10'"),
        ({"rows": 0}, "has '0' rows"),
        ({"rows": True}, "has 'True' rows"),
        ({"origin": []}, "an origin that cannot be read"),
        ({"origin": {"step_s": -1}}, "'step_s' is no positive number"),
        ({"origin": {"channels": "yuv"}}, "'channels' is 'yuv', not one of rgb, bgr"),
        ({"origin": {"extractor": "a\x1b[0m"}}, "'extractor' is no printable text"),
    ],
)
def test_odd_records_are_refused(tmp_path: Path, changes: dict, problem: str) -> None:
    path = tmp_path / "a.features.json"
    write_json(path, RECORD.to_dict() | changes)
    with pytest.raises(BadDataError, match=problem.replace("[", r"\[")):
        read_record(path)
    with pytest.raises(InputMissingError):
        read_record(tmp_path / "b.features.json")


class TestDetection:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        width = Detector(MODEL).info.feature_dim
        rows = np.random.default_rng(0).standard_normal((20, width)).astype(np.float32)
        np.save(tmp_path / "a.npy", rows)
        write_json(tmp_path / "a.features.json", RECORD.to_dict())
        return tmp_path

    @staticmethod
    def _run(folder: Path, **learned: object) -> DetectionRun:
        detector = Detector(MODEL)
        detector.info = replace(detector.info, **learned)
        clock = Clock.of(detector.info, None, None, None, find_videos([str(folder)]))
        return DetectionRun(detector, clock)

    def test_times_are_those_of_the_record(self, folder: Path) -> None:
        run = self._run(folder, snippet_seconds=None)
        assert (run.clock.unit, run.clock.source) == ("seconds", "seconds, as the videos tell")
        outcome = run_all(run, find_videos([str(folder)]))
        assert outcome.lengths == {"a": 10.0}

    def test_a_step_that_was_not_learned_is_refused_with_the_cure(self, folder: Path) -> None:
        run = self._run(folder, snippet_seconds=0.1)
        [(_, error)] = run_all(run, find_videos([str(folder)])).failures
        assert "a row every 0.5 s, not every 0.1 s" in str(error)
        assert "stale-edge features --step 0.1" in str(error)
        assert run_all(replace(run, any_origin=True), find_videos([str(folder)])).results["a"]

    def test_a_network_that_resizes_takes_any_step(self, folder: Path) -> None:
        assert self._run(folder, snippet_seconds=0.1, resize_to=16).read(find_videos([str(folder)])[0]).record == RECORD

    def test_another_tower_is_refused(self, folder: Path) -> None:
        run = self._run(folder, tower_sha256="cd" * 32, snippet_seconds=0.5)
        [(_, error)] = run_all(run, find_videos([str(folder)])).failures
        assert "(abababababab), not of " in str(error)
        assert "cdcdcdcdcdcd" in str(error)

    def test_a_record_of_other_features_is_refused(self, folder: Path) -> None:
        write_json(folder / "a.features.json", RECORD.to_dict() | {"rows": 21})
        [(_, error)] = run_all(self._run(folder), find_videos([str(folder)])).failures
        assert "is of 21 rows, and the features have 20" in str(error)
