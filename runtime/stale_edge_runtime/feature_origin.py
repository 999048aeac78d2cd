"""The way features were made: what a network learned from, and what it is given later, must agree.

A frame every half second through one image tower and ten a second through another are both rows of 512 numbers. Nothing
in the rows tells them apart, and a network answers either with confidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stale_edge_runtime.contract import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stale_edge_runtime.contract import ModelInfo

STEP_TOLERANCE: Final = 0.02
"""Share by which two steps may differ: rounding of frame rates, 30 against 29.97."""
HASH_SHOWN: Final = 12


@dataclass(frozen=True)
class FeatureOrigin:
    """Image tower, colours and step that features were made with; what is not known is empty."""

    extractor: str = ""
    """Name of the image tower, for people."""
    tower_sha256: str = ""
    """Hash of the image tower's weights."""
    channels: str = ""
    """Order of colours, one of `CHANNELS`."""
    step_s: float | None = None
    """Seconds from one row to the next; None where it differs from video to video, or is not known."""

    @classmethod
    def of(cls, info: ModelInfo) -> FeatureOrigin:
        """Give the origin of the features that a model learned, or that an image tower makes."""
        # A network that resizes every video to one length learned no step.
        step = None if info.resize_to else info.snippet_seconds
        return cls(info.feature_extractor, info.tower_sha256, info.channels, step)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FeatureOrigin:
        """Read what `to_dict` gave.

        Args:
            values: JSON object; missing keys are not known.

        Raises:
            ValueError: A value is not what it must be.
        """
        texts = {key: values.get(key, "") for key in ("extractor", "tower_sha256", "channels")}
        if odd := [key for key, value in texts.items() if not isinstance(value, str) or not _is_name(value)]:
            raise ValueError(f"{odd[0]!r} is no printable text of at most 200 characters")
        if texts["channels"] and texts["channels"] not in CHANNELS:
            raise ValueError(f"'channels' is {texts['channels']!r}, not one of {', '.join(CHANNELS)}")
        step = values.get("step_s")
        if step is not None and (type(step) not in {int, float} or not 0 < step < 1e6):
            raise ValueError("'step_s' is no positive number")
        return cls(**texts, step_s=None if step is None else float(step))

    def to_dict(self) -> dict[str, Any]:
        """Give what is known as a JSON object."""
        return {key: value for key, value in vars(self).items() if value not in {"", None}}

    def difference(self, given: FeatureOrigin) -> str:
        """Say how other features differ from these; '' where they agree as far as both are known."""
        if self.tower_sha256 and given.tower_sha256 and self.tower_sha256 != given.tower_sha256:
            return f"are of {_tower(given)}, not of {_tower(self)}"
        if self.channels and given.channels and self.channels != given.channels:
            return f"are of {given.channels.upper()} frames, not of {self.channels.upper()}"
        if self.step_s and given.step_s and abs(given.step_s / self.step_s - 1) > STEP_TOLERANCE:
            return f"have a row every {given.step_s:g} s, not every {self.step_s:g} s"
        return ""


def common_origin(origins: Iterable[FeatureOrigin]) -> FeatureOrigin:
    """Give the origin that all features share; a step only where all have it.

    Args:
        origins: Origins of features that `difference` finds no other difference in than the step.
    """
    found = list(dict.fromkeys(origins))
    if not found:
        return FeatureOrigin()

    def shared(key: str) -> Any:
        values = {getattr(origin, key) for origin in found}
        return values.pop() if len(values) == 1 else FeatureOrigin.__dataclass_fields__[key].default

    return FeatureOrigin(**{key: shared(key) for key in FeatureOrigin.__dataclass_fields__})


def _tower(origin: FeatureOrigin) -> str:
    """Name an image tower for a message."""
    digest = origin.tower_sha256[:HASH_SHOWN]
    return f"{origin.extractor} ({digest})" if origin.extractor else f"the image tower {digest}"


def _is_name(text: str) -> bool:
    return len(text) <= 200 and text.isprintable()
