"""Training targets: classes, masks and foreground of every snippet, from instances in seconds.

Source: docs/protocol.md §2. A video is cut into T snippets of equal length; an instance owns the snippets from
`snippet_span`. The default rounds outward, so that every instance owns at least one snippet. `compat="stale"` rounds
inward as the published code does: floor(T·start) + 1 up to, and without, floor(T·end) - 1.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from stale_edge_runtime.formats.annotations import Instance

_DECIMALS = 6
"""Boundaries nearer than this to a snippet's border (in snippets) lie on it: 0.29 s · 100 is 29, not 28.999…96."""


@dataclass(frozen=True)
class Targets:
    """Targets that the loss compares the network's output with; A = T."""

    snippet_classes: Tensor
    """int64 [B, T]: index of the class; C for background."""
    masks: Tensor
    """bool [B, A, T]: anchor and snippet lie in the same instance."""
    foreground: Tensor
    """bool [B, T]: the snippet lies in an instance."""
    video_classes: Tensor
    """bool [B, C]: the classes that are present."""
    known: Tensor
    """bool [B, T]: false where something happens that is not taught: it counts neither as action nor as background."""

    @property
    def first_classes(self) -> Tensor:
        """int64 [B]: the present class of lowest index; 0 for a video without any."""
        return self.video_classes.to(torch.uint8).argmax(dim=1)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Targets:
        """Move to another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Targets:
        """Move to pinned memory; a DataLoader calls this."""
        return self._each(Tensor.pin_memory)

    @classmethod
    def stack(cls, targets: Sequence[Targets]) -> Targets:
        """Join the targets of several videos along the batch axis."""
        return cls(*(torch.cat(parts) for parts in zip(*(item.tensors() for item in targets), strict=True)))

    def tensors(self) -> tuple[Tensor, ...]:
        """List all tensors, in the order of the fields."""
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Targets:
        return Targets(*map(change, self.tensors()))


def snippet_span(
    start_s: float, end_s: float, duration_s: float, snippets: int, *, compat: str | None = None
) -> tuple[int, int]:
    """Find the snippets that an instance owns, as a half-open range.

    Args:
        start_s: Start of the instance.
        end_s: End of the instance; past the end of the video counts as at its end.
        duration_s: Length of the video, or of what the features cover.
        snippets: Number of snippets T.
        compat: `"stale"` rounds as published and may leave nothing.

    Returns:
        First snippet and the one after the last. By default at least one snippet, also for an instance of length zero
        or after the end.
    """
    start, end = (snippets * min(max(time_s / duration_s, 0.0), 1.0) for time_s in (start_s, end_s))
    if compat:
        first = min(math.floor(start) + 1, snippets)
        return first, max(math.floor(end) - 1, first)
    first = min(math.floor(round(start, _DECIMALS)), snippets - 1)
    return first, max(math.ceil(round(end, _DECIMALS)), first + 1)


def video_targets(
    instances: Sequence[Instance],
    duration_s: float,
    classes: Mapping[str, int],
    snippets: int,
    *,
    hidden: Sequence[tuple[float, float]] = (),
    compat: str | None = None,
) -> Targets:
    """Targets of one video, B = 1.

    Where instances of several classes overlap, a snippet gets the class of the shortest one, or of the first in the
    file among equals: whole actions contain their parts, not the other way round. Masks and video classes have all.

    Args:
        instances: Actions of the video; all of their labels must be among the classes.
        duration_s: Length of the video, or of what the features cover.
        classes: Index of every class.
        snippets: Number of snippets T, and of anchors.
        hidden: Seconds in which actions of other classes happen. Snippets there that no instance owns are not known.
        compat: `"stale"` rounds as published.

    Raises:
        KeyError: An instance's label is not among the classes.
    """
    spans = [snippet_span(i.start_s, i.end_s, duration_s, snippets, compat=compat) for i in instances]
    owned = _members(spans, snippets)  # [I, T]
    labels = np.array([classes[instance.label] for instance in instances], dtype=np.int64)
    snippet_classes = np.full(snippets, len(classes), dtype=np.int64)
    for index in np.argsort(-owned[::-1].sum(axis=1), kind="stable"):
        snippet_classes[owned[::-1][index]] = labels[::-1][index]
    foreground = owned.any(axis=0)
    present = np.zeros(len(classes), dtype=bool)
    present[labels] = True
    elsewhere = _members([snippet_span(*span, duration_s, snippets) for span in hidden], snippets).any(axis=0)
    together = (owned.T.astype(np.float32) @ owned.astype(np.float32)) > 0  # [A, T]
    arrays = (snippet_classes, together, foreground, present, foreground | ~elsewhere)
    return Targets(*(torch.from_numpy(array)[None] for array in arrays))


def _members(spans: Sequence[tuple[int, int]], snippets: int) -> NDArray[np.bool_]:
    """Mark the snippets of each span, [spans, T]."""
    bounds = np.array(spans, dtype=np.int64).reshape(-1, 2, 1)
    at = np.arange(snippets)
    inside: NDArray[np.bool_] = (bounds[:, 0] <= at) & (at < bounds[:, 1])
    return inside
