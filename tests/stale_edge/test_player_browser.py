"""The player page as a browser shows it, opened from disk, with real videos."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from stale_edge.pages.player.content import PlayerContent, ResultSet, VideoMedia
from stale_edge.pages.player.media import media_of
from stale_edge.pages.player.page import write_player
from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.formats.annotations import Annotations, Instance, Video
from tests.browsing import look, wait

pytestmark = pytest.mark.browser
HOSTILE = (
    "<script>document.title='taken'</script>",
    "</script><script>document.title='taken'</script>",
    "\"' onmouseover=\"document.title='taken'",
    "<img src=x onerror=\"document.title='taken'\">",
    "\x1b[31mred\x07",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnimmiws \N{ARABIC LETTER ALEF}",
    "long name " * 30,
)
KEYS = {"left": "\ue012", "right": "\ue014", "space": " ", "escape": "\ue00c"}
TRUTH = [Instance(2, 4, "jump"), Instance(6, 8, "jump"), Instance(5, 7, "run")]
FIRST = [
    Detection(2.1, 4.1, "jump", 0.9),
    Detection(2.0, 3.8, "jump", 0.8),
    Detection(4.9, 7.2, "run", 0.7),
    Detection(8.5, 9.5, "run", 0.2),
]
SECOND = [Detection(6.1, 8.1, "jump", 0.6), Detection(2, 4, "run", 0.5)]


def film(path, codec, seconds=10):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for place in range(10 * seconds):
            pixels = np.zeros((96, 160, 3), np.uint8)
            pixels[..., 0] = 255 * place // (10 * seconds)
            pixels[:, : 1 + place] = 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A page with two files' detections in three videos: one beside the page, one inside it, one that is missing."""
    folder = tmp_path_factory.mktemp("player")
    (folder / "films here").mkdir()
    film(folder / "films here" / "linked.mp4", "libx264")
    film(folder / "embedded.webm", "libvpx-vp9")
    names = ("linked", "embedded", "gone")
    first = {name: FIRST[: 4 - place] for place, name in enumerate(names)}
    second = dict.fromkeys(names, SECOND)
    truth = Annotations("gt.json", tuple(Video(name, "test", 10.0, tuple(TRUTH)) for name in names))
    paths = {"linked": folder / "films here" / "linked.mp4"}
    media, _ = media_of(paths, folder / "page.html", thumbnails=6)
    embedded, _ = media_of({"embedded": folder / "embedded.webm"}, folder / "page.html", embed=True)
    media |= embedded | {"gone": VideoMedia(folder / "gone.mp4", "gone.mp4")}
    sets = [ResultSet("fp32", first, "one.onnx, fp32"), ResultSet("int8", second)]
    content = PlayerContent(sets, truth, dict.fromkeys(names, 10.0), media)
    write_player(folder / "page.html", content, title="Two files")
    (folder / "embedded.webm").unlink()
    return folder


@pytest.fixture
def page(browser, folder):
    return opened(browser, folder / "page.html", "video=linked&t=0&min=0,0")


def opened(browser, path, address="", width=1300, dark=False):
    look(browser, width=width, dark=dark)
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(f"{path.as_uri()}#{address}")
    wait(lambda: browser.execute_script("return document.getElementById('timeline').dataset.to"))
    if "linked" in address or "embedded" in address:
        wait(lambda: browser.execute_script("return document.getElementById('video').readyState >= 2"))
    return browser


def script(browser, text, *arguments):
    return browser.execute_script(f"const at = (id) => document.getElementById(id); {text}", *arguments)


def press(browser, key):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(KEYS.get(key, key)).perform()


def now(browser):
    return script(browser, "return at('video').currentTime")


def rows(browser, box="detections"):
    text = "return [...document.querySelectorAll(`#${arguments[0]} .row`)]"
    order = ".sort((a, b) => a.dataset.index - b.dataset.index).map(row => row.innerText.split('\\n'))"
    return script(browser, text + order, box)


def click_lane(browser, time_s, y):
    """Click the lanes at a time and a height in pixels."""
    place = """const box = at('lanes').getBoundingClientRect(), shown = at('timeline').dataset;
      const part = (arguments[0] - shown.from) / (shown.to - shown.from), gutter = Number(shown.gutter);
      return [box.left + gutter + part * (at('lane-box').clientWidth - gutter - 8), box.top + arguments[1]]"""
    script(browser, "at('lanes').scrollIntoView({ block: 'start' })")
    x, top = script(browser, place, time_s, y)
    for kind in ("mousePressed", "mouseReleased"):
        event = {"type": kind, "x": x, "y": top, "button": "left", "clickCount": 1}
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)
    return x, top


