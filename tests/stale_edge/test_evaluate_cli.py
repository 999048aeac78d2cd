"""`stale-edge evaluate`, from the words typed to the exit code."""

from __future__ import annotations

import json

import pytest

from stale_edge.cli.app import run
from stale_edge.cli.evaluate import parse_tious
from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.formats.results import SCORE_ENHANCEMENT, write_results
from stale_edge_runtime.metrics.evaluation import ACTIVITYNET_TIOUS, THUMOS_TIOUS


@pytest.fixture
def truth(tmp_path):
    database = {
        "vid-1": {
            "subset": "validation",
            "duration": 40,
            "annotations": [{"segment": [0, 10], "label": "Long [i]jump"}],
        },
        "vid-2": {"subset": "validation", "duration": 40, "annotations": [{"segment": [5, 45], "label": "Archery"}]},
        "vid-3": {"subset": "training", "duration": 40, "annotations": [{"segment": [5, 35], "label": "Archery"}]},
    }
    path = tmp_path / "gt.json"
    path.write_text(json.dumps({"database": database}))
    return path


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, {"vid-1": [Detection(0, 10, "Long [i]jump", 0.9)]})
    return path


def evaluated(capsys, *words):
    code = run(["evaluate", *map(str, words)])
    spoken = capsys.readouterr()
    return code, spoken.out, spoken.err


def test_tables_on_stdout_and_notes_on_stderr(capsys, truth, results):
    code, out, err = evaluated(capsys, results, "--ground-truth", truth)
    assert code == 0
    assert "validation: 2 videos, 2 instances of 2 classes, 1 detections" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["│", "0.50", "│", "50.00", "│"] in rows
    assert ["│", "0.95", "│", "50.00", "│"] in rows
    assert ["│", "average", "│", "50.00", "│"] in rows
    assert "Long [i]jump" in out
    assert "missed 1 of 2 instances at tIoU 0.50; seen: not at all (1)" in out
    assert "1 videos have no detection" in err
    assert "past the end of their video 1" in err


def test_json_to_a_file_and_to_stdout_are_the_same(capsys, tmp_path, truth, results):
    target = tmp_path / "out.json"
    code, out, _ = evaluated(capsys, results, "-g", truth, "--json", target, "--quiet")
    assert code == 0
    assert "average" in out
    content = json.loads(target.read_text())
    assert content["average_map"] == 0.5
    assert list(content["map"]) == [f"{tiou:.2f}" for tiou in ACTIVITYNET_TIOUS]
    assert (content["videos"], content["instances"], content["subset"]) == (2, 2, "validation")
    assert content["classes"]["Archery"] == {"average": 0.0, "ap": dict.fromkeys(content["map"], 0.0), "instances": 1}
    assert content["diagnosis"]["top"]["1"]["true positive"] == 1
    code, out, err = evaluated(capsys, results, "-g", truth, "--json", "-", "--quiet")
    assert (code, json.loads(out), err) == (0, content, "")


def test_reference_points_stand_beside(capsys, tmp_path, truth):
    path, note = tmp_path / "results.json", tmp_path / "note.md"
    write_results(path, {"vid-1": [Detection(0, 10, "Archery", 0.9)], "vid-2": [Detection(3, 40, "Archery", 0.8)]})
    words = (path, "-g", truth, "--reference-points", "--tiou", "0.5")
    code, out, _ = evaluated(capsys, *words, "--markdown", note)
    assert code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines()]
    assert ["these detections", "25.00", "100"] in rows
    assert ["true class", "100.00", "400"] in rows  # each segment hits, and lacks the label alone
    assert ["whole video, same labels", "25.00", "100"] in rows
    assert "| true class | 100.00 | 400 |" in note.read_text()
    code, out, _ = evaluated(capsys, *words, "--json", "-")
    assert json.loads(out)["reference_points"]["true class"] == 1.0
    code, out, _ = evaluated(capsys, path, "-g", truth, "--json", "-")
    assert "reference_points" not in json.loads(out)


def test_figures_of_a_simulated_world_say_so(capsys, truth, results):
    content = json.loads(truth.read_text())
    truth.write_text(json.dumps({"version": "stale-edge simulated world", **content}))
    _, out, _ = evaluated(capsys, results, "-g", truth)
    assert "simulated world, validation: 2 videos" in out


