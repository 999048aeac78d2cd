"""Localisation study: the boundary map in several worlds, beside what tells localising from labelling.

Taught with endless simulated videos of the seen classes; judged by videos of seen and of unseen classes that no
training draws. Each trained network is judged in its world, and that of the base world in harder ones too. Beside every
judgement stand, by the same decoding and evaluation: the whole video with the same labels, the same segments with the
true class, and the same network with every class name given to another class. On one core, a training takes five to
six minutes of the processor, and a judgement one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stale_edge.study.design import Cell, Measurement, StudyName
from stale_edge.study.experiments.ablation import EndlessData
from stale_edge.study.experiments.simulated_data import SimulatedData
from stale_edge.study.experiments.trained_study import TrainedStudy, world_measurements
from stale_edge.study.experiments.training_runs import (
    MAP_METHOD,
    Material,
    StudyScale,
    predictor_of,
    reference_point,
    teach,
)
from stale_edge_runtime.heads.boundary_map import BOUNDARY_MAP
from stale_edge_runtime.metrics.baselines import TRUE_CLASS, WHOLE_VIDEO, true_classes, whole_videos

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stale_edge.study.experiments.evaluation_sets import EvaluationSet, Found

FULL: Final = StudyScale(videos=2048, epochs=10, selection=150, seen=900, unseen=300, batch_size=16, is_trial=True)
QUICK: Final = StudyScale(videos=16, epochs=2, selection=30, seen=60, unseen=20, batch_size=8, is_trial=True, fitted=64)
REPEATS: Final = 3

NEAREST_TEXT: Final = "nearest text"
NEAREST_TEXT_OF_MAP: Final = "nearest text, map's decoding"
CEILING: Final = "ceiling of the decoding"
TRAINED: Final = "boundary map"
WRONG_VOCABULARY: Final = "wrong vocabulary"
KEPT: Final = "kept"
"""Metric: average mAP as a share of that of the network that a row is made from."""
DERIVED: Final = (TRUE_CLASS, WRONG_VOCABULARY)
"""Rows that are made from a trained network, beside that of the whole video."""
BASE: Final = "base"
REFERENCES: Final = "references"


@dataclass(frozen=True)
class StudyWorld:
    """A world to judge in."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that differ from those of the base world."""
    trained_in: str = ""
    """World of the network that is judged; itself where empty."""


WORLDS: Final[Mapping[str, StudyWorld]] = {
    BASE: StudyWorld(),
    "no shared cue": StudyWorld({"actionness_norm": 0.0}),
    "strong context": StudyWorld({"context_mean": 0.85}, BASE),
    "jittered boundaries": StudyWorld({"boundary_jitter": 0.05}, BASE),
    "another seed": StudyWorld({"seed": 1}),
}
"""Worlds of the study. In one, nothing but its class tells an action from what surrounds it; in one, the class shows
nearly as much around the action as in it; in one, annotators miss boundaries by 5 % of the length; in one, classes,
texts and videos are others."""


class LocalizationStudy(TrainedStudy[EndlessData]):
    """The study; see the module."""

    name: Final = StudyName.LOCALIZATION
    _kept: tuple[str, Material] | None = None

    @property
    def options(self) -> Mapping[str, object]:
        """All that decides what is measured."""
        videos = {"taught": self._scale.videos, "judged": [self._scale.seen, self._scale.unseen]}
        return {
            **self._described({"videos": videos, "selection": self._scale.selection}),
            "worlds": {name: dict(world.changes) for name, world in self._worlds.items()},
            "reference_points": [NEAREST_TEXT, NEAREST_TEXT_OF_MAP, CEILING, WHOLE_VIDEO, *DERIVED],
            "settings": self._scale.settings(0, method=MAP_METHOD).to_dict(),
        }

    @property
    def _worlds(self) -> Mapping[str, StudyWorld]:
        """Worlds to judge in: only the first where videos are not simulated."""
        return WORLDS if isinstance(self._data, SimulatedData) else {BASE: WORLDS[BASE]}

    def cells(self) -> list[Cell]:
        """List reference points first, then trainings seed by seed."""
        return list(self._cells())

    def _cells(self) -> Iterator[Cell]:
        yield from (_cell(REFERENCES, world, None) for world in self._worlds)
        for seed in self._seeds:
            yield from (_cell(TRAINED, name, seed) for name, world in self._worlds.items() if not world.trained_in)

    def measure(self, cell: Cell, note: Callable[[str], None]) -> list[Measurement]:
        """Measure one cell on all subsets, and of a training in all worlds that its network is judged in.

        Args:
            cell: One of `cells`.
            note: Called with a line on what is going on.

        Raises:
            StaleEdgeError: It cannot be measured.
        """
        world = str(cell.factors["world"])
        if cell.factors["method"] == REFERENCES:
            return self._references(world, note)
        material = self._material(world)
        taught = teach(
            material,
            MAP_METHOD,
            self._scale,
            cell.repeat,
            endless=isinstance(self._data, SimulatedData),
            note=lambda line: note(f"{cell.key}: {line}"),
            context=self._context,
        )
        cost = {"seconds": taught.seconds, "steps": float(taught.steps)}
        measured = self._judged(taught.network, world, cell.repeat, cost)
        for name, other in self._worlds.items():
            if other.trained_in == world:
                note(f"{cell.key}: judging in the world {name}")
                measured += self._judged(taught.network, name, cell.repeat, {})
        return measured

    def _references(self, world: str, note: Callable[[str], None]) -> list[Measurement]:
        """Measure what needs no training."""
        material, measured = self._material(world), []
        for subset, judged in material.evaluation_sets.items():
            predictors = {
                NEAREST_TEXT: reference_point("nearest text", judged, material),
                NEAREST_TEXT_OF_MAP: reference_point("nearest text", judged, material, BOUNDARY_MAP),
                CEILING: reference_point("ceiling", judged, material, BOUNDARY_MAP),
            }
            for method, predictor in predictors.items():
                note(f"{world}, {subset} classes: {method}")
                with self._context.computing():
                    accuracy = judged.accuracy(judged.detect(predictor))
                measured += world_measurements(world, method, subset, accuracy, 0)
        return measured

    def _judged(self, network: Any, world: str, repeat: int, cost: Mapping[str, float]) -> list[Measurement]:
        """Judge a trained network and what is made from its detections."""
        measured: list[Measurement] = []
        for subset, judged in self._material(world).evaluation_sets.items():
            with self._context.computing():
                found = self._rows(network, judged)
                accuracies = {method: judged.accuracy(each) for method, each in found.items()}
            whole = accuracies[TRAINED]["average_map"]
            for method, accuracy in accuracies.items():
                more = cost if method == TRAINED else {KEPT: accuracy["average_map"] / whole} if whole else {}
                measured += world_measurements(world, method, subset, {**accuracy, **more}, repeat)
        return measured

    def _rows(self, network: Any, judged: EvaluationSet) -> dict[str, Found]:
        found = judged.detect(predictor_of(network, judged, MAP_METHOD))
        # Every class takes the text of the one before it, so that none keeps its own.
        wrong = replace(judged, text=np.ascontiguousarray(np.roll(judged.text, 1, axis=0)))
        return {
            TRAINED: found,
            WHOLE_VIDEO: whole_videos(judged.truth, found),
            TRUE_CLASS: true_classes(judged.truth, found),
            WRONG_VOCABULARY: judged.detect(predictor_of(network, wrong, MAP_METHOD)),
        }

    def _material(self, world: str) -> Material:
        """Draw the videos of a world; those of one at a time are kept."""
        if self._kept is None or self._kept[0] != world:
            self._kept = None
            data = self._data
            if isinstance(data, SimulatedData):
                changes = dict(self._worlds[world].changes)
                if "seed" in changes:
                    changes["seed"] += data.config.seed
                data = SimulatedData(replace(data.config, **changes))
            with self._context.computing():
                self._kept = (world, data.endless(self._scale))
        return self._kept[1]


def _cell(method: str, world: str, seed: int | None) -> Cell:
    key = f"{method}-{world}".replace(" ", "-")
    factors = {"method": method, "world": world}
    return Cell(key, factors) if seed is None else Cell(f"{key}-seed{seed}", factors, seed)
