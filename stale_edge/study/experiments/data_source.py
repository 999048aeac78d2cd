"""The studies of learning: what is taught with how much, and how much of it is found again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stale_edge.simulation import WorldConfig
from stale_edge.study.context import ANYWHERE, RunContext
from stale_edge.study.design import StudyName
from stale_edge.study.experiments.seeds import check_seeds
from stale_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stale_edge.study.design import Study
    from stale_edge.study.experiments.training_runs import StudyScale

QUICK_WORLD = WorldConfig(classes=40, seen_classes=30, feature_dim=128, semantic_dim=64)
"""The world of a quick study: few classes, narrow features, and so a small network."""


def learning_study(
    name: StudyName,
    *,
    quick: bool,
    repeats: int | None,
    seeds: tuple[int, ...] | None,
    data: Path | None,
    networks: Sequence[str] | None = None,
    context: RunContext = ANYWHERE,
) -> Study:
    """Make one of the studies of learning, ready to be run.

    Args:
        name: Ablation, localization, robustness, open set, closed set, or training.
        quick: A trial of a minute or two: a small world, a handful of steps, one repeat. Its numbers say nothing.
        repeats: Number of repeats; as the thesis has them by default.
        seeds: One for each repeat; 0, 1, … by default.
        data: Folder in the layout that `simulate` writes; the simulated world by default.
        networks: Networks to teach, keys of `METHODS`; all by default.
        context: Folder and lock to compute with.

    Raises:
        UsageError: Repeats and seeds that cannot be, or another study.
        StaleEdgeError: The folder is not what it must be.
    """
    from stale_edge.study.experiments import ablation, closed_set, localization, open_set, robustness, training_cost
    from stale_edge.study.experiments.folder_data import FolderData
    from stale_edge.study.experiments.simulated_data import SimulatedData
    from stale_edge.study.experiments.training_runs import choose_methods

    kinds: dict[StudyName, tuple[Callable[..., Study], StudyScale, StudyScale, int]] = {
        StudyName.ABLATION: (ablation.AblationStudy, ablation.FULL, ablation.QUICK, ablation.REPEATS),
        StudyName.LOCALIZATION: (
            localization.LocalizationStudy,
            localization.FULL,
            localization.QUICK,
            localization.REPEATS,
        ),
        StudyName.OPEN_SET: (open_set.open_set_study, open_set.FULL, open_set.QUICK, open_set.REPEATS),
        StudyName.CLOSED_SET: (closed_set.closed_set_study, closed_set.FULL, closed_set.QUICK, closed_set.REPEATS),
        StudyName.TRAINING: (
            training_cost.TrainingCostStudy,
            training_cost.FULL,
            training_cost.QUICK,
            training_cost.REPEATS,
        ),
        StudyName.ROBUSTNESS: (robustness.RobustnessStudy, robustness.FULL, robustness.QUICK, robustness.REPEATS),
    }
    if name not in kinds:
        raise UsageError(f"study {name}", "is not a study of learning", f"those are {', '.join(kinds)}")
    make, full, trial, usual = kinds[name]
    if data is not None and name is StudyName.ROBUSTNESS:
        raise UsageError(
            "--data", "is no option of the study robustness, which varies the simulated world", "leave it out"
        )
    methods = {"methods": choose_methods(networks)}
    if name is StudyName.LOCALIZATION:
        if networks is not None:
            raise UsageError("--networks", "is no option of the study localization", "leave it out")
        methods = {}
    source = FolderData(data, limited=quick) if data is not None else SimulatedData(QUICK_WORLD if quick else None)
    chosen = study_seeds(1 if quick else usual, repeats, seeds)
    return make(source, trial if quick else full, chosen, quick=quick, context=context, **methods)


def study_seeds(usual: int, repeats: int | None, seeds: tuple[int, ...] | None) -> tuple[int, ...]:
    """Choose one seed for each repeat.

    Args:
        usual: Number of repeats where nothing is asked for.
        repeats: Number asked for.
        seeds: Seeds asked for.

    Raises:
        UsageError: They do not go together, or cannot be.
    """
    chosen = seeds if seeds is not None else tuple(range(usual if repeats is None else repeats))
    if not chosen:
        raise UsageError("--repeats", "there are none", "give 1 or more")
    if repeats is not None and len(chosen) != repeats:
        raise UsageError("--repeats", f"asks for {repeats}, and --seeds names {len(chosen)}", "give one of the two")
    check_seeds(chosen)
    return chosen
