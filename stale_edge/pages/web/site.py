"""Files of a static site that runs one model in the browser, and where they come from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Final

from stale_edge import __version__
from stale_edge.page_parts import script_json, theme_script
from stale_edge.pages.player.content import PlayerContent, ResultSet
from stale_edge.pages.player.page import player_page
from stale_edge.palette import CLASS_COLOURS, DARK_CLASS_COLOURS, class_colour, page_variables
from stale_edge_runtime.contract import ACTION, CHANNELS, Kind, Role
from stale_edge_runtime.errors import BadDataError, CannotWriteError, InputMissingError, UsageError
from stale_edge_runtime.feature_origin import FeatureOrigin
from stale_edge_runtime.formats import files
from stale_edge_runtime.heads.base import even_steps
from stale_edge_runtime.heads.registry import HEADS
from stale_edge_runtime.video.tower import ImageTower

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.model_file import ModelFile

MANIFEST: Final = "site.json"
MODEL: Final = "model.onnx"
TOWER: Final = "clip-image.onnx"
MAX_RUNTIME_BYTES: Final = 1 << 27
_PAGE: Final = ("app.css", "app.js", "crop.js", "frames.js", "npy.js", "results.js", "worker.js")
_DIST: Final = (
    *("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    *("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
)
"""Files of the package: for the processor, and for WebGPU; a browser loads one of the two sets."""


@dataclass(frozen=True)
class Runtime:
    """The onnxruntime-web package as it is installed."""

    version: str
    """Version of the package."""
    content: Mapping[str, bytes]
    """Files of the site by their names there."""


def read_runtime(folder: Path) -> Runtime:
    """Read the parts of onnxruntime-web that a site needs.

    Args:
        folder: Folder of the npm package, with `package.json` and `dist/`.

    Raises:
        InputMissingError: The folder or a file in it is missing.
        BadDataError: It is another package.
    """
    if not (folder / "package.json").is_file():
        cure = "run `make web`, or `npm install onnxruntime-web` and name node_modules/onnxruntime-web with --runtime"
        raise InputMissingError(folder, "holds no onnxruntime-web, which runs the model in the browser", cure)
    package = files.read_json(folder / "package.json", limit=1 << 20)
    if not isinstance(package, dict) or package.get("name") != "onnxruntime-web":
        raise BadDataError(folder, "is another npm package than onnxruntime-web", "name its folder with --runtime")
    content = {f"runtime/{name}": files.read_bytes(folder / "dist" / name, limit=MAX_RUNTIME_BYTES) for name in _DIST}
    return Runtime(str(package.get("version")), content)


def check_model(model: ModelFile) -> None:
    """Check that a page can run a file: a detector with its classes and the decoding inside.

    Raises:
        UsageError: It is another kind of file; the message says how to export the right one.
    """
    if model.info.role is not Role.DETECTOR:
        raise UsageError(model.path, f"is a {model.info.role} file", "name a detector; a tower goes with --clip-image")
    if model.info.kind is not Kind.BAKED:
        problem = f"takes its classes as an input ({model.info.text} text), and a page has nothing to make them of"
        raise UsageError(model.path, problem, "export it with --classes FILE --detections")
    if not model.info.detections:
        problem = "gives what its network answers, not segments, and a page has no decoding of its own"
        raise UsageError(model.path, problem, "export it again with --detections")


def check_tower(tower: ModelFile, model: ModelFile) -> None:
    """Check that an image tower makes the features that a model learned from.

    Raises:
        UsageError: It is another kind of file, or another tower.
    """
    if tower.info.kind is not Kind.IMAGE_TOWER:
        raise UsageError(tower.path, f"is a {tower.info.role} file", "name an image tower from `export --clip`")
    if tower.info.feature_dim != model.info.feature_dim:
        problem = f"makes features of width {tower.info.feature_dim}, {model.path} takes {model.info.feature_dim}"
        raise UsageError(tower.path, problem, "name the tower that the model learned with")
    made = FeatureOrigin(tower_sha256=tower.info.tower_sha256, extractor=tower.info.feature_extractor)
    if difference := FeatureOrigin.of(model.info).difference(made):
        raise UsageError(tower.path, f"does not go with {model.path}: its features {difference}", "name another tower")


def site_files(
    model: ModelFile, tower: ModelFile | None, runtime: Runtime, *, title: str, step_s: float
) -> dict[str, bytes]:
    """Make all files of a site.

    Args:
        model: Detector that `check_model` accepts.
        tower: Image tower that `check_tower` accepts; without one, the page takes features alone.
        runtime: Files that run them in the browser.
        title: Title of the page.
        step_s: Seconds from one frame that the tower sees to the next.

    Returns:
        Contents by name, relative to the folder of the site.
    """
    manifest = _manifest(model, tower, runtime, title, step_s)
    shown = {
        "index.html": _index(title, with_video=tower is not None).encode(),
        "player.html": _player(title).encode(),
        "theme.js": theme_script().encode(),
        **{name: _asset(name).encode() for name in _PAGE},
        MANIFEST: (json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(),
    }
    shown["app.css"] = page_variables().encode() + shown["app.css"]
    loaded = {MODEL: model.content, **({TOWER: tower.content} if tower else {}), **runtime.content}
    return {**shown, **loaded, "service.js": _service(shown, loaded).encode()}


def write_site(folder: Path, content: Mapping[str, bytes]) -> None:
    """Write a site, each file whole or not at all; files of an older site in the folder are replaced.

    Args:
        folder: Folder of the site; made if missing.
        content: Contents by name.

    Raises:
        CannotWriteError: The folder holds other files, or cannot be written.
        StorageError: The disk is full or failed.
    """
    files.make_folder(folder)
    if not (folder / MANIFEST).is_file() and any(folder.iterdir()):
        raise CannotWriteError(folder, "holds files that are no site of `stale-edge web`", "name a new folder with -o")
    for parent in {Path(name).parent for name in content}:
        files.make_folder(folder / parent)
    for old in {MODEL, TOWER} - set(content):
        (folder / old).unlink(missing_ok=True)
    with files.together():
        for name, data in content.items():
            files.write_bytes(folder / name, data)


def _manifest(model: ModelFile, tower: ModelFile | None, runtime: Runtime, title: str, step_s: float) -> dict[str, Any]:
    """Gather what the page has to know; it does not read the metadata of ONNX files."""
    info = model.info
    classes = list(info.classes) or [ACTION]
    described: dict[str, Any] = {
        "classes": classes,
        "colours": [class_colour(name) for name in classes],
        "snippet_seconds": info.snippet_seconds,
        "own_step": _own_step(info),
        "min_snippets": info.min_snippets,
        "max_snippets": info.max_snippets,
        "resize_to": info.resize_to,
        "feature_norm": info.feature_norm,
        "suggested_min_score": info.suggested_min_score,
        "untrained": info.untrained,
    }
    return {
        "title": title,
        "created_by": f"stale-edge {__version__}",
        "looks": {"light": CLASS_COLOURS, "dark": DARK_CLASS_COLOURS},
        "runtime": {
            "version": runtime.version,
            "wasm": "runtime/ort.wasm.min.mjs",
            "webgpu": "runtime/ort.webgpu.min.mjs",
        },
        "model": _described(model, MODEL) | described,
        "tower": None if tower is None else _described(tower, TOWER) | _tower(tower.info, info, step_s),
    }


def _own_step(info: ModelInfo) -> dict[str, float] | None:
    """Give the step that times are counted by where a video is about as long as its snippets tell.

    None for networks whose snippets share the video evenly.
    """
    if HEADS[info.network].step_s is even_steps or info.snippet_seconds is None or info.resize_to:
        return None
    return {"seconds": info.snippet_seconds, "slack": 2 * info.offset * info.snippet_seconds}


def _described(file: ModelFile, name: str) -> dict[str, Any]:
    return {
        "file": name,
        "name": file.path.name,
        "bytes": file.size_bytes,
        "precision": str(file.info.precision),
        "network": file.info.network,
        "feature_dim": file.info.feature_dim,
    }


def _tower(tower: ModelInfo, model: ModelInfo, step_s: float) -> dict[str, Any]:
    own = tower.channels or CHANNELS[0]
    return {
        "image_size": tower.image_size,
        "batch": ImageTower.batch_of(tower),
        "step_s": step_s,
        "swap": bool(model.channels) and model.channels != own,
    }


def _index(title: str, *, with_video: bool) -> str:
    invitation = "Drop a video here, or features (.npy)" if with_video else "Drop features (.npy) here"
    beside = "" if with_video else "; a video of the same name is shown with them"
    return Template(_asset("index.html")).substitute(title=escape(title), invitation=invitation + beside)


def _player(title: str) -> str:
    """Write the player with nothing to show; the page around it gives it its content."""
    empty = PlayerContent([ResultSet(title, {})])
    return player_page(empty, title=title, first=_asset("framed.js"), style=_asset("framed.css"))


def _service(shown: Mapping[str, bytes], loaded: Mapping[str, bytes]) -> str:
    """Write the service worker, with a version that changes where any file does."""
    digest = hashlib.sha256()
    for name, data in [*shown.items(), *loaded.items()]:
        digest.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
    site = {"version": digest.hexdigest()[:16], "first": list(shown), "files": [*shown, *loaded]}
    return f"const SITE = {script_json(site)};\n" + _asset("service.js")


def _asset(name: str) -> str:
    return resources.files("stale_edge.pages.web").joinpath(name).read_text(encoding="utf-8")
