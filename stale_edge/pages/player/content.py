"""Content of a player page: results, ground truth and media of videos, as columns that a script reads."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stale_edge.palette import CLASS_COLOURS, DARK_CLASS_COLOURS, class_colour
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.formats.video_ids import respelled
from stale_edge_runtime.metrics.diagnosis import Verdict, judge
from stale_edge_runtime.metrics.threshold import best_f1_score

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.formats.annotations import Annotations, Instance
    from stale_edge_runtime.metrics.diagnosis import Judgement

MAX_SETS: Final = 8
"""Most result files of one page: they are told apart by letters and rows."""
TIOU: Final = 0.5
"""Threshold at which detections are judged."""
SHOWN_AT_FIRST: Final = 10
"""Detections of a video that a page begins with on average, where no ground truth tells a better score."""
_UNJUDGED: Final = 255
_NOBODY: Final = -1


@dataclass(frozen=True)
class ResultSet:
    """Detections of one result file."""

    name: str
    """Short name on the page."""
    detections: Mapping[str, Sequence[Detection]]
    """Detections of each video."""
    note: str = ""
    """Model, precision and what else is recorded of them."""


@dataclass(frozen=True)
class Sprite:
    """Small frames of a video, side by side in one picture."""

    jpeg: bytes
    """The picture."""
    frames: int
    """Number of frames, at equal steps: frame i shows (i + 0.5) / frames of the video."""
    width: int
    """Width of a frame in pixels."""
    height: int
    """Height of a frame in pixels."""


@dataclass(frozen=True)
class VideoMedia:
    """A video at hand."""

    path: Path
    """The file."""
    address: str = ""
    """Address relative to the page, encoded; '' where the file is embedded."""
    embedded: bytes = b""
    """Content of the file, where it is embedded."""
    length_s: float | None = None
    """Length, where the file was looked into."""
    sprite: Sprite | None = None
    """Small frames, where the file was looked into."""


@dataclass(frozen=True)
class PlayerContent:
    """Everything that a page shows."""

    sets: Sequence[ResultSet]
    """One for each result file."""
    truth: Annotations | None = None
    """Ground truth, of these videos and perhaps more."""
    lengths: Mapping[str, float] = field(default_factory=dict)
    """Lengths of videos, where known, in the unit of all times."""
    media: Mapping[str, VideoMedia] = field(default_factory=dict)
    """Videos at hand."""
    in_seconds: bool = True
    """The unit of all times: seconds or snippets."""
    silent: Sequence[str] = ()
    """Videos of the ground truth to show although no result file names them."""


def pack(content: PlayerContent) -> dict[str, Any]:
    """Pack the content of a page as JSON values: names as lists, numbers as little-endian columns in base64.

    Raises:
        UsageError: There is no result file, or there are more than `MAX_SETS`.
    """
    if not 0 < len(content.sets) <= MAX_SETS:
        raise UsageError("results", f"are {len(content.sets)} files, a page shows 1 to {MAX_SETS}", "name fewer")
    content = _spelled_alike(content)
    ids = list(dict.fromkeys([*(video for one in content.sets for video in one.detections), *content.silent]))
    instances = _instances(content, ids)
    labels = {found.label for one in content.sets for rows in one.detections.values() for found in rows}
    classes = sorted(labels | {instance.label for rows in instances.values() for instance in rows})
    index = {label: place for place, label in enumerate(classes)}
    truth = None if content.truth is None else _shown_truth(content.truth, ids)
    judged = [None if truth is None else _judged(truth, one) for one in content.sets]
    return {
        "seconds": content.in_seconds,
        "tiou": TIOU,
        "verdicts": [verdict.value for verdict in Verdict],
        "classes": classes,
        "colours": [class_colour(label) for label in classes],
        "looks": {"light": CLASS_COLOURS, "dark": DARK_CLASS_COLOURS},
        "ids": ids,
        "lengths": _column([content.lengths.get(video, 0.0) for video in ids], "<f4"),
        "truth": None if truth is None else _segments([instances.get(video, ()) for video in ids], index),
        "sets": [
            _packed_set(one, verdicts, ids, instances, index)
            for one, verdicts in zip(content.sets, judged, strict=True)
        ],
        "media": {
            place: _packed_media(content.media[video]) for place, video in enumerate(ids) if video in content.media
        },
    }


def _spelled_alike(content: PlayerContent) -> PlayerContent:
    """Give the videos of all result files the ids of the ground truth, or else of the first file."""
    first = content.sets[0].detections
    known = [video.id for video in content.truth.videos] if content.truth else list(first)
    sets = [replace(one, detections=respelled(one.detections, known)) for one in content.sets]
    lengths, media = respelled(content.lengths, known), respelled(content.media, known)
    return replace(content, sets=sets, lengths=lengths, media=media)


def _shown_truth(truth: Annotations, ids: Iterable[str]) -> Annotations:
    shown = frozenset(ids)
    return replace(truth, videos=tuple(video for video in truth.videos if video.id in shown))


def _instances(content: PlayerContent, ids: Iterable[str]) -> dict[str, tuple[Instance, ...]]:
    if content.truth is None:
        return {}
    return {video.id: video.instances for video in _shown_truth(content.truth, ids).videos}


def _judged(truth: Annotations, one: ResultSet) -> Judgement:
    labels = {found.label for rows in one.detections.values() for found in rows}
    return judge(truth.for_labels(labels), one.detections, TIOU)


def _packed_set(
    one: ResultSet,
    judgement: Judgement | None,
    ids: Sequence[str],
    instances: Mapping[str, Sequence[Instance]],
    index: Mapping[str, int],
) -> dict[str, Any]:
    rows = [one.detections.get(video, ()) for video in ids]
    scores = np.array([found.score for part in rows for found in part], dtype=np.float32)
    packed = {"name": one.name, "note": one.note, **_segments(rows, index), "score": _column(scores, "<f4")}
    if judgement is None:
        return packed | {"minimum": _few(scores, len(ids))}
    code = {verdict: place for place, verdict in enumerate(Verdict)}
    verdicts = np.array(
        [
            _UNJUDGED if verdict is None else code[verdict]
            for video in ids
            for verdict in judgement.verdicts.get(video, ())
        ],
        dtype=np.uint8,
    )
    # Position among all rows of the set, so that a script looks it up without the video.
    firsts = dict(zip(ids, np.cumsum([0, *map(len, rows)]).tolist(), strict=False))
    finders = [
        _NOBODY if place is None else firsts[video] + place
        for video in ids
        for place in judgement.finders.get(video, ())
    ]
    total = sum(len(instances.get(video, ())) for video in ids)
    return packed | {
        "verdict": _column(verdicts, "u1"),
        "finder": _column(finders, "<i4"),
        "minimum": best_f1_score(scores, verdicts == code[Verdict.TRUE_POSITIVE], total),
    }


def _few(scores: NDArray[np.float32], videos: int) -> float:
    wanted = SHOWN_AT_FIRST * videos
    return 0.0 if len(scores) <= wanted else float(np.sort(scores)[-wanted])


def _segments(rows: Sequence[Sequence[Detection | Instance]], index: Mapping[str, int]) -> dict[str, str]:
    """Pack segments of all videos one after the other, and where each video's begin."""
    every = [row for part in rows for row in part]
    return {
        "offsets": _column(np.cumsum([0, *map(len, rows)]), "<u4"),
        "start": _column([row.start_s for row in every], "<f4"),
        "end": _column([row.end_s for row in every], "<f4"),
        "label": _column([index[row.label] for row in every], "<u4"),
    }


def _column(values: Any, kind: str) -> str:
    return base64.b64encode(np.asarray(values).astype(kind).tobytes()).decode()


def _packed_media(media: VideoMedia) -> dict[str, Any]:
    packed: dict[str, Any] = {"name": media.path.name, "address": media.address, "embedded": bool(media.embedded)}
    if media.sprite is not None:
        sprite = media.sprite
        packed["sprite"] = {
            "jpeg": base64.b64encode(sprite.jpeg).decode(),
            "frames": sprite.frames,
            "width": sprite.width,
            "height": sprite.height,
        }
    return packed


def set_names(paths: Sequence[Path]) -> list[str]:
    """Name result files by their stems, or with as many folders as it takes to tell them apart."""
    for depth in range(1, 9):
        folders = ["/".join(path.resolve().parts[-depth:-1]) for path in paths]
        for files in ([path.stem for path in paths], [path.name for path in paths]):
            names = ["/".join(filter(None, pair)) for pair in zip(folders, files, strict=True)]
            if max(Counter(names).values(), default=0) < 2:
                return names
    return [f"{path.stem} ({place})" for place, path in enumerate(paths, 1)]
