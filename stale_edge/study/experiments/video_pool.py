"""A finite set of videos to teach, of which any fraction can be taken, and videos to judge by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from stale_edge.data.reference_points import common_feature
from stale_edge.data.splits import hold_out, sample
from stale_edge.study.experiments.trained_study import StudyData
from stale_edge.study.experiments.training_runs import SNIPPETS, Material
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.formats.external_scores import ExternalScores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from stale_edge.data.dataset import TrainingVideo, VideoSource
    from stale_edge.data.selection import LabelledVideo
    from stale_edge.study.experiments.evaluation_sets import EvaluationSet
    from stale_edge.study.experiments.training_runs import StudyScale

HELD_OUT: Final = 0.1
"""Share of a pool that the best checkpoint is chosen by: set aside first, so that every fraction has the same."""
TOP1_ACCURACY: Final = 0.88
"""Share of the videos of unseen classes whose class the published external classifier names (docs/protocol.md §5)."""


@dataclass(frozen=True)
class Split:
    """Split of the classes into taught and unseen ones."""

    name: str
    """A key of `LOSS_WEIGHTS`: the published weights differ between splits."""
    seen_share: float
    """Share of the classes that are taught; the others are judged. All are both in the closed set."""

    @property
    def is_open(self) -> bool:
        """Whether unseen classes are judged."""
        return self.seen_share < 1


OPEN_75: Final = Split("75/25", 0.75)
OPEN_50: Final = Split("50/50", 0.5)
CLOSED: Final = Split("closed", 1.0)


class FiniteData(StudyData, Protocol):
    """Source of a fixed number of videos."""

    @property
    def enhancement(self) -> Mapping[str, Any]:
        """Description of the external classifier, as JSON values."""

    def splits(self, wanted: Sequence[Split]) -> tuple[Split, ...]:
        """Choose those of the splits that it has, one or more.

        Raises:
            StaleEdgeError: It has none.
        """

    def finite(self, split: Split, scale: StudyScale, snippets: int | None = SNIPPETS) -> Pool:
        """Videos of taught classes to teach, and of judged classes to judge by.

        Args:
            split: Split of the classes.
            scale: Numbers of videos.
            snippets: Length that they are resized to; None takes them as they are.

        Raises:
            StaleEdgeError: It cannot give them.
        """


@dataclass(frozen=True)
class Pool:
    """All videos that there are to teach, and others to judge by."""

    source: VideoSource
    """Videos to teach; every epoch has the same."""
    labelled: Sequence[LabelledVideo]
    """Annotations of each video that are taught."""
    text: NDArray[np.float32]
    """Text embeddings [C, D] of the taught classes."""
    evaluation_set: EvaluationSet
    """Videos to judge by: of unseen classes in an open set."""
    external: ExternalScores
    """Labels that an external classifier gives the videos of the evaluation set."""

    def material(self, fraction: float, seed: int) -> Material:
        """Draw a fraction of the videos such that every class keeps one or more.

        Args:
            fraction: Fraction of the videos that are not held out, in (0, 1].
            seed: Seed of the held-out videos and of the draw.

        Raises:
            BadDataError: Every video is the only one of a class: none can be held out.
        """
        kept = hold_out(self.labelled, HELD_OUT, seed)
        held_out = sorted(set(range(len(self.labelled))) - set(kept))
        if not held_out:
            problem = f"are {len(kept)} of {len(self.source.classes)} classes, too few to hold some out"
            raise BadDataError("videos to teach", problem, "give two or more of each class")
        drawn = [kept[index] for index in sample([self.labelled[index] for index in kept], fraction, seed)]
        source = PartOf(self.source, drawn)
        return Material(source, PartOf(self.source, held_out), self.text, common_feature(source), {})


class PartOf:
    """Some of the videos of a source; a `VideoSource` with all of its classes.

    Args:
        source: All videos.
        indices: Indices of the videos in the part.
    """

    def __init__(self, source: VideoSource, indices: Sequence[int]) -> None:
        self.classes = source.classes
        self._source = source
        self._indices = tuple(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def video(self, index: int, epoch: int) -> TrainingVideo:
        """Return one video of the part.

        Args:
            index: 0 … len - 1.
            epoch: Passed on.
        """
        return self._source.video(self._indices[index], epoch)


def simulated_external(evaluation_set: EvaluationSet, classes: Sequence[str], seed: int = 0) -> ExternalScores:
    """Simulate a classifier that is right as often as the published one, and as sure as it is right.

    A label is right if it is that of the video's first instance, and wrong ones are drawn from all other classes.

    Args:
        evaluation_set: The videos.
        classes: All classes that the classifier knows.
        seed: Seed of the wrong labels.
    """
    rng = np.random.default_rng(seed)
    wrong = set(
        rng.permutation(len(evaluation_set.videos))[round(TOP1_ACCURACY * len(evaluation_set.videos)) :].tolist()
    )
    rankings = {}
    for index, video in enumerate(evaluation_set.videos):
        true = {instance.label for instance in video.instances}
        others = [name for name in classes if name not in true]
        is_wrong = index in wrong and others
        label = others[int(rng.integers(len(others)))] if is_wrong else video.instances[0].label
        rankings[video.id] = ((label, TOP1_ACCURACY),)
    return ExternalScores(rankings)
