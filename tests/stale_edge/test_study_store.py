"""A study's folder: finished cells outlive whatever happens, and nothing is measured twice."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stale_edge.study import runner
from stale_edge.study.design import Cell, Measurement, StudyName
from stale_edge.study.runner import run_study
from stale_edge.study.store import CELLS, CSV, HEADER, JSON, Store, read_run
from stale_edge_runtime.errors import BadDataError, InputMissingError, UnavailableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Killed(BaseException):
    """An error that no code of ours catches."""


@dataclasses.dataclass
class Counting:
    """A study of numbers that are known before."""

    name: StudyName = StudyName.TRAINING
    methods: tuple[str, ...] = ("a", "b", "c")
    scale: float = 1.0
    dies_at: str | None = None
    measured: list[str] = dataclasses.field(default_factory=list)
    remarks: list[str] = dataclasses.field(default_factory=list)

    @property
    def options(self) -> Mapping[str, object]:
        return {"scale": self.scale}

    @property
    def notes(self) -> Sequence[str]:
        return self.remarks

    def cells(self) -> Sequence[Cell]:
        return [Cell(f"{method}-{repeat}", {"method": method}, repeat) for method in self.methods for repeat in (0, 7)]

    def measure(self, cell: Cell, note: Callable[[str], None]) -> Sequence[Measurement]:
        if cell.key == self.dies_at:
            raise Killed
        self.measured.append(cell.key)
        value = self.scale * len(self.measured) / 3
        return [
            Measurement(cell.factors, "seconds", value, cell.repeat, 0),
            Measurement(cell.factors, "seconds", 2 * value, cell.repeat, 1),
            Measurement(cell.factors, "steps", 10, cell.repeat),
        ]


KEYS = ["a-0", "a-7", "b-0", "b-7", "c-0", "c-7"]


def test_a_killed_study_goes_on_and_measures_nothing_twice(tmp_path: Path) -> None:
    killed = Counting(dies_at="b-7")
    with pytest.raises(Killed):
        run_study(killed, tmp_path)
    assert killed.measured == KEYS[:3]
    partly = read_run(tmp_path)
    assert (partly.finished, partly.cells, partly.complete) == (3, 6, False)
    resumed, said, steps = Counting(), [], []
    run = run_study(resumed, tmp_path, note=said.append, on_cell=steps.append)
    assert resumed.measured == KEYS[3:]
    assert "3 of 6 cells are there already" in said
    assert [(step.done, step.cells, step.key) for step in steps] == [(4, 6, "b-7"), (5, 6, "c-0"), (6, 6, "c-7")]
    assert steps[-1].remaining_s == 0
    assert run.complete
    assert len(run.measurements) == 18
    assert read_run(tmp_path).measurements == run.measurements
    again = Counting()
    assert run_study(again, tmp_path).measurements == run.measurements
    assert again.measured == []


def elsewhen(monkeypatch: pytest.MonkeyPatch, commit: str, **machine: Any) -> None:
    """Let what follows be another version of the program, or another state of the machine."""
    real = runner.describe_machine
    monkeypatch.setattr(runner, "commit", lambda: commit)
    monkeypatch.setattr(runner, "describe_machine", lambda *words: {**real(*words), **machine})


def test_every_session_that_measured_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhen(monkeypatch, "first", libraries={"torch": "1"})
    with pytest.raises(Killed):
        run_study(Counting(dies_at="b-0"), tmp_path)
    alone = json.loads((tmp_path / HEADER).read_text())
    assert "sessions" not in alone
    elsewhen(monkeypatch, "idle")
    run_study(Counting(), tmp_path, max_s=0.0)
    assert json.loads((tmp_path / HEADER).read_text()) == alone
    elsewhen(monkeypatch, "second", libraries={"torch": "2"}, cpu_flags=["avx2"])
    with pytest.raises(Killed):
        run_study(Counting(dies_at="c-0"), tmp_path)
    elsewhen(monkeypatch, "third", libraries={"torch": "2"}, cpu_flags=["avx2"])
    run = run_study(Counting(), tmp_path)
    assert [session.commit for session in run.history] == ["first", "second", "third"]
    assert [session.machine["libraries"]["torch"] for session in run.history] == ["1", "2", "2"]
    assert (run.commit, run.started, dict(run.machine)) == ("first", alone["started"], alone["machine"])
    assert read_run(tmp_path) == run
    elsewhen(monkeypatch, "fourth")
    assert run_study(Counting(), tmp_path) == run


def test_a_session_that_measured_nothing_leaves_the_first_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhen(monkeypatch, "killed")
    with pytest.raises(Killed):
        run_study(Counting(dies_at="a-0"), tmp_path)
    elsewhen(monkeypatch, "measured")
    run = run_study(Counting(), tmp_path)
    assert (run.commit, run.sessions) == ("measured", ())


def test_a_header_of_an_earlier_version_is_the_first_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Killed):
        run_study(Counting(dies_at="b-0"), tmp_path)
    header = json.loads((tmp_path / HEADER).read_text())
    assert set(header) == {
        *("schema", "study", "machine", "options", "commit", "started", "cells", "finished", "notes"),
    }
    elsewhen(monkeypatch, "later")
    run = run_study(Counting(), tmp_path)
    assert [(session.commit, session.started) for session in run.history][:1] == [(header["commit"], header["started"])]
    assert [session.commit for session in run.history][1:] == ["later"]


def test_an_unfinished_cell_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run_study(Counting(dies_at="a-7"), tmp_path)
    assert [path.name for path in (tmp_path / CELLS).iterdir()] == ["a-0.json"]


def test_time_that_is_over_ends_a_study_between_two_cells(tmp_path: Path) -> None:
    none = run_study(Counting(), tmp_path, max_s=0.0)
    assert (none.finished, none.measurements) == (0, ())
    assert run_study(Counting(), tmp_path, max_s=60.0).complete


def test_what_is_left_is_told_by_cells_of_the_same_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    took = {"quick-0": 1.0, "quick-7": 1.0, "slow-0": 60.0, "slow-7": 50.0, "slow-8": 52.0, "other-0": 9.0}
    clock = 0.0

    class Uneven(Counting):
        def cells(self) -> Sequence[Cell]:
            return [Cell(key, {"method": key.partition("-")[0]}, int(key.partition("-")[2])) for key in took]

        def measure(self, cell: Cell, note: Callable[[str], None]) -> Sequence[Measurement]:
            nonlocal clock
            clock += took[cell.key]
            return super().measure(cell, note)

    monkeypatch.setattr(runner.time, "monotonic", lambda: clock)
    steps: list[runner.StudyProgress] = []
    run_study(Uneven(), tmp_path, on_cell=steps.append)
    assert [step.seconds for step in steps] == list(took.values())
    all_four = (1 + 1 + 60 + 50) / 4
    assert [step.remaining_s for step in steps] == pytest.approx(
        [1 + 4 * 1, 4 * 1, 2 * 60 + (1 + 1 + 60) / 3, 50 + all_four, (2 + 60 + 50 + 52) / 5, 0]
    )


def test_making_ready_comes_first_and_only_for_what_is_missing(tmp_path: Path) -> None:
    class Elaborate(Counting):
        def prepare(self, note: Callable[[str], None]) -> None:
            self.measured.append("ready")

    first, second = Elaborate(), Elaborate()
    run_study(first, tmp_path)
    assert first.measured == ["ready", *KEYS]
    run_study(second, tmp_path)
    assert second.measured == []


def test_notes_of_every_run_are_kept_once(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run_study(Counting(dies_at="c-0", remarks=["no GPU"]), tmp_path)
    run = run_study(Counting(remarks=["no GPU", "no memory"]), tmp_path)
    assert run.notes == ("no GPU", "no memory")
    assert json.loads((tmp_path / HEADER).read_text())["notes"] == ["no GPU", "no memory"]


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (Counting(scale=2.0), r"other options \(scale\)"),
        (Counting(methods=("a",)), r"other options \(its cells\)"),
        (Counting(name=StudyName.ABLATION), "holds the study training"),
    ],
)
def test_another_study_is_refused(tmp_path: Path, other: Counting, word: str) -> None:
    run_study(Counting(), tmp_path)
    before = (tmp_path / JSON).read_bytes()
    with pytest.raises(UsageError, match=word):
        run_study(other, tmp_path)
    assert other.measured == []
    assert (tmp_path / JSON).read_bytes() == before


def test_another_machine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_study(Counting(), tmp_path)
    real = runner.describe_machine

    def elsewhere(*words: Any) -> dict[str, Any]:
        return {**real(*words), "cpu": "Another processor"}

    monkeypatch.setattr(runner, "describe_machine", elsewhere)
    with pytest.raises(UsageError, match="another machine"):
        run_study(Counting(), tmp_path)


def damaged_cells(content: dict[str, Any]) -> list[str]:
    first = content["measurements"][0]
    return [
        "",
        "{",
        "[]",
        json.dumps({**content, "key": "a-7"}),
        json.dumps({**content, "study": "ablation"}),
        json.dumps({**content, "study": []}),
        json.dumps({**content, "key": {}}),
        json.dumps({**content, "measurements": None}),
        json.dumps({**content, "measurements": [[]]}),
        json.dumps({**content, "measurements": [{**first, "metric": "colour"}]}),
        json.dumps({**content, "measurements": [{**first, "metric": []}]}),
        json.dumps({**content, "measurements": [{**first, "metric": {}}]}),
        json.dumps({**content, "measurements": [{**first, "method": []}]}),
        json.dumps({**content, "measurements": [{**first, "method": 1e15}]}),
        json.dumps({**content, "measurements": [{**first, "value": "fast"}]}),
        json.dumps({**content, "measurements": [{**first, "value": True}]}),
        json.dumps({**content, "measurements": [{**first, "value": {}}]}),
        json.dumps({**content, "measurements": [{**first, "value": 1e15}]}),
        json.dumps({**content, "measurements": [{**first, "metric": "average_map", "value": 1.01}]}),
        json.dumps({**content, "measurements": [{**first, "metric": "average_map", "value": -0.01}]}),
        json.dumps({**content, "measurements": [{**first, "repeat": 0.5}]}),
        json.dumps({**content, "measurements": [{**first, "repeat": []}]}),
        json.dumps({**content, "measurements": [{**first, "run": 10**15}]}),
        json.dumps({**content, "measurements": [{key: value for key, value in first.items() if key != "method"}]}),
        json.dumps({**content, "measurements": [{**first, "value": 1e400}]}),
    ]


def test_a_damaged_cell_is_refused_in_one_line_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run_study(Counting(dies_at="a-7"), tmp_path)
    path = tmp_path / CELLS / "a-0.json"
    for content in damaged_cells(json.loads(path.read_text())):
        path.write_text(content)
        study = Counting()
        with pytest.raises(BadDataError) as found:
            run_study(study, tmp_path)
        assert str(path) in str(found.value)
        assert "\n" not in str(found.value)
        assert study.measured == []
    path.unlink()
    assert run_study(Counting(), tmp_path).complete


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    run_study(Counting(), tmp_path)
    header = json.loads((tmp_path / HEADER).read_text())
    changes: list[dict[str, Any]] = [
        *({"schema": 99}, {"machine": None}, {"study": "alchemy"}, {"study": []}, {"study": {}}, {"notes": 1}),
        *({"cells": "six"}, {"cells": True}, {"cells": [6]}, {"cells": 10**15}, {"finished": -1}, {"started": {}}),
        *({"sessions": {}}, {"sessions": [1]}, {"sessions": [{"commit": None, "started": "", "machine": []}]}),
        *({"sessions": [{"commit": [], "started": "", "machine": {}}]}, {"sessions": [{"machine": {}}]}),
    ]
    for change in changes:
        (tmp_path / HEADER).write_text(json.dumps({**header, **change}))
        with pytest.raises(BadDataError, match=HEADER):
            run_study(Counting(), tmp_path)


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path).locked(), pytest.raises(UnavailableError, match="in use"):
        run_study(Counting(), tmp_path)
    assert run_study(Counting(), tmp_path).complete


def test_csv_and_json_tell_the_same(tmp_path: Path) -> None:
    run = run_study(Counting(scale=0.1), tmp_path)
    content = json.loads((tmp_path / JSON).read_text())
    with (tmp_path / CSV).open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == len(content["measurements"]) == len(run.measurements) == 18
    for line, row in zip(lines, content["measurements"], strict=True):
        assert line["study"] == "training"
        assert line["cpu"] == content["machine"]["cpu"]
        assert line["started"] == content["started"]
        assert line["unit"] == content["units"][row["metric"]]
        assert (line["method"], line["metric"]) == (row["method"], row["metric"])
        assert (int(line["repeat"]), int(line["run"])) == (row["repeat"], row["run"])
        assert float(line["value"]) == row["value"]
    assert len({(line["method"], line["metric"], line["repeat"], line["run"]) for line in lines}) == 18


@pytest.mark.parametrize(
    "wrong",
    [
        Measurement({"method": "a"}, "seconds", float("nan"), 0),
        Measurement({"method": "a"}, "seconds", 1e15, 0),
        Measurement({"method": "a"}, "average_map", 1.01, 0),
        Measurement({"method": "a"}, "average_map", float("nan"), 0),
        Measurement({"method": "a"}, "colour", 1.0, 0),
        Measurement({"method": "a", "more": 1}, "seconds", 1.0, 0),
        Measurement({}, "seconds", 1.0, 0),
    ],
)
def test_what_does_not_fit_the_columns_is_no_measurement(tmp_path: Path, wrong: Measurement) -> None:
    class Wrong(Counting):
        def measure(self, cell: Cell, note: Callable[[str], None]) -> Sequence[Measurement]:
            return [wrong]

    with pytest.raises(ValueError, match="does not fit the columns"):
        run_study(Wrong(), tmp_path)
    assert not any((tmp_path / CELLS).iterdir())


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError):
        read_run(tmp_path)
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(BadDataError, match="not a study"):
        read_run(tmp_path / "other.json")
