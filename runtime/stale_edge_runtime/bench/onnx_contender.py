"""An exported file as a contender. Run as a module, it measures the file's cold start in a process of its own."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stale_edge_runtime.bench.graph_types import read_operands
from stale_edge_runtime.bench.machine import within_memory
from stale_edge_runtime.bench.macs import MacCount, count_macs, model_feeds
from stale_edge_runtime.bench.memory import leave_with_parent, report_cold_start
from stale_edge_runtime.bench.vocabulary import CLASSES, TOKEN_TABLE, TOKENS, Vocabulary, synthetic_vocabulary
from stale_edge_runtime.bench.windowed import forward_in_windows
from stale_edge_runtime.contract import Kind, Precision
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.model_file import ModelFile, read_model
from stale_edge_runtime.session import ORT_ERRORS, open_session, short_reason
from stale_edge_runtime.synthetic import clip_like_features
from stale_edge_runtime.windows import WindowPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import onnxruntime as ort
    from numpy.typing import NDArray

_FAILURES: tuple[type[BaseException], ...] = (MemoryError, *ORT_ERRORS)


@dataclass
class OnnxContender:
    """An exported file on one provider."""

    model: ModelFile
    """The file."""
    name: str
    """Name in tables."""
    provider: str
    """Provider it runs on."""
    vocabulary: Vocabulary
    """Text inputs, for a file that does not have its classes inside."""
    engine: str = "onnxruntime"
    """Library that runs it."""
    windows: WindowPlan | None = None
    """No windows: it takes a video in one piece; `Windowed` cuts it."""
    _session: tuple[int, ort.InferenceSession] | None = field(default=None, repr=False)
    _macs: dict[int, MacCount] = field(default_factory=dict, repr=False)

    @property
    def kind(self) -> str:
        """Inputs of the file besides features."""
        return str(self.model.info.kind)

    @property
    def precision(self) -> Precision:
        """Number format of its products."""
        return self.model.info.precision

    @property
    def feature_dim(self) -> int:
        """Width of the features it takes."""
        return self.model.info.feature_dim

    def prepare(self, features: NDArray[np.float32], threads: int) -> Callable[[], Sequence[Any]]:
        """Make a function that runs one forward, from arrays in host memory to arrays in host memory.

        Args:
            features: [batch, snippets, D].
            threads: Threads inside an operator.

        Raises:
            UnavailableError: There are not that many threads here, or the provider cannot be had.
        """
        if self._session is None or self._session[0] != threads:
            self._session = (threads, open_session(self.model, threads=threads, provider=self.provider))
        return _forward(self.model, self._session[1], features, self.vocabulary)

    def macs(self, batch: int, snippets: int) -> int:
        """Multiply-accumulates of one forward.

        Raises:
            BadDataError: They are no polynomial of the length.
        """
        if batch not in self._macs:
            self._macs[batch] = count_macs(self.model, batch=batch, vocabulary=self.vocabulary)
        return self._macs[batch].total(snippets)

    def cold_start_words(
        self, threads: int, batch: int, snippets: int, windows: WindowPlan | None = None
    ) -> Sequence[str]:
        """Module and arguments of the process that measures its cold start."""
        task = ColdStartTask(
            path=str(self.model.path.resolve()),
            provider=self.provider,
            threads=threads,
            batch=batch,
            snippets=snippets,
            feature_dim=self.feature_dim,
            classes=self.vocabulary.token_ids.shape[0],
            tokens=self.vocabulary.token_ids.shape[1],
            token_table=int(self.vocabulary.token_ids.max()) + 1,
            window=windows.window if windows else 0,
            hop=windows.hop if windows else 0,
        )
        return (__spec__.name, json.dumps(asdict(task)))


@dataclass(frozen=True)
class ColdStartTask:
    """Command line and settings for the measuring process."""

    path: str
    """The file."""
    provider: str
    """Provider it runs on."""
    threads: int
    """Threads inside an operator."""
    batch: int
    """Videos in one forward."""
    snippets: int
    """Length of each."""
    feature_dim: int
    """Width of a snippet."""
    classes: int
    """Classes of a file that does not have them inside."""
    tokens: int
    """Length of their longest prompt."""
    token_table: int
    """Entries of its token table."""
    window: int
    """Snippets of a window; 0 for the video in one piece."""
    hop: int
    """Snippets from the start of one window to the start of the next."""


def vocabulary_for(model: ModelFile, *, classes: int = CLASSES, tokens: int = TOKENS) -> Vocabulary:
    """Make up a vocabulary that fits a file's token table.

    Args:
        model: The file.
        classes: Number of prompts.
        tokens: Length of the longest.
    """
    token_table = TOKEN_TABLE
    if model.info.kind in {Kind.FULL, Kind.TEXT_TOWER}:
        nodes = read_operands(model.content).values()
        lookups = [node.shapes[0] for node in nodes if node.operator == "Gather"]
        token_table = max((shape[0] for shape in lookups if shape and len(shape) == 2), default=TOKEN_TABLE)
    return synthetic_vocabulary(model.info.feature_dim, classes=classes, tokens=tokens, token_table=token_table)


def _forward(
    model: ModelFile, session: ort.InferenceSession, features: NDArray[np.float32], vocabulary: Vocabulary
) -> Callable[[], Sequence[Any]]:
    feeds = model_feeds(model, features, vocabulary)

    def forward() -> Sequence[Any]:
        try:
            outputs: Sequence[Any] = session.run(None, feeds)
        except _FAILURES as error:
            reason = short_reason(error)
            raise BadDataError(
                model.path, f"onnxruntime failed at {features.shape[1]} snippets ({reason})", "bench shorter lengths"
            ) from error
        return outputs

    return forward


def main(words: Sequence[str]) -> None:
    """Measure the cold start that `words` describe and write it to standard output."""
    leave_with_parent()
    task = ColdStartTask(**json.loads(words[0]))
    # Inputs are made before the clock starts.
    features = clip_like_features(task.batch, task.snippets, task.feature_dim)
    vocabulary = synthetic_vocabulary(
        task.feature_dim, classes=task.classes, tokens=task.tokens, token_table=task.token_table
    )

    def load() -> Callable[[], Sequence[Any]]:
        model = read_model(Path(task.path))
        session = open_session(model, threads=task.threads, provider=task.provider)

        def prepare(piece: NDArray[np.float32]) -> Callable[[], Sequence[Any]]:
            return _forward(model, session, piece, vocabulary)

        if task.window:
            return forward_in_windows(prepare, features, WindowPlan(task.window, task.hop))
        return prepare(features)

    with within_memory([task.provider]):
        report_cold_start(load)


if __name__ == "__main__":
    main(sys.argv[1:])
