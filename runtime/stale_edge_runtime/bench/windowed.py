"""A long video in overlapping windows, as the detector runs it: one after the other, each on its own.

Attention grows with the square of the length, so many short windows cost less than one long video; what is not seen
across their borders is the price.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stale_edge_runtime.bench.onnx_contender import OnnxContender
    from stale_edge_runtime.windows import WindowPlan

    Forward = Callable[[], Sequence[Any]]


WINDOWS = ", windows of "
"""Separator of the name of a file and the size of its windows."""


@dataclass(frozen=True)
class Windowed:
    """An exported file that takes a long video in windows."""

    inner: OnnxContender
    """The file; the session is shared with it."""
    windows: WindowPlan
    """Positions of the windows."""

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{self.inner.name}{WINDOWS}{self.windows.window}"

    @property
    def kind(self) -> str:
        """Inputs of the file besides features."""
        return self.inner.kind

    @property
    def engine(self) -> str:
        """Library that runs it."""
        return self.inner.engine

    @property
    def precision(self) -> str:
        """Number format of its products."""
        return self.inner.precision

    @property
    def provider(self) -> str:
        """Provider it runs on."""
        return self.inner.provider

    @property
    def feature_dim(self) -> int:
        """Width of the features it takes."""
        return self.inner.feature_dim

    def prepare(self, features: NDArray[np.float32], threads: int) -> Forward:
        """Make a function that runs all windows once and returns the outputs of the last.

        Args:
            features: [batch, snippets, D].
            threads: Threads inside an operator.
        """
        return forward_in_windows(lambda piece: self.inner.prepare(piece, threads), features, self.windows)

    def macs(self, batch: int, snippets: int) -> int:
        """Multiply-accumulates of all windows."""
        return sum(self.inner.macs(batch, last - first) for first, last in self.windows.spans(snippets))

    def cold_start_words(self, threads: int, batch: int, snippets: int) -> Sequence[str]:
        """Module and arguments of the process that measures its cold start."""
        return self.inner.cold_start_words(threads, batch, snippets, self.windows)


def forward_in_windows(
    prepare: Callable[[NDArray[np.float32]], Forward], features: NDArray[np.float32], windows: WindowPlan
) -> Forward:
    """Make a function that runs every window of a video once and returns the outputs of the last.

    Args:
        prepare: Makes ready for one window [batch, window, D].
        features: [batch, snippets, D].
        windows: Positions of the windows.
    """
    spans = windows.spans(features.shape[1])
    pieces = [prepare(np.ascontiguousarray(features[:, first:last])) for first, last in spans]

    def forward() -> Sequence[Any]:
        outputs: Sequence[Any] = ()
        for piece in pieces:
            outputs = piece()
        return outputs

    return forward
