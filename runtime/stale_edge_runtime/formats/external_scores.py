"""Verdicts of an external video classifier, read from a file, for score enhancement and score fusion.

Off by default: the published external classifier knows the classes that an open-set study calls unseen, so it leaks
supervision. Source: docs/protocol.md §4 (e) and §5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.formats.files import read_json
from stale_edge_runtime.formats.video_ids import ID_RULE, IdIndex, is_video_id

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

MAX_EXTERNAL_BYTES = 256 << 20
_MAX_LABEL_LENGTH = 256
KEPT_CLASSES = 5
"""Classes of a video that are kept, the best ones."""


@dataclass(frozen=True)
class ExternalScores:
    """The best classes of every video, as an external classifier sees it."""

    rankings: Mapping[str, tuple[tuple[str, float], ...]]
    """Labels and scores, the best first, by video id as the file spells it."""

    def ranking(self, video_id: str) -> tuple[tuple[str, float], ...]:
        """Labels and scores of a video, its id spelled as `video_ids` allows; empty where the file does not know it."""
        known = self._index.find(video_id)
        return () if known is None else self.rankings[known]

    def best(self, video_id: str) -> tuple[str, float] | None:
        """Label and score of a video, its id spelled as for `ranking`; None where the file does not know it."""
        ranking = self.ranking(video_id)
        return ranking[0] if ranking else None

    @cached_property
    def _index(self) -> IdIndex:
        return IdIndex(self.rankings)

    def accuracy(self, truth: Mapping[str, Collection[str]]) -> float | None:
        """Share of the videos in both whose label is one of the video's true ones (top-1).

        Args:
            truth: Labels by video id, spelled as for `best`; videos without labels do not count.

        Returns:
            A fraction, or None where no video is in both.
        """
        right = [
            verdict[0] in labels
            for video_id, labels in truth.items()
            if labels and (verdict := self.best(video_id)) is not None
        ]
        return sum(right) / len(right) if right else None


def read_external(path: Path) -> ExternalScores:
    """Read the file of an external classifier, in either of its two forms.

    One verdict for each video, `{"v_<id>": {"class": label, "score": number}}`; or the CUHK form, all class scores
    of each video, `{"results": {id: [scores]}, "class": [labels]}`, of equal ones the first before. Video ids
    may have the prefix `v_` or not.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: The file has neither form, or an id, label or score is not usable.
    """
    content = read_json(path, limit=MAX_EXTERNAL_BYTES)
    if not isinstance(content, dict):
        raise BadDataError(path, "is not a JSON object", "give a file of video scores")
    if "results" in content and "class" in content:
        rankings = _from_scores(path, content)
    else:
        rankings = {video_id: (_verdict(path, video_id, entry),) for video_id, entry in content.items()}
    for video_id in rankings:
        if not is_video_id(video_id):
            raise BadDataError(path, f"names a video {video_id[:40]!r}", ID_RULE)
    return ExternalScores(rankings)


def _from_scores(path: Path, content: dict[str, Any]) -> dict[str, tuple[tuple[str, float], ...]]:
    """Read the highest classes of each video of the CUHK form."""
    results, labels = content["results"], content["class"]
    if not isinstance(results, dict) or not isinstance(labels, list) or not labels:
        raise BadDataError(path, "needs an object 'results' and a list 'class'", "give a file in the CUHK form")
    labels = [_label(path, "class", label) for label in labels]
    rankings = {}
    for video_id, scores in results.items():
        if not isinstance(scores, list) or len(scores) != len(labels):
            found = f"{len(scores)} scores" if isinstance(scores, list) else "no list of scores"
            raise BadDataError(path, f"video {video_id[:40]!r} has {found} for {len(labels)} classes")
        numbers = [_score(path, video_id, score) for score in scores]
        order = sorted(range(len(numbers)), key=lambda index: -numbers[index])[:KEPT_CLASSES]
        rankings[video_id] = tuple((labels[index], numbers[index]) for index in order)
    return rankings


def _verdict(path: Path, video_id: str, entry: Any) -> tuple[str, float]:
    """Read one video's label and score."""
    if not isinstance(entry, dict) or not {"class", "score"} <= entry.keys():
        raise BadDataError(path, f"video {video_id[:40]!r} has no 'class' and 'score'", "give both for each video")
    return _label(path, video_id, entry["class"]), _score(path, video_id, entry["score"])


def _label(path: Path, where: str, value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value.strip()) <= _MAX_LABEL_LENGTH or not value.isprintable():
        raise BadDataError(
            path, f"{where[:40]!r} has the label {str(value)[:40]!r}", "labels are 1 to 256 printable characters"
        )
    return value.strip()


def _score(path: Path, video_id: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -math.inf < value < math.inf:
        raise BadDataError(
            path, f"video {video_id[:40]!r} has the score {str(value)[:40]!r}", "scores are finite numbers"
        )
    try:
        return float(value)
    except OverflowError:
        raise BadDataError(path, f"video {video_id[:40]!r} has a score beyond float range") from None
