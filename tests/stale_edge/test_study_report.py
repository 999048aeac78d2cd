"""The report of studies: what its tables, figures and page say of runs whose numbers are known."""

from __future__ import annotations

import csv
import html
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stale_edge.palette import COLOURS, MOST_SERIES
from stale_edge.study.design import ACCURACY, Measurement, StudyName
from stale_edge.study.report import report
from stale_edge.study.report.chart_parts import in_parts
from stale_edge.study.report.charts import Chart, Point, Series, charts_of
from stale_edge.study.report.headlines import headlines
from stale_edge.study.report.labels import is_reference, label_runs, short_cpu
from stale_edge.study.report.report import write_report
from stale_edge.study.report.samples import Sample, ratio
from stale_edge.study.report.tables import tables_of
from stale_edge.study.store import Session, read_run, to_csv
from stale_edge_runtime.bench.statistics import ratio_of_medians
from stale_edge_runtime.errors import BadDataError, CannotWriteError, UsageError
from stale_edge_runtime.formats.files import write_json
from tests.stale_edge.study_examples import CONTENDERS, LENGTHS, PI, XEON, all_runs, run_of

pytest.importorskip("matplotlib")
pytest.importorskip("plotly")
HOSTILE = '</script><script>alert("1")</script> $\\frac{'


@pytest.fixture(scope="module")
def two_machines(tmp_path_factory):
    """The report of all studies, and of the timings on a second machine."""
    folder = tmp_path_factory.mktemp("report")
    write_report(all_runs(), folder)
    return folder


def tables(*runs):
    return {table.key: table for table in tables_of(label_runs(runs))}


