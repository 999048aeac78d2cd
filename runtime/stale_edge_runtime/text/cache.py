"""Text embeddings that were computed before, by what they depend on.

A cache is a comfort: where it cannot be read or written, the embeddings are computed. It is the user's, not the
model's: the folder of a model may be read-only, shared, or searched for models. An entry is a `.npy` array and the hash
of it, so that a torn or altered one is found.
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
from stale_edge_runtime.formats.files import read_bytes, write_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stale_edge_runtime.text.tower import TextEncoder

ENTRY: Final = ".text"
"""End of the names of entries."""
KEPT: Final = 64
"""Lists of names that are kept; the oldest go first."""
KEPT_BYTES: Final = 64 << 20
"""Most bytes of all of them; a list of 2,000 names takes 4 MB."""


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

    Returns:
        float32 [C, D], and whether they came from the cache.

    Raises:
        BadDataError: The tower does not answer as it must.
    """
    path = None if folder is None else folder / f"{_key(tower, names, prompt)}{ENTRY}"
    if path is not None:
        with contextlib.suppress(StaleEdgeError, OSError, ValueError):
            known = _read(path, (len(names), tower.info.feature_dim))
            os.utime(path)
            return known, True
    embeddings = tower.embed(names, prompt)
    if path is not None:
        with contextlib.suppress(StaleEdgeError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            content = io.BytesIO()
            np.save(content, embeddings)
            write_bytes(path, content.getvalue() + hashlib.sha256(content.getvalue()).digest())
            _forget_the_oldest(path.parent)
    return embeddings, False


def _key(tower: TextEncoder, names: Sequence[str], prompt: str) -> str:
    told = json.dumps([prompt, *names]).encode()
    return hashlib.sha256(tower.digest + b"\0" + told).hexdigest()


def _read(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Read an entry.

    Raises:
        InputMissingError: There is none.
        BadDataError: It is too large.
        ValueError: It is torn, altered, or of another shape.
    """
    content = read_bytes(path, limit=KEPT_BYTES)
    array, told = content[: -hashlib.sha256().digest_size], content[-hashlib.sha256().digest_size :]
    if hashlib.sha256(array).digest() != told:
        raise ValueError("is damaged")
    known = np.load(io.BytesIO(array), allow_pickle=False)
    if known.shape != shape or known.dtype != np.float32:
        raise ValueError("is of another shape")
    return np.asarray(known)


def _forget_the_oldest(folder: Path) -> None:
    entries = sorted(folder.glob(f"*{ENTRY}"), key=lambda path: path.stat().st_mtime, reverse=True)
    room = KEPT_BYTES
    for number, path in enumerate(entries):
        room -= path.stat().st_size
        if number >= KEPT or room < 0:
            path.unlink(missing_ok=True)
