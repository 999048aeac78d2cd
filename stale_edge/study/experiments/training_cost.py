"""Table 2 of the thesis: what a training costs, and what comes of it where all classes are taught.

The text tower is in none of the numbers: text embeddings are computed once and given. Memory is the largest that the
process held while it trained, the videos included.

In full, on two cores: six trainings of six minutes.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from stale_edge.study.design import Cell, Measurement, StudyName
from stale_edge.study.experiments.trained_study import TrainedStudy
from stale_edge.study.experiments.training_runs import (
    EVERY_OPTION,
    Scale,
    first_network,
    predictor_of,
    teach,
)
from stale_edge.study.experiments.video_pool import CLOSED, FiniteData
from stale_edge.training.launch import accelerator
from stale_edge_runtime.bench.memory import peak_rss_mb, reset_peak

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stale_edge.study.experiments.video_pool import Pool

FULL: Final = Scale(videos=1600, epochs=5, seen=400)
QUICK: Final = Scale(videos=100, epochs=1, seen=40, batch_size=16)
REPEATS: Final = 3
METHODS: Final[Mapping[str, Sequence[str]]] = {"stale": (), "ours": EVERY_OPTION}
"""The published network, and the same with all that this project offers beside it."""


class TrainingCostStudy(TrainedStudy[FiniteData]):
    """The study; see the module."""

    name: Final = StudyName.TRAINING

    @property
    def options(self) -> Mapping[str, object]:
        """All that decides what is measured."""
        videos = {"taught": self._scale.videos, "judged": self._scale.seen}
        return {
            **self._described({"videos": videos}),
            "settings": self._scale.settings(0, CLOSED.name).to_dict(),
        }

    @property
    def notes(self) -> Sequence[str]:
        """Notes on the memory figures."""
        return tuple(dict.fromkeys(self._remarks))

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
        with self._context.computing():
            material = pool.material(1.0, cell.repeat)
        network = first_network(material, METHODS[str(cell.factors["method"])], cell.repeat)
        was_reset = reset_peak()
        settings = self._scale.settings(cell.repeat, CLOSED.name)
        taught = teach(network, material, settings, lambda line: note(f"{cell.key}: {line}"), self._context)
        peak_mb = peak_rss_mb() if was_reset else None
        self._remark_on_memory(peak_mb)
        with self._context.computing():
            accuracy = pool.exam.accuracy(pool.exam.sit(predictor_of(taught.network, pool.exam)))
        values: dict[str, float | None] = {
            "parameters": sum(parameter.numel() for parameter in taught.network.parameters()),
            "trained_parameters": taught.trained_parameters,
            "seconds": taught.seconds,
            "steps": taught.steps,
            "peak_rss_mb": peak_mb,
            "average_map": accuracy["average_map"],
        }
        return [
            Measurement(cell.factors, metric, float(value), cell.repeat)
            for metric, value in values.items()
            if value is not None
        ]

    def _remark_on_memory(self, peak_mb: float | None) -> None:
        """Add a note if peak memory could not be reset."""
        if peak_mb is None:
            self._remarks.append("no memory: this system cannot tell the peak of one training from those before it")
        elif accelerator() == "cuda":
            self._remarks.append("memory is that of the host: what the GPU held is not in it")

    @cached_property
    def _remarks(self) -> list[str]:
        return []

    @cached_property
    def _pool(self) -> Pool:
        with self._context.computing():
            return self._data.finite(CLOSED, self._scale)
