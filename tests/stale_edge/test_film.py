"""The demo's film: a video that our own reader reads, the same for the same seed, with cuts and movement."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("av")

from stale_edge.palette import CLASS_COLOURS, SOFT, class_colour
from stale_edge.simulation.film import HEIGHT, RATE, SCENE_S, WIDTH, pictures, write_film, write_stand_in
from stale_edge_runtime.formats.annotations import Instance
from stale_edge_runtime.video.options import VideoOptions
from stale_edge_runtime.video.reader import VideoReader


def test_pictures_move_and_are_cut():
    shown = list(itertools.islice(pictures(0), SCENE_S * RATE - 1, SCENE_S * RATE + 1))
    before = next(itertools.islice(pictures(0), SCENE_S * RATE - 2, None))
    moved, cut = (np.abs(a.astype(int) - b).mean() for a, b in ((before, shown[0]), (shown[0], shown[1])))
    assert 0 < moved < 10 < cut
    np.testing.assert_array_equal(next(pictures(1)), next(pictures(1)))


def test_the_film_is_a_video(tmp_path):
    write_film(tmp_path / "film.mp4", 1)
    index = VideoReader(tmp_path / "film.mp4", VideoOptions()).index
    assert (index.codec, index.width, index.height, index.frames) == ("h264", WIDTH, HEIGHT, RATE)
    assert index.duration_s == pytest.approx(1.0)


def test_a_stand_in_has_the_colour_of_the_action(tmp_path):
    write_stand_in(tmp_path / "v.mp4", 8.2, [Instance(2.0, 5.0, "Long jump")])
    import av

    with av.open(str(tmp_path / "v.mp4")) as container:
        shown = [(frame.time, frame.to_ndarray(format="rgb24")[10, 300]) for frame in container.decode(video=0)]
    assert len(shown) == 41
    action, rest = (list(bytes.fromhex(colour[1:])) for colour in (CLASS_COLOURS[class_colour("Long jump")], SOFT))
    for at_s, colour in shown[:-5]:  # the line comes at the end
        expected = action if 2.0 <= at_s < 5.0 else rest
        assert np.abs(colour.astype(int) - expected).max() < 25, at_s
