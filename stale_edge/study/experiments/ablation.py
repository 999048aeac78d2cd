"""Ablation study: the published design and each departure from it, beside what needs no training.

TrainedNetwork with endless simulated videos of the seen classes; judged by videos of seen and of unseen classes that no
training draws. In full, on two cores: five minutes for each of nine trainings, half a minute for each of nine
predictions without training, three quarters of an hour in all.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final, Protocol

from stale_edge.study.design import Cell, Measurement, StudyName
from stale_edge.study.experiments.trained_study import StudyData, TrainedStudy
from stale_edge.study.experiments.training_runs import (
    EVERY_OPTION,
    PUBLISHED,
    SPEC,
    Material,
    Method,
    StudyScale,
    first_network,
    predictor_of,
    reference_point,
    train_network,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stale_edge.data.reference_points import Predictor

FULL: Final = StudyScale(videos=1024, epochs=3, selection=150, seen=900, unseen=300)
QUICK: Final = StudyScale(videos=16, epochs=2, selection=12, seen=60, unseen=20, batch_size=8)
REPEATS: Final = 3

REPEATED: Final = {"published": PUBLISHED, "all ours": Method(EVERY_OPTION)}
"""Designs that are taught once with every seed."""
SINGLE: Final = {name: Method((name,)) for name in EVERY_OPTION}
"""Designs that are taught with the first seed alone."""
UNTRAINED: Final = {"untrained": PUBLISHED, "untrained, all ours": Method(EVERY_OPTION)}
"""Designs that are judged with their first weights, once with every seed."""
TRAINING_FREE: Final = tuple(SPEC.reference_points)
"""Reference points that need no network, judged once."""


class EndlessData(StudyData, Protocol):
    """Source of an ablation's videos."""

    def endless(self, scale: StudyScale) -> Material:
        """Videos to teach and to judge by."""


class AblationStudy(TrainedStudy[EndlessData]):
    """The ablation; see the module."""

    name: Final = StudyName.ABLATION

    @property
    def options(self) -> Mapping[str, object]:
        """All that decides what is measured."""
        videos = {"taught": self._scale.videos, "judged": [self._scale.seen, self._scale.unseen]}
        return {
            **self._described({"videos": videos, "selection": self._scale.selection}),
            "reference_points": [*UNTRAINED, *TRAINING_FREE],
            "settings": self._scale.settings(0).to_dict(),
        }

    def cells(self) -> list[Cell]:
        """List cheap cells first, then the two designs that matter most, single departures, repeats."""
        first, *others = self._seeds
        order = [(method, first) for method in (*UNTRAINED, *TRAINING_FREE, *REPEATED, *SINGLE)]
        order += [(method, seed) for seed in others for method in (*UNTRAINED, *REPEATED)]
        return [_cell(method, seed) for method, seed in order]

    def measure(self, cell: Cell, note: Callable[[str], None]) -> list[Measurement]:
        """Measure one cell on all subsets.

        Args:
            cell: One of `cells`.
            note: Called with a line on what is going on.

        Raises:
            StaleEdgeError: It cannot be measured.
        """
        predictors, cost = self._predictors(cell, note)
        measured = []
        for subset, predictor in predictors.items():
            evaluation_set = self._material.evaluation_sets[subset]
            with self._context.computing():
                accuracy = evaluation_set.accuracy(evaluation_set.detect(predictor))
            factors = {**cell.factors, "subset": subset}
            measured += [
                Measurement(factors, metric, value, cell.repeat) for metric, value in {**accuracy, **cost}.items()
            ]
        return measured

    def _predictors(self, cell: Cell, note: Callable[[str], None]) -> tuple[dict[str, Predictor], dict[str, float]]:
        """Make the predictors of a cell on each subset, and give the cost of its training."""
        method, material = str(cell.factors["method"]), self._material
        if method in TRAINING_FREE:
            return {
                subset: reference_point(method, evaluation_set, material)
                for subset, evaluation_set in material.evaluation_sets.items()
            }, {}
        network = first_network(material, {**UNTRAINED, **REPEATED, **SINGLE}[method], cell.repeat)
        cost: dict[str, float] = {}
        if method not in UNTRAINED:
            taught = train_network(
                network,
                material,
                self._scale.settings(cell.repeat),
                lambda line: note(f"{method}, seed {cell.repeat}: {line}"),
                self._context,
            )
            network, cost = taught.network, {"seconds": taught.seconds, "steps": float(taught.steps)}
        return {
            subset: predictor_of(network, evaluation_set) for subset, evaluation_set in material.evaluation_sets.items()
        }, cost

    @cached_property
    def _material(self) -> Material:
        with self._context.computing():
            return self._data.endless(self._scale)


def _cell(method: str, seed: int) -> Cell:
    key = method.replace(",", "").replace(" ", "-")
    if method in TRAINING_FREE:
        return Cell(key, {"method": method})
    return Cell(f"{key}-seed{seed}", {"method": method}, seed)
