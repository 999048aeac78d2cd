"""The site of `stale-edge web` in a real browser: what it finds is what Python finds, from files and from videos."""

from __future__ import annotations

import functools
import json
import re
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from stale_edge.checkpoint import Checkpoint
from stale_edge.cli.web import RUNTIME
from stale_edge.networks.clip_image import ImageTowerConfig
from stale_edge.networks.clip_sources import seeded_clip
from stale_edge.networks.stale.config import TextConfig
from stale_edge.pages.web import site
from stale_edge.seeded import seeded_network
from stale_edge_runtime import Detector
from stale_edge_runtime.contract import ACTIONFORMER, Precision
from stale_edge_runtime.formats.features import read_features
from stale_edge_runtime.formats.results import read_results
from stale_edge_runtime.model_file import read_model
from stale_edge_runtime.synthetic import clip_like_features
from stale_edge_runtime.video.features import FeatureExtractor, FeatureSettings
from stale_edge_runtime.video.options import VideoOptions
from stale_edge_runtime.video.tower import ImageTower
from tests.browsing import look, start, wait
from tests.stale_edge.actionformer_examples import TINY, TINY_LOCAL

pytestmark = pytest.mark.browser
PACKAGE = Path(__file__).parents[2] / RUNTIME
DATA = Path(__file__).parents[1] / "data"
STEP_S, WIDTH = 0.5, 32
START_S = 240
"""Patience with WebGPU that a busy processor computes."""
LENGTHS = (1, 3, 40, 100, 257)
SOFTWARE_GPU = (
    *("--enable-unsafe-webgpu", "--enable-features=Vulkan,WebGPU"),
    *("--use-webgpu-adapter=swiftshader", "--enable-unsafe-swiftshader"),
)
NARROW = TINY.feature_dim
OTHERS = {
    "resized": TINY,
    "own step": TINY_LOCAL,
}
"""ActionFormers: one that resizes videos, one whose snippets overlap."""
HOSTILE = "<img src=x onerror=\"document.title='taken'\">"


class Handler(SimpleHTTPRequestHandler):
    """A plain static server that remembers what it was asked for."""

    asked: list[str]

    def log_message(self, *_words):
        self.asked.append(self.path)


class Served:
    """A site below a path of a server that sends no headers of its own, as `python -m http.server` does."""

    def __init__(self, root):
        self.asked = []
        handler = type("OfOneServer", (Handler,), {"asked": self.asked})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(root)))
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def address(self, name):
        return f"http://127.0.0.1:{self.port}/some/path/{name}/"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def models(tiny_checkpoint, tmp_path_factory):
    """Detection files of tiny networks, int8 of the first, and image towers of two widths."""
    from stale_edge_export import detections
    from stale_edge_export.exporter import export_checkpoint
    from stale_edge_export.quantization.quantize import quantize_file
    from stale_edge_export.towers import export_image_tower

    folder = tmp_path_factory.mktemp("models")
    checkpoints = {"fp32": replace(tiny_checkpoint, classes=(HOSTILE, *tiny_checkpoint.classes[1:]))}
    for name, config in OTHERS.items():
        names, network = (
            tuple(f"class {place}" for place in range(config.classes)),
            seeded_network(config, 0, ACTIONFORMER),
        )
        checkpoints[name] = Checkpoint(network, names, {}, network_name=ACTIONFORMER)
    found = {name: folder / f"{name}.onnx" for name in (*checkpoints, "int8", "tower", "narrow tower")}
    found["map"] = DATA / "tiny_boundary_map_detections.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detections, "LONGEST", 200)
        for name, checkpoint in checkpoints.items():
            export_checkpoint(checkpoint, found[name], snippet_seconds=STEP_S, decode={})
        quantize_file(found["fp32"], found["int8"], Precision.INT8)
    for name, width in (("tower", WIDTH), ("narrow tower", NARROW)):
        sizes = ImageTowerConfig(image_size=24, patch=8, width=32, layers=2, heads=4, hidden=64, embedding_dim=width)
        export_image_tower(seeded_clip(sizes, TextConfig(width=32, layers=2, heads=2, hidden=64)), found[name])
    return found


