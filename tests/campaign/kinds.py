"""Kinds of hostile input over every reader and command, by group; heavy imports wait until a group is asked for."""

from __future__ import annotations

import io
import json
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.campaign import mutations
from tests.campaign.cases import Call, Expect, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from random import Random

DATA = Path(__file__).parents[1] / "data"
NAMES = ("Archery", "Long jump", "Doing kickboxing")
ANNOTATIONS: Any = {
    "version": "1",
    "database": {
        f"v{number}": {
            "subset": ("training", "validation")[number % 2],
            "duration": 40.0 + number,
            "annotations": [
                {"segment": [1.5 * number, 10.0 + number], "label": NAMES[number % 3]},
                {"segment": [20.0, 31.5], "label": NAMES[(number + 1) % 3]},
            ],
        }
        for number in range(6)
    },
}
RESULTS: Any = {
    "version": "1",
    "external_data": {},
    "results": {
        f"v{number}": [
            {"label": NAMES[number % 3], "score": 0.5 + number / 20, "segment": [1.5 * number, 10.0 + number]}
        ]
        for number in range(6)
    },
}
EXTERNAL: Any = {"results": {f"v{number}": [{"label": NAMES[0], "score": 0.9}] for number in range(4)}}
CSV = "video,start_s,end_s,score,label\nv1,1.5,11.0,0.55,Long jump\nv2,3.0,12.0,0.6,Archery\n"
CLASS_LIST = "".join(f"{name}\n" for name in NAMES)


def npy_bytes() -> bytes:
    """Make a file of features, 20 rows of 8."""
    import numpy as np

    stream = io.BytesIO()
    np.save(stream, np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32))
    return stream.getvalue()


def _record() -> Any:
    return {"format": 1, "step_s": 0.5, "video": "a.mp4", "duration_s": 10.0, "channels": "rgb"}


def _world() -> Any:
    from stale_edge.simulation import WorldConfig

    return {
        "format": "stale-edge simulated world",
        "version": 1,
        "world": WorldConfig(classes=4, seen_classes=3).to_dict(),
    }


