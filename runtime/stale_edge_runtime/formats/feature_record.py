"""The record beside a feature file: the video, the times of its rows, and the way they were made.

`NAME.npy` has its record in `NAME.features.json`. Features without a record are features of unknown origin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.feature_origin import FeatureOrigin
from stale_edge_runtime.formats.files import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

RECORD_SUFFIX: Final = ".features.json"
FORMAT: Final = 1
MAX_RECORD_BYTES: Final = 16 << 20
MAX_DURATION_S: Final = 1e7
_CURE: Final = "make the features again, or remove the record"


@dataclass(frozen=True)
class FeatureRecord:
    """Origin of the features of one video."""

    origin: FeatureOrigin
    """Image tower, colours and step."""
    duration_s: float
    """Seconds of video that the rows cover."""
    rows: int
    """Number of rows."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Facts for people: the video's name, codec and size, offset of its first frame, sampling, damaged rows, notes."""

    def to_dict(self) -> dict[str, Any]:
        """Give the record as a JSON object."""
        head = {"format": FORMAT, "rows": self.rows, "duration_s": self.duration_s}
        return {**head, "origin": self.origin.to_dict(), **self.details}


@dataclass(frozen=True)
class VideoFeatures:
    """The features of one video, and how they were made."""

    rows: NDArray[np.float32]
    """[T, D]."""
    record: FeatureRecord | None = None
    """Record of their making; None where nothing tells."""


def record_path(features: Path) -> Path:
    """Give the path of the record of a feature file."""
    return features.with_name(features.stem + RECORD_SUFFIX)


def read_record(path: Path) -> FeatureRecord:
    """Read the record of a feature file.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: It is not a record that this version reads.
    """
    values = read_json(path, limit=MAX_RECORD_BYTES)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise BadDataError(path, f"is no record of features of format {FORMAT}", _CURE)
    duration, rows, origin = values.get("duration_s"), values.get("rows"), values.get("origin", {})
    if not isinstance(duration, int | float) or not 0 < duration < MAX_DURATION_S:
        raise BadDataError(path, f"has the duration_s {str(duration)[:40]!r}, not a number of seconds", _CURE)
    if type(rows) is not int or rows < 1:
        raise BadDataError(path, f"has {str(rows)[:40]!r} rows, not a whole number", _CURE)
    try:
        known = FeatureOrigin.from_dict(origin if isinstance(origin, dict) else {"extractor": 0})
    except ValueError as error:
        raise BadDataError(path, f"has an origin that cannot be read: {error}", _CURE) from None
    details = {key: value for key, value in values.items() if key not in {"format", "rows", "duration_s", "origin"}}
    return FeatureRecord(known, float(duration), rows, details)
