"""`stale-edge study inference` and `quantization` on a tiny network: what is measured, kept and refused."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from stale_edge import extras, seeded
from stale_edge.networks.boundary_map.config import BoundaryMapConfig
from stale_edge.seeded import untrained_checkpoint
from stale_edge.study.design import StudyName
from stale_edge.study.experiments import timing
from stale_edge.study.experiments.timed_models import TimedContender, TimedModels, gpu_peak_macs, name_places
from stale_edge.study.experiments.timing import TURNS, TimingSettings, timing_study
from stale_edge.study.store import read_run
from stale_edge_export.contenders.torch import OnDevice, TorchContender, torch_contenders
from stale_edge_runtime.bench import ceiling, measure, memory
from stale_edge_runtime.bench.measure import Effort, Timing, time_together
from stale_edge_runtime.bench.memory import ChildError, ColdStart
from stale_edge_runtime.contract import ACTIONFORMER, Precision
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.heads.boundary_map import BOUNDARY_MAP
from stale_edge_runtime.session import providers
from stale_edge_runtime.synthetic import clip_like_features
from tests.stale_edge.actionformer_examples import TINY as TINY_ACTIONFORMER

if TYPE_CHECKING:
    from collections.abc import Callable

    from stale_edge.checkpoint import Checkpoint
    from tests.conftest import Clock

    Command = Callable[..., tuple[int, str, str]]

FAKE_CHILD = ColdStart(1.0, 1.0, 50.0, 90.0, 80.0)
DRIVER = """
import sys
from stale_edge_runtime.bench import memory
memory.run_child = lambda *words, **named: memory.ColdStart(1.0, 1.0, 50.0, 90.0, 80.0)
from stale_edge.__main__ import main
main()
"""
KILLED_AFTER_TWO_CELLS = (
    """
import os, signal
from stale_edge.study.store import Store
put, kept = Store.put, []

def put_and_die(store, cell, *rest):
    put(store, cell, *rest)
    kept.append(cell)
    if len(kept) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

Store.put = put_and_die
"""
    + DRIVER
)


@pytest.fixture(autouse=True)
def reported(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Path]]:
    """Requests for a report; making one is tested elsewhere, and takes seconds."""
    asked: list[tuple[Any, Path]] = []

    def write_report(runs: Any, folder: Path) -> Path:
        asked.append((runs, folder))
        return folder / "report.html"

    module = SimpleNamespace(write_report=write_report)
    monkeypatch.setitem(sys.modules, "stale_edge.study.report.report", module)  # type: ignore[arg-type]
    monkeypatch.setattr(extras, "has_report", lambda: True)
    return asked


@pytest.fixture(scope="module")
def models(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the tiny network, exported once."""
    folder = tmp_path_factory.mktemp("study")
    TimedModels(folder, tiny_file).contenders({}, {}, lambda _: None)
    return folder / "models"


@pytest.fixture
def words(models: Path, tiny_file: Path, tmp_path: Path) -> tuple[Any, ...]:
    """Options of a study into a folder that has the files already."""
    shutil.copytree(models, tmp_path / "run" / "models")
    return ("-o", tmp_path / "run", "--checkpoint", tiny_file, "--providers", "cpu")


