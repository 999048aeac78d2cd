"""Figures of the thesis (Wang, TU Delft, 2023), as far as this project holds them; others are not known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NONE: Final = "–"
"""Stands for what the thesis gives no number for."""
NO_EXPERIMENT: Final = "Thesis: no such experiment"
SOURCE: Final = "Wang, TU Delft, 2023"
HALF: Final = (0.4, 0.6)
"""Fractions of the data that count as the thesis's ≈50 %."""

OPEN_SET: Final[dict[tuple[str, str, bool], float]] = {
    ("75/25", "with", True): 21.7,
    ("75/25", "with", False): 21.7,
    ("75/25", "without", True): 8.4,
    ("75/25", "without", False): 8.5,
    ("50/50", "with", True): 21.1,
    ("50/50", "with", False): 21.0,
    ("50/50", "without", True): 1.8,
    ("50/50", "without", False): 2.0,
}
"""Table 1: average mAP in percent by split, score enhancement, and whether all data was used or ≈50 %.

The eight values are held as a list; this is the reading in which amounts of data differ by 0.2 at most and an external
classifier's labels help.
"""


@dataclass(frozen=True)
class TrainingRow:
    """A line of Table 2."""

    method: str
    """The network."""
    parameters: float
    """Parameters of the whole network."""
    seconds: float
    """Seconds of a training, on a V100S."""
    average_map: float
    """Average mAP in percent, closed set."""


TRAINING: Final = (
    TrainingRow("STALE", 170.7e6, 400.7, 19.4),
    TrainingRow("ActionFormer", 29.3e6, 1944.9, 35.9),
)
"""Table 2."""
TRAINING_DEVICE: Final = "V100S"

TIME_MS: Final[dict[int, float]] = {200: 80.0, 3000: 101.0}
"""Figure 4a: time of a forward by snippets, on a GPU; the ends of its line."""
UTILISATION: Final[dict[int, float]] = {200: 19.0, 3000: 14.0}
"""Figure 4b: multiply-accumulates per second over the GPU's peak, in percent, by snippets; the ends of its line."""

INT8_SPEEDUP: Final = 2.73
"""Figure 4c: PyTorch fp32 over PyTorch dynamic int8, time on one CPU thread."""
INT8_MEMORY: Final = 2.44
"""Figure 4c: the same of memory."""
GPU_SPEEDUP: Final = 14.15
"""Figure 4c: CPU int8 over GPU fp32, time."""


def open_set(split: str, enhancement: str, fraction: float) -> float | None:
    """Average mAP in percent that Table 1 gives, or none.

    Args:
        split: `75/25` or `50/50`.
        enhancement: `with` or `without`.
        fraction: Fraction of the training data.
    """
    if fraction != 1 and not HALF[0] <= fraction <= HALF[1]:
        return None
    return OPEN_SET.get((split, enhancement, fraction == 1))
