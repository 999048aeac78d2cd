"""Kinds of files, recognised by how they begin, for errors that say what a file is and the line that converts it.

It decides nothing: readers check for themselves, and ask here when a file is not what they read. The lines to
copy never hold a file's name, which a stranger may have chosen.
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from operator import methodcaller
from typing import TYPE_CHECKING, Final

from stale_edge_runtime.errors import BadDataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

HEAD_BYTES: Final = 4096
"""Bytes of the beginning that tell the kind."""

LFS_POINTER: Final = b"version https://git-lfs"


class Wanted(StrEnum):
    """File that a reader expects."""

    FEATURES = "features"
    HDF5 = "an HDF5 file"
    JSON = "JSON"
    ONNX = "an ONNX file"
    CHECKPOINT = "a checkpoint of stale-edge"
    PUBLISHED = "a published checkpoint"
    TEXT = "a text file"
    VIDEO = "a video"


@dataclass(frozen=True)
class FileKind:
    """A kind of file and how to get from it to what a reader expects."""

    name: str
    """Words that follow `is`."""
    cures: Mapping[Wanted, str] = field(default_factory=dict)
    """Line that converts it, by what is wanted."""
    cure: str = ""
    """Cure whatever is wanted."""


def _saving(expression: str) -> str:
    return f"convert it: numpy.save('NAME.npy', {expression})"


_LOAD_TORCH: Final = "torch.load('NAME.pt', weights_only=True).float().numpy()"
_LOAD_CSV: Final = "numpy.loadtxt('NAME.csv', delimiter=',', skiprows=1).astype('float32')"
_TO_JSON: Final = 'write it as {"results": {id: [{"label", "score", "segment": [start, end]}]}} or {"database": …}'
_CONVERT: Final = "convert it with `stale-edge convert`"
_MAKE: Final = "make features of it with `stale-edge features`"

GIT_LFS: Final = FileKind("a Git LFS pointer, not the file that it stands for", cure="run `git lfs pull`")
GIT_ANNEX: Final = FileKind("a git-annex pointer, not the file that it stands for", cure="run `git annex get`")
PYTORCH: Final = FileKind(
    "a PyTorch file",
    {
        Wanted.FEATURES: _saving(_LOAD_TORCH),
        Wanted.ONNX: f"{_CONVERT} and `stale-edge export`",
        Wanted.CHECKPOINT: _CONVERT,
    },
)
PICKLE: Final = FileKind(
    "a Python pickle, which can run code and is never opened",
    {
        Wanted.FEATURES: "if it is yours, " + _saving("numpy.asarray(pickle.load(open('NAME.pkl', 'rb')), 'float32')"),
        Wanted.JSON: f"if it is yours, {_TO_JSON}",
        Wanted.PUBLISHED: "if it is yours, save it with torch.save",
    },
)
HDF5: Final = FileKind("HDF5", {Wanted.FEATURES: "name it .h5 or .hdf5, as it is read by name"})
NUMPY: Final = FileKind("a numpy array")
ZIP: Final = FileKind("a ZIP archive", {Wanted.FEATURES: "unpack it and name what was inside"})
SAFETENSORS: Final = FileKind(
    "a safetensors file",
    {
        Wanted.FEATURES: _saving("safetensors.numpy.load_file('NAME.safetensors')['KEY']"),
        Wanted.ONNX: "it is a checkpoint: export it first, with `stale-edge export`",
    },
)
JSON: Final = FileKind("JSON", {Wanted.FEATURES: _saving("numpy.float32(json.load(open('NAME')))")})
JSON_LINES: Final = FileKind("JSON lines, one object a line", {Wanted.JSON: _TO_JSON})
CSV: Final = FileKind("a table (CSV)", {Wanted.FEATURES: _saving(_LOAD_CSV), Wanted.JSON: _TO_JSON})
WEB_PAGE: Final = FileKind("a web page (HTML or XML)", cure="download the file itself; the link led to a page")
MATLAB: Final = FileKind("a MATLAB file", {Wanted.FEATURES: _saving("scipy.io.loadmat('NAME.mat')['KEY']")})
VIDEO: Final = FileKind("a video", {Wanted.FEATURES: _MAKE})
IMAGE: Final = FileKind("an image", {Wanted.FEATURES: _MAKE})
PACKED: Final = FileKind("packed", cure="unpack it first")

_ZIP_START: Final = b"PK\x03\x04"
_BY_START: Final = (
    (LFS_POINTER, GIT_LFS),
    (b"/annex/objects/", GIT_ANNEX),
    (b"\x93NUMPY", NUMPY),
    (b"\x89HDF\r\n\x1a\n", HDF5),
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19", PYTORCH),  # before PyTorch 1.6
    (b"\x1f\x8b", PACKED),
    (b"BZh", PACKED),
    (b"\xfd7zXZ\x00", PACKED),
    (b"\x28\xb5\x2f\xfd", PACKED),
    (b"7z\xbc\xaf\x27\x1c", PACKED),
    (b"Rar!", PACKED),
    (b"MATLAB ", MATLAB),
    (b"\x1aE\xdf\xa3", VIDEO),
    (b"RIFF", VIDEO),
    (b"\x89PNG", IMAGE),
    (b"\xff\xd8\xff", IMAGE),
)
_TORCH_MEMBER: Final = re.compile(rb"[^/]{1,200}/(?:data\.pkl|byteorder|\.format_version|\.data/)")
_RULES: Final[tuple[tuple[Callable[[bytes], object], FileKind], ...]] = (
    *((methodcaller("startswith", start), kind) for start, kind in _BY_START),
    (lambda head: head.startswith(_ZIP_START) and _TORCH_MEMBER.match(head, 30), PYTORCH),
    (methodcaller("startswith", _ZIP_START), ZIP),
    (re.compile(rb"\x80[\x02-\x05]").match, PICKLE),
    (lambda head: head[4:8] == b"ftyp", VIDEO),
    (lambda head: head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 1 << 32, SAFETENSORS),
    (lambda head: head[257:262] == b"ustar", PACKED),
)
"""Kinds by what tells them, the most telling first."""
_SEPARATORS: Final = (",", ";", "\t")


def file_kind(head: bytes) -> FileKind | None:
    """Recognise a file by its first bytes; None for what is not known.

    Args:
        head: The first `HEAD_BYTES` bytes, or all of a shorter file.
    """
    known = (kind for matches, kind in _RULES if matches(head))
    return next(known, None) or _text_kind(head)


def _text_kind(head: bytes) -> FileKind | None:
    try:
        text = head.decode("utf-8-sig", errors="strict" if len(head) < HEAD_BYTES else "ignore")
    except UnicodeDecodeError:
        return None
    if "\0" in text or not text.strip():
        return None
    lines = [line for line in text.splitlines() if line.strip()]
    if lines[0].lstrip().startswith("<"):
        return WEB_PAGE
    if lines[0].lstrip()[0] in "{[":
        return JSON_LINES if len(lines) > 1 and _is_json(lines[0]) else JSON
    whole = lines[:-1] if len(head) >= HEAD_BYTES and len(lines) > 1 else lines
    return CSV if any(_is_table(whole, separator) for separator in _SEPARATORS) else None


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _is_table(lines: list[str], separator: str) -> bool:
    try:
        widths = {len(row) for row in csv.reader(lines[:20], delimiter=separator)}
    except csv.Error:
        return False
    return len(widths) == 1 and widths.pop() > 1


_EXPECTED: Final = {
    Wanted.FEATURES: (NUMPY.name, ZIP.name),
    Wanted.HDF5: (HDF5.name,),
    Wanted.JSON: (JSON.name,),
    Wanted.CHECKPOINT: (SAFETENSORS.name,),
    Wanted.PUBLISHED: (PYTORCH.name, ZIP.name),
    Wanted.VIDEO: (VIDEO.name, IMAGE.name),
    Wanted.TEXT: (CSV.name, JSON.name, JSON_LINES.name, WEB_PAGE.name),
}
"""Kinds that a reader opens itself, and whose damage it describes better."""


def misplaced(path: Path | str, head: bytes, wanted: Wanted) -> BadDataError | None:
    """Give the error for a file that is recognised as something else than what is wanted; None where it is not.

    Args:
        path: The file, for the message.
        head: First `HEAD_BYTES` bytes of the file.
        wanted: File that the reader expects.
    """
    kind = file_kind(head)
    if kind is None or kind.name in _EXPECTED.get(wanted, ()):
        return None
    cure = kind.cure or kind.cures.get(wanted) or f"name {wanted}"
    return BadDataError(path, f"is {kind.name}", cure)


def read_head(path: Path) -> bytes:
    """Read the beginning of a file; empty where it cannot be read, or is no regular file: a FIFO would block."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError:
        return b""
