"""One palette for all pictures and pages."""

from __future__ import annotations

import re
from pathlib import Path

import stale_edge
from stale_edge.palette import (
    CLASS_COLOURS,
    COLOURS,
    DARK_CLASS_COLOURS,
    DARK_COLOURS,
    DARK_PAGE,
    LIGHT_PAGE,
    MARKERS,
    class_colour,
    page_variables,
    readable,
)

PRODUCT = Path(stale_edge.__file__).parent
COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")


def test_colours_are_written_nowhere_else() -> None:
    files = [path for path in PRODUCT.rglob("*") if path.suffix in {".py", ".css", ".js"}]
    assert len(files) > 100
    assert [path.name for path in files if COLOUR.search(path.read_text(encoding="utf-8"))] == ["palette.py"]


def test_every_colour_has_its_marker_and_its_dark_twin() -> None:
    assert len(COLOURS) == len(set(COLOURS)) == len(DARK_COLOURS) == len(set(DARK_COLOURS)) == len(set(MARKERS))
    assert LIGHT_PAGE.keys() == DARK_PAGE.keys()


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_text_stands_out_from_what_it_is_on() -> None:
    for page in (LIGHT_PAGE, DARK_PAGE):
        for text in ("ink", "soft", "accent"):
            for ground in ("paper", "raised", "marked"):
                assert contrast(page[text], page[ground]) >= 4.5, (text, ground)
        assert contrast(page["warn-ink"], page["warn-paper"]) >= 4.5


def test_bars_of_classes_stand_out_and_carry_readable_scores() -> None:
    for page, colours in ((LIGHT_PAGE, CLASS_COLOURS), (DARK_PAGE, DARK_CLASS_COLOURS)):
        for colour in colours:
            assert contrast(colour, page["paper"]) >= 4.5, (
                colour
            )  # as a bar, and as the ground of a score in paper's colour


def test_names_of_lines_are_readable_in_their_colours() -> None:
    for colour in COLOURS:
        assert contrast(readable(colour), LIGHT_PAGE["paper"]) >= 4.5
    assert readable(COLOURS[0]) == COLOURS[0]  # dark enough already


def test_the_colour_of_a_class_depends_on_its_name_alone() -> None:
    assert len(CLASS_COLOURS) == len(set(CLASS_COLOURS)) == len(DARK_CLASS_COLOURS) == len(set(DARK_CLASS_COLOURS))
    assert class_colour("Long jump") == class_colour("Long jump") == 6
    assert {class_colour(f"class {place}") for place in range(200)} == set(range(len(CLASS_COLOURS)))
    assert class_colour("\ud800") >= 0


def test_style_sheets_know_all_their_variables() -> None:
    declared = set(re.findall(r"--([a-z-]+):", page_variables()))
    for path in (
        PRODUCT / "study/report/page/report.css",
        PRODUCT / "pages/demo.py",
        PRODUCT / "pages/player/player.css",
    ):
        assert set(re.findall(r"var\(--([a-z-]+)\)", path.read_text(encoding="utf-8"))) <= declared
