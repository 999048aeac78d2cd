"""Detect actions on a device: numpy and onnxruntime, nothing else.

Names are imported when they are first used, so that a program that needs one of them does not wait for all.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# onnxruntime 1.32 writes a device id and a database of events under the home folder, and looks up its vendor's host,
# when it is imported; inherited by children. Whoever wants telemetry sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.detector import Detector
    from stale_edge_runtime.errors import StaleEdgeError
    from stale_edge_runtime.heads.stale import decode

__all__ = ["Detection", "Detector", "StaleEdgeError", "decode"]

_HOMES = {"Detection": "decoding", "Detector": "detector", "StaleEdgeError": "errors", "decode": "heads.stale"}


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
