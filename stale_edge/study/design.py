"""Study design: cells that are measured one after the other, and the columns that its measurements have."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Factor: TypeAlias = str | int | float
"""A value of an experimental factor."""


class StudyName(StrEnum):
    """The studies: the thesis's five, and three of this project's own.

    Those are about what holds STALE back, how well the boundary map localises, and how far conclusions hang on what the
    simulated world assumes.
    """

    OPEN_SET = "open-set"
    CLOSED_SET = "closed-set"
    TRAINING = "training"
    INFERENCE = "inference"
    QUANTIZATION = "quantization"
    ABLATION = "ablation"
    LOCALIZATION = "localization"
    ROBUSTNESS = "robustness"


@dataclass(frozen=True)
class StudyColumns:
    """Columns common to all measurements of a study."""

    factors: tuple[str, ...]
    """Names of what was varied, in the order of the tidy table."""
    metrics: Mapping[str, str]
    """Names of what was measured, and their units."""


ACCURACY: Final = {
    "map_50": "fraction",
    "map_75": "fraction",
    "map_95": "fraction",
    "average_map": "fraction",
}
"""Metrics of what was found, and their unit; none is outside of 0 to 1."""
WHOLE_VIDEO: Final = ", whole video"
"""Ending of the name of a reference row: the labels that a method found, each for its whole video."""
_TIMING_FACTORS: Final = ("engine", "precision", "provider", "model", "snippets")
COLUMNS: Final[Mapping[StudyName, StudyColumns]] = {
    StudyName.OPEN_SET: StudyColumns(("method", "split", "fraction", "enhancement"), {**ACCURACY, "seconds": "s"}),
    StudyName.CLOSED_SET: StudyColumns(("method", "fraction", "enhancement"), {**ACCURACY, "seconds": "s"}),
    StudyName.TRAINING: StudyColumns(
        ("method",),
        {
            "parameters": "count",
            "trained_parameters": "count",
            "seconds": "s",
            "steps": "count",
            "peak_rss_mb": "MB",
            "average_map": "fraction",
        },
    ),
    StudyName.INFERENCE: StudyColumns(
        _TIMING_FACTORS,
        {"time_ms": "ms", "gmacs": "GMAC", "gmacs_per_s": "GMAC/s", "utilisation": "fraction", "peak_mb": "MB"},
    ),
    StudyName.QUANTIZATION: StudyColumns(
        _TIMING_FACTORS,
        {"time_ms": "ms", "peak_mb": "MB", "file_mb": "MB"},
    ),
    StudyName.ABLATION: StudyColumns(("method", "subset"), {**ACCURACY, "seconds": "s", "steps": "count"}),
    StudyName.LOCALIZATION: StudyColumns(
        ("world", "method", "subset"), {**ACCURACY, "kept": "fraction", "seconds": "s", "steps": "count"}
    ),
    StudyName.ROBUSTNESS: StudyColumns(
        ("world", "method", "subset"), {**ACCURACY, "kept": "fraction", "seconds": "s", "steps": "count"}
    ),
}
"""The columns of each study. A measurement has all factors of its study, and one of its metrics."""


def whole_video_of(method: str) -> str:
    """Name the row of the labels that a method found, each for its whole video."""
    return method + WHOLE_VIDEO


@dataclass(frozen=True)
class Measurement:
    """One number that was measured."""

    factors: Mapping[str, Factor]
    """Factors by name."""
    metric: str
    """Measured quantity."""
    value: float
    """Value in the metric's unit."""
    repeat: int
    """Seed or number of the repetition, from 0."""
    run: int = 0
    """Number of the run within a repetition, where one was measured several times."""


@dataclass(frozen=True)
class Cell:
    """Unit of measurement, kept whole or not at all."""

    key: str
    """Name within the study, fit for a file name: lower-case letters, digits, dots and hyphens."""
    factors: Mapping[str, Factor] = field(default_factory=dict)
    """Factors that the cell fixes; its measurements may vary the others."""
    repeat: int = 0
    """Seed or number of the repetition."""


class Study(Protocol):
    """An experiment."""

    @property
    def name(self) -> StudyName:
        """Name of the study."""

    @property
    def options(self) -> Mapping[str, object]:
        """All that decides what is measured, as JSON values: a folder goes on only with the same."""

    def cells(self) -> Sequence[Cell]:
        """List all cells in the order in which they are measured."""

    def measure(self, cell: Cell, note: Callable[[str], None]) -> Sequence[Measurement]:
        """Measure one cell.

        Args:
            cell: One of `cells`.
            note: Called with a line on what is going on.

        Raises:
            StaleEdgeError: It cannot be measured.
        """


@runtime_checkable
class Noted(Protocol):
    """A study that has more to say than numbers."""

    @property
    def notes(self) -> Sequence[str]:
        """Return remarks for readers of the results, as far as known by now."""


@runtime_checkable
class Prepared(Protocol):
    """A study that has work to do before its first cell, which is not to count as the time of one."""

    def prepare(self, note: Callable[[str], None]) -> None:
        """Make everything ready.

        Args:
            note: Called with a line on what is going on.

        Raises:
            StaleEdgeError: It cannot be made.
        """