def test_a_detection_is_jumped_to_played_and_repeated(page):
    assert page.get_log("browser") == []
    click_lane(page, 3, 4 + 24 + 20 + 10)  # the first lane is that of the best detection: its truth, then file A
    wait(lambda: not script(page, "return at('video').paused"))
    assert 2 <= now(page) <= 4.2
    assert script(page, "return at('said').textContent").startswith(
        "jump, 0:02.1 to 0:04.1, score 0.900, true positive"
    )
    script(page, "at('video').playbackRate = 4; at('video').currentTime = 3.9")
    wait(lambda: now(page) < 3)  # it began again
    press(page, "escape")
    script(page, "at('video').currentTime = 4")
    wait(lambda: now(page) > 4.6)  # nothing holds it any more
    press(page, "space")
    wait(lambda: script(page, "return at('video').paused"))
    assert script(page, "return Number(at('timeline').getAttribute('aria-valuenow'))") == pytest.approx(
        now(page), abs=0.3
    )


def test_keys_move_in_time_from_detection_to_detection_and_between_videos(page):
    press(page, "right")
    press(page, "right")
    wait(lambda: now(page) == pytest.approx(2))
    press(page, "left")
    wait(lambda: now(page) == pytest.approx(1))
    times = []
    for key in "nnnp":
        press(page, key)
        time.sleep(0.05)
        times.append(
            script(page, "return document.querySelector('#detections [aria-selected=true] .facts').innerText")[:6]
        )
    assert times == ["0:02.0", "0:02.0", "0:02.1", "0:02.0"]
    press(page, "]")
    wait(lambda: script(page, "return at('name').textContent") != "linked")
    press(page, "[")
    wait(lambda: script(page, "return at('name').textContent") == "linked")
    press(page, "?")
    assert script(page, "return at('help').open")
    press(page, "escape")
    wait(lambda: not script(page, "return at('help').open"))
    press(page, "+")
    shown = script(page, "return { ...at('timeline').dataset }")
    assert float(shown["to"]) - float(shown["from"]) == pytest.approx(6.25)
    press(page, "0")
    assert script(page, "return at('timeline').dataset.to") == "10"


def test_scores_classes_and_files_filter(page):
    assert len(rows(page)) == 6
    script(page, "at('minimum-A').value = 0.75; at('minimum-A').dispatchEvent(new Event('input'))")
    wait(lambda: len(rows(page)) == 4)
    assert "score ≥ 0.75: 2 of 4" in script(page, "return at('sets').innerText")
    script(page, "at('show-B').click()")
    assert [row[0] for row in rows(page)] == ["jump", "jump"]
    script(page, "at('show-B').click(); at('open-classes').click()")
    boxes = script(page, "return [...document.querySelectorAll('#class-list label')].map(one => one.textContent)")
    assert boxes == ["jump", "run"]
    script(page, "document.querySelectorAll('#class-list input')[1].click()")
    wait(lambda: [row[0] for row in rows(page)] == ["run"])
    assert script(page, "return at('timeline').dataset.lanes") == "1"
    script(page, "at('classes-all').click()")
    wait(lambda: len(rows(page)) == 4)


def test_the_worst_video_comes_first_and_search_finds(page):
    words = rows(page, "videos")
    faults = [
        sum(int(part.split()[0]) for part in row[-1].split(" · ")[1:] if "misplaced" not in part) for row in words
    ]
    missed = [int(row[-1].split(" of ")[1].split()[0]) - int(row[-1].split(" of ")[0]) for row in words]
    totals = [one + other for one, other in zip(faults, missed, strict=True)]
    assert totals == sorted(totals, reverse=True)
    script(page, "at('search').value = 'LINK'; at('search').dispatchEvent(new Event('input'))")
    assert [row[0] for row in rows(page, "videos")] == ["linked"]
    assert script(page, "return at('matches').textContent") == "1 of 3 videos"


def test_a_link_brings_the_view_back(browser, folder):
    address = "video=embedded&t=6.5&view=4,9&min=0.3,0.55&class=jump&files=B"
    page = opened(browser, folder / "page.html", address)
    wait(lambda: now(page) == pytest.approx(6.5))
    assert script(page, "return { ...at('timeline').dataset }") | {"gutter": ""} == {
        "from": "4",
        "to": "9",
        "lanes": "1",
        "gutter": "",
    }
    assert [row[0] for row in rows(page)] == ["jump"]
    press(page, "right")
    wait(lambda: "t=7.5" in page.current_url)
    assert "view=4.00%2C9.00" in page.current_url
    assert page.get_log("browser") == []


def test_a_missing_video_leaves_its_timeline(browser, folder):
    page = opened(browser, folder / "page.html", "video=gone&min=0,0")
    wait(
        lambda: script(page, "return at('trouble').textContent").startswith(
            "\u2068gone.mp4\u2069 cannot be played here"
        )
    )
    assert script(page, "return at('screen').offsetHeight") == 0
    click_lane(page, 3, 58)
    assert script(page, "return at('clock').textContent") == "0:02.1 / 0:10"


def test_hovering_tells_label_times_and_score(page):
    x, y = click_lane(page, 3, 58)
    page.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x + 1, "y": y})
    wait(lambda: not script(page, "return at('tip').hidden"))
    told = script(page, "return at('tip').innerText").splitlines()
    assert told == ["\u2068jump\u2069", "0:02.1 to 0:04.1", "score 0.900", "true positive", "A: fp32"]


