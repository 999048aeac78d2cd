"""Sizes of an ActionFormer, and all else that a published configuration of it states; a configuration checks itself."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from stale_edge.networks.stored_values import known_values
from stale_edge_runtime.heads.actionformer_options import DecodeSettings
from stale_edge_runtime.heads.setting_checks import check_flags, check_heads, check_integers, check_number

if TYPE_CHECKING:
    from collections.abc import Sequence

GLOBAL: Final = 1
"""A window of this or less attends to the whole video."""
FIRST_RANGE: Final = 4
"""Longest reach, in snippets, of the segments of level 0; every level doubles it."""
LAST_RANGE: Final = 10_000
"""Longest reach of the segments of the last level."""
_MAX_LEVELS: Final = 12


@dataclass(frozen=True)
class LossSettings:
    """Weights of the loss."""

    positives: float = 200.0
    """Number of positive moments that the loss is divided by at the start; a moving average of it afterwards."""
    regression_weight: float = 2.0
    """Weight of the regression; 0 or less balances the two terms by their sizes."""
    smoothing: float = 0.1
    """Label smoothing."""

    def __post_init__(self) -> None:
        check_number(self, "positives", 1e-6, 1e6)
        check_number(self, "regression_weight", -1e6, 1e6)
        check_number(self, "smoothing", 0.0, 1.0)


@dataclass(frozen=True)
class ActionFormerConfig:
    """A configuration; the defaults are those published for ActivityNet with TSP features."""

    feature_dim: int = 512
    """Width D of a snippet's features."""
    width: int = 256
    """Width E of the embedding."""
    heads: int = 4
    """Attention heads; they share the width."""
    classes: int = 1
    """Classes C; one for a network that tells when, and leaves what to a classifier."""
    windows: tuple[int, ...] = (7, 7, 7, 7, 7, -1)
    """Attention window of each level, in positions; an even one acts as the next odd one, 1 or less is the whole
    video."""
    stem_blocks: int = 2
    """Transformer blocks before the pyramid."""
    head_width: int = 256
    """Width of the hidden layers of both heads."""
    position_table: bool = True
    """Whether sines of the position are added to the embedding."""
    max_length: int = 192
    """Snippets T of a video in training."""
    resized: bool = True
    """Whether videos of any length are resized to `max_length`; otherwise longer ones are cropped in training."""
    offset: float = 0.5
    """Half the snippets that one feature row looks at: the centre of row 0."""
    drop_path: float = 0.1
    """Share of the samples that lose a residual branch in training; at 0 branches have no scale either."""
    shortest_crop: float = 0.9
    """Shortest random crop of a video that fits, as a share of it."""
    loss: LossSettings = field(default_factory=LossSettings)
    """Weights of the loss."""
    decoding: DecodeSettings = field(default_factory=DecodeSettings)
    """Published decoding."""

    def __post_init__(self) -> None:
        counts = ("feature_dim", "width", "heads", "classes", "stem_blocks", "head_width", "max_length")
        check_integers(self, counts, high=65_536)
        check_heads(self.width, self.heads)
        if not 1 <= len(self.windows) <= _MAX_LEVELS or any(type(w) is not int or w > 4096 for w in self.windows):
            raise ValueError(f"windows must be 1 to {_MAX_LEVELS} integers of at most 4,096, not {self.windows!r}")
        if odd := [window for window in self.windows if window in {2, 3}]:
            raise ValueError(
                f"window {odd[0]} reaches one position to each side, for which the published attention by chunks "
                "has no form; take 4 or more, or 1 for the whole video"
            )
        check_flags(self, "position_table", "resized")
        check_number(self, "offset", 0.0, 1e4)
        check_number(self, "drop_path", 0.0, 0.999)
        check_number(self, "shortest_crop", 1e-6, 1.0)
        if self.max_length % self.multiple:
            raise ValueError(f"max_length {self.max_length} is not a multiple of {self.multiple}, stride times window")

    @property
    def strides(self) -> tuple[int, ...]:
        """Snippets from one position to the next, on each level."""
        return tuple(1 << level for level in range(len(self.windows)))

    @property
    def multiple(self) -> int:
        """Multiple f that evaluation pads to."""
        spans = [1 if window <= GLOBAL else 2 * (window // 2) for window in self.windows]
        return max(stride * span for stride, span in zip(self.strides, spans, strict=True))

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """Shortest and longest reach of the segments that each level learns, in snippets."""
        ends = [FIRST_RANGE * stride for stride in self.strides[:-1]]
        return tuple(zip([0, *ends], [*ends, LAST_RANGE], strict=True))

    @property
    def is_class_agnostic(self) -> bool:
        """Whether the network leaves classes to others."""
        return self.classes == 1

    def padded(self, snippets: int) -> int:
        """Give the length T that the published evaluation pads a video to.

        Args:
            snippets: True length n.
        """
        return max(self.max_length, -(-snippets // self.multiple) * self.multiple)

    def to_dict(self) -> dict[str, Any]:
        """Give the configuration as JSON values."""
        return {**dataclasses.asdict(self), "windows": list(self.windows)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ActionFormerConfig:
        """Read what `to_dict` wrote, now or in another version: missing keys take defaults, unknown ones are left out.

        Raises:
            ValueError: The values are not those of a configuration.
        """
        known = known_values(cls, values)
        for name, kind in (("loss", LossSettings), ("decoding", DecodeSettings)):
            if name in known:
                if not isinstance(known[name], dict):
                    raise ValueError(f"{name!r} is not a JSON object")
                known[name] = kind(**known_values(kind, known[name]))
        if "windows" in known:
            known["windows"] = _integers(known["windows"])
        return cls(**known)


def _integers(values: Sequence[Any]) -> tuple[int, ...]:
    if not isinstance(values, list | tuple):
        raise ValueError(f"'windows' is {values!r}, not a list")  # noqa: TRY004 (one error for all values)
    return tuple(values)