@pytest.fixture
def without_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of their own are slow to start."""
    monkeypatch.setattr(memory, "run_child", lambda *_, **__: FAKE_CHILD)
    monkeypatch.setattr(ceiling, "measure_ceiling", partial(ceiling.measure_ceiling, seconds=0.01))
    monkeypatch.setattr(timing, "CEILING_SECONDS", 0.01)


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> list[list[Timing]]:
    """All that was timed, as the clock gave it."""
    taken: list[list[Timing]] = []

    def recording(*args: Any, **named: Any) -> list[Timing]:
        taken.append(time_together(*args, **named))
        return taken[-1]

    monkeypatch.setattr(measure, "time_together", recording)
    return taken


def measurements(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "measurements.json").read_text())["measurements"]
    return found


def series(folder: Path, metric: str) -> dict[tuple[str, int, int], list[float]]:
    """Values by model, length and repeat, in the order of their runs."""
    found: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    for row in measurements(folder):
        if row["metric"] == metric:
            values = found[row["model"], row["snippets"], row["repeat"]]
            assert row["run"] == len(values)
            values.append(row["value"])
    return dict(found)


INFERENCE = ("PyTorch fp32", "stale.onnx", "stale.fp16.onnx", "stale.int8.onnx")


@pytest.mark.usefixtures("without_children")
def test_every_sample_of_every_contender_is_kept(
    command: Command, words: tuple[Any, ...], samples: list[list[Timing]], tmp_path: Path
) -> None:
    code, out, err = command("study", "inference", "--lengths", "5,20", "--seeds", "0,100", *words, "--json")
    assert code == 0, err
    folder = tmp_path / "run"
    times = series(folder, "time_ms")
    assert set(times) == {(model, length, seed) for model in INFERENCE for length in (5, 20) for seed in (0, 100)}
    cells = [(length, seed) for length in (5, 20) for seed in (0, 100)]
    for (length, seed), timings in zip(cells, samples, strict=True):
        in_order = timings if seed == 0 else timings[::-1]  # every other input goes the other way round
        for model, each in zip(INFERENCE, in_order, strict=True):
            assert len(each.samples_ms) == TURNS
            assert times[model, length, seed] == each.samples_ms.ravel().tolist()
            assert (each.warmup_runs > 0) == (seed == 0)
    rates, shares, macs = (series(folder, name) for name in ("gmacs_per_s", "utilisation", "gmacs"))
    for (model, length, seed), values in times.items():
        expected = macs[model, length, 0][0] / np.median(values) * 1e3
        assert rates[model, length, seed] == [pytest.approx(expected)]
        assert shares[model, length, seed][0] > 0
    assert series(folder, "peak_mb") == {(model, length, 0): [80.0] for model in INFERENCE for length in (5, 20)}
    printed = json.loads(out)
    assert (printed["study"], printed["cells"], printed["finished"]) == ("inference", 4, 4)
    first = printed["summary"][0]
    assert (first["model"], first["snippets"]) == ("PyTorch fp32", 5)
    everything = times["PyTorch fp32", 5, 0] + times["PyTorch fp32", 5, 100]
    assert first["time_ms"]["median"] == pytest.approx(np.median(everything))
    assert first["time_ms"]["n"] == len(everything)
    assert "4/4 00020-seed-100" in err


def test_memory_is_that_of_a_process_of_its_own(
    command: Command, words: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = memory.run_child

    def some(task: Any, **named: Any) -> ColdStart:
        return real(task, **named) if named["subject"].startswith("stale.onnx") else FAKE_CHILD

    monkeypatch.setattr(memory, "run_child", some)
    code, out, err = command("study", "quantization", "--quick", "--repeats", 1, "--lengths", 5, *words)
    assert code == 0, err
    folder = tmp_path / "run"
    peaks, sizes = series(folder, "peak_mb"), series(folder, "file_mb")
    assert peaks.keys() == sizes.keys() == series(folder, "time_ms").keys()
    assert 20 < peaks["stale.onnx", 5, 0][0] < 500
    assert peaks["stale.onnx", 5, 0][0] != peaks["PyTorch fp32", 5, 0][0]
    for model in ("stale.onnx", "stale.fp16.onnx", "stale.int8.onnx"):
        assert sizes[model, 5, 0] == [(folder / "models" / model).stat().st_size / 1e6]
    assert 0 < sizes["PyTorch dynamic int8", 5, 0][0] < sizes["PyTorch fp32", 5, 0][0]
    assert "PyTorch dynamic int8" in out
    rows = measurements(folder)
    assert {row["precision"] for row in rows} == {"fp32", "fp16", "int8"}
    assert {row["provider"] for row in rows} == {"cpu"}


@pytest.mark.usefixtures("without_children")
def test_a_report_is_written_where_it_can_be(
    command: Command,
    words: tuple[Any, ...],
    reported: list[tuple[Any, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    once = ("study", "inference", "--quick", "--repeats", 1, "--lengths", 5, *words)
    code, _, err = command(*once)
    assert code == 0, err
    ((run,), folder) = reported.pop()
    assert (run.study, run.complete, folder) == ("inference", True, tmp_path / "run")
    assert f"wrote {folder / 'report.html'}" in err
    monkeypatch.setattr(extras, "has_report", lambda: False)
    code, _, err = command(*once)
    assert code == 0, err
    assert reported == []
    assert "pip install 'stale-edge[report]'" in err


@pytest.mark.usefixtures("without_children")
def test_slow_half_precision_is_left_out_with_a_note(command: Command, words: tuple[Any, ...], tmp_path: Path) -> None:
    record = tmp_path / "run" / "models" / "stale.json"
    once = ("--quick", "--repeats", 1, "--lengths", 5)
    record.write_text(json.dumps({**json.loads(record.read_text()), "half_slowdown": 9.0}))
    code, _, err = command("study", "quantization", *once, *words)
    assert code == 0, err
    assert not [row for row in measurements(tmp_path / "run") if row["model"] == "PyTorch fp16"]
    header = json.loads((tmp_path / "run" / "study.json").read_text())
    assert header["notes"] == ["PyTorch fp16 on the CPU is left out: its products take 9.0 times as long as in fp32"]
    assert header["notes"][0] in err
    shutil.rmtree(tmp_path / "run" / "cells")
    (tmp_path / "run" / "study.json").unlink()
    record.write_text(json.dumps({**json.loads(record.read_text()), "half_slowdown": 1.0}))
    code, _, err = command("study", "quantization", *once, *words)
    assert code == 0, err
    assert [row for row in measurements(tmp_path / "run") if row["model"] == "PyTorch fp16"]


def test_a_killed_study_goes_on_with_the_same_models(
    command: Command, words: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    line = [
        str(word) for word in ("study", "quantization", "--lengths", "5:8:1", "--seeds", "3,1", "--repeats", 1, *words)
    ]
    cells = folder / "cells"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with (tmp_path / "said").open("w") as said:
        program = [sys.executable, "-c", KILLED_AFTER_TWO_CELLS]
        killed = subprocess.run([*program, *line], stdout=said, stderr=said, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL, (tmp_path / "said").read_text()
    kept = {path.name: path.read_bytes() for path in cells.glob("*.json")}
    assert len(kept) == 2
    assert read_run(folder).finished == 1  # the tables come right after the cell
    models = {path.name: path.stat().st_mtime_ns for path in (folder / "models").iterdir()}
    monkeypatch.setattr(memory, "run_child", lambda *_, **__: FAKE_CHILD)
    code, _, err = command(*line)
    assert code == 0, err
    assert f"{len(kept)} of 8 cells are there already" in err
    assert {name: (cells / name).read_bytes() for name in kept} == kept
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "models").iterdir()} == models
    found = {(length, seed) for _, length, seed in series(folder, "time_ms")}
    assert found == {(length, seed) for length in range(5, 9) for seed in (3, 1)}
    assert len(series(folder, "peak_mb")) == 4 * len({row["model"] for row in measurements(folder)})


@pytest.mark.usefixtures("without_children")
def test_a_folder_is_for_one_choice_of_options(command: Command, words: tuple[Any, ...]) -> None:
    call = ("study", "inference", "--lengths", 5, "--repeats", 1, "--max-minutes", 0, *words)
    code, _, err = command(*call, "--seeds", "0,1")
    assert code == 0
    assert "0 of 2 cells are measured: the time was over" in err
    code, _, err = command(*call, "--seeds", "0,2")
    assert code == 2
    assert "other options (seeds); choose another folder with -o" in err
    code, _, err = command("study", "quantization", *words)
    assert code == 2
    assert "holds the study inference" in err


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("inference", "--data", "somewhere"),
        ("quantization", "--data", "somewhere"),
        ("quantization", "--peak-tmacs", "8.2"),
        ("open-set", "--lengths", "100"),
        ("training", "--providers", "cpu"),
        ("ablation", "--threads", "1"),
        ("closed-set", "--checkpoint", "a.safetensors"),
        ("closed-set", "--peak-tmacs", "8.2"),
        ("inference", "--seeds", "1,x"),
        ("inference", "--seeds", "-1"),
        ("inference", "--seeds", "4294967296"),
        ("inference", "--seeds", "9" * 5000),
        ("inference", "--seeds", "0,0"),
        ("closed-set", "--seeds", "7,1,7"),
        ("inference", "--seeds", ""),
        ("inference", "--peak-tmacs", "nan"),
        ("inference", "--peak-tmacs", "inf"),
        ("inference", "--max-minutes", "nan"),
        ("open-set", "--repeats", "10000000000"),
        ("inference", "--lengths", "0"),
        ("inference", "--repeats", "0"),
    ],
)
def test_what_does_not_belong_is_refused_by_name(
    command: Command, tmp_path: Path, name: str, option: str, value: str
) -> None:
    code, out, err = command("study", name, option, value, "-o", tmp_path / "run")
    assert (code, out) == (2, "")
    assert option in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_what_is_not_here_is_said_before_anything_is_made(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    if "cuda" not in providers():
        assert command("study", "inference", "--providers", "cuda", "-o", folder)[0] == 69
    assert command("study", "inference", "--threads", 4096, "-o", folder)[0] == 69
    assert command("study", "inference", "--checkpoint", tmp_path / "absent", "-o", folder)[0] == 66
    assert command("study", "alchemy", "-o", folder)[0] == 2
    assert not folder.exists()
    folder.write_text("a file")
    assert command("study", "inference", "-o", folder)[0] == 73


@pytest.mark.parametrize("name", ["inference", "quantization"])
def test_the_thesis_s_lengths_and_inputs_by_default(name: str, tmp_path: Path) -> None:
    thesis = timing_study(StudyName(name), tmp_path)
    lengths = [*([100] if name == "quantization" else []), *range(200, 3001, 200)]
    assert [(cell.factors["snippets"], cell.repeat) for cell in thesis.cells()] == [
        (length, seed) for length in lengths for seed in (0, 100, 200, 300, 400)
    ]
    assert thesis.options["weights"] == "untrained, seed 0"
    assert thesis.options["networks"] == ["stale", "boundary-map", "actionformer"]
    quick = timing_study(StudyName(name), tmp_path, TimingSettings(quick=True))
    assert len(quick.cells()) == 3
    assert (thesis.options["quick"], quick.options["quick"]) == (False, True)


@pytest.mark.slow
@pytest.mark.usefixtures("without_children")
def test_other_networks_take_turns_beside_the_thesis_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ActionFormer has a published forward for PyTorch to run; the boundary map has files alone."""
    small: dict[str, Any] = {
        ACTIONFORMER: replace(TINY_ACTIONFORMER, feature_dim=32, classes=1),
        BOUNDARY_MAP: BoundaryMapConfig(feature_dim=32, snippets=20, width=16, pair_channels=8, blocks=1, heads=2),
    }
    monkeypatch.setattr(
        seeded, "untrained_checkpoint", lambda seed, name: untrained_checkpoint(seed, name, small[name])
    )
    settings = TimingSettings(lengths=(5,), seeds=(0,), turns=1, networks=(ACTIONFORMER, BOUNDARY_MAP))
    study = timing_study(StudyName.QUANTIZATION, tmp_path, settings)
    found = study.measure(study.cells()[0], lambda _: None)
    assert {one.factors["model"] for one in found} == {
        "boundary-map.onnx",
        "boundary-map.int8.onnx",
        "actionformer, PyTorch fp32",
        "actionformer.onnx",
        "actionformer.int8.onnx",
    }
    assert {one.metric for one in found} == {"time_ms", "file_mb", "peak_mb"}


