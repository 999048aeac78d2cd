"""Finding features, resizing them, reading them once."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
import torch

from stale_edge.data.feature_store import FeatureStore, find_feature_files
from stale_edge_runtime.corpus import VideoFile
from stale_edge_runtime.errors import BadDataError, InputMissingError, UnavailableError
from stale_edge_runtime.resampling import resize

WIDTH = 8


def features(length, seed=0):
    return np.random.default_rng(seed).standard_normal((length, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("length", [1, 2, 3, 99, 100, 101, 257, 1000])
@pytest.mark.parametrize("snippets", [1, 7, 100])
def test_resize_is_what_torch_does(length, snippets):
    # In float64: in float32 torch itself is off by 1e-4, because it computes positions in it.
    given = features(length)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(given.T).double()[None], size=snippets, mode="linear", align_corners=False
    )
    found = resize(given, snippets)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected[0].T.numpy(), atol=1e-6)


def test_files_are_found_with_and_without_v(tmp_path):
    np.save(tmp_path / "v_-one.npy", features(3))
    np.savez(tmp_path / "two.npz", features=features(4))
    (tmp_path / "notes.txt").write_text("three")
    (tmp_path / "three.npy").mkdir()
    found = find_feature_files(tmp_path, ["-one", "two", "three"])
    assert found == {"-one": VideoFile("-one", tmp_path / "v_-one.npy"), "two": VideoFile("two", tmp_path / "two.npz")}
    assert [len(file.read(WIDTH)) for file in found.values()] == [3, 4]


def test_an_id_never_leaves_the_folder(tmp_path):
    np.save(tmp_path / "secret.npy", features(3))
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", features(3))
    assert set(find_feature_files(tmp_path / "in", ["../secret", "a", "..", ""])) == {"a"}


def test_two_files_of_one_video_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", features(3))
    np.save(tmp_path / "v_a.npy", features(3))
    with pytest.raises(BadDataError, match=r"v_a\.npy: is named like video a, and so is .*a\.npy"):
        find_feature_files(tmp_path, ["b"])


def test_the_wrong_folder_is_named(tmp_path):
    with pytest.raises(InputMissingError, match=r"holds no \.npy or \.npz file"):
        find_feature_files(tmp_path, ["a", "b"])
    np.save(tmp_path / "c.npy", features(3))
    with pytest.raises(InputMissingError, match=r"none of the 2 videos; expected v_a\.npy or a\.npy"):
        find_feature_files(tmp_path, ["a", "b"])
    with pytest.raises(InputMissingError, match="no such file"):
        find_feature_files(tmp_path / "absent", ["a"])
    (tmp_path / "list.txt").write_text("a")
    with pytest.raises(BadDataError, match="neither a folder nor an HDF5 file"):
        find_feature_files(tmp_path / "list.txt", ["a"])


def store_of(folder, lengths, **more):
    for index, length in enumerate(lengths):
        np.save(folder / f"{index}.npy", features(length, index))
    files = [VideoFile(str(index), folder / f"{index}.npy") for index in range(len(lengths))]
    return FeatureStore(files, WIDTH, length=10, **more)


def test_a_file_is_read_once(tmp_path):
    store = store_of(tmp_path, [4, 10, 33])
    first = [store.read(index) for index in range(3)]
    for path in tmp_path.iterdir():
        path.unlink()
    second = [store.read(index) for index in range(3)]
    for index, (one, two) in enumerate(zip(first, second, strict=True)):
        assert one.snippets == two.snippets == [4, 10, 33][index]
        np.testing.assert_array_equal(one.features, two.features)
        np.testing.assert_array_equal(one.features, resize(features(one.snippets, index), 10))


def test_callers_cannot_change_what_is_kept(tmp_path):
    store = store_of(tmp_path, [10])
    store.read(0).features[:] = 0
    store.read(0).features[:] = 0
    np.testing.assert_array_equal(store.read(0).features, features(10))


def test_memory_is_bounded(tmp_path):
    row_mb = 10 * WIDTH * 4 / 2**20
    store = store_of(tmp_path, [10] * 5, cache_mb=2.5 * row_mb)
    assert (len(store), store._cache.rows) == (5, 2)
    before = [store.read(index).features for index in range(5)]
    for index in range(5):
        np.save(tmp_path / f"{index}.npy", features(10, 100 + index))
    same = [np.array_equal(store.read(index).features, before[index]) for index in range(5)]
    assert same == [True, True, False, False, False]


def test_no_memory_at_all_still_reads(tmp_path):
    store = store_of(tmp_path, [3], cache_mb=0)
    assert store._cache.rows == 0
    np.testing.assert_array_equal(store.read(0).features, store.read(0).features)


def test_a_bad_file_is_named_each_time(tmp_path):
    store = store_of(tmp_path, [4])
    (tmp_path / "0.npy").write_bytes(b"nothing")
    for _ in range(2):
        with pytest.raises(BadDataError, match=r"0\.npy"):
            store.read(0)


def test_a_pickled_store_starts_empty_and_works(tmp_path):
    store = store_of(tmp_path, [4])
    expected = store.read(0).features
    other = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(other.read(0).features, expected)
    (tmp_path / "0.npy").unlink()
    np.testing.assert_array_equal(other.read(0).features, expected)


def test_hdf5_without_h5py_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UnavailableError, match=r"needs h5py.*pip install 'stale-edge\[hdf5\]'"):
        find_feature_files(tmp_path, ["a"])["a"].read(WIDTH)


class TestHdf5:
    @pytest.fixture
    def h5py(self):
        return pytest.importorskip("h5py", reason="needs the extra hdf5")

    def test_one_file_for_each_video(self, h5py, tmp_path):
        with h5py.File(tmp_path / "v_a.h5", "w") as file:
            file.create_dataset("features", data=features(5), compression="gzip", shuffle=True)
            file["labels"] = [1, 2]
        with h5py.File(tmp_path / "b.hdf5", "w") as file:
            file["whatever"] = features(6).astype(np.float64)
        found = find_feature_files(tmp_path, ["a", "b"])
        np.testing.assert_array_equal(found["a"].read(WIDTH), features(5))
        np.testing.assert_array_equal(found["b"].read(WIDTH), features(6))

    def test_one_file_for_all_videos(self, h5py, tmp_path):
        path = tmp_path / "all.h5"
        with h5py.File(path, "w") as file:
            file["v_a"], file["b"] = features(5), features(6)
        found = find_feature_files(path, ["a", "b", "c"])
        assert found == {"a": VideoFile("a", path, "v_a"), "b": VideoFile("b", path, "b")}
        np.testing.assert_array_equal(found["a"].read(WIDTH), features(5))

    @pytest.mark.parametrize(
        "kind", ["external link", "soft link", "external data", "virtual", "group", "int", "3 axes"]
    )
    def test_what_is_no_plain_array_is_refused(self, h5py, tmp_path, kind):
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file["x"] = features(5)
        path = tmp_path / "a.h5"
        with h5py.File(path, "w") as file:
            if kind == "external link":
                file["features"] = h5py.ExternalLink("other.h5", "/x")
            elif kind == "soft link":
                file["features"] = h5py.SoftLink("/absent")
            elif kind == "external data":
                external = [(str(tmp_path / "other.h5"), 0, 5 * WIDTH * 4)]
                file.create_dataset("features", (5, WIDTH), "f4", external=external)
            elif kind == "virtual":
                layout = h5py.VirtualLayout((5, WIDTH), "f4")
                layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (5, WIDTH))
                file.create_virtual_dataset("features", layout)
            elif kind == "group":
                file.create_group("features")
            else:
                file["features"] = np.zeros((5, WIDTH), np.int32) if kind == "int" else np.zeros((5, WIDTH, 1), "f4")
        with pytest.raises(BadDataError, match=r"a\.h5"):
            find_feature_files(tmp_path, ["a"])["a"].read(WIDTH)

    def test_a_small_file_cannot_ask_for_much_memory(self, h5py, tmp_path):
        path = tmp_path / "a.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("features", (1 << 20, WIDTH), "f4", chunks=(1024, WIDTH), compression="gzip")
        assert path.stat().st_size < 1 << 20
        with pytest.raises(BadDataError, match="announces 33,554,432 bytes"):
            find_feature_files(tmp_path, ["a"])["a"].read(WIDTH)

    @pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n" + bytes(99), bytes(4096)])
    def test_what_is_no_hdf5_is_refused(self, h5py, tmp_path, content):
        (tmp_path / "a.h5").write_bytes(content)
        with pytest.raises(BadDataError, match=r"a\.h5: is not a readable HDF5 file"):
            find_feature_files(tmp_path, ["a"])["a"].read(WIDTH)

    def test_a_missing_file_is_missing(self, h5py, tmp_path):
        with pytest.raises(InputMissingError, match="no such file"):
            VideoFile("a", tmp_path / "a.h5").read(WIDTH)