def test_compat_says_what_it_leaves_out(capsys, truth, results):
    code, out, err = evaluated(capsys, results, "-g", truth, "--compat", "stale", "--json", "-")
    assert (code, json.loads(out)["average_map"]) == (0, 1.0)
    assert "compat stale: 1 ground-truth videos without detections do not count" in err


def test_score_enhancement_is_said_loudly(capsys, tmp_path, truth):
    path = tmp_path / "enhanced.json"
    found = {"vid-1": [Detection(0, 10, "Long [i]jump", 0.9)]}
    write_results(path, found, external={SCORE_ENHANCEMENT: {"source": "cuhk.json", "top1_accuracy": 0.884}})
    code, out, err = evaluated(capsys, path, "-g", truth, "--quiet")
    assert code == 0
    assert "WITH SCORE ENHANCEMENT" in out
    assert "SCORE ENHANCEMENT (cuhk.json)" in err
    assert "88.4%" in err
    write_results(path, found, external={SCORE_ENHANCEMENT: {"top1_accuracy": "high"}})
    code, out, err = evaluated(capsys, path, "-g", truth, "--json", "-")
    assert json.loads(out)["score_enhancement"] == {"top1_accuracy": "high"}
    assert "(source not recorded)" in err
    assert "not recorded)" in err


def test_ignored_detections_are_reported(capsys, tmp_path, truth):
    path = tmp_path / "noisy.json"
    write_results(
        path,
        {
            "vid-1": [Detection(0, 10, "Long [i]jump", 0.9), Detection(0, 1, "Chess", 0.9)],
            "vid-3": [Detection(0, 1, "x", 1)],
        },
    )
    code, out, err = evaluated(capsys, path, "-g", truth, "--json", "-")
    assert code == 0
    ignored = {"labels": {"Chess": 1}, "videos": {"vid-3": 1}, "ground_truth_videos": 0}
    assert json.loads(out)["ignored"] == ignored
    assert "1 detections ignored, their labels are not in the ground truth: 'Chess'" in err
    assert "1 detections ignored, their videos are not in the ground truth: vid-3" in err


def test_classes_restrict_the_ground_truth(capsys, tmp_path, truth, results):
    classes = tmp_path / "unseen.list"
    classes.write_text("Long [i]jump\nChess\n")
    code, out, err = evaluated(capsys, results, "-g", truth, "--classes", classes, "--tiou", "0.5,0.75", "--json", "-")
    content = json.loads(out)
    assert (code, content["videos"], content["map"]) == (0, 1, {"0.50": 1.0, "0.75": 1.0})
    assert "Chess not in the ground truth of subset validation" in err


