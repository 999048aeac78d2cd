"""Whether a smaller file still finds what the fp32 file finds: detections and mAP on videos of the user's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from stale_edge_runtime.contract import Kind
from stale_edge_runtime.detector import Detector
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.metrics.agreement import Agreement, agreement
from stale_edge_runtime.metrics.evaluation import ACTIVITYNET_TIOUS, THUMOS_TIOUS, evaluate

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.formats.annotations import Annotations
    from stale_edge_runtime.model_file import ModelFile

Detections = dict[str, list["Detection"]]
"""Detections of each video, by its id."""


@dataclass(frozen=True)
class TrialVideo:
    """A video to try files on."""

    video_id: str
    """Name in the ground truth."""
    features: NDArray[np.float32]
    """[T, D]."""
    duration: float
    """Length in seconds; in snippets where nothing tells the seconds."""


@dataclass(frozen=True)
class Trial:
    """Videos that files are tried on, and what is known of them."""

    videos: tuple[TrialVideo, ...]
    """The videos, at least one."""
    truth: Annotations | None = None
    """Ground truth; without it mAP is not measured."""
    text_embeddings: NDArray[np.float32] | None = None
    """[C, D], for an open-vocabulary file."""
    classes: tuple[str, ...] | None = None
    """Names of these C classes."""

    def fits(self, info: ModelInfo) -> bool:
        """Whether a file can detect with what is given here."""
        return info.kind is Kind.BAKED or (info.kind is Kind.OPEN and self.text_embeddings is not None)

    def thinned(self, most: int) -> Trial:
        """Select at most so many videos, evenly over those that are annotated, or over all where none is.

        Args:
            most: Largest number of videos.
        """
        known = {video.id for video in self.truth.videos if video.instances} if self.truth else set()
        videos = [video for video in self.videos if video.video_id in known] or self.videos
        count = min(most, len(videos))
        return replace(self, videos=tuple(videos[index * len(videos) // count] for index in range(count)))

    def detect(self, file: ModelFile) -> Detections:
        """Find the actions in each video.

        Args:
            file: A file that detects.

        Raises:
            BadDataError: A video does not fit the file.
            UsageError: An open-vocabulary file without text embeddings, or a kind of file that cannot detect.
        """
        detector = Detector(file, text_embeddings=self.text_embeddings, classes=self.classes)
        found = {}
        for video in self.videos:
            try:
                found[video.video_id] = detector.detect(video.features, video.duration)
            except BadDataError as error:
                raise BadDataError(f"video {video.video_id}", f"{error.subject} {error.problem}", error.cure) from error
        return found

    def average_map(self, found: Detections) -> float | None:
        """Average mAP of detections on the annotated ones of the videos; None without ground truth.

        Raises:
            BadDataError: The ground truth has no instance in any of the videos.
        """
        if self.truth is None:
            return None
        labels = {detection.label for detections in found.values() for detection in detections}
        judged = replace(self.truth, videos=tuple(video for video in self.truth.videos if video.id in found))
        judged = judged.for_labels(labels)
        tious = THUMOS_TIOUS if judged.is_thumos else ACTIVITYNET_TIOUS
        known = {video.id for video in judged.videos}
        return evaluate(judged, {video: items for video, items in found.items() if video in known}, tious).average_map

    def compare(self, before: Detections, after: Detections) -> Acceptance:
        """Measure the change from one file's detections to another's."""
        total = Agreement.total(agreement(before[video], after[video]) for video in before)
        return Acceptance(total.videos, total.matched_share, self.average_map(before), self.average_map(after))


@dataclass(frozen=True)
class Acceptance:
    """Effect of a smaller file on detections."""

    videos: int
    """Videos tried."""
    matched_share: float
    """Share of the detections that match one of the other file: same class, tIoU >= 0.95."""
    map_before: float | None
    """Average mAP of the fp32 file, in [0, 1]; None without ground truth."""
    map_after: float | None
    """Average mAP of the smaller file."""

    @property
    def drop_points(self) -> float | None:
        """Loss of average mAP in points: 100 times the difference of the fractions."""
        if self.map_before is None or self.map_after is None:
            return None
        return 100 * (self.map_before - self.map_after)

    def require(self, target: Path, max_drop_points: float) -> None:
        """Refuse a file that loses too much.

        Args:
            target: The file, for the message.
            max_drop_points: Largest loss, in points of average mAP.

        Raises:
            BadDataError: More is lost, or the loss is not known.
        """
        drop = self.drop_points
        if drop is None or self.map_before is None or self.map_after is None:
            raise BadDataError(target, "the loss of mAP is not known", "give --ground-truth")
        if self.map_before == 0:
            raise BadDataError(
                target,
                f"the fp32 file has an average mAP of 0 on {self.videos} videos, so its loss says nothing",
                "not written; check that the ground truth names the classes of the model",
            )
        if drop > max_drop_points:
            raise BadDataError(
                target,
                f"average mAP falls from {100 * self.map_before:.2f} to {100 * self.map_after:.2f}, by {drop:.2f} "
                f"points on {self.videos} videos; --max-drop allows {max_drop_points:g}",
                "not written; keep more in fp32 with --exclude",
            )

    def to_json(self) -> dict[str, Any]:
        """Give the figures, rounded: mAP as fractions."""
        figures = {"matched_share": self.matched_share, "map_fp32": self.map_before, "map": self.map_after}
        return {"videos": self.videos} | {key: round(value, 4) for key, value in figures.items() if value is not None}
