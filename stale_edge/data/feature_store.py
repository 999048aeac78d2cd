"""Features of many videos, read once and kept in memory that all worker processes share.

Kept features are resized to the training length, so that a video takes the same memory however long it is: 0.2 MB at
100 snippets of 512 float32, and 1.9 GB for ActivityNet's 9,649 training videos.
"""

from __future__ import annotations

import mmap
import multiprocessing
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stale_edge_runtime.corpus import HDF5_SUFFIXES, find_videos
from stale_edge_runtime.errors import BadDataError, InputMissingError, StaleEdgeError
from stale_edge_runtime.formats.features import median_row_length
from stale_edge_runtime.resampling import resize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stale_edge_runtime.corpus import VideoFile


def find_feature_files(source: Path, video_ids: Iterable[str]) -> dict[str, VideoFile]:
    """Find the features of videos.

    Ids are looked up in what the folder lists; they never become a path.

    Args:
        source: Folder of `<id>` with `.npy`, `.npz` or `.h5`, or one HDF5 file with datasets so named; see
            `formats.video_ids` for the spellings that match.
        video_ids: Ids as the annotations spell them.

    Returns:
        The features of every video that has some.

    Raises:
        InputMissingError: There is no such folder or file, or it has features of none of the videos.
        BadDataError: Two files are named like one video.
    """
    if source.is_file() and source.suffix.lower() not in HDF5_SUFFIXES:
        raise BadDataError(source, "is neither a folder nor an HDF5 file", "name the folder of the feature files")
    wanted = list(video_ids)
    named = {video.video_id: video for video in find_videos([str(source)], wanted)}
    found = {video_id: named[video_id] for video_id in wanted if video_id in named}
    if wanted and not found:
        cure = f"expected v_{wanted[0]}.npy or {wanted[0]}.npy; is it the right folder?"
        raise InputMissingError(source, f"has features of none of the {len(wanted):,} videos", cure)
    return found


def check_files(
    files: Mapping[str, VideoFile], feature_dim: int | None, progress: Callable[[str], None] | None = None
) -> dict[str, StaleEdgeError]:
    """Read every file and find those that training could not use.

    Args:
        files: Features by video id.
        feature_dim: Width that they must have; that of most of them where None.
        progress: Called with the id of every video that was read.

    Returns:
        What is wrong, by video id; nothing for good files.
    """
    bad: dict[str, StaleEdgeError] = {}
    widths: dict[str, int] = {}
    for video_id, file in files.items():
        try:
            widths[video_id] = file.read(feature_dim).shape[1]
        except (BadDataError, InputMissingError) as error:
            bad[video_id] = error
        if progress is not None:
            progress(video_id)
    usual = Counter(widths.values()).most_common(1)[0][0] if widths else 0
    for video_id, width in widths.items():
        if width != usual:
            problem = f"has rows of {width:,} numbers, where most files have {usual:,}"
            bad[video_id] = BadDataError(files[video_id].path, problem, "make it again, with the same model")
    return bad


@dataclass(frozen=True, slots=True)
class StoredFeatures:
    """Features of one video as the store gives them."""

    features: NDArray[np.float32]
    """[length, D]; a copy, the caller's own."""
    snippets: int
    """Snippets in the video's file."""


class FeatureStore:
    """Reads each feature file once, within a limit of memory.

    Processes forked from this one (workers of a torch DataLoader on Linux) fill and read the same memory. A store that
    is pickled starts empty in the other process.

    Args:
        files: Place of the features of each video.
        feature_dim: Width D that they must have.
        length: Snippets to resize them to; None keeps them as they are, and nothing in memory.
        cache_mb: Memory to use, at most. Videos that do not fit, the last ones, are read each time.
    """

    def __init__(
        self,
        files: Sequence[VideoFile],
        feature_dim: int,
        *,
        length: int | None,
        cache_mb: float = 2048.0,
    ) -> None:
        self._files = tuple(files)
        self._feature_dim = feature_dim
        self._length = length
        row_bytes = (length or 0) * feature_dim * np.dtype(np.float32).itemsize
        rows = min(len(self._files), int(cache_mb * 2**20 / row_bytes)) if row_bytes else 0
        self._cache = _SharedRows(rows, row_bytes)

    def __len__(self) -> int:
        return len(self._files)

    def open(self, index: int) -> float:
        """Read the features of one video for the first time, and keep them where they fit.

        Returns:
            Median length of its rows.

        Raises:
            InputMissingError: Its file is gone.
            BadDataError: Its file is not what it must be.
        """
        features = self._files[index].read(self._feature_dim)
        self._keep(index, features)
        return median_row_length(features)

    def read(self, index: int) -> StoredFeatures:
        """Features of one video.

        Raises:
            InputMissingError: Its file is gone.
            BadDataError: Its file is not what it must be.
        """
        if kept := self._cache.get(index):
            return StoredFeatures(np.frombuffer(kept.row, np.float32).reshape(-1, self._feature_dim).copy(), kept.note)
        return self._keep(index, self._files[index].read(self._feature_dim))

    def _keep(self, index: int, features: NDArray[np.float32]) -> StoredFeatures:
        resized = features if self._length is None else resize(features, self._length)
        self._cache.put(index, resized.tobytes(), len(features))
        return StoredFeatures(resized, len(features))


@dataclass(frozen=True, slots=True)
class _Row:
    row: bytes
    note: int


class _SharedRows:
    """Rows of bytes in anonymous memory that forked processes share.

    Not /dev/shm, which containers keep small: pages come from ordinary memory, as they are filled.
    """

    def __init__(self, rows: int, row_bytes: int) -> None:
        self.rows = rows
        self._row_bytes = row_bytes
        self._lock = multiprocessing.Lock()
        self._notes = np.frombuffer(mmap.mmap(-1, max(1, rows) * 8), np.int64)  # 0 for a row that is not there
        self._memory = mmap.mmap(-1, max(1, rows * row_bytes))

    def get(self, row: int) -> _Row | None:
        if row >= self.rows:
            return None
        with self._lock:  # what another process wrote before it set the note is visible after this
            note = int(self._notes[row])
        start = row * self._row_bytes
        return _Row(self._memory[start : start + self._row_bytes], note) if note else None

    def put(self, row: int, content: bytes, note: int) -> None:
        if row >= self.rows:
            return
        start = row * self._row_bytes
        self._memory[start : start + self._row_bytes] = content  # the same whoever writes it
        with self._lock:
            self._notes[row] = note

    def __reduce__(self) -> tuple[Any, ...]:
        return _SharedRows, (self.rows, self._row_bytes)
