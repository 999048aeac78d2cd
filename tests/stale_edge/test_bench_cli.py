"""`stale-edge bench`: its results, their files, and what it says when it cannot."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_edge.cli.bench import parse_budget, parse_lengths
from stale_edge.cli.bench_contenders import distinct_names, parse_engines
from stale_edge.cli.bench_law_table import budget_line, crossover_line
from stale_edge.cli.bench_plot import spread
from stale_edge.cli.bench_threads_table import core_line
from stale_edge_runtime.bench import busy
from stale_edge_runtime.bench.budget import LongestVideo
from stale_edge_runtime.bench.length_law import Crossover
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.session import cores

pytestmark = pytest.mark.usefixtures("brief_ceiling")
Command = Callable[..., tuple[int, str, str]]
DATA = Path(__file__).parents[1] / "data"
BAKED, OPEN = DATA / "tiny_baked.onnx", DATA / "tiny_open.onnx"
QUICK = ("--runs", 3, "--no-cold-start", "--lengths", "5,20")

NUMBER, COUNT, TEXT = (int, float), (int,), (str,)
ROW: dict[str, tuple[Any, ...]] = {
    "model": TEXT,
    "precision": TEXT,
    "provider": TEXT,
    "threads": COUNT,
    "batch": COUNT,
    "snippets": COUNT,
    "runs": COUNT,
    "median_ms": NUMBER,
    "p90_ms": (*NUMBER, type(None)),
    "min_ms": NUMBER,
    "first_ms": (*NUMBER, type(None)),
    "load_ms": (*NUMBER, type(None)),
    "peak_rss_mb": (*NUMBER, type(None)),
    "gmacs": (*NUMBER, type(None)),
    "gmacs_per_s": (*NUMBER, type(None)),
    "utilisation": (*NUMBER, type(None)),
}
COMPARISON_NUMBERS = ("threads", "batch", "snippets", "ratio", "low", "high")
COMPARISON: dict[str, tuple[Any, ...]] = {
    "a": TEXT,
    "b": TEXT,
    "snippets": COUNT,
    "ratio": NUMBER,
    "low": NUMBER,
    "high": NUMBER,
}


def check_schema(report: dict[str, Any]) -> None:
    """The contract's form of `bench --json`."""
    assert report["schema"] == 1
    assert isinstance(report["machine"], dict)
    for records, schema in ((report["rows"], ROW), (report["comparisons"], COMPARISON)):
        for record in records:
            for name, types in schema.items():
                assert isinstance(record[name], types), name
                assert not isinstance(record[name], bool), name
                assert not isinstance(record[name], float) or math.isfinite(record[name]), name


def test_json_csv_and_table_tell_the_same(command: Command, tmp_path: Path) -> None:
    target, table = tmp_path / "bench.json", tmp_path / "bench.csv"
    words = ("bench", BAKED, OPEN, "--lengths", 20, "--seconds", 0.05, "--batch", 1, "--batch", 3)
    code, out, err = command(*words, "--json", target, "--csv", table)
    assert code == 0, err
    report = json.loads(target.read_text())
    check_schema(report)
    assert len(report["rows"]) == 4
    assert len(report["comparisons"]) == 2
    for row in report["rows"]:
        assert row["min_ms"] <= row["median_ms"]
        assert (row["p90_ms"] is None) == (row["runs"] < 64)
        assert sum(map(len, row["samples_ms"])) == row["runs"]
        assert row["load_ms"] > 0
        assert row["first_ms"] > 0
        assert 20 < row["peak_rss_mb"] < 500
        assert row["gmacs_per_s"] == pytest.approx(row["gmacs"] / row["median_ms"] * 1e3, rel=1e-4)
    with table.open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [float(line["median_ms"]) for line in lines] == [row["median_ms"] for row in report["rows"]]
    assert [line["p90_ms"] == "" for line in lines] == [row["p90_ms"] is None for row in report["rows"]]
    assert len(re.findall(r"tiny_baked\.onnx +[0-9]", out)) == 2
    assert "batch 3" in out
    assert "product ceiling fp32" in out
    assert "wrote" in err


