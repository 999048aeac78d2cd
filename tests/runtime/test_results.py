"""Result files: what is written is read back, and nothing else is taken."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.errors import BadDataError, CannotWriteError, InputMissingError
from stale_edge_runtime.formats.left_out import left_out_lines
from stale_edge_runtime.formats.results import (
    CSV_COLUMNS,
    MODEL,
    SCORE_ENHANCEMENT,
    read_results,
    write_results,
    write_results_csv,
)
from stale_edge_runtime.formats.video_ids import is_video_id

FINITE = st.floats(-1e6, 1e6)
DETECTIONS = st.builds(
    lambda start, length, label, score: Detection(start, start + length, label, score),
    FINITE,
    st.floats(0, 1e6),
    st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable() and text == text.strip()),
    FINITE,
)
IDS = st.text(min_size=1, max_size=255).filter(is_video_id)
RESULTS = st.dictionaries(IDS, st.lists(DETECTIONS, max_size=4).map(tuple), max_size=4)
GOOD = {"label": "Archery", "score": 0.5, "segment": [1.0, 2.0]}


@given(results=RESULTS)
def test_what_is_written_is_read_back(results, tmp_path_factory):
    path = tmp_path_factory.mktemp("results") / "r.json"
    write_results(path, results)
    assert read_results(path).detections == results


@given(results=RESULTS)
def test_csv_is_read_back(results, tmp_path_factory):
    path = tmp_path_factory.mktemp("results") / "r.csv"
    write_results_csv(path, results)
    assert read_results(path).detections == {video: rows for video, rows in results.items() if rows}


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' C calc'!A0", "-1+1|x", "@SUM(A1)", "'=1", "''-x", "-0edUL8zmA"])
def test_csv_holds_no_formula_and_loses_none(tmp_path, text):
    path = tmp_path / "r.csv"
    results = {text: (Detection(1.0, 2.0, text, 0.5),)}
    write_results_csv(path, results)
    video, *_, label = next(csv.reader(path.read_text().splitlines()[1:]))
    assert video[0] == label[0] == "'"
    assert read_results(path).detections == results


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ("a,1,2", "label"),
        ("a,1,nan,0.5,x", "end"),
        ("a/b,1,2,0.5,x", "no id"),
        ('a,1,2,0.5,"x', "damaged CSV"),
        ("a,1,2,0.5,", "label"),
    ],
)
def test_damaged_csv_is_refused(tmp_path, lines, word):
    path = tmp_path / "r.csv"
    path.write_text(",".join(CSV_COLUMNS) + "\n" + lines)
    with pytest.raises(BadDataError, match=word):
        read_results(path)


def test_schema_is_the_official_one(tmp_path):
    path = tmp_path / "r.json"
    write_results(path, {"a": [Detection(1.0, 2.5, "Long jump", 0.25)], "b": []}, external={MODEL: {"sha256": "00"}})
    assert json.loads(path.read_text()) == {
        "version": "VERSION 1.3",
        "results": {"a": [{"label": "Long jump", "score": 0.25, "segment": [1.0, 2.5]}], "b": []},
        "external_data": {MODEL: {"sha256": "00"}},
    }


def test_numbers_of_numpy_are_written_as_numbers(tmp_path):
    path = tmp_path / "r.json"
    write_results(path, {"a": [Detection(np.float32(1), np.float64(2), "x", np.float32(0.5))]})
    assert read_results(path).detections == {"a": (Detection(1.0, 2.0, "x", 0.5),)}


def test_csv_has_a_line_for_each_detection(tmp_path):
    path = tmp_path / "r.csv"
    write_results_csv(path, {"a": [Detection(1.0, 2.5, 'Clean, "jerk"', 0.25)], "b": []})
    assert path.read_text() == 'video,start_s,end_s,score,label\na,1.0,2.5,0.25,"Clean, ""jerk"""\n'


@pytest.mark.parametrize(
    ("external", "expected"),
    [
        ({}, None),
        ({SCORE_ENHANCEMENT: None}, None),
        (
            {SCORE_ENHANCEMENT: {"source": "cuhk.json", "top1_accuracy": 0.88}},
            {"source": "cuhk.json", "top1_accuracy": 0.88},
        ),
        ({SCORE_ENHANCEMENT: "cuhk.json"}, {"source": "cuhk.json"}),
    ],
)
def test_score_enhancement_is_remembered(tmp_path, external, expected):
    write_results(tmp_path / "r.json", {}, external=external)
    assert read_results(tmp_path / "r.json").score_enhancement == expected


