"""The studies of learning at a tiny scale: their columns, what they teach, and that they can be run again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stale_edge.simulation import SimulatedWorld, WorldConfig
from stale_edge.study import ablation
from stale_edge.study.ablation import AblationStudy
from stale_edge.study.design import COLUMNS, StudyName
from stale_edge.study.learning import learning_study, study_seeds
from stale_edge.study.runner import run_study
from stale_edge.study.simulated_data import SimulatedData
from stale_edge.study.store import Store
from stale_edge.study.teaching import Scale, first_network
from stale_edge_runtime.errors import UsageError

WORLD = WorldConfig(classes=8, seen_classes=6, feature_dim=32, semantic_dim=16)
TINY = Scale(videos=6, epochs=1, selection=2, seen=6, unseen=4, batch_size=3)
ACCURACY = ("map_50", "map_75", "map_95", "average_map")


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
        return AblationStudy(SimulatedData(WORLD), TINY, seeds)

    def test_has_every_method_the_important_ones_first(self):
        cells = self.study((5, 7)).cells()
        assert [cell.key for cell in cells[:7]] == [
            "untrained-seed5",
            "untrained-all-ours-seed5",
            "nearest-text",
            "whole-video",
            "ceiling",
            "published-seed5",
            "all-ours-seed5",
        ]
        singles = ["centring-seed5", "signed-similarity-seed5", "no-gate-seed5"]
        repeats = ["untrained-seed7", "untrained-all-ours-seed7", "published-seed7", "all-ours-seed7"]
        assert [cell.key for cell in cells[7:]] == singles + repeats

    def test_is_measured_cell_by_cell_and_goes_on(self, tmp_path, monkeypatch):
        monkeypatch.setattr(ablation, "SINGLE", {})
        run = run_study(self.study(), tmp_path)
        assert run.complete
        check_columns(self.study(), run.measurements)
        found = values(run.measurements)
        rows = {factors for factors, _, _ in found}
        methods = {*ablation.UNTRAINED, *ablation.TRAINING_FREE, *ablation.REPEATED}
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
        changed = AblationStudy(SimulatedData(WORLD), replace(TINY, learning_rate=1e-4), (0,))
        for other in (self.study((1,)), changed, AblationStudy(SimulatedData(replace(WORLD, seed=1)), TINY, (0,))):
            with pytest.raises(UsageError, match="other options"):
                run_study(StudyOfNothing(other), tmp_path)
        assert Store(tmp_path).folder.joinpath("measurements.csv").exists()


class StudyOfNothing:
    """A study's name and options without its cells."""

    def __init__(self, study):
        self.name, self.options = study.name, study.options

    def cells(self):
        return []


def test_first_weights_are_those_that_train_gives():
    from pathlib import Path

    from stale_edge.cli.lesson_inputs import LessonOptions, make_lesson
    from stale_edge.training_settings import TrainingSettings

    nothing = dict.fromkeys(("annotations", "features", "split", "subset", "snippet_s", "text_embeddings", "classes"))
    nothing |= dict.fromkeys(("text_tower", "initial"))
    names = ablation.EVERY_OPTION.names
    options = LessonOptions(**nothing, simulated=Path("default"), fraction=1.0, held_out=0.1, videos=3, ours=names)
    taught = make_lesson(options, TrainingSettings(seed=4), train_text=None)
    material = SimulatedData().endless(Scale(videos=3, epochs=1, selection=1, seen=1, unseen=1))
    state = first_network(material, ablation.EVERY_OPTION, 4).state_dict()
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
