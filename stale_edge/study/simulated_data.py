"""What the simulated world gives to teach and to judge by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stale_edge.reference_points import common_feature
from stale_edge.simulation import SimulatedWorld, WorldConfig
from stale_edge.study.judging import Exam
from stale_edge.study.teaching import ANCHORS, KeptVideos, Material, Scale

if TYPE_CHECKING:
    from stale_edge.simulation import SimulatedVideos


class SimulatedData:
    """A simulated world as the subject of a study.

    Args:
        config: What it is like; the default world when not given.
    """

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.config = config or WorldConfig()

    @property
    def description(self) -> dict[str, Any]:
        """All that decides what it gives, as JSON values."""
        return {"simulated world": self.config.to_dict()}

    def endless(self, scale: Scale) -> Material:
        """Videos to teach that never come twice, and videos of both subsets to judge by.

        Args:
            scale: Their numbers.
        """
        world = SimulatedWorld(self.config)
        source = world.training(scale.videos)
        exams = {"seen": _exam(world.evaluation("seen", scale.seen))}
        if world.unseen:
            exams["unseen"] = _exam(world.evaluation("unseen", scale.unseen))
        held_out = _exam(world.evaluation("selection", scale.selection))
        return Material(
            source, KeptVideos(held_out.videos, held_out.classes), source.text_embeddings, common_feature(source), exams
        )


def _exam(videos: SimulatedVideos) -> Exam:
    return Exam.of(videos, videos.classes, videos.text_embeddings, snippets=ANCHORS)
