"""Features of videos: frames at their times, through the image tower, with a record of how they were made."""

from __future__ import annotations

import contextlib
import functools
import io
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stale_edge_runtime.contract import CHANNELS
from stale_edge_runtime.errors import BadDataError, StaleEdgeError
from stale_edge_runtime.feature_origin import FeatureOrigin
from stale_edge_runtime.formats.feature_record import FeatureRecord, VideoFeatures, read_record, record_path
from stale_edge_runtime.formats.features import check_features, read_features
from stale_edge_runtime.formats.files import together, write_bytes, write_json
from stale_edge_runtime.formats.remote_files import fetched
from stale_edge_runtime.resampling import resize, resize_read_rows
from stale_edge_runtime.video.reader import VideoReader
from stale_edge_runtime.video.sampling import published_samples
from stale_edge_runtime.video.stages import TOWER, StageClock
from stale_edge_runtime.video.tower import ImageTower

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.jobs import Task
    from stale_edge_runtime.video.cutting import FrameCrop
    from stale_edge_runtime.video.options import VideoOptions

REUSED: Final = 32
"""Embeddings of the last different frames that are kept: a frozen picture, or slides, are computed once."""


@dataclass(frozen=True)
class FeatureSettings:
    """Settings that features of a video depend on, besides the image tower."""

    video: VideoOptions
    """Step, sampling and reading of frames."""
    positions: int = 0
    """Rows that every video gets, interpolated as networks do that resize; 0 for a row every step."""
    channels: str = ""
    """Order of colours that the tower gets, one of `CHANNELS`; its own where empty."""

    def to_dict(self) -> dict[str, Any]:
        """Give the settings that change the features, as JSON values."""
        video = self.video
        return {
            "step_s": video.step_s,
            "frame_rate": video.fps,
            "rotate": video.rotate,
            "approximate": sorted(video.approximate),
            "positions": self.positions,
            "channels": self.channels,
        }


def made_origin(info: ModelInfo, settings: FeatureSettings) -> FeatureOrigin:
    """Give the origin of features that a tower makes."""
    of_tower = FeatureOrigin.of(info)
    step = None if settings.positions else settings.video.step_s
    return replace(of_tower, step_s=step, channels=settings.channels or of_tower.channels)


class FeatureExtractor:
    """Makes the features of videos with an image tower.

    Args:
        tower: The image tower.
        settings: Settings of the features besides the tower.
        created_by: Program and version, for the records.
        stages: Clock of the processor time that each stage takes.
    """

    def __init__(
        self, tower: ImageTower, settings: FeatureSettings, created_by: str, stages: StageClock | None = None
    ) -> None:
        self._stages = stages or StageClock()
        self._tower = tower
        self._settings = settings
        self._created_by = created_by
        self._kept: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()

    @property
    def origin(self) -> FeatureOrigin:
        """The way the features are made."""
        return made_origin(self._tower.info, self._settings)

    def extract(self, path: Path, progress: Callable[[int, int | None], None] = lambda *_: None) -> VideoFeatures:
        """Make the features of one video.

        Args:
            path: The video.
            progress: Called with the rows done and all rows; None where the length is not known.

        Raises:
            StaleEdgeError: The video cannot be read.
        """
        reader = VideoReader(path, self._settings.video, self._stages)
        places = self._places(reader)
        rows: dict[int, NDArray[np.float32]] = {}
        pending: list[FrameCrop] = []
        total = reader.samples if places is None else len(places)
        samples_s = None if places is None else places.astype(np.float64) * self._settings.video.step_s
        for crop in reader.crops(self._tower.size, samples_s):
            known = self._kept.get(crop.digest)
            if known is not None:
                rows.update(dict.fromkeys(crop.samples, known))
                continue
            pending.append(crop)
            if len(pending) == self._tower.batch:
                self._embed(pending, rows)
                progress(len(rows), total)
        self._embed(pending, rows)
        if not rows:
            raise BadDataError(path, "holds no frame that can be decoded", "check the video with a player")
        progress(len(rows), len(rows))
        self._kept.clear()
        features = np.stack([rows[number] for number in range(len(rows))])
        if self._settings.positions:
            features = self._resized(features, reader, places)
        check_features(features, self._tower.info.feature_dim, subject=path)
        return VideoFeatures(features, self._record(path, reader, features))

    def rows_of(self, crops: Sequence[FrameCrop]) -> NDArray[np.float32]:
        """Make the rows `[n, D]` that crops serve, in their order; a crop that equals a recent one is not computed.

        Raises:
            BadDataError: The tower does not answer as it must.
        """
        rows: dict[int, NDArray[np.float32]] = {}
        self._embed([crop for crop in crops if crop.digest not in self._kept], rows)
        for crop in crops:
            rows.update(dict.fromkeys(crop.samples, self._kept[crop.digest]))
        served = [rows[number] for crop in crops for number in crop.samples]
        return np.stack(served) if served else np.empty((0, self._tower.info.feature_dim), np.float32)

    def _places(self, reader: VideoReader) -> NDArray[np.int64] | None:
        """Choose the samples to compute; None for all."""
        if not self._settings.positions or reader.samples is None:
            return None
        return published_samples(reader.samples, self._settings.positions)

    def _resized(
        self, rows: NDArray[np.float32], reader: VideoReader, places: NDArray[np.int64] | None
    ) -> NDArray[np.float32]:
        if places is None or reader.samples is None:
            return resize(rows, self._settings.positions)
        return resize_read_rows(rows, places, reader.samples, self._settings.positions)

    def _embed(self, pending: list[FrameCrop], rows: dict[int, NDArray[np.float32]]) -> None:
        """Compute the embeddings of crops, put them in their rows, and keep the last ones."""
        if not pending:
            return
        different = {crop.digest: crop for crop in pending}
        pixels = np.stack([crop.pixels for crop in different.values()])
        with self._stages.stage(TOWER):
            embeddings = self._tower.embed(pixels[..., ::-1] if self._swaps else pixels)
        self._kept.update(zip(different, embeddings, strict=True))
        for crop in pending:
            rows.update(dict.fromkeys(crop.samples, self._kept[crop.digest]))
        pending.clear()
        while len(self._kept) > REUSED:
            self._kept.popitem(last=False)

    @property
    def _swaps(self) -> bool:
        """Whether colours have to be swapped, because the tower does not do it itself."""
        wanted = self._settings.channels
        return bool(wanted) and wanted != (self._tower.info.channels or CHANNELS[0])

    def _record(self, path: Path, reader: VideoReader, features: NDArray[np.float32]) -> FeatureRecord:
        info, index, report = self._tower.info, reader.index, reader.report
        size = path.stat().st_size if path.is_file() else None
        video = {"codec": index.codec, "width": index.width, "height": index.height} if index else {}
        details = {
            "video": path.name,
            "bytes": size,
            **video,
            "start_s": report.start_s,
            "declared_s": report.declared_s,
            "damaged_rows": list(report.damaged_samples) if not self._settings.positions else [],
            "warnings": list(report.warnings),
            "notes": list(report.notes),
            "settings": self._settings.to_dict(),
            "precision": str(info.precision),
            "created_by": self._created_by,
        }
        return FeatureRecord(self.origin, report.duration_s, len(features), details)


