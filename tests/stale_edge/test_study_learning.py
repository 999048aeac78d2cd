"""The studies of learning at a tiny scale: their columns, what they teach, and that they can be run again."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stale_edge import extras
from stale_edge.networks.actionformer.presets import PRESETS
from stale_edge.networks.actionformer.spec import ACTIONFORMER_SPEC
from stale_edge.networks.registry import NETWORKS
from stale_edge.networks.stale.config import ModelConfig
from stale_edge.networks.stale.model import STALE
from stale_edge.simulation import SimulatedWorld, WorldConfig
from stale_edge.simulation.folder import write_world
from stale_edge.study.context import IN_PROGRESS, RunContext
from stale_edge.study.design import COLUMNS, StudyName
from stale_edge.study.experiments import (
    ablation,
    closed_set,
    data_fractions,
    data_source,
    robustness,
    training_cost,
)
from stale_edge.study.experiments.ablation import AblationStudy
from stale_edge.study.experiments.data_fractions import DataFractionStudy
from stale_edge.study.experiments.data_source import learning_study, study_seeds
from stale_edge.study.experiments.evaluation_sets import EvaluationSet
from stale_edge.study.experiments.folder_data import FolderData
from stale_edge.study.experiments.localization import WORLDS, LocalizationStudy
from stale_edge.study.experiments.open_set import open_set_study
from stale_edge.study.experiments.robustness import RobustnessStudy
from stale_edge.study.experiments.simulated_data import SimulatedData
from stale_edge.study.experiments.training_cost import TrainingCostStudy
from stale_edge.study.experiments.training_runs import (
    METHODS,
    SNIPPETS,
    STALE_ALL_DESIGNS,
    Method,
    StudyScale,
    choose_methods,
    first_network,
)
from stale_edge.study.experiments.video_pool import CLOSED, OPEN_50, OPEN_75
from stale_edge.study.runner import run_study
from stale_edge.study.store import Store
from stale_edge.training.launch import accelerator
from stale_edge_runtime.contract import ACTIONFORMER
from stale_edge_runtime.errors import BadDataError, InputMissingError, UsageError
from stale_edge_runtime.resampling import resize
from tests.stale_edge.actionformer_examples import TINY as TINY_ACTIONFORMER

WORLD = WorldConfig(classes=8, seen_classes=6, feature_dim=32, semantic_dim=16)
FINITE = StudyScale(videos=20, epochs=1, seen=8, unseen=8, batch_size=8, is_trial=True)
TINY = StudyScale(videos=6, epochs=1, selection=2, seen=6, unseen=4, batch_size=3, is_trial=True, fitted=12)
ONLY_STALE = {"stale": METHODS["stale"]}
ACCURACY = ("map_50", "map_75", "map_95", "average_map")


@pytest.fixture(autouse=True)
def small_actionformer(monkeypatch):
    """Keep ActionFormer's training, and make its network small."""
    published = PRESETS["activitynet-clip"]
    small = replace(published, config=replace(TINY_ACTIONFORMER, classes=1))
    monkeypatch.setitem(NETWORKS, ACTIONFORMER, replace(ACTIONFORMER_SPEC, presets={"activitynet-clip": small}))
    monkeypatch.setattr("stale_edge.networks.actionformer.spec.PRESETS", {"activitynet-clip": small})


def values(measurements):
    """Numbers by factors and metric, but for those of the clock."""
    return {
        (tuple(sorted(found.factors.items())), found.metric, found.repeat): found.value
        for found in measurements
        if found.metric not in {"seconds", "peak_rss_mb"}
    }


def check_columns(study, measurements):
    columns = COLUMNS[study.name]
    for found in measurements:
        assert set(found.factors) == set(columns.factors)
        assert found.metric in columns.metrics
        assert np.isfinite(found.value)
        if found.metric in ACCURACY:
            assert 0 <= found.value <= 1


def measure(study, wanted):
    return [found for cell in study.cells() if wanted in cell.key for found in study.measure(cell, lambda _: None)]