@pytest.fixture(scope="module")
def served(models, tmp_path_factory):
    if not (PACKAGE / "package.json").is_file():
        pytest.skip("needs the npm package onnxruntime-web (run `make web`)")
    root = tmp_path_factory.mktemp("server")
    runtime = site.read_runtime(PACKAGE)
    towers = {"video": ("fp32", "tower"), "short video": ("resized", "narrow tower")}
    for name, parts in {**{name: (name,) for name in ("fp32", "int8", "map", *OTHERS)}, **towers}.items():
        model, tower = [*map(read_model, map(models.get, parts)), None][:2]
        step_s = 0.1 if model.info.resize_to else STEP_S
        content = site.site_files(model, tower, runtime, title="Find actions", step_s=step_s)
        site.write_site(root / "some" / "path" / name, content)
    found = Served(root)
    yield found
    found.stop()


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two films of colours that change every second, in two formats."""
    av = pytest.importorskip("av")
    folder = tmp_path_factory.mktemp("films")
    paths = {"h264": folder / "film.mp4", "vp9": folder / "other film.webm"}
    for path, codec in zip(paths.values(), ("libx264", "libvpx-vp9"), strict=True):
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=10)
            stream.width, stream.height, stream.pix_fmt, stream.options = 160, 96, "yuv420p", {"crf": "8"}
            for place in range(75):
                second = place // 10
                pixels = np.full((96, 160, 3), (37 * second % 255, (91 * second + 40) % 255, 90), np.uint8)
                pixels[20:60, 40 + place // 2 : 80 + place // 2] = (255 - 30 * second, 20 * second, 200)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
    return paths


def script(browser, text, *arguments):
    return browser.execute_script(f"const at = (id) => document.getElementById(id); {text}", *arguments)


def in_player(browser, text):
    return script(browser, f"const inside = at('player').contentDocument; {text}")


def opened(browser, address, width=1300, dark=False):
    look(browser, width=width, dark=dark)
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(address)
    wait(lambda: script(browser, "return document.documentElement.dataset.ready"), START_S)
    state = script(browser, "return at('state').textContent")
    assert script(browser, "return document.documentElement.dataset.ready") == "yes", state
    return browser


def give(page, paths):
    """Choose files, and wait until each is done; gives the words about each by its name or problem."""
    before = script(page, "return document.querySelectorAll('#work li').length")
    page.find_element("id", "files").send_keys("\n".join(map(str, paths)))
    wait(lambda: script(page, "return document.querySelectorAll('#work li').length") > before)
    wait(lambda: not script(page, "return document.querySelector('#work button')"), START_S)
    return script(page, "return [...document.querySelectorAll('#work li')].map((row) => row.innerText)")


def saved(page, button, folder, names):
    """Press a button and read what it gives."""
    wanted = [folder / name for name in names]
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    script(page, f"at('{button}').click()")
    wait(lambda: all(path.is_file() for path in wanted))
    return wanted


def results(page, folder):
    folder.mkdir(exist_ok=True)
    (path,) = saved(page, "save", folder, ["results.json"])
    found = read_results(path)
    path.unlink()
    return found


def assert_same(found, expected, rows=None):
    assert len(found) == len(expected) > 0
    for one, other in zip(found[:rows], expected[:rows], strict=True):
        assert one.label == other.label
        assert (one.start_s, one.end_s) == pytest.approx((other.start_s, other.end_s), abs=1e-3)
        assert one.score == pytest.approx(other.score, rel=1e-3, abs=1e-6)


def errors(page):
    """Errors on the console; that there is no WebGPU is a warning of Chromium's."""
    return [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]


