"""Reports of simulated videos say so, and compare with nothing of ActivityNet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stale_edge.study.design import StudyName
from stale_edge.study.report import thesis
from stale_edge.study.report.charts import charts_of
from stale_edge.study.report.headlines import headlines
from stale_edge.study.report.labels import label_runs
from stale_edge.study.report.simulated import NOT_COMPARED, WORLD
from stale_edge.study.report.tables import tables_of
from tests.stale_edge.study_examples import run_of

LEARNED = [StudyName.OPEN_SET, StudyName.CLOSED_SET, StudyName.TRAINING, StudyName.ABLATION]


def simulated(study):
    run = run_of(study)
    return label_runs([replace(run, options={**run.options, "data": {WORLD: {"seed": 0}}})])


@pytest.mark.parametrize("study", LEARNED)
def test_charts_tables_and_cards_say_where_they_come_from(study):
    runs = simulated(study)
    for chart in charts_of(runs):
        assert chart.title.endswith(f", {WORLD}")
        assert not any(series.is_thesis for series in chart.series)
    for table in tables_of(runs):
        assert table.title.endswith(f", {WORLD}")
        assert table.note.startswith(NOT_COMPARED)
    for headline in headlines(runs):
        assert headline.detail.startswith(f"{WORLD}; ")
        assert "mAP" not in headline.topic or "does not compare" in headline.thesis or "no such" in headline.thesis


def test_no_figure_of_activitynet_is_left():
    (table,) = tables_of(simulated(StudyName.OPEN_SET))
    assert not any(name.startswith("thesis") for name in table.columns)
    assert {len(row) for row in table.rows} == {len(table.columns)}
    (table,) = tables_of(simulated(StudyName.TRAINING))
    column = table.columns.index("average mAP")
    assert {table.rows[number][column] for number in table.marked} == {thesis.NONE}
    assert all(
        table.rows[number][column] != thesis.NONE for number in range(len(table.rows)) if number not in table.marked
    )
    seconds = table.columns.index("seconds")
    assert {table.rows[number][seconds] for number in table.marked} == {thesis.NONE}
    assert "beside runs on other data" not in table.note
    (card,) = headlines(simulated(StudyName.TRAINING))
    assert card.thesis == "Thesis: on ActivityNet, does not compare"


def test_real_data_and_times_are_left_as_they_are():
    real = label_runs([run_of(StudyName.OPEN_SET)])
    assert any(series.is_thesis for chart in charts_of(real) for series in chart.series)
    timed = simulated(StudyName.QUANTIZATION)
    assert not any(WORLD in chart.title for chart in charts_of(timed))
