"""The profile that onnxruntime writes of a session's runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stale_edge_runtime.errors import StorageError

if TYPE_CHECKING:
    import onnxruntime

KERNEL: Final = "_kernel_time"
"""End of the names of events that are operators at work; older versions profile fences too."""


def end_profile(session: onnxruntime.InferenceSession) -> list[dict[str, Any]]:
    """End the profile of a session and read its events.

    Args:
        session: A session that was opened with a profile.

    Raises:
        StorageError: The file is cut off: onnxruntime does not tell that the disk was full.
    """
    path = Path(session.end_profiling())
    try:
        events: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StorageError(path.parent, "has no room for a profile", "free some, or name another in TMPDIR") from error
    return events
