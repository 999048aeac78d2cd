"""Files of external classifiers: both forms, and what is refused."""

from __future__ import annotations

import json

import pytest

from stale_edge_runtime.errors import BadDataError, InputMissingError
from stale_edge_runtime.formats.external_scores import read_external

VERDICTS = {"v_abc-1": {"class": "Diving", "score": 0.75}, "v_v_xyz": {"class": "Surfing", "score": 1}}
CUHK = {"results": {"abc-1": [0.1, 0.8, 0.8], "v_def": [2.0, -1.0, 0]}, "class": ["Surfing", "Diving", "Archery"]}


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "external.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_verdict_form(written):
    external = read_external(written(VERDICTS))
    assert external.best("v_abc-1") == external.best("abc-1") == ("Diving", 0.75)
    assert external.best("v_xyz") == external.best("v_v_xyz") == ("Surfing", 1.0)
    assert external.best("other") is None


def test_scores_form_takes_the_first_highest(written):
    external = read_external(written(CUHK))
    assert external.best("v_abc-1") == external.best("abc-1") == ("Diving", 0.8)
    assert external.best("def") == external.best("v_def") == ("Surfing", 2.0)


def test_accuracy_counts_videos_in_both(written):
    external = read_external(written(CUHK))
    assert external.accuracy({"abc-1": {"Diving", "Archery"}, "v_def": ["Archery"], "other": ["Diving"]}) == 0.5
    assert external.accuracy({"abc-1": []}) is None
    assert external.accuracy({}) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "is not a JSON object"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"v_a": {"class": "Diving", "score": NaN}}', "holds NaN"),
        ('{"v_a": {"class": "Diving", "score": 1e999}}', "has the score 'inf'"),
        ('{"v_a": {"class": "Diving", "score": 1%s}}' % ("0" * 400), "beyond float range"),
        ('{"v_a": {"class": "Diving", "score": 1%s}}' % ("0" * 5000), "is not JSON"),
        ({"v_a": {"class": "Diving", "score": "0.5"}}, "has the score '0.5'"),
        ({"v_a": {"class": "Diving", "score": True}}, "has the score 'True'"),
        ({"v_a": {"class": "Diving"}}, "has no 'class' and 'score'"),
        ({"v_a": 3}, "has no 'class' and 'score'"),
        ({"v_a": {"class": ["Diving"], "score": 0.5}}, "labels are"),
        ({"v_a": {"class": "", "score": 0.5}}, "labels are"),
        ({"v_a": {"class": "x" * 257, "score": 0.5}}, "labels are"),
        ({"v_a": {"class": "Di\nving", "score": 0.5}}, "labels are"),
        ({"../../etc/passwd": {"class": "Diving", "score": 0.5}}, "names a video '../../etc/passwd'"),
        ({"x" * 256: {"class": "Diving", "score": 0.5}}, "names a video"),
        ({"results": [], "class": ["Diving"]}, "needs an object 'results'"),
        ({"results": {}, "class": {}}, "needs an object 'results' and a list 'class'"),
        ({"results": {}, "class": []}, "needs an object 'results' and a list 'class'"),
        ({"results": {"a": [0.1]}, "class": [3]}, "labels are"),
        ({"results": {"a": [0.1]}, "class": ["Diving", "Surfing"]}, "has 1 scores for 2 classes"),
        ({"results": {"a": 0.1}, "class": ["Diving"]}, "has no list of scores for 1 classes"),
        ({"results": {"a": [None]}, "class": ["Diving"]}, "has the score 'None'"),
        ({"results": {"a\nb": [0.1]}, "class": ["Diving"]}, "names a video"),
    ],
)
def test_hostile_files_are_refused(written, content, message):
    path = written(content)
    with pytest.raises(BadDataError, match=message.replace("(", r"\(")) as caught:
        read_external(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_and_not_a_file(tmp_path):
    with pytest.raises(InputMissingError, match="no such file"):
        read_external(tmp_path / "none.json")
    with pytest.raises(BadDataError, match="not a regular file"):
        read_external(tmp_path)


def test_not_text(tmp_path):
    path = tmp_path / "external.json"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(BadDataError, match="is not JSON"):
        read_external(path)