def test_no_network_is_used(page):
    sent = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = {one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"}
    assert asked
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob", "about"}


@pytest.mark.parametrize(("width", "dark"), [(1300, False), (1300, True), (360, False), (360, True)])
def test_both_looks_on_a_desk_and_on_a_phone(browser, folder, width, dark):
    page = opened(browser, folder / "page.html", "video=linked&t=3", width, dark)
    assert script(page, "return document.documentElement.scrollWidth") <= width
    paper = script(page, "return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper.strip("rgb()").split(","))) < 200) == dark
    wait(lambda: script(page, "return at('ruler').clientHeight > 70"))  # small frames are there
    inked = """const canvas = at('lanes'), area = [0, 0, canvas.width, canvas.height];
      const pixels = new Uint32Array(canvas.getContext('2d').getImageData(...area).data.buffer);
      return new Set(pixels).size"""
    assert script(page, inked) > 20
    if width == 360:
        assert script(page, "return at('videos').offsetHeight") == 0
        script(page, "at('open-library').click()")
        assert script(page, "return at('videos').offsetHeight") > 100
    assert page.get_log("browser") == []


def test_names_of_strangers_are_text(browser, tmp_path):
    found = {
        name.replace("/", "|")[:255]: [Detection(0, 9 - place, label, 0.9) for place, label in enumerate(HOSTILE)]
        for name in HOSTILE
    }
    truth = Annotations("gt", tuple(Video(name, "t", 10.0, (Instance(0, 9, HOSTILE[0]),)) for name in found))
    sets = [ResultSet(HOSTILE[1], found, HOSTILE[3])] * 2
    write_player(tmp_path / "p.html", PlayerContent(sets, truth), title=HOSTILE[1])
    page = opened(browser, tmp_path / "p.html", "min=0,0")
    script(page, "at('open-classes').click()")
    labels = script(page, "return [...document.querySelectorAll('#class-list bdi')].map(one => one.textContent)")
    assert sorted(labels) == sorted(HOSTILE)
    for _ in HOSTILE:
        press(page, "]")
        click_lane(page, 3, 58)
    assert not page.title.startswith("taken")
    assert script(page, "return document.querySelectorAll('main img, main script, nav img, nav script').length") == 0
    assert script(page, "return document.documentElement.scrollWidth") <= 1300
    assert page.get_log("browser") == []


def test_five_thousand_videos_stay_usable(browser, tmp_path):
    rng = np.random.default_rng(5)
    labels = [f"class {place}" for place in range(200)]
    found, videos = {}, []
    for place in range(5000):
        starts, spans, scores = rng.uniform(0, 100, 100), rng.exponential(8, 100), rng.uniform(0, 1, 100)
        kinds = rng.integers(0, 200, 4)
        name = f"video {place}"
        found[name] = [
            Detection(start, start + span, labels[kinds[row % 4]], score)
            for row, (start, span, score) in enumerate(
                zip(starts.tolist(), spans.tolist(), scores.tolist(), strict=True)
            )
        ]
        videos.append(Video(name, "validation", 110.0, (Instance(10, 20, labels[kinds[0]]),)))
    write_player(
        tmp_path / "p.html", PlayerContent([ResultSet("many", found)], Annotations("gt", tuple(videos))), title="many"
    )
    page = opened(browser, tmp_path / "p.html", "video=video 4321&min=0")
    assert script(page, "return at('name').textContent") == "video 4321"
    assert script(page, "return at('matches').textContent") == "5,000 videos"
    assert 0 < len(rows(page, "videos")) < 60
    look(page, width=1300, height=500)
    wait(lambda: script(page, "return at('lane-box').scrollHeight > at('lane-box').clientHeight"))
    wait(lambda: script(page, "return at('lanes').clientWidth <= at('lane-box').clientWidth"))
    assert 0 < len(rows(page)) < 60
    act = """const begun = performance.now(); at('sort').value = 'many'; at('sort').dispatchEvent(new Event('change'));
      at('search').value = 'class 7'; at('search').dispatchEvent(new Event('input'));
      return performance.now() - begun"""
    assert script(page, act) < 5000
    assert script(page, "return at('matches').textContent").endswith("of 5,000 videos")
    script(
        page, "at('search').value = ''; at('search').dispatchEvent(new Event('input')); at('videos').scrollTop = 1e9"
    )
    wait(lambda: script(page, "return !!document.getElementById('videos-4999')"))
    script(page, "at('videos-4999').click()")
    wait(lambda: rows(page, "videos")[-1][0] == script(page, "return at('name').textContent"))
    assert page.get_log("browser") == []


def test_paper_gets_all_lanes_and_detections(page):
    pdf = page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert len(pdf) > 10_000
    script(page, "dispatchEvent(new Event('beforeprint'))")
    assert len(rows(page)) == 6
    heights = script(page, "return [at('lanes').clientHeight, at('lane-space').clientHeight]")
    assert heights[0] == heights[1]
    script(page, "dispatchEvent(new Event('afterprint'))")