def test_the_machine_is_described_without_names_or_paths(command: Command, tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    command("bench", BAKED, *QUICK, "--json", target)
    machine = json.loads(target.read_text())["machine"]
    assert machine["cores_allowed"] >= 1
    assert machine["providers"] == ["cpu"]
    assert machine["libraries"]["onnxruntime"]
    assert {"cpu", "gpu", "cpu_flags", "governor", "load_1min", "steal_percent", "memory_mb", "date"} <= machine.keys()
    text = json.dumps(machine)
    folders = Path(sys.prefix), Path(__file__).parents[2], Path.cwd(), tmp_path
    assert not any(str(folder) in text for folder in folders)
    assert os.uname().nodename not in machine.values()


def test_without_a_name_every_model_is_measured_heaviest_first(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    shutil.copy(BAKED, tmp_path / "models" / "a.onnx")
    shutil.copy(OPEN, tmp_path / "models" / "b.onnx")
    code, _, err = command("bench", *QUICK, "--threads", 1, "--json", "bench.json")
    assert code == 0, err
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert [row["model"] for row in rows] == ["b.onnx", "a.onnx"] * 2


def test_quiet_keeps_notes_back(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy, "BUSY_LOAD", float("inf"))
    monkeypatch.setattr(busy, "BUSY_STEAL_PERCENT", float("inf"))
    monkeypatch.setattr(busy, "BUSY_SPREAD", float("inf"))
    code, out, err = command("bench", BAKED, *QUICK, "--json", tmp_path / "b.json", "--quiet")
    assert (code, err) == (0, "")
    assert "tiny_baked.onnx" in out


def test_the_thesis_protocol_times_one_cold_forward_per_seed(command: Command, tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    words = ("--protocol", "thesis", "--lengths", "100,200", "--no-cold-start", "--json", target)
    code, out, err = command("bench", BAKED, *words)
    assert code == 0, err
    assert "one forward per seed" in err
    assert "not warmed up" in out
    report = json.loads(target.read_text())
    assert report["protocol"]["seeds"] == [0, 100, 200, 300, 400]
    assert all(row["runs"] == 5 and row["warmup_runs"] == 0 for row in report["rows"])


@pytest.mark.parametrize(("suffix", "begin"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_plot(command: Command, tmp_path: Path, suffix: str, begin: bytes) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / f"bench.{suffix}"
    code, _, err = command("bench", BAKED, OPEN, *QUICK, "--plot", picture)
    assert code == 0, err
    content = picture.read_bytes()
    assert content.startswith(begin)
    assert len(content) > 5000


def test_one_length_is_drawn_as_bars_and_tables_go_into_papers(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture, tex, note = (tmp_path / name for name in ("b.svg", "b.tex", "b.md"))
    words = (*QUICK, "--lengths", "20", "--plot", picture, "--latex", tex, "--markdown", note)
    code, _, err = command("bench", BAKED, OPEN, *words)
    assert code == 0, err
    drawn = picture.read_text()
    for path in (BAKED, OPEN):
        assert f"<!-- {Path(path).name} -->" in drawn
        assert Path(path).name in note.read_text().replace("\\", "")
    assert "of 20 snippets, ms -->" in drawn
    assert "<!-- 0 -->" in drawn
    assert tex.read_text().count(r"\begin{tabular}{ll") == 1
    assert "T = 20" in tex.read_text()
    for path in (picture, tex, note):
        assert f"wrote {path}" in err


def test_results_of_several_machines_become_one_short_table(command: Command, tmp_path: Path) -> None:
    code, out, err = command("bench", BAKED, OPEN, *QUICK, "--json", tmp_path / "a.json", "--short")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == "| machine | model | T = 5 | T = 20 |"
    assert [line.split(" | ")[1] for line in lines[2:4]] == [r"tiny\_baked.onnx", r"tiny\_open.onnx"]
    cells = [cell for line in lines[2:4] for cell in line.split(" | ")]
    assert sum(", 1x" in cell and "(" not in cell for cell in cells) == 2
    assert lines[-1].startswith("- ")
    assert "onnxruntime " in lines[-1]
    other = json.loads((tmp_path / "a.json").read_text())
    other["machine"]["cpu"] = "Board | <b>"
    other["rows"] = [row | {"snippets": 7, "median_ms": 1234.5} for row in other["rows"][:1]]
    (tmp_path / "b.json").write_text(json.dumps(other))
    code, out, err = command("bench", tmp_path / "a.json", tmp_path / "b.json", "--short")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "| machine | model | T = 5 | T = 7 | T = 20 |"
    assert lines[4] == r"| 2. Board \| \<b\> | tiny\_baked.onnx |  | 1,234 |  |"
    assert [line[:3] for line in lines[-2:]] == ["1. ", "2. "]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"schema": 2}, "has schema 2, this version reads 1"),
        ({"rows": [{}]}, "is no report of `bench --json` (at 'model')"),
        ({"machine": {"load_1min": [0.1], "steal_percent": None, "libraries": []}}, "is no report"),
        ({"comparisons": [{"a": "x"}]}, "is no report of `bench --json` (at 'b')"),
        ({"comparisons": [dict.fromkeys(("a", "b"), "x") | dict.fromkeys(COMPARISON_NUMBERS, 0)]}, "ratio is 0"),
    ],
)
def test_results_that_are_none_are_refused(
    command: Command, tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    whole = {
        "schema": 1,
        "machine": {"load_1min": [0.1, 0.1], "steal_percent": None, "libraries": {}},
        "protocol": {},
        "rows": [],
        "comparisons": [],
    }
    (tmp_path / "a.json").write_text(json.dumps(whole))
    assert command("bench", tmp_path / "a.json", "--short")[0] == 0
    (tmp_path / "a.json").write_text(json.dumps(whole | change))
    code, out, err = command("bench", tmp_path / "a.json", "--short")
    assert (code, out) == (65, "")
    assert problem in err


@pytest.mark.parametrize(
    ("words", "expected", "message"),
    [
        (("a.json",), 2, "a.json: is a result, not a model; give --short"),
        (("a.json", BAKED, "--short"), 2, "is no result as a.json is"),
        (("a.json", "--short"), 66, "a.json: no such file"),
        (("missing.onnx",), 66, "missing.onnx: no such file"),
        ((BAKED, "--providers", "cuda"), 69, "provider 'cuda'"),
        ((BAKED, "--provider", "tpu"), 2, "provider 'tpu': is not known; use one of cpu, cuda"),
        ((BAKED, "--providers", "cpu,tpu"), 2, "provider 'tpu': is not known; use one of cpu, cuda"),
        ((BAKED, "--threads", 4096), 69, "4096 threads"),
        ((BAKED, "--threads", 0), 2, "threads"),
        ((BAKED, "--lengths", "0"), 2, "--lengths: '0' leaves 1 to 8192"),
        ((BAKED, "--lengths", "8193"), 2, "leaves 1 to 8192"),
        ((BAKED, "--lengths", "10:5:1"), 2, "holds nothing"),
        ((BAKED, "--lengths", "5:10:0"), 2, "holds nothing"),
        ((BAKED, "--lengths", "5:10"), 2, "'5:10' is no length"),
        ((BAKED, "--lengths", ""), 2, "'' is no length"),
        ((BAKED, "--lengths", "٣"), 2, "is no length"),
        ((BAKED, "--lengths", "513"), 2, "tiny_baked.onnx takes 1 to 512"),
        ((BAKED, "--json", "no/such/folder/b.json"), 73, "does not exist; make the folder first"),
        ((BAKED, "--csv", "."), 73, "is a folder"),
        ((BAKED, "--json", "b.onnx"), 2, "--json: 'b.onnx' is named like a model; give the result another ending"),
        ((BAKED, "--csv", "B.ONNX"), 2, "--csv: 'B.ONNX' is named like a model"),
        ((BAKED, "--plot", "b.gif"), 2, "has no known format; use .pdf, .png, .svg"),
        ((BAKED, "--compare", "torch,tensorflow"), 2, "'tensorflow' is not known; use --compare torch,openvino,"),
        ((BAKED, "--budget", "20"), 2, "--budget: '20' is no time; write as in 20ms or 0.5s"),
        ((BAKED, "--window", 5), 2, "--window: no video is longer than 5 snippets; add longer --lengths"),
        ((BAKED, "--hop", 5), 2, "--hop: needs a window"),
        ((BAKED, "--window", 2, "--hop", 3), 2, "--hop: is 3 for windows of 2"),
        ((BAKED, "--protocol", "mine"), 2, "use --protocol thesis"),
        ((BAKED, "--protocol", "thesis", "--runs", 3), 2, "fixes seeds and runs"),
        ((__file__,), 65, "is not an ONNX file, or damaged"),
    ],
)
def test_errors(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[object, ...],
    expected: int,
    message: str,
) -> None:
    from stale_edge_runtime.session import providers

    if "cuda" in words and "cuda" in providers():
        pytest.skip("this machine has CUDA")
    monkeypatch.chdir(tmp_path)
    words = words if "--lengths" in words or "thesis" in words else (*words, "--lengths", "5")
    code, out, err = command("bench", *words)
    assert code == expected
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_measure(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command("bench")
    assert code == 66
    assert "nothing to measure; run `stale-edge export` or name a file" in err


def test_an_old_result_survives_a_failed_run(command: Command, tmp_path: Path) -> None:
    old = tmp_path / "bench.json"
    old.write_text("old")
    assert command("bench", tmp_path / "missing.onnx", "--json", old)[0] == 66
    assert old.read_text() == "old"
    assert list(tmp_path.iterdir()) == [old]


def test_law_budget_windows_and_explanation(command: Command, tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    words = ("--lengths", "50,100,200,400", "--runs", 6, "--no-cold-start", "--window", 100)
    code, out, err = command("bench", BAKED, *words, "--budget", "10s", "--explain", "--json", target)
    assert code == 0, err
    report = json.loads(target.read_text())
    check_schema(report)
    windows = [(row["snippets"], row["window"], row["hop"]) for row in report["rows"] if row["window"]]
    assert windows == [(200, 100, 50), (400, 100, 50)]
    assert out.count("tiny_baked.onnx, windows of 100") == 2
    (law,) = report["length_law"]
    assert law["lengths"] == [50, 100, 200, 400]
    assert min(law["a_ms"], law["b_ms"], law["c_ms"]) >= 0
    (budget,) = report["budget"]
    assert budget == {
        "model": "tiny_baked.onnx",
        "provider": "cpu",
        "threads": 1,
        "batch": 1,
        "budget_ms": 10_000,
        "snippets": 512,
        "low": 512,
        "high": None,
        "reach": "beyond",
    }
    assert "512 snippets, the most that it takes, fit into 10000 ms" in out
    assert "t = a + b T + c T²" in out
    assert report["crossover"] == []
    assert [item["snippets"] for item in report["explain"]] == [50, 100, 200, 400]
    for item in report["explain"]:
        assert sum(share["share"] for share in item["operators"]) == pytest.approx(1, abs=1e-4)
        assert item["stages"][0]["ms"] > 0
        assert sum(part["ms"] for part in item["parts"]) == pytest.approx(item["run_ms"], rel=1e-3)
        assert {"rows", "inner", "columns", "times", "of_ceiling", "of_ceiling_alone"} <= set(item["products"][0])
    assert "Where the time goes in tiny_baked.onnx" in out
    assert "Softmax" in out
    assert "tiny_baked.onnx has no 8-bit products" in out
    assert re.search(r"Parts of a forward of tiny_baked.onnx: 1 thread, batch 1\s+part\s+operator\s+T = 50", out)
    assert "lost to shapes" in out


@pytest.mark.skipif(cores() < 2, reason="needs 2 cores")
def test_several_numbers_of_threads_are_compared_with_videos_at_the_same_time(command: Command, tmp_path: Path) -> None:
    target, notes = tmp_path / "bench.json", tmp_path / "bench.md"
    words = ("--runs", 2, "--no-cold-start", "--lengths", "5,20", "--threads", "1,2")
    code, out, err = command("bench", BAKED, *words, "--json", target, "--markdown", notes)
    assert code == 0, err
    report = json.loads(target.read_text())
    check_schema(report)
    assert {row["threads"] for row in report["rows"]} == {1, 2}
    ways = [(way["snippets"], way["threads"], way["videos"]) for way in report["thread_ways"]]
    assert ways == [(n, *way) for n in (5, 20) for way in ((1, 1), (2, 1), (1, 2))]
    assert {item["snippets"] for item in report["thread_advice"]} == {5, 20}
    for text in (out, notes.read_text()):
        assert "efficiency" in text
        assert "one video is done soonest with" in re.sub(r"\s+", " ", text)
        assert re.search(r"\d+ processors allowed", text)


@pytest.mark.parametrize("threads", ["1,", "two", "1.5", "-1", "1,0"])
def test_what_is_no_number_of_threads_is_refused(threads: str, command: Command) -> None:
    code, _, err = command("bench", BAKED, "--threads", threads)
    assert code == 2
    assert "is no number of threads; write as in 2, or 1,2,4" in err


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"physical_cores": 4}, "4 processors allowed, each a physical core"),
        ({"physical_cores": 2}, "4 processors allowed are hyper-threads of 2 physical cores, which they share"),
        ({"physical_cores": None}, "4 processors allowed; this system does not tell physical cores from hyper-threads"),
        ({}, "4 processors allowed; this system does not tell physical cores from hyper-threads"),
        (
            {"physical_cores": 4, "cpu_quota_cores": 1.5},
            "4 processors allowed, each a physical core; the container may use 1.5 on average",
        ),
    ],
)
def test_physical_cores_are_told_from_hyper_threads(told: dict[str, Any], line: str) -> None:
    assert core_line({"cores_allowed": 4, **told}) == line


def test_few_lengths_follow_no_law(command: Command, tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    code, out, _ = command("bench", BAKED, *QUICK, "--json", target)
    assert code == 0
    report = json.loads(target.read_text())
    assert report["length_law"] == report["budget"] == report["crossover"] == report["explain"] == []
    assert "Time by length" not in out
    assert report["thread_ways"] == report["thread_advice"] == []  # one number of threads
    assert "efficiency" not in out
    assert "processors allowed" not in out


def test_a_budget_and_a_gpu_in_words() -> None:
    budgets = [
        (200, 201, "m, 2 threads, batch 1: 200 snippets fit into 20 ms, 201 do not (measured)"),
        (8192, None, "m, 2 threads, batch 1: 8,192 snippets, the most that it takes, fit into 20 ms"),
        (0, 1, "m, 2 threads, batch 1: not even 1 snippet in 20 ms"),
    ]
    for snippets, high, text in budgets:
        assert budget_line(LongestVideo("m", "cpu", 2, 1, 20.0, snippets, high)) == text
    crossing = [
        (400, 200, "g is faster than c from 400 measured snippets on, slower at 200"),
        (100, None, "g is faster than c from 100 measured snippets on"),
        (None, 800, "g is not faster than c at 800 snippets, the longest measured"),
    ]
    for first, low, text in crossing:
        assert crossover_line(Crossover("g", "c", "cuda", 1, 1, first, low, 800)) == text


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("20ms", 20), ("0.5s", 500), (" 1.5 ms", 1.5), ("0ms", None), ("-1ms", None), ("2m", None)],
)
def test_budgets(text: str, milliseconds: float | None) -> None:
    if milliseconds is None:
        with pytest.raises(UsageError, match="is no time"):
            parse_budget(text)
    else:
        assert parse_budget(text) == milliseconds


