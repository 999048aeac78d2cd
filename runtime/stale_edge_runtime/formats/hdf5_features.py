"""Features in HDF5 files: one video a file, or a file with a dataset, or a group of one dataset, for every video.

A file that could lead out of itself (by links, external or virtual datasets, filters that HDF5 would load as plugins)
is refused. The format itself is read by the HDF5 library, which is not built for hostile files: `.npy` is the format
for files from anyone.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stale_edge_runtime.errors import BadDataError, missing_extra, reading_error
from stale_edge_runtime.formats.features import MAX_BYTES, MAX_UNPACKING, check_features
from stale_edge_runtime.formats.file_kinds import Wanted, misplaced, read_head

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

FEATURES_NAME: Final = "features"
MAX_DATASETS: Final = 1_000_000
_HARMLESS_FILTERS: Final = {1, 2, 3, 32000}
"""deflate, shuffle, fletcher32 and h5py's own lzf."""
_CURE: Final = "save them as .npy"


def dataset_names(path: Path) -> list[str]:
    """Names of what lies right inside a file.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: It is not HDF5.
        UnavailableError: h5py is not installed.
    """
    with _opened(path) as file:
        if len(file) > MAX_DATASETS:
            raise BadDataError(path, f"holds {len(file):,} datasets, more than {MAX_DATASETS:,}", _CURE)
        return [str(name) for name in file]


def read_dataset(path: Path, name: str, feature_dim: int | None) -> NDArray[np.float32]:
    """Read one video of a file of many.

    Returns:
        Features [snippets, feature_dim], finite.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: It is not HDF5, or the dataset is not such an array.
        UnavailableError: h5py is not installed.
    """
    with _opened(path) as file:
        return _read(path, file, name, feature_dim)


def read_video_file(path: Path, feature_dim: int | None) -> NDArray[np.float32]:
    """Read a file of one video: its dataset `features`, or the only one.

    Errors are those of `read_dataset`.
    """
    with _opened(path) as file:
        names = [FEATURES_NAME] if FEATURES_NAME in file else list(file)
        if len(names) != 1:
            raise BadDataError(path, f"holds {len(names)} datasets", f"name one of them {FEATURES_NAME!r}")
        return _read(path, file, names[0], feature_dim)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError:
        raise missing_extra("h5py", "hdf5", f"reading {path}") from None
    if path.is_fifo():  # opening one waits for ever
        raise BadDataError(path, "is not a regular file", "name a file")
    try:
        with path.open("rb"):  # h5py's own error does not say why
            pass
        with h5py.File(path, "r") as file:
            yield file
    except BadDataError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise reading_error(path, error) from error
        if (other := misplaced(path, read_head(path), Wanted.HDF5)) is not None:
            raise other from error
        raise BadDataError(path, "is not a readable HDF5 file", "get it again") from error
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise BadDataError(path, f"cannot be read ({error})", "get it again") from error


def _read(path: Path, file: Any, name: str, feature_dim: int | None) -> NDArray[np.float32]:
    dataset = _dataset(file, name)
    if dataset is None:
        raise BadDataError(path, f"{name[:80]!r} is no dataset of this file, and no group of one", _CURE)
    settings = dataset.id.get_create_plist()
    filters = {settings.get_filter(index)[0] for index in range(settings.get_nfilters())}
    if dataset.is_virtual or dataset.external or not filters <= _HARMLESS_FILTERS:
        raise BadDataError(path, f"{name[:80]!r} needs other files or plugins to be read", _CURE)
    name = dataset.name.removeprefix("/")
    if dataset.dtype.kind != "f" or dataset.ndim != 2:
        raise BadDataError(path, f"{name[:80]!r} is {dataset.dtype} with {dataset.ndim} axes, not floats with two")
    if dataset.nbytes > min(MAX_BYTES, MAX_UNPACKING * path.stat().st_size):
        raise BadDataError(path, f"{name[:80]!r} announces {dataset.nbytes:,} bytes", _CURE)
    chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize if dataset.chunks else 0
    if chunk > min(MAX_BYTES, MAX_UNPACKING * path.stat().st_size):
        raise BadDataError(path, f"{name[:80]!r} is stored in chunks of {chunk:,} bytes", _CURE)
    return check_features(np.asarray(dataset[()]), feature_dim, subject=f"{path}: {name[:80]}")


def _dataset(file: Any, name: str) -> Any | None:
    """Find a dataset of this very file: of that name, or the only one in a group of that name."""
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        return None
    found = file[name]
    if isinstance(found, h5py.Group):
        members = list(found) if len(found) == 1 else []
        if not members or not isinstance(found.get(members[0], getlink=True), h5py.HardLink):
            return None
        found = found[members[0]]
    return found if isinstance(found, h5py.Dataset) else None