class TestAblation:
    def study(self, seeds=(0,)):
        return AblationStudy(SimulatedData(WORLD), TINY, seeds, methods=ONLY_STALE)

    def test_has_every_method_the_cheap_ones_first(self):
        study = AblationStudy(SimulatedData(WORLD), TINY, (5, 7))
        references = ["nearest-text", "whole-video", "ceiling"]
        references += [f"{name}-decoded-as-boundary-map" for name in references]
        untrained = [f"{name}-seed{seed}" for name in ("untrained", "untrained-all-ours") for seed in (5, 7)]
        designs = [f"{name}-seed{seed}" for name in ("published", "all-ours") for seed in (5, 7)]
        singles = ["centring-seed5", "signed-similarity-seed5", "no-gate-seed5"]
        others = [f"{name}-seed{seed}" for name in ("boundary-map", "actionformer") for seed in (5, 7)]
        assert [cell.key for cell in study.cells()] == references + untrained + designs + singles + others

    def test_is_measured_cell_by_cell_and_goes_on(self, tmp_path, monkeypatch):
        monkeypatch.setattr(ablation, "SINGLE", {})
        run = run_study(self.study(), tmp_path)
        assert run.complete
        check_columns(self.study(), run.measurements)
        found = values(run.measurements)
        rows = {factors for factors, _, _ in found}
        methods = {*ablation.UNTRAINED, *ablation.POINTS, *ablation.REPEATED}
        methods |= {f"{method}, whole video" for method in ablation.REPEATED}
        assert rows == {(("method", method), ("subset", subset)) for method in methods for subset in ("seen", "unseen")}
        for row in rows:
            trained = dict(row)["method"] in ablation.REPEATED
            assert {metric for factors, metric, _ in found if factors == row} == {*ACCURACY, *["steps"] * trained}
        assert {value for (_, metric, _), value in found.items() if metric == "steps"} == {2.0}
        for subset in ("seen", "unseen"):
            assert found[(("method", "ceiling"), ("subset", subset)), "average_map", 0] > 0.75
        monkeypatch.setattr(AblationStudy, "measure", lambda *_: pytest.fail("measured again"))
        assert run_study(self.study(), tmp_path).measurements == run.measurements

    def test_gives_the_same_again(self):
        assert values(measure(self.study(), "all-ours")) == values(measure(self.study(), "all-ours"))
        first, second = (values(measure(self.study((seed,)), "untrained-seed")) for seed in (0, 1))
        assert set(first.values()) != set(second.values())

    def test_training_changes_what_is_found(self):
        study = self.study()
        untrained, trained = (values(measure(study, f"{key}-seed")) for key in ("untrained", "published"))
        assert set(untrained.values()) != {v for (_, metric, _), v in trained.items() if metric != "steps"}

    def test_its_options_say_what_decides_the_result(self, tmp_path):
        run_study(StudyOfNothing(self.study()), tmp_path)
        changed = AblationStudy(SimulatedData(WORLD), replace(TINY, learning_rate=1e-4), (0,), methods=ONLY_STALE)
        moved = AblationStudy(SimulatedData(replace(WORLD, seed=1)), TINY, (0,), methods=ONLY_STALE)
        with_all = AblationStudy(SimulatedData(WORLD), TINY, (0,))
        for other in (self.study((1,)), changed, moved, with_all):
            with pytest.raises(UsageError, match="other options"):
                run_study(StudyOfNothing(other), tmp_path)
        assert Store(tmp_path).folder.joinpath("measurements.csv").exists()


class TestOpenSet:
    def study(self, seeds=(0,), world=WORLD):
        return open_set_study(SimulatedData(world), FINITE, seeds, methods=ONLY_STALE)

    def test_has_a_training_for_each_split_fraction_and_seed(self):
        cells = self.study((0, 3)).cells()
        trained = [cell for cell in cells if cell.factors["method"] == "stale"]
        wanted = set(itertools.product(("75/25", "50/50"), (1.0, 0.5), (0, 3)))
        assert {(cell.factors["split"], cell.factors["fraction"], cell.repeat) for cell in trained} == wanted
        assert len(trained) == len(wanted)
        assert len({cell.key for cell in cells}) == len(cells)
        first = [f"{name}-{split}" for split in ("75-25", "50-50") for name in ("nearest-text", "ceiling", "untrained")]
        keys = list(dict.fromkeys(cell.key.removesuffix("-seed0").removesuffix("-seed3") for cell in cells))
        assert keys[:7] == [*first, "stale-75-25-p100"]

    def test_is_measured_with_and_without_enhancement(self, tmp_path):
        study = self.study()
        run = run_study(study, tmp_path)
        assert run.complete
        check_columns(study, run.measurements)
        assert run.options["enhancement"] == {"source": "simulated", "top1_accuracy": 0.88}
        found = {}
        for one in run.measurements:
            row = tuple(one.factors[name] for name in ("method", "split", "fraction"))
            found.setdefault((row, one.metric), {})[one.factors["enhancement"]] = one.value
        assert all(set(by) == {"with", "without"} for by in found.values())
        assert any(by["with"] != by["without"] for (_, metric), by in found.items() if metric == "average_map")
        for (row, metric), by in found.items():
            if metric == "seconds":  # one training, judged twice
                assert row[0] == "stale"
                assert by["with"] == by["without"] > 0
        assert {row[0] for row, _ in found} == {"nearest text", "ceiling", "untrained", "stale", "stale, whole video"}
        assert set(run.options["reference_points"]) == {row[0] for row, _ in found} - {"stale"}

    def test_gives_the_same_again(self):
        key = "stale-50-50-p50"
        assert values(measure(self.study(), key)) == values(measure(self.study(), key))

    @pytest.mark.parametrize("split", [OPEN_75, OPEN_50])
    def test_unseen_classes_are_judged_and_never_taught(self, split):
        pool = SimulatedData(WORLD).finite(split, FINITE)
        assert len(pool.source.classes) == split.seen_share * WORLD.classes
        assert not set(pool.source.classes) & set(pool.evaluation_set.classes)
        assert {*pool.source.classes, *pool.evaluation_set.classes} == set(WORLD.class_names)
        judged = {instance.label for video in pool.evaluation_set.videos for instance in video.instances}
        assert judged <= set(pool.evaluation_set.classes)
        for seed in range(3):
            material = pool.material(0.5, seed)
            for source in (material.source, material.held_out):
                labels = {i.label for index in range(len(source)) for i in source.video(index, 0).instances}
                assert labels <= set(pool.source.classes)
            assert len(material.text) == len(material.source.classes)

    def test_the_published_weights_of_the_loss_are_those_of_the_split(self, monkeypatch):
        seen = []
        monkeypatch.setattr(data_fractions, "teach", lambda *_, loss_weights, **__: seen.append(loss_weights) or stop())
        for cell in self.study().cells():
            if cell.factors["method"] == "stale":
                with pytest.raises(StopIteration):
                    self.study().measure(cell, lambda _: None)
        assert seen == ["75/25", "50/50"] * 2


