"""Settings of a training: two presets, and the learning rate at every step."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from stale_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

OPTIMIZERS: Final = ("adamw", "adam")
SCHEDULES: Final = ("cosine", "published-cosine", "constant")
_LAST_RATE: Final = 1e-8
STALE: Final = "stale"


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides what a training gives, besides the data, the text and the first weights."""

    epochs: int = 30
    """Times that every video is shown, or that an endless source is asked for an epoch of videos."""
    batch_size: int = 32
    """Videos in a step, over all processes together."""
    learning_rate: float = 3e-4
    """Highest learning rate."""
    weight_decay: float = 0.02
    """Decoupled with `adamw`, added to the gradient with `adam`."""
    optimizer: str = "adamw"
    """`adamw`, or `adam` as published."""
    schedule: str = "cosine"
    """`cosine`: warm-up, then down to nothing at the last step; `published-cosine`: the same from 0 to 1e-8, as
    published for ActionFormer; `constant` as published for STALE."""
    warmup_share: float = 0.05
    """Share of all steps over which the learning rate rises; of the cosine schedules."""
    clip_norm: float | None = 1.0
    """Longest gradient; longer ones are shortened to it. None leaves them."""
    train_text: bool = False
    """Whether the text tower is trained too."""
    loss_weights: str = "closed"
    """Name of the weights of the loss's terms, of those that the network knows."""
    compat: str | None = None
    """`stale`: targets and loss as published."""
    seed: int = 0
    """Seed of the order of the videos and of dropout."""
    patience: int | None = 10
    """Epochs without a better held-out mAP after which training stops; none never stops early."""
    precision: str = "fp32"
    """`fp32`, or `bf16` for mixed precision."""
    average_decay: float | None = None
    """Share of the moving average of the weights that a step keeps; the average is what is judged and saved. None has
    no average."""
    drop_last: bool = False
    """Whether an epoch leaves its last batch out where it is not full."""

    def __post_init__(self) -> None:
        for name, wrong, cure in (
            ("epochs", not 1 <= self.epochs <= 1_000_000, "give 1 or more"),
            ("batch_size", not 1 <= self.batch_size <= 1_000_000, "give 1 or more"),
            ("learning_rate", not 0 < self.learning_rate <= 1, "give more than 0 and up to 1"),
            ("weight_decay", not 0 <= self.weight_decay <= 1, "give 0 to 1"),
            ("optimizer", self.optimizer not in OPTIMIZERS, f"give {' or '.join(OPTIMIZERS)}"),
            ("warmup_share", not 0 <= self.warmup_share < 1, "give 0 up to 1"),
            ("clip_norm", self.clip_norm is not None and not 0 < self.clip_norm < math.inf, "give more than 0"),
            ("compat", self.compat not in {None, STALE}, f"there is only {STALE!r}"),
            ("seed", not 0 <= self.seed < 1 << 32, "give 0 to 2^32 - 1"),
            ("patience", self.patience is not None and self.patience < 1, "give 1 or more"),
            ("schedule", self.schedule not in SCHEDULES, f"give {' or '.join(SCHEDULES)}"),
            ("average_decay", self.average_decay is not None and not 0 < self.average_decay < 1, "give 0 to 1"),
            ("precision", self.precision not in {"fp32", "bf16"}, "give fp32 or bf16"),
        ):
            if wrong:
                raise UsageError(name.replace("_", " "), f"is {getattr(self, name)!r}", cure)

    def to_dict(self) -> dict[str, Any]:
        """Give the settings as JSON values."""
        return dataclasses.asdict(self)

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Learning rate of one step: a function of nothing but its number.

        Args:
            step: Number of the step, from 0.
            steps: Steps in all epochs together.
        """
        if self.schedule == "constant":
            return self.learning_rate
        warmup = max(1, round(self.warmup_share * steps))
        if self.schedule == "published-cosine":
            if step < warmup:
                return self.learning_rate * step / max(1, warmup - 1)
            share = 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
            return _LAST_RATE + (self.learning_rate - _LAST_RATE) * share
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


PRESETS: Final[Mapping[str | None, TrainingSettings]] = MappingProxyType(
    {
        None: TrainingSettings(),
        STALE: TrainingSettings(
            epochs=5,
            batch_size=100,
            learning_rate=4e-5,
            weight_decay=0.02,
            optimizer="adam",
            schedule="constant",
            warmup_share=0.0,
            clip_norm=None,
            train_text=True,
            compat=STALE,
            patience=None,
        ),
    }
)
"""Ours, and the published settings (docs/protocol.md §3)."""
