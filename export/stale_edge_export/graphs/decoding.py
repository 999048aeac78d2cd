"""The description of a decoding that is written into a graph, beside the numpy decoding that it must equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stale_edge_export.graphs.nodes import NodeWriter, Value
    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.heads.base import VideoOutputs

Settings = dict[str, Any]
"""Numbers of a decoding by name, as JSON values."""


@dataclass(frozen=True)
class Found:
    """Detections inside a graph, best first."""

    segments: Value
    """Start and end `[N, 2]`, in snippets from the start of the video, of any number type."""
    labels: Value
    """Class index `[N]`, int64."""
    scores: Value
    """`[N]`, of any float type."""


@dataclass(frozen=True)
class Decoding:
    """Decoding of one network inside its graph."""

    settings: Callable[[ModelInfo, Mapping[str, Any]], Settings]
    """Function from a file's metadata and the settings that differ from its defaults to all settings (UsageError,
    ValueError)."""
    write: Callable[[NodeWriter, Mapping[str, Value], ModelInfo, Settings], Found]
    """Write the nodes that turn the outputs of one video, without the batch axis, into detections."""
    decode: Callable[[VideoOutputs, int, ModelInfo, Settings], list[Detection]]
    """Decode the outputs of one video of so many snippets with numpy; times are in snippets, labels class indices."""