def test_thumos_is_known_by_its_video_names(capsys, tmp_path):
    entry = {"subset": "Test", "annotations": [{"segment": ["1", "2"], "label": "HighJump"}]}
    truth, results = tmp_path / "thumos.json", tmp_path / "results.json"
    truth.write_text(json.dumps({"database": {"video_test_0000896": entry}}))
    write_results(results, {"video_test_0000896": [Detection(1, 2, "HighJump", 0.5)]})
    code, out, _ = evaluated(capsys, results, "-g", truth, "--json", "-")
    content = json.loads(out)
    assert (code, content["subset"], content["average_map"]) == (0, "Test", 1.0)
    assert list(content["map"]) == [f"{tiou:.2f}" for tiou in THUMOS_TIOUS]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_number_of_classes_shown(capsys, truth, results, count):
    code, out, _ = evaluated(capsys, results, "-g", truth, "--worst", count)
    assert code == 0
    assert ("Archery" in out) == (count > 0)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["none.json", "-g", "gt.json"], 66, "none.json: no such file"),
        (["results.json", "-g", "none.json"], 66, "none.json: no such file"),
        (["gt.json", "-g", "gt.json"], 65, "gt.json: has no object 'results'"),
        (["results.json", "-g", "results.json"], 65, "results.json: has no videos under 'database'"),
        (["results.json", "-g", "gt.json", "--subset", "test"], 2, "no subset 'test'; there are: validation"),
        (["results.json", "-g", "gt.json", "--subset", "training"], 65, "none of its 1 videos (as vid-1)"),
        (["results.json", "-g", "gt.json", "--tiou", "0.5:1"], 2, "--tiou: '0.5:1'"),
        (["results.json", "-g", "gt.json", "--compat", "other"], 2, "'other'"),
        (["results.json", "-g", "gt.json", "--classes", "none.list"], 66, "none.list: no such file"),
        (["results.json", "-g", "gt.json", "--json", "nowhere/out.json"], 73, "nowhere"),
        (["results.json", "--annotations", "gt.json", "--json", "."], 73, "is a folder"),
        (["results.json", "-g", "gt.json", "--json", "results.json"], 2, "is an input of this command"),
        (["results.json", "-g", "gt.json", "--worst", "-1"], 2, "--worst"),
        (["results.json"], 2, "--ground-truth"),
    ],
)
def test_errors_name_file_and_cure_on_one_line(capsys, tmp_path, monkeypatch, truth, results, words, code, message):
    monkeypatch.chdir(tmp_path)
    found, out, err = evaluated(capsys, *words, "--quiet")
    assert (found, out) == (code, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5:0.95:0.05", ACTIVITYNET_TIOUS),
        ("0.3:0.7:0.1", THUMOS_TIOUS),
        ("0.5", (0.5,)),
        ("0.5, 0.75,0.95", (0.5, 0.75, 0.95)),
        ("0.5:0.6:0.25", (0.5,)),
        ("0.5:0.5:0.1", (0.5,)),
        ("0.001:1:0.001", tuple(k / 1000 for k in range(1, 1001))),
    ],
)
def test_thresholds_mean_their_digits(text, expected):
    assert parse_tious(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "nan", "inf", "0", "1.1", "-0.5", "0.5,", "0.5:0.9", "0.9:0.5:0.1", "0.5:0.9:0", "0.5:0.9:-1"),
        *("0.5:nan:0.1", "0.1:1:1e-999999999", "1e-9:1:1e-9", "1e-999999:1:0.5", "0.1:0.2:0.3:0.4"),
        ",".join(["0.5"] * 1001),
    ],
)
def test_other_thresholds_are_refused(text):
    with pytest.raises(UsageError, match="--tiou"):
        parse_tious(text)


def test_golden_numbers_through_the_command(capsys, shared):
    golden = shared / "golden"
    words = (golden / "evaluate_predictions.json", "-g", golden / "evaluate_ground_truth.json", "--json", "-")
    code, out, _ = evaluated(capsys, *words)
    content, expected = json.loads(out), json.loads((golden / "evaluate.json").read_text())
    assert code == 0
    assert content["average_map"] == pytest.approx(expected["average"], abs=1e-9)
    assert list(content["map"].values()) == pytest.approx(list(expected["map"].values()), abs=1e-9)


GOOD_TRUTH = {"segment": [1, 5], "label": "run"}


def judged(tmp_path, truth, found):
    database = {"a": {"subset": "validation", "duration": 10.0, "annotations": truth}}
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    (tmp_path / "r.json").write_text(json.dumps({"results": {"a": found}}))
    return str(tmp_path / "r.json"), str(tmp_path / "gt.json")


def test_an_unusable_entry_is_left_out_and_said(tmp_path, command):
    truth = [GOOD_TRUTH, GOOD_TRUTH | {"segment": [5, 1]}]
    results, gt = judged(tmp_path, truth, [GOOD_TRUTH | {"score": 0.9}, GOOD_TRUTH | {"score": float("nan")}])
    code, _, err = command("evaluate", results, "-g", gt)
    assert code == 0
    assert "left out 1 segments that end before they start" in err
    assert "left out 1 detections whose score is not a finite number" in err
    assert command("evaluate", results, "-g", gt, "--strict")[0] == 65


def test_labels_that_the_truth_lacks_are_refused(tmp_path, command):
    results, gt = judged(tmp_path, [GOOD_TRUTH], [GOOD_TRUTH | {"label": "Run", "score": 0.9}])
    code, _, err = command("evaluate", results, "-g", gt)
    assert code == 65
    assert "none of its 1 labels (as 'Run')" in err


def test_times_beyond_the_video_are_said(tmp_path, command):
    frames = GOOD_TRUTH | {"segment": [250, 500]}
    results, gt = judged(tmp_path, [frames], [frames | {"score": 0.9}])
    code, _, err = command("evaluate", results, "-g", gt)
    assert code == 0
    assert "1 of 1 instances start after the end of their video; are their times in seconds?" in err
