"""Base of the learning studies: videos, a scale, seeds, and a place to compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from stale_edge.study.context import ANYWHERE, RunContext

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stale_edge.study.experiments.training_runs import StudyScale


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
