"""The player page: what is packed into it, which videos it finds, and what the command says."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stale_edge.page_parts import script_json
from stale_edge.pages.player.content import (
    MAX_SETS,
    PlayerContent,
    ResultSet,
    VideoMedia,
    pack,
    set_names,
)
from stale_edge.pages.player.media import address_from, find_media, media_of
from stale_edge.pages.player.page import write_player
from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.errors import InputMissingError, UsageError
from stale_edge_runtime.formats.annotations import Annotations, Instance, Video
from stale_edge_runtime.formats.results import write_results
from stale_edge_runtime.metrics.diagnosis import Verdict

Command = Callable[..., tuple[int, str, str]]
FOUND = {
    "one": [Detection(0, 10, "jump", 0.9), Detection(0, 9, "jump", 0.8), Detection(20, 30, "jump", 0.7)],
    "two": [Detection(1, 2, "run", 0.1)],
}
TRUTH = Annotations(
    "gt.json",
    (
        Video("one", "validation", 40.0, (Instance(0, 10, "jump"), Instance(20, 30, "throw"))),
        Video("two", "validation", None, ()),
        Video("three", "validation", 5.0, (Instance(0, 5, "jump"),)),
    ),
)


def column(text: str, kind: str) -> list[float]:
    return np.frombuffer(base64.b64decode(text), kind).tolist()


def embedded(page: Path, name: str) -> str:
    found = re.search(rf'<script [^>]*id="{name}"[^>]*>(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found
    return found[1]


def test_columns_hold_every_detection_and_its_verdict() -> None:
    packed = pack(PlayerContent([ResultSet("a", FOUND)], TRUTH, {"one": 40.0}))
    (found,) = packed["sets"]
    assert packed["ids"] == ["one", "two"]
    assert packed["classes"] == ["jump", "run", "throw"]
    assert column(packed["lengths"], "<f4") == [40, 0]
    assert column(found["offsets"], "<u4") == [0, 3, 4]
    assert column(found["end"], "<f4") == [10, 9, 30, 2]
    assert column(found["label"], "<u4") == [0, 0, 0, 1]
    kinds = [packed["verdicts"].index(kind) for kind in (Verdict.TRUE_POSITIVE, Verdict.DOUBLE, Verdict.WRONG_CLASS)]
    assert column(found["verdict"], "u1") == [*kinds, 255]
    assert column(packed["truth"]["offsets"], "<u4") == [0, 2, 2]
    assert column(found["finder"], "<i4") == [0, -1]
    assert found["minimum"] == pytest.approx(0.9)


def test_finders_are_rows_of_the_set_and_files_may_spell_ids_differently() -> None:
    first = {"zero": [Detection(0, 1, "run", 0.5)] * 3, **FOUND}
    second = {"v_one.mp4": FOUND["one"][:1]}
    packed = pack(PlayerContent([ResultSet("a", first), ResultSet("b", second)], TRUTH))
    assert packed["ids"] == ["zero", "one", "two"]
    assert [column(one["finder"], "<i4") for one in packed["sets"]] == [[3, -1], [0, -1]]


def test_videos_without_detections_are_shown_when_asked_for() -> None:
    packed = pack(PlayerContent([ResultSet("a", FOUND)], TRUTH, silent=["three"]))
    assert packed["ids"] == ["one", "two", "three"]
    assert column(packed["sets"][0]["finder"], "<i4") == [0, -1, -1]


def test_without_ground_truth_nothing_is_judged_and_few_are_shown_at_first() -> None:
    many = {"one": [Detection(0, 1, "a", score / 100) for score in range(100)], "two": []}
    (found,) = pack(PlayerContent([ResultSet("a", many)]))["sets"]
    assert "verdict" not in found
    assert sum(score >= found["minimum"] for score in column(found["score"], "<f4")) == 20


@pytest.mark.parametrize("number", [0, MAX_SETS + 1])
def test_numbers_of_files_have_limits(number: int) -> None:
    with pytest.raises(UsageError, match="1 to 8"):
        pack(PlayerContent([ResultSet("a", FOUND)] * number))


def test_files_of_one_name_are_told_apart() -> None:
    assert set_names([Path("x/fp32.json"), Path("x/int8.json")]) == ["fp32", "int8"]
    assert set_names([Path("/a/r.json"), Path("/b/r.json")]) == ["a/r", "b/r"]
    assert set_names([Path("/a/r.json"), Path("/a/r.csv")]) == ["r.json", "r.csv"]
    assert set_names([Path("/a/r.json")] * 2) == ["r (1)", "r (2)"]


def test_scripts_and_style_are_allowed_by_their_hashes_alone(tmp_path: Path) -> None:
    write_player(tmp_path / "p.html", PlayerContent([ResultSet("a", FOUND)]), title="<b>&")
    page = (tmp_path / "p.html").read_text("utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none';")
    for script in [
        *re.findall(r"<script>(.*?)</script>", page, re.DOTALL),
        re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1],
    ]:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert "<title>&lt;b&gt;&amp;</title>" in page
    assert "https://" not in page


def test_hostile_names_end_no_script() -> None:
    hostile = "</script><script>alert(1)</script><!-- \u2028 & \N{RIGHT-TO-LEFT OVERRIDE}\x1b[31m"
    text = script_json({"label": hostile})
    assert not set("<>&\u2028\x1b") & set(text)
    assert json.loads(text)["label"] == hostile


def test_videos_are_found_by_name_in_folders_below(tmp_path: Path) -> None:
    for name in ("v_one.mkv", "deep/v_one.mp4", "deep/er/two.WEBM", "two.txt", "other.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = find_media(tmp_path, ["one", "two", "three"])
    assert {video: path.name for video, path in found.items()} == {"one": "v_one.mp4", "two": "two.WEBM"}
    with pytest.raises(InputMissingError, match="is no folder"):
        find_media(tmp_path / "absent", [])


def test_addresses_are_relative_and_encoded(tmp_path: Path) -> None:
    assert address_from(tmp_path / "pages", tmp_path / "videos" / "50% #1?.mp4") == "../videos/50%25%20%231%3F.mp4"


def test_small_videos_are_embedded_and_large_ones_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stale_edge.pages.player.media.MAX_EMBEDDED_BYTES", 10)
    (tmp_path / "one.webm").write_bytes(b"small")
    (tmp_path / "two.mp4").write_bytes(b"x" * 11)
    paths = {"one": tmp_path / "one.webm", "two": tmp_path / "two.mp4"}
    media, notes = media_of(paths, tmp_path / "p.html", embed=True)
    assert media["one"] == VideoMedia(paths["one"], embedded=b"small")
    assert media["two"] == VideoMedia(paths["two"], "two.mp4")
    assert notes == ["1 videos are too large to embed; they are linked"]
    write_player(tmp_path / "p.html", PlayerContent([ResultSet("a", FOUND)], media=media), title="t")
    assert base64.b64decode(embedded(tmp_path / "p.html", "embedded-0")) == b"small"


def test_the_command_writes_a_page(command: Command, tmp_path: Path) -> None:
    for name in ("fp32", "int8"):
        write_results(tmp_path / f"{name}.json", FOUND, external={"model": {"file": f"{name}.onnx"}})
    truth = {
        video.id: {
            "subset": video.subset,
            **({"duration": video.duration_s} if video.duration_s else {}),
            "annotations": [{"segment": [i.start_s, i.end_s], "label": i.label} for i in video.instances],
        }
        for video in TRUTH.videos
    }
    (tmp_path / "gt.json").write_text(json.dumps({"database": truth}))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "v_one.mp4").write_bytes(b"no video")
    page = tmp_path / "p.html"
    files = [tmp_path / "fp32.json", tmp_path / "int8.json"]
    code, out, said = command(
        "view",
        *files,
        "--videos",
        tmp_path / "videos",
        "-g",
        tmp_path / "gt.json",
        "-o",
        page,
        "--with-subset",
        "validation",
    )
    assert (code, out) == (0, "")
    assert "2 videos, 1 with the video" in said
    packed = json.loads(embedded(page, "packed"))
    assert [(one["name"], one["note"]) for one in packed["sets"]] == [("fp32", "fp32.onnx"), ("int8", "int8.onnx")]
    assert packed["ids"] == ["one", "two", "three"]
    assert packed["media"]["0"]["address"] == "videos/v_one.mp4"
    code, _, said = command("view", files[0], "--videos", tmp_path, "-o", files[0])
    assert code == 2
    assert "is an input" in said
    shutil.rmtree(tmp_path / "videos")
    code, _, said = command("view", files[0], "--videos", tmp_path / "videos", "-o", page)
    assert code == 66


def test_frames_are_read_where_they_can_be(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    pytest.importorskip("PIL")
    path = tmp_path / "one.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for place in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 6 * place, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    media, notes = media_of({"one": path}, tmp_path / "p.html", thumbnails=4)
    assert notes == []
    assert media["one"].length_s == pytest.approx(4, abs=0.2)
    from PIL import Image

    sprite = media["one"].sprite
    assert (sprite.frames, sprite.width, sprite.height) == (4, 72, 54)
    (tmp_path / "s.jpg").write_bytes(sprite.jpeg)
    strip = np.asarray(Image.open(tmp_path / "s.jpg").convert("L"))
    shades = [strip[:, 72 * place + 36].mean() for place in range(4)]
    assert shades == pytest.approx([30, 90, 150, 210], abs=12)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"broken")
    media, notes = media_of({"broken": broken, "one": path}, tmp_path / "p.html", thumbnails=4)
    assert media["broken"].sprite is None
    assert media["one"].sprite == sprite
    assert len(notes) == 1
    assert "is no video" in notes[0]


def test_a_video_that_ends_its_reader_has_no_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    pytest.importorskip("PIL")
    (tmp_path / "av").mkdir()
    (tmp_path / "av" / "__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "one.mp4"
    path.write_bytes(b"x")
    media, notes = media_of({"one": path}, tmp_path / "p.html", thumbnails=4)
    assert media["one"].sprite is None
    assert "one.mp4: ended the process that worked on it (SIGSEGV)" in notes[0]
