"""Work on many files in several processes: one file may end or hang its process, and nothing else."""

from __future__ import annotations

import contextlib
import pickle
import select
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from stale_edge_runtime.child import HOSTILE, Child, ChildDiedError, Parent
from stale_edge_runtime.errors import BadDataError, StaleEdgeError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

SILENCE_S: Final = 600.0
"""Longest time without a sign of life; a worker gives one after every batch."""
ANSWER_S: Final = 60.0
"""Longest that an answer may take from its first byte."""
_OUT_OF_MEMORY: Final = "the machine may lack memory for it, also at the second try: give fewer --jobs"
_SERVE: Final = "from stale_edge_runtime.jobs import serve; serve()"


class Task(Protocol):
    """Work on one item, made by a picklable function in the process that does it."""

    def __call__(self, item: Any, progress: Callable[[int, int | None], None]) -> Mapping[str, Any]:
        """Do the work; give its result as JSON values, and call `progress` with steps done and all steps."""


@dataclass(frozen=True)
class Progress:
    """Steps of one item that are done."""

    index: int
    """Place of the item."""
    done: int
    """Steps done."""
    total: int | None
    """All of its steps; None where nobody knows."""


@dataclass(frozen=True)
class Result:
    """End of the work on one item."""

    index: int
    """Place of the item."""
    value: Mapping[str, Any] | StaleEdgeError
    """Result, or the error that ended it."""


class Worker:
    """One process and the item that it works on; an item whose process dies gets a second one.

    Args:
        make: Makes the task in the process; picklable.
    """

    def __init__(self, make: Callable[[], Task]) -> None:
        self._make = make
        self._child: Child | None = None
        self._retried = False
        self.index: int | None = None
        self.heard = 0.0

    def fileno(self) -> int:
        """Give the descriptor that becomes readable when the worker tells something."""
        assert self._child is not None  # noqa: S101 (asked only while it works)
        return self._child.fileno()

    def start(self, index: int, item: Any) -> None:
        """Give the worker an item; a process that died is replaced."""
        self._retried = False
        self._send(index, item)

    def _send(self, index: int, item: Any) -> None:
        self.index = index
        self.heard = time.monotonic()
        if self._child is None:
            self._child = Child(_SERVE)
            self._child.send(pickle.dumps(self._make))
        self._child.send(pickle.dumps(item))

    def event(self, item: Any) -> Progress | Result:
        """Read what the worker tells."""
        assert self._child is not None  # noqa: S101 (asked only while it works)
        assert self.index is not None  # noqa: S101
        try:
            told = self._child.receive(ANSWER_S)
            self.heard = time.monotonic()
            if "done" in told:
                return Progress(self.index, int(told["done"]), told["total"])
            return self._result(told["value"])
        except StaleEdgeError as error:
            return self._result(error)
        except (ChildDiedError, TimeoutError, KeyError, TypeError, ValueError) as end:
            self.close()
            if isinstance(end, ChildDiedError) and not self._retried:
                self._retried = True
                self._send(self.index, item)
                return Progress(self.index, 0, None)
            cure = _OUT_OF_MEMORY if str(end) == signal.SIGKILL.name else HOSTILE
            return self._result(BadDataError(item, f"ended the process that worked on it ({end or 'hung'})", cure))

    def finish(self, index: int, item: Any) -> Result:
        """Work on one item to its end."""
        self.start(index, item)
        while True:
            if not select.select([self], [], [], SILENCE_S)[0]:
                return self.give_up(item)
            if isinstance(event := self.event(item), Result):
                return event

    def give_up(self, item: Any) -> Result:
        """End a worker that is silent for too long."""
        self.close()
        return self._result(BadDataError(item, f"took more than {SILENCE_S:,.0f} s for a step", "do not use it"))

    def close(self) -> None:
        """End the process."""
        child, self._child = self._child, None
        if child is not None:
            child.close()

    def _result(self, value: Mapping[str, Any] | StaleEdgeError) -> Result:
        assert self.index is not None  # noqa: S101 (a worker without an item tells nothing)
        index, self.index = self.index, None
        return Result(index, value)


class Engine(Protocol):
    """Processes that work on many items: of this machine, or of a cluster."""

    def __call__(self, make: Callable[[], Task], items: Sequence[Any], /) -> Generator[Progress | Result]:
        """Work on items, handed out in their order; every item has one result, in the order in which they end."""


def longest_first(lengths: Sequence[float], block: int | None = None) -> list[int]:
    """Order items so that the longest of each block come first: no process ends long after the others.

    Args:
        lengths: Length of each item, in any unit.
        block: Items of a block; blocks keep their order. One block holds all without it.
    """
    size = block or max(1, len(lengths))
    return sorted(range(len(lengths)), key=lambda index: (index // size, -lengths[index]))


def run_jobs(make: Callable[[], Task], items: Sequence[Any], jobs: int) -> Generator[Progress | Result]:
    """Work on items in several processes; every item has one result, in the order in which they end.

    An item whose process dies is tried once more, in a new process.

    Args:
        make: Makes the task in each process; picklable, as a function of a module or a `functools.partial` of one.
        items: Items, picklable; their text names them in errors.
        jobs: Processes, at least 1.

    Yields:
        Progress of items, and results.
    """
    waiting = list(enumerate(items))[::-1]
    workers = [Worker(make) for _ in range(min(jobs, len(items)))]
    try:
        for worker in workers:
            worker.start(*waiting.pop())
        while busy := [worker for worker in workers if worker.index is not None]:
            ready, _, _ = select.select(busy, [], [], 1.0)
            late = [one for one in busy if one not in ready and time.monotonic() - one.heard > SILENCE_S]
            for worker in (*ready, *late):
                item = items[worker.index or 0]
                event = worker.give_up(item) if worker in late else worker.event(item)
                if isinstance(event, Result) and waiting:
                    worker.start(*waiting.pop())
                yield event
    finally:
        for worker in workers:
            with contextlib.suppress(OSError):
                worker.close()


def serve() -> None:
    """Run as a worker: make the task that is sent, then do it for the items that are sent."""
    parent = Parent()
    make = pickle.loads(parent.receive())  # noqa: S301 (from the process that started this one)
    task: Task | None = None

    def work() -> Mapping[str, Any]:
        nonlocal task
        if task is None:
            task = make()
        return {"value": task(item, lambda done, total: parent.send({"done": done, "total": total}))}

    while True:
        item = pickle.loads(parent.receive())  # noqa: S301 (likewise)
        parent.answer(work)
