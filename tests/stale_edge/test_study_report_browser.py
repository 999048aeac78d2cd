"""The report as a browser shows it, opened from disk. Skipped where Chromium, its driver or selenium is absent."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest

from stale_edge.study.design import StudyName
from stale_edge.study.report.report import write_report
from tests.browsing import look, wait
from tests.stale_edge.study_examples import PI, run_of

pytestmark = pytest.mark.browser
STUDIES = (StudyName.OPEN_SET, StudyName.CLOSED_SET, StudyName.TRAINING, StudyName.QUANTIZATION, StudyName.ABLATION)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A folder with a report of two machines, lines and bars."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("plotly")
    folder = tmp_path_factory.mktemp("report")
    write_report([*map(run_of, STUDIES), run_of(StudyName.QUANTIZATION, PI)], folder)
    return folder


@pytest.fixture(scope="module")
def opened(browser, report):
    """The page once it is drawn, with what the browser had to say about it."""
    look(browser, width=1280)
    browser.get((report / "report.html").as_uri())
    script = "return [...document.querySelectorAll('.chart')].every(chart => chart.querySelector('.main-svg .xy'))"
    wait(lambda: browser.execute_script(script))
    return browser, browser.get_log("browser")


@pytest.fixture
def page(opened):
    """The page as it opens, in a wide window."""
    browser, _ = opened
    look(browser, width=1280)
    script = "return [...document.querySelectorAll('.main-svg')].every(svg => svg.getBoundingClientRect().width > 360)"
    wait(lambda: browser.execute_script(script))
    return browser


def brightness(browser, selector, name):
    """Brightness of a colour of an element: 0 is black, 255 is white."""
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    colour = browser.execute_script(script, selector, name)
    return sum(float(part) for part in colour.strip("rgba()").split(",")[:3]) / 3


def test_nothing_is_wrong_on_the_console(opened):
    assert opened[1] == []


def test_no_network_is_used(page):
    names = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in names if not name.startswith("data:")] == []


def test_figures_are_there_and_not_empty(page, report):
    script = """return [...document.querySelectorAll('.chart')].map(plot => {
      const box = plot.querySelector('.main-svg').getBoundingClientRect();
      return [plot.id, box.width, box.height, plot.querySelectorAll('.scatterlayer .js-line, .barlayer .point').length,
        [...plot.querySelectorAll('.legendtext')].map(text => text.textContent)]; })"""
    found = page.execute_script(script)
    pictures = sorted((report / "figures").glob("*.csv"))
    assert sorted(name for name, *_ in found) == sorted(f"plot-{path.stem}" for path in pictures)
    for name, width, height, shapes, legend in found:
        with (report / "figures" / f"{name.removeprefix('plot-')}.csv").open(encoding="utf-8", newline="") as stream:
            series = list(dict.fromkeys(row["series"] for row in csv.DictReader(stream)))
        assert width > 300, name
        assert height > 250, name
        assert shapes >= len(series), name
        assert legend == series


def test_tables_are_filled(page, report):
    script = """return Object.fromEntries([...document.querySelectorAll('.block')].map(block => [block.id,
      [...block.querySelectorAll('tr')].map(row => [...row.children].map(cell => cell.textContent))]))"""
    found = page.execute_script(script)
    written = sorted((report / "tables").glob("*.csv"))
    assert len(found) == len(written) > 10
    for path in written:
        with path.open(encoding="utf-8", newline="") as stream:
            assert found[f"table-{path.stem}"] == list(csv.reader(stream))


def test_the_button_changes_the_look_and_back(page):
    button = page.find_element("id", "theme")
    assert (button.text, button.get_attribute("aria-pressed")) == ("Dark look", "false")
    assert brightness(page, "body", "backgroundColor") > 200
    ink = "#plot-fig-3 .legendtext"
    assert brightness(page, ink, "fill") < 90
    button.click()
    wait(lambda: brightness(page, ink, "fill") > 150)
    assert brightness(page, "body", "backgroundColor") < 60
    assert brightness(page, "body", "color") > 150
    assert (button.text, button.get_attribute("aria-pressed")) == ("Light look", "true")
    button.click()
    wait(lambda: brightness(page, ink, "fill") < 90)
    assert brightness(page, "body", "backgroundColor") > 200


def test_the_thesis_marks_bars_of_training(page):
    script = """return [...document.querySelectorAll('#plot-table-2-seconds .scatterlayer .point, \
#plot-table-2-map .scatterlayer .point')].length"""
    assert page.execute_script(script) == 4


def test_the_system_may_prefer_dark(page):
    look(page, width=1280, dark=True)
    wait(lambda: brightness(page, "#plot-fig-3 .legendtext", "fill") > 150)
    assert brightness(page, "body", "backgroundColor") < 60


def test_a_phone_scrolls_tables_but_never_the_page(page):
    look(page, width=360)
    narrow = "return [...document.querySelectorAll('.main-svg')].every(svg => svg.getBoundingClientRect().width < 360)"
    wait(lambda: page.execute_script(narrow))
    assert page.execute_script("return innerWidth") == 360
    assert page.execute_script("return document.documentElement.scrollWidth") == 360
    page.execute_script("scrollTo(500, 0)")
    assert page.execute_script("return scrollX") == 0
    script = "return [...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth).length"
    assert page.execute_script(script) > 5
    assert page.get_log("browser") == []


def test_the_button_works_where_there_is_no_figure(page, tmp_path):
    empty = replace(run_of(StudyName.TRAINING, finished=0), measurements=())
    window = page.current_window_handle
    page.switch_to.new_window("tab")
    try:
        look(page, width=1280)
        page.get(write_report([empty], tmp_path).as_uri())
        assert page.find_elements("css selector", ".chart") == []
        assert brightness(page, "body", "backgroundColor") > 200
        page.find_element("id", "theme").click()
        assert brightness(page, "body", "backgroundColor") < 60
        assert page.find_element("id", "theme").text == "Light look"
        assert page.get_log("browser") == []
    finally:
        page.close()
        page.switch_to.window(window)


def test_paper_gets_still_pictures(page):
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    script = "return [...document.querySelectorAll('figure .static img')].map(img => [img.complete, img.naturalWidth])"
    wait(lambda: all(complete and width > 300 for complete, width in page.execute_script(script)))
    assert len(page.execute_script(script)) == len(page.find_elements("css selector", "figure"))
