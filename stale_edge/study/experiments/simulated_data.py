"""Training and evaluation data from the simulated world."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stale_edge.data.reference_points import common_feature
from stale_edge.data.selection import LabelledVideo
from stale_edge.simulation import SimulatedWorld, WorldConfig
from stale_edge.study.experiments.evaluation_sets import EvaluationSet
from stale_edge.study.experiments.training_runs import SNIPPETS, KeptVideos, Material, StudyScale
from stale_edge.study.experiments.video_pool import TOP1_ACCURACY, Pool, Split, simulated_external

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stale_edge.simulation import SimulatedVideos


class SimulatedData:
    """A simulated world as the subject of a study.

    Args:
        config: Parameters of the world; the default world when not given.
    """

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.config = config or WorldConfig()

    @property
    def description(self) -> dict[str, Any]:
        """All that decides what it gives, as JSON values."""
        return {"simulated world": self.config.to_dict()}

    def numbers(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the numbers as asked: so many videos are drawn."""
        return asked

    def endless(self, scale: StudyScale, snippets: int | None = SNIPPETS) -> Material:
        """Videos to teach that never come twice, and videos of both subsets to judge by.

        Args:
            scale: Numbers of videos.
            snippets: Length that videos to judge by are resized to; None takes them as they are.
        """
        world = SimulatedWorld(self.config)
        source = world.training(scale.videos)
        evaluation_sets = {"seen": _evaluation_set(world.evaluation("seen", scale.seen), snippets)}
        if world.unseen:
            evaluation_sets["unseen"] = _evaluation_set(world.evaluation("unseen", scale.unseen), snippets)
        held_out = _evaluation_set(world.evaluation("selection", scale.selection), snippets)
        return Material(
            source,
            KeptVideos(held_out.videos, held_out.classes),
            source.text_embeddings,
            common_feature(source),
            evaluation_sets,
        )

    def splits(self, wanted: Sequence[Split]) -> tuple[Split, ...]:
        """Accept every split: the world's classes stay, and which of them are seen changes."""
        return tuple(wanted)

    def finite(self, split: Split, scale: StudyScale, snippets: int | None = SNIPPETS) -> Pool:
        """Draw a fixed number of videos of the seen classes, each class as often as any other.

        Args:
            split: Sets the number of seen classes.
            scale: Numbers of videos.
            snippets: Length that they are resized to; None takes them as they are.
        """
        seen = round(split.seen_share * self.config.classes)
        world = SimulatedWorld(replace(self.config, seen_classes=seen))
        taught = _evaluation_set(world.finite(scale.videos), snippets)
        judged = world.evaluation("unseen", scale.unseen) if split.is_open else world.evaluation("seen", scale.seen)
        evaluation_set = _evaluation_set(judged, snippets)
        labelled = [LabelledVideo(video.id, video.duration_s, video.instances) for video in taught.videos]
        external = simulated_external(evaluation_set, world.classes, self.config.seed)
        return Pool(KeptVideos(taught.videos, taught.classes), labelled, taught.text, evaluation_set, external)

    @property
    def enhancement(self) -> dict[str, Any]:
        """Description of the external classifier, as JSON values."""
        return {"source": "simulated", "top1_accuracy": TOP1_ACCURACY}


def _evaluation_set(videos: SimulatedVideos, snippets: int | None = SNIPPETS) -> EvaluationSet:
    return EvaluationSet.of(videos, videos.classes, videos.text_embeddings, snippets=snippets)
