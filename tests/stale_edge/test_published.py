"""Published results: pages say what models/results holds, which the product reads, and a changed digit is noticed."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest

from stale_edge.study.design import StudyName
from stale_edge.study.report.labels import check_run
from stale_edge.study.store import CSV, JSON, read_run, to_csv
from stale_edge_runtime.bench.records import read_report
from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.formats.files import write_json
from tests.published import (
    BLOCK,
    LARGEST,
    PAGE,
    RESULTS,
    ROOT,
    Published,
    collect,
    pages,
    renewed,
    report_page,
    sections,
    write,
)
from tests.published_tables import BENCH, FIGURES, block, views
from tests.stale_edge.study_examples import run_of

PRIVATE = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|Users|mnt|var|opt)/|hostname", re.IGNORECASE)


def ids(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", pages(ROOT), ids=ids)
def test_blocks_of_pages_are_the_results(page):
    text = page.read_text("utf-8")
    assert renewed(text, Published(RESULTS), {}) == text, "run `make results`"
    for name, _ in BLOCK.findall(text):
        folder, _, view = name.partition("/")
        known = name in views() or (folder in views() and view.startswith(("fig-", "table-", "pictures")))
        assert known or (RESULTS / folder / JSON).is_file(), f"{name}: no such results"
    assert text.count("<!-- results: ") == text.count("<!-- /results -->") == len(BLOCK.findall(text))


def test_the_page_of_all_studies_is_of_the_results():
    assert (ROOT / PAGE).read_text("utf-8") == report_page(Published(RESULTS)), "run `make results`"
    drawn = {path.stem for path in (ROOT / "docs" / FIGURES).glob("*.svg")}
    assert drawn == {chart.key for section in sections(Published(RESULTS)) for chart in section.charts}


def test_results_are_small_and_readable_and_name_no_machine():
    studies = sorted(path.parent for path in RESULTS.glob(f"*/{JSON}"))
    known = {path for folder in studies for path in (folder / JSON, folder / CSV)} | set(
        RESULTS.glob(f"{BENCH}/*.json")
    )
    assert known == {path for path in RESULTS.rglob("*") if path.is_file()}
    for path in known:
        assert path.stat().st_size <= LARGEST
        assert not PRIVATE.search(path.read_text("utf-8")), path
    for folder in studies:
        run = read_run(folder)
        check_run(folder, run)
        assert run.complete
        assert not run.options.get("quick")
        assert (folder / CSV).read_text("utf-8") == to_csv([run])
    for path in RESULTS.glob(f"{BENCH}/*.json"):
        assert read_report(path).rows
        assert json.loads(path.read_text("utf-8"))["commit"]


def finished(folder, run):
    """A study's folder as far as it is collected."""
    folder.mkdir(parents=True)
    write_json(folder / JSON, run.to_json())
    return folder


@pytest.fixture
def copied(tmp_path):
    """Pages with two blocks, and results of one study."""
    pytest.importorskip("matplotlib")
    collect([finished(tmp_path / "runs" / "closed-set", run_of(StudyName.CLOSED_SET))], tmp_path / "results")
    (tmp_path / "docs").mkdir()
    blocks = "Words. <!-- results: closed-set --><!-- /results --> More.\n"
    blocks += "<!-- results: closed-set/fig-3 -->\n<!-- /results -->\n"
    blocks += "<!-- results: open-set -->\nold\n<!-- /results -->\n"
    for page in (tmp_path / "README.md", tmp_path / "docs" / "studies.md"):
        page.write_text(blocks)
    return tmp_path


