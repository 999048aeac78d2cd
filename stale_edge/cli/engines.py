"""Options that say which processes work on a corpus: of this machine, or of a Ray cluster."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand

from stale_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from stale_edge_runtime.jobs import Engine

RAY: Final = "--ray"
_ADDRESS: Final = re.compile(r"auto|local|ray://.+|[\w.\-\[\]:]+:\d+")

AUTO: Final = 0
"""Number of processes that stands for as many as the cores are worth."""


def parse_jobs(text: str) -> int:
    """Read a number of processes, or `auto`.

    Args:
        text: Value of the option.

    Raises:
        typer.BadParameter: It is neither.
    """
    if text == "auto":
        return AUTO
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text, re.ASCII):
        raise typer.BadParameter(f"{text!r} is no number of processes, which is 1 or more, nor auto")
    return int(text)


Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        parser=parse_jobs,
        metavar="N|auto",
        help="Processes that work at once, each with --threads; auto for one a physical core, the fastest way through "
        "many files. With --ray, most actors.",
        show_default="1, or all processors of the cluster",
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        RAY,
        metavar="[ADDRESS]",
        help="Work on a Ray cluster: HOST:PORT, local for one that is started for this run, auto (also without an "
        "address) for the one of this machine. Files must be where every machine sees them.",
    ),
]
ActorGpus = Annotated[
    float, typer.Option("--actor-gpus", min=0, help="GPUs of each actor of --ray, or a share of one.")
]
ActorMemory = Annotated[
    float, typer.Option("--actor-memory", metavar="MB", min=0, help="Memory that each actor of --ray reserves.")
]


class CorpusCommand(TyperCommand):
    """A command whose `--ray` may stand without an address."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the address that was left out, then parse as always."""
        return super().parse_args(ctx, with_address(args))


def with_address(words: list[str]) -> list[str]:
    """Put `auto` after a `--ray` that no address follows."""
    found: list[str] = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        found.append(word)
        if word == RAY and not _ADDRESS.fullmatch(following):
            found.append("auto")
    return found


def chosen_jobs(jobs: int | None, ray: str | None, threads: int) -> int | None:
    """Choose the number of processes where it is `auto`.

    With one thread each, several files at a time finish sooner than more threads on one: see `bench --threads 1,2`.

    Args:
        jobs: Value of the option.
        ray: Address of a Ray cluster, which chooses by itself.
        threads: Threads of each process.
    """
    if jobs != AUTO or ray is not None:
        return jobs or None
    from stale_edge_runtime.processor import useful_threads
    from stale_edge_runtime.session import cores

    return max(1, useful_threads(cores()) // threads)


def engine_of(jobs: int | None, ray: str | None, *, cpus: int, gpus: float, memory_mb: float) -> Engine:
    """Choose the processes that work.

    Raises:
        UsageError: Options of Ray without Ray.
    """
    if ray is None:
        if gpus or memory_mb:
            name = "--actor-gpus" if gpus else "--actor-memory"
            raise UsageError(name, "is of a Ray cluster", "give --ray as well")
        from stale_edge_runtime.jobs import run_jobs

        return partial(run_jobs, jobs=jobs or 1)
    from stale_edge_runtime.ray_jobs import RayCluster

    return RayCluster(ray, jobs, cpus, gpus, memory_mb)