def rows(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def values(run, metric, **factors):
    fitting = [
        one.value
        for one in run.measurements
        if one.metric == metric and all(one.factors[name] == value for name, value in factors.items())
    ]
    assert fitting
    return np.array(fitting)


def numbers(cell):
    return [float(word) for word in re.findall(r"\d+(?:\.\d+)?", cell.replace(",", ""))]


def groups(svg):
    """Ids of all groups and shapes of a vector file."""
    return {element.get("id") for element in ET.parse(svg).iter() if element.get("id")}


def test_accuracy_tables_hold_mean_and_deviation_of_the_measurements_beside_the_thesis():
    run = run_of(StudyName.OPEN_SET)
    table = tables(run)["open-set"]
    assert len(table.rows) == 8
    known = {"75/25": {"with": "21.7", "without": "8.4"}, "50/50": {"with": "21.1", "without": "1.8"}}
    for row in table.rows:
        cells = dict(zip(table.columns, row, strict=True))
        fraction = {"100 %": 1.0, "50 %": 0.5}[cells["fraction"]]
        which = {"split": cells["split"], "enhancement": cells["enhancement"], "fraction": fraction}
        measured = 100 * values(run, "average_map", **which)
        assert cells["average mAP"] == f"{measured.mean():.1f} ± {measured.std(ddof=1):.1f}"
        assert cells["repeats"] == "5"
        if fraction == 1.0:
            assert cells["thesis, average mAP"] == known[cells["split"]][cells["enhancement"]]


def test_the_thesis_has_a_dash_where_it_gives_no_number():
    few = [
        replace(one, factors={**one.factors, "fraction": 0.2}) for one in run_of(StudyName.OPEN_SET).measurements[:5]
    ]
    table = tables(run_of(StudyName.OPEN_SET, measurements=few))["open-set"]
    assert [dict(zip(table.columns, row, strict=True))["thesis, average mAP"] for row in table.rows] == ["–"]
    closed = tables(run_of(StudyName.CLOSED_SET))["closed-set"]
    assert {dict(zip(closed.columns, row, strict=True))["thesis, average mAP"] for row in closed.rows} == {"–"}


def test_training_shows_the_thesis_rows():
    table = tables(run_of(StudyName.TRAINING))["training"]
    named = {row[0]: row for row in table.rows}
    assert named["STALE (thesis, V100S)"][1:] == ("170.7", "–", "400.7", "–", "–", "19.4", "–")
    assert named["ActionFormer (thesis, V100S)"][1:] == ("29.3", "–", "1,944.9", "–", "–", "35.9", "–")
    assert named["stale"][1:3] == ("79.6", "16.4")
    assert len(table.marked) == 2


@pytest.mark.parametrize(
    ("key", "metric", "scale", "known"),
    [
        ("table-2-seconds", "seconds", 1, {"stale": "400.7", "ActionFormer": "1944.9"}),
        ("table-2-memory", "peak_rss_mb", 1, {}),
        ("table-2-map", "average_map", 100, {"stale": "19.4", "ActionFormer": "35.9"}),
    ],
)
def test_a_report_of_training_alone_has_figures_with_the_thesis_beside(tmp_path, key, metric, scale, known):
    run = run_of(StudyName.TRAINING)
    page = write_report([run], tmp_path).read_text(encoding="utf-8")
    assert f'id="plot-{key}"' in page
    found = rows(tmp_path / "figures" / f"{key}.csv")
    (unit,) = set(found[0]) - {"series", "method", "low", "high", "values"}
    assert {row["method"]: row[unit] for row in found if row["series"] == "thesis"} == known
    ours = [row for row in found if row["series"] == "measured"]
    assert [row["method"] for row in ours] == ["stale", "ours"]
    for row in ours:
        assert float(row[unit]) == pytest.approx(scale * values(run, metric, method=row["method"]).mean())
    marks = groups(tmp_path / "figures" / f"{key}.svg")
    assert {f"thesis | {method}" for method in known} == {name for name in marks if name.startswith("thesis")}


def test_the_look_can_be_switched_where_there_is_no_figure(tmp_path):
    run = replace(run_of(StudyName.TRAINING, finished=0), measurements=())
    page = write_report([run], tmp_path).read_text(encoding="utf-8")
    assert 'getElementById("theme")' in page
    assert "plotly.js v" not in page
    assert 'id="charts"' not in page


def test_times_are_medians_with_quartiles():
    run = run_of(StudyName.QUANTIZATION)
    table = tables(run)["quantization-time-ms"]
    for (engine, precision, _, _), row in zip(CONTENDERS, table.rows, strict=True):
        for snippets, cell in zip(LENGTHS, row[1:], strict=True):
            measured = values(run, "time_ms", engine=engine, precision=precision, snippets=snippets)
            low, middle, high = np.quantile(measured, (0.25, 0.5, 0.75))
            assert numbers(cell) == pytest.approx([middle, low, high], rel=6e-3)


@pytest.mark.parametrize(("precision", "known"), [("int8", {"PyTorch fp32": "–"}), ("fp32", {"PyTorch int8": "2.73×"})])
def test_speed_ups_are_ratios_of_medians_with_their_interval(precision, known):
    run = run_of(StudyName.QUANTIZATION)
    table = tables(run)[f"quantization-speed-up-{precision}"]
    assert f"PyTorch {precision}" not in [row[0] for row in table.rows]
    ours = next(row for row in table.rows if row[0] == "onnxruntime int8")
    for snippets, cell in zip(LENGTHS, ours[1:-1], strict=True):
        slow = values(run, "time_ms", engine="pytorch", precision=precision, snippets=snippets).reshape(5, 3)
        fast = values(run, "time_ms", engine="onnxruntime", precision="int8", snippets=snippets).reshape(5, 3)
        expected = ratio_of_medians(slow, fast)
        assert numbers(cell) == pytest.approx([expected.value, expected.low, expected.high], rel=6e-3)
    assert {row[0]: row[-1] for row in table.rows} == {"onnxruntime fp32": "–", "onnxruntime int8": "–", **known}


def test_a_gpu_is_set_beside_the_thesis_gpu():
    run = run_of(StudyName.QUANTIZATION)
    on_gpu = [
        replace(one, factors={**one.factors, "provider": "cuda"}, value=one.value / 20)
        for one in run.measurements
        if one.factors["engine"] == "pytorch" and one.factors["precision"] == "fp32" and one.metric == "time_ms"
    ]
    table = tables(replace(run, measurements=run.measurements + tuple(on_gpu)))["quantization-speed-up-int8"]
    assert {row[0]: row[-1] for row in table.rows}["PyTorch fp32, CUDA"] == "14.15×"


def test_the_first_figure_is_of_the_same_processor():
    run = run_of(StudyName.QUANTIZATION)
    on_gpu = [
        replace(one, factors={**one.factors, "provider": "cuda"}, value=one.value / 9) for one in run.measurements
    ]
    (headline,) = headlines(label_runs([replace(run, measurements=run.measurements + tuple(on_gpu))]))
    assert "onnxruntime int8, T = 200" in headline.detail
    row = next(row for row in tables(run)["quantization-speed-up-int8"].rows if row[0] == "onnxruntime int8")
    assert headline.value == row[2].split(" ")[0]


def test_memory_factors_are_against_pytorch():
    found = tables(run_of(StudyName.QUANTIZATION))
    cells = {row[0]: row for row in found["quantization-memory-fp32"].rows}
    assert numbers(cells["PyTorch int8"][2])[0] == pytest.approx((2100 + 20) / (1300 + 20), rel=6e-3)
    assert cells["PyTorch int8"][-1] == "2.44×"
    assert "one only" in found["quantization-memory-fp32"].note


def test_memory_of_a_gpu_is_another_quantity():
    run = run_of(StudyName.QUANTIZATION)
    on_gpu = [
        replace(one, factors={**one.factors, "provider": "cuda"})
        for one in run.measurements
        if one.factors["engine"] == "pytorch" and one.factors["precision"] == "fp32"
    ]
    found = tables(replace(run, measurements=run.measurements + tuple(on_gpu)))
    assert "PyTorch fp32, CUDA" in [row[0] for row in found["quantization-peak-mb"].rows]
    assert "PyTorch fp32, CUDA" in [row[0] for row in found["quantization-speed-up-fp32"].rows]
    for precision, other in (("int8", "PyTorch fp32"), ("fp32", "PyTorch int8")):
        factors = [row[0] for row in found[f"quantization-memory-{precision}"].rows]
        assert factors == [other, "onnxruntime fp32", "onnxruntime int8"]


def test_captions_say_what_is_measured():
    runs = label_runs([run_of(StudyName.INFERENCE)])
    said = {table.key: f"{table.caption} {table.note}" for table in tables_of(runs)}
    charts = {chart.key: chart.caption for chart in charts_of(runs)}
    for table, chart, words in (
        ("inference-time-ms", "fig-4a", ("From features in memory", "outputs in memory", "encode the prompts")),
        ("inference-peak-mb", "fig-4b-memory", ("second forward in a fresh process", "PyTorch's own allocator")),
        ("inference-utilisation", "fig-4b-utilisation", ("matrix product reached", "theoretical peak")),
    ):
        assert all(word in said[table] for word in words)
        assert any(
            brief in charts[chart] for brief in ("model loaded and warm", "process of its own", "matrix product")
        )


def test_captions_are_shorter_than_charts():
    """On a phone a line holds 45 letters and a chart is as high as 15 lines."""
    for run in all_runs():
        for chart in charts_of(label_runs([run])):
            assert len(chart.caption) < 250, chart.key
        for table in tables_of(label_runs([run])):
            assert len(table.caption) < 350, table.key


def test_no_chart_has_more_than_six_series():
    crowded = [run_of(StudyName.QUANTIZATION), run_of(StudyName.QUANTIZATION, PI)]
    crowded.append(run_of(StudyName.QUANTIZATION, {**PI, "cpu": "Cortex-A72"}))
    charts = {chart.key: chart for chart in charts_of(label_runs(crowded))}
    assert max(len(chart.series) for chart in charts.values()) <= MOST_SERIES
    parts = [chart for key, chart in charts.items() if key.startswith("fig-4c-time")]
    assert [{series.machine for series in chart.series} for chart in parts] == [
        {"Intel Xeon Platinum 8481C"},
        {"Cortex-A76"},
        {"Cortex-A72"},
    ]
    assert [chart.key for chart in parts] == ["fig-4c-time", "fig-4c-time-2", "fig-4c-time-3"]
    assert parts[1].title.endswith(", part 2 of 3")
    assert len({chart.reach for chart in parts}) == 1
    assert charts["fig-4c-speed-up"].reach == charts["fig-4c-speed-up-2"].reach != parts[0].reach
    assert [len(chart.series) for key, chart in charts.items() if key.startswith("fig-4c-speed")] == [6, 3]


def test_a_crowded_machine_keeps_its_first_series_in_each_part():
    point = Point(1.0, 1.0, 1.0, 1.0, 1)
    series = [Series(f"s{number}", (point,), number, number, machine="m") for number in range(13)]
    chart = Chart("key", "title", "caption", "x", "y", (*series, Series("thesis", (point,), 0, 0, is_thesis=True)))
    parts = in_parts(chart)
    assert all(part.series[0].name == "s0" and part.series[-1].is_thesis for part in parts)
    assert [one.name for part in parts for one in part.series[1:-1]] == [one.name for one in series[1:]]
    assert [len(part.series) for part in parts] == [6, 6, 6]
    assert in_parts(replace(chart, series=tuple(series[:6])))[0].title == "title"


@pytest.mark.parametrize("study", [StudyName.ABLATION, StudyName.INFERENCE])
def test_one_repeat_has_no_spread(study):
    run = run_of(study)
    once = replace(run, measurements=tuple(one for one in run.measurements if not one.repeat and not one.run))
    for chart in charts_of(label_runs([once])):
        assert chart.caption.startswith(("One repeat: its spread is not known.", "One value each."))


def test_rounds_that_differ_give_a_ratio_without_an_interval():
    slow, fast = Sample(), Sample()
    for repeat in range(4):
        slow.add(Measurement({}, "time_ms", 10 + repeat, repeat))
        fast.add(Measurement({}, "time_ms", 2, repeat + 1))
    value, has_interval = ratio(slow, fast)
    assert not has_interval
    assert value.value == pytest.approx(11.5 / 2)


def test_rounds_of_different_lengths_are_drawn_by_their_medians():
    slow, fast = Sample(), Sample()
    for repeat, run in [(0, 0), (100, 0), (100, 1), (100, 2), (200, 0)]:
        slow.add(Measurement({}, "time_ms", 10 + run, repeat, run))
        fast.add(Measurement({}, "time_ms", 2, repeat, run))
    value, has_interval = ratio(slow, fast)
    assert has_interval
    assert (value.value, value.low, value.high) == (5.0, 5.0, 5.5)


def test_a_training_costs_the_same_whatever_it_is_evaluated_on():
    run = run_of(StudyName.ABLATION)
    table = tables(run)["ablation"]
    measured = values(run, "seconds", method="published", subset="seen")
    row = dict(zip(table.columns, next(row for row in table.rows if row[0] == "published"), strict=True))
    assert row["seconds"] == f"{measured.mean():.1f} ± {measured.std(ddof=1):.1f}"


def test_the_ablation_marks_reference_points_and_sets_seen_beside_unseen():
    run = run_of(StudyName.ABLATION)
    table = tables(run)["ablation"]
    assert table.columns[1:3] == ("seen classes, average mAP", "unseen classes, average mAP")
    references = [row[0] for number, row in enumerate(table.rows) if number in table.marked]
    assert references == ["untrained †", "nearest text †", "whole video †", "ceiling †"]
    measured = 100 * values(run, "average_map", method="centred", subset="unseen")
    centred = next(row for row in table.rows if row[0] == "centred")
    assert centred[2] == f"{measured.mean():.1f} ± {measured.std(ddof=1):.1f}"
    named = tables(replace(run, options={"reference_points": ["centred"]}))["ablation"]
    assert "centred †" in [row[0] for row in named.rows]


def test_localisation_sets_every_row_beside_the_network_of_its_world():
    run = run_of(StudyName.LOCALIZATION)
    table = tables(run)["localization"]
    assert [row[:2] for row in table.rows[:4]] == [
        ("base", "nearest text †"),
        ("base", "boundary map"),
        ("base", "whole video, same labels †"),
        ("base", "wrong vocabulary"),
    ]
    assert {row[0] for row in table.rows[4:]} == {"another seed"}
    whole = dict(zip(table.columns, table.rows[2], strict=True))
    measured = 100 * values(run, "average_map", world="base", method="whole video, same labels", subset="unseen")
    assert whole["unseen classes, average mAP"] == f"{measured.mean():.1f} ± {measured.std(ddof=1):.1f}"
    assert whole["seen, share kept, %"] == "49 ± 0"
    assert dict(zip(table.columns, table.rows[1], strict=True))["seen, share kept, %"] == "–"
    (chart,) = charts_of(label_runs([run]))
    assert chart.categories == ("base", "another seed")


def test_robustness_sets_the_share_of_the_whole_video_beside_each_network():
    run = run_of(StudyName.ROBUSTNESS)
    table = tables(run)["robustness"]
    methods = ["nearest text †", "ceiling †", "stale", "actionformer", "boundary-map"]
    assert [row[:2] for row in table.rows] == [(world, name) for world in ("base", "no shared cue") for name in methods]
    assert table.marked == {0, 1, 5, 6}
    cells = dict(zip(table.columns, table.rows[4], strict=True))
    measured = 100 * values(run, "average_map", world="base", method="boundary-map", subset="unseen")
    assert cells["unseen classes, average mAP"] == f"{measured.mean():.1f} ± {measured.std(ddof=1):.1f}"
    assert (cells["seen, whole video keeps, %"], cells["unseen, whole video keeps, %"]) == ("50", "53 ± 0")
    assert table.rows[0][-3:] == ("–", "–", "3")
    (headline,) = headlines(label_runs([run]))
    assert headline.detail == "boundary-map, 2 worlds"
    first, second = charts_of(label_runs([run]))
    assert first.categories == second.categories == ("base", "no shared cue")
    trained = ["stale", "actionformer", "boundary-map"]
    assert [one.name for one in first.series] == [*trained, "nearest text †", "ceiling †"]
    assert [one.name for one in second.series] == ["stale", *(f"{name}, whole video †" for name in trained)]


def test_a_training_without_a_cost_of_its_own_is_a_reference():
    run = run_of(StudyName.TRAINING)
    whole = [
        replace(one, factors={"method": f"{one.factors['method']}, whole video"}, value=one.value / 2)
        for one in run.measurements
        if one.metric == "average_map"
    ]
    table = tables(replace(run, measurements=(*whole, *run.measurements)))["training"]
    assert [row[0] for row in table.rows[:4]] == ["stale", "ours", "stale, whole video †", "ours, whole video †"]
    assert table.rows[2][1:6] == ("–",) * 5


def test_labels_on_whole_videos_are_references():
    assert is_reference("boundary-map, whole video", {})
    assert not is_reference("stale", {})


NETWORKS = {"actionformer": 2.0, "boundary-map": 0.4}


def with_other_networks(study):
    """A timing study in which two more networks took part as files."""
    run = run_of(study)
    files = [one for one in run.measurements if one.factors["engine"] == "onnxruntime"]
    others = [
        replace(
            one,
            value=one.value * share,
            factors={**one.factors, "model": str(one.factors["model"]).replace("stale", name)},
        )
        for name, share in NETWORKS.items()
        for one in files
    ]
    return replace(run, measurements=(*run.measurements, *others))


def test_several_networks_are_named_by_their_files_and_shown_apart():
    run = with_other_networks(StudyName.QUANTIZATION)
    named = [row[0] for row in tables(run)["quantization-time-ms"].rows]
    assert named == [
        *("PyTorch fp32", "PyTorch int8", "stale.onnx", "stale.int8.onnx"),
        *("actionformer.onnx", "actionformer.int8.onnx", "boundary-map.onnx", "boundary-map.int8.onnx"),
    ]
    charts = {chart.key: chart for chart in charts_of(label_runs([run]))}
    first, second = charts["fig-4c-time"], charts["fig-4c-time-2"]
    assert [one.name for one in first.series] == named[:4]
    assert [one.name for one in second.series] == ["PyTorch fp32", *named[4:]]


def test_a_crowded_closed_set_shows_trainings_first_and_no_colour_twice():
    run = run_of(StudyName.CLOSED_SET)
    names = ["stale", "actionformer", "boundary-map", "nearest text", "untrained", "ceiling"]
    names += [f"{name}, whole video" for name in names[:3]]
    crowded = tuple(
        replace(one, factors={**one.factors, "method": name})
        for name in names
        for one in run.measurements
        if one.repeat < 2 and one.factors["fraction"] in {0.1, 1.0}
    )
    charts = charts_of(label_runs([replace(run, measurements=crowded)]))
    assert len(charts[0].series) == MOST_SERIES
    assert not [one.name for one in charts[0].series if "†" in one.name]
    for chart in charts:
        assert chart.series[0].name == "stale, with enhancement"
        assert len({one.colour % len(COLOURS) for one in chart.series}) == len(chart.series) <= MOST_SERIES
    assert len({one.name for chart in charts for one in chart.series}) == 18


def test_what_was_not_trained_comes_last_and_is_marked_in_sets_of_classes():
    run = run_of(StudyName.OPEN_SET)
    first = [
        replace(one, factors={**one.factors, "method": "nearest text"}) for one in run.measurements if one.repeat == 0
    ]
    run = replace(run, measurements=(*first, *run.measurements))
    table = tables(run)["open-set"]
    assert [row[0] for row in table.rows] == ["stale"] * 8 + ["nearest text †"] * 8
    assert table.marked == frozenset(range(8, 16))
    assert {dict(zip(table.columns, row, strict=True))["thesis, average mAP"] for row in table.rows[8:]} == {"–"}
    (chart,) = charts_of(label_runs([run]))
    assert [series.name for series in chart.series] == [
        *("stale, with enhancement", "stale, without enhancement"),
        *("nearest text †, with enhancement", "nearest text †, without enhancement"),
        *("thesis, with enhancement", "thesis, without enhancement"),
    ]


def test_inference_has_a_row_of_the_thesis():
    table = tables(run_of(StudyName.INFERENCE))["inference-time-ms"]
    assert table.rows[-1] == ("thesis (GPU)", "–", "80", "–", "101")
    utilisation = tables(run_of(StudyName.INFERENCE))["inference-utilisation"]
    assert utilisation.rows[-1] == ("thesis (GPU)", "–", "19", "–", "14")


def test_files_of_the_report(two_machines):
    labelled = label_runs(all_runs())
    for study in StudyName:
        items = [item for item in labelled if item.run.study is study]
        for table in tables_of(items):
            written = (two_machines / "tables" / f"{table.key}.csv").read_text(encoding="utf-8")
            assert written == table.to_csv()
            assert [tuple(row) for row in csv.reader(written.splitlines())] == [table.columns, *table.rows]
        kept = (two_machines / "measurements" / f"{study}.csv").read_text(encoding="utf-8")
        assert kept == to_csv([item.run for item in items], [item.machine for item in items])
    pictures = {path.stem for path in (two_machines / "figures").glob("*.svg")}
    lengths = {
        "fig-4a",
        "fig-4b-utilisation",
        "fig-4b-gmacs",
        "fig-4b-memory",
        "fig-4c-time",
        "fig-4c-memory",
        "fig-4c-speed-up",
    }
    learned = {"open-set", "fig-3", "ablation", "localization", "table-2-seconds", "table-2-memory", "table-2-map"}
    learned |= {"robustness", "robustness-2"}
    halves = {f"{stem}-2" for stem in lengths - {"fig-4c-speed-up"}}  # 2 machines with 4 contenders
    assert pictures == {*learned, *lengths, *halves}
    for stem in pictures:
        assert (two_machines / "figures" / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
        assert (two_machines / "figures" / f"{stem}.pdf").read_bytes().startswith(b"%PDF")
    for table in (two_machines / "tables").glob("*.csv"):
        lines = table.read_text(encoding="utf-8").count("\n")
        assert table.with_suffix(".tex").read_text(encoding="utf-8").count(r" \\") == lines
        assert table.with_suffix(".md").read_text(encoding="utf-8").count("\n|") >= lines


def test_figures_hold_their_series(two_machines):
    labelled = label_runs(all_runs())
    charts = [
        chart for study in StudyName for chart in charts_of([item for item in labelled if item.run.study is study])
    ]
    assert len(charts) == 22
    for chart in charts:
        drawn = groups(two_machines / "figures" / f"{chart.key}.svg")
        beside = rows(two_machines / "figures" / f"{chart.key}.csv")
        assert {row["series"] for row in beside} == {series.name for series in chart.series}
        for series in chart.series:
            names = {f"{series.name} | {point.x}" for point in series.points} if chart.is_bars else {series.name}
            assert names <= drawn
        text = (two_machines / "figures" / f"{chart.key}.svg").read_text(encoding="utf-8")
        assert chart.title in "".join(ET.fromstring(text).itertext())


def test_figure_data_are_the_measurements(two_machines):
    run = run_of(StudyName.CLOSED_SET)
    for row in rows(two_machines / "figures" / "fig-3.csv"):
        enhancement = "without" if "without" in row["series"] else "with"
        fraction = round(float(row["training data, %"]) / 100, 3)
        measured = 100 * values(run, "average_map", fraction=fraction, enhancement=enhancement)
        assert float(row["average mAP, %"]) == pytest.approx(measured.mean())
        assert float(row["high"]) - float(row["low"]) == pytest.approx(2 * measured.std(ddof=1))
    figures = two_machines / "figures"
    for row in rows(figures / "fig-4c-time.csv") + rows(figures / "fig-4c-time-2.csv"):
        engine, precision = row["series"].split(" – ")[0].lower().split()
        snippets = int(float(row["snippets, T"]))
        machine = PI if "Cortex" in row["series"] else XEON
        measured = values(
            run_of(StudyName.QUANTIZATION, machine), "time_ms", engine=engine, precision=precision, snippets=snippets
        )
        assert float(row["time of a forward, ms"]) == pytest.approx(np.median(measured))


def test_two_machines_stand_side_by_side(two_machines):
    machines = rows(two_machines / "tables" / "machines.csv")
    differing = {row["property"] for row in machines if row["property"].endswith("*")}
    assert differing == {"processor *", "architecture *", "flags that matter *", "memory, MB *"}
    times = rows(two_machines / "tables" / "quantization-time-ms.csv")
    assert {row["machine"] for row in times} == {"Intel Xeon Platinum 8481C", "Cortex-A76"}
    series = {row["series"] for row in rows(two_machines / "figures" / "fig-4c-speed-up.csv")}
    assert {"onnxruntime int8 – Cortex-A76", "onnxruntime int8 – Intel Xeon Platinum 8481C"} <= series
    page = (two_machines / "report.html").read_text(encoding="utf-8")
    assert page.count("Cortex-A76") > 5


def test_the_page_stands_alone(two_machines):
    page = (two_machines / "report.html").read_text(encoding="utf-8")
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert page.startswith("<!DOCTYPE html>")
    assert '<html lang="en">' in page
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", own)
    assert "default-src 'none'" in page
    assert page.count("plotly.js v") == 1
    assert own.count("<noscript><img") == 22
    for study in StudyName:
        assert f'<section id="{study}"' in page
    for text in ("0123456789ab", "2026-11-26 20:00 UTC", "avx512_vnni", "0.4 → 1.2", "onnxruntime 1.32.0", "simulated"):
        assert text in page
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', page, re.DOTALL)[1])
    assert len(charts) == 22


def test_every_table_cell_is_on_the_page(two_machines):
    page = (two_machines / "report.html").read_text(encoding="utf-8")
    for path in (two_machines / "tables").glob("*.csv"):
        block = page.split(f'id="table-{path.stem}"')[1].split("</table>")[0]
        cells = [html.unescape(cell) for cell in re.findall(r"<t[hd](?: [^>]*)?>(.*?)</t[hd]>", block)]
        with path.open(encoding="utf-8", newline="") as stream:
            assert cells == [cell for row in csv.reader(stream) for cell in row]


@pytest.mark.parametrize("study", list(StudyName))
def test_hostile_names_are_only_text(tmp_path, study):
    machine = {**XEON, "cpu": HOSTILE, "libraries": {HOSTILE: HOSTILE}, "governor": f"a\n{HOSTILE}"}
    text = {"method": HOSTILE, "split": HOSTILE, "model": HOSTILE, "engine": HOSTILE, "subset": "_" + HOSTILE}
    run = run_of(study, machine, options={HOSTILE: HOSTILE}, notes=(HOSTILE,), commit=HOSTILE, started=HOSTILE)
    hostile = [
        replace(one, factors={name: text.get(name, value) for name, value in one.factors.items()})
        for one in run.measurements[:40]
    ]
    page = write_report([replace(run, measurements=tuple(hostile))], tmp_path).read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert 'alert("1")' not in page
    assert html.escape(HOSTILE) in page
    assert len(re.findall(r"<script\b", re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL))) <= 1
    for picture in (tmp_path / "figures").glob("*.svg"):
        assert not any("script" in element.tag for element in ET.parse(picture).iter())


def test_a_configuration_has_one_colour_in_all_figures_of_a_study():
    charts = charts_of(label_runs([run_of(StudyName.QUANTIZATION), run_of(StudyName.QUANTIZATION, PI)]))
    colours = [{series.name: series.colour for series in chart.series} for chart in charts]
    assert len(colours) == 5
    for name in {name for chart in colours for name in chart}:
        assert len({chart[name] for chart in colours if name in chart}) == 1
    assert len(set(colours[0].values())) == len(CONTENDERS)


def test_runs_on_one_machine_can_be_told_apart(tmp_path):
    settings = {"quick": False, "threads": 1, "seeds": [0, 100], "data": {"world": {"classes": 200, "seed": 0}}}
    other = {**settings, "threads": 2, "data": {"world": {"classes": 40, "seed": 0}}, "more": [1]}
    first = run_of(StudyName.QUANTIZATION, options=settings)
    second = run_of(StudyName.QUANTIZATION, options=other, started="2026-11-27T08:00:00+00:00")
    write_report([first, second], tmp_path)
    one, two = rows(tmp_path / "tables" / "runs.csv")
    assert one["options"] == "quick False; threads 1; seeds 0, 100; data.world.classes 200; no more"
    assert two["options"] == "quick False; threads 2; seeds 0, 100; data.world.classes 40; more 1"
    found = rows(tmp_path / "measurements" / "quantization.csv")
    assert {(row["machine"], row["started"]) for row in found} == {
        ("Intel Xeon Platinum 8481C", "2026-11-26T20:00:00+00:00"),
        ("Intel Xeon Platinum 8481C, run 2", "2026-11-27T08:00:00+00:00"),
    }
    assert len(found) == len(first.measurements) + len(second.measurements)


def test_sessions_that_were_not_alike_are_shown(tmp_path):
    run = run_of(StudyName.ABLATION)
    later = {**XEON, "libraries": {"torch": "2.14.0"}, "cpu_flags": ["avx2", "fma"], "load_1min": [2.0, 2.5]}
    sessions = (Session(run.commit, run.started, XEON), Session("ba9876543210+", "2026-11-27T08:00:00+00:00", later))
    page = write_report([replace(run, sessions=sessions)], tmp_path).read_text(encoding="utf-8")
    (row,) = rows(tmp_path / "tables" / "runs.csv")
    assert row["started"] == "2026-11-26 20:00 UTC, 2 sessions"
    assert row["commit"] == "0123456789ab / ba9876543210+"
    assert row["load, 1 min"] == "0.4 → 1.2 / 2.0 → 2.5"
    machine = {one["property"]: one["Intel Xeon Platinum 8481C"] for one in rows(tmp_path / "tables" / "machines.csv")}
    assert machine["libraries"] == "onnxruntime 1.32.0, torch 2.13.0 / torch 2.14.0"
    assert machine["memory, MB"] == "8,000"
    assert "2 sessions that were not alike (commit, flags that matter, libraries)" in page
    alike = (sessions[0], replace(sessions[0], started="2026-11-27T08:00:00+00:00"))
    page = write_report([replace(run, sessions=alike)], tmp_path).read_text(encoding="utf-8")
    assert "not alike" not in page
    assert "2 sessions" in page


def test_partial_and_empty_runs_say_so(tmp_path):
    whole = run_of(StudyName.CLOSED_SET)
    partial = replace(
        whole, options={"quick": True}, finished=3, measurements=whole.measurements[:15], notes=("stopped by hand",)
    )
    empty = run_of(StudyName.ABLATION, finished=0)
    page = write_report([partial, replace(empty, measurements=())], tmp_path).read_text(encoding="utf-8")
    assert "partial: 3 of 20 cells" in page
    assert "stopped by hand" in page
    assert "not to be cited" in page
    assert "nothing was measured yet" in page
    assert [row["cells"] for row in rows(tmp_path / "tables" / "runs.csv")] == [
        "3 of 20 – partial",
        "0 of 20 – partial",
    ]
    assert not (tmp_path / "tables" / "ablation.csv").exists()


@pytest.mark.parametrize(
    ("study", "change"),
    [
        (StudyName.QUANTIZATION, {"snippets": "many"}),
        (StudyName.QUANTIZATION, {"snippets": 0}),
        (StudyName.CLOSED_SET, {"fraction": "half"}),
        (StudyName.CLOSED_SET, {"fraction": 50}),
    ],
)
def test_factors_that_cannot_be_placed_are_refused(tmp_path, study, change):
    run = run_of(study)
    wrong = replace(run.measurements[0], factors={**run.measurements[0].factors, **change})
    with pytest.raises(BadDataError, match=r"not a positive number|more than all"):
        write_report([replace(run, measurements=(wrong,))], tmp_path)


@pytest.mark.parametrize("value", [-1.0, 0.0, 1e-320])
def test_a_time_of_nothing_is_refused(tmp_path, value):
    run = run_of(StudyName.QUANTIZATION)
    with pytest.raises(BadDataError, match=f"time_ms {value:g} is too small"):
        write_report([replace(run, measurements=(replace(run.measurements[0], value=value),))], tmp_path)


def test_the_largest_and_the_smallest_values_are_shown(tmp_path):
    def extreme(one):
        if one.metric in ACCURACY:
            return replace(one, value=1.0)
        return replace(one, value=9e14 if one.repeat else 1e-9)

    runs = [replace(run, measurements=tuple(map(extreme, run.measurements))) for run in map(run_of, StudyName)]
    read = [read_run(kept(tmp_path / str(run.study), run)) for run in runs]
    assert read == runs
    page = write_report(read, tmp_path / "out").read_text(encoding="utf-8")
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', page, re.DOTALL)[1])
    assert {chart["key"] for chart in charts} == {path.stem for path in (tmp_path / "out" / "figures").glob("*.svg")}


def found_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_files_of_an_earlier_report_go_and_all_others_stay(tmp_path):
    write_report([run_of(StudyName.ABLATION), run_of(StudyName.TRAINING)], tmp_path / "both")
    write_report([run_of(StudyName.TRAINING)], tmp_path / "training")
    others = {"tables/mine.csv", "figures/ablation.txt", "cells/open-set.csv", "measurements.csv", "open-set.csv"}
    for name in others:
        (tmp_path / "both" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "both" / name).write_text("kept")
    assert {"tables/ablation.csv", "figures/ablation.svg", "measurements/ablation.csv"} <= found_in(tmp_path / "both")
    write_report([run_of(StudyName.TRAINING)], tmp_path / "both")
    assert found_in(tmp_path / "both") == found_in(tmp_path / "training") | others
    assert {(tmp_path / "both" / name).read_text() for name in others} == {"kept"}


def test_files_of_a_report_that_was_cut_short_are_known(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report([run_of(StudyName.ABLATION)], tmp_path)
    assert "tables/ablation.csv" in found_in(tmp_path)
    monkeypatch.undo()
    write_report([run_of(StudyName.TRAINING)], tmp_path)
    assert not [name for name in found_in(tmp_path) if "ablation" in name]


@pytest.mark.parametrize(
    "name", ["../kept.csv", "tables/../../kept.csv", "/kept.csv", "tables/kept.py", "kept.csv", "tables", 1, None, []]
)
def test_a_record_that_names_other_files_is_refused(tmp_path, name):
    (tmp_path / "out").mkdir()
    write_json(tmp_path / "out" / "report-files.json", [name])
    (tmp_path / "kept.csv").write_text("kept")
    with pytest.raises(BadDataError, match=r"report-files\.json"):
        write_report([run_of(StudyName.TRAINING)], tmp_path / "out")
    assert (tmp_path / "kept.csv").read_text() == "kept"
    assert found_in(tmp_path / "out") == {"report-files.json"}


def test_no_runs_and_no_folder_are_refused(tmp_path):
    with pytest.raises(UsageError):
        write_report([], tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CannotWriteError):
        write_report([run_of(StudyName.TRAINING)], tmp_path / "file" / "report")


def test_names_of_machines():
    assert short_cpu({"cpu": "AMD EPYC(TM) 9654 96-Core Processor @ 2.4GHz"}) == "AMD EPYC 9654"
    assert short_cpu({}) == "unknown machine"
    other = {**XEON, "cores_allowed": 1}
    twice = [run_of(StudyName.TRAINING), run_of(StudyName.TRAINING, other), run_of(StudyName.TRAINING)]
    assert [item.machine for item in label_runs(twice)] == [
        "Intel Xeon Platinum 8481C",
        "Intel Xeon Platinum 8481C #2",
        "Intel Xeon Platinum 8481C, run 2",
    ]


def kept(folder, run):
    """A run as the file that travels."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "measurements.json", run.to_json())
    return folder


def test_report_command_merges_machines(tmp_path, command):
    first = kept(tmp_path / "a" / "ablation", run_of(StudyName.ABLATION))
    kept(tmp_path / "a" / "training", run_of(StudyName.TRAINING, finished=2))
    second = kept(tmp_path / "b", run_of(StudyName.TRAINING, PI)) / "measurements.json"
    code, out, err = command("report", first.parent, second, "-o", tmp_path / "out", "--json")
    assert code == 0
    found = json.loads(out)
    assert Path(found["report"]) == tmp_path / "out" / "report.html"
    assert [(run["study"], run["machine"]) for run in found["runs"]] == [
        ("ablation", "Intel Xeon Platinum 8481C"),
        ("training", "Intel Xeon Platinum 8481C"),
        ("training", "Cortex-A76"),
    ]
    assert "partial, 2 of 20 cells" in err
    code, out, err = command("report", second, "-o", tmp_path / "out", "--quiet")
    assert (code, out.strip(), err) == (0, str(tmp_path / "out" / "report.html"), "")
    tex, note = tmp_path / "all.tex", tmp_path / "all.md"
    code, _, err = command("report", first, second, "-o", tmp_path / "out", "--latex", tex, "--markdown", note)
    assert code == 0
    assert err.splitlines()[-2:] == [f"wrote {tex}", f"wrote {note}"]
    assert tex.read_text().count(r"\begin{table}") == note.read_text().count("**") / 2 == 2
    assert "| method |" in note.read_text()
    code, _, err = command("report", first, "-o", tmp_path / "late", "--latex", tmp_path / "no" / "all.tex")
    assert (code, (tmp_path / "late").exists()) == (73, False)


def test_report_command_refuses_in_one_line(tmp_path, command):
    good = kept(tmp_path / "good", run_of(StudyName.TRAINING))
    content = run_of(StudyName.TRAINING).to_json()
    bad = {
        "other schema": {**content, "schema": 2},
        "no study": {**content, "study": "tea"},
        "no rows": {**content, "measurements": None},
        "bad row": {**content, "measurements": [{**content["measurements"][0], "value": "fast"}]},
        "endless number": {**content, "measurements": [{**content["measurements"][0], "value": 10**400}]},
        "huge mAP": {**content, "measurements": [{**content["measurements"][5], "value": 1e307}]},
        "huge time": {**content, "measurements": [{**content["measurements"][3], "value": 1e307}]},
        "no word": {**content, "measurements": [{**content["measurements"][0], "metric": []}]},
        "study of a list": {**content, "study": []},
        "study of an object": {**content, "study": {}},
        "a list": [1],
    }
    target = tmp_path / "out"
    for name, value in bad.items():
        path = tmp_path / f"{name}.json"
        write_json(path, value)
        code, out, err = command("report", path, "-o", target)
        assert (code, out, err.count("\n")) == (65, "", 1), name
    (tmp_path / "torn.json").write_text(json.dumps(content)[:-40])
    assert command("report", tmp_path / "torn.json", "-o", target)[0] == 65
    assert command("report", tmp_path / "missing", "-o", target)[0] == 66
    code, _, err = command("report", good, good / "measurements.json", "-o", target)
    assert (code, "same run" in err) == (2, True)
    assert not target.exists()


def test_a_missing_extra_is_named(tmp_path, command, monkeypatch):
    monkeypatch.setattr("stale_edge.extras.find_spec", lambda _: None)
    code, out, err = command("report", kept(tmp_path / "run", run_of(StudyName.TRAINING)), "-o", tmp_path / "out")
    assert (code, out) == (69, "")
    assert "pip install 'stale-edge[report]'" in err


def test_a_report_needs_no_torch(tmp_path):
    folder = kept(tmp_path / "run", run_of(StudyName.TRAINING))
    program = (
        "import sys; from stale_edge.cli.app import run; code = run(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    words = [sys.executable, "-c", program, "report", str(folder), "-o", str(tmp_path / "out"), "--quiet"]
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": ""}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