def test_a_changed_digit_is_noticed(copied):
    results = copied / "results"
    missing = write(copied, results)
    assert missing == {"open-set": "open-set/measurements.json"}
    page = copied / "docs" / "studies.md"
    text = page.read_text("utf-8")
    assert renewed(text, Published(results), {}) == text
    assert "\nold\n" in text
    assert "\n![mAP against training data (Fig. 3)](results/figures/fig-3.svg)\n" in text
    assert re.search(r"^\| stale \| with \| \d\d\.\d ± ", text, re.MULTILINE)
    for digit in re.finditer(r"\d(?= \|$)", text, re.MULTILINE):
        changed = text[: digit.start()] + str((int(digit[0]) + 1) % 10) + text[digit.end() :]
        assert renewed(changed, Published(results), {}) == text
    whole = report_page(Published(results))
    assert (copied / PAGE).read_text("utf-8") == whole
    assert all((copied / PAGE.parent / name).is_file() for name in re.findall(r"\]\((figures/[^)]+)\)", whole))
    run = read_run(results / "closed-set")
    first = run.measurements[-2]
    changed = replace(run, measurements=(*run.measurements[:-2], replace(first, value=first.value + 0.01)))
    write_json(results / "closed-set" / JSON, changed.to_json())
    assert renewed(text, Published(results), {}) != text
    assert report_page(Published(results)) != whole


def test_a_line_says_where_a_table_is_from(copied):
    line = block("closed-set", Published(copied / "results")).splitlines()[-1]
    assert line == (
        "By `stale-edge study closed-set`, 2026-11-26, commit 0123456789ab, Intel Xeon Platinum 8481C, 5 repeats."
    )
    options = {"data": {"simulated world": {"seed": 0}}, "threads": 2}
    collect([finished(copied / "runs" / "two", run_of(StudyName.ABLATION, options=options))], copied / "results")
    line = block("two", Published(copied / "results")).splitlines()[-1]
    assert line.startswith("By `stale-edge study ablation --threads 2` (two), ")
    assert line.endswith(", 3 repeats, simulated world.")


@pytest.mark.parametrize("name", sorted(views() - {"bench-processors", "threads"}))
def test_every_view_shows_its_study(tmp_path, name):
    folder = name.partition("/")[0]
    if name.startswith("bench-"):
        shutil.copytree(RESULTS / BENCH, tmp_path / BENCH)
    else:
        collect([finished(tmp_path / "runs" / folder, run_of(StudyName(folder)))], tmp_path)
    shown = block(name, Published(tmp_path)).splitlines()
    widths = {line.count("|") for line in shown if line.startswith("|")}
    assert len(widths) == 1
    assert len(shown) > 4
    assert shown[-1].startswith("By `stale-edge ")


def test_what_is_no_whole_result_is_refused(tmp_path):
    partial = finished(tmp_path / "a", replace(run_of(StudyName.TRAINING), finished=3))
    quick = finished(tmp_path / "b", run_of(StudyName.TRAINING, options={"quick": True}))
    for source in (partial, quick):
        with pytest.raises(UsageError, match="trial or not finished"):
            collect([source], tmp_path / "results")
    (tmp_path / "bench.json").write_text('{"schema": 1}')
    with pytest.raises(BadDataError):
        collect([tmp_path / "bench.json"], tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_collected_numbers_are_rounded_and_machines_plain(tmp_path):
    run = run_of(StudyName.TRAINING, {**run_of(StudyName.TRAINING).machine, "os": "Linux 6.1.0-build.7"})
    one = replace(run.measurements[3], value=123.456789012)
    whole = replace(run.measurements[0], value=170_683_908.0)
    collect([finished(tmp_path / "training", replace(run, measurements=(one, whole)))], tmp_path / "results")
    found = read_run(tmp_path / "results" / "training")
    assert [each.value for each in found.measurements] == [123.457, 170_683_908.0]
    assert found.machine["os"] == "Linux 6.1.0"


def test_agreement_is_read_back_or_refused(tmp_path):
    content = json.loads((RESULTS / BENCH / "headline.json").read_text("utf-8"))
    known = {item["model"] for item in content["agreement"]}
    assert {item.model for item in read_report(RESULTS / BENCH / "headline.json").agreement} == known > {"stale.onnx"}
    content["agreement"][0]["max_relative"] = "little"
    write_json(tmp_path / "bench.json", content)
    with pytest.raises(BadDataError, match="max_relative"):
        read_report(tmp_path / "bench.json")
    del content["agreement"]
    write_json(tmp_path / "bench.json", content)
    assert read_report(tmp_path / "bench.json").agreement == ()
