"""`stale-edge detect` as users type it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stale_edge.cli.app import run
from stale_edge_runtime.detector import Detector

DATA = Path(__file__).parents[1] / "data"
BAKED = str(DATA / "tiny_baked.onnx")
OPEN = str(DATA / "tiny_open.onnx")
WIDTH = 8
PROGRAM = (sys.executable, "-c", "from stale_edge.__main__ import main; main()")


def features(seed, snippets=60):
    rng = np.random.default_rng(seed)
    scenes = np.repeat(rng.standard_normal((snippets // 10 + 1, WIDTH)), 10, axis=0)[:snippets]
    return (3 * scenes + 0.3 * rng.standard_normal((snippets, WIDTH))).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    videos = tmp_path / "features"
    videos.mkdir()
    for index, snippets in enumerate((60, 1, 100, 37)):
        np.save(videos / f"v_clip{index}.npy", features(index, snippets))
    return videos


@pytest.fixture
def one(tmp_path):
    path = tmp_path / "v_one.npy"
    np.save(path, features(0))
    return path


def read(path):
    return json.loads(Path(path).read_text())


def annotations(path, videos):
    database = {
        name: {
            "subset": "validation",
            "duration": duration,
            "annotations": [{"segment": [0.0, duration / 2], "label": "archery"}],
        }
        for name, duration in videos.items()
    }
    path.write_text(json.dumps({"database": database}))
    return str(path)


def test_results_are_what_the_library_finds(folder, tmp_path):
    target = tmp_path / "results.json"
    assert run(["detect", BAKED, str(folder), "-o", str(target)]) == 0
    content = read(target)
    assert list(content["results"]) == ["clip0", "clip1", "clip2", "clip3"]
    expected = Detector(BAKED).detect(np.load(folder / "v_clip2.npy"))
    assert [(d["label"], d["score"], *d["segment"]) for d in content["results"]["clip2"]] == [
        (d.label, d.score, d.start_s, d.end_s) for d in expected
    ]
    assert content["external_data"]["model"]["file"] == "tiny_baked.onnx"
    assert content["external_data"]["time_unit"] == "seconds"
    assert "score_enhancement" not in content["external_data"]


def test_files_folders_globs_and_archives_name_the_same_videos(folder, tmp_path):
    np.savez(folder / "v_packed.npz", features=features(9))
    (folder / "below").mkdir()
    np.save(folder / "below" / "v_hidden.npy", features(8))
    (folder / "notes.txt").write_text("not features")
    targets = [tmp_path / f"{index}.json" for index in range(3)]
    files = sorted(str(path) for path in folder.iterdir() if path.suffix in {".npy", ".npz"})
    for target, words in zip(
        targets, ([str(folder)], [str(folder / "*.np[yz]")], [*reversed(files), files[0]]), strict=True
    ):
        assert run(["detect", BAKED, *words, "-o", str(target)]) == 0
    assert targets[0].read_bytes() == targets[1].read_bytes() == targets[2].read_bytes()
    assert set(read(targets[0])["results"]) == {"clip0", "clip1", "clip2", "clip3", "packed"}


def test_csv_by_name_and_on_stdout(one, tmp_path, capsys):
    target = tmp_path / "results.csv"
    assert run(["detect", BAKED, str(one), "-o", str(target), "--quiet"]) == 0
    rows = list(csv.DictReader(target.open()))
    assert list(rows[0]) == ["video", "start_s", "end_s", "score", "label"]
    assert {row["video"] for row in rows} == {"one"}
    capsys.readouterr()
    assert run(["detect", BAKED, str(one), "-o", "-", "--format", "csv", "--quiet"]) == 0
    assert capsys.readouterr().out == target.read_text()


@pytest.mark.parametrize("name", ["r", "r.txt", "R.JSON"])
def test_any_name_will_do_where_the_format_is_known(name, one, tmp_path):
    target = tmp_path / name
    assert run(["detect", BAKED, str(one), "-o", str(target), *(["--format", "json"] if name == "r.txt" else [])]) == 0
    assert list(read(target)["results"]) == ["one"]


@pytest.mark.parametrize("option", ["--annotations", "--ground-truth", "-g"])
@pytest.mark.parametrize("provider", ["--provider", "--providers"])
def test_one_thing_has_the_names_it_has_elsewhere(option, provider, one, tmp_path, capsys):
    truth = annotations(tmp_path / "gt.json", {"one": 90.0})
    assert run(["detect", BAKED, str(one), option, truth, provider, "cpu"]) == 0
    assert "times are in seconds, from" in capsys.readouterr().err


def test_json_on_stdout_is_nothing_but_json(one, capsys):
    assert run(["detect", BAKED, str(one), "-o", "-"]) == 0
    said = capsys.readouterr()
    assert list(json.loads(said.out)["results"]) == ["one"]
    assert "times are in seconds, 2 per snippet" in said.err


@pytest.mark.parametrize("name", [None, "-", "r.json", "r.csv"])
def test_json_is_printed_whatever_else_is_written(name, one, tmp_path, capsys):
    named = [] if name is None else ["-o", name if name == "-" else str(tmp_path / name)]
    assert run(["detect", BAKED, str(one), "-o", "-", "--quiet"]) == 0
    plain = capsys.readouterr().out
    assert run(["detect", BAKED, str(one), "--json", "--quiet", *named]) == 0
    assert capsys.readouterr().out == plain
    if name == "r.json":
        assert (tmp_path / name).read_text() == plain
    if name == "r.csv":
        assert (tmp_path / name).read_text().startswith("video")


def test_without_output_a_table_is_shown(one, capsys):
    assert run(["detect", BAKED, str(one)]) == 0
    said = capsys.readouterr()
    assert "start (seconds)" in said.out
    assert "archery" in said.out


def test_top_and_min_score_select(one, tmp_path):
    everything, few = tmp_path / "all.json", tmp_path / "few.json"
    run(["detect", BAKED, str(one), "-o", str(everything)])
    assert run(["detect", BAKED, str(one), "-o", str(few), "--top", "3", "--min-score", "0.01"]) == 0
    wanted = [d for d in read(everything)["results"]["one"] if d["score"] >= 0.01][:3]
    assert read(few)["results"]["one"] == wanted
    assert len(wanted) == 3


def span(path):
    return max(d["segment"][1] for d in read(path)["results"]["one"])


def test_durations_come_from_annotations_then_options_then_the_model(one, tmp_path):
    target = tmp_path / "r.json"
    truth = annotations(tmp_path / "gt.json", {"one": 33.0})
    base = ["detect", BAKED, str(one), "-o", str(target)]
    run(base)
    whole = span(target)
    assert whole <= 120.0
    run([*base, "--fps", "25", "--stride", "5"])
    assert span(target) == pytest.approx(whole / 10)
    run([*base, "--fps", "25", "--stride", "5", "--annotations", truth])
    assert span(target) == pytest.approx(whole / 120 * 33)


def test_a_video_without_a_duration_is_bad_data_unless_something_else_tells(one, tmp_path, capsys):
    truth = annotations(tmp_path / "gt.json", {"other": 33.0})
    embeddings, names = open_vocabulary(tmp_path)
    base = ["detect", OPEN, str(one), "-o", str(tmp_path / "r.json"), *embeddings, *names, "--annotations", truth]
    assert run(base) == 65
    assert "has no duration of video one" in capsys.readouterr().err
    assert run([*base, "--fps", "30", "--stride", "15"]) == 0


def open_vocabulary(tmp_path):
    np.save(tmp_path / "text.npy", np.random.default_rng(1).standard_normal((2, WIDTH)).astype(np.float32))
    (tmp_path / "names.txt").write_text("yes\nno\n")
    return ["--text-embeddings", str(tmp_path / "text.npy")], ["--classes", str(tmp_path / "names.txt")]


def test_an_open_vocabulary_model_takes_embeddings_and_says_snippets(one, tmp_path, capsys):
    embeddings, names = open_vocabulary(tmp_path)
    target = tmp_path / "r.json"
    assert run(["detect", OPEN, str(one), "-o", str(target), *embeddings, *names]) == 0
    assert "times are in snippets" in capsys.readouterr().err
    content = read(target)
    assert {d["label"] for d in content["results"]["one"]} <= {"yes", "no"}
    assert content["external_data"]["time_unit"] == "snippets"
    assert run(["detect", OPEN, str(one), *embeddings]) == 2
    assert run(["detect", OPEN, str(one)]) == 2
    assert run(["detect", BAKED, str(one), *embeddings, *names]) == 2


def test_score_enhancement_is_recorded_with_its_accuracy(folder, tmp_path, capsys):
    scores = tmp_path / "scores.json"
    verdicts = {"clip0": "archery", "clip1": "swimming", "clip2": "archery"}
    scores.write_text(json.dumps({f"v_{name}": {"class": label, "score": 2} for name, label in verdicts.items()}))
    truth = annotations(tmp_path / "gt.json", {f"clip{index}": 50.0 for index in range(4)})
    target = tmp_path / "r.json"
    words = ["detect", BAKED, str(folder), "-o", str(target), "--external", str(scores), "--annotations", truth]
    assert run(words) == 0
    assert "for 3 of 4 videos; its top-1 accuracy on them is 66.7%" in capsys.readouterr().err
    content = read(target)
    assert content["external_data"]["score_enhancement"] == {
        "source": "scores.json",
        "videos": 3,
        "top1_accuracy": pytest.approx(2 / 3),
    }
    assert {d["label"] for d in content["results"]["clip1"]} == {"swimming"}


def test_compat_decodes_as_published(one, tmp_path):
    target = tmp_path / "r.json"
    assert run(["detect", BAKED, str(one), "-o", str(target), "--compat", "stale"]) == 0
    content = read(target)
    assert content["external_data"]["compat"] == "stale"
    assert len({d["label"] for d in content["results"]["one"]}) == 1
    assert run(["detect", BAKED, str(one), "--compat", "stale", "--window", "50"]) == 2


def test_one_window_is_no_windows(one, tmp_path):
    whole, windowed = tmp_path / "whole.json", tmp_path / "windowed.json"
    run(["detect", BAKED, str(one), "-o", str(whole)])
    assert run(["detect", BAKED, str(one), "-o", str(windowed), "--window", "60"]) == 0
    assert whole.read_bytes() == windowed.read_bytes()


def test_a_video_too_long_for_the_model_names_window_and_runs_with_it(tmp_path, capsys):
    np.save(tmp_path / "long.npy", features(0, 2000))
    target = tmp_path / "r.json"
    assert run(["detect", BAKED, str(tmp_path / "long.npy"), "-o", str(target)]) == 65
    assert "--window" in capsys.readouterr().err
    assert not target.exists()
    assert run(["detect", BAKED, str(tmp_path / "long.npy"), "-o", str(target), "--window", "100", "--hop", "40"]) == 0
    assert all(0 <= d["segment"][0] < d["segment"][1] <= 4000 for d in read(target)["results"]["long"])


BAD_FILES = {
    "empty": b"",
    "header": b"\x93NUMPY\x01",
    "text": b"not features at all",
    "cut": None,
    "nan": None,
    "wide": None,
    "no\x1bname": None,
}


def spoil(folder):
    for name, content in BAD_FILES.items():
        if content is not None:
            (folder / f"v_{name}.npy").write_bytes(content)
    whole = features(3)
    np.save(folder / "v_cut.npy", whole)
    (folder / "v_cut.npy").write_bytes((folder / "v_cut.npy").read_bytes()[:-100])
    np.save(folder / "v_nan.npy", np.where(np.arange(60)[:, None] == 7, np.nan, whole))
    np.save(folder / "v_no\x1bname.npy", whole)
    np.save(folder / "v_wide.npy", np.ones((10, WIDTH + 1), np.float32))


@pytest.mark.parametrize(("good", "copies"), [(54, 1), pytest.param(900, 15, marks=pytest.mark.slow)])
def test_bad_files_never_change_what_the_good_ones_give(good, copies, tmp_path, capsys):
    folder, clean, spoilt = tmp_path / "features", tmp_path / "clean.json", tmp_path / "spoilt.json"
    folder.mkdir()
    for index in range(good):
        np.save(folder / f"v_good{index:03}.npy", features(index, 5 + index % 60))
    assert run(["detect", BAKED, str(folder), "-o", str(clean)]) == 0
    spoil(folder)
    for copy in range(1, copies):
        for name in BAD_FILES:
            shutil.copy(folder / f"v_{name}.npy", folder / f"v_{name}{copy}.npy")
    bad = copies * len(BAD_FILES)
    capsys.readouterr()
    assert run(["detect", BAKED, str(folder), "-o", str(spoilt), "--quiet"]) == 65
    assert clean.read_bytes() == spoilt.read_bytes()
    assert len(read(spoilt)["results"]) == good
    said = capsys.readouterr().err
    assert f"{bad} of {good + bad} videos could not be used" in said
    assert "Traceback" not in said
    for name in BAD_FILES:
        shown = name.replace("\x1b", "\\x1b")
        assert said.count(f"v_{shown}.npy") == 1


def test_when_every_file_is_bad_nothing_is_written(tmp_path, capsys):
    folder, target = tmp_path / "features", tmp_path / "r.json"
    folder.mkdir()
    spoil(folder)
    assert run(["detect", BAKED, str(folder), "-o", str(target)]) == 65
    assert not target.exists()
    assert "none of the 7 videos could be used" in capsys.readouterr().err


def test_a_single_bad_file_says_its_own_error(tmp_path, capsys):
    path = tmp_path / "wide.npy"
    np.save(path, np.ones((10, 9), np.float32))
    assert run(["detect", BAKED, str(path), "-o", str(tmp_path / "r.json")]) == 65
    said = capsys.readouterr().err
    assert "error: " in said
    assert "wide.npy: is [10, 9], not [snippets, 8]" in said


def test_two_files_of_one_video_are_refused_by_name(folder, capsys):
    np.save(folder / "clip1.npy", features(1))
    assert run(["detect", BAKED, str(folder), "-o", "-"]) == 65
    said = capsys.readouterr().err
    assert str(folder / "clip1.npy") in said
    assert str(folder / "v_clip1.npy") in said


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ([], 2, "FEATURES: are missing"),
        (["absent.npy"], 66, "absent.npy: no such file"),
        (["absent-*.npy"], 66, "matches no file"),
        (["."], 66, "holds no .npy or .npz file"),
        (["one.npy", "--hop", "10"], 2, "--hop"),
        (["one.npy", "--window", "0"], 2, "--window"),
        (["one.npy", "--window", "10", "--hop", "11"], 2, "--hop"),
        (["one.npy", "--fps", "25"], 2, "--fps and --stride: belong together"),
        (["one.npy", "--fps", "0", "--stride", "8"], 2, "give positive numbers"),
        (["one.npy", "--follow"], 2, "--follow: does not go with FEATURES"),
        (["one.npy", "--top", "0"], 2, "--top"),
        (["one.npy", "--threads", "4096"], 69, "4096 threads"),
        (["one.npy", "--provider", "tpu"], 2, "provider 'tpu'"),
        (["one.npy", "--max-memory", "1"], 65, "--window"),
        (["one.npy", "-o", "absent/r.json"], 73, "absent/r.json"),
        (["one.npy", "-o", "."], 73, "is a folder"),
        (["one.npy", "--annotations", "absent.json"], 66, "absent.json"),
        (["one.npy", "--external", "absent.json"], 66, "absent.json"),
        (["one.npy", "--picture", "r.gif"], 2, "end its name in .png, .svg, .pdf"),
        (["one.npy", "-o", "one.npy"], 2, "is an input of this command"),
        (
            ["one.npy", "-o", "r.txt"],
            2,
            "'r.txt' tells no format; name it .json, .csv, .jsonl or .parquet, or",
        ),
        (["one.npy", "--picture", "absent/r.png"], 73, "absent/r.png"),
        (["one.npy", "--min-score", "auto"], 2, "--min-score auto: needs a file that suggests a score"),
        (["one.npy", "--min-score", "high"], 2, "--min-score: 'high' is no score; give a number, or auto"),
        (["one.npy", "--json", "--format", "csv"], 2, "--json: does not go with --format csv on stdout"),
        (["--follow", "--top", "3"], 2, "--top"),
    ],
)
def test_errors_name_the_problem(words, code, text, one, tmp_path, monkeypatch, capsys):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    if "one.npy" in words:
        np.save("one.npy", features(0))
    before = sorted(work.iterdir())
    assert run(["detect", BAKED, *words]) == code
    said = capsys.readouterr()
    assert text in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert sorted(work.iterdir()) == before


def test_a_missing_model_is_missing_input(one, capsys):
    assert run(["detect", "absent.onnx", str(one)]) == 66
    assert "absent.onnx" in capsys.readouterr().err


def test_a_failed_run_leaves_the_old_result(one, tmp_path):
    target = tmp_path / "r.json"
    target.write_text("old")
    bad = tmp_path / "bad.npy"
    bad.write_bytes(b"bad")
    assert run(["detect", BAKED, str(bad), "-o", str(target)]) == 65
    assert target.read_text() == "old"


def test_a_full_disk_is_an_io_error(one, monkeypatch, tmp_path, capsys):
    fired = []

    def full(_descriptor):
        fired.append(True)
        raise OSError(28, "No space left on device")

    target = tmp_path / "r.json"
    target.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    assert run(["detect", BAKED, str(one), "-o", str(target)]) == 74
    assert fired
    assert target.read_text() == "old"
    assert "free some space" in capsys.readouterr().err


def test_a_picture_of_the_videos(folder, tmp_path):
    pytest.importorskip("matplotlib")
    truth = annotations(tmp_path / "gt.json", {"clip0": 90.0})
    target = tmp_path / "t.png"
    words = ["detect", BAKED, str(folder), "--picture", str(target), "--annotations", truth, "-o", str(tmp_path / "r")]
    assert run(words) == 0
    assert target.read_bytes().startswith(b"\x89PNG")


def test_a_picture_of_many_videos_has_pages(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    for index in range(9):
        np.save(tmp_path / f"clip{index}.npy", features(index))
    assert run(["detect", BAKED, str(tmp_path), "--top", "3", "--picture", str(tmp_path / "t.svg")]) == 0
    said = capsys.readouterr().err
    pages = sorted(tmp_path.glob("t*.svg"))
    assert len(pages) > 1
    for page in pages:
        assert f"wrote {page}\n" in said


def follow(*words):
    return subprocess.Popen(
        [*PROGRAM, "detect", BAKED, "--follow", "--window", "40", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # a line read early must not take the next ones with it
    )


def test_follow_finds_what_windows_find_and_says_it_early(tmp_path):
    video = features(5, 300)
    path, target = tmp_path / "video.npy", tmp_path / "r.json"
    np.save(path, video)
    assert run(["detect", BAKED, str(path), "--window", "40", "-o", str(target)]) == 0
    child = follow()
    content = video.astype("<f4").tobytes()
    child.stdin.write(content[: 4 * WIDTH * 120 + 5])
    child.stdin.flush()
    early = child.stdout.readline()  # before the stream has ended
    assert early, child.communicate(timeout=60)
    child.stdin.write(content[4 * WIDTH * 120 + 5 :])
    rest, said = child.communicate(timeout=60)
    assert child.returncode == 0
    assert b"Traceback" not in said
    found = [json.loads(line) for line in (early, *rest.splitlines())]
    in_order = lambda d: (-d["score"], *d["segment"], d["label"])  # noqa: E731
    assert sorted(found, key=in_order) == read(target)["results"]["video"]


def test_follow_ends_with_an_error_inside_a_row_after_everything_whole():
    video = features(5, 50).astype("<f4").tobytes()
    whole, _ = follow("--quiet").communicate(video, timeout=60)
    child = follow("--quiet")
    out, said = child.communicate(video + b"12345", timeout=60)
    assert child.returncode == 65
    assert out == whole != b""
    assert b"stdin: ends inside snippet 50: 5 of 32 bytes" in said


def test_follow_of_nothing_is_nothing():
    child = follow("--quiet")
    out, said = child.communicate(b"", timeout=60)
    assert (child.returncode, out, said) == (0, b"", b"")


@pytest.mark.parametrize("words", [("--follow", "--window", "40"), ("features",)])
def test_ctrl_c_ends_it_and_leaves_the_old_result(words, tmp_path):
    target = tmp_path / "r.json"
    target.write_text("old")
    command = [*PROGRAM, "detect", BAKED, *words]
    if words == ("features",):
        (tmp_path / "features").mkdir()
        np.save(tmp_path / "features" / "clip.npy", features(0, 500))
        for index in range(5000):  # a minute of work at least: it cannot end by itself before the signal
            (tmp_path / "features" / f"clip{index:04}.npy").symlink_to("clip.npy")
        command += ["-o", str(target)]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    child.stderr.readline()  # the note on times: the work begins
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=120) == 130  # before its standard input ends; only a failure takes that long
    _, said = child.communicate()
    assert b"interrupted" in said
    assert b"Traceback" not in said
    assert target.read_text() == "old"
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


def peak_mb(command, cwd):
    """Peak memory of a command, measured in a child of its own."""
    measure = (
        "import resource, subprocess, sys\n"
        "code = subprocess.run(sys.argv[1:], check=False).returncode\n"
        "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", measure, *command], cwd=cwd, capture_output=True, text=True, check=True
    )
    code, peak = done.stdout.split()
    assert code == "0", done.stderr
    return int(peak) / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def test_ten_hours_in_windows_take_little_memory(tmp_path):
    np.save(tmp_path / "hours.npy", features(0, 67_500))
    command = [*PROGRAM, "detect", BAKED, "hours.npy", "--window", "500", "-q", "-o", "r.json", "--min-score", "0.05"]
    assert peak_mb(command, tmp_path) < 400
    found = read(tmp_path / "r.json")["results"]["hours"]
    assert max(d["segment"][1] for d in found) > 134_000


@pytest.mark.slow
def test_ten_hours_in_windows_with_a_network_of_the_published_size(tmp_path):
    pytest.importorskip("torch")
    assert run(["export", "-o", str(tmp_path / "stale.onnx"), "-q"]) == 0
    rng = np.random.default_rng(0)
    scenes = np.repeat(rng.standard_normal((2700, 512), dtype=np.float32), 25, axis=0)
    np.save(tmp_path / "hours.npy", 0.5 * scenes)
    command = [*PROGRAM, "detect", "stale.onnx", "hours.npy", "--window", "200", "-q", "-o", "r.json"]
    assert peak_mb(command, tmp_path) < 1536


def test_what_is_left_out_of_the_annotations_is_said(one, tmp_path, capsys):
    truth = tmp_path / "gt.json"
    annotations(truth, {"one": 33.0})
    content = json.loads(truth.read_text())
    content["database"]["one"]["annotations"].append({"segment": [5.0, 1.0], "label": "archery"})
    truth.write_text(json.dumps(content))
    assert run(["detect", BAKED, str(one), "-g", str(truth), "-o", str(tmp_path / "r.json")]) == 0
    assert "left out 1 segments that end before they start" in " ".join(capsys.readouterr().err.split())


def test_a_page_shows_what_was_found(folder, tmp_path, capsys):
    page = tmp_path / "p.html"
    truth = annotations(tmp_path / "gt.json", {f"clip{index}": 30.0 for index in range(4)})
    words = ["detect", BAKED, str(folder), "-g", truth, "-o", str(tmp_path / "r.json"), "--page", str(page)]
    assert run(words) == 0
    assert f"wrote {page}: 4 videos" in capsys.readouterr().err
    packed = json.loads(page.read_text().partition('id="packed">')[2].partition("</script>")[0])
    assert packed["ids"] == list(read(tmp_path / "r.json")["results"])
    assert packed["truth"] is not None
    assert run([*words[:-1], str(tmp_path / "absent" / "p.html")]) == 73


def test_a_suggested_score_is_taken():
    from dataclasses import replace

    from stale_edge.cli.video_inputs import min_score_of

    info = replace(Detector(BAKED).info, suggested_min_score=0.25)
    assert [min_score_of(text, info) for text in ("auto", "0.5", "-1")] == [0.25, 0.5, -1]
