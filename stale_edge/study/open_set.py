"""Table 1 of the thesis: classes that training never saw, from all of the data and from half of it.

The network is the published one, and so are its loss and its weights; the optimiser is this project's, because the
published one would hardly move the weights in the few steps that a study can afford. The classes of a split are the
same in all repeats, as in the thesis; first weights, held-out videos, drawn fraction and order change with the seed.

In full, on two cores: twenty trainings of two (half of the data) to four minutes and fourteen predictions of ten
seconds, about an hour and a quarter; two hours where other programs run beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stale_edge.study.data_fractions import DataFractionStudy, Plan
from stale_edge.study.design import StudyName
from stale_edge.study.pool import OPEN_50, OPEN_75
from stale_edge.study.teaching import Scale
from stale_edge.study.workplace import ANYWHERE, Workplace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stale_edge.study.pool import FiniteData

PLAN: Final = Plan(StudyName.OPEN_SET, (OPEN_75, OPEN_50), (1.0, 0.5))
FULL: Final = Scale(videos=600, epochs=10, unseen=300)
QUICK: Final = Scale(videos=60, epochs=1, unseen=30, batch_size=8)
REPEATS: Final = 5


def open_set_study(
    data: FiniteData,
    scale: Scale,
    seeds: Sequence[int],
    *,
    quick: bool = False,
    workplace: Workplace = ANYWHERE,
) -> DataFractionStudy:
    """The study.

    Args:
        data: Where videos come from.
        scale: How much is taught and judged.
        seeds: One for each repeat.
        quick: Whether the scale is that of a trial.
        workplace: Where it computes.

    Raises:
        StaleEdgeError: The data has neither split.
    """
    return DataFractionStudy(PLAN, data, scale, seeds, quick=quick, workplace=workplace)
