"""Ways to spoil a file: of any form, of JSON, and headers of npy."""

from __future__ import annotations

import copy
import gzip
import io
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.campaign.cases import Expect

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random


def _zip(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../outside", content)
    return stream.getvalue()


def _flip(content: bytes, rng: Random, count: int) -> bytes:
    found = bytearray(content)
    for _ in range(count):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def _splice(content: bytes, rng: Random, piece: bytes) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + piece + content[at:]


def _overwrite(content: bytes, rng: Random, piece: bytes) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + piece + content[at + len(piece) :]


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
HTML = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>\x1b[2J</body></html>\n"

BYTES: dict[str, tuple[Callable[[bytes, Random], bytes], Expect]] = {
    "empty": (lambda c, r: b"", Expect.REFUSED),
    "one byte": (lambda c, r: c[:1], Expect.ANY),
    "cut anywhere": (lambda c, r: c[: r.randrange(len(c))], Expect.ANY),
    "cut near the start": (lambda c, r: c[: r.randrange(min(64, len(c)))], Expect.ANY),
    "cut at the end": (lambda c, r: c[: -r.randrange(1, min(16, len(c)))], Expect.ANY),
    "a bit flipped": (lambda c, r: _flip(c, r, 1), Expect.ANY),
    "a bit of the head flipped": (lambda c, r: _flip(c[:96], r, 1) + c[96:], Expect.ANY),
    "many bits flipped": (lambda c, r: _flip(c, r, 40), Expect.ANY),
    "a byte put in": (lambda c, r: _splice(c, r, bytes([r.randrange(256)])), Expect.ANY),
    "zeros put in": (lambda c, r: _splice(c, r, bytes(r.randrange(1, 400))), Expect.ANY),
    "random bytes put in": (lambda c, r: _splice(c, r, r.randbytes(200)), Expect.ANY),
    "escapes put in": (lambda c, r: _splice(c, r, b"\x1b[2J\x07\x9b\x7f\r"), Expect.ANY),
    "high bits over it": (lambda c, r: _overwrite(c, r, b"\xff" * 9), Expect.ANY),
    "zeros over it": (lambda c, r: _overwrite(c, r, bytes(r.randrange(1, 64))), Expect.ANY),
    "largest length over it": (lambda c, r: _overwrite(c, r, b"\xff\xff\xff\xff\xff\xff\xff\x7f"), Expect.ANY),
    "a piece repeated": (lambda c, r: _splice(c, r, c[: r.randrange(1, len(c))]), Expect.ANY),
    "halves swapped": (lambda c, r: c[len(c) // 2 :] + c[: len(c) // 2], Expect.ANY),
    "reversed": (lambda c, r: c[::-1], Expect.ANY),
    "twice": (lambda c, r: c + c, Expect.ANY),
    "garbage behind": (lambda c, r: c + r.randbytes(300), Expect.ANY),
    "garbage before": (lambda c, r: r.randbytes(300) + c, Expect.ANY),
    "zeros alone": (lambda c, r: bytes(len(c)), Expect.REFUSED),
    "ones alone": (lambda c, r: b"\xff" * len(c), Expect.REFUSED),
    "random bytes alone": (lambda c, r: r.randbytes(len(c)), Expect.REFUSED),
    "HTML": (lambda c, r: HTML, Expect.REFUSED),
    "an LFS pointer": (lambda c, r: LFS, Expect.REFUSED),
    "gzip": (lambda c, r: gzip.compress(c), Expect.REFUSED),
    "zip": (lambda c, _r: _zip(c), Expect.REFUSED),
    "a BOM before": (lambda c, r: b"\xef\xbb\xbf" + c, Expect.ANY),
    "UTF-16": (lambda c, r: c.decode("latin-1").encode("utf-16"), Expect.REFUSED),
}
"""Contents made of a good file's."""


def _sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(3 << 30)


PLACES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a FIFO": os.mkfifo,
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "three gigabytes of nothing": _sparse,
}
"""Things in the place of a file; all must be refused."""

VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "minus one": -1,
    "zero": 0,
    "a huge float": 1e308,
    "a tiny float": 5e-324,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "an integer of 400 digits": 10**400,
    "empty text": "",
    "NUL": "\0",
    "terminal escapes": "\x1b[31mred\x07\x9b2J\r",
    "half a character": "\ud800",
    "right-to-left marks": "\u202egnp.exe",
    "a path": "../../../etc/passwd",
    "a formula": '=HYPERLINK("http://x","y")',
    "a million letters": "x" * 1_000_000,
    "text for a number": "12.5",
    "an empty list": [],
    "an empty object": {},
    "a list of lists": [[[[[]]]], [[1, [2]]]],
    "markup": "[bold red]x[/nothing]",
}
"""Values put in the place of one of a JSON document."""


def with_value(document: Any, rng: Random, value: Any) -> bytes:
    """Put a value in a random place of a document."""
    found = copy.deepcopy(document)
    holder, key = _place(found, rng)
    holder[key] = value
    return json.dumps(found).encode()


def without_value(document: Any, rng: Random) -> bytes:
    """Leave a random value out."""
    found = copy.deepcopy(document)
    holder, key = _place(found, rng)
    del holder[key]
    return json.dumps(found).encode()


def with_key(document: Any, rng: Random, key: str) -> bytes:
    """Rename a random key."""
    found = copy.deepcopy(document)
    while True:
        holder, old = _place(found, rng)
        if isinstance(holder, dict):
            holder[key] = holder.pop(old)
            return json.dumps(found).encode()


def twice_a_key(document: Any, rng: Random) -> bytes:
    """Repeat a key of the outermost object."""
    text = json.dumps(document)
    first = json.dumps(rng.choice(sorted(document)))
    return (text[0] + f"{first}: 1, " + text[1:]).encode()


def nested(depth: int, rng: Random) -> bytes:
    """Lists in lists in lists."""
    opening, closing = rng.choice([("[", "]"), ('{"a":', "}")])
    return (opening * depth + "1" + closing * depth).encode()


def _place(document: Any, rng: Random) -> tuple[Any, Any]:
    """Choose a place by a random walk."""
    holder = document
    while True:
        key = rng.choice(sorted(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
        inner = holder[key]
        if isinstance(inner, (dict, list)) and inner and rng.random() < 0.8:
            holder = inner
            continue
        return holder, key


def npy(header: str | bytes, content: bytes = bytes(256), version: tuple[int, int] = (1, 0)) -> bytes:
    """Make an npy file of a header."""
    text = header if isinstance(header, bytes) else header.encode("latin-1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    size = len(text).to_bytes(2 if version[0] == 1 else 4, "little", signed=False)
    return b"\x93NUMPY" + bytes(version) + size + text + content


def _header(descr: str = "'<f4'", fortran: str = "False", shape: str = "(8, 8)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"


NPY: dict[str, tuple[bytes, Expect]] = {
    **{
        f"dtype {descr}": (npy(_header(descr)), Expect.REFUSED)
        for descr in (
            "'|O'",
            "'|S4'",
            "'<U4'",
            "'|V4'",
            "'<c8'",
            "'<M8[s]'",
            "'|b1'",
            "'x'",
            "''",
            "3",
            "None",
            "'<f99'",
        )
    },
    **{
        f"shape {shape}": (npy(_header(shape=shape)), Expect.REFUSED)
        for shape in (
            "(-1, 8)",
            "(0, 8)",
            "(8, 0)",
            "()",
            "(64,)",
            "(8, 4, 2)",
            "(8.0, 8)",
            "('8', 8)",
            "(True, 64)",
            "(2**62, 4)",
            "(4611686018427387904, 4)",
            "(100000, 100000)",
            "8",
            "None",
            "[8, 8]",
            f"({'1, ' * 40}64)",
        )
    },
    "an expression": (npy("__import__('os').system('touch outside')"), Expect.REFUSED),
    "a header of a list": (npy("[1, 2]"), Expect.REFUSED),
    "a key too many": (npy(_header()[:-1] + "'more': 1}"), Expect.REFUSED),
    "a key missing": (npy("{'descr': '<f4', 'shape': (8, 8)}"), Expect.REFUSED),
    "a deep header": (npy("(" * 20000, version=(2, 0)), Expect.REFUSED),
    "a long header": (npy(_header() + " " * 200000, version=(2, 0)), Expect.ANY),
    "version 9": (npy(_header(), version=(9, 9)), Expect.REFUSED),
    "not text": (npy(b"\xff\xfe\x00"), Expect.REFUSED),
    "too little content": (npy(_header(), bytes(100)), Expect.REFUSED),
    "NaN rows": (npy(_header(), b"\xff\xff\xff\x7f" * 64), Expect.REFUSED),
    "infinite rows": (npy(_header(), b"\x00\x00\x80\x7f" * 64), Expect.REFUSED),
}
"""Files of features with odd headers."""


def archive(members: dict[str, bytes]) -> bytes:
    """Make a zip of members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return stream.getvalue()


GOOD_NPY = npy(_header())
NPZ: dict[str, tuple[bytes, Expect]] = {
    "no member": (archive({}), Expect.REFUSED),
    "two arrays alike": (archive({"a.npy": GOOD_NPY, "b.npy": GOOD_NPY}), Expect.REFUSED),
    "a bomb": (archive({"features.npy": npy(_header(shape="(16777216, 8)"), bytes(512 << 20))}), Expect.REFUSED),
    "a pickle inside": (archive({"features.npy": npy(_header("'|O'"), b"cos\nsystem\n(S'true'\ntR.")}), Expect.REFUSED),
    "a member that is no array": (archive({"features.npy": b"text"}), Expect.REFUSED),
    "a path outside": (archive({"../../features.npy": GOOD_NPY}), Expect.ANY),
    "escapes in a name": (archive({"\x1b[2J.npy": b"text"}), Expect.REFUSED),
    "many members": (archive({f"{i}.npy": GOOD_NPY for i in range(3000)}), Expect.REFUSED),
}
"""Archives of features."""
