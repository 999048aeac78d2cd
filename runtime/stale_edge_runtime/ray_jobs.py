"""Work on many files on a cluster, by Ray Data: actors that hold the same worker process as work on one machine.

An actor is a process of Ray with a `jobs.Worker`: the model is opened once in it, and a file that ends the worker ends
no actor. Ray gives the work of a machine that is lost to others; whatever comes twice is taken once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import socket
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stale_edge_runtime.child import error_of, error_words
from stale_edge_runtime.errors import BadDataError, StaleEdgeError, UnavailableError, missing_extra
from stale_edge_runtime.jobs import Result, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from stale_edge_runtime.jobs import Progress, Task

AUTO: Final = "auto"
"""Address of the cluster that runs on this machine, or of one that is started for the run."""
LOCAL: Final = "local"
"""Address of a cluster that is started on this machine for the run."""
STORE_BYTES: Final = 100 << 20
"""Object store of a cluster that is started for a run: paths and results pass through it, no videos."""
MAX_GROUPS: Final = 10_000
"""Most groups that items are handed out in; Ray handles thousands well."""
GROUPS_OF_AN_ACTOR: Final = 64
"""Groups for each actor: few, so that handing out costs little; many, so that none works long after the others."""
KNOCK_S: Final = 10.0
"""Longest time for a cluster to answer."""
TRIES: Final = 4
"""Times that an item is given to actors that are lost."""


@dataclass(frozen=True)
class RayCluster:
    """A cluster and what each of its actors takes; an `Engine`."""

    address: str = AUTO
    """`auto`, `local`, or an address as `ray.init` takes it."""
    actors: int | None = None
    """Most actors; as many as the cluster has processors for without it."""
    cpus: float = 1.0
    """Processors of an actor."""
    gpus: float = 0.0
    """GPUs of an actor."""
    memory_mb: float = 0.0
    """Memory of an actor; 0 reserves none."""

    def __call__(self, make: Callable[[], Task], items: Sequence[Any], /) -> Generator[Progress | Result]:
        """Work on items; see `Engine`.

        Raises:
            UnavailableError: Ray is not installed, or there is no such cluster.
        """
        if not items:
            return
        with self._connected() as ray:
            found: set[int] = set()
            try:
                for row in self._rows(ray, make, items):
                    for index, told in json.loads(row["told"]):
                        if index not in found:
                            found.add(index)
                            yield Result(index, error_of(told["error"]) if "error" in told else told["value"])
            except ray.exceptions.RayError as error:
                last = str(error).strip().splitlines()[-1:]
                cure = "install the same stale-edge on every machine, and run the command again: it goes on"
                raise UnavailableError(f"--ray {self.address}", f"failed ({' '.join(last)})", cure) from error

    def _rows(self, ray: Any, make: Callable[[], Task], items: Sequence[Any]) -> Iterator[Any]:
        """Run groups of items through a pool of actors; rows come as they are done."""
        data = ray.data
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        most = self.actors or max(1, int(ray.cluster_resources().get("CPU", 1) // self.cpus))
        rows = [{"group": pickle.dumps([(index, items[index]) for index in one])} for one in groups(len(items), most)]
        most = min(most, len(rows))
        # One actor at least, so that an idle one makes room for one whose machine was lost.
        pool = data.ActorPoolStrategy(min_size=1, max_size=most, initial_size=most, max_tasks_in_flight_per_actor=2)
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        tries = ray.remote(_Tries).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()
        results = data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Actor,
            fn_constructor_args=(pickle.dumps(make), tries),
            compute=pool,
            batch_size=1,
            num_cpus=self.cpus,
            num_gpus=self.gpus or None,
            memory=self.memory_mb * 1e6 or None,
        )
        yield from results.iter_rows()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        """Connect to the cluster, or start one that lasts as long as the block."""
        ray = _import_ray()
        if ray.is_initialized():
            yield ray
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.address != LOCAL:
            try:
                if self.address != AUTO:
                    _knock(self.address)
                with _hushed():
                    ray.init(address=self.address, **quiet)
            except (OSError, ValueError, RuntimeError) as error:
                if self.address != AUTO:
                    problem = f"is no cluster that can be reached ({error})"
                    raise UnavailableError(
                        f"--ray {self.address}", problem, "start one with ray start --head"
                    ) from error
        with contextlib.ExitStack() as stack:
            if not ray.is_initialized():
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
                paths = os.pathsep.join(path for path in sys.path if path)
                with _hushed():
                    ray.init(
                        address=LOCAL,
                        num_cpus=None if self.actors is None else max(1, round(self.actors * self.cpus)),
                        object_store_memory=STORE_BYTES,
                        include_dashboard=False,
                        runtime_env={"env_vars": {"PYTHONPATH": paths}},
                        _temp_dir=folder,
                        **quiet,
                    )
            stack.callback(ray.shutdown)
            yield ray


def groups(items: int, actors: int) -> list[range]:
    """Deal items into groups that are handed out one after the other.

    Groups of one round share neighbours evenly: where the longest come first, no group has all of them.
    """
    size = -(-items // min(MAX_GROUPS, GROUPS_OF_AN_ACTOR * actors))
    dealt: list[range] = []
    for first in range(0, items, size * actors):
        last = min(first + size * actors, items)
        hands = -(-(last - first) // size)
        dealt += [range(first + hand, last, hands) for hand in range(hands)]
    return dealt


class _Tries:
    """Process of Ray that counts the tries of items that have not ended: Ray itself tries again without end."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def counts(self, indices: Sequence[int]) -> list[int]:
        """Give the tries of items so far."""
        return [self._counts[index] for index in indices]

    def begin(self, index: int) -> None:
        """Count one more try of an item."""
        self._counts[index] += 1

    def end(self, index: int) -> None:
        """Forget an item that has ended."""
        del self._counts[index]


