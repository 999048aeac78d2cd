"""The description of a network's outputs that everything on the device works from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.heads.stale_proposals import DecodeOptions

VideoOutputs: TypeAlias = Mapping[str, NDArray[np.float32]]
"""Outputs for one video by name, without the batch axis."""


def even_steps(info: ModelInfo, snippets: int, duration_s: float) -> float:
    """Give the seconds of a snippet where the snippets share the duration evenly."""
    del info
    return duration_s / snippets


def as_found(found: list[Detection], external: tuple[str, float]) -> list[Detection]:
    """Leave detections as they are, whatever an external classifier says."""
    del external
    return found


class AnyName:
    """An axis that may have any name, but no fixed size."""

    def __str__(self) -> str:
        return "any name"


ANY_NAME = AnyName()
AxisRule: TypeAlias = int | str | AnyName
"""An axis of an output: its size, its symbolic name, or any name."""


class Choices(NamedTuple):
    """Departures from a network's own decoding."""

    compat: str | None = None
    """Name of a published decoding to follow, where the network has one."""
    external: tuple[str, float] | None = None
    """Label and score that an external classifier gives the video."""
    options: DecodeOptions | None = None
    """Choices of the default decoding, where the network takes them."""


NO_CHOICES = Choices()


class Decode(Protocol):
    """Function from a network's outputs for one video to detections, best first."""

    def __call__(
        self,
        outputs: VideoOutputs,
        duration_s: float,
        *,
        classes: Sequence[str],
        info: ModelInfo,
        choices: Choices = NO_CHOICES,
    ) -> list[Detection]:
        """Decode one video.

        Args:
            outputs: Outputs by name, finite, of the shapes of `Head.shapes`.
            duration_s: Seconds that the snippets cover.
            classes: Names of the classes.
            info: Metadata of the file.
            choices: Departures from the network's own decoding, where it has any.
        """


@dataclass(frozen=True)
class Head:
    """Outputs of a network: names, shapes, decoding and memory."""

    outputs: tuple[str, ...]
    """Names of the outputs, in the order of the file."""
    check_info: Callable[[ModelInfo], None]
    """Refuse metadata that lacks what this network needs (BadDataError)."""
    axes: Callable[[ModelInfo], Mapping[str, tuple[AxisRule, ...]]]
    """Axes of each output as a file must declare them, batch first."""
    shapes: Callable[[ModelInfo, int, int], Mapping[str, tuple[int, ...]]]
    """Shape of each output for one video of so many snippets and classes, without the batch axis."""
    decode: Decode
    """Detections of one video."""
    activation_floats: Callable[[ModelInfo, int, int, int], float]
    """Floats alive at once for so many snippets, classes, and query rows attended from at once."""
    examples: Callable[[ModelInfo, int, int], Mapping[str, VideoOutputs]]
    """Made-up outputs `clear` and `noisy` for so many snippets and classes, to time the decoding on."""
    is_class_agnostic: Callable[[ModelInfo], bool] = lambda _: False
    """Whether a file tells when and not what, and takes its labels from text or an external classifier."""
    step_s: Callable[[ModelInfo, int, float], float] = even_steps
    """Seconds from one snippet to the next, for so many snippets and seconds of a video."""
    name_externally: Callable[[list[Detection], tuple[str, float]], list[Detection]] = as_found
    """Use of the label and score that an external classifier gives a video, on its detections."""
    class_shares: Callable[[VideoOutputs, NDArray[np.float64]], NDArray[np.float64]] | None = None
    """Share of each class [N, C] in segments [N, 2] (snippets, best first) that any network may have found; None where
    the outputs do not tell."""
    localizes: bool = False
    """Whether segments are found before they are named, so that the scores of a segment's labels sum up to its own and
    an external classifier can name it instead."""
