"""`stale-edge features`, and `detect` on videos."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

from stale_edge_runtime.formats.feature_record import read_record  # noqa: E402

DATA = Path(__file__).parents[1] / "data"
TOWER, MODEL = DATA / "tiny_image_tower.onnx", DATA / "tiny_baked.onnx"


def write_video(path: Path, frames: int) -> Path:
    rng = np.random.default_rng(frames)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(frames):
            picture = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    write_video(folder / "v_one.mp4", 20)
    write_video(folder / "two.mp4", 30)
    (folder / "notes.txt").touch()
    return folder


def test_each_video_has_features_and_a_record_and_is_skipped_next_time(command, videos, tmp_path):
    out = tmp_path / "features"
    code, stdout, stderr = command("features", videos, "-o", out, "--image-tower", TOWER, "--jobs", "2")
    assert (code, stdout.split(": ")[1].strip()) == (0, "made the features of 2 of 2 videos, 20 rows"), stderr
    assert sorted(path.name for path in out.iterdir()) == [
        *("one.features.json", "one.npy", "two.features.json", "two.npy")
    ]
    record = read_record(out / "two.features.json")
    assert (record.rows, record.duration_s, record.origin.step_s) == (12, pytest.approx(6.0), 0.5)
    before = (out / "two.npy").stat().st_mtime_ns
    code, stdout, _ = command("features", videos, "-o", out, "--image-tower", TOWER, "--json")
    told = json.loads(stdout)
    assert (code, told["made"], sorted(told["skipped"])) == (0, {}, [str(out / "one.npy"), str(out / "two.npy")])
    assert (out / "two.npy").stat().st_mtime_ns == before
    code, stdout, _ = command("features", videos, "-o", out, "--image-tower", TOWER, "--fps", "5", "--json")
    assert json.loads(stdout)["made"][str(out / "two.npy")]["rows"] == 30


def test_a_bad_video_is_listed_and_the_others_are_complete(command, videos, tmp_path):
    (videos / "bad.mp4").write_bytes(b"no video at all")
    code, stdout, stderr = command("features", videos, "-o", tmp_path / "features", "--image-tower", TOWER)
    assert code == 65
    assert "made the features of 2 of 3 videos" in stdout
    assert "bad.mp4" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--step", "0.5", "--fps", "2"), "--step and --fps: say the same"),
        (("--positions", "10"), "--positions: is of --sampling published"),
        (("--approximate", "magic"), "'magic' is no mode"),
    ],
)
def test_options_that_do_not_go_together(command, videos, tmp_path, options, problem):
    code, _, stderr = command("features", videos, "-o", tmp_path / "out", "--image-tower", TOWER, *options)
    assert (code, problem in stderr) == (2, True), stderr
    assert not (tmp_path / "out").exists()


def test_without_a_tower_the_message_says_where_it_was_looked_for(command, videos, tmp_path):
    code, _, stderr = command("features", videos, "-o", tmp_path / "out")
    assert code == 66
    assert "models/clip-image*.onnx" in stderr
    assert "stale-edge export --clip" in stderr


class TestDetect:
    def test_videos_and_features_mixed_in_seconds(self, command, videos, tmp_path):
        features = tmp_path / "features"
        command("features", videos / "two.mp4", "-o", features, "--image-tower", TOWER, "--step", "2")
        result = tmp_path / "results.json"
        words = (MODEL, videos, features, "--image-tower", TOWER, "-o", result)
        code, _, stderr = command("detect", *words)
        assert code == 0, stderr
        assert "1 videos are passed over for the features of them that were found" in stderr
        assert "seconds, as the videos tell" in stderr
        found = json.loads(result.read_text())["results"]
        assert set(found) == {"one", "two"}
        assert max(item["segment"][1] for item in found["two"]) == pytest.approx(6.0)
        assert max(item["segment"][1] for item in found["one"]) == pytest.approx(4.0)

    def test_features_that_are_kept_give_the_same(self, command, videos, tmp_path):
        kept, first, second = tmp_path / "kept", tmp_path / "a.json", tmp_path / "b.json"
        words = ("detect", MODEL, "--image-tower", TOWER, "--keep-features", kept)
        assert command(*words, videos, "-o", first)[0] == 0
        assert len(list(kept.glob("*.npy"))) == 2
        code, _, stderr = command(*words, videos, "-o", second)
        assert (code, "2 of 2 videos have their features already" in stderr) == (0, True)
        assert json.loads(first.read_text())["results"] == json.loads(second.read_text())["results"]

    def test_another_step_than_the_learned_one_is_refused(self, command, videos, tmp_path):
        words = ("detect", MODEL, videos / "two.mp4", "--image-tower", TOWER, "--step", "0.5")
        code, _, stderr = command(*words)
        assert code == 65
        assert "a row every 0.5 s, not every 2 s" in stderr
        assert command(*words, "--any-features")[0] == 0

    def test_cures_that_messages_name_are_options_of_both_commands(self, command, videos, tmp_path):
        small = ("--image-tower", TOWER, "--max-megapixels", "0.01")
        large = videos / "large.mp4"
        with av.open(str(large), "w") as container:
            stream = container.add_stream("mpeg4", rate=5)
            stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((120, 160, 3), np.uint8), format="rgb24")))
            container.mux(stream.encode(None))
        for words in (("features", large, "-o", tmp_path / "out"), ("detect", MODEL, large)):
            code, _, err = command(*words, *small)
            assert code == 65
            assert "raise --max-megapixels" in err

    def test_a_bad_video_never_stops_the_others(self, command, videos, tmp_path):
        (videos / "bad.mp4").write_bytes(b"no video at all")
        code, _, stderr = command("detect", MODEL, videos, "--image-tower", TOWER, "-o", tmp_path / "r.json")
        assert code == 65
        assert "1 of 3 videos could not be used" in stderr
        assert set(json.loads((tmp_path / "r.json").read_text())["results"]) == {"one", "two"}

    def test_the_tower_is_found_beside_the_model(self, command, videos, tmp_path):
        (tmp_path / "model.onnx").write_bytes(MODEL.read_bytes())
        (tmp_path / "clip-image.int8.onnx").write_bytes(TOWER.read_bytes())
        assert command("detect", tmp_path / "model.onnx", videos / "two.mp4", "--quiet")[0] == 0


def test_bench_shows_where_the_time_goes(command, videos):
    words = ("bench", MODEL, "--video", videos / "two.mp4", "--image-tower", TOWER, "--rounds", "2", "--json", "-")
    code, stdout, stderr = command(*words, "--step", "2")
    assert code == 0, stderr
    report = json.loads(stdout)
    assert report["video"] == {"seconds": pytest.approx(6.0), "codec": "mpeg4", "width": 32, "height": 32}
    [row] = report["rows"]
    assert set(row["parts"]) == {"decode", "colour", "resize", "tower", "network", "segments"}
    assert 0 < sum(row["parts"].values()) <= 1.5 * row["cpu_s_per_minute"]
    assert row["times_real_time"] == pytest.approx(60 / row["cpu_s_per_minute"])
    assert (row["samples"], row["rounds"], report["schema"]) == (3, 2, 1)


@pytest.mark.parametrize("words", [("--batch", 2), ("--plot", "a.png"), ("--threads", 1, "--threads", 2)])
def test_options_of_other_measurements_are_refused_with_videos(command, videos, words):
    code, _, err = command("bench", "--video", videos / "two.mp4", "--image-tower", TOWER, *words)
    assert code == 2
    assert "--video" in err


def test_engines_that_read_no_videos_are_refused(command, videos):
    code, _, stderr = command("bench", "--video", videos / "two.mp4", "--image-tower", TOWER, "--compare", "torch")
    assert code == 2
    assert "use --compare transformers" in stderr


class TestLive:
    """A video through a pipe: detections as they settle, those of the same features from a file."""

    @staticmethod
    def _piped(path, *words):
        command = [sys.executable, "-c", "from stale_edge.__main__ import main; main()", "detect", *map(str, words)]
        with path.open("rb") as stream:
            return subprocess.run(command, stdin=stream, capture_output=True, text=True, check=False)

    def test_a_pipe_gives_what_windows_of_its_features_give(self, command, tmp_path):
        video = write_video(tmp_path / "long.mkv", 60)
        words = (MODEL, "--image-tower", TOWER, "--window", "4", "--hop", "2")
        live = self._piped(video, *words, "-")
        assert live.returncode == 0, live.stderr
        assert "following -, a row every 2 s, windows of 4" in live.stderr
        told = [json.loads(line) for line in live.stdout.splitlines()]
        code, out, _ = command("detect", *words, video, "--json")
        expected = json.loads(out)["results"]["long"]
        assert code == 0
        key = lambda found: (found["segment"], found["label"])  # noqa: E731
        assert [key(found) for found in sorted(told, key=key)] == [key(found) for found in sorted(expected, key=key)]

    def test_no_video_in_the_pipe(self, tmp_path):
        (tmp_path / "text").write_text("no video")
        done = self._piped(tmp_path / "text", MODEL, "--image-tower", TOWER, "-")
        assert done.returncode in {65, 66}
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 2

    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            (("-", "--follow"), "--follow: takes rows of features from stdin"),
            (("-", "rtsp://127.0.0.1/x"), "is a second live source"),
            (("-", "-o", "r.json"), "-: does not go with --output"),
            (("-", "one.npy"), "-: does not go with FEATURES"),
        ],
    )
    def test_what_does_not_go(self, command, words, problem):
        code, _, err = command("detect", MODEL, *words, "--image-tower", TOWER)
        assert (code, problem in err) == (2, True), err


@pytest.mark.slow
def test_the_usual_way_is_measured_beside_ours(command, videos, tmp_path):
    transformers = pytest.importorskip("transformers")
    onnx = pytest.importorskip("onnx")
    assert transformers
    sizes = {"hidden_size": 16, "intermediate_size": 32, "projection_dim": 8, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    model = onnx.load(TOWER)
    for key, value in (("vision_config", json.dumps(sizes)), ("gmacs_per_image", "0.001")):
        entry = model.metadata_props.add()
        entry.key, entry.value = f"stale_edge.{key}", value
    onnx.save(model, tmp_path / "tower.onnx")
    words = ("--video", videos / "two.mp4", "--image-tower", tmp_path / "tower.onnx", "--compare", "transformers")
    code, out, err = command("bench", *words, "--rounds", 1, "--json", "-")
    assert code == 0, err
    report = json.loads(out)
    assert [row["contender"] for row in report["rows"]] == [
        *("tower.onnx", "transformers fp32, batch 8", "transformers fp32, batch 1")
    ]
    assert [row["samples"] for row in report["rows"]] == [12, 15, 15]  # every second frame of five a second
    assert {pair["b"] for pair in report["comparisons"]} == {"tower.onnx"}
    assert report["floor_cpu_s_per_minute"] > 0


def test_a_kill_at_any_moment_loses_nothing(command, videos, tmp_path):
    for number in range(6):
        write_video(videos / f"more{number}.mp4", 40 + number)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    words = ("features", videos, "--image-tower", TOWER, "--step", "0.2")
    assert command(*words, "-o", whole)[0] == 0
    program = [sys.executable, "-c", "from stale_edge.__main__ import main; main()", *map(str, words), "-o", str(cut)]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(cut.glob("*.npy"))) < 3:
        time.sleep(0.01)
    process.kill()
    process.wait()
    made = {path.name: path.stat().st_mtime_ns for path in cut.glob("*.npy")}
    assert command(*words, "-o", cut)[0] == 0
    assert sorted(path.name for path in cut.iterdir()) == sorted(path.name for path in whole.iterdir())
    for path in whole.iterdir():
        assert (cut / path.name).read_bytes() == path.read_bytes()
    kept = [name for name, changed in made.items() if (cut / name).stat().st_mtime_ns == changed]
    assert len(kept) >= 2  # of the last one, the record may have been missing
