"""Figure 3 of the thesis: how much data training needs where all classes are taught.

A fraction keeps one video or more of every class: the smallest is no smaller than that. The network, its loss and its
weights are the published ones, the optimiser is this project's. The boundary map and ActionFormer (Figure 3c) stand
beside it with hyper-parameters of their own but for their epochs; the classes of ActionFormer are those of the nearest
text, or of the external classifier.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from stale_edge.study.design import StudyName
from stale_edge.study.experiments.data_fractions import DataFractionStudy, FractionPlan
from stale_edge.study.experiments.training_runs import METHODS, StudyScale
from stale_edge.study.experiments.video_pool import CLOSED
from stale_edge_runtime.contract import ACTIONFORMER
from stale_edge_runtime.heads.boundary_map import BOUNDARY_MAP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stale_edge.study.experiments.training_runs import Method

PLAN: Final = FractionPlan(StudyName.CLOSED_SET, (CLOSED,), (0.1, 0.2, 0.4, 0.6, 0.8, 1.0))
FULL: Final = StudyScale(videos=2400, epochs=2, seen=400, network_epochs={ACTIONFORMER: 3, BOUNDARY_MAP: 3})
QUICK: Final = StudyScale(videos=100, epochs=1, seen=40, batch_size=16, is_trial=True)
REPEATS: Final = 5


def closed_set_study(*words: Any, methods: Mapping[str, Method] = METHODS, **named: Any) -> DataFractionStudy:
    """Make the study.

    Args:
        words: Data, scale and seeds as `DataFractionStudy` takes them.
        methods: Networks that are taught, by name.
        named: Further arguments of `DataFractionStudy`.
    """
    return DataFractionStudy(replace(PLAN, methods=methods), *words, **named)