def test_features_of_every_length_give_what_python_finds(browser, served, models, tmp_path):
    detector = Detector(models["fp32"])
    page = opened(browser, served.address("fp32"))
    features = {f"video{length}": clip_like_features(1, length, WIDTH, seed=length)[0] for length in LENGTHS}
    for name, rows in features.items():
        np.save(tmp_path / f"v_{name}.npy", rows)
    told = give(page, sorted(tmp_path.glob("*.npy")))
    found = results(page, tmp_path / "down")
    assert found.external["time_unit"] == "seconds"
    assert found.external["model"] == {"file": "fp32.onnx", "precision": "fp32", "untrained": False}
    assert set(found.detections) == set(features)
    for name, rows in features.items():
        assert_same(found.detections[name], detector.detect(rows))
    assert all(re.search(r"network \d+ ms · memory \d+ MB", line) for line in told)
    wait(lambda: in_player(page, "return inside.querySelectorAll('#videos .row').length") == len(LENGTHS))
    assert errors(page) == []


@pytest.mark.parametrize("name", ["map", *OTHERS])
def test_every_network_gives_what_python_finds(browser, served, models, tmp_path, name):
    detector = Detector(models[name])
    page = opened(browser, served.address(name))
    features = {str(length): clip_like_features(1, length, detector.info.feature_dim)[0] for length in (1, 30, 120)}
    for length, rows in features.items():
        np.save(tmp_path / f"{length}.npy", rows)
    give(page, sorted(tmp_path.glob("*.npy")))
    found = results(page, tmp_path / "down")
    for length, rows in features.items():
        assert_same(found.detections[length], detector.detect(rows))


def test_a_network_that_resizes_gets_the_frames_that_it_reads(browser, served, models, videos, tmp_path):
    page = opened(browser, served.address("short video"))
    give(page, [videos["h264"]])
    made = np.load(saved(page, "save-features", tmp_path, ["film.npy"])[0])
    settings = FeatureSettings(VideoOptions(step_s=0.1), positions=TINY.max_length)
    expected = FeatureExtractor(ImageTower(models["narrow tower"]), settings, "test").extract(videos["h264"]).rows
    assert made.shape == expected.shape == (TINY.max_length, NARROW)
    assert np.linalg.norm(made - expected) < 0.1 * np.linalg.norm(expected - expected.mean(axis=0))
    found = results(page, tmp_path / "down").detections["film"]
    assert_same(found, Detector(models["resized"]).detect(made, 7.5))


def test_every_float_byte_order_and_layout_is_read(browser, served, models, tmp_path):
    detector = Detector(models["fp32"])
    rows = clip_like_features(1, 30, WIDTH, seed=5)[0]
    kinds = [order + kind for kind in ("f2", "f4", "f8") for order in "<>"]
    for place, kind in enumerate(kinds):
        for layout in (np.ascontiguousarray, np.asfortranarray):
            np.save(tmp_path / f"{place}{layout.__name__}.npy", layout(rows.astype(kind)))
    paths = sorted(tmp_path.glob("*.npy"))
    page = opened(browser, served.address("fp32"))
    give(page, paths)
    found = results(page, tmp_path / "down")
    for path in paths:
        assert_same(found.detections[path.stem], detector.detect(read_features(path, WIDTH)))


def test_the_ten_best_of_int8_are_pythons(browser, served, models, tmp_path):
    detector = Detector(models["int8"])
    rows = clip_like_features(1, 100, WIDTH, seed=7)[0]
    np.save(tmp_path / "one.npy", rows)
    page = opened(browser, served.address("int8"))
    give(page, [tmp_path / "one.npy"])
    found, expected = results(page, tmp_path / "down").detections["one"][:10], detector.detect(rows)[:10]
    for one in expected:
        assert any(
            other.label == one.label and abs(other.start_s - one.start_s) + abs(other.end_s - one.end_s) < STEP_S
            for other in found
        )


def test_wrong_files_are_refused_in_words_and_the_others_run(browser, served, tmp_path):
    rows = clip_like_features(1, 20, WIDTH)[0]
    np.save(tmp_path / "good.npy", rows)
    np.save(tmp_path / "turned.npy", rows.T)
    np.save(tmp_path / "flat.npy", rows[0])
    np.save(tmp_path / "whole.npy", np.ones((20, WIDTH), np.int32))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "pack.npz", features=rows)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:-7])
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "clip.mp4").write_bytes(b"0" * 100)
    (tmp_path / "empty.npy").write_bytes(b"")
    np.save(tmp_path / "huge.npy", np.full((20, WIDTH), 3e38, np.float32))
    bad = rows.copy()
    bad[3, 5] = np.nan
    np.save(tmp_path / f"{HOSTILE.replace('/', '|')}.npy", bad)
    page = opened(browser, served.address("fp32"))
    told = " ".join(give(page, sorted(path for path in tmp_path.iterdir())))
    for words in (
        f"turned.npy\u2069 is [{WIDTH}, 20], not [snippets, {WIDTH}] (the published layout?); transpose it",
        f"flat.npy\u2069 has 1 axes [{WIDTH}], not [snippets, {WIDTH}]",
        "whole.npy\u2069 holds elements of type '<i4'; save them",
        "objects.npy\u2069 holds Python objects, which can run code and are never opened",
        "pack.npz\u2069 is an archive; unpack it",
        "cut.npy\u2069 announces 20 x 32 (2,560 bytes) and holds 2,553; it is damaged",
        "notes.txt\u2069 is neither of what this page takes: features (.npy)",
        "clip.mp4\u2069 is a video, and this site has no image tower; build it with `stale-edge web --clip-image`",
        "empty.npy\u2069 is neither",
        "huge.npy\u2069 cannot be run: the network answers with NaN or infinity",
        "1 of 20 snippets hold NaN, infinity or values beyond float32, the first is snippet 3",
    ):
        assert words in told
    assert set(results(page, tmp_path / "down").detections) == {"good"}
    assert page.title == "Find actions"
    assert errors(page) == []


def test_videos_go_through_the_tower_as_in_python(browser, served, models, videos, tmp_path):
    page = opened(browser, served.address("video"))
    told = give(page, videos.values())
    assert all(
        re.search(r"15 snippets · frames .* · crops .* · image tower .* · network .* · memory", line) for line in told
    )
    tower = ImageTower(models["tower"])
    extractor = FeatureExtractor(tower, FeatureSettings(VideoOptions(step_s=STEP_S)), "test")
    paths = saved(page, "save-features", tmp_path, [f"{path.stem}.npy" for path in videos.values()])
    found = results(page, tmp_path / "down").detections
    detector = Detector(models["fp32"])
    for path, made in zip(videos.values(), paths, strict=True):
        expected, rows = extractor.extract(path).rows, np.load(made)
        assert rows.shape == expected.shape
        apart = np.linalg.norm(expected - expected.mean(axis=0))
        assert np.linalg.norm(rows - expected) < 0.1 * apart, "other frames, crops or colours than Python's"
        assert_same(found[path.stem], detector.detect(rows, 7.5))
    wait(lambda: in_player(page, "return inside.getElementById('video')?.readyState >= 2"))
    in_player(page, "[...inside.querySelectorAll('#detections .row')].at(-1).click()")
    wait(lambda: in_player(page, "return inside.getElementById('video').currentTime > 0.01"))
    assert errors(page) == []


def test_the_tower_runs_on_webgpu_as_on_the_processor(served, models, videos, tmp_path):
    browser = start(tmp_path / "profile", *SOFTWARE_GPU)
    try:
        page = opened(browser, served.address("video"))
        if not script(page, "return navigator.gpu && navigator.gpu.requestAdapter().then(Boolean)"):
            pytest.skip("needs a Chromium that draws WebGPU by software")
        made = []
        for engine, used in (("auto", "webgpu"), ("wasm", "wasm")):
            if engine == "wasm":
                script(page, "at('engine').value = 'wasm'; at('engine').dispatchEvent(new Event('change'))")
                of_tower = "return JSON.parse(document.documentElement.dataset.engines).tower"
                wait(lambda words=of_tower: script(page, words) == "wasm", START_S)
            engines = json.loads(script(page, "return document.documentElement.dataset.engines"))
            assert engines == {"model": "wasm", "tower": used}
            give(page, [videos["h264"]])
            (tmp_path / engine).mkdir()
            made.append(np.load(saved(page, "save-features", tmp_path / engine, ["film.npy"])[0]))
        np.testing.assert_allclose(*made, rtol=1e-3, atol=1e-3)
        assert errors(page) == []
    finally:
        browser.quit()


