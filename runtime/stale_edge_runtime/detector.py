"""Detector from features to detections: a checked file, a session and the decoding, behind one object."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stale_edge_runtime.contract import (
    BLOCK_SNIPPETS,
    BLOCKWISE,
    FEATURES,
    MAX_MEMORY_MB,
    TEXT_EMBEDDINGS,
    Kind,
    ModelInfo,
)
from stale_edge_runtime.decoding import check_duration, fuse
from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.formats.features import check_features
from stale_edge_runtime.graph_detections import READ, read_detections
from stale_edge_runtime.heads.base import Choices
from stale_edge_runtime.heads.registry import HEADS
from stale_edge_runtime.labelling import Labeller, text_labeller
from stale_edge_runtime.memory_limit import limited_memory
from stale_edge_runtime.model_file import ModelFile, read_model
from stale_edge_runtime.processor import saturation_warning
from stale_edge_runtime.resampling import resize
from stale_edge_runtime.session import ORT_ERRORS, check_snippets, open_session, provider_of, short_reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from stale_edge_runtime.decoding import Detection
    from stale_edge_runtime.heads.base import VideoOutputs
    from stale_edge_runtime.heads.stale_proposals import DecodeOptions

PROCESS_BYTES = 80 << 20
"""Python, numpy and onnxruntime, before any model."""
FILE_COPIES = 3
PREDICTION_ROOM = 2
"""A run is stopped when it takes this many times the memory that was predicted; predictions err upwards already."""
"""The file's bytes, onnxruntime's weights, and the same packed for the processor."""

_CURES = {
    Kind.FULL: "export it with --open, or bake the classes in; full files are for `stale-edge bench`",
    Kind.TEXT_TOWER: "use the file that takes features; this one makes text embeddings for it",
    Kind.IMAGE_TOWER: "use the file that takes features; this one makes features of images",
}


class Detector:
    """Finds actions in features, with one model file.

    Args:
        path: A baked or open-vocabulary `.onnx` file that stale-edge exported, or one that was read already.
        threads: Threads inside one operator. One by default: many videos are done soonest several at a time with one
            thread each, as `detect --jobs auto` works. A single video is done sooner with more, up to
            `processor.useful_threads`, one a physical core; `bench --threads 1,2` measures what they gain.
        provider: Device to run on: `"cpu"` or `"cuda"`.
        text_embeddings: `[C, feature_dim]`, for an open-vocabulary file, or one that tells when and not what; may come
            with each call instead.
        classes: Names of these C classes.
        max_memory_mb: Refuse videos that are predicted to need more memory than this (see `predict_memory_mb`), and
            stop a run on the CPU that takes more all the same. None for no limit.
        reuse_memory: Keep freed memory for the next run: faster, but memory stays at what the longest video took.
        labels_from: A file whose network classifies any segment, as the boundary map does, to name what a file that
            tells when and not what finds; text embeddings and classes are then for it.

    Attributes:
        path: The file.
        info: What the file says about itself.
        provider: Device that the session really uses.

    Warns:
        UserWarning: An int8 file that this processor answers wrong, see `processor`.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: The file, or the embeddings, are not what they must be.
        UsageError: A kind of file that cannot detect, embeddings without names, embeddings for a baked file.
        UnavailableError: The provider or the threads cannot be had.
    """

    def __init__(
        self,
        path: str | Path | ModelFile,
        threads: int = 1,
        provider: str = "cpu",
        *,
        text_embeddings: NDArray[np.floating[Any]] | None = None,
        classes: Sequence[str] | None = None,
        max_memory_mb: float | None = MAX_MEMORY_MB,
        reuse_memory: bool = True,
        labels_from: str | Path | None = None,
    ) -> None:
        model = path if isinstance(path, ModelFile) else read_model(Path(path))
        self.path = model.path
        self._source = path if isinstance(path, ModelFile) else self.path.absolute()
        self.info: ModelInfo = model.info
        if self.info.kind in _CURES:
            raise UsageError(self.path, f"is a {self.info.kind} file, which cannot detect", _CURES[self.info.kind])
        self._head = HEADS[self.info.network]
        self._threads = threads
        self._options: dict[str, Any] = {
            "text_embeddings": text_embeddings,
            "classes": classes,
            "max_memory_mb": max_memory_mb,
            "reuse_memory": reuse_memory,
            "labels_from": labels_from,
        }
        self._labeller: Labeller | None = None
        if labels_from is not None:
            self._labeller = self._labels_from(Path(labels_from), text_embeddings, classes)
            text_embeddings = classes = None
        self._file_bytes = model.size_bytes
        # Decoding inside takes one blockwise operator of its own.
        blockwise = model.operators.get(BLOCKWISE, 0) > bool(self.info.detections)
        self._block = BLOCK_SNIPPETS if blockwise else self.info.max_snippets
        self._max_memory_mb = max_memory_mb
        self._vocabulary: tuple[NDArray[np.float32] | None, tuple[str, ...]] | None = None
        if self.info.kind is Kind.BAKED or text_embeddings is not None or classes is not None:
            self._vocabulary = self._checked_vocabulary(text_embeddings, classes)
        if warning := saturation_warning(self.info, self.path):
            warnings.warn(warning, stacklevel=2)
        self._session = open_session(model, threads=threads, provider=provider, reuse_memory=reuse_memory)
        self.provider = provider_of(self._session)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the path, or the file that was given, and the options: whoever unpickles opens it again."""
        return _reopen, (self._source, self._threads, self.provider, self._options)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of detections; empty for an open-vocabulary file that has none yet."""
        if self._labeller is not None:
            return self._labeller.classes
        return self._vocabulary[1] if self._vocabulary else ()

    @property
    def is_class_agnostic(self) -> bool:
        """Whether the file tells when and not what."""
        return self._head.is_class_agnostic(self.info)

    def detect(
        self,
        features: NDArray[np.floating[Any]],
        duration_s: float | None = None,
        *,
        external: tuple[str, float] | None = None,
        text_embeddings: NDArray[np.floating[Any]] | None = None,
        classes: Sequence[str] | None = None,
        compat: str | None = None,
        options: DecodeOptions | None = None,
    ) -> list[Detection]:
        """Find the actions in one video.

        Args:
            features: `[T, feature_dim]`, any float type.
            duration_s: Seconds that the T snippets cover. Without it, what the file says about the length of a
                snippet counts; where it says nothing, times are in snippets.
            external: Label and score that an external classifier gives the video.
            text_embeddings: `[C, feature_dim]` for this call, for an open-vocabulary file.
            classes: Names of these C classes.
            compat: `"stale"` for the published decoding, defects included.
            options: Choices of the default decoding.

        Returns:
            Detections, best first.

        Raises:
            BadDataError: The features or embeddings are not what they must be, there are too many snippets, or
                the network answers with NaN.
            UsageError: An open-vocabulary file without embeddings and names, or a baked one with them; choices for a
                file that decodes inside.
        """
        embeddings, names = self._vocabulary_of(text_embeddings, classes)
        duration = len(features) * (self.info.snippet_seconds or 1.0) if duration_s is None else duration_s
        labels = self.info.classes if self.is_class_agnostic else names
        own = None if self.is_class_agnostic else external
        if self.info.detections:
            self._check_baked(compat, options)
            found = self._decoded(features, embeddings, labels, duration)
            found = found if own is None else self._head.name_externally(found, own)
        else:
            outputs = self._run(features, embeddings, len(names))
            choices = Choices(compat, own, options)
            found = self._head.decode(outputs, duration, classes=labels, info=self.info, choices=choices)
        if not self.is_class_agnostic:
            return found
        if external is not None:
            return fuse(found, [external])
        labeller = self._labeller or (None if embeddings is None else text_labeller(embeddings, names))
        return found if labeller is None else labeller.label(found, features, duration)

    def class_shares(
        self, features: NDArray[np.floating[Any]], segments: NDArray[np.floating[Any]]
    ) -> NDArray[np.float64]:
        """Give the share of each class `[N, C]` in segments that any network may have found.

        Args:
            features: `[T, feature_dim]`, any float type.
            segments: `[N, 2]` in snippets, best first, N at least one.

        Raises:
            BadDataError: As for `detect`.
            UsageError: The network does not classify segments.
        """
        if self._head.class_shares is None:
            problem = f"is of the network {self.info.network}, which does not classify segments"
            raise UsageError(self.path, problem, "name a file of the boundary map")
        return self._head.class_shares(self.forward(features), np.asarray(segments, dtype=np.float64))

    def _labels_from(
        self, path: Path, text_embeddings: NDArray[np.floating[Any]] | None, classes: Sequence[str] | None
    ) -> Labeller:
        if not self.is_class_agnostic:
            raise UsageError(path, "names segments, and the model has classes of its own", "leave out labels_from")
        named = {name: self._options[name] for name in ("max_memory_mb", "reuse_memory")}
        other = Detector(path, self._threads, text_embeddings=text_embeddings, classes=classes, **named)
        if other._head.class_shares is None or not other.classes:
            problem = f"is of the network {other.info.network} with {len(other.classes)} classes"
            raise UsageError(path, problem, "name a boundary map with classes, or give it text embeddings")
        if other.info.feature_dim != self.info.feature_dim:
            problem = f"takes features of width {other.info.feature_dim}, the model {self.info.feature_dim}"
            raise UsageError(path, problem, "name two files for the same features")
        return Labeller(other.class_shares, other.classes)

    def detect_batch(
        self,
        features: Sequence[NDArray[np.floating[Any]]],
        durations_s: Sequence[float | None] | None = None,
        **options: Any,
    ) -> list[list[Detection]]:
        """Find the actions in several videos of any lengths.

        Each runs on its own. Padding would change answers, because attention sees every snippet, and so would
        stacking equal lengths in an int8 file, whose activation scales are those of the whole input.

        Args:
            features: One `[T, feature_dim]` for each video.
            durations_s: Seconds of each.
            options: Options as for `detect`.

        Raises:
            UsageError: Not as many durations as videos.
            BadDataError: As for `detect`.
        """
        durations = [None] * len(features) if durations_s is None else list(durations_s)
        if len(durations) != len(features):
            raise UsageError("durations_s", f"{len(durations)} for {len(features)} videos", "give one for each")
        return [self.detect(video, duration, **options) for video, duration in zip(features, durations, strict=True)]

    def forward(
        self, features: NDArray[np.floating[Any]], *, text_embeddings: NDArray[np.floating[Any]] | None = None
    ) -> VideoOutputs:
        """Run the network on one video, without decoding.

        Args:
            features: `[T, feature_dim]`, any float type.
            text_embeddings: `[C, feature_dim]` for this call, for an open-vocabulary file.

        Raises:
            BadDataError: As for `detect`.
            UsageError: An open-vocabulary file without embeddings, a baked one with them, or one that decodes inside.
        """
        if self.info.detections:
            problem = "decodes inside and gives detections, not the outputs of its network"
            raise UsageError(self.path, problem, "name the file that was exported without --detections")
        if text_embeddings is None:
            embeddings, names = self._vocabulary_of(None, None)
            return self._run(features, embeddings, len(names))
        self._check_takes_text()
        embeddings = check_features(
            np.asarray(text_embeddings), self.info.feature_dim, subject=TEXT_EMBEDDINGS, row="text row"
        )
        return self._run(features, embeddings, len(embeddings))

    def predict_memory_mb(self, snippets: int) -> float:
        """Peak memory of the process that a video is predicted to need, in MiB; meant to err upwards.

        Process, `FILE_COPIES` times the file, and the activations as the network's head counts them.

        Args:
            snippets: T.
        """
        return self._predict_mb(snippets, len(self.classes))

    def _predict_mb(self, snippets: int, classes: int) -> float:
        run = self.info.resize_to or snippets
        activations = self._head.activation_floats(self.info, run, classes, self._block)
        return (PROCESS_BYTES + FILE_COPIES * self._file_bytes + 4 * activations) / (1 << 20)

    def _run(
        self, features: NDArray[np.floating[Any]], embeddings: NDArray[np.float32] | None, classes: int
    ) -> VideoOutputs:
        found, checked = self._forward(self._head.outputs, features, embeddings, classes)
        return self._checked_outputs(found, checked, classes)

    def _decoded(
        self,
        features: NDArray[np.floating[Any]],
        embeddings: NDArray[np.float32] | None,
        names: Sequence[str],
        duration_s: float,
    ) -> list[Detection]:
        """Run a file that decodes inside."""
        check_duration(duration_s)
        found, checked = self._forward(READ, features, embeddings, len(names))
        step_s = self._head.step_s(self.info, len(checked), duration_s)
        return read_detections(dict(zip(READ, found, strict=True)), step_s, duration_s, names, self.path)

    def _check_baked(self, compat: str | None, options: DecodeOptions | None) -> None:
        if compat is not None or options is not None:
            name = "compat" if compat is not None else "decode options"
            problem = f"cannot be chosen for {self.path}, which decodes inside"
            raise UsageError(name, problem, "name the file that was exported without --detections")

    def _forward(
        self,
        names: Sequence[str],
        features: NDArray[np.floating[Any]],
        embeddings: NDArray[np.float32] | None,
        classes: int,
    ) -> tuple[Sequence[NDArray[Any]], NDArray[np.float32]]:
        """Run the file on one video; give the outputs of these names, and the features as it saw them."""
        checked = check_features(np.asarray(features), self.info.feature_dim, subject=FEATURES)
        if self.info.resize_to:
            checked = resize(checked, self.info.resize_to)
        check_snippets(self.info, len(checked))
        if (
            self._max_memory_mb is not None
            and (needed := self._predict_mb(len(checked), classes)) > self._max_memory_mb
        ):
            raise BadDataError(
                FEATURES,
                f"{len(checked):,} snippets need about {needed:,.0f} MiB, {self._max_memory_mb:,.0f} are allowed",
                "run them in windows with --window, or raise --max-memory",
            )
        inputs = {FEATURES: checked[np.newaxis]}
        if embeddings is not None and self.info.kind is Kind.OPEN:
            inputs[TEXT_EMBEDDINGS] = embeddings
        try:
            with self._memory_limit(self._predict_mb(len(checked), classes)):
                found: Sequence[NDArray[Any]] = self._session.run(list(names), inputs)
        except ORT_ERRORS as error:
            problem = f"fails on {len(checked):,} snippets ({short_reason(error)})"
            raise BadDataError(self.path, problem, "use shorter pieces with --window, or export it again") from error
        return found, checked

    def _memory_limit(self, predicted_mb: float) -> AbstractContextManager[None]:
        if self._max_memory_mb is None or self.provider != "cpu":
            return nullcontext()
        return limited_memory(int(min(self._max_memory_mb, PREDICTION_ROOM * predicted_mb) * (1 << 20)))

    def _checked_outputs(
        self, found: Sequence[NDArray[np.float32]], features: NDArray[np.float32], classes: int
    ) -> VideoOutputs:
        expected = self._head.shapes(self.info, len(features), len(self.info.classes) or classes)
        outputs = {}
        for name, output in zip(self._head.outputs, found, strict=True):
            shape = (1, *expected[name])
            if output.shape != shape:
                problem = f"gives {name} {list(output.shape)}, not {list(shape)}"
                raise BadDataError(self.path, problem, "export it again")
            if not np.isfinite(output).all():
                largest = float(np.abs(features).max())
                raise BadDataError(
                    self.path,
                    f"gives NaN or infinity in {name} for features up to {largest:.3g}",
                    "features that fit the model are about 10 long; scale these, or try the fp32 file",
                )
            outputs[name] = output[0]
        return outputs

    def _vocabulary_of(
        self, text_embeddings: NDArray[np.floating[Any]] | None, classes: Sequence[str] | None
    ) -> tuple[NDArray[np.float32] | None, tuple[str, ...]]:
        """Embeddings and names of a call, or those of the detector."""
        if text_embeddings is None and classes is None and self._vocabulary is not None:
            return self._vocabulary
        return self._checked_vocabulary(text_embeddings, classes)

    def _checked_vocabulary(
        self, text_embeddings: NDArray[np.floating[Any]] | None, classes: Sequence[str] | None
    ) -> tuple[NDArray[np.float32] | None, tuple[str, ...]]:
        if self.info.kind is Kind.BAKED and text_embeddings is None and classes is None:
            return None, self.info.classes
        self._check_takes_text()
        if text_embeddings is None or classes is None:
            raise UsageError(
                self.path, "is an open-vocabulary file", "give it text_embeddings and the names of their classes"
            )
        names = tuple(classes)
        embeddings = check_features(
            np.asarray(text_embeddings), self.info.feature_dim, subject=TEXT_EMBEDDINGS, row="text row"
        )
        if len(names) != len(embeddings) or len(set(names)) != len(names):
            raise UsageError(
                "classes",
                f"{len(set(names))} different names for {len(embeddings)} text embeddings",
                "give each class its own name",
            )
        return embeddings, names

    def _check_takes_text(self) -> None:
        if self.info.kind is not Kind.OPEN and not self.is_class_agnostic:
            raise UsageError(self.path, "has its classes baked in", "export it with --open to choose them freely")


def _reopen(source: Path | ModelFile, threads: int, provider: str, options: dict[str, Any]) -> Detector:
    return Detector(source, threads, provider, **options)