class TestClosedSet:
    def test_is_measured_for_every_fraction(self, tmp_path):
        plan = replace(closed_set.PLAN, fractions=(0.5,))
        study = DataFractionStudy(plan, SimulatedData(WORLD), FINITE, (2,))
        run = run_study(study, tmp_path)
        check_columns(study, run.measurements)
        for method in ("stale", "actionformer", "boundary-map"):
            taught = {one.factors["fraction"] for one in run.measurements if one.factors["method"] == method}
            assert taught == {0.5}
        assert {one.repeat for one in run.measurements if one.factors["method"] == "stale"} == {2}

    def test_has_the_fractions_and_repeats_of_the_thesis(self):
        study = learning_study(StudyName.CLOSED_SET, quick=False, repeats=None, seeds=None, data=None)
        for method in ("actionformer", "boundary-map"):
            assert sum(cell.factors["method"] == method for cell in study.cells()) == 30
        cells = [cell for cell in study.cells() if cell.factors["method"] == "stale"]
        assert len(cells) == 30
        assert {cell.factors["fraction"] for cell in cells} == {0.1, 0.2, 0.4, 0.6, 0.8, 1.0}
        assert cells[0].key == "stale-p100-seed0"

    @pytest.mark.parametrize("fraction", [0.01, 0.5, 0.8, 1.0])
    def test_a_fraction_keeps_every_class_and_the_same_held_out_videos(self, fraction):
        pool = SimulatedData(WORLD).finite(CLOSED, replace(FINITE, videos=40))
        assert set(pool.source.classes) == set(WORLD.class_names) == set(pool.evaluation_set.classes)
        material, whole = pool.material(fraction, 7), pool.material(1.0, 7)
        labels = {i.label for index in range(len(material.source)) for i in material.source.video(index, 0).instances}
        assert labels == set(WORLD.class_names)
        assert len(whole.source) + len(whole.held_out) == 40
        assert len(material.source) == max(round(fraction * len(whole.source)), len(labels))
        held_out, taught = (
            {part.video(index, 0).id for index in range(len(part))} for part in (material.held_out, material.source)
        )
        assert held_out == {whole.held_out.video(index, 0).id for index in range(len(whole.held_out))}
        assert not held_out & taught


