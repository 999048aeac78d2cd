"""Sizes of a STALE network. The defaults are the published ones; a configuration checks itself."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stale_edge.networks.clip_layer import ACTIVATIONS, QUICK_GELU
from stale_edge.networks.stored_values import known_values
from stale_edge_runtime.heads.setting_checks import check_flags, check_heads, check_integers

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class TextConfig:
    """Sizes of the CLIP text tower (ViT-B/32's by default)."""

    vocabulary: int = 49408
    """Entries of the byte-pair vocabulary; the last one ends a text."""
    context: int = 77
    """Longest text, in tokens."""
    width: int = 512
    """Width of a token."""
    layers: int = 12
    """Transformer layers."""
    heads: int = 8
    """Attention heads; they share the width."""
    hidden: int = 2048
    """Width inside the feed-forward part of a layer."""
    activation: str = QUICK_GELU
    """Activation inside the feed-forward part, one of `clip_layer.ACTIVATIONS`."""
    norm_epsilon: float = 1e-5
    """Number added to variances before they are divided by."""

    def __post_init__(self) -> None:
        check_integers(self, ("vocabulary", "context", "width", "layers", "heads", "hidden"))
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is not one of {', '.join(ACTIVATIONS)}")
        if not isinstance(self.norm_epsilon, float) or not 0 < self.norm_epsilon < 1:
            raise ValueError(f"norm_epsilon {self.norm_epsilon!r} is not between 0 and 1")
        check_heads(self.width, self.heads, "text width")


@dataclass(frozen=True)
class DesignOptions:
    """Design options beside the published design; all are off by default, and all export."""

    centring: bool = False
    """Subtract what all features have in common from features, and what all texts have in common from texts. CLIP's
    features share most of their length; a cosine sees little but that."""
    signed_similarity: bool = False
    """Compare all of a snippet's embedding with the text. The published network sets negative entries to almost nothing
    first: half of what a snippet says."""
    no_gate: bool = False
    """Compare every snippet with the text. The published network sets those that its masks call background to zero,
    and its masks cannot know: see docs/studies.md."""

    def __post_init__(self) -> None:
        check_flags(self, *(item.name for item in dataclasses.fields(self)))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the options that are on, as the command line spells them."""
        return tuple(item.name.replace("_", "-") for item in dataclasses.fields(self) if getattr(self, item.name))

    @classmethod
    def every(cls) -> DesignOptions:
        """Switch all options on."""
        return cls(**{item.name: True for item in dataclasses.fields(cls)})

    @classmethod
    def named(cls, names: Iterable[str]) -> DesignOptions:
        """Switch the options of these names on, as the command line spells them.

        Raises:
            ValueError: There is no such option.
        """
        known = {item.name.replace("_", "-"): item.name for item in dataclasses.fields(cls)}
        if odd := [name for name in names if name not in known]:
            raise ValueError(f"there is no {odd[0]!r} among {', '.join(known)}")
        return cls(**{known[name]: True for name in names})


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the whole network, and what it does beside the published one."""

    feature_dim: int = 512
    """Width D of a snippet's features and of a text embedding."""
    anchors: int = 100
    """Rows A of the masks; the published code ties them to the number of training snippets."""
    heads: int = 4
    """Attention heads; every one is as wide as the features."""
    mask_channels: int = 256
    """Channels inside the mask head."""
    representation_layers: int = 2
    """Encoder and decoder layers of the representation mask."""
    representation_heads: int = 2
    """Attention heads of the representation mask; they share the width."""
    representation_hidden: int = 1
    """Width inside its feed-forward parts: one, as published."""
    text: TextConfig | None = field(default_factory=TextConfig)
    """The text tower; none for a network that runs on stored text embeddings."""
    ours: DesignOptions = field(default_factory=DesignOptions)
    """Departures from the published design."""

    def __post_init__(self) -> None:
        layers = ("representation_layers", "representation_heads", "representation_hidden")
        check_integers(self, ("feature_dim", "anchors", "heads", "mask_channels", *layers))
        check_heads(self.feature_dim, self.representation_heads, "feature width")
        if self.feature_dim % 4:
            raise ValueError(f"feature width {self.feature_dim} must be a multiple of 4 for its sine positions")

    def to_dict(self) -> dict[str, Any]:
        """Give the configuration as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Read what `to_dict` wrote, now or in another version: missing keys take defaults, unknown ones are left out.

        Raises:
            ValueError: The values are not those of a configuration.
        """
        text, ours = values.get("text", {}), values.get("ours", {})
        if odd := [name for name, part in (("text", text or {}), ("ours", ours)) if not isinstance(part, dict)]:
            raise ValueError(f"{odd[0]!r} is not a JSON object")
        return cls(
            **{name: value for name, value in known_values(cls, values).items() if name not in {"text", "ours"}},
            text=TextConfig(**known_values(TextConfig, text)) if text is not None else None,
            ours=DesignOptions(**known_values(DesignOptions, ours)) if ours else DesignOptions(),
        )
