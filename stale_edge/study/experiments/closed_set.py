"""Figure 3 of the thesis: how much data training needs where all classes are taught.

A fraction keeps one video or more of every class: the smallest is no smaller than that. The network, its loss and its
weights are the published ones, the optimiser is this project's. ActionFormer stands beside it (Figure 3c) with its own
published hyper-parameters; its classes are those of the nearest text, or of the external classifier.

In full, on two cores: thirty trainings of STALE of one (a tenth of the data) to eight minutes, two hours, and as many
of ActionFormer of four to forty minutes, ten hours.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from stale_edge.study.design import StudyName
from stale_edge.study.experiments.data_fractions import STALE, DataFractionStudy, FractionPlan
from stale_edge.study.experiments.training_runs import ACTIONFORMER_METHOD, PUBLISHED, StudyScale
from stale_edge.study.experiments.video_pool import CLOSED
from stale_edge_runtime.contract import ACTIONFORMER

PLAN: Final = FractionPlan(
    StudyName.CLOSED_SET,
    (CLOSED,),
    (0.1, 0.2, 0.4, 0.6, 0.8, 1.0),
    {STALE: PUBLISHED, ACTIONFORMER: ACTIONFORMER_METHOD},
)
FULL: Final = StudyScale(videos=2400, epochs=5, seen=400)
QUICK: Final = StudyScale(videos=100, epochs=1, seen=40, batch_size=16, is_trial=True)
REPEATS: Final = 5

closed_set_study: Final = partial(DataFractionStudy, PLAN)
"""The study, of data, a scale and seeds as `DataFractionStudy` takes them."""