def test_networks_are_chosen_or_those_of_the_weights(tmp_path: Path, tiny_file: Path) -> None:
    chosen = TimingSettings(networks=(ACTIONFORMER,))
    assert timing_study(StudyName.INFERENCE, tmp_path, chosen).options["networks"] == ["actionformer"]
    weights = TimingSettings(checkpoint=tiny_file)
    assert timing_study(StudyName.INFERENCE, tmp_path, weights).options["networks"] == ["stale"]
    with pytest.raises(UsageError, match="--networks: does not go with --checkpoint"):
        timing_study(StudyName.INFERENCE, tmp_path, replace(chosen, checkpoint=tiny_file))
    with pytest.raises(UsageError, match="--networks: names 'x3d'"):
        timing_study(StudyName.INFERENCE, tmp_path, TimingSettings(networks=("x3d",)))
    with pytest.raises(UsageError, match="--networks: names none"):
        timing_study(StudyName.INFERENCE, tmp_path, TimingSettings(networks=()))


def test_a_child_that_fails_is_a_note_and_no_number(
    words: tuple[Any, ...], tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = str(tmp_path / "absent.onnx")
    said: list[str] = []

    def failing(*_: Any, subject: str, **__: Any) -> ColdStart:
        raise ChildError(subject, f"the measuring process ended with 1 ({secret})")

    monkeypatch.setattr(memory, "run_child", failing)
    study = timing_study(
        StudyName.QUANTIZATION, tmp_path / "run", TimingSettings(lengths=(5,), checkpoint=tiny_file, turns=1)
    )
    found = study.measure(study.cells()[0], said.append)
    assert {measurement.metric for measurement in found} == {"time_ms", "file_mb"}
    assert "no memory of stale.int8.onnx at 5 snippets: the process that measures it gave no number" in study.notes
    assert secret not in "".join(study.notes)
    assert any(secret in line for line in said)


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Properties of an H100 as PyTorch tells them."""
    device = SimpleNamespace(major=9, minor=0, multi_processor_count=132, clock_rate=1_830_000)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    return device


def test_the_peak_of_a_gpu_follows_from_its_units_and_clock(pretended_gpu: SimpleNamespace) -> None:
    assert gpu_peak_macs("fp32") == pytest.approx(66.9e12 / 2, rel=0.1)  # of the data sheet, two operations each
    assert gpu_peak_macs("fp16") == pytest.approx(989e12 / 2, rel=0.01)
    assert gpu_peak_macs("int8") is None
    vars(pretended_gpu).update(major=7, multi_processor_count=80, clock_rate=1_597_000)
    assert gpu_peak_macs("fp32") == pytest.approx(16.4e12 / 2, rel=0.01)
    assert gpu_peak_macs("fp16") == pytest.approx(130e12 / 2, rel=0.01)
    vars(pretended_gpu).update(major=99)
    assert gpu_peak_macs("fp32") is None
    del pretended_gpu.clock_rate
    vars(pretended_gpu).update(major=9)
    assert gpu_peak_macs("fp32") is None


def test_without_a_gpu_there_is_no_peak_and_no_contender(
    models: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_peak_macs("fp32") is None
    contenders = TimedModels(models.parent, tiny_file).contenders({"cuda": (Precision.FP32,)}, {}, lambda _: None)
    assert contenders.contenders == ()
    assert contenders.left_out == ("PyTorch on the GPU is left out: the installed PyTorch has no CUDA",)


def test_a_forward_on_a_device_is_timed_from_host_to_host(
    tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """The copies and the wait for the device are inside; the answers are those of an exported file, in fp32."""
    waits: list[float] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: (clock.sleep(0.02), waits.append(clock.now_s)))
    network = tiny_checkpoint.network
    inputs = torch.from_numpy(clip_like_features(1, 7, 32)), torch.tensor([[1, 49406, 49407]])
    forward = OnDevice(network, inputs, "cpu", torch.float32, 3)
    answers = forward()
    assert len(answers) == 3
    for one, other in zip(answers, network(*inputs), strict=False):
        torch.testing.assert_close(one, other)
    waits.clear()
    timings = time_together([forward, lambda: None], Effort(seconds=0.01, rounds=2))
    np.testing.assert_allclose(timings[0].samples_ms, 20)
    assert len(waits) == timings[0].samples_ms.size + timings[0].warmup_runs
    half = OnDevice(copy.deepcopy(network).half(), inputs, "cpu", torch.float16, 3)()
    assert {answer.dtype for answer in half} == {torch.float32}


def test_a_given_peak_is_that_of_fp32(tmp_path: Path, pretended_gpu: SimpleNamespace) -> None:
    study = timing_study(StudyName.INFERENCE, tmp_path, TimingSettings(providers=("cuda",), peak_tmacs=8.2))
    assert study._gpu_peak("fp32") == 8200
    assert study._gpu_peak("fp16") == pytest.approx(989e3 / 2, rel=0.01)
    del pretended_gpu.clock_rate
    assert (study._gpu_peak("fp32"), study._gpu_peak("fp16")) == (8200, None)
    assert timing_study(StudyName.INFERENCE, tmp_path, TimingSettings(providers=("cuda",)))._gpu_peak("fp32") is None
    assert study.notes == ("no utilisation of the GPU in fp16: its peak is not known",)


def test_contenders_say_where_they_run_if_not_in_one_place(models: Path, tiny_file: Path) -> None:
    timed, fp32 = TimedModels(models.parent, tiny_file), (Precision.FP32,)
    alone = timed.contenders({"cpu": fp32}, {"cpu": fp32}, lambda _: None)
    assert [each.name for each in name_places(alone.contenders)] == ["PyTorch fp32", "stale.onnx"]
    both = timed.contenders({"cpu": fp32}, {"cpu": fp32, "cuda": fp32}, lambda _: None)
    places = ["PyTorch fp32 (cpu)", "stale.onnx (cpu)", "stale.onnx (cuda)"]
    assert [each.name for each in name_places(both.contenders)] == places


@pytest.mark.parametrize("damage", ["half_slowdown", "torch_file_mb", "weights", "int8", "{"])
def test_a_damaged_record_of_the_models_is_made_anew(
    models: Path, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    shutil.copytree(models, tmp_path / "models")
    record = tmp_path / "models" / "stale.json"
    good = json.loads(record.read_text())
    monkeypatch.setattr(TimedModels, "_make", lambda *_: {key: good[key] for key in good if key != "weights"})
    bad = {key: value for key, value in good.items() if key != damage}
    bad["torch_file_mb"] = {key: value for key, value in good["torch_file_mb"].items() if key != damage}
    if damage == "torch_file_mb":
        del bad[damage]
    record.write_text(damage if damage == "{" else json.dumps(bad))
    TimedModels(tmp_path, tiny_file).contenders({}, {}, lambda _: None)
    assert json.loads(record.read_text()) == good


def test_memory_that_cannot_be_told_is_left_out_with_a_note(
    words: tuple[Any, ...], tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "run_child", lambda *_, **__: ColdStart(1.0, 1.0, 50.0, 90.0, None))
    study = timing_study(
        StudyName.QUANTIZATION, tmp_path / "run", TimingSettings(lengths=(5,), checkpoint=tiny_file, turns=1)
    )
    found = study.measure(study.cells()[0], lambda _: None)
    assert {measurement.metric for measurement in found} == {"time_ms", "file_mb"}
    assert "no memory: this system cannot tell the peak of a forward from that of loading" in study.notes


def test_memory_on_a_gpu_is_that_of_pytorch_s_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "run_child", lambda *_, **__: ColdStart(1.0, 1.0, 0.0, 90.0, None))
    study = timing_study(StudyName.QUANTIZATION, tmp_path, TimingSettings(providers=("cuda",)))
    for engine, expected in (("pytorch", 90.0), ("onnxruntime", None)):
        contender: Any = SimpleNamespace(provider="cuda", engine=engine, cold_start_words=lambda *_: ())
        assert study._peak_mb(TimedContender(contender, engine, 1.0), 5, lambda _: None) == expected
    assert study.notes == (
        "memory of PyTorch on the GPU is the most that its tensors held, loading included",
        "no memory of onnxruntime on the GPU, which does not tell it",
    )


@pytest.mark.usefixtures("without_children")
def test_a_quick_look_does_not_stand_in_the_way_of_the_study(
    command: Command, models: Path, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("inference", "inference-quick"):
        shutil.copytree(models, tmp_path / "runs" / "study" / folder / "models")
    words = ("study", "inference", "--checkpoint", tiny_file, "--lengths", 5, "--providers", "cpu", "--repeats", 1)
    assert command(*words, "--quick", "--seeds", 0)[0] == 0
    code, _, err = command(*words, "--seeds", 0)
    assert code == 0, err
    assert read_run(tmp_path / "runs" / "study" / "inference-quick").options["quick"] is True
    assert read_run(tmp_path / "runs" / "study" / "inference").options["quick"] is False


def test_half_precision_gives_nearly_the_same_answers(tiny_checkpoint: Checkpoint, tiny_file: Path) -> None:
    def logits(contender: TorchContender) -> np.ndarray:
        return np.asarray(contender.prepare(clip_like_features(1, 13, 32), 1)()[0], dtype=np.float64)

    both = (Precision.FP32, Precision.FP16)
    full, half = torch_contenders(tiny_checkpoint, tiny_checkpoint.classes, tiny_file, both)
    assert half.name == "PyTorch fp16"
    assert {str(value.dtype) for value in half.network.state_dict().values()} == {"torch.float16"}
    assert {str(value.dtype) for value in full.network.state_dict().values()} == {"torch.float32"}
    difference = np.abs(logits(half) - logits(full))
    assert 0 < np.median(difference) < 0.05 * np.abs(logits(full)).max()


def test_known_best_times_stand_for_a_warm_up() -> None:
    calls = []
    timings = time_together([lambda: calls.append(0)] * 2, Effort(rounds=3, turn_s=0.05), best_s=[0.05, 0.01])
    assert [timing.samples_ms.shape for timing in timings] == [(3, 1), (3, 5)]
    assert len(calls) == 18
    assert [timing.warmup_runs for timing in timings] == [0, 0]
