"""Files of other kinds are named for what they are, with the line that converts them."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_edge_runtime.corpus import find_videos
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.formats.class_list import read_class_list
from stale_edge_runtime.formats.features import read_features
from stale_edge_runtime.formats.file_kinds import HEAD_BYTES, file_kind
from stale_edge_runtime.formats.files import read_json
from stale_edge_runtime.model_file import read_model

if TYPE_CHECKING:
    from pathlib import Path

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 20125459\n"
WIDTH = 8


def torch_file() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("name/data.pkl", b"\x80\x02N.")
    return content.getvalue()


KINDS = {
    "pointer": (POINTER, "Git LFS pointer"),
    "torch": (torch_file(), "PyTorch file"),
    "old torch": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "PyTorch file"),
    "pickle": (pickle.dumps({"a": 1}), "Python pickle"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "safetensors": ((100).to_bytes(8, "little") + b'{"a": {}}', "safetensors"),
    "lines": (b'{"a": 1}\n{"a": 2}\n', "JSON lines"),
    "table": (b"video,start,end\na,1,2\nb,2,3\n", "table"),
    "tabs": (b"a\t1\t2\nb\t2\t3\n", "table"),
    "page": (b"<!DOCTYPE html><html>", "web page"),
    "gzip": (b"\x1f\x8b\x08" + bytes(20), "packed"),
    "tar": (b"name".ljust(257, b"\0") + b"ustar\0", "packed"),
    "matlab": (b"MATLAB 5.0 MAT-file, Platform", "MATLAB"),
    "video": (b"\0\0\0\x18ftypmp42", "video"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_features_of_another_kind_are_named(tmp_path: Path, kind: str) -> None:
    content, name = KINDS[kind]
    path = tmp_path / "video.npy"
    path.write_bytes(content)
    with pytest.raises(BadDataError, match=f"{name}.*; ") as caught:
        read_features(path, WIDTH)
    assert caught.value.cure


@pytest.mark.parametrize("kind", ["pointer", "pickle", "lines", "table", "page", "gzip"])
def test_json_of_another_kind_is_named(tmp_path: Path, kind: str) -> None:
    content, name = KINDS[kind]
    path = tmp_path / "gt.json"
    path.write_bytes(content)
    with pytest.raises(BadDataError, match=name):
        read_json(path)


@pytest.mark.parametrize("kind", ["pointer", "torch", "safetensors", "page"])
def test_models_of_another_kind_are_named(tmp_path: Path, kind: str) -> None:
    content, name = KINDS[kind]
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(BadDataError, match=name):
        read_model(path)


def test_a_pointer_is_no_list_of_classes(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(POINTER)
    with pytest.raises(BadDataError, match="git lfs pull"):
        read_class_list(path)


def test_damaged_files_of_the_right_kind_keep_their_own_message(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": ')
    with pytest.raises(BadDataError, match="is not JSON"):
        read_json(path)
    path.write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(BadDataError, match="cut off"):
        read_features(path, WIDTH)


def test_the_line_to_copy_never_holds_the_file_s_name(tmp_path: Path) -> None:
    path = tmp_path / "x');import os;('.npy"
    path.write_bytes(torch_file())
    with pytest.raises(BadDataError) as caught:
        read_features(path, WIDTH)
    assert "import os" not in caught.value.cure


def test_a_folder_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(torch_file())
    with pytest.raises(BadDataError, match=r"a\.pt: is a PyTorch file"):
        find_videos([str(tmp_path)])


@given(head=st.binary(max_size=HEAD_BYTES))
def test_any_bytes_can_be_asked_about(head: bytes) -> None:
    file_kind(head)


@given(text=st.text(max_size=200))
def test_any_text_can_be_asked_about(text: str) -> None:
    file_kind(text.encode(errors="surrogatepass"))


def test_files_of_companions_are_skipped_in_one_line(tmp_path: Path) -> None:
    for name in ("a_clip", "a_fps", "a_timestamps_ms", "b", "b_fps", "talk_at_60_fps"):
        np.save(tmp_path / f"{name}.npy", np.zeros(3))
    said: list[str] = []
    videos = find_videos([str(tmp_path)], note=said.append)
    assert [video.video_id for video in videos] == ["a_clip", "b", "talk_at_60_fps"]
    assert said == [f"{tmp_path}: 3 files that end in _fps and _timestamps_ms are no features and were skipped"]
    assert [video.video_id for video in find_videos([str(tmp_path / "a_fps.npy")])] == ["a_fps"]


FITS = np.arange(3 * WIDTH, dtype=np.float32).reshape(3, WIDTH)
ARCHIVES = {
    "usual name": {"feats": FITS, "n_probs": np.zeros((3, 5), np.float32)},
    "only one of the width": {"embedding": FITS, "times": np.zeros((3, 2), np.float32), "fps": np.float32(2)},
    "texts beside": {"clip": FITS, "name": np.array("talk"), "count": np.array([3])},
    "first usual name": {"arr_0": -FITS, "features": FITS},
    "one array": {"anything": FITS},
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_the_array_that_can_be_the_features_is_taken(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **ARCHIVES[kind])  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_features(path, WIDTH), FITS)


@pytest.mark.parametrize(
    "arrays",
    [
        {"a": FITS, "b": FITS},
        {"last_hidden_state": FITS, "pooler_output": FITS[0]},
        {"a": FITS[:, :3], "b": FITS[:, :4]},
    ],
)
def test_where_several_or_none_fit_they_are_listed(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(BadDataError, match=r"holds 2 arrays .* can be \[snippets, 8\]; save one file a video"):
        read_features(path, WIDTH)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 8), }",
        "{'descr':'<f4','fortran_order':False,'shape':(3,8)}",
        '{"descr": "<f4", "fortran_order": False, "shape": (3, 8), }',
        "{ 'shape' : (3L, 8L) , 'fortran_order' : False , 'descr' : '<f4' }",
        "{'descr': 'f4', 'fortran_order': False, 'shape': (3,8), }\n",
    ],
)
def test_headers_of_other_writers_are_read(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + FITS.tobytes())
    np.testing.assert_array_equal(read_features(path, WIDTH), FITS)


def test_json_that_is_a_list_is_still_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"a": 1}], indent=1))
    assert read_json(path) == [{"a": 1}]


def test_a_fifo_has_no_head_and_is_not_waited_for(tmp_path):
    import os

    from stale_edge_runtime.formats.file_kinds import read_head

    os.mkfifo(tmp_path / "pipe")
    assert read_head(tmp_path / "pipe") == b""
