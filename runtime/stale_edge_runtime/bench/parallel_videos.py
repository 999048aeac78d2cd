"""Several videos at the same time, each in a process with one thread, as `detect --jobs` works on them."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from stale_edge_runtime.bench.measure import time_ms
from stale_edge_runtime.child import Child, ChildDiedError, Parent
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.synthetic import clip_like_features

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from stale_edge_runtime.bench.onnx_contender import OnnxContender

ANSWER_S: Final = 600.0
"""Longest time that a burst of forwards may take."""
_SERVE: Final = "from stale_edge_runtime.bench.parallel_videos import serve; serve()"


class ParallelVideos:
    """Processes that run a file at the same time, one thread each; a context manager that ends them.

    Args:
        contender: The file.
        videos: Number of processes.
    """

    def __init__(self, contender: OnnxContender, videos: int) -> None:
        self._path = contender.model.path
        self._children = [Child(_SERVE) for _ in range(videos)]
        made = pickle.dumps(replace(contender, _session=None, _macs={}))
        for child in self._children:
            child.send(made)

    def __enter__(self) -> ParallelVideos:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.close()

    def run(self, snippets: int, runs: int) -> list[list[float]]:
        """Let every process run some forwards, and wait until the last one is done.

        Args:
            snippets: Length of the videos.
            runs: Forwards of each process.

        Returns:
            Milliseconds of each forward, by process.

        Raises:
            BadDataError: A process ended, or a file does not run.
        """
        try:
            for child in self._children:
                child.send(pickle.dumps((snippets, runs)))
            return [child.receive(ANSWER_S)["ms"] for child in self._children]
        except (ChildDiedError, TimeoutError) as end:
            raise BadDataError(
                self._path, f"ended one of {len(self._children)} processes ({end or 'hung'})", "name fewer --threads"
            ) from end


def serve() -> None:
    """Run forwards of the contender that is sent first, as often as the messages after it say."""
    parent = Parent()
    contender: OnnxContender = pickle.loads(parent.receive())  # noqa: S301 (from the process that started this one)
    prepared: tuple[int, Callable[[], object]] | None = None

    def work(snippets: int, runs: int) -> Mapping[str, Any]:
        nonlocal prepared
        if prepared is None or prepared[0] != snippets:
            prepared = snippets, contender.prepare(clip_like_features(1, snippets, contender.feature_dim), 1)
        forward = prepared[1]
        return {"ms": [time_ms(forward) for _ in range(runs)]}

    while True:
        snippets, runs = pickle.loads(parent.receive())  # noqa: S301 (likewise)
        parent.answer(partial(work, snippets, runs))
