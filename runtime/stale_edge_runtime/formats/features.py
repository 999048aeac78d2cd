"""Reading feature files: `.npy` and `.npz`, from anyone.

The header is parsed here by a small grammar and never evaluated, sizes are checked against the file before
anything is allocated, no pickle is ever opened, and no byte of a file becomes a path.

Source: the NPY format (numpy.lib.format); the ZIP application note for what surrounds arrays in an `.npz`.
"""

from __future__ import annotations

import errno
import io
import math
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from stale_edge_runtime.errors import BadDataError, InputMissingError, reading
from stale_edge_runtime.formats.file_kinds import Wanted, misplaced, read_head

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BYTES = 512 << 20
"""Largest array that is read: 250,000 snippets of 512 float32, or 37 hours at one per 0.53 s."""
MAX_UNPACKING = 50
"""A compressed array may be this much larger than its file; features are noise and hardly compress."""
MAX_MEMBERS = 64
USUAL_NAMES = ("features", "feats", "feat", "arr_0", "clip", "image_features")
"""Names that tools give to features in an `.npz`, the most telling first."""
_OTHER_NAMES = {"last_hidden_state"}
"""Arrays of the right shape that are something else: tokens of a text, not snippets of a video."""
MAX_HEADER_BYTES = 4096
BLOCK_BYTES = 1 << 20
CHECKED_ROWS = 4096

_MAGIC = b"\x93NUMPY"
_ZIP_MAGIC = b"PK\x03\x04"
_ZIP_END = b"PK\x05\x06"
_ZIP_END_BYTES = 22
_ZIP64_LOCATOR = b"PK\x06\x07"
_ZIP64_LOCATOR_BYTES = 20
_HEADER_ITEM = re.compile(
    r"""\s*(?P<q>['"])(?P<key>descr|fortran_order|shape)(?P=q)\s*:\s*"""
    r"""(?:(?P<t>['"])(?P<text>[^'"]{0,40})(?P=t)|(?P<flag>True|False)|\((?P<sizes>[0-9, L]{0,200})\))"""
    r"""\s*(?:,\s*|(?=\}))"""
)
"""One item of a header; writers other than numpy quote and space otherwise, and numpy for Python 2 wrote `3L`."""
_PACKINGS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # the others unpack without bounds
_ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
_FLOATS = {sign + code for sign in ("<", ">", "=", "") for code in ("f2", "f4", "f8")}
MAX_AXES = 32
"""Most axes that every supported numpy can hold; features have two."""
_CURE = "save them with numpy.save as float16, float32 or float64 with two axes"

_OBJECTS_CURE = (
    "if they are yours, convert them: numpy.save('NEW.npy', "
    "numpy.array(numpy.load('NAME.npy', allow_pickle=True).tolist(), 'float32'))"
)


@dataclass(frozen=True)
class _Header:
    """Header of an array: type, order and shape."""

    dtype: np.dtype[np.floating]
    fortran_order: bool
    shape: tuple[int, ...]


class _Problem(Exception):  # noqa: N818 (becomes a BadDataError where the file's name is known)
    def __init__(self, problem: str, cure: str = _CURE) -> None:
        super().__init__(problem)
        self.problem = problem
        self.cure = cure


def read_features(path: Path, feature_dim: int | None) -> NDArray[np.float32]:
    """Read the features of one video.

    Args:
        path: An `.npy` file, or an `.npz` file with one array that can be the features: of a usual name, or the only
            one of the width. What counts is the content, not the file's name.
        feature_dim: Width that a snippet must have; any where None.

    Returns:
        Features `[snippets, feature_dim]`, finite, at least one snippet.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: It is not such an array, or holds NaN, infinity, or values beyond float32.
        StorageError: The disk failed.
    """
    path = Path(path)
    try:
        with reading(path):
            if path.exists() and not path.is_file():
                raise InputMissingError(path, "is not a regular file", "name an .npy or .npz file")
            with path.open("rb") as stream:
                array = _read(stream, feature_dim)
        return check_features(array, feature_dim, subject=path)
    except _Problem as problem:
        other = misplaced(path, read_head(path), Wanted.FEATURES)
        raise other or BadDataError(path, str(problem), problem.cure) from None


