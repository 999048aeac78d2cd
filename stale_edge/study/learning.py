"""The studies of learning: what is taught with how much, and how much of it is found again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stale_edge.simulation import WorldConfig
from stale_edge.study.design import StudyName
from stale_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from stale_edge.study.design import Study

QUICK_WORLD = WorldConfig(classes=40, seen_classes=30)
"""The world of a quick study: few classes, the network in its full size."""
_LARGEST_SEED = (1 << 32) - 1


def learning_study(
    name: StudyName, *, quick: bool, repeats: int | None, seeds: tuple[int, ...] | None, data: Path | None
) -> Study:
    """One of the studies of learning, ready to be run.

    Args:
        name: Ablation, open set, closed set, or training.
        quick: A trial of a minute or two: a small world, a handful of steps, one repeat. Its numbers say nothing.
        repeats: Number of repeats; as the thesis has them by default.
        seeds: One for each repeat; 0, 1, … by default.
        data: Folder in the layout that `simulate` writes; the simulated world by default.

    Raises:
        UsageError: Repeats and seeds that cannot be, or another study.
        StaleEdgeError: The folder is not what it must be.
    """
    from stale_edge.study import ablation
    from stale_edge.study.simulated_data import SimulatedData

    if name is not StudyName.ABLATION or data is not None:
        raise UsageError(f"study {name}", "is not a study of learning")
    world = SimulatedData(QUICK_WORLD if quick else None)
    chosen = study_seeds(1 if quick else ablation.REPEATS, repeats, seeds)
    return ablation.AblationStudy(world, ablation.QUICK if quick else ablation.FULL, chosen, quick=quick)


def study_seeds(usual: int, repeats: int | None, seeds: tuple[int, ...] | None) -> tuple[int, ...]:
    """One seed for each repeat.

    Args:
        usual: Number of repeats where nothing is asked for.
        repeats: Number asked for.
        seeds: Those asked for.

    Raises:
        UsageError: They do not go together, or cannot be.
    """
    chosen = seeds if seeds is not None else tuple(range(usual if repeats is None else repeats))
    if not chosen:
        raise UsageError("repeats", "are none", "give 1 or more")
    if repeats is not None and len(chosen) != repeats:
        raise UsageError("repeats", f"are {repeats}, and there are {len(chosen)} seeds", "give one of the two")
    if len(set(chosen)) != len(chosen) or not all(0 <= seed <= _LARGEST_SEED for seed in chosen):
        raise UsageError("seeds", f"are {', '.join(map(str, chosen))}", "give different ones of 0 to 2^32 - 1")
    return chosen
