"""The site that runs a model in a browser: its files, and what it is not built of."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from stale_edge.cli.web import RUNTIME
from stale_edge.pages.web import site
from stale_edge_runtime.contract import Kind, ModelInfo, Precision
from stale_edge_runtime.errors import BadDataError, CannotWriteError, InputMissingError, UsageError
from stale_edge_runtime.model_file import ModelFile

DATA = Path(__file__).parents[1] / "data"
CLASSES = ("</script><b>", "Long jump")
INFO = ModelInfo(
    Kind.BAKED,
    Precision.INT8,
    16,
    "test",
    classes=CLASSES,
    detections={"max_detections": 100},
    snippet_seconds=0.4,
    tower_sha256="ab" * 32,
    channels="bgr",
)
TOWER = ModelInfo(
    Kind.IMAGE_TOWER,
    Precision.FP32,
    16,
    "test",
    image_size=24,
    tower_sha256="ab" * 32,
    channels="rgb",
    extra={"best_batch": "7"},
)
RUNTIME_FILES = site.Runtime("1.2.3", {"runtime/ort.wasm.min.mjs": b"export {}"})


def file(info=INFO, name="one.int8.onnx", content=b"weights"):
    return ModelFile(Path(name), content, info, 8, 18, "", {}, (), (), {})


def built(model=None, tower=None, runtime=RUNTIME_FILES):
    return site.site_files(model or file(), tower, runtime, title="A <b> & co", step_s=0.4)


def package(folder):
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text('{"name": "onnxruntime-web", "version": "1.2.3"}')
    for name in site._DIST:
        (folder / "dist" / name).write_bytes(name.encode())
    return folder


def test_the_manifest_holds_what_the_page_has_to_know():
    content = built(tower=file(TOWER, "clip-image.onnx"))
    found = json.loads(content["site.json"])
    assert found["model"]["classes"] == list(CLASSES)
    assert found["model"] | {"name": "one.int8.onnx", "precision": "int8", "bytes": 7} == found["model"]
    assert found["model"]["snippet_seconds"] == 0.4
    assert len(found["model"]["colours"]) == 2
    # The model learned from BGR frames, and this tower takes RGB: the page has to swap them.
    assert found["tower"] | {"image_size": 24, "batch": 7, "step_s": 0.4, "swap": True} == found["tower"]
    assert content["model.onnx"] == b"weights"
    assert b"A &lt;b&gt; &amp; co" in content["index.html"]
    same = built(tower=file(replace(TOWER, channels="bgr")))
    assert not json.loads(same["site.json"])["tower"]["swap"]


def test_networks_with_a_step_of_their_own_tell_the_page():
    assert json.loads(built()["site.json"])["model"]["own_step"] is None
    own = replace(INFO, network="actionformer", strides=(1, 2), offset=1.5)
    assert json.loads(built(file(own))["site.json"])["model"]["own_step"] == {
        "seconds": 0.4,
        "slack": pytest.approx(1.2),
    }
    assert json.loads(built(file(replace(own, resize_to=9)))["site.json"])["model"]["own_step"] is None


def test_every_file_that_the_page_asks_for_is_there_and_none_is_of_another_host():
    content = built(tower=file(TOWER))
    service = content["service.js"].decode()
    known = json.loads(re.search(r"const SITE = (.*);\n", service)[1])
    assert set(known["files"]) == set(content) - {"service.js"}
    assert set(known["first"]) < set(known["files"])
    for name in ("index.html", "player.html", *(name for name in content if name.endswith(".js"))):
        text = content[name].decode()
        assert "://" not in text, f"{name} names a host"
        used = re.findall(r'(?:from|src=|href=|new Worker\(|fetch\(|register\() ?"([^":,]+\.\w+)"', text)
        for asked in used:
            assert asked.removeprefix("./") in content, f"{name} asks for {asked}"


def test_any_other_byte_gives_the_service_worker_another_version():
    versions = {
        built()["service.js"],
        built(file(content=b"other")).get("service.js"),
        built(runtime=site.Runtime("1", {"runtime/ort.wasm.min.mjs": b""}))["service.js"],
    }
    assert len(versions) == 3
    assert built()["service.js"] in versions


@pytest.mark.parametrize(
    ("model", "cure"),
    [
        (file(replace(INFO, kind=Kind.OPEN, classes=())), "export it with --classes FILE --detections"),
        (file(replace(INFO, detections={})), "export it again with --detections"),
        (file(TOWER), "a tower goes with --clip-image"),
    ],
)
def test_models_that_a_page_cannot_run_are_refused_with_the_cure(model, cure):
    with pytest.raises(UsageError, match=re.escape(cure)):
        site.check_model(model)
    site.check_model(file())


@pytest.mark.parametrize(
    ("tower", "problem"),
    [
        (INFO, "is a detector file"),
        (replace(TOWER, feature_dim=8), "makes features of width 8, one.int8.onnx takes 16"),
        (replace(TOWER, tower_sha256="cd" * 32), "its features are of the image tower cdcdcdcdcdcd, not of"),
    ],
)
def test_towers_that_do_not_go_with_the_model_are_refused(tower, problem):
    with pytest.raises(UsageError, match=problem):
        site.check_tower(file(tower, "tower.onnx"), file())
    site.check_tower(file(TOWER), file())
    site.check_tower(file(replace(TOWER, tower_sha256="")), file())


def test_the_runtime_is_read_from_its_package_alone(tmp_path):
    with pytest.raises(InputMissingError, match="run `make web`"):
        site.read_runtime(tmp_path)
    found = site.read_runtime(package(tmp_path / "package"))
    assert found.version == "1.2.3"
    assert found.content["runtime/ort.wasm.min.mjs"] == b"ort.wasm.min.mjs"
    (tmp_path / "package/dist/ort.webgpu.min.mjs").unlink()
    with pytest.raises(InputMissingError, match=r"ort\.webgpu\.min\.mjs"):
        site.read_runtime(tmp_path / "package")
    (tmp_path / "package/package.json").write_text('{"name": "left-pad"}')
    with pytest.raises(BadDataError, match="another npm package"):
        site.read_runtime(tmp_path / "package")


def test_a_site_is_written_anew_over_an_old_one_and_never_over_other_files(tmp_path):
    folder = tmp_path / "deep" / "site"
    site.write_site(folder, built(tower=file(TOWER, content=b"tower")))
    assert (folder / "clip-image.onnx").read_bytes() == b"tower"
    assert (folder / "runtime/ort.wasm.min.mjs").is_file()
    site.write_site(folder, built())
    assert not (folder / "clip-image.onnx").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("mine")
    with pytest.raises(CannotWriteError, match="no site of `stale-edge web`"):
        site.write_site(tmp_path / "mine", built())
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_the_command_writes_a_whole_site(command, tmp_path):
    runtime = package(tmp_path / "package")
    words = ("web", DATA / "tiny_baked_detections.onnx", "--clip-image", DATA / "tiny_image_tower.onnx")
    code, out, err = command(*words, "-o", tmp_path / "site", "--runtime", runtime)
    assert (code, out) == (0, ""), err
    assert "untrained weights" in err
    assert f"python -m http.server -d {tmp_path / 'site'}" in " ".join(err.split())
    found = json.loads((tmp_path / "site/site.json").read_text())
    assert (found["model"]["untrained"], found["tower"]["step_s"]) == (True, 2.0)
    assert (tmp_path / "site/model.onnx").read_bytes() == words[1].read_bytes()


@pytest.mark.parametrize(
    ("words", "expected", "message"),
    [
        (("none.onnx",), 66, "none.onnx: no such file"),
        ((DATA / "tiny_baked.onnx",), 2, "export it again with --detections"),
        ((DATA / "tiny_open_detections.onnx",), 2, "export it with --classes FILE --detections"),
        ((DATA / "tiny_image_tower.onnx",), 2, "a tower goes with --clip-image"),
        ((DATA / "tiny_baked_detections.onnx", "--clip-image", DATA / "tiny_text_tower.onnx"), 2, "text-tower file"),
        ((DATA / "tiny_baked_detections.onnx", "--runtime", "nowhere"), 66, "nowhere: holds no onnxruntime-web"),
    ],
)
def test_the_command_refuses_what_it_cannot_use(command, tmp_path, words, expected, message):
    code, out, err = command("web", *words, "-o", tmp_path / "site")
    assert (code, out) == (expected, "")
    assert message in err
    assert not (tmp_path / "site").exists()


def test_make_fills_the_folder_that_the_command_looks_in():
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    assert f"WEB := {RUNTIME.parents[1]}\n" in makefile
