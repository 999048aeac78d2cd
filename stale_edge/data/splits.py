"""Random parts of a data set that keep every class.

The order in which videos are drawn comes from a hash of seed and video id: it is the same on every machine and with
every version of numpy, whatever the order of the file. A smaller fraction of the same seed lies inside a larger one,
but for videos that were drawn only to keep a class.

Source: docs/protocol.md §1 (data fraction), §3 (held-out share of seen-class training videos).
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from stale_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stale_edge.data.selection import LabelledVideo


def sample(videos: Sequence[LabelledVideo], fraction: float, seed: int) -> list[int]:
    """Draw a fraction of the videos uniformly, without replacement, such that every class keeps one or more.

    The first round(fraction · N) videos of a random order are taken; where these miss a class, its first video in that
    order is taken instead of the last ones that no class needs. More are taken where the classes need more.

    Returns:
        Indices of the drawn videos, in order.

    Raises:
        UsageError: The fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise UsageError("fraction", f"is {fraction:g}", "give a share above 0 and up to 1")
    return _draw(videos, fraction, seed)


def hold_out(videos: Sequence[LabelledVideo], share: float, seed: int) -> list[int]:
    """Set a share of the videos aside; every class keeps one or more video outside it.

    Args:
        videos: Videos to divide.
        share: Share to set aside, in (0, 1).
        seed: Seed of the choice.

    Returns:
        Indices of the videos that are not set aside, in order.

    Raises:
        UsageError: The share is not in (0, 1).
    """
    if not 0 < share < 1:
        raise UsageError("held-out share", f"is {share:g}", "give a share between 0 and 1")
    return _draw(videos, 1 - share, seed)


def _draw(videos: Sequence[LabelledVideo], fraction: float, seed: int) -> list[int]:
    """Indices of the drawn videos, in order."""
    order = sorted(range(len(videos)), key=lambda index: _rank(videos[index].id, seed))
    needed: dict[str, int] = {}
    for index in order:
        for instance in videos[index].instances:
            needed.setdefault(instance.label, index)
    drawn = set(needed.values())
    count = max(math.floor(fraction * len(videos) + 0.5), len(drawn))
    drawn.update([index for index in order if index not in drawn][: count - len(drawn)])
    return sorted(drawn)


def _rank(video_id: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{video_id}".encode()).digest()