def check_features(
    array: NDArray[np.floating], feature_dim: int | None, *, subject: object, row: str = "snippet"
) -> NDArray[np.float32]:
    """Check the features of one video, or the embeddings of a vocabulary, and make them float32.

    Args:
        array: `[snippets, feature_dim]`, any float type.
        feature_dim: Width that a snippet must have; any where None.
        subject: Name in errors, usually the file.
        row: Name of a row in errors.

    Returns:
        The same as contiguous float32; a copy only where it must be one.

    Raises:
        BadDataError: Other axes, another width, no snippets, NaN, infinity, or values beyond float32.
    """
    if not np.issubdtype(array.dtype, np.floating):
        raise BadDataError(subject, f"holds {array.dtype}, not floats", _CURE)
    shape = array.shape
    if len(shape) != 2:
        width = feature_dim or "width"
        raise BadDataError(subject, f"has {len(shape)} axes {list(shape[:8])}, not [{row}s, {width}]", _CURE)
    if feature_dim is not None and shape[1] != feature_dim:
        transposed = shape[0] == feature_dim
        problem = f"is [{shape[0]:,}, {shape[1]:,}], not [{row}s, {feature_dim}]"
        cure = "transpose it: numpy.save(path, array.T)" if transposed else "make some that fit the model"
        raise BadDataError(subject, problem + (" (the published layout?)" if transposed else ""), cure)
    if not shape[0]:
        raise BadDataError(subject, f"holds no {row}s", "make it again")
    _check_finite(array, "NaN or infinity", "make it again", subject, row)
    with np.errstate(over="ignore"):
        features = np.ascontiguousarray(array, dtype=np.float32)
    if array.dtype.itemsize > features.dtype.itemsize:
        _check_finite(features, "values beyond float32", "scale it down", subject, row)
    return features


def median_row_length(features: NDArray[np.floating]) -> float:
    """Measure the median Euclidean length of rows: the scale of features, to which networks are sensitive.

    Args:
        features: `[snippets, width]`, at least one snippet.
    """
    return float(np.median(np.sqrt(np.einsum("ij,ij->i", features, features, dtype=np.float64))))


def _check_finite(array: NDArray[np.floating], what: str, cure: str, subject: object, row: str) -> None:
    bad = [
        start + np.flatnonzero(~np.isfinite(array[start : start + CHECKED_ROWS]).all(axis=1))
        for start in range(0, len(array), CHECKED_ROWS)
    ]
    count = sum(map(len, bad))
    if count:
        first = next(int(rows[0]) for rows in bad if len(rows))
        counted = f"1 {row} holds" if count == 1 else f"{count:,} of {len(array):,} {row}s hold"
        raise BadDataError(subject, f"{counted} {what}, the first is {row} {first}", cure)


def _read(stream: IO[bytes], feature_dim: int | None) -> NDArray[np.floating]:
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    start = stream.read(len(_MAGIC))
    stream.seek(0)
    if start == _MAGIC:
        return _read_array(stream, size)
    if start[: len(_ZIP_MAGIC)] == _ZIP_MAGIC:
        return _read_archive(stream, size, feature_dim)
    raise _Problem("is neither .npy nor .npz" if size else "is empty")


def _read_array(stream: IO[bytes], size: int) -> NDArray[np.floating]:
    """Read an array that takes up `size` bytes with its header."""
    header, used = _read_header(stream, size)
    if len(header.shape) > MAX_AXES:
        raise _Problem(f"has {len(header.shape)} axes {list(header.shape[:8])}", _CURE)
    wanted = math.prod(header.shape) * header.dtype.itemsize
    if wanted != size - used:
        shape = " x ".join(map(str, header.shape[:8])) or "one value"
        raise _Problem(f"announces {shape} ({wanted:,} bytes) and holds {size - used:,}", "it is damaged; get it again")
    if wanted > MAX_BYTES:
        raise _Problem(f"holds {wanted:,} bytes, more than the {MAX_BYTES:,} allowed", "split the video")
    order = header.shape[::-1] if header.fortran_order else header.shape
    array = np.empty(order, header.dtype)
    if wanted:
        _fill(array.reshape(-1).view(np.uint8).data, stream)
    return array.T if header.fortran_order else array


def _fill(target: memoryview, stream: IO[bytes]) -> None:
    """Read block by block: memory is used up as data comes, not as it is announced."""
    at = 0
    while at < len(target):
        block = stream.read(min(BLOCK_BYTES, len(target) - at))
        if not block:
            raise _Problem(f"ends after {at:,} of {len(target):,} bytes", "it is damaged; get it again")
        target[at : at + len(block)] = block
        at += len(block)
    if stream.read(1):
        raise _Problem("goes on after its end", "it is damaged; get it again")


def _read_header(stream: IO[bytes], size: int) -> tuple[_Header, int]:
    """Read the header and how many bytes it takes up."""
    start = _read_exactly(stream, len(_MAGIC) + 2)
    version = (start[-2], start[-1])
    if not start.startswith(_MAGIC) or version not in {(1, 0), (2, 0), (3, 0)}:
        raise _Problem("is not an array of NPY format 1, 2 or 3")
    width = 2 if version == (1, 0) else 4
    length = int.from_bytes(_read_exactly(stream, width), "little")
    used = len(start) + width + length
    if length > MAX_HEADER_BYTES or used > size:
        raise _Problem(f"announces a header of {length:,} bytes", "it is damaged; get it again")
    return _parse_header(_read_exactly(stream, length).decode("latin-1")), used


