"""Timelines: readable with one detection or fifty, and honest about what they leave out."""

from __future__ import annotations

import io
import re
import struct
import sys
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from stale_edge.cli.timeline_plot import (
    MAX_LANES,
    MAX_LEVELS,
    TimelinePanel,
    check_picture,
    clock,
    shorten_name,
    stack,
    write_timeline,
)
from stale_edge.pages.player.content import Sprite
from stale_edge.palette import CLASS_COLOURS, class_colour
from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.errors import CannotWriteError, UnavailableError, UsageError

pytest.importorskip("matplotlib")


def many(number, classes, length=200.0):
    rng = np.random.default_rng(number)
    starts = rng.uniform(0, length * 0.9, number)
    return [
        Detection(start, min(length, start + rng.exponential(20) + 1), f"class {rng.integers(classes)}", rng.uniform())
        for start in starts
    ]


def size(path):
    return struct.unpack(">II", path.read_bytes()[16:24])


def svg_text(path):
    """What an SVG of text says; letters are drawn as outlines, and each text is a comment before them."""
    return path.read_text()


@pytest.mark.parametrize("number", [0, 1, 50])
def test_pictures_of_any_number_of_detections(number, tmp_path):
    target = tmp_path / "t.png"
    write_timeline(target, [TimelinePanel("clip", 200.0, many(number, 4))])
    width, height = size(target)
    assert width == 1650
    assert 200 < height < 800


def test_an_svg_names_classes_and_counts(tmp_path):
    target = tmp_path / "t.svg"
    truth = [(10.0, 20.0, "long jump"), (30.0, 35.0, "archery")]
    panel = TimelinePanel("clip & co", 200.0, [Detection(9, 21, "long jump", 0.8)], truth)
    write_timeline(target, [panel])
    ET.parse(target)
    said = svg_text(target)
    for text in ("long jump", "archery", "clip &amp; co", "1 detection, 2 true instances", "ground truth"):
        assert f"<!-- {text} -->" in said


def test_the_same_result_gives_the_same_file(tmp_path):
    for name in ("a.svg", "b.svg"):
        write_timeline(tmp_path / name, [TimelinePanel("clip", 200.0, many(20, 3))])
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_more_classes_than_lanes_are_counted_as_left_out(tmp_path):
    found = [Detection(0, 10, f"class {index:02}", 1 - index / 100) for index in range(MAX_LANES + 3)]
    write_timeline(tmp_path / "t.svg", [TimelinePanel("clip", 200.0, found)])
    said = svg_text(tmp_path / "t.svg")
    assert "3 more classes not shown" in said
    assert "<!-- class 00 -->" in said
    assert f"<!-- class {MAX_LANES:02} -->" not in said


def test_true_classes_keep_their_lanes_however_many_are_found(tmp_path):
    found = [Detection(0, 10, f"class {index:02}", 0.9) for index in range(MAX_LANES)]
    write_timeline(tmp_path / "t.svg", [TimelinePanel("clip", 200.0, found, [(0.0, 5.0, "the true one")])])
    assert "<!-- the true one -->" in svg_text(tmp_path / "t.svg")


def test_detections_over_each_other_are_stacked_best_first():
    whole, part, other = Detection(0, 10, "a", 0.9), Detection(2, 4, "a", 0.5), Detection(10, 12, "a", 0.1)
    assert stack([part, other, whole]) == [[whole, other], [part]]
    nested = [Detection(0, 10 - index, "a", 0.9 - index / 10) for index in range(MAX_LEVELS + 2)]
    assert stack(nested) == [[found] for found in nested[:MAX_LEVELS]]


def test_what_fits_in_no_level_is_counted(tmp_path):
    nested = [Detection(0, 10 - index, "a", 0.9 - index / 10) for index in range(MAX_LEVELS + 2)]
    write_timeline(tmp_path / "t.svg", [TimelinePanel("clip", 20.0, nested)])
    assert "2 weaker overlapping ones not shown" in svg_text(tmp_path / "t.svg")


def test_names_are_shortened_to_fit():
    assert shorten_name("Long jump") == "Long jump"
    assert shorten_name("Putting on shoes while standing on one leg") == "Putting on shoes while…"
    long = shorten_name("x" * 20 + "y" * 30)
    assert len(long) == 30
    assert "…" in long
    assert shorten_name("a\nb") == "a\N{REPLACEMENT CHARACTER}b"


