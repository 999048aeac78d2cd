"""Models and checkpoints that ask for more than they may: refused at once, or killed with their process."""

from __future__ import annotations

import io
import json
import pickle
import resource
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from stale_edge.checkpoint import METADATA_KEY, load_checkpoint, read_published
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.formats.files import read_json
from stale_edge_runtime.formats.hdf5_features import read_video_file

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., tuple[int, str, str]]

MODEL = Path(__file__).parents[1] / "data" / "tiny_baked.onnx"
WIDTH = 8


def features(seed: int = 0, snippets: int = 20) -> np.ndarray:
    return (3 * np.random.default_rng(seed).standard_normal((snippets, WIDTH))).astype(np.float32)


def with_nodes(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], result: str) -> Path:
    """The tiny model, `result` added to its first output."""
    model = onnx.load(MODEL)
    name = model.graph.output[0].name
    for node in model.graph.node:
        for index, output in enumerate(node.output):
            if output == name:
                node.output[index] = "plain"
    model.graph.node.extend([*nodes, helper.make_node("Add", ["plain", result], [name])])
    model.graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in constants.items())
    onnx.save(model, path)
    return path


def dividing(path: Path) -> Path:
    """An integer division that overflows, among constants: it ends the process that opens the file."""
    nodes = [
        helper.make_node("Div", ["least", "minus"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["added"], to=TensorProto.FLOAT),
    ]
    return with_nodes(path, nodes, {"least": np.array([-(2**63)]), "minus": np.array([-1])}, "added")


def dividing_by_length(path: Path, snippets: int) -> Path:
    """A division that overflows for videos of one length alone."""
    nodes = [
        helper.make_node("Shape", ["features"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["length"]),
        helper.make_node("Sub", ["length", "odd"], ["divisor"]),
        helper.make_node("Div", ["least", "divisor"], ["quotient"]),
        helper.make_node("Sub", ["quotient", "quotient"], ["nothing"]),
        helper.make_node("Cast", ["nothing"], ["added"], to=TensorProto.FLOAT),
    ]
    constants = {"one": np.array([1]), "least": np.array([-(2**63)]), "odd": np.array([snippets + 1])}
    return with_nodes(path, nodes, constants, "added")


def slow(path: Path) -> Path:
    """Products of large constants, which onnxruntime computes for hours while it opens the file."""
    nodes = [helper.make_node("ConstantOfShape", ["size"], ["m0"], value=numpy_helper.from_array(np.float32([1])))]
    nodes += [helper.make_node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(400)]
    nodes += [
        helper.make_node("ReduceMax", ["m400", "axes"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "none"], ["added"]),
    ]
    constants = {"size": np.array([6000, 6000]), "axes": np.array([0, 1]), "none": np.zeros(1, np.float32)}
    return with_nodes(path, nodes, constants, "added")


@pytest.mark.parametrize("words", [("detect",), ("compare",), ("bench", "--lengths", "10"), ("inspect", "--macs")])
def test_a_file_that_kills_is_one_line(tmp_path: Path, command: Command, words: tuple[str, ...]) -> None:
    bad = dividing(tmp_path / "bad.onnx")
    np.save(tmp_path / "a.npy", features())
    more = {"detect": (bad, tmp_path / "a.npy"), "compare": (MODEL, bad, "-f", tmp_path / "a.npy")}
    code, out, err = command(words[0], *more.get(words[0], (bad,)), *words[1:])
    assert code == 65
    assert out == ""
    assert "the file is damaged or hostile" in err
    assert "Traceback" not in err


def test_the_other_videos_of_a_batch_are_complete(tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "features"
    folder.mkdir()
    for index in range(6):
        np.save(folder / f"v{index}.npy", features(index, 13 if index == 3 else 20 + index))
    odd = dividing_by_length(tmp_path / "odd.onnx", 13)
    code, out, err = command("detect", odd, folder, "--json", "--quiet")
    assert code == 65
    assert "SIGFPE" in err
    assert err.count("v3.npy") == 1
    (folder / "v3.npy").unlink()
    code, expected, _ = command("detect", MODEL, folder, "--json", "--quiet")
    assert code == 0
    assert json.loads(out)["results"] == json.loads(expected)["results"]
    assert len(json.loads(out)["results"]) == 5


def slow_to_run(path: Path) -> Path:
    """Products that take minutes for any video, in little memory."""
    nodes = [
        helper.make_node("ReduceMax", ["features", "all"], ["most"], keepdims=0),
        helper.make_node("Expand", ["most", "size"], ["m0"]),
    ]
    nodes += [helper.make_node("MatMul", [f"m{i}", "m0"], [f"m{i + 1}"]) for i in range(2000)]
    nodes += [
        helper.make_node("ReduceMax", ["m2000", "axes"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "none"], ["added"]),
    ]
    constants = {"size": np.array([1500, 1500]), "axes": np.array([0, 1]), "none": np.zeros(1, np.float32)}
    return with_nodes(path, nodes, {**constants, "all": np.array([0, 1, 2])}, "added")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (slow_to_run, ("detect", "FILE", "VIDEO")),
        (slow_to_run, ("compare", "FILE", "FILE", "-f", "VIDEO")),
        (slow, ("bench", "FILE", "--lengths", "10")),
        (slow, ("inspect", "--macs", "FILE")),
        pytest.param(slow, ("quantize", "FILE", "--int8"), marks=pytest.mark.slow),
    ],
    ids=["detect", "compare", "bench", "inspect", "quantize"],
)
def test_ctrl_c_is_obeyed_by_a_file_that_takes_for_ever(
    tmp_path: Path, make: Callable[[Path], Path], words: tuple[str, ...]
) -> None:
    bad, video = make(tmp_path / "slow.onnx"), tmp_path / "a.npy"
    np.save(video, features())
    call = [{"FILE": str(bad), "VIDEO": str(video)}.get(word, word) for word in words]
    with subprocess.Popen(
        [sys.executable, "-m", "stale_edge", *call], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        time.sleep(3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        assert process.wait(20) == 130
        assert time.monotonic() - begin < 3
        assert process.stdout is not None
        assert process.stdout.read() == b""


class Claims:
    """A tensor of a huge shape in a storage of four bytes."""

    def __reduce__(self) -> tuple[object, ...]:
        return bytearray, (1 << 30,)


def published(path: Path, state: object) -> Path:
    torch.save({"state_dict": state}, path)
    return path


def test_a_tensor_that_claims_more_than_it_stores_is_refused(tmp_path: Path) -> None:
    claims = torch.zeros(1).as_strided((40_000, 20_000), (0, 0))
    with pytest.raises(BadDataError, match=r"module\.x \[40000, 20000\] is not a plain tensor"):
        read_published(published(tmp_path / "a.pth.tar", {"module.x": claims}))


def test_a_pickle_that_asks_for_a_gigabyte_is_refused(tmp_path: Path) -> None:
    path = published(tmp_path / "a.pth.tar", {"x": torch.zeros(3)})
    content = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(content, "w") as new:
        for item in old.infolist():
            body = pickle.dumps({"state_dict": Claims()}, protocol=2) if item.filename.endswith(".pkl") else None
            new.writestr(item, old.read(item) if body is None else body)
    path.write_bytes(content.getvalue())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadDataError, match=r"cannot be read as weights alone \(MemoryError\)"):
        read_published(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10


@pytest.mark.parametrize(
    "changes",
    [
        {"representation_layers": 100_000},
        {"anchors": 1 << 40},
        {"feature_dim": 1 << 21},
        {"text": {"layers": 10**6}},
        {"mask_channels": -(1 << 40)},
    ],
)
def test_a_configuration_larger_than_its_file_is_refused_at_once(
    tmp_path: Path, tiny_file: Path, changes: dict[str, object]
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(with_config(tiny_file.read_bytes(), changes))
    begin = time.monotonic()
    with pytest.raises(BadDataError, match="config"):
        load_checkpoint(path)
    assert time.monotonic() - begin < 5


def with_config(content: bytes, changes: dict[str, object]) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    metadata = json.loads(header["__metadata__"][METADATA_KEY])
    for key, value in changes.items():
        if isinstance(value, dict):
            metadata["config"][key].update(value)
        else:
            metadata["config"][key] = value
    header["__metadata__"][METADATA_KEY] = json.dumps(metadata)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


@pytest.mark.parametrize("value", ['{"a": "\\ud800"}', '{"\\uDFFF": 1}', '["x", {"y": ["\\ud83dx"]}]'])
def test_json_of_half_characters_is_refused(tmp_path: Path, value: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(value)
    with pytest.raises(BadDataError, match="is not JSON"):
        read_json(path)
    path.write_text('{"a": "\\ud83d\\ude00"}')
    assert read_json(path) == {"a": "\N{GRINNING FACE}"}


def test_huge_chunks_of_hdf5_are_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        shape, more = (3, WIDTH), (None, WIDTH)
        file.create_dataset("features", shape, "f4", maxshape=more, chunks=(1 << 22, WIDTH), compression="gzip")
        file["features"][:] = features(0, 3)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(BadDataError, match="is stored in chunks of 134,217,728 bytes"):
        read_video_file(path, WIDTH)


def test_hdf5_groups_of_one_dataset_are_read(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["v_talk/c3d_features"] = features()
    np.testing.assert_array_equal(read_video_file(path, WIDTH), features())
    with h5py.File(path, "w") as file:
        file["v_talk/one"], file["v_talk/two"] = features(), features()
    with pytest.raises(BadDataError, match="no group of one"):
        read_video_file(path, WIDTH)
