"""A study summed up as a table: what its columns are called, and in which units its numbers are."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from stale_edge.cli.study_table import summary_table
from stale_edge.study.design import COLUMNS, Measurement, StudyName
from tests.stale_edge.study_examples import XEON, run_of


def shown(run) -> str:
    text = io.StringIO()
    Console(width=400, highlight=False, file=text).print(summary_table(run))
    return text.getvalue()


@pytest.mark.parametrize(
    ("study", "headers"),
    [
        (StudyName.OPEN_SET, ("map_50 [%]", "average_map [%]", "seconds [s]")),
        (StudyName.TRAINING, ("parameters [count]", "peak_rss_mb", "average_map [%]")),
        (StudyName.INFERENCE, ("time_ms", "gmacs [GMAC]", "gmacs_per_s [GMAC/s]", "utilisation [%]", "peak_mb")),
        (StudyName.QUANTIZATION, ("time_ms", "peak_mb", "file_mb")),
    ],
)
def test_every_header_says_its_unit_once(study, headers):
    table = shown(run_of(study))
    header = next(line for line in table.splitlines() if line.startswith("┃"))
    names = [cell.strip() for cell in header.strip("┃").split("┃")]
    assert names[: len(COLUMNS[study].factors)] == list(COLUMNS[study].factors)
    assert set(headers) <= set(names)
    assert len(names) == len(COLUMNS[study].factors) + len(COLUMNS[study].metrics)


def test_fractions_are_shown_in_the_percent_of_the_header():
    factors = {"method": "stale", "subset": "seen"}
    measured = tuple(Measurement(factors, "average_map", value, seed) for seed, value in enumerate((0.1, 0.234)))
    table = shown(run_of(StudyName.ABLATION, measurements=measured))
    assert "16.7 (10.0 to 23.4) n=2" in table


def test_names_are_not_taken_for_markup():
    factors = {"method": "[red]ours[/red]", "subset": "[/]"}
    measured = (Measurement(factors, "average_map", 0.1, 0),)
    table = shown(run_of(StudyName.ABLATION, {**XEON, "cpu": "CPU [rev 3]"}, measurements=measured))
    for text in ("[red]ours[/red]", "[/]", "CPU [rev 3]"):
        assert text in table