class TestRobustness:
    def test_judges_every_network_in_every_world(self, tmp_path, monkeypatch):
        monkeypatch.setattr(robustness, "WORLDS", dict(list(robustness.WORLDS.items())[::9]))
        scale = replace(TINY, batch_size=4)
        study = RobustnessStudy(SimulatedData(WORLD), scale, (3,))
        run = run_study(study, tmp_path)
        assert run.complete
        check_columns(study, run.measurements)
        rows = {(one.factors["world"], one.factors["method"]) for one in run.measurements}
        trained = ["stale", STALE_ALL_DESIGNS, "boundary-map", "actionformer"]
        references = ["nearest text", "ceiling"]
        references += [f"{name}, decoded as boundary-map" for name in references]
        methods = trained + references + [f"{name}, whole video" for name in trained]
        assert rows == set(itertools.product(("default", "THUMOS14's timelines"), methods))
        assert set(run.options["reference_points"]) == set(methods) - set(trained)
        for one in run.measurements:
            if one.metric == "kept":
                assert one.factors["method"].endswith(", whole video")
        ceilings = {
            one.factors["world"]: one.value
            for one in run.measurements
            if one.factors["method"] == "ceiling" and one.metric == "average_map" and one.factors["subset"] == "seen"
        }
        assert len(set(ceilings.values())) == 2  # the worlds are others

    def test_every_world_differs_from_the_default_in_what_it_says(self):
        default = WorldConfig().to_dict()
        for name, changes in robustness.WORLDS.items():
            assert replace(WorldConfig(), **changes).to_dict() == {**default, **changes}
            assert all(default[key] != value for key, value in changes.items()), name
        keys = [cell.key for cell in RobustnessStudy(SimulatedData(WORLD), TINY, (0, 1)).cells()]
        assert len(set(keys)) == len(keys) == len(robustness.WORLDS) * (1 + 4 * 2)

    def test_takes_no_videos_of_a_user(self, tmp_path):
        with pytest.raises(UsageError, match="--data: is no option of the study robustness"):
            learning_study(StudyName.ROBUSTNESS, quick=True, repeats=None, seeds=None, data=tmp_path)


class TestNetworks:
    def test_are_those_that_are_named_in_the_usual_order(self):
        assert list(choose_methods(None)) == ["stale", "boundary-map", "actionformer"]
        assert list(choose_methods(["actionformer", "stale"])) == ["stale", "actionformer"]

    @pytest.mark.parametrize("names", [["stale", "x3d"], []])
    def test_that_are_not_there_are_refused(self, names):
        with pytest.raises(UsageError, match=r"--networks: .*give some of stale, boundary-map, actionformer"):
            choose_methods(names)

    def test_without_stale_its_reference_points_are_those_of_the_others(self):
        study = AblationStudy(SimulatedData(WORLD), TINY, (0,), methods=choose_methods(["boundary-map"]))
        assert [cell.key for cell in study.cells()] == ["nearest-text", "whole-video", "ceiling", "boundary-map-seed0"]

    def test_localisation_is_about_one_network(self):
        words = {"quick": True, "repeats": None, "seeds": None, "data": None}
        with pytest.raises(UsageError, match="--networks: is no option of the study localization"):
            learning_study(StudyName.LOCALIZATION, **words, networks=["stale"])

    def test_have_the_epochs_of_the_study_where_it_shortens_them(self):
        scale = replace(TINY, is_trial=False, network_epochs={ACTIONFORMER: 2})
        assert scale.settings(0, method=METHODS[ACTIONFORMER]).epochs == 2
        assert scale.settings(0, method=METHODS["boundary-map"]).epochs == 10


class TestLocalization:
    SCALE = replace(TINY, batch_size=4, is_trial=True, fitted=12)

    def study(self, data=None, seeds=(0,)):
        return LocalizationStudy(data or SimulatedData(WORLD), self.SCALE, seeds)

    def test_judges_every_world_beside_its_reference_points(self, tmp_path):
        study = self.study()
        assert [cell.key for cell in study.cells()] == [
            *(f"references-{name.replace(' ', '-')}" for name in WORLDS),
            *("boundary-map-base-seed0", "boundary-map-no-shared-cue-seed0", "boundary-map-another-seed-seed0"),
        ]
        run = run_study(study, tmp_path)
        assert run.complete
        check_columns(study, run.measurements)
        rows = {(one.factors["world"], one.factors["method"], one.factors["subset"]) for one in run.measurements}
        methods = {"nearest text", "nearest text, map's decoding", "ceiling of the decoding"}
        methods |= {"boundary map", "whole video, same labels", "true class", "wrong vocabulary"}
        assert rows == set(itertools.product(WORLDS, methods, ("seen", "unseen")))
        found = {
            (one.factors["world"], one.factors["method"], one.factors["subset"]): one.value
            for one in run.measurements
            if one.metric == "average_map"
        }
        for subset in ("seen", "unseen"):
            assert found["base", "ceiling of the decoding", subset] > 0.85
            assert found["base", "wrong vocabulary", subset] != found["base", "boundary map", subset]
            assert found["base", "true class", subset] >= found["base", "boundary map", subset]
        kept = [one for one in run.measurements if one.metric == "kept"]
        for one in kept:
            world, method, subset = (one.factors[name] for name in ("world", "method", "subset"))
            expected = found[world, method, subset] / found[world, "boundary map", subset]
            assert one.value == pytest.approx(expected)
        monkeypatched = LocalizationStudy.measure
        try:
            LocalizationStudy.measure = lambda *_: pytest.fail("measured again")
            assert run_study(self.study(), tmp_path).measurements == run.measurements
        finally:
            LocalizationStudy.measure = monkeypatched

    def test_a_folder_has_one_world(self, tmp_path):
        write_world(tmp_path, SimulatedWorld(WORLD), videos=40, validation=16)
        study = self.study(FolderData(tmp_path))
        assert [cell.key for cell in study.cells()] == ["references-base", "boundary-map-base-seed0"]
        found = measure(study, "boundary-map")
        assert {one.factors["subset"] for one in found} == {"seen", "unseen"}


