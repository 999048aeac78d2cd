"""Training and evaluation data from a folder of videos: real ones, or those that `simulate` wrote.

| file | what |
|---|---|
| `annotations.json` | any form that `train` reads |
| `features/` | a file for each video |
| `text_embeddings.npy`, `classes.txt` | text embeddings [classes, width], and a name for each row |
| `splits/75-25/seen.list`, `unseen.list` | classes that are taught and judged in the open set; `50-50` likewise |
| `splits/seen.list`, `unseen.list` | the same for the one split that a simulated folder has, whichever it is |
| `external.json` | verdicts of an external classifier, if there are any; else they are simulated |
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from stale_edge.checkpoint import file_sha256
from stale_edge.data.dataset import AnnotatedFeatures
from stale_edge.data.selection import training_subset
from stale_edge.data.splits import sample
from stale_edge.data.vocabulary import ClassEmbeddings, read_vocabulary
from stale_edge.simulation.folder import WORLD_FILE, read_world_config
from stale_edge.study.experiments.evaluation_sets import EvaluationSet
from stale_edge.study.experiments.training_runs import SNIPPETS
from stale_edge.study.experiments.video_pool import (
    OPEN_50,
    OPEN_75,
    TOP1_ACCURACY,
    PartOf,
    Pool,
    Split,
    simulated_external,
)
from stale_edge_runtime.contract import FEATURE_DIM
from stale_edge_runtime.errors import BadDataError, InputMissingError, reading_error
from stale_edge_runtime.formats.annotations import Annotations, read_annotations
from stale_edge_runtime.formats.class_list import read_class_list
from stale_edge_runtime.formats.external_scores import read_external

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from stale_edge.study.experiments.training_runs import Material, StudyScale

ANNOTATIONS, FEATURES, TEXT, CLASSES = "annotations.json", "features", "text_embeddings.npy", "classes.txt"
SPLITS, SEEN, UNSEEN, EXTERNAL = "splits", "seen.list", "unseen.list", "external.json"
_CURE: Final = "`stale-edge simulate` writes a folder as studies read it"


@dataclass(frozen=True)
class _Lists:
    """Files that say which classes are taught and which are judged; all classes where there are none."""

    seen: Path | None
    judged: Path | None

    @property
    def both(self) -> tuple[Path, Path]:
        """The two, where there are some."""
        assert self.seen is not None and self.judged is not None  # noqa: S101, PT018 (lists of an open split)
        return self.seen, self.judged


class FolderData:
    """A folder as the subject of a study.

    Args:
        folder: Folder in the layout that the module shows.
        limited: Take no more videos than the scale says, as a trial does; else all that there are.

    Raises:
        InputMissingError: A part of the layout is missing.
        BadDataError: A part is not what it must be.
    """

    def __init__(self, folder: Path, *, limited: bool = False) -> None:
        self._folder = folder
        self._limited = limited
        for name in (ANNOTATIONS, FEATURES, TEXT, CLASSES):
            if not _exists(folder / name):
                raise InputMissingError(folder / name, "does not exist", _CURE)
        self._width = read_world_config(folder).feature_dim if _exists(folder / WORLD_FILE) else FEATURE_DIM

    @property
    def description(self) -> dict[str, Any]:
        """Digests of all that decides what it gives; features by their names and sizes alone.

        Raises:
            InputMissingError: A part is gone, or cannot be read.
            StorageError: The disk failed.
        """
        where = self._folder / FEATURES
        with _reading(self._folder / SPLITS):
            lists = sorted((self._folder / SPLITS).rglob("*.list"))
        with _reading(where):
            features = [where] if where.is_file() else sorted(where.iterdir())
        named = [self._folder / ANNOTATIONS, self._folder / TEXT, self._folder / CLASSES, *lists]
        sizes = hashlib.sha256("".join(f"{path.name} {_size(path)}\n" for path in features).encode())
        return {
            "sha256": {path.relative_to(self._folder).as_posix(): file_sha256(path) for path in named},
            "feature_files": len(features),
            "feature_names_and_sizes_sha256": sizes.hexdigest(),
        }

    def numbers(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """Count the videos of the folder; a trial takes no more of them than it asks for."""
        if not self._limited:
            return {"videos": "all"}
        taught, judged = asked["videos"]["taught"], asked["videos"]["judged"]
        return {"videos": {"taught, at most or enough for every class": taught, "judged, at most": judged}}

    @property
    def enhancement(self) -> dict[str, Any]:
        """Description of the external classifier, and the number of videos that it names a right class first for.

        Raises:
            BadDataError: Its file is damaged, or knows none of the videos.
        """
        path = self._folder / EXTERNAL
        if not _exists(path):
            return {"source": "simulated", "top1_accuracy": TOP1_ACCURACY}
        judged = self._annotations.subset(self._annotations.default_subset).videos
        accuracy = read_external(path).accuracy({video.id: {i.label for i in video.instances} for video in judged})
        if accuracy is None:
            raise BadDataError(path, f"knows none of the {len(judged):,} videos to judge by", "is it of other videos?")
        return {"source": EXTERNAL, "sha256": file_sha256(path), "top1_accuracy": accuracy}

    def splits(self, wanted: Sequence[Split]) -> tuple[Split, ...]:
        """List the splits that have lists of classes; the closed set needs none.

        Raises:
            InputMissingError: It has none.
        """
        found = tuple(split for split in wanted if not split.is_open or self._lists(split) is not None)
        if not found:
            raise _no_lists(self._folder, wanted[0])
        return found

    def finite(self, split: Split, scale: StudyScale, snippets: int | None = SNIPPETS) -> Pool:
        """Read the videos of the training subset, and those of the other subset to judge by.

        Args:
            split: Split of the classes.
            scale: Numbers of videos, where they are limited.
            snippets: Length that they are resized to; None takes them as they are.

        Raises:
            StaleEdgeError: A file is missing or not what it must be.
        """
        lists = self._lists(split) if split.is_open else self._closed_lists()
        if lists is None:
            raise _no_lists(self._folder, split)
        return self._pool(lists, scale, snippets)

    def endless(self, scale: StudyScale, snippets: int | None = SNIPPETS) -> Material:
        """Read the videos for an ablation, which judges seen and unseen classes both; its videos do come again.

        Args:
            scale: Numbers of videos, where they are limited.
            snippets: Length that they are resized to; None takes them as they are.

        Raises:
            StaleEdgeError: A file is missing or not what it must be.
        """
        lists = self._only_lists or self._lists(OPEN_75) or self._lists(OPEN_50)
        if lists is None:
            raise _no_lists(self._folder, OPEN_75)
        pool = self._pool(lists, scale, snippets)
        evaluation_sets = {
            "seen": self._evaluation_set(lists.seen, scale.seen, snippets),
            "unseen": pool.evaluation_set,
        }
        return replace(pool.material(1.0, seed=0), evaluation_sets=evaluation_sets)

    def _pool(self, lists: _Lists, scale: StudyScale, snippets: int | None) -> Pool:
        source = AnnotatedFeatures.open(
            self._folder / ANNOTATIONS,
            self._folder / FEATURES,
            split=lists.seen,
            subset=training_subset(self._annotations),
            feature_dim=self._width,
            length=snippets,
        )
        most = scale.unseen if lists.judged != lists.seen else scale.seen
        evaluation_set = self._evaluation_set(lists.judged, most, snippets)
        indices = list(range(len(source)))
        most = max(scale.videos, len(source.classes) * 5 // 4)  # one for each class, and some to hold out
        if self._limited and len(source) > most:
            indices = sample(source.labelled, most / len(source), seed=0)
        path = self._folder / EXTERNAL
        external = (
            read_external(path) if _exists(path) else simulated_external(evaluation_set, self._vocabulary.classes)
        )
        labelled = [source.labelled[index] for index in indices]
        return Pool(PartOf(source, indices), labelled, self._text(source.classes), evaluation_set, external)

    def _evaluation_set(self, classes: Path | None, most: int, snippets: int | None) -> EvaluationSet:
        """Videos of some classes in the subset that is not taught.

        Raises:
            BadDataError: There is no such subset.
        """
        path, subset = self._folder / ANNOTATIONS, self._annotations.default_subset
        if subset == training_subset(self._annotations):
            raise BadDataError(path, f"has no subset beside {subset!r} to judge by", "add one, such as validation")
        videos = AnnotatedFeatures.open(
            path,
            self._folder / FEATURES,
            split=classes,
            subset=subset,
            feature_dim=self._width,
            length=snippets,
            cache_mb=1.0,  # the evaluation set keeps them
        )
        step = max(1, -(-len(videos) // most)) if self._limited else 1
        taken = (videos.video(index, 0) for index in range(0, len(videos), step))
        return EvaluationSet.of(taken, videos.classes, self._text(videos.classes), snippets=snippets)

    def _text(self, classes: tuple[str, ...]) -> NDArray[np.float32]:
        return self._vocabulary.rows(classes).numpy()

    def _lists(self, split: Split) -> _Lists | None:
        """Lists of the classes of an open split, where there are any: its own, or the only ones if they are its."""
        own = _lists_in(self._folder / SPLITS / _folder_name(split))
        if own is not None or self._only_lists is None:
            return own
        taught, judged = (len(read_class_list(path)) for path in self._only_lists.both)
        return self._only_lists if round(split.seen_share * (taught + judged)) == taught else None

    def _closed_lists(self) -> _Lists:
        """List all classes; in a simulated folder those that its training videos show."""
        if self._only_lists is not None and _exists(self._folder / WORLD_FILE):
            return _Lists(self._only_lists.seen, self._only_lists.seen)
        return _Lists(None, None)

    @cached_property
    def _only_lists(self) -> _Lists | None:
        return _lists_in(self._folder / SPLITS)

    @cached_property
    def _annotations(self) -> Annotations:
        return read_annotations(self._folder / ANNOTATIONS, strict=True)

    @cached_property
    def _vocabulary(self) -> ClassEmbeddings:
        return read_vocabulary(self._folder / CLASSES, self._folder / TEXT, self._width)


def _lists_in(folder: Path) -> _Lists | None:
    """Find the two lists of a folder, where it has them.

    Raises:
        InputMissingError: It has one of the two.
        BadDataError: They share a class.
    """
    seen, unseen = folder / SEEN, folder / UNSEEN
    if not (_exists(seen) or _exists(unseen)):
        return None
    if shared := sorted(set(read_class_list(seen)) & set(read_class_list(unseen))):
        raise BadDataError(unseen, f"shares {shared[0]!r} with {SEEN}", "a class is either taught or unseen")
    return _Lists(seen, unseen)


def _no_lists(folder: Path, split: Split) -> InputMissingError:
    cure = f"write {SPLITS}/{_folder_name(split)}/{SEEN} and {UNSEEN}, one class a line"
    return InputMissingError(folder / SPLITS, f"has no lists of the classes of {split.name}", cure)


def _folder_name(split: Split) -> str:
    return split.name.replace("/", "-")


def _exists(path: Path) -> bool:
    with _reading(path):
        return path.exists()


def _size(path: Path) -> int:
    with _reading(path):
        return path.stat().st_size


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say of what the system refuses which file it is."""
    try:
        yield
    except OSError as error:
        raise reading_error(path, error) from error