@pytest.mark.parametrize(
    ("results", "external", "word"),
    [
        ({"a": [Detection(2.0, 1.0, "x", 0.5)]}, {}, "ends at 1.0 before it starts at 2.0"),
        ({"a": [Detection(1.0, 2.0, "x", float("nan"))]}, {}, "score that is not a finite"),
        ({"a": [Detection(1.0, 2.0, "", 0.5)]}, {}, "label"),
        ({"a": [Detection(1.0, 2.0, "\ud800", 0.5)]}, {}, "label"),
        ({"../a": []}, {}, "'../a'"),
        ({"": []}, {}, "is no id"),
        ({}, {"x": float("inf")}, "cannot hold"),
        ({}, {"x": object()}, "cannot hold"),
        ({}, {"x": "\ud800"}, "cannot hold"),
    ],
)
def test_what_no_reader_takes_is_not_written(tmp_path, results, external, word):
    path = tmp_path / "r"
    path.write_text("old")
    with pytest.raises(BadDataError, match=word):
        write_results(path, results, external=external)
    if results:
        with pytest.raises(BadDataError, match=word):
            write_results_csv(path, results)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["r"]


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(CannotWriteError, match="nowhere"):
        write_results(tmp_path / "nowhere" / "r.json", {})


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"results": {"a": []', "is not JSON"),
        ("[]", "no object 'results'"),
        ("{}", "no object 'results'"),
        ('{"results": []}', "no object 'results'"),
        ('{"results": {}, "external_data": [1]}', "external_data"),
        ('{"results": {}, "external_data": {"x": 1e999}}', "cannot hold"),
        ('{"results": {}, "external_data": {"x": "\\ud800"}}', "cannot hold"),
        ('{"results": {"a": [], "a": []}}', "'a' twice"),
        ('{"results": {"a/b": []}}', "'a/b'"),
        ('{"results": {"a": {}}}', "not a list"),
        ('{"results": {"a": [1]}}', "detection 0 is not in the schema"),
        ('{"results": {"a": ["text"]}}', "detection 0 is not in the schema"),
        ('{"results": {"a": [{"label": "x", "score": 1}]}}', "detection 0 is not in the schema"),
        (GOOD | {"segment": [1, 2, 3]}, "detection 1 is not in the schema"),
        (GOOD | {"segment": 7}, "detection 1 is not in the schema"),
        (GOOD | {"segment": ["1_0", "2"]}, "start that is not a finite number"),
        (GOOD | {"segment": [True, 2]}, "start that is not a finite number"),
        (GOOD | {"segment": [0, 10**400]}, "end that is not a finite number"),
        (GOOD | {"segment": [2, 1]}, "ends at 1.0 before it starts at 2.0"),
        (GOOD | {"score": None}, "score that is not a finite"),
        (GOOD | {"label": 3}, "label"),
        (GOOD | {"label": "x" * 501}, "label"),
        (GOOD | {"label": "a\nb"}, "label"),
        (
            '{"results": {"a": [{"label": "x", "score": 1e999, "segment": [0, 1]}]}}',
            "score that is not a finite number",
        ),
        ('{"results": {"a": [{"label": "x", "score": NaN, "segment": [0, 1]}]}}', "score that is not a finite"),
    ],
)
def test_hostile_files_are_refused_by_name(tmp_path, content, word):
    path = tmp_path / "hostile.json"
    path.write_text(content if isinstance(content, str) else json.dumps({"results": {"a": [GOOD, content]}}))
    with pytest.raises(BadDataError) as caught:
        read_results(path, strict=True)
    assert "hostile.json" in str(caught.value)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputMissingError, match=r"none\.json"):
        read_results(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (GOOD | {"segment": [2, 1]}, "detections that end before they start"),
        (GOOD | {"score": float("nan")}, "detections whose score is not a finite number"),
        (GOOD | {"label": 3}, "detections without a proper label"),
    ],
)
def test_an_unusable_detection_leaves_the_others(tmp_path, bad, kind):
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"results": {"a": [GOOD, bad, bad], "b": [GOOD]}}))
    found = read_results(path)
    assert [len(found.detections[video]) for video in "ab"] == [1, 1]
    assert {name: item.count for name, item in found.left_out.items()} == {kind: 2}
    (line,) = left_out_lines(found.left_out)
    assert line.startswith(f"left out 2 {kind}; the first: {path}: video a, detection 1 ")


def test_numbers_may_be_strings(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"results": {"a": [GOOD | {"score": "0.9", "segment": ["1.5", "2"]}]}}))
    (detection,) = read_results(path).detections["a"]
    assert (detection.score, detection.start_s, detection.end_s) == (0.9, 1.5, 2.0)


def test_a_file_of_unusable_detections_alone_is_refused(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"results": {"a": [GOOD | {"segment": [2, 1]}]}}))
    with pytest.raises(BadDataError, match="detection 0 ends at"):
        read_results(path)
