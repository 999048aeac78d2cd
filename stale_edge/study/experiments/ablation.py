"""Ablation study: STALE's published design and each departure from it, beside other networks and reference points.

Taught with endless simulated videos of the seen classes; judged by videos of seen and of unseen classes that no
training draws.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol

from stale_edge.study.design import Cell, Measurement, StudyName, whole_video_of
from stale_edge.study.experiments.simulated_data import SimulatedData
from stale_edge.study.experiments.trained_study import StudyData, TrainedStudy, reference_rows
from stale_edge.study.experiments.training_runs import (
    EVERY_OPTION,
    METHODS,
    NETWORK,
    PUBLISHED,
    SNIPPETS,
    Material,
    Method,
    StudyScale,
    first_network,
    predictor_of,
    reference_point,
    teach,
)
from stale_edge_runtime.contract import ACTIONFORMER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stale_edge.data.reference_points import Predictor

FULL: Final = StudyScale(videos=1024, epochs=3, selection=150, seen=900, unseen=300, network_epochs={ACTIONFORMER: 5})
QUICK: Final = StudyScale(videos=16, epochs=2, selection=12, seen=60, unseen=20, batch_size=8, is_trial=True, fitted=64)
REPEATS: Final = 3

REPEATED: Final = {"published": PUBLISHED, "all ours": Method(EVERY_OPTION)}
"""Designs that are taught once with every seed."""
SINGLE: Final = {name: Method((name,)) for name in EVERY_OPTION}
"""Designs that are taught with the first seed alone."""
UNTRAINED: Final = {"untrained": PUBLISHED, "untrained, all ours": Method(EVERY_OPTION)}
"""Designs that are judged with their first weights, once with every seed."""
POINTS: Final = ("nearest text", "whole video", "ceiling")
"""Reference points that need no network, judged once."""


class EndlessData(StudyData, Protocol):
    """Source of an ablation's videos."""

    def endless(self, scale: StudyScale, snippets: int | None = SNIPPETS) -> Material:
        """Videos to teach and to judge by, these resized to so many snippets unless there is None."""


class AblationStudy(TrainedStudy[EndlessData]):
    """The ablation; see the module.

    Args:
        words: Data, scale and seeds as `TrainedStudy` takes them.
        methods: Networks that are taught, by name; STALE brings its departures.
        named: Further arguments of `TrainedStudy`.
    """

    name: Final = StudyName.ABLATION

    def __init__(self, *words: Any, methods: Mapping[str, Method] = METHODS, **named: Any) -> None:
        super().__init__(*words, **named)
        ablated = NETWORK in methods
        self._others = {name: method for name, method in methods.items() if name != NETWORK}
        self._repeated = {**(REPEATED if ablated else {}), **self._others}
        self._single = SINGLE if ablated else {}
        self._untrained = UNTRAINED if ablated else {}
        self._references = {row.name: row for row in reference_rows(methods, POINTS)}
        self._material = lru_cache(maxsize=1)(self._make_material)

    @property
    def options(self) -> Mapping[str, object]:
        """All that decides what is measured."""
        videos = {"taught": self._scale.videos, "judged": [self._scale.seen, self._scale.unseen]}
        return {
            **self._described({"videos": videos, "selection": self._scale.selection}),
            "reference_points": [
                *self._untrained,
                *self._references,
                *map(whole_video_of, (*self._repeated, *self._single)),
            ],
            "settings": {
                name: self._scale.settings(0, method=method).to_dict()
                for name, method in {"published": PUBLISHED, **self._others}.items()
            },
        }

    def cells(self) -> list[Cell]:
        """List cheap cells first, then the designs that matter most, single departures, other networks."""
        order: list[tuple[str, int | None]] = [(method, None) for method in self._references]
        order += [(method, seed) for method in self._untrained for seed in self._seeds]
        designs = [method for method in self._repeated if method not in self._others]
        order += [(method, seed) for method in designs for seed in self._seeds]
        order += [(method, self._seeds[0]) for method in self._single]
        order += [(method, seed) for method in self._others for seed in self._seeds]
        return [_cell(method, seed) for method, seed in order]

    def measure(self, cell: Cell, note: Callable[[str], None]) -> list[Measurement]:
        """Measure one cell on all subsets; of a training, its labels alone as well.

        Args:
            cell: One of `cells`.
            note: Called with a line on what is going on.

        Raises:
            StaleEdgeError: It cannot be measured.
        """
        name = str(cell.factors["method"])
        method = self._methods.get(name, PUBLISHED)
        material = self._material(method.snippets)
        predictors, cost = self._predictors(cell, material, note)
        measured = []
        for subset, predictor in predictors.items():
            judged = material.evaluation_sets[subset]
            with self._context.computing():
                found = judged.detect(predictor)
                if cost:
                    values = judged.judge(name, found, lacks_classes=method.leaves_classes)
                else:
                    values = {name: judged.accuracy(found)}
            values[name] |= cost
            measured += [
                Measurement({"method": row, "subset": subset}, metric, value, cell.repeat)
                for row, metrics in values.items()
                for metric, value in metrics.items()
            ]
        return measured

    @property
    def _methods(self) -> Mapping[str, Method]:
        return {**self._untrained, **self._repeated, **self._single}

    def _predictors(
        self, cell: Cell, material: Material, note: Callable[[str], None]
    ) -> tuple[dict[str, Predictor], dict[str, float]]:
        """Make the predictors of a cell on each subset, and give the cost of its training."""
        name, sets = str(cell.factors["method"]), material.evaluation_sets
        if row := self._references.get(name):
            return {
                subset: reference_point(row.point, judged, material, row.network) for subset, judged in sets.items()
            }, {}
        method, cost = self._methods[name], {}
        if name in self._untrained:
            network = first_network(material, method, cell.repeat)
        else:
            taught = teach(
                material,
                method,
                self._scale,
                cell.repeat,
                endless=isinstance(self._data, SimulatedData),
                note=lambda line: note(f"{name}, seed {cell.repeat}: {line}"),
                context=self._context,
            )
            network, cost = taught.network, {"seconds": taught.seconds, "steps": float(taught.steps)}
        return {subset: predictor_of(network, judged, method) for subset, judged in sets.items()}, cost

    def _make_material(self, snippets: int | None) -> Material:
        with self._context.computing():
            return self._data.endless(self._scale, snippets)


def _cell(method: str, seed: int | None) -> Cell:
    key = method.replace(",", "").replace(" ", "-")
    return Cell(key, {"method": method}) if seed is None else Cell(f"{key}-seed{seed}", {"method": method}, seed)
