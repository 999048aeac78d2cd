"""Base of the learning studies: videos, a scale, seeds, and a place to compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from stale_edge.networks.registry import NETWORKS
from stale_edge.study.context import ANYWHERE, RunContext
from stale_edge.study.design import Measurement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stale_edge.study.experiments.training_runs import Method, StudyScale


class StudyData(Protocol):
    """Source of a study's videos."""

    @property
    def description(self) -> Mapping[str, Any]:
        """All that decides what it gives, as JSON values."""

    def numbers(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """Count the videos that it gives where so many are asked for, as JSON values.

        Args:
            asked: Numbers as a study records them.
        """


@dataclass(frozen=True)
class ReferenceRow:
    """A reference point of a network, which needs no training."""

    name: str
    """Name of its row."""
    network: str
    """Kind of network whose decoding it goes through."""
    point: str
    """Key of the network's `reference_points`."""


def reference_rows(methods: Mapping[str, Method], points: Sequence[str]) -> tuple[ReferenceRow, ...]:
    """List the reference points of the networks of a study, those of the first by their plain names.

    Args:
        methods: Networks that are taught.
        points: Reference points, of which a network may have none.
    """
    networks = [
        name for name in dict.fromkeys(method.network for method in methods.values()) if NETWORKS[name].reference_points
    ]
    return tuple(
        ReferenceRow(point if network == networks[0] else f"{point}, decoded as {network}", network, point)
        for network in networks
        for point in points
        if point in NETWORKS[network].reference_points
    )


def world_measurements(
    world: str, method: str, subset: str, values: Mapping[str, float], repeat: int
) -> list[Measurement]:
    """List what was measured of a method in a world on one subset.

    Args:
        world: Name of the world.
        method: Name of the row.
        subset: `seen` or `unseen`.
        values: Values by metric.
        repeat: Seed.
    """
    factors = {"world": world, "method": method, "subset": subset}
    return [Measurement(factors, metric, value, repeat) for metric, value in values.items()]


Data = TypeVar("Data", bound=StudyData)


class TrainedStudy(Generic[Data]):
    """The beginning of a study of learning.

    Args:
        data: Source of the videos.
        scale: Amounts of training and evaluation.
        seeds: One for each repeat: of the first weights, of what is held out and drawn, of the order.
        quick: Whether the scale is that of a trial; recorded.
        context: Folder and lock to compute with.
    """

    def __init__(
        self,
        data: Data,
        scale: StudyScale,
        seeds: Sequence[int],
        *,
        quick: bool = False,
        context: RunContext = ANYWHERE,
    ) -> None:
        self._data = data
        self._scale = scale
        self._seeds = tuple(seeds)
        self._quick = quick
        self._context = context

    def _described(self, asked: Mapping[str, Any]) -> dict[str, object]:
        """Describe data and scale, for the options of a study.

        Args:
            asked: Numbers of videos.
        """
        return {
            "quick": self._quick,
            "seeds": list(self._seeds),
            "data": dict(self._data.description),
            **self._data.numbers(asked),
        }