def test_videos_too_few_to_hold_some_out_are_refused():
    pool = SimulatedData(WORLD).finite(CLOSED, replace(FINITE, videos=8))
    with pytest.raises(BadDataError, match="are 8 of 8 classes, too few to hold some out"):
        pool.material(1.0, 0)


def test_the_simulated_classifier_is_as_right_as_it_says():
    pool = SimulatedData(WORLD).finite(OPEN_50, replace(FINITE, unseen=100))
    truth = {video.id: {instance.label for instance in video.instances} for video in pool.evaluation_set.videos}
    assert pool.external.accuracy(truth) == 0.88
    again = SimulatedData(WORLD).finite(OPEN_50, replace(FINITE, unseen=100))
    assert pool.external == again.external


def test_training_cost_counts_what_is_trained(tmp_path):
    study = TrainingCostStudy(SimulatedData(WORLD), FINITE, (0,))
    run = run_study(study, tmp_path)
    check_columns(study, run.measurements)
    found = {(one.factors["method"], one.metric): one.value for one in run.measurements}
    for method in ("stale", STALE_ALL_DESIGNS):
        assert found[method, "steps"] == 3
        assert found[method, "seconds"] > 0
        assert found[method, "peak_rss_mb"] > 50
        network = STALE(ModelConfig(feature_dim=WORLD.feature_dim, text=None))
        assert found[method, "parameters"] == sum(parameter.numel() for parameter in network.parameters())
        assert 0 < found[method, "trained_parameters"] <= found[method, "parameters"]
    assert found["actionformer", "trained_parameters"] == found["actionformer", "parameters"] > 0
    assert found["actionformer", "steps"] == 2  # the last batch, which is not full, is left out
    assert found["boundary-map", "steps"] == 3
    assert {method for method, _ in found if method.endswith("whole video")} == {
        f"{method}, whole video" for method in ("stale", STALE_ALL_DESIGNS, "actionformer", "boundary-map")
    }


def test_memory_that_is_not_of_the_training_is_left_out_with_a_note(tmp_path, monkeypatch):
    monkeypatch.setattr(training_cost, "reset_peak", lambda: False)
    run = run_study(TrainingCostStudy(SimulatedData(WORLD), FINITE, (0,), methods=ONLY_STALE), tmp_path)
    assert {one.metric for one in run.measurements} == set(COLUMNS[StudyName.TRAINING].metrics) - {"peak_rss_mb"}
    assert run.notes[0] == "no memory: this system cannot tell the peak of one training from those before it"
    assert "seems to mix two networks" in run.notes[1]


class TestRunContext:
    def test_a_training_writes_into_the_study_s_folder_and_leaves_nothing(self, tmp_path):
        place = RunContext(tmp_path)
        (tmp_path / IN_PROGRESS).mkdir()
        (tmp_path / IN_PROGRESS / "of a killed one").write_text("")
        there = []

        def look(_line):
            there.append({path.name for path in (tmp_path / IN_PROGRESS).iterdir()})

        study = AblationStudy(SimulatedData(WORLD), TINY, (0,), context=place)
        study.measure(next(cell for cell in study.cells() if cell.key == "published-seed0"), look)
        assert there
        assert "best.safetensors" in there[0]
        assert "of a killed one" not in there[0]
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", [StudyName.ABLATION, StudyName.OPEN_SET, StudyName.TRAINING])
    def test_long_work_is_done_where_ctrl_c_is_obeyed(self, tmp_path, monkeypatch, name):
        depth, entered = [0], []

        @contextlib.contextmanager
        def computing():
            depth[0] += 1
            entered.append(depth[0])
            yield
            depth[0] -= 1

        for kind, method in (
            (EvaluationSet, "detect"),
            (EvaluationSet, "accuracy"),
            (SimulatedData, "finite"),
            (SimulatedData, "endless"),
        ):
            real = getattr(kind, method)

            def guarded(*words, real=real, method=method, **named):
                assert depth == [1], method
                return real(*words, **named)

            monkeypatch.setattr(kind, method, guarded)
        monkeypatch.setattr(data_source, "QUICK_WORLD", WORLD)
        options = {"quick": True, "repeats": None, "seeds": None, "data": None}
        study = learning_study(name, **options, context=RunContext(tmp_path, computing))
        study._scale = TINY if name is StudyName.ABLATION else FINITE
        keys = {
            StudyName.ABLATION: "published",
            StudyName.OPEN_SET: "stale-75-25-p50",
            StudyName.TRAINING: "all-designs",
        }
        assert measure(study, keys[name])
        assert depth == [0]
        assert set(entered) == {1}
        assert len(entered) > 6  # the steps of the training too


