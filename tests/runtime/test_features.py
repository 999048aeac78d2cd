"""Feature files: what is read, and what is refused."""

from __future__ import annotations

import io
import os
import random
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_edge_runtime.errors import EXIT_BAD_DATA, EXIT_INPUT_MISSING, BadDataError, InputMissingError
from stale_edge_runtime.formats import features as features_module
from stale_edge_runtime.formats.features import MAX_BYTES, check_features, read_features

DIM = 8


def npy(array: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


def npy_with_header(
    text: str, data: bytes = b"", version: tuple[int, int] = (1, 0), length: int | None = None
) -> bytes:
    header = text.encode("latin-1")
    size = len(header) if length is None else length
    return b"\x93NUMPY" + bytes(version) + size.to_bytes(2 if version == (1, 0) else 4, "little") + header + data


def header(shape: str = "(3, 8)", descr: str = "'<f4'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def npz(members: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def rows(count: int = 3, dtype: str = "<f4") -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, DIM)).astype(dtype)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("count", [1, 2, 101, 4097])
def test_every_float_type_and_order_is_read_exactly(tmp_path, dtype, order, count):
    array = np.asarray(rows(count, dtype), order=order)
    np.save(tmp_path / "a.npy", array)
    found = read_features(tmp_path / "a.npy", DIM)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, array.astype(np.float32))


@given(
    count=st.integers(1, 40),
    width=st.integers(1, 12),
    dtype=st.sampled_from(["<f2", "<f4", ">f8"]),
    version=st.sampled_from([(1, 0), (2, 0), (3, 0)]),
    packed=st.booleans(),
)
@settings(max_examples=60)
def test_what_numpy_writes_is_read(tmp_path_factory, count, width, dtype, version, packed):
    array = np.arange(count * width).reshape(count, width).astype(dtype)
    folder = tmp_path_factory.mktemp("features")
    content = npy(array, version=version)
    (folder / "a.npy").write_bytes(content)
    (folder / "a.npz").write_bytes(npz({"x.npy": content}, zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED))
    for name in ("a.npy", "a.npz"):
        np.testing.assert_array_equal(read_features(folder / name, width), array.astype(np.float32))


def test_result_is_a_copy_of_its_own(tmp_path):
    np.save(tmp_path / "a.npy", rows())
    found = read_features(tmp_path / "a.npy", DIM)
    found[:] = 0
    np.testing.assert_array_equal(read_features(tmp_path / "a.npy", DIM), rows())


def test_archive_with_one_array_of_two_axes_or_one_named_features(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, anything=rows(5), times=np.arange(5.0), names=np.array(["a"]))
    np.testing.assert_array_equal(read_features(path, DIM), rows(5))
    np.savez_compressed(path, features=rows(4), other=rows(5))
    np.testing.assert_array_equal(read_features(path, DIM), rows(4))


def test_the_name_of_the_file_does_not_count(tmp_path):
    (tmp_path / "a.npy").write_bytes(npz({"a.npy": npy(rows())}))
    np.testing.assert_array_equal(read_features(tmp_path / "a.npy", DIM), rows())


def test_other_writers_orders_and_spaces_are_read(tmp_path):
    text = "{'shape': (3, 8), 'fortran_order': False, 'descr': '<f4'}          \n"
    (tmp_path / "a.npy").write_bytes(npy_with_header(text, rows().tobytes()))
    np.testing.assert_array_equal(read_features(tmp_path / "a.npy", DIM), rows())


def test_real_clip_features(shared):
    found = read_features(shared / "data" / "features" / "clip_vitb32_15snippets.npz", 512)
    assert found.shape == (15, 512)
    assert 10 < np.linalg.norm(found, axis=1).mean() < 12


def one_bad(value: float, count: int = 5, at: int = 3) -> np.ndarray:
    array = rows(count, "<f8")
    array[at, 2] = value
    return array


def spoiled_crc() -> bytes:
    content = bytearray(npz({"a.npy": npy(rows())}))
    content[content.index(b"\x93NUMPY") + 140] ^= 1
    return bytes(content)


def lying_size(size: int) -> bytes:
    """An archive whose directory announces another size than the array has."""
    content = bytearray(npz({"a.npy": npy(rows())}, zipfile.ZIP_DEFLATED))
    entry = content.index(b"PK\x01\x02")
    struct.pack_into("<I", content, entry + 24, size)
    return bytes(content)


def encrypted() -> bytes:
    content = bytearray(npz({"a.npy": npy(rows())}))
    for start in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        content[start] |= 1
    return bytes(content)


def bomb(packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Zeros that pack a thousandfold: 16 MiB in 16 kB."""
    count = (16 << 20) // (4 * DIM)
    return npz({"a.npy": npy_with_header(header(f"({count}, {DIM})"), bytes(16 << 20))}, packing)


def many_members(count: int) -> bytes:
    return npz({f"{index}.npy": b"" for index in range(count)})


def directory_elsewhere() -> bytes:
    content = bytearray(npz({"a.npy": npy(rows())}))
    struct.pack_into("<I", content, len(content) - 6, 0xFFFF_FFF0)
    return bytes(content)


HUGE = header(f"({2**33}, 1)")

REFUSED = {
    "empty file": (b"", "is empty"),
    "text": (b"0.1 0.2 0.3\n" * 40, "neither .npy nor .npz"),
    "pickle": (b"\x80\x04\x95\x10\x00", "is a Python pickle.*numpy.save"),
    "magic only": (b"\x93NUMPY", "cut off in its header"),
    "magic and version": (b"\x93NUMPY\x01\x00", "cut off in its header"),
    "format 9": (npy_with_header(header(), rows().tobytes(), (9, 0)), "NPY format"),
    "80 bytes that ask for 32 GiB": (npy_with_header(HUGE)[:80].ljust(80), "holds"),
    "80 bytes that ask for 32 GiB, format 2": (npy_with_header(HUGE, version=(2, 0)), "announces 8589934592 x 1"),
    "shape beyond 64 bits": (npy_with_header(header(f"({10**17}, {10**17}, {10**17})")), "announces"),
    "shape of a thousand digits": (npy_with_header(header("(" + "9" * 190 + ",)")), "damaged header"),
    "shape of three thousand digits": (npy_with_header(header("(" + "9" * 3000 + ",)")), "damaged header"),
    "negative shape": (npy_with_header(header("(-1, 8)")), "damaged header"),
    "shape with letters": (npy_with_header(header("(3, n)")), "damaged header"),
    "header of 4 GiB": (npy_with_header(header(), version=(2, 0), length=2**32 - 1), "announces a header of"),
    "header longer than the file": (npy_with_header(header(), length=4000), "announces a header of"),
    "header of nested brackets": (npy_with_header("(" * 4000), "damaged header"),
    "header of minus signs": (npy_with_header("{" + "-" * 4000 + "1}"), "damaged header"),
    "header that calls": (npy_with_header("{'descr': __import__('os').system('true')}"), "damaged header"),
    "header without shape": (npy_with_header("{'descr': '<f4', 'fortran_order': False, }"), "damaged header"),
    "header with one more key": (npy_with_header(header()[:-3] + " 'x': (1,), }\n"), "damaged header"),
    "header not ASCII": (npy_with_header("\xff" * 100), "damaged header"),
    "Python objects": (npy(np.array([[object()]]), allow_pickle=True), "holds Python objects"),
    "Python objects, announced only": (npy_with_header(header(descr="'|O'")), "holds Python objects"),
    "records": (npy(np.zeros(3, [("a", "<f4")])), "holds records"),
    "integers": (npy(np.zeros((3, DIM), np.int64)), "elements of type '<i8'"),
    "complex numbers": (npy(np.zeros((3, DIM), np.complex64)), "elements of type '<c8'"),
    "long doubles": (npy(np.zeros((3, DIM), np.longdouble)), "elements of type '<f16'"),
    "strings": (npy(np.array([["a"]])), "elements of type '<U1'"),
    "one axis": (npy(np.zeros(DIM, "<f4")), r"1 axes \[8\]"),
    "no axis": (npy(np.float32(1).reshape(())), "0 axes"),
    "three axes": (npy(np.zeros((1, 3, DIM), "<f4")), r"3 axes \[1, 3, 8\]"),
    "forty axes": (npy_with_header(header("(" + "1, " * 40 + ")"), b"\0" * 4), "40 axes"),
    "another width": (npy(np.zeros((3, 9), "<f4")), r"is \[3, 9\], not \[snippets, 8\]"),
    "published layout": (npy(np.zeros((DIM, 9), "<f4")), r"published layout.*array\.T"),
    "no snippets": (npy(np.zeros((0, DIM), "<f4")), "holds no snippets"),
    "no width": (npy(np.zeros((3, 0), "<f4")), "not .snippets, 8"),
    "one byte short": (npy(rows())[:-1], "announces 3 x 8 .96 bytes. and holds 95"),
    "one byte long": (npy(rows()) + b"\0", "announces 3 x 8 .96 bytes. and holds 97"),
    "two arrays in one file": (npy(rows()) * 2, "announces 3 x 8"),
    "NaN": (npy(one_bad(np.nan)), "1 snippet holds NaN or infinity, the first is snippet 3"),
    "infinity": (npy(one_bad(-np.inf, 9, 0)), "1 snippet holds NaN or infinity, the first is snippet 0"),
    "NaN after a block": (npy(one_bad(np.nan, 5000, 4500)), "the first is snippet 4500"),
    "NaN in half precision": (npy(np.full((2, DIM), np.nan, "<f2")), "2 of 2 snippets hold NaN"),
    "beyond float32": (npy(one_bad(1e300)), "1 snippet holds values beyond float32, the first is snippet 3"),
    "archive: nothing in it": (npz({}), "neither .npy nor .npz"),
    "archive: no array": (npz({"readme.txt": b"hello"}), "holds 0 arrays"),
    "archive: two candidates": (
        npz({"a.npy": npy(rows()), "b.npy": npy(rows())}),
        "'a', 'b'.*2 of which can be.*name its array 'features'",
    ),
    "archive: two named features": (b"", ""),
    "archive: only one axis": (npz({"a.npy": npy(np.zeros(3))}), "1 axes"),
    "archive: Python objects": (npz({"a.npy": npy(np.array([None]), allow_pickle=True)}), "holds Python objects"),
    "archive: damaged array": (npz({"features.npy": b"\x93NUMPY\x01"}), "cut off in its header"),
    "archive: array not an array": (npz({"features.npy": b"hello, this is text"}), "NPY format"),
    "archive: short array": (npz({"a.npy": npy(rows())[:-4]}), "announces 3 x 8"),
    "archive: 32 GiB announced": (npz({"a.npy": npy_with_header(HUGE)}), "announces 8589934592 x 1"),
    "archive: wrong checksum": (spoiled_crc(), "damaged archive"),
    "archive: size too small": (lying_size(50), "announces|damaged"),
    "archive: size too large": (lying_size(2**31), "unpacks"),
    "archive: encrypted": (encrypted(), "damaged archive.*password"),
    "archive: zip bomb": (bomb(), "unpacks .* to 16,7"),
    "archive: bzip2": (npz({"a.npy": npy(rows())}, zipfile.ZIP_BZIP2), "packed in a way that numpy does not use"),
    "archive: lzma": (npz({"a.npy": npy(rows())}, zipfile.ZIP_LZMA), "packed in a way that numpy does not use"),
    "archive: thousands of members": (many_members(5000), "archive of 5,000 arrays"),
    "archive: a comment": (npz({"a.npy": npy(rows())})[:-2] + b"\x05\0hello", "without a plain end"),
    "archive: directory elsewhere": (directory_elsewhere(), "damaged archive"),
    "archive: no directory": (npz({"a.npy": npy(rows())})[:200], "without a plain end"),
    "archive: absolute path in it": (npz({"/etc/stale.npy": npy(np.zeros(3))}), "1 axes"),
    "archive: path out of the folder": (npz({"../../stale.npy": npy(np.zeros((3, 9), "<f4"))}), "not .snippets"),
    "archive: control characters": (npz({"\x1b[31m.npy": b"", "b.npy": b""}), "holds 2 arrays"),
}


def two_named_features() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("features.npy", npy(rows()))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("features.npy", npy(rows(4)))
    return stream.getvalue()


@pytest.mark.parametrize("kind", REFUSED)
def test_hostile_files_are_refused_in_one_line(tmp_path, monkeypatch, kind):
    content, message = REFUSED[kind]
    if kind == "archive: two named features":
        content, message = two_named_features(), "uses a name twice"
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = folder / "video.npz"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(BadDataError, match=message) as caught:
            read_features(path, DIM)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.isprintable()
    assert len(text) < len(str(path)) + 300
    assert caught.value.exit_code == EXIT_BAD_DATA
    assert sorted(tmp_path.rglob("*")) == [folder, path]


def test_files_that_are_none(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    cases = {
        tmp_path / "missing.npy": "no such file",
        tmp_path: "not a regular file",
        tmp_path / "pipe": "not a regular",
    }
    for path, message in cases.items():
        with pytest.raises(InputMissingError, match=message) as caught:
            read_features(path, DIM)
        assert caught.value.exit_code == EXIT_INPUT_MISSING


def test_too_large_array_is_refused_before_it_is_allocated(tmp_path):
    count = MAX_BYTES // (4 * DIM) + 1
    path = tmp_path / "large.npy"
    path.write_bytes(npy_with_header(header(f"({count}, {DIM})")))
    os.truncate(path, path.stat().st_size + count * 4 * DIM)  # a hole: takes no room on the disk
    tracemalloc.start()
    with pytest.raises(BadDataError, match=r"more than the .* allowed"):
        read_features(path, DIM)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["npy", "npz", "npz packed"])
def test_every_truncation_is_refused(tmp_path, kind):
    content = npy(rows())
    if kind != "npy":
        content = npz({"a.npy": content}, zipfile.ZIP_DEFLATED if "packed" in kind else zipfile.ZIP_STORED)
    path = tmp_path / "a"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(BadDataError):
            read_features(path, DIM)


@pytest.mark.parametrize("kind", ["npy", "npz", "npz packed"])
def test_damaged_bytes_give_an_error_or_an_array(tmp_path, kind):
    original = npy(rows())
    if kind != "npy":
        original = npz({"a.npy": original}, zipfile.ZIP_DEFLATED if "packed" in kind else zipfile.ZIP_STORED)
    path, refused = tmp_path / "a", 0
    for seed in range(300):
        rng = random.Random(seed)
        content = bytearray(original)
        for _ in range(rng.choice((1, 1, 3))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        try:
            found = read_features(path, DIM)
        except BadDataError:
            refused += 1
        else:
            assert found.shape[1] == DIM
            assert np.isfinite(found).all()
    assert refused > 50


def test_arrays_in_memory_are_checked_the_same_way():
    half = rows(3, "<f2")
    np.testing.assert_array_equal(check_features(half, DIM, subject="x"), half.astype(np.float32))
    single = rows()
    assert check_features(single, DIM, subject="x") is single
    with pytest.raises(BadDataError, match="holds int64, not floats"):
        check_features(np.zeros((3, DIM), np.int64), DIM, subject="x")
    with pytest.raises(BadDataError, match="holds no text rows"):
        check_features(np.zeros((0, DIM)), DIM, subject="x", row="text row")


def test_disk_errors_are_not_taken_for_damage(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", features=rows())

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(features_module, "_choose", fail)
    with pytest.raises(OSError, match="I/O error") as caught:
        read_features(tmp_path / "a.npz", DIM)
    assert caught.value.exit_code == 74


def test_bomb_really_packs():
    assert len(bomb()) < 100_000
    assert len(zlib.compress(bytes(1 << 20))) < 2000