def test_text_is_never_read_as_markup(tmp_path):
    found = [Detection(0, 10, r"$\frac{1}{$ <b>&", 0.9)]
    write_timeline(tmp_path / "t.svg", [TimelinePanel("$x$", 20.0, found)])
    ET.parse(tmp_path / "t.svg")


def test_clock():
    assert [clock(9, 100), clock(90, 300), clock(3700, 9000)] == ["0:09", "1:30", "1:01:40"]
    assert [clock(0.5, 3), clock(2.25, 5.9)] == ["0:00.5", "0:02.2"]


@pytest.mark.parametrize("length", [0.01, 1.0, 5.9, 119.0, 4000.0, 36_000.0, 400_000.0])
def test_any_length_of_video(length, tmp_path):
    found = [Detection(0, length / 2, "a", 0.5)]
    write_timeline(tmp_path / "t.png", [TimelinePanel("clip", length, found, [(0.0, length, "a")])])
    assert size(tmp_path / "t.png")[0] == 1650


def test_limits_are_told(tmp_path):
    with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf"):
        check_picture(tmp_path / "t.jpeg")
    with pytest.raises(CannotWriteError):
        write_timeline(tmp_path / "absent" / "t.png", [TimelinePanel("clip", 1.0, [])])


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("stale_edge.extras.find_spec", lambda _name: None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UnavailableError, match=r"stale-edge\[plot\]"):
        check_picture(tmp_path / "t.png")


def test_a_second_in_ten_hours_can_be_seen(tmp_path):
    from matplotlib.image import imread

    ends = {"first": 0.0, "middle": 17_000.3, "last": 35_999.0}
    found = [Detection(start, start + 1, label, 0.9) for label, start in ends.items()]
    empty, full = tmp_path / "empty.png", tmp_path / "full.png"
    write_timeline(full, [TimelinePanel("clip", 36_000.0, found)])
    write_timeline(empty, [TimelinePanel("clip", 36_000.0, [Detection(0, 1, "first", 0.9)])])
    coloured = [int((np.ptp(imread(path)[..., :3], axis=2) > 0.3).any(axis=0).sum()) for path in (empty, full)]
    assert 2 <= coloured[0] <= 6
    assert coloured[1] >= 3 * coloured[0] - 3


def test_any_number_of_videos_fills_pages(tmp_path):
    panels = [TimelinePanel(f"clip {place}", 60.0, many(6, 3, 60.0)) for place in range(30)]
    assert write_timeline(tmp_path / "t.pdf", panels) == [tmp_path / "t.pdf"]
    pages = len(re.findall(rb"/Type /Page\b", (tmp_path / "t.pdf").read_bytes()))
    written = write_timeline(tmp_path / "t.svg", panels)
    assert 2 < pages == len(written) < 30
    assert [path.name for path in written[:2]] == ["t.svg", "t-2.svg"]
    said = "".join(map(svg_text, written))
    for panel in panels:
        assert said.count(f"<!-- {panel.video_id} -->") == 1


def test_bars_have_their_classes_colours_and_their_scores_in_words(tmp_path):
    found = [
        Detection(0, 40, "Long jump", 0.9),
        Detection(50, 51, "Long jump", 0.25),
        Detection(60, 90, "Archery", 0.004),
    ]
    write_timeline(tmp_path / "t.svg", [TimelinePanel("clip", 100.0, found, [(0.0, 30.0, "Archery")])])
    said = svg_text(tmp_path / "t.svg").lower()
    for label, bars in (("Long jump", 2), ("Archery", 1)):
        assert said.count(f"fill: {CLASS_COLOURS[class_colour(label)].lower()}") == bars
    for score in ("0.90", "0.25", "0.004"):
        assert f"<!-- {score} -->" in said
    assert "<!-- time, m:ss -->" in said


def test_small_frames_stand_above_their_video(tmp_path):
    from matplotlib.image import imread
    from PIL import Image

    content = io.BytesIO()
    strip = Image.new("RGB", (64, 9), (255, 0, 0))
    strip.paste((0, 0, 255), (32, 0, 64, 9))
    strip.save(content, "JPEG", quality=95)
    panel = TimelinePanel("clip", 100.0, [], frames=Sprite(content.getvalue(), 4, 16, 9))
    write_timeline(tmp_path / "t.png", [panel])
    pixels = imread(tmp_path / "t.png")[..., :3]
    red, blue = (pixels[..., channel] - pixels[..., 2 - channel] > 0.5 for channel in (0, 2))
    columns = [np.flatnonzero(part.any(axis=0)) for part in (red, blue)]
    assert columns[0].max() < columns[1].min()
    assert len(columns[0]) > 500