def test_engines_come_in_one_order_and_once() -> None:
    assert parse_engines([]) == ()
    assert parse_engines(["openvino, torch", "torch"]) == ("torch", "openvino")


@given(st.lists(st.floats(0, 500), max_size=30), st.floats(0.5, 30))
def test_labels_move_apart_and_keep_their_order(positions: list[float], gap: float) -> None:
    wanted = sorted(positions)
    moved = spread(wanted, gap)
    assert len(moved) == len(wanted)
    assert all(later - earlier >= gap * (1 - 1e-6) for earlier, later in pairwise(moved))
    if all(later - earlier >= gap for earlier, later in pairwise(wanted)):
        assert moved == pytest.approx(wanted)
    assert sum(moved) == pytest.approx(sum(wanted), abs=1e-6 * max(1, len(wanted)))


def in_new_process(*words: object) -> list[str]:
    return [sys.executable, "-c", "import sys; from stale_edge.__main__ import main; main()", *map(str, words)]


def test_neither_torch_nor_matplotlib_is_imported_unasked() -> None:
    code = (
        "import sys; from stale_edge.cli.app import run;"
        f"code = run(['bench', {str(BAKED)!r}, '--runs', '1', '--no-cold-start', '--lengths', '3', '-q']);"
        "assert not {'torch', 'matplotlib'} & set(sys.modules), 'imported';"
        "sys.exit(code)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_interrupt_ends_it_and_leaves_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    target = tmp_path / "bench.json"
    program = (
        "import sys; from stale_edge_runtime.bench import measure; real = measure.time_together\n"
        "def time_together(*words, **named):\n"
        "    print('measuring', file=sys.stderr, flush=True)\n"
        "    return real(*words, **named)\n"
        "measure.time_together = time_together\n"
        "from stale_edge.__main__ import main; main()"
    )
    words = ["bench", BAKED, "--seconds", "3600", "--lengths", "300", "--json", target]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    assert process.stderr is not None
    lines = iter(process.stderr.readline, b"")
    assert b"measuring\n" in lines
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)  # only a failure takes that long
    assert process.returncode == 130, err
    assert b"interrupted" in err
    assert list(tmp_path.iterdir()) == []


def test_lengths() -> None:
    assert parse_lengths("100, 200:600:200,200") == (100, 200, 400, 600)
    assert parse_lengths("200:3000:200")[-1] == 3000
    assert len(parse_lengths("100,200:3000:200")) == 16


@given(st.text("0123456789:,x- ", max_size=20))
def test_any_text_is_lengths_or_a_usage_error(text: str) -> None:
    try:
        lengths = parse_lengths(text)
    except UsageError:
        return
    assert all(1 <= length <= 8192 for length in lengths)
    assert len(set(lengths)) == len(lengths) > 0


def test_names_tell_files_apart(tmp_path: Path) -> None:
    paths = [tmp_path / folder / name for folder, name in (("a", "x.onnx"), ("b", "x.onnx"), ("a", "y.onnx"))]
    assert distinct_names(paths) == ["a/x.onnx", "b/x.onnx", "y.onnx"]
    assert distinct_names([paths[2], paths[2]]) == ["y.onnx", "y.onnx #2"]