class TestCommand:
    @pytest.fixture(autouse=True)
    def tiny(self, monkeypatch):
        monkeypatch.setattr(data_source, "QUICK_WORLD", WORLD)
        monkeypatch.setattr(ablation, "QUICK", TINY)
        monkeypatch.setattr(ablation, "SINGLE", {})
        monkeypatch.setattr(training_cost, "QUICK", FINITE)
        monkeypatch.setattr(extras, "has_report", lambda: False)

    def test_repeats_and_json(self, command, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        words = ("--quick", "--repeats", 2, "--networks", "actionformer, stale", "--json")
        code, out, err = command("study", "training", *words)
        assert code == 0, err
        printed = json.loads(out)
        assert (printed["study"], printed["cells"], printed["finished"]) == ("training", 6, 6)
        assert (printed["options"]["seeds"], printed["options"]["quick"]) == ([0, 1], True)
        assert printed["machine"]["providers"] == [accelerator()]
        trained = ["stale", "stale, all designs", "actionformer"]
        rows = [row["method"] for row in printed["summary"]]
        assert [row for row in rows if not row.endswith(", whole video")] == trained
        assert printed["summary"][0]["steps"] == {"median": 3, "min": 3, "max": 3, "n": 2}
        folder = tmp_path / "runs" / "study" / "training-quick"
        assert {path.name for path in (folder / "cells").iterdir()} == {
            f"{method}-seed{seed}.json" for method in ("stale", "stale-all-designs", "actionformer") for seed in (0, 1)
        }
        assert not (folder / IN_PROGRESS).exists()
        assert "6/6 actionformer-seed1" in err

    def test_seeds_and_a_table(self, command, tmp_path):
        note = tmp_path / "ablation.md"
        words = ("--quick", "--seeds", "7,3", "--networks", "stale", "-o", tmp_path / "run", "--markdown", note)
        code, out, err = command("study", "ablation", *words)
        assert code == 0, err
        assert f"wrote {note}" in err
        assert note.read_text().startswith("**Methods and reference points, simulated world**")
        assert "ablation, simulated world: median" in out
        assert "average_map [%]" in out
        assert "untrained, all ours" in out
        options = json.loads((tmp_path / "run" / "study.json").read_text())["options"]
        assert options["seeds"] == [7, 3]
        assert options["videos"] == {"taught": TINY.videos, "judged": [TINY.seen, TINY.unseen]}
        assert (tmp_path / "run" / "cells" / "all-ours-seed3.json").exists()

    def test_data(self, command, folder, tmp_path):
        words = ("study", "ablation", "--quick", "--data", folder, "-o", tmp_path / "run", "--max-minutes", 0)
        code, _, err = command(*words)
        assert code == 0, err
        assert "0 of 12 cells are measured" in err
        options = json.loads((tmp_path / "run" / "study.json").read_text())["options"]
        assert "feature_names_and_sizes_sha256" in options["data"]
        assert str(TINY.videos) in json.dumps(options["videos"])
        code, _, err = command(*words[:3], "--data", tmp_path / "nowhere", *words[5:])
        assert (code, err.count("\n")) == (66, 1)
        assert "annotations.json: does not exist" in err

    def test_repeats_that_are_not_the_seeds_are_refused_by_name(self, command, tmp_path):
        code, _, err = command("study", "ablation", "--repeats", 3, "--seeds", "1,2", "-o", tmp_path / "run")
        assert code == 2
        assert "--repeats: asks for 3, and --seeds names 2; give one of the two" in err
        assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A simulated world on disk."""
    folder = tmp_path_factory.mktemp("data") / "world"
    write_world(folder, SimulatedWorld(WORLD), videos=40, validation=24)
    return folder


class TestFolder:
    @pytest.fixture
    def copy(self, folder, tmp_path):
        return Path(shutil.copytree(folder, tmp_path / "copy"))

    def test_gives_what_a_simulated_folder_holds(self, folder):
        data, world = FolderData(folder), SimulatedWorld(WORLD)
        assert data.splits((OPEN_75, OPEN_50)) == (OPEN_75,)  # 6 of its 8 classes are seen
        pool = data.finite(OPEN_75, FINITE)
        assert pool.source.classes == tuple(world.classes[index] for index in world.seen)
        assert pool.evaluation_set.classes == tuple(world.classes[index] for index in world.unseen)
        assert len(pool.source) == 40
        assert {i.label for video in pool.evaluation_set.videos for i in video.instances} <= set(
            pool.evaluation_set.classes
        )
        assert np.array_equal(pool.text, world.text_embeddings[list(world.seen)])
        assert np.array_equal(pool.evaluation_set.text, world.text_embeddings[list(world.unseen)])
        first = pool.source.video(0, 0)
        drawn = next(video for video in world.training(40) if video.id == first.id)
        assert first.instances == drawn.instances
        assert np.allclose(first.features, resize(drawn.features, SNIPPETS), atol=0.01)  # stored as float16
        closed = data.finite(CLOSED, FINITE)
        assert closed.evaluation_set.classes == closed.source.classes == pool.source.classes

    def test_a_trial_takes_no_more_than_its_scale_says(self, folder):
        pool = FolderData(folder, limited=True).finite(OPEN_75, replace(FINITE, videos=12, unseen=3))
        assert len(pool.source) == len(pool.labelled) == 12
        assert 0 < len(pool.evaluation_set.videos) <= 3
        assert [pool.source.video(index, 0).id for index in range(12)] == [video.id for video in pool.labelled]

    def test_has_lists_of_its_own_for_a_split(self, copy):
        for split in ("75-25", "50-50"):
            (copy / "splits" / split).mkdir()
        names = WORLD.class_names
        for split, seen in (("75-25", 6), ("50-50", 4)):
            (copy / "splits" / split / "seen.list").write_text("\n".join(names[:seen]))
            (copy / "splits" / split / "unseen.list").write_text("\n".join(names[seen:]))
        data = FolderData(copy)
        assert data.splits((OPEN_75, OPEN_50)) == (OPEN_75, OPEN_50)
        pool = data.finite(OPEN_50, FINITE)
        assert (pool.source.classes, pool.evaluation_set.classes) == (names[:4], names[4:])
        for video in pool.labelled:
            assert {instance.label for instance in video.instances} <= set(names[:4])

    def test_its_classifier_is_the_file_that_it_has(self, copy):
        assert FolderData(copy).enhancement["source"] == "simulated"
        first, second = FolderData(copy).finite(OPEN_75, FINITE).evaluation_set.videos[:2]
        verdicts = {
            f"v_{first.id}": {"class": first.instances[0].label, "score": 0.5},
            second.id: {"class": "Nothing known", "score": 0.5},
        }
        (copy / "external.json").write_text(json.dumps(verdicts))
        data = FolderData(copy)
        assert data.enhancement["source"] == "external.json"
        assert data.enhancement["top1_accuracy"] == 0.5
        assert data.finite(OPEN_75, FINITE).external.best(first.id) == (first.instances[0].label, 0.5)
        (copy / "external.json").write_text('{"v_a": {"class": "Archery", "score": 0.5}}')
        with pytest.raises(BadDataError, match=r"external.json: knows none of the 24 videos"):
            FolderData(copy).enhancement  # noqa: B018

    def test_is_studied_from_end_to_end(self, folder, tmp_path):
        ablated = AblationStudy(FolderData(folder), TINY, (0,), methods=ONLY_STALE)
        measured = measure(ablated, "nearest-text") + measure(ablated, "all-ours-seed")
        check_columns(ablated, measured)
        assert {one.factors["subset"] for one in measured} == {"seen", "unseen"}
        opened = open_set_study(FolderData(folder, limited=True), FINITE, (0,), methods=ONLY_STALE)
        run = run_study(opened, tmp_path)
        assert run.complete
        check_columns(opened, run.measurements)
        assert {one.factors["split"] for one in run.measurements} == {"75/25"}
        assert str(folder) not in (tmp_path / "study.json").read_text()

    def test_numbers_of_videos_are_the_folder_s(self, folder):
        for kind, scale in ((AblationStudy, TINY), (TrainingCostStudy, FINITE), (open_set_study, FINITE)):
            assert kind(FolderData(folder), scale, (0,)).options["videos"] == "all"
            assert "selection" not in kind(FolderData(folder), scale, (0,)).options
            limited = kind(FolderData(folder, limited=True), scale, (0,)).options["videos"]
            assert limited["taught, at most or enough for every class"] == scale.videos

    @pytest.mark.parametrize("name", ["features/v_lost.npy", "splits/lost.list"])
    def test_a_link_to_nothing_is_named(self, copy, name):
        (copy / name).symlink_to(copy / "nothing")
        with pytest.raises(InputMissingError, match=f"{name}: no such file"):
            FolderData(copy).description  # noqa: B018

    @pytest.mark.parametrize("call", ["exists", "is_file", "iterdir", "rglob"])
    def test_what_the_system_refuses_is_named(self, copy, monkeypatch, call):
        def refuse(path, *_, **__):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        monkeypatch.setattr(Path, call, refuse)
        with pytest.raises(InputMissingError, match=r"copy/.*: cannot be read \(Permission denied\)"):
            FolderData(copy).description  # noqa: B018

    def test_its_options_change_with_its_files(self, copy):
        before = FolderData(copy).description
        assert FolderData(copy).description == before
        (copy / "splits" / "unseen.list").write_text(WORLD.class_names[0])
        assert FolderData(copy).description != before

    @pytest.mark.parametrize("name", ["annotations.json", "features", "text_embeddings.npy", "classes.txt"])
    def test_what_is_missing_is_named(self, copy, name):
        (copy / name).rename(copy / "elsewhere")
        with pytest.raises(InputMissingError, match=f"{name}: does not exist; .*simulate"):
            learning_study(StudyName.OPEN_SET, quick=True, repeats=None, seeds=None, data=copy)

    def test_lists_that_cannot_be_are_refused(self, copy):
        unseen = copy / "splits" / "unseen.list"
        seen = (copy / "splits" / "seen.list").read_text().splitlines()
        unseen.write_text(seen[0])
        with pytest.raises(BadDataError, match=r"unseen.list: shares .* with seen.list"):
            learning_study(StudyName.OPEN_SET, quick=True, repeats=None, seeds=None, data=copy)
        unseen.unlink()
        with pytest.raises(InputMissingError, match=r"unseen.list"):
            learning_study(StudyName.OPEN_SET, quick=True, repeats=None, seeds=None, data=copy)
        (copy / "splits" / "seen.list").unlink()
        with pytest.raises(InputMissingError, match=r"splits: has no lists of the classes of 75/25; write .*75-25"):
            learning_study(StudyName.OPEN_SET, quick=True, repeats=None, seeds=None, data=copy)
        study = learning_study(StudyName.ABLATION, quick=True, repeats=None, seeds=None, data=copy)
        with pytest.raises(InputMissingError, match="has no lists"):
            study.measure(study.cells()[0], lambda _: None)

    def test_needs_a_subset_to_judge_by(self, copy):
        path = copy / "annotations.json"
        path.write_text(path.read_text().replace('"validation"', '"training"'))
        with pytest.raises(BadDataError, match="has no subset beside 'training' to judge by"):
            FolderData(copy).finite(OPEN_75, FINITE)


def stop():
    raise StopIteration


class StudyOfNothing:
    """A study's name and options without its cells."""

    def __init__(self, study):
        self.name, self.options = study.name, study.options

    def cells(self):
        return []


def test_first_weights_are_those_that_train_gives():
    from stale_edge.training.inputs import TrainingInputs, make_training_run
    from stale_edge.training.settings import TrainingSettings

    nothing = dict.fromkeys(("annotations", "features", "split", "subset", "snippet_s", "text_embeddings", "classes"))
    nothing |= dict.fromkeys(("text_tower", "initial"))
    names = ablation.EVERY_OPTION
    options = TrainingInputs(**nothing, simulated=Path("default"), fraction=1.0, held_out=0.1, videos=3, ours=names)
    taught = make_training_run(options, TrainingSettings(seed=4), train_text=None)
    material = SimulatedData().endless(StudyScale(videos=3, epochs=1, selection=1, seen=1, unseen=1))
    state = first_network(material, Method(ablation.EVERY_OPTION), 4).state_dict()
    assert state.keys() == taught.network.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in taught.network.state_dict().items())
    assert torch.equal(taught.text, torch.from_numpy(material.text))
    assert material.source.classes == tuple(SimulatedWorld().classes[index] for index in SimulatedWorld().seen)


class TestSeeds:
    def test_are_one_for_each_repeat(self):
        assert study_seeds(3, None, None) == (0, 1, 2)
        assert study_seeds(3, 2, None) == (0, 1)
        assert study_seeds(3, None, (9, 4)) == (9, 4)

    @pytest.mark.parametrize(
        ("repeats", "seeds"), [(0, None), (None, ()), (2, (1,)), (None, (1, 1)), (None, (-1,)), (None, (1 << 32,))]
    )
    def test_that_cannot_be_are_refused(self, repeats, seeds):
        with pytest.raises(UsageError):
            study_seeds(3, repeats, seeds)


def test_other_studies_are_none_of_learning():
    with pytest.raises(UsageError, match="inference"):
        learning_study(StudyName.INFERENCE, quick=True, repeats=None, seeds=None, data=None)
