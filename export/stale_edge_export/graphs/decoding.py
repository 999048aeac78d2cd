"""The description of a decoding that is written into a graph, beside the numpy decoding that it must equal."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.heads.stale_proposals import DecodeOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stale_edge_export.graphs.nodes import NodeWriter, Value
    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.heads.base import VideoOutputs

Settings = dict[str, Any]
"""Numbers of a decoding by name, as JSON values."""


@dataclass(frozen=True)
class DetectionRows:
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
    write: Callable[[NodeWriter, Mapping[str, Value], Value, ModelInfo, Settings], DetectionRows]
    """Write the nodes that turn the outputs of one video, without the batch axis, and the number of its snippets, one
    element, into detections."""
    decode: Callable[[VideoOutputs, int, ModelInfo, Settings], list[Detection]]
    """Decode the outputs of one video of so many snippets with numpy; times are in snippets, labels class indices."""


def option_settings(defaults: DecodeOptions, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give all decode options by name.

    Args:
        defaults: Options of those that are not given.
        given: Options by name.

    Raises:
        UsageError: An option has no meaning, or a value that it cannot have.
    """
    known = asdict(defaults)
    if unknown := sorted(given.keys() - known.keys()):
        raise UsageError(f"decode option {unknown[0]}", "is not known", f"use {', '.join(known)}")
    for name, value in given.items():
        kind = type(known[name])
        if type(value) is not kind and not (kind is float and type(value) is int):
            wanted = "a whole number" if kind is int else "a number"
            raise UsageError(f"decode option {name}", f"is {value!r}", f"give {wanted}")
    return asdict(DecodeOptions(**{**known, **given}))
