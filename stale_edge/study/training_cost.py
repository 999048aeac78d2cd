"""Table 2 of the thesis: what a training costs, and what comes of it where all classes are taught.

The text tower is in none of the numbers: text embeddings are computed once and given. Memory is the largest that the
process held while it trained, the videos included.

In full, on two cores: six trainings of six minutes.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from stale_edge.config import OurOptions
from stale_edge.study.design import Cell, Measurement, StudyName
from stale_edge.study.pool import CLOSED
from stale_edge.study.teaching import EVERY_OPTION, Scale, first_network, predictor_of, teach
from stale_edge_runtime.bench.memory import peak_rss_mb, reset_peak

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stale_edge.study.pool import FiniteData, Pool

FULL: Final = Scale(videos=1600, epochs=5, seen=400)
QUICK: Final = Scale(videos=100, epochs=1, seen=40, batch_size=16)
REPEATS: Final = 3
METHODS: Final[Mapping[str, OurOptions]] = {"stale": OurOptions(), "ours": EVERY_OPTION}
"""The published network, and the same with all that this project offers beside it."""


class TrainingCostStudy:
    """The study; see the module.

    Args:
        data: Where videos come from.
        scale: How much is taught and judged.
        seeds: One for each repeat.
        quick: Whether the scale is that of a trial; recorded.
    """

    name: Final = StudyName.TRAINING

    def __init__(self, data: FiniteData, scale: Scale, seeds: Sequence[int], *, quick: bool = False) -> None:
        (self._split,) = data.splits((CLOSED,))
        self._data = data
        self._scale = scale
        self._seeds = tuple(seeds)
        self._quick = quick

    @property
    def options(self) -> Mapping[str, object]:
        """All that decides what is measured."""
        return {
            "quick": self._quick,
            "seeds": list(self._seeds),
            "data": dict(self._data.description),
            "videos": {"taught": self._scale.videos, "judged": self._scale.seen},
            "settings": self._scale.settings(0, self._split.name).to_dict(),
        }

    def cells(self) -> list[Cell]:
        """Seed by seed."""
        return [Cell(f"{method}-seed{seed}", {"method": method}, seed) for seed in self._seeds for method in METHODS]

    def measure(self, cell: Cell, note: Callable[[str], None]) -> list[Measurement]:
        """Train once.

        Args:
            cell: One of `cells`.
            note: Called with a line on what is going on.

        Raises:
            StaleEdgeError: It cannot be measured.
        """
        pool = self._pool
        material = pool.material(1.0, cell.repeat)
        network = first_network(material, METHODS[str(cell.factors["method"])], cell.repeat)
        reset_peak()
        settings = self._scale.settings(cell.repeat, self._split.name)
        taught = teach(network, material, settings, lambda line: note(f"{cell.key}: {line}"))
        values: dict[str, float | None] = {
            "parameters": sum(parameter.numel() for parameter in taught.network.parameters()),
            "trained_parameters": taught.trained_parameters,
            "seconds": taught.seconds,
            "steps": taught.steps,
            "peak_rss_mb": peak_rss_mb(),
            "average_map": pool.exam.accuracy(pool.exam.sit(predictor_of(taught.network, pool.exam)))["average_map"],
        }
        return [
            Measurement(cell.factors, metric, float(value), cell.repeat)
            for metric, value in values.items()
            if value is not None
        ]

    @cached_property
    def _pool(self) -> Pool:
        return self._data.finite(self._split, self._scale)