def _parse_header(text: str) -> _Header:
    body = text.strip()
    if not (body.startswith("{") and body.endswith("}")):
        raise _Problem("has a damaged header", "get it again")
    items: dict[str, re.Match[str]] = {}
    at, end = 1, len(body) - 1
    while at < end and (item := _HEADER_ITEM.match(body, at)):
        items[item["key"]] = item
        at = item.end()
    descr = items["descr"]["text"] if "descr" in items else None
    if descr is not None and descr not in _FLOATS:
        if "O" in descr:
            raise _Problem("holds Python objects, which can run code and are never opened", _OBJECTS_CURE)
        raise _Problem(f"holds elements of type {descr!r}")
    if "descr" not in items and re.search(r"""['"]descr['"]\s*:\s*\[""", body):
        raise _Problem("holds records")
    flag = items["fortran_order"]["flag"] if "fortran_order" in items else None
    sizes = items["shape"]["sizes"] if "shape" in items else None
    if at != end or descr is None or flag is None or sizes is None:
        raise _Problem("has a damaged header", "get it again")
    words = [word.strip().removesuffix("L") for word in sizes.split(",") if word.strip()]
    if not all(word.isdigit() and len(word) <= 18 for word in words):
        raise _Problem("has a damaged header", "get it again")
    return _Header(np.dtype(descr), flag == "True", tuple(map(int, words)))


def _read_exactly(stream: IO[bytes], length: int) -> bytes:
    found = stream.read(length)
    if len(found) != length:
        raise _Problem("is cut off in its header", "get it again")
    return found


def _read_archive(stream: IO[bytes], size: int, feature_dim: int | None) -> NDArray[np.floating]:
    _check_directory(stream, size)
    try:
        with zipfile.ZipFile(stream) as archive:
            return _read_member(archive, _choose(archive, feature_dim))
    except _ARCHIVE_ERRORS as error:
        raise _Problem(f"is a damaged archive ({error})", "get it again") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # zipfile sought to where the archive told it
            raise
        raise _Problem("is a damaged archive", "get it again") from None


def _check_directory(stream: IO[bytes], size: int) -> None:
    """Bound the directory before `zipfile` reads it into memory.

    The end record must be the last bytes of the file, without a comment: `zipfile` then takes the same one.
    """
    tail = size - _ZIP_END_BYTES - _ZIP64_LOCATOR_BYTES
    stream.seek(max(0, tail))
    end = stream.read()
    locator, record = end[:-_ZIP_END_BYTES], end[-_ZIP_END_BYTES:]
    if not (record.startswith(_ZIP_END) and record.endswith(b"\0\0")) or locator.startswith(_ZIP64_LOCATOR):
        raise _Problem("is an archive without a plain end: cut off, or not written by numpy")
    members, directory = int.from_bytes(record[10:12], "little"), int.from_bytes(record[12:16], "little")
    if members > MAX_MEMBERS or directory > MAX_MEMBERS * MAX_HEADER_BYTES:
        raise _Problem(f"is an archive of {members:,} arrays", f"keep one array, at most {MAX_MEMBERS}")
    stream.seek(0)


def _choose(archive: zipfile.ZipFile, feature_dim: int | None) -> zipfile.ZipInfo:
    """Choose the array named `features`, or the first of the usual names, or the only one of the width."""
    members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
    if any(member.compress_type not in _PACKINGS for member in members):
        raise _Problem("is packed in a way that numpy does not use", "save it with numpy.savez")
    by_name = {member.filename.removesuffix(".npy"): member for member in members}
    if len(by_name) < len(members):
        raise _Problem(f"names {len(members)} arrays and uses a name twice", "save it with numpy.savez")
    if "features" in by_name or len(by_name) == 1:
        return by_name.get("features", members[0])
    shapes = {name: _shape(archive, member) for name, member in by_name.items()}
    tables = [name for name, shape in shapes.items() if len(shape) == 2]
    fitting = [name for name in tables if feature_dim is None or shapes[name][1] == feature_dim]
    usual = sorted((name for name in tables if name in USUAL_NAMES), key=USUAL_NAMES.index)
    best = [name for name in usual if name in fitting] or fitting
    if not best:  # the error about its width says more than one about names
        best = usual or (tables if len(tables) == 1 else [])
    chosen = best[:1] if best and best[0] in USUAL_NAMES else best
    if len(chosen) != 1 or chosen[0] in _OTHER_NAMES:
        shown = ", ".join(repr(name[:30]) for name in [*by_name][:5]) or "none"
        can = "the features" if feature_dim is None else f"[snippets, {feature_dim}]"
        raise _Problem(
            f"holds {len(members)} arrays ({shown}), {len(fitting)} of which can be {can}",
            "save one file a video, and name its array 'features'",
        )
    return by_name[chosen[0]]


def _shape(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[int, ...]:
    """Return the shape of an array; that of a single value if it does not hold floats."""
    try:
        with archive.open(member) as stream:
            return _read_header(stream, member.file_size)[0].shape
    except _Problem:
        return ()


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[np.floating]:
    packed = member.compress_type != zipfile.ZIP_STORED
    if packed and member.file_size > max(BLOCK_BYTES, MAX_UNPACKING * member.compress_size):
        raise _Problem(
            f"unpacks {member.compress_size:,} bytes to {member.file_size:,}",
            "save it with numpy.savez, not compressed",
        )
    with archive.open(member) as stream:
        return _read_array(stream, member.file_size)
