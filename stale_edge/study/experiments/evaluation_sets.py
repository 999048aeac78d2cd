"""Judging predictions on videos that were never taught: read once, predicted once, evaluated as often as asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from stale_edge.study.design import whole_video_of
from stale_edge_runtime.decoding import enhance, fuse
from stale_edge_runtime.formats.annotations import Annotations, Video
from stale_edge_runtime.labelling import text_labeller
from stale_edge_runtime.metrics.baselines import whole_videos
from stale_edge_runtime.metrics.evaluation import evaluate
from stale_edge_runtime.resampling import resize

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from stale_edge.data.dataset import TrainingVideo
    from stale_edge.data.reference_points import Predictor
    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.formats.external_scores import ExternalScores

Found: TypeAlias = "dict[str, list[Detection]]"
"""Detections by video id."""


@dataclass(frozen=True)
class EvaluationSet:
    """Videos to judge a prediction by."""

    videos: tuple[TrainingVideo, ...]
    """Videos with their true instances; features resized to the training length, to be small enough to keep."""
    classes: tuple[str, ...]
    """Names that a prediction may choose from, in the order of `text`."""
    text: NDArray[np.float32]
    """Text embeddings [C, D] of the classes, not normalised."""

    @classmethod
    def of(
        cls,
        videos: Iterable[TrainingVideo],
        classes: tuple[str, ...],
        text: NDArray[np.float32],
        *,
        snippets: int | None,
    ) -> EvaluationSet:
        """Keep videos in memory.

        Args:
            videos: Videos of any lengths.
            classes: Names of the classes.
            text: Text embeddings [C, D] of the classes.
            snippets: Training length; None keeps them as they are.
        """
        if snippets is not None:
            videos = (replace(v, features=resize(v.features, snippets)) for v in videos)
        return cls(tuple(videos), classes, text)

    @cached_property
    def truth(self) -> Annotations:
        """True instances of the videos."""
        return Annotations("videos", tuple(Video(v.id, "validation", v.duration_s, v.instances) for v in self.videos))

    def detect(self, predictor: Predictor) -> Found:
        """Predict every video, and decode as `detect` does.

        Args:
            predictor: Looks at the instances only if it is the ceiling.
        """
        return {video.id: predictor(video) for video in self.videos}

    def accuracy(
        self, found: Found, external: ExternalScores | None = None, *, lacks_classes: bool = False
    ) -> dict[str, float]:
        """Mean average precision, in [0, 1], by the names that all studies use.

        Args:
            found: Detections that `detect` gave, or any others of these videos.
            external: Verdicts of an external classifier, taken as by `named`.
            lacks_classes: Whether the detections are without classes, which `named` then gives them.
        """
        result = evaluate(self.truth, self.named(found, external, lacks_classes=lacks_classes))
        at = dict(zip(result.tious, result.map, strict=True))
        return {"map_50": at[0.5], "map_75": at[0.75], "map_95": at[0.95], "average_map": result.average_map}

    def judge(
        self, name: str, found: Found, external: ExternalScores | None = None, *, lacks_classes: bool = False
    ) -> dict[str, dict[str, float]]:
        """Evaluate what a network found, and its labels alone, each for the whole video.

        Args:
            name: Name of the network's row; that of its labels alone ends in `WHOLE_VIDEO`.
            found: Detections that `detect` gave.
            external: Verdicts of an external classifier, taken as by `named`.
            lacks_classes: Whether the detections are without classes, which `named` then gives them.

        Returns:
            Accuracy by row.
        """
        named = self.named(found, external, lacks_classes=lacks_classes)
        return {
            name: self.accuracy(named),
            whole_video_of(name): self.accuracy(whole_videos(self.truth, named)),
        }

    def named(self, found: Found, external: ExternalScores | None = None, *, lacks_classes: bool = False) -> Found:
        """Give detections the labels that they are judged with.

        Args:
            found: Detections that `detect` gave.
            external: Verdicts of an external classifier that replace labels, as `detect --external` has it.
            lacks_classes: Whether the detections are without classes: these come from the external classifier, or from
                the nearest text.
        """
        if lacks_classes:
            return self.labelled(found) if external is None else fused(found, external)
        return found if external is None else enhanced(found, external)

    def labelled(self, found: Found) -> Found:
        """Give detections without classes those of the nearest text.

        Args:
            found: Detections by video id.
        """
        labeller = text_labeller(self.text, self.classes)
        return {video.id: labeller.label(found[video.id], video.features, video.duration_s) for video in self.videos}


def fused(found: Mapping[str, list[Detection]], external: ExternalScores) -> Found:
    """Give detections without classes those of an external classifier.

    Args:
        found: Detections by video id.
        external: Scores of the classifier for every video.
    """
    return {video_id: fuse(detections, external.ranking(video_id)) for video_id, detections in found.items()}


def enhanced(found: Mapping[str, list[Detection]], external: ExternalScores) -> Found:
    """Detections whose labels an external classifier has replaced where it is surer.

    Args:
        found: Detections by video id.
        external: Labels of the classifier.
    """
    verdicts = {video_id: external.best(video_id) for video_id in found}
    return {
        video_id: detections if (verdict := verdicts[video_id]) is None else enhance(detections, *verdict)
        for video_id, detections in found.items()
    }
