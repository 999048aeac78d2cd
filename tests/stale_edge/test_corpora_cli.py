"""`features` and `detect` over corpora: the same bytes from one process, several, and a Ray cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stale_edge.cli.engines import AUTO, chosen_jobs, parse_jobs, with_address
from stale_edge_runtime import processor
from stale_edge_runtime.formats.result_tables import read_table
from stale_edge_runtime.formats.sole_writer import sole_writer

DATA = Path(__file__).parents[1] / "data"
MODEL, TOWER = DATA / "tiny_baked.onnx", DATA / "tiny_image_tower.onnx"
VIDEOS = 12
BAD = "clip07"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A manifest of features, the shortest first, one of them no features at all."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = ["id,path,duration_s"]
    for index in range(VIDEOS):
        rng = np.random.default_rng(index)
        scenes = np.repeat(rng.standard_normal((2 + index, 8)), 10, axis=0)
        np.save(folder / f"{index}.npy", (3 * scenes + 0.3 * rng.standard_normal(scenes.shape)).astype(np.float32))
        lines.append(f"clip{index:02},{index}.npy,{len(scenes) / 2}")
    (folder / "7.npy").write_bytes(b"no features")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder / "manifest.csv"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def detected(command, corpus, tmp_path):
    """Run `detect` over the corpus in one way; gives the bytes of results in one file and in parts."""

    def run(name, *options):
        out = tmp_path / name
        out.mkdir()
        for places in (("-o", out / "one.jsonl"), ("-o", out / "parts", "--part-videos", 5)):
            code, _, said = command("detect", MODEL, corpus, *places, *options)
            assert (code, "Traceback" in said) == (65, False), said
        return contents(out)

    return run


def test_two_jobs_give_the_bytes_of_one(detected, tmp_path, monkeypatch):
    one = detected("one")
    assert one == detected("two", "--jobs", 2)
    monkeypatch.setattr(processor, "useful_threads", lambda _logical: 2)
    assert one == detected("auto", "--jobs", "auto")
    parts = [path for path in one if path.startswith("parts/")]
    assert parts == [
        *("parts/failures-00001.jsonl", "parts/part-00000.jsonl", "parts/part-00001.jsonl", "parts/part-00002.jsonl"),
        "parts/run.json",
    ]
    whole = b"".join(one[part] for part in parts if "part-" in part)
    assert whole == one["one.jsonl"]
    assert one["one.failures.jsonl"] == one["parts/failures-00001.jsonl"]
    rows = read_table(tmp_path / "one" / "one.jsonl")
    assert [row["id"] for row in rows] == [f"clip{n:02}" for n in range(VIDEOS) if n != 7]
    (failed,) = read_table(tmp_path / "one" / "one.failures.jsonl")
    assert (failed["id"], failed["error"]) == (BAD, "BadDataError")


def test_processes_for_all_cores_are_chosen(monkeypatch):
    monkeypatch.setattr(processor, "useful_threads", lambda _logical: 4)
    assert (parse_jobs("auto"), parse_jobs("3")) == (AUTO, 3)
    assert [chosen_jobs(AUTO, None, threads) for threads in (1, 2, 3, 8)] == [4, 2, 1, 1]
    assert chosen_jobs(3, None, 1) == 3
    assert chosen_jobs(None, None, 1) is chosen_jobs(AUTO, "local", 1) is None


@pytest.mark.parametrize("jobs", ["0", "-1", "many", "1.5"])
def test_what_is_no_number_of_processes_is_refused(jobs, command, corpus):
    code, _, err = command("detect", MODEL, corpus, "--jobs", jobs)
    assert code == 2
    assert f"{jobs!r} is no number of processes, which is 1 or more, nor auto" in err


def test_parts_are_resumed_and_evaluated(command, corpus, tmp_path):
    words = ("detect", MODEL, corpus, "-o", tmp_path / "out", "--part-videos", 5)
    command(*words)
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "part-00001.jsonl").unlink()
    code, out, said = command(*words, "--json")
    assert code == 65
    assert "7 of 12 videos are done already" in said
    assert json.loads(out)["failed"].keys() == {BAD}
    assert contents(tmp_path / "out") == before
    database = {"clip03": {"subset": "validation", "duration": 25.0, "annotations": []}}
    database["clip03"]["annotations"] = [{"segment": [0.0, 9.0], "label": "archery"}]
    (tmp_path / "truth.json").write_text(json.dumps({"database": database}))
    code, out, said = command("evaluate", tmp_path / "out", "--ground-truth", tmp_path / "truth.json", "--json", "-")
    assert code == 0, said
    code, _, said = command(*words, "--top", 3)
    assert (code, "another top (None, now 3)" in said) == (2, True)
    with sole_writer(tmp_path / "out"):
        code, _, said = command(*words)
    assert (code, "another program is writing to it" in said) == (73, True)


def test_parquet_holds_the_same(command, corpus, tmp_path):
    pytest.importorskip("pyarrow")
    for name in ("r.parquet", "r.jsonl"):
        assert command("detect", MODEL, corpus, "-o", tmp_path / name)[0] == 65
    assert read_table(tmp_path / "r.parquet") == read_table(tmp_path / "r.jsonl")
    assert read_table(tmp_path / "r.failures.parquet") == read_table(tmp_path / "r.failures.jsonl")


@pytest.mark.slow
def test_a_bad_file_in_a_thousand_and_a_driver_that_is_killed(command, tmp_path):
    lines = ["path"]
    for number in range(1000):
        np.save(tmp_path / f"{number}.npy", np.random.default_rng(number).standard_normal((30, 8)).astype(np.float32))
        lines.append(f"{number}.npy")
    (tmp_path / "617.npy").write_bytes(b"no features")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    words = ("detect", MODEL, tmp_path / "manifest.csv", "--part-videos", 100)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(root / one) for one in (".", "export", "runtime"))}
    out = tmp_path / "killed"
    program = [sys.executable, "-m", "stale_edge", *map(str, words), "-o", str(out), "--jobs", "2"]
    with subprocess.Popen(program, env=environment, stderr=subprocess.DEVNULL) as driver:
        while not (out / "part-00002.jsonl").exists():
            assert driver.poll() is None
            time.sleep(0.01)
        driver.kill()
    assert not (out / "part-00009.jsonl").exists()
    code, _, said = command(*words, "-o", out, "--jobs", 2)
    assert (code, "of 1,000 videos are done already" in said) == (65, True), said
    assert command(*words, "-o", tmp_path / "whole")[0] == 65
    assert contents(out) == contents(tmp_path / "whole")
    assert sum(len(read_table(path)) for path in out.glob("part-*")) == 999


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--part-videos", "5"), "--part-videos: needs a folder"),
        (("--part-videos", "5", "-o", "x", "--format", "csv"), "does not go with --format csv"),
        (("--part-videos", "5", "-o", "x", "--page", "p.html"), "does not go with --page"),
        (("--actor-gpus", "1"), "--actor-gpus: is of a Ray cluster; give --ray as well"),
        (("--format", "jsonl", "--json"), "--json: does not go with --format jsonl"),
    ],
)
def test_options_that_do_not_go_together(command, corpus, words, problem):
    code, _, said = command("detect", MODEL, corpus, *words)
    assert (code, problem in said) == (2, True), said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a.mp4", "--ray"], ["a.mp4", "--ray", "auto"]),
        (["--ray", "a.mp4"], ["--ray", "auto", "a.mp4"]),
        (["--ray", "--json"], ["--ray", "auto", "--json"]),
        (["--ray", "local", "x"], ["--ray", "local", "x"]),
        (["--ray", "10.0.0.1:6379"], ["--ray", "10.0.0.1:6379"]),
        (["--ray", "ray://head:10001"], ["--ray", "ray://head:10001"]),
    ],
)
def test_an_address_may_be_left_out(words, expected):
    assert with_address(words) == expected


class TestFeatures:
    @pytest.fixture
    def videos(self, tmp_path):
        pytest.importorskip("av")
        from tests.stale_edge.test_features_cli import write_video

        for name, frames in (("b", 10), ("a", 30)):
            write_video(tmp_path / f"{name}.mp4", frames)
        (tmp_path / "bad.mp4").write_bytes(b"no video")
        lines = [{"id": name, "path": f"{name}.mp4"} for name in ("b", "bad", "a")]
        (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
        return tmp_path / "m.jsonl"

    def made(self, command, videos, out, *options):
        code, told, said = command("features", videos, "-o", out, "--image-tower", TOWER, "--json", *options)
        assert code == 65, said
        return json.loads(told)

    def test_results_come_in_the_order_of_the_manifest(self, command, videos, tmp_path):
        one = self.made(command, videos, tmp_path / "one")
        assert [Path(path).name for path in one["made"]] == ["b.npy", "a.npy"]
        (failed,) = read_table(tmp_path / "one" / "failures.jsonl")
        assert (failed["id"], failed["source"]) == ("bad", str(tmp_path / "bad.mp4"))
        self.made(command, videos, tmp_path / "two", "--jobs", 2)
        assert contents(tmp_path / "one") == contents(tmp_path / "two")

    def test_two_drivers_are_refused(self, command, videos, tmp_path):
        (tmp_path / "out").mkdir()
        with sole_writer(tmp_path / "out"):
            code, _, said = command("features", videos, "-o", tmp_path / "out", "--image-tower", TOWER)
        assert (code, "another program is writing to it" in said) == (73, True)

    @pytest.mark.ray
    def test_a_cluster_gives_the_same_bytes(self, command, videos, tmp_path, ray_here):
        self.made(command, videos, tmp_path / "one")
        self.made(command, videos, tmp_path / "ray", "--ray", "local", "--jobs", 2)
        assert contents(tmp_path / "one") == contents(tmp_path / "ray")


@pytest.fixture
def ray_here(monkeypatch):
    pytest.importorskip("ray", reason="needs the extra ray: make test-ray")
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(root / one) for one in (".", "export", "runtime")))


@pytest.mark.ray
def test_a_cluster_gives_the_bytes_of_one_process(detected, ray_here):
    assert detected("one") == detected("ray", "--ray", "local", "--jobs", 2)