@cache
def _checkpoint() -> bytes:
    """A tiny network with stored text, as a file."""
    import tempfile

    import torch

    from stale_edge.checkpoint import Checkpoint, save_checkpoint
    from stale_edge.networks.stale.config import ModelConfig
    from stale_edge.seeded import seeded_network

    config = ModelConfig(feature_dim=8, anchors=10, heads=2, mask_channels=8, text=None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.safetensors"
        network = seeded_network(config, 3)
        save_checkpoint(path, Checkpoint(network, NAMES, {"source": "trained"}, torch.eye(3, 8)))
        return path.read_bytes()


@cache
def _published() -> bytes:
    import torch

    stream = io.BytesIO()
    state = {f"module.embedding.conv.{n}.weight": torch.full((4, 3), 0.5) for n in range(5)}
    torch.save({"epoch": 0, "state_dict": state}, stream)
    return stream.getvalue()


@cache
def _hdf5() -> bytes:
    import h5py
    import numpy as np

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["features"] = np.ones((20, 8), np.float32)
    return stream.getvalue()


def _of_bytes(
    form: str,
    good: Callable[[], bytes],
    suffix: str,
    call: Callable[[Path], Call],
    lenient: frozenset[str],
    places: Mapping[str, Callable[[Path], object]] = mutations.PLACES,
) -> Iterator[Kind]:
    """The kinds that any file can be spoiled by; `lenient` names those that this form may take for good."""
    for name, (change, expect) in mutations.BYTES.items():

        def build(folder: Path, rng: Random, change: Any = change) -> Call:
            path = folder / f"case{suffix}"
            path.write_bytes(change(good(), rng))
            return call(path)

        yield Kind(f"{form}: {name}", build, Expect.ANY if name in lenient else expect)
    for name, put in places.items():

        def place(folder: Path, _rng: Random, put: Any = put) -> Call:
            path = folder / f"case{suffix}"
            put(path)
            return call(path)

        yield Kind(f"{form}: {name}", place, Expect.REFUSED)


def _of_json(form: str, good: Callable[[], Any], call: Callable[[Path], Call]) -> Iterator[Kind]:
    changes: dict[str, Callable[[Any, Random], bytes]] = {
        f"{name} in a value": lambda document, rng, value=value: mutations.with_value(document, rng, value)
        for name, value in mutations.VALUES.items()
    }
    changes |= {
        f"{name} in a key": lambda document, rng, key=key: mutations.with_key(document, rng, key)
        for name, key in (("escapes", "\x1b[2Jx"), ("nothing", ""), ("a path", "../../x"), ("markup", "[bold]"))
    }
    changes["a value missing"] = mutations.without_value
    changes["a key twice"] = mutations.twice_a_key
    for depth in (1000, 100_000, 3_000_000):
        changes[f"{depth} levels"] = lambda _document, rng, depth=depth: mutations.nested(depth, rng)
    refused = {"a key twice", "1000 levels", "100000 levels", "3000000 levels"}
    for name, change in changes.items():

        def build(folder: Path, rng: Random, change: Any = change) -> Call:
            path = folder / "case.json"
            path.write_bytes(change(good(), rng))
            return call(path)

        yield Kind(f"{form}: {name}", build, Expect.REFUSED if name in refused else Expect.ANY)


def _of_contents(form: str, contents: Any, suffix: str, call: Callable[[Path], Call]) -> Iterator[Kind]:
    for name, (content, expect) in contents.items():

        def build(folder: Path, _rng: Random, content: bytes = content) -> Call:
            path = folder / f"case{suffix}"
            path.write_bytes(content)
            return call(path)

        yield Kind(f"{form}: {name}", build, expect)


def _reading(function: Callable[..., object], *more: object) -> Callable[[Path], Call]:
    return lambda path: Call(reader=lambda: function(path, *more))


TEXT_FORMS = frozenset({"HTML", "UTF-16", "random bytes alone", "ones alone"})


def readers() -> Iterator[Kind]:
    """Readers of the runtime, without torch."""
    from stale_edge_runtime.formats.annotations import read_annotations
    from stale_edge_runtime.formats.class_list import read_class_list
    from stale_edge_runtime.formats.external_scores import read_external
    from stale_edge_runtime.formats.feature_record import read_record
    from stale_edge_runtime.formats.features import read_features
    from stale_edge_runtime.formats.results import read_results
    from stale_edge_runtime.model_file import read_model

    def rows(path: Path) -> object:
        from stale_edge_runtime.stream import read_rows

        with io.BytesIO(path.read_bytes()) as stream:
            return sum(len(block) for block in read_rows(stream, 8))

    features = _reading(read_features, None)
    none: frozenset[str] = frozenset()
    unicode = frozenset({"UTF-16"})  # JSON may be written so
    yield from _of_bytes("npy", npy_bytes, ".npy", features, none)
    yield from _of_contents("npy header", mutations.NPY, ".npy", features)
    yield from _of_bytes(
        "npz", lambda: mutations.archive({"features.npy": npy_bytes()}), ".npz", features, frozenset({"gzip"})
    )
    yield from _of_contents("npz", mutations.NPZ, ".npz", features)
    documents: dict[str, tuple[Callable[[], Any], Callable[..., object]]] = {
        "annotations": (lambda: ANNOTATIONS, read_annotations),
        "results": (lambda: RESULTS, read_results),
        "external scores": (lambda: EXTERNAL, read_external),
        "record": (_record, read_record),
    }
    for form, (good, reader) in documents.items():
        yield from _of_bytes(form, lambda good=good: json.dumps(good()).encode(), ".json", _reading(reader), unicode)
        yield from _of_json(form, good, _reading(reader))
    yield from _of_bytes("results CSV", CSV.encode, ".csv", _reading(read_results), none)
    yield from _of_bytes("class list", CLASS_LIST.encode, ".txt", _reading(read_class_list), TEXT_FORMS)
    for name in ("tiny_baked", "tiny_open", "tiny_text_tower", "tiny_image_tower"):
        model = (DATA / f"{name}.onnx").read_bytes()
        yield from _of_bytes(f"{name}.onnx", lambda model=model: model, ".onnx", _reading(read_model), none)
    random_rows = {
        "zeros": (bytes(320), Expect.ANY),
        "NaN": (b"\xff" * 320, Expect.REFUSED),
        "half": (bytes(5), Expect.REFUSED),
    }
    random_rows["an npy file"] = (npy_bytes(), Expect.REFUSED)
    yield from _of_contents("stream", random_rows, ".bin", _reading(rows))


def checkpoints() -> Iterator[Kind]:
    """Readers that need torch or HDF5."""
    from stale_edge.checkpoint import load_checkpoint, read_published
    from stale_edge.simulation.folder import read_world_config
    from stale_edge_runtime.formats.hdf5_features import read_video_file

    none: frozenset[str] = frozenset()
    yield from _of_bytes("safetensors", _checkpoint, ".safetensors", _reading(load_checkpoint), none)
    yield from _of_bytes("pth.tar", _published, ".pth.tar", _reading(read_published), none)
    yield from _of_bytes("HDF5", _hdf5, ".h5", _reading(read_video_file, None), none)
    yield from _of_bytes(
        "world", lambda: json.dumps(_world()).encode(), ".json", _reading(read_world_config), frozenset({"UTF-16"})
    )
    yield from _of_json("world", _world, _reading(read_world_config))
    header = json.loads(_checkpoint()[8 : 8 + int.from_bytes(_checkpoint()[:8], "little")])

    def with_header(changed: Any) -> bytes:
        text = json.dumps(changed).encode()
        return len(text).to_bytes(8, "little") + text + _checkpoint()[8 + int.from_bytes(_checkpoint()[:8], "little") :]

    def spoiled(folder: Path, rng: Random) -> Call:
        path = folder / "case.safetensors"
        path.write_bytes(
            with_header(json.loads(mutations.with_value(header, rng, rng.choice(list(mutations.VALUES.values())))))
        )
        return Call(reader=lambda: load_checkpoint(path))

    def spoiled_metadata(folder: Path, rng: Random) -> Call:
        path = folder / "case.safetensors"
        changed = json.loads(json.dumps(header))
        key = rng.choice(sorted(changed["__metadata__"]))
        inner = changed["__metadata__"][key]
        try:
            document = json.loads(inner)
        except ValueError:
            document = None
        value = rng.choice(list(mutations.VALUES.values()))
        spoiled = (
            mutations.with_value(document, rng, value).decode() if isinstance(document, dict) else str(value)[:9000]
        )
        changed["__metadata__"][key] = spoiled
        path.write_bytes(with_header(changed))
        return Call(reader=lambda: load_checkpoint(path))

    yield Kind("safetensors: a value of the header", spoiled)
    yield Kind("safetensors: a value of the metadata", spoiled_metadata)


def commands() -> Iterator[Kind]:
    """Commands, each with its inputs spoiled one at a time."""
    none: frozenset[str] = frozenset()

    def beside(path: Path, name: str, content: bytes) -> Path:
        (path.parent / name).write_bytes(content)
        return path.parent / name

    def annotations(path: Path) -> Path:
        return beside(path, "good.json", json.dumps(ANNOTATIONS).encode())

    def results(path: Path) -> Path:
        return beside(path, "results.json", json.dumps(RESULTS).encode())

    def output(path: Path, name: str) -> Path:
        return beside(path, name, b'{"old": 1}')

    def evaluated(path: Path) -> Call:
        out = output(path, "out.json")
        return Call(("evaluate", path, "-g", annotations(path), "--json", out), output=out)

    def judged_by(path: Path) -> Call:
        out = output(path, "out.json")
        return Call(("evaluate", results(path), "-g", path, "--json", out), output=out)

    def viewed(path: Path) -> Call:
        out = output(path, "out.html")
        return Call(("view", path, "-g", annotations(path), "-o", out), output=out)

    as_json = json.dumps
    for form, good, call in (
        ("evaluate RESULTS", RESULTS, evaluated),
        ("evaluate -g", ANNOTATIONS, judged_by),
        ("dataset", ANNOTATIONS, lambda path: Call(("dataset", path))),
        ("view", RESULTS, viewed),
    ):
        yield from _of_bytes(form, lambda good=good: as_json(good).encode(), ".json", call, frozenset({"UTF-16"}))
        yield from _of_json(form, lambda good=good: good, call)
    model = (DATA / "tiny_baked.onnx").read_bytes()
    for form, suffix, content, call in (
        ("inspect", ".onnx", model, lambda path: Call(("inspect", path))),
        ("inspect --json", ".onnx", model, lambda path: Call(("inspect", path, "--json"))),
        ("dataset --split", ".txt", CLASS_LIST.encode(), lambda p: Call(("dataset", annotations(p), "--split", p))),
    ):
        yield from _of_bytes(
            form, lambda content=content: content, suffix, call, TEXT_FORMS if suffix == ".txt" else none
        )
    _published()  # torch is no memory of a case
    yield from _of_bytes(
        "convert",
        _published,
        ".pth.tar",
        lambda path: Call(
            ("convert", path, "-o", path.parent / "out.safetensors"), output=path.parent / "out.safetensors"
        ),
        none,
    )
    yield from _usage()


NUMBERS = ("nan", "inf", "-inf", "1e999", "-1", "0", "", " ", "\uff19", "1_0", "0x10", "9" * 400, "1e-320", "\x1b[2J")


def _usage() -> Iterator[Kind]:
    """Numbers and names that options cannot take, and text that terminals act on."""
    options: dict[str, tuple[object, ...]] = {
        "simulate --classes": ("simulate", "-o", "out", "--videos", 0, "--validation", 0, "--classes"),
        "simulate --split": ("simulate", "-o", "out", "--videos", 0, "--validation", 0, "--split"),
        "dataset --fraction": ("dataset", "none.json", "--fraction"),
        "evaluate --tiou": ("evaluate", "none.json", "-g", "none.json", "--tiou"),
        "detect --min-score": ("detect", "none.onnx", "none.npy", "--min-score"),
        "detect --max-memory": ("detect", "none.onnx", "none.npy", "--max-memory"),
        "detect --stride": ("detect", "none.onnx", "none.npy", "--stride"),
        "detect --window": ("detect", "none.onnx", "none.npy", "--window"),
        "detect --threads": ("detect", "none.onnx", "none.npy", "--threads"),
        "bench --lengths": ("bench", "none.onnx", "--lengths"),
        "bench --runs": ("bench", "none.onnx", "--runs"),
        "bench --threads": ("bench", "none.onnx", "--threads"),
        "features --step": ("features", "none.mp4", "-o", "out", "--step"),
        "train --lr": ("train", "-o", "out", "--annotations", "none.json", "--features", "none", "--lr"),
        "train --held-out": ("train", "-o", "out", "--annotations", "none.json", "--features", "none", "--held-out"),
        "train --epochs": ("train", "-o", "out", "--annotations", "none.json", "--features", "none", "--epochs"),
        "train --threads": ("train", "-o", "out", "--annotations", "none.json", "--features", "none", "--threads"),
        "quantize": ("quantize", "none.onnx", "--int8", "-o"),
        "export": ("export", "none.safetensors", "--snippet-seconds"),
        "study": ("study",),
        "text": ("text", "none.txt", "-o"),
        "compare": ("compare", "none.onnx", "none.onnx", "--features"),
    }
    for name, words in options.items():

        def build(folder: Path, rng: Random, words: Any = words) -> Call:
            places = {"out": folder / "out"}
            found = tuple(
                places.get(str(word), folder / str(word) if str(word).startswith("none") else word) for word in words
            )
            return Call((*found, rng.choice(NUMBERS)), output=folder / "out")

        yield Kind(f"usage: {name}", build)


@cache
def _video(suffix: str, codec: str) -> bytes:
    """A short video of moving squares."""
    import av
    import numpy as np

    stream = io.BytesIO()
    with av.open(stream, "w", format={".mp4": "mp4", ".mkv": "matroska"}[suffix]) as container:
        made = container.add_stream(codec, rate=10)
        made.width, made.height, made.pix_fmt = 48, 32, "yuv420p"
        for place in range(30):
            picture = np.zeros((32, 48, 3), np.uint8)
            picture[8:24, place : place + 16] = 200
            container.mux(made.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(made.encode())
    return stream.getvalue()


CONTAINERS = ((".mp4", "mpeg4"), (".mkv", "mpeg4"))
NO_PIPES = {name: put for name, put in mutations.PLACES.items() if name != "a FIFO"}
"""Places of a video: a pipe is a source as good as any, and waits for its writer."""


def videos() -> Iterator[Kind]:
    """Damaged videos, to the reader of frames; FFmpeg takes many for good."""
    from stale_edge_runtime.video.options import VideoOptions
    from stale_edge_runtime.video.reader import VideoReader

    def frames(path: Path) -> object:
        return sum(1 for _ in VideoReader(path, VideoOptions()).crops(16))

    for suffix, codec in CONTAINERS:
        content = partial(_video, suffix, codec)
        yield from _of_bytes(f"video{suffix}", content, suffix, _reading(frames), frozenset(mutations.BYTES), NO_PIPES)


def models() -> Iterator[Kind]:
    """Models, towers and videos that commands run in processes of their own."""

    def detected(path: Path) -> Call:
        (path.parent / "v1.npy").write_bytes(npy_bytes())
        out = path.parent / "out.json"
        return Call(("detect", path, path.parent / "v1.npy", "-o", out), output=out)

    def embedded(path: Path) -> Call:
        (path.parent / "names.txt").write_text(CLASS_LIST)
        out = path.parent / "out.npy"
        return Call(("text", path.parent / "names.txt", "--text-tower", path, "--no-cache", "-o", out), output=out)

    def extracted(path: Path) -> Call:
        (path.parent / "v.mp4").write_bytes(_video(".mp4", "mpeg4"))
        out = path.parent / "out"
        return Call(("features", path.parent / "v.mp4", "--image-tower", path, "-o", out), output=out)

    def read(path: Path) -> Call:
        tower, out = DATA / "tiny_image_tower.onnx", path.parent / "out"
        return Call(("features", path, "--image-tower", tower, "-o", out), output=out)

    for name, call in (("tiny_baked", detected), ("tiny_text_tower", embedded), ("tiny_image_tower", extracted)):
        content = (DATA / f"{name}.onnx").read_bytes
        lenient = frozenset(mutations.BYTES)
        yield from _of_bytes(f"run {name}.onnx", content, ".onnx", call, lenient)
    for suffix, codec in CONTAINERS:
        content = partial(_video, suffix, codec)
        yield from _of_bytes(f"run {suffix}", content, suffix, read, frozenset(mutations.BYTES), NO_PIPES)


GROUPS: dict[str, Callable[[], Iterator[Kind]]] = {
    "readers": readers,
    "checkpoints": checkpoints,
    "commands": commands,
    "videos": videos,
    "models": models,
}
"""Groups, each of which runs in a process of its own."""
