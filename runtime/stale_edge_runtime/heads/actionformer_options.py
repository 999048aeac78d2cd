"""Settings of ActionFormer's published decoding, as a file's metadata and a configuration carry them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

from stale_edge_runtime.heads.setting_checks import check_flags, check_integers, check_number

METHODS: Final = ("soft", "linear", "hard", "none")


@dataclass(frozen=True)
class DecodeSettings:
    """Settings of the decoding; the defaults are those published for ActivityNet.

    Raises:
        ValueError: A setting is not what it must be.
    """

    threshold: float = 0.001
    """Scores up to this are left out."""
    candidates: int = 2000
    """Most candidates of a level."""
    shortest: float = 0.001
    """Segments up to this long, in snippets, are left out."""
    method: str = "soft"
    """Non-maximum suppression: `soft` (Gaussian), `linear` (soft too), `hard`, `none`, which does not sort either."""
    per_class: bool = False
    """Whether segments of different classes leave each other alone."""
    sigma: float = 0.75
    """Width of the Gaussian of soft suppression."""
    overlap: float = 0.1
    """IoU from which hard suppression removes a segment, and linear suppression lowers it."""
    min_score: float = 0.001
    """Scores that fall below this are left out."""
    vote: float = 0.9
    """IoU from which a candidate votes on a segment; 0 for no voting. Published only where classes are not apart."""
    limit: int = 100
    """Most detections of a video."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, not {self.method!r}")
        check_flags(self, "per_class")
        check_integers(self, ("candidates", "limit"))
        for name, low, high in (
            ("threshold", 0.0, 1.0),
            ("shortest", 0.0, 1e6),
            ("sigma", 1e-6, 1e6),
            ("overlap", 0.0, 1.0),
            ("min_score", 0.0, 1.0),
            ("vote", 0.0, 1.0),
        ):
            check_number(self, name, low, high)

    def to_dict(self) -> dict[str, Any]:
        """Give the settings as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> DecodeSettings:
        """Read what `to_dict` wrote; missing keys take defaults, unknown ones are left out.

        Raises:
            ValueError: The values are not those of settings.
        """
        if not isinstance(values, dict):
            raise ValueError("is not a JSON object")  # noqa: TRY004 (one error for all values)
        names = {item.name for item in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})
