"""Features of videos: rows at their times, computed once, recorded, resumed, and the same whatever is skipped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")
pytest.importorskip("PIL")

from stale_edge_runtime import session  # noqa: E402
from stale_edge_runtime.errors import BadDataError, CannotWriteError, InputMissingError, UnavailableError, UsageError  # noqa: E402
from stale_edge_runtime.feature_origin import FeatureOrigin  # noqa: E402
from stale_edge_runtime.formats.feature_record import read_record, record_path  # noqa: E402
from stale_edge_runtime.jobs import Result, run_jobs  # noqa: E402
from stale_edge_runtime.resampling import resize  # noqa: E402
from stale_edge_runtime.video.features import (  # noqa: E402
    ExtractionJob,
    FeatureExtractor,
    FeatureSettings,
    extraction_task,
    is_made,
    write_video_features,
)
from stale_edge_runtime.video.options import VideoOptions  # noqa: E402
from stale_edge_runtime.video.reader import VideoReader  # noqa: E402
from stale_edge_runtime.video.tower import ImageTower  # noqa: E402

DATA = Path(__file__).parents[1] / "data"
TOWER = DATA / "tiny_image_tower.onnx"


def write_video(path: Path, frames: int, *, still: bool = False, fps: int = 10) -> Path:
    """Write a video of 32×24 pixels whose frames differ, or are all the same."""
    rng = np.random.default_rng(3)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for _ in range(frames):
            picture = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8) if not still else np.full((24, 32, 3), 90, "u1")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


class CountingTower:
    """An image tower that counts the images it computes."""

    def __init__(self) -> None:
        self.tower = ImageTower(TOWER)
        self.images = 0
        self.info, self.size, self.batch = self.tower.info, self.tower.size, 3

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        self.images += len(pixels)
        return self.tower.embed(pixels)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "clip.mp4", 25)


def settings(step_s: float = 0.2, **others: object) -> FeatureSettings:
    return FeatureSettings(VideoOptions(step_s=step_s), **others)


def extracted(video: Path, chosen: FeatureSettings, tower: object = None):
    return FeatureExtractor(tower or ImageTower(TOWER), chosen, "tests").extract(video)


class TestTower:
    def test_one_image_or_many_alike(self):
        tower = ImageTower(TOWER)
        pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
        together = tower.embed(pixels)
        assert together.shape == (5, tower.width)
        for number in range(5):
            np.testing.assert_allclose(tower.embed(pixels[number : number + 1])[0], together[number], rtol=1e-5)

    @pytest.mark.parametrize("shape", [(1, 16, 16), (1, 8, 16, 3), (1, 16, 16, 4)])
    def test_images_of_another_shape_are_refused(self, shape):
        with pytest.raises(BadDataError, match=r"pixels: are uint8 .*, not uint8 \[batch, 16, 16, 3\]"):
            ImageTower(TOWER).embed(np.zeros(shape, np.uint8))

    def test_a_detector_is_no_tower(self):
        with pytest.raises(UsageError, match="is a detector file"):
            ImageTower(DATA / "tiny_baked.onnx")


def test_a_row_every_step_of_the_frame_on_screen(video):
    made = extracted(video, settings())
    tower = ImageTower(TOWER)
    crops = list(VideoReader(video, VideoOptions(step_s=0.2)).crops(16))
    assert len(made.rows) == len(crops) == 13
    np.testing.assert_allclose(made.rows, tower.embed(np.stack([crop.pixels for crop in crops])), rtol=1e-5)
    assert made.record.origin == FeatureOrigin("none: a test fixture", "5e" * 32, "rgb", 0.2)
    assert (made.record.rows, made.record.duration_s) == (13, pytest.approx(2.5))
    assert made.record.details["codec"] == "mpeg4"


def test_equal_frames_are_computed_once(tmp_path):
    still = write_video(tmp_path / "still.mp4", 25, still=True)
    tower = CountingTower()
    made = extracted(still, settings(), tower)
    assert len(made.rows) == 13
    assert tower.images <= 2  # the first picture, and what the codec makes of the ones after it
    assert tower.images < len(made.rows)


@pytest.mark.parametrize("positions", [1, 2, 5, 13, 25, 40])
def test_published_sampling_equals_resizing_all_rows_and_computes_fewer(video, positions):
    everything = extracted(video, settings(0.1))
    tower = CountingTower()
    made = extracted(video, settings(0.1, positions=positions), tower)
    np.testing.assert_array_equal(made.rows, resize(everything.rows, positions))
    assert tower.images <= min(2 * positions, 25)
    assert made.record.origin.step_s is None


def test_swapped_colours_are_those_of_a_swapped_image(video):
    made = extracted(video, settings(channels="bgr"))
    crops = list(VideoReader(video, VideoOptions(step_s=0.2)).crops(16))
    expected = ImageTower(TOWER).embed(np.stack([crop.pixels[..., ::-1] for crop in crops]))
    np.testing.assert_allclose(made.rows, expected, rtol=1e-5)
    assert made.record.origin.channels == "bgr"


def test_what_is_made_is_known_again(video, tmp_path):
    target = tmp_path / "clip.npy"
    extractor = FeatureExtractor(ImageTower(TOWER), settings(), "tests")
    assert not is_made(target, video, extractor.origin, settings())
    write_video_features(target, extractor.extract(video))
    assert is_made(target, video, extractor.origin, settings())
    assert not is_made(target, video, replace(extractor.origin, tower_sha256="00"), settings())
    assert not is_made(target, video, extractor.origin, settings(0.4))
    assert not is_made(target, write_video(tmp_path / "other.mp4", 3), extractor.origin, settings())
    target.write_bytes(target.read_bytes()[:-8])
    assert not is_made(target, video, extractor.origin, settings())


def test_features_and_record_are_written_both_or_neither(video, tmp_path):
    made = extracted(video, settings())
    (tmp_path / "clip.features.json").mkdir()
    with pytest.raises(CannotWriteError):
        write_video_features(tmp_path / "clip.npy", made)
    assert not (tmp_path / "clip.npy").exists()


def test_jobs_write_features_and_tell_their_progress(video, tmp_path):
    missing = ExtractionJob(tmp_path / "absent.mp4", tmp_path / "absent.npy")
    found = ExtractionJob(video, tmp_path / "clip.npy")
    events = list(run_jobs(extraction_task(TOWER, settings(), "tests"), [missing, found], 1))
    results = {event.index: event.value for event in events if isinstance(event, Result)}
    assert isinstance(results[0], InputMissingError)
    assert results[1] == read_record(record_path(found.target)).to_dict()
    assert len(np.load(found.target)) == 13
    assert len(events) > len(results)


def test_a_tower_that_changes_while_it_is_opened_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "tower.onnx"
    path.write_bytes(TOWER.read_bytes())
    read = session.read_model

    def read_and_change(file):
        model = read(file)
        file.write_bytes(TOWER.read_bytes())  # the same bytes, and who knows that
        return model

    monkeypatch.setattr(session, "read_model", read_and_change)
    with pytest.raises(BadDataError, match="changed while it was opened"):
        ImageTower(path)
    monkeypatch.undo()
    assert ImageTower(path).size == 16


def test_the_provider_that_was_asked_for_reaches_the_tower(video, tmp_path):
    if "cuda" in session.providers():
        pytest.skip("this machine has CUDA")
    task = extraction_task(TOWER, settings(), "tests", provider="cuda")
    [event] = run_jobs(task, [ExtractionJob(video, tmp_path / "clip.npy")], 1)
    assert isinstance(event, Result)
    assert isinstance(event.value, UnavailableError)