def is_made(target: Path, video: Path | None, origin: FeatureOrigin, settings: FeatureSettings) -> bool:
    """Tell whether a folder holds the features of a video already, made the same way.

    Args:
        target: The feature file.
        video: The video, whose size is compared; None for one that would have to be fetched.
        origin: The way they would be made.
        settings: Settings that they would be made with.
    """
    try:
        record = read_record(record_path(target))
        rows = len(read_features(target, None))
        size = None if video is None else video.stat().st_size
    except (StaleEdgeError, OSError):
        return False
    told = (record.origin, record.rows, record.details.get("settings"))
    same_size = size is None or record.details.get("bytes") == size
    return same_size and told == (origin, rows, settings.to_dict())


def write_video_features(target: Path, features: VideoFeatures) -> None:
    """Write features and the record of their making, both or neither.

    Args:
        target: The `.npy` file; the record goes beside it.
        features: Features with their record.

    Raises:
        CannotWriteError: A file cannot be written.
        StorageError: The disk is full or failed.
    """
    content = io.BytesIO()
    np.save(content, features.rows)
    with together():
        write_bytes(target, content.getvalue())
        if features.record is not None:
            write_json(record_path(target), features.record.to_dict())


@dataclass(frozen=True)
class ExtractionJob:
    """One video and the place of its features."""

    video: Path
    """The video."""
    target: Path
    """The `.npy` file to write."""
    url: str | None = None
    """URL to fetch the video from; None for a file of this machine."""

    def __str__(self) -> str:
        return self.url or str(self.video)


def extraction_task(
    tower: Path, settings: FeatureSettings, created_by: str, threads: int = 1, provider: str = "cpu"
) -> Callable[[], Task]:
    """Give a picklable function that makes the task `ExtractionJob` to written features, for `jobs.run_jobs`."""
    return functools.partial(_make_task, tower, settings, created_by, threads, provider)


def _make_task(tower: Path, settings: FeatureSettings, created_by: str, threads: int, provider: str) -> Task:
    extractor = FeatureExtractor(ImageTower(tower, threads=threads, provider=provider), settings, created_by)

    def task(item: ExtractionJob, progress: Callable[[int, int | None], None]) -> Mapping[str, Any]:
        with contextlib.nullcontext(item.video) if item.url is None else fetched(item.url) as video:
            made = extractor.extract(video, progress)
        write_video_features(item.target, made)
        assert made.record is not None  # noqa: S101 (the extractor always gives one)
        return made.record.to_dict()

    return task
