"""Text embeddings that were computed before, by what they depend on.

A cache is a comfort: where it cannot be read or written, the embeddings are computed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from stale_edge_runtime.errors import StaleEdgeError
from stale_edge_runtime.formats.features import read_features
from stale_edge_runtime.formats.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stale_edge_runtime.text.tower import TextEncoder

KEPT: Final = 64
"""Lists of names that are kept; the oldest go first."""


def cache_folder() -> Path | None:
    """Choose the folder for embeddings: `stale-edge/text` in the user's cache; None where there is no such place."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    if not Path(base).is_absolute():
        home = os.environ.get("HOME", "")
        if not Path(home).is_absolute():
            return None
        base = str(Path(home) / ".cache")
    return Path(base) / "stale-edge" / "text"


def embed_names(
    tower: TextEncoder, names: Sequence[str], prompt: str, folder: Path | None
) -> tuple[NDArray[np.float32], bool]:
    """Give the text embeddings of class names, from the cache where they were computed before.

    The whole list is one entry: an 8-bit tower scales its numbers by all texts of a run together, and the same list
    must give the same embeddings every time.

    Args:
        tower: The text tower.
        names: Class names.
        prompt: Words before each of them.
        folder: Folder of the cache; None computes.

    Returns:
        float32 [C, D], and whether they came from the cache.

    Raises:
        BadDataError: The tower does not answer as it must.
    """
    path = None if folder is None else folder / f"{_key(tower, names, prompt)}.npy"
    if path is not None:
        with contextlib.suppress(StaleEdgeError, OSError):
            known = read_features(path, tower.info.feature_dim)
            if len(known) == len(names):
                os.utime(path)
                return known, True
    embeddings = tower.embed(names, prompt)
    if path is not None:
        with contextlib.suppress(StaleEdgeError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            content = io.BytesIO()
            np.save(content, embeddings)
            write_bytes(path, content.getvalue())
            _forget_the_oldest(path.parent)
    return embeddings, False


def _key(tower: TextEncoder, names: Sequence[str], prompt: str) -> str:
    told = json.dumps([prompt, *names]).encode()
    return hashlib.sha256(tower.digest + b"\0" + told).hexdigest()


def _forget_the_oldest(folder: Path) -> None:
    entries = sorted(folder.glob("*.npy"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in entries[KEPT:]:
        path.unlink(missing_ok=True)
