"""Table 1 of the thesis: classes that training never saw, from all of the data and from half of it.

STALE is the published network with the published loss and its weights; the optimiser is this project's, because the
published one would hardly move the weights in the few steps that a study can afford. The boundary map and ActionFormer,
whose labels are those of the nearest text, stand beside it with hyper-parameters of their own. The classes of a split
are the same in all repeats, as in the thesis; first weights, held-out videos, drawn fraction and order change with the
seed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from stale_edge.study.design import StudyName
from stale_edge.study.experiments.data_fractions import DataFractionStudy, FractionPlan
from stale_edge.study.experiments.training_runs import METHODS, StudyScale
from stale_edge.study.experiments.video_pool import OPEN_50, OPEN_75
from stale_edge_runtime.contract import ACTIONFORMER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stale_edge.study.experiments.training_runs import Method

PLAN: Final = FractionPlan(StudyName.OPEN_SET, (OPEN_75, OPEN_50), (1.0, 0.5))
FULL: Final = StudyScale(videos=600, epochs=6, unseen=300, network_epochs={ACTIONFORMER: 5})
QUICK: Final = StudyScale(videos=60, epochs=1, unseen=30, batch_size=8, is_trial=True)
REPEATS: Final = 5


def open_set_study(*words: Any, methods: Mapping[str, Method] = METHODS, **named: Any) -> DataFractionStudy:
    """Make the study.

    Args:
        words: Data, scale and seeds as `DataFractionStudy` takes them.
        methods: Networks that are taught, by name.
        named: Further arguments of `DataFractionStudy`.
    """
    return DataFractionStudy(replace(PLAN, methods=methods), *words, **named)
