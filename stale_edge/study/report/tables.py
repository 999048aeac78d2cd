"""Tables of studies: ours from the measurements, and the thesis's figures beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stale_edge.study.design import StudyName
from stale_edge.study.report.accuracy_tables import (
    ablation_tables,
    localization_tables,
    robustness_tables,
    set_tables,
    training_tables,
)
from stale_edge.study.report.simulated import told_of_tables
from stale_edge.study.report.timing_tables import inference_tables, quantization_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stale_edge.study.report.labels import Labelled
    from stale_edge.study.report.table import ReportTable

_MAKERS: Final[Mapping[StudyName, Callable[[Sequence[Labelled]], tuple[ReportTable, ...]]]] = {
    StudyName.OPEN_SET: set_tables,
    StudyName.CLOSED_SET: set_tables,
    StudyName.TRAINING: training_tables,
    StudyName.INFERENCE: inference_tables,
    StudyName.QUANTIZATION: quantization_tables,
    StudyName.ABLATION: ablation_tables,
    StudyName.LOCALIZATION: localization_tables,
    StudyName.ROBUSTNESS: robustness_tables,
}


def tables_of(runs: Sequence[Labelled]) -> tuple[ReportTable, ...]:
    """Make all tables of one study.

    Args:
        runs: Runs of the same study, labelled by machine; those without measurements are left out.
    """
    measured = [item for item in runs if item.run.measurements]
    return told_of_tables(_MAKERS[measured[0].run.study](measured), measured) if measured else ()