class _Actor:
    """Process of Ray that holds a worker."""

    def __init__(self, make: bytes, tries: Any) -> None:
        self._worker = Worker(pickle.loads(make))  # noqa: S301 (from the driver)
        self._tries = tries

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"told": [json.dumps(self._told(pickle.loads(group))) for group in batch["group"]]}  # noqa: S301

    def _told(self, group: Sequence[tuple[int, Any]]) -> list[tuple[int, dict[str, Any]]]:
        import ray

        tries = [0] * len(group)
        with contextlib.suppress(ray.exceptions.RayError):  # the counts were lost with their machine
            tries = ray.get(self._tries.counts.remote([index for index, _ in group]))
        told: list[tuple[int, dict[str, Any]]] = []
        for (index, item), before in zip(group, tries, strict=True):
            value = self._value(index, item, before)
            answer = {"error": error_words(value)} if isinstance(value, StaleEdgeError) else {"value": dict(value)}
            told.append((index, answer))
        return told

    def _value(self, index: int, item: Any, tries: int) -> Mapping[str, Any] | StaleEdgeError:
        if tries >= TRIES:
            cure = "the machines may lack memory for it: give each actor more with --actor-memory"
            return BadDataError(item, f"was lost with the process or machine that worked on it, {TRIES} times", cure)
        self._tries.begin.remote(index)
        value = self._worker.finish(index, item).value
        self._tries.end.remote(index)
        return value


def _knock(address: str) -> None:
    """Connect to the port of an address for a moment; Ray itself would try for minutes.

    Raises:
        OSError: Nothing answers.
        ValueError: There is no port in it.
    """
    host, _, port = address.rpartition("//")[2].rpartition(":")
    socket.create_connection((host, int(port)), timeout=KNOCK_S).close()


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keep what native code writes to standard error away until the block ends: Ray tells its log level there."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _import_ray() -> Any:
    """Import Ray without telemetry and without its notes on standard error.

    Raises:
        UnavailableError: It is not installed; the message names the extra that brings it.
    """
    for name, value in (
        ("RAY_USAGE_STATS_ENABLED", "0"),
        ("RAY_BACKEND_LOG_LEVEL", "fatal"),
        ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"),
    ):
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise missing_extra("ray", "ray", "--ray") from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray
