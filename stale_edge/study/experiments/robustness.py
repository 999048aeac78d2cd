"""Robustness study: how far conclusions hang on what the simulated world assumes.

Every network is taught and judged in worlds that differ from the default one in a single assumed parameter, or in two,
with endless videos as in the ablation but less of them. Beside each stand its labels alone, each for the whole video,
and in each world what needs no training.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from stale_edge.study.design import Cell, Measurement, StudyName, whole_video_of
from stale_edge.study.experiments.simulated_data import SimulatedData
from stale_edge.study.experiments.trained_study import TrainedStudy, reference_rows, world_measurements
from stale_edge.study.experiments.training_runs import (
    METHODS,
    NETWORK,
    Material,
    Method,
    StudyScale,
    predictor_of,
    reference_point,
    teach,
    with_all_designs,
)
from stale_edge_runtime.contract import ACTIONFORMER
from stale_edge_runtime.heads.boundary_map import BOUNDARY_MAP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

FULL: Final = StudyScale(
    videos=1024,
    epochs=2,
    selection=150,
    seen=450,
    unseen=150,
    network_epochs={BOUNDARY_MAP: 5, ACTIONFORMER: 2},
)
QUICK: Final = StudyScale(videos=16, epochs=1, selection=30, seen=60, unseen=20, batch_size=8, is_trial=True, fitted=64)
REPEATS: Final = 1
POINTS: Final = ("nearest text", "ceiling")
KEPT: Final = "kept"
"""Metric: average mAP as a share of that of the network that a row is made from."""
REFERENCES: Final = "references"

WORLDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "default": {},
    "actionness 0.15": {"actionness_norm": 0.15},
    "actionness 0": {"actionness_norm": 0.0},
    "context 0.85": {"context_mean": 0.85},
    "actionness 0, context 0.85": {"actionness_norm": 0.0, "context_mean": 0.85},
    "distractors 2 a minute": {"distractors_per_minute": 2.0},
    "jittered annotations": {"boundary_jitter": 0.05},
    "shared share 0.3": {"shared_share": 0.3},
    "shared share 0": {"shared_share": 0.0},
    "THUMOS14's timelines": {"layout": "thumos14"},
}
"""Parameters in which each world differs from the default one: what all actions have in common (0.3), how much of its
class a video shows around an action (0.65), other actions a minute (0.5), how exact annotators are (exactly), how much
of a class's look follows from its text by a map that all classes share (0.6), and whose timelines videos have
(ActivityNet's)."""


class RobustnessStudy(TrainedStudy[SimulatedData]):
    """The study; see the module.

    Args:
        words: Data, scale and seeds as `TrainedStudy` takes them.
        methods: Networks that are taught, by name; STALE with all designs is taught beside STALE.
        named: Further arguments of `TrainedStudy`.
    """

    name: Final = StudyName.ROBUSTNESS

    def __init__(self, *words: Any, methods: Mapping[str, Method] = METHODS, **named: Any) -> None:
        super().__init__(*words, **named)
        self._methods = with_all_designs(methods)
        self._references = reference_rows(methods, POINTS)
        self._material = lru_cache(maxsize=1)(self._make_material)

    @property
    def options(self) -> Mapping[str, object]:
        """All that decides what is measured."""
        videos = {"taught": self._scale.videos, "judged": [self._scale.seen, self._scale.unseen]}
        return {
            **self._described({"videos": videos, "selection": self._scale.selection}),
            "worlds": {name: dict(changes) for name, changes in WORLDS.items()},
            "reference_points": [*(row.name for row in self._references), *map(whole_video_of, self._methods)],
            "settings": {
                name: self._scale.settings(0, method=method).to_dict() for name, method in self._methods.items()
            },
        }

    def cells(self) -> list[Cell]:
        """List reference points first, then network by network, of each seed by seed."""
        return list(self._cells())

    def _cells(self) -> Iterator[Cell]:
        yield from (_cell(REFERENCES, world, None) for world in WORLDS)
        for method in self._methods:
            for seed in self._seeds:
                yield from (_cell(method, world, seed) for world in WORLDS)

    def measure(self, cell: Cell, note: Callable[[str], None]) -> list[Measurement]:
        """Measure one cell on all subsets.

        Args:
            cell: One of `cells`.
            note: Called with a line on what is going on.

        Raises:
            StaleEdgeError: It cannot be measured.
        """
        name, world = str(cell.factors["method"]), str(cell.factors["world"])
        if name == REFERENCES:
            return self._without_training(world, note)
        method = self._methods[name]
        material = self._material(world, method.snippets)
        taught = teach(
            material,
            method,
            self._scale,
            cell.repeat,
            endless=True,
            note=lambda line: note(f"{cell.key}: {line}"),
            context=self._context,
        )
        cost, measured = {"seconds": taught.seconds, "steps": float(taught.steps)}, []
        for subset, judged in material.evaluation_sets.items():
            with self._context.computing():
                found = judged.detect(predictor_of(taught.network, judged, method))
                rows = judged.judge(name, found, lacks_classes=method.leaves_classes)
            accuracy, whole = rows[name], rows[whole_video_of(name)]
            if accuracy["average_map"]:
                whole[KEPT] = whole["average_map"] / accuracy["average_map"]
            measured += world_measurements(world, name, subset, {**accuracy, **cost}, cell.repeat)
            measured += world_measurements(world, whole_video_of(name), subset, whole, cell.repeat)
        return measured

    def _without_training(self, world: str, note: Callable[[str], None]) -> list[Measurement]:
        measured = []
        material = self._material(world, METHODS[NETWORK].snippets)
        for subset, judged in material.evaluation_sets.items():
            for row in self._references:
                note(f"{world}, {subset} classes: {row.name}")
                with self._context.computing():
                    found = judged.detect(reference_point(row.point, judged, material, row.network))
                    accuracy = judged.accuracy(found)
                measured += world_measurements(world, row.name, subset, accuracy, 0)
        return measured

    def _make_material(self, world: str, snippets: int | None) -> Material:
        data = SimulatedData(replace(self._data.config, **WORLDS[world]))
        with self._context.computing():
            return data.endless(self._scale, snippets)


def _cell(method: str, world: str, seed: int | None) -> Cell:
    words = "".join(c if c.isalnum() or c in ".-" else " " for c in f"{method} {world}".lower().replace("'s", ""))
    key, factors = "-".join(words.split()), {"method": method, "world": world}
    return Cell(key, factors) if seed is None else Cell(f"{key}-seed{seed}", factors, seed)
