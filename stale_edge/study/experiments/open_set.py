"""Table 1 of the thesis: classes that training never saw, from all of the data and from half of it.

The network is the published one, and so are its loss and its weights; the optimiser is this project's, because the
published one would hardly move the weights in the few steps that a study can afford. The classes of a split are the
same in all repeats, as in the thesis; first weights, held-out videos, drawn fraction and order change with the seed.

In full, on two cores: twenty trainings of two (half of the data) to four minutes and fourteen predictions of ten
seconds, about an hour and a quarter; two hours where other programs run beside it.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from stale_edge.study.design import StudyName
from stale_edge.study.experiments.data_fractions import DataFractionStudy, FractionPlan
from stale_edge.study.experiments.training_runs import StudyScale
from stale_edge.study.experiments.video_pool import OPEN_50, OPEN_75

PLAN: Final = FractionPlan(StudyName.OPEN_SET, (OPEN_75, OPEN_50), (1.0, 0.5))
FULL: Final = StudyScale(videos=600, epochs=10, unseen=300)
QUICK: Final = StudyScale(videos=60, epochs=1, unseen=30, batch_size=8)
REPEATS: Final = 5

open_set_study: Final = partial(DataFractionStudy, PLAN)
"""The study, of data, a scale and seeds as `DataFractionStudy` takes them."""
