"""Table 2 of the thesis: what a training costs, and what comes of it where all classes are taught.

The text tower is in none of the numbers: text embeddings are computed once and given. Memory is the largest that the
process held while it trained, the videos included. Each network has its own hyper-parameters, ActionFormer and the
boundary map their published epochs.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from stale_edge.study.design import Cell, Measurement, StudyName, whole_video_of
from stale_edge.study.experiments.trained_study import TrainedStudy
from stale_edge.study.experiments.training_runs import (
    METHODS,
    Method,
    StudyScale,
    predictor_of,
    teach,
    with_all_designs,
)
from stale_edge.study.experiments.video_pool import CLOSED, FiniteData
from stale_edge.training.launch import accelerator
from stale_edge_runtime.bench.memory import peak_rss_mb, reset_peak

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stale_edge.study.experiments.video_pool import Pool

FULL: Final = StudyScale(videos=500, epochs=5, seen=400)
QUICK: Final = StudyScale(videos=100, epochs=1, seen=40, batch_size=16, is_trial=True)
REPEATS: Final = 5
TWO_NETWORKS: Final = (
    "the thesis's row of ActionFormer seems to mix two networks: 29.3 M parameters are those of the published THUMOS14 "
    "configuration (29,251,612), and 35.9 mAP is ActivityNet's, whose published configurations have 6.9 and 8.1 M"
)


class TrainingCostStudy(TrainedStudy[FiniteData]):
    """The study; see the module.

    Args:
        words: Data, scale and seeds as `TrainedStudy` takes them.
        methods: Networks that are taught, by name; STALE with all designs is taught beside STALE.
        named: Further arguments of `TrainedStudy`.
    """

    name: Final = StudyName.TRAINING

    def __init__(self, *words: Any, methods: Mapping[str, Method] = METHODS, **named: Any) -> None:
        super().__init__(*words, **named)
        self._methods = with_all_designs(methods)

    @property
    def options(self) -> Mapping[str, object]:
        """All that decides what is measured."""
        videos = {"taught": self._scale.videos, "judged": self._scale.seen}
        return {
            **self._described({"videos": videos}),
            "reference_points": [whole_video_of(name) for name in self._methods],
            "settings": {
                name: self._scale.settings(0, CLOSED.name, method).to_dict() for name, method in self._methods.items()
            },
        }

    @property
    def notes(self) -> Sequence[str]:
        """Notes on the memory figures, and on the thesis's row of ActionFormer."""
        return tuple(dict.fromkeys((*self._remarks, TWO_NETWORKS)))

    def cells(self) -> list[Cell]:
        """Network by network, of each seed by seed."""
        return [
            Cell(f"{method.replace(',', '').replace(' ', '-')}-seed{seed}", {"method": method}, seed)
            for method in self._methods
            for seed in self._seeds
        ]

    def measure(self, cell: Cell, note: Callable[[str], None]) -> list[Measurement]:
        """Train once.

        Args:
            cell: One of `cells`.
            note: Called with a line on what is going on.

        Raises:
            StaleEdgeError: It cannot be measured.
        """
        name = str(cell.factors["method"])
        method = self._methods[name]
        pool = self._pool(method.snippets)
        with self._context.computing():
            material = pool.material(1.0, cell.repeat)
        was_reset = reset_peak()
        taught = teach(
            material,
            method,
            self._scale,
            cell.repeat,
            loss_weights=CLOSED.name,
            note=lambda line: note(f"{cell.key}: {line}"),
            context=self._context,
        )
        peak_mb = peak_rss_mb() if was_reset else None
        self._remark_on_memory(peak_mb)
        with self._context.computing():
            judged = pool.evaluation_set
            found = judged.detect(predictor_of(taught.network, judged, method))
            rows = judged.judge(name, found, lacks_classes=method.leaves_classes)
        values: dict[str, float | None] = {
            "parameters": sum(parameter.numel() for parameter in taught.network.parameters()),
            "trained_parameters": taught.trained_parameters,
            "seconds": taught.seconds,
            "steps": taught.steps,
            "peak_rss_mb": peak_mb,
            "average_map": rows[name]["average_map"],
        }
        whole = whole_video_of(name)
        beside = Measurement({"method": whole}, "average_map", rows[whole]["average_map"], cell.repeat)
        return [
            Measurement(cell.factors, metric, float(value), cell.repeat)
            for metric, value in values.items()
            if value is not None
        ] + [beside]

    def _remark_on_memory(self, peak_mb: float | None) -> None:
        """Add a note if peak memory could not be reset."""
        if peak_mb is None:
            self._remarks.append("no memory: this system cannot tell the peak of one training from those before it")
        elif accelerator() == "cuda":
            self._remarks.append("memory is that of the host: what the GPU held is not in it")

    @cached_property
    def _remarks(self) -> list[str]:
        return []

    def _pool(self, snippets: int | None) -> Pool:
        if snippets not in self._pools:
            with self._context.computing():
                self._pools = {snippets: self._data.finite(CLOSED, self._scale, snippets)}
        return self._pools[snippets]

    @cached_property
    def _pools(self) -> dict[int | None, Pool]:
        """Videos at the length that was last asked for; one set of them in memory at a time."""
        return {}