def test_damaged_videos_are_refused_in_words(browser, served, videos, tmp_path):
    (tmp_path / "zeros.mp4").write_bytes(bytes(5000))
    page = opened(browser, served.address("video"))
    (told,) = give(page, [tmp_path / "zeros.mp4"])
    assert "zeros.mp4\u2069 is no video that this browser reads; H.264 in .mp4" in told


def test_features_are_shown_with_the_video_of_their_name(browser, served, models, videos, tmp_path):
    rows = clip_like_features(1, 20, WIDTH)[0]
    np.save(tmp_path / "film.npy", rows)
    page = opened(browser, served.address("fp32"))
    give(page, [tmp_path / "film.npy", videos["h264"]])
    assert_same(results(page, tmp_path / "down").detections["film"], Detector(models["fp32"]).detect(rows, 7.5))
    wait(lambda: in_player(page, "return inside.getElementById('video')?.readyState >= 2"))


def test_once_loaded_it_needs_no_network_and_has_threads(browser, models, served, videos, tmp_path):
    own = Served(Path(served.server.RequestHandlerClass.keywords["directory"]))
    page = opened(browser, own.address("video"))
    wait(lambda: script(page, "return navigator.serviceWorker.controller !== null"))
    page.execute_cdp_cmd("Network.clearBrowserCache", {})
    own.stop()
    asked = len(own.asked)
    opened(browser, own.address("video"))
    assert script(page, "return crossOriginIsolated")
    policy = "return fetch('worker.js').then((answer) => answer.headers.get('Content-Security-Policy'))"
    assert script(page, policy) == "connect-src 'self'"
    threads = int(script(page, "return document.documentElement.dataset.threads"))
    assert threads == min(4, script(page, "return navigator.hardwareConcurrency"))
    rows = clip_like_features(1, 60, WIDTH, seed=9)[0]
    np.save(tmp_path / "one.npy", rows)
    give(page, [tmp_path / "one.npy", videos["h264"]])
    found = results(page, tmp_path / "down").detections
    assert set(found) == {"one", "film"}
    assert_same(found["one"], Detector(models["fp32"]).detect(rows))
    assert len(own.asked) == asked


def test_nothing_is_asked_of_other_hosts_and_nothing_sent(browser, served, tmp_path):
    np.save(tmp_path / "one.npy", clip_like_features(1, 20, WIDTH)[0])
    page = opened(browser, served.address("fp32"))
    before = len(served.asked)
    give(page, [tmp_path / "one.npy"])
    wait(lambda: in_player(page, "return inside.querySelectorAll('#detections .row').length"))
    assert all(path.endswith("/player.html") for path in served.asked[before:])
    sent = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    requests = [one["params"]["request"] for one in sent if one["method"] == "Network.requestWillBeSent"]
    assert requests
    own = (served.address("fp32"), "data:", "blob:", "about:")
    assert [one["url"] for one in requests if not one["url"].startswith(own)] == []
    assert {one["method"] for one in requests} == {"GET"}


@pytest.mark.parametrize(("width", "dark"), [(1300, False), (1300, True), (360, False), (360, True)])
def test_both_looks_on_a_desk_and_on_a_phone(browser, served, videos, width, dark):
    page = opened(browser, served.address("video"), width, dark)
    assert script(page, "return document.documentElement.scrollWidth") <= width
    give(page, [videos["h264"]])
    wait(lambda: in_player(page, "return inside.getElementById('timeline')?.dataset.to"))
    assert script(page, "return document.documentElement.scrollWidth") <= width
    assert in_player(page, "return inside.documentElement.scrollWidth") <= width
    paper = "return getComputedStyle({}.body).backgroundColor"
    for dark_now in (dark, not dark):
        wait(lambda now=dark_now: is_dark(in_player(page, paper.format("inside"))) == now)
        assert is_dark(script(page, paper.format("document"))) == dark_now
        script(page, "at('theme').click()")
    assert errors(page) == []


def is_dark(colour):
    return sum(map(int, re.findall(r"\d+", colour)[:3])) < 200
