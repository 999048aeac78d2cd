"""Accuracy by fraction of the training data: the design that the open set and the closed set share.

One training for each network, split, fraction and seed; what it finds is judged twice, with and without the labels of
an external classifier, and so are its labels alone, each for the whole video. STALE without training and what needs no
network stand beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from stale_edge.study.context import ANYWHERE, RunContext
from stale_edge.study.design import Cell, Measurement, StudyName, whole_video_of
from stale_edge.study.experiments.trained_study import TrainedStudy, reference_rows
from stale_edge.study.experiments.training_runs import (
    METHODS,
    NETWORK,
    PUBLISHED,
    Method,
    first_network,
    predictor_of,
    reference_point,
    teach,
)
from stale_edge.study.experiments.video_pool import FiniteData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stale_edge.data.reference_points import Predictor
    from stale_edge.study.experiments.training_runs import StudyScale
    from stale_edge.study.experiments.video_pool import Pool, Split

UNTRAINED: Final = "untrained"
POINTS: Final = ("nearest text", "ceiling")
ALL: Final = 1.0


@dataclass(frozen=True)
class FractionPlan:
    """Factors to vary."""

    name: StudyName
    """Name of the study."""
    splits: tuple[Split, ...]
    """Splits of the classes."""
    fractions: tuple[float, ...]
    """Fractions of the data."""
    methods: Mapping[str, Method] = field(default_factory=lambda: METHODS)
    """Networks that are taught, by name."""


class DataFractionStudy(TrainedStudy[FiniteData]):
    """A study of what is learned from how much; see the module.

    Args:
        plan: Factors to vary.
        data: Source of the videos.
        scale: Amounts of training and evaluation.
        seeds: One for each repeat.
        quick: Whether the scale is that of a trial.
        context: Folder and lock to compute with.

    Raises:
        StaleEdgeError: The data has none of the splits.
    """

    def __init__(
        self,
        plan: FractionPlan,
        data: FiniteData,
        scale: StudyScale,
        seeds: Sequence[int],
        *,
        quick: bool = False,
        context: RunContext = ANYWHERE,
    ) -> None:
        super().__init__(data, scale, seeds, quick=quick, context=context)
        self._plan = plan
        self._references = {row.name: row for row in reference_rows(plan.methods, POINTS)}
        self._untrained = (UNTRAINED,) if NETWORK in plan.methods else ()
        self._splits = {split.name: split for split in data.splits(plan.splits)}
        self._pool = lru_cache(maxsize=2)(self._make_pool)

    @property
    def name(self) -> StudyName:
        """Name of the study."""
        return self._plan.name

    @property
    def options(self) -> Mapping[str, object]:
        """All that decides what is measured."""
        settings = {
            name: self._scale.settings(0, method=method).to_dict() for name, method in self._plan.methods.items()
        }
        for each in settings.values():
            del each["loss_weights"]  # those of the split
        videos = {"taught": self._scale.videos, "judged": [self._scale.seen, self._scale.unseen]}
        return {
            **self._described({"videos": videos}),
            "enhancement": dict(self._data.enhancement),
            "splits": list(self._splits),
            "fractions": list(self._plan.fractions),
            "reference_points": [*self._untrained, *self._references, *map(whole_video_of, self._plan.methods)],
            "settings": settings,
        }

    def cells(self) -> list[Cell]:
        """List reference points first, then network by network; of each seed by seed, all data before parts of it."""
        return list(self._cells())

    def _cells(self) -> Iterator[Cell]:
        for split in self._splits.values():
            yield from (self._cell(name, split, ALL, None) for name in self._references)
            yield from (self._cell(name, split, ALL, seed) for name in self._untrained for seed in self._seeds)
        for method in self._plan.methods:
            for seed in self._seeds:
                for fraction in sorted(self._plan.fractions, reverse=True):
                    for split in self._splits.values():
                        yield self._cell(method, split, fraction, seed)

    def _cell(self, method: str, split: Split, fraction: float, seed: int | None) -> Cell:
        factors: dict[str, str | float] = {"method": method, "fraction": fraction}
        words = [method.replace(",", "").replace(" ", "-")]
        if split.is_open:
            factors["split"] = split.name
            words.append(split.name.replace("/", "-"))
        if method in self._plan.methods:
            words.append(f"p{100 * fraction:g}")
        if seed is not None:
            words.append(f"seed{seed}")
        return Cell("-".join(words), factors, seed or 0)

    def measure(self, cell: Cell, note: Callable[[str], None]) -> list[Measurement]:
        """Measure one cell, with and without score enhancement; of a training, its labels alone as well.

        Args:
            cell: One of `cells`.
            note: Called with a line on what is going on.

        Raises:
            StaleEdgeError: It cannot be measured.
        """
        split = next(split for name, split in self._splits.items() if cell.factors.get("split", name) == name)
        name = str(cell.factors["method"])
        method = self._plan.methods.get(name, PUBLISHED)
        pool = self._pool(split, method.snippets)
        judged = pool.evaluation_set
        predictor, cost = self._predictor(cell, split, pool, note)
        with self._context.computing():
            found = judged.detect(predictor)
        measured = []
        for enhancement, external in (("without", None), ("with", pool.external)):
            with self._context.computing():
                if cost:
                    values = judged.judge(name, found, external, lacks_classes=method.leaves_classes)
                else:
                    values = {name: judged.accuracy(found, external)}
            values[name] |= cost
            measured += [
                Measurement({**cell.factors, "method": row, "enhancement": enhancement}, metric, value, cell.repeat)
                for row, metrics in values.items()
                for metric, value in metrics.items()
            ]
        return measured

    def _predictor(
        self, cell: Cell, split: Split, pool: Pool, note: Callable[[str], None]
    ) -> tuple[Predictor, dict[str, float]]:
        """Make the predictor of a cell, and give the seconds of its training."""
        name, fraction = str(cell.factors["method"]), float(cell.factors["fraction"])
        method = self._plan.methods.get(name, PUBLISHED)
        with self._context.computing():
            material = pool.material(fraction, cell.repeat)
        if row := self._references.get(name):
            return reference_point(row.point, pool.evaluation_set, material, row.network), {}
        if name == UNTRAINED:
            return predictor_of(first_network(material, method, cell.repeat), pool.evaluation_set), {}
        note(f"{cell.key}: {len(material.source)} videos of {len(material.source.classes)} classes")
        taught = teach(
            material,
            method,
            self._scale,
            cell.repeat,
            loss_weights=split.name,
            note=lambda line: note(f"{cell.key}: {line}"),
            context=self._context,
        )
        return predictor_of(taught.network, pool.evaluation_set, method), {"seconds": taught.seconds}

    def _make_pool(self, split: Split, snippets: int | None) -> Pool:
        with self._context.computing():
            return self._data.finite(split, self._scale, snippets)
