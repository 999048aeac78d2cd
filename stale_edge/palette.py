"""Colours of all pictures and pages, told apart with any colour vision."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COLOURS: Final = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#882255", "#999933", "#332288", "#777777"),
    *("#E69F00", "#56B4E9", "#44AA99"),
)
"""Colours of Okabe and Ito's and of Tol's palettes on white; the last three, for a crowded chart, are paler."""
DARK_COLOURS: Final = (
    *("#56B4E9", "#FF8A3D", "#2BCBA0", "#E8A0C8", "#EE7FA8", "#CFCF6A", "#A99BFF", "#B5B5B5"),
    *("#E6B95C", "#9AD0F0", "#7FD6C8"),
)
"""The same on a dark page."""
CLASS_COLOURS: Final = (
    *("#9E141E", "#A35303", "#6D5001", "#6A7300", "#036819", "#007E68"),
    *("#036169", "#0275A3", "#254BB2", "#7550C2", "#812688", "#B23471"),
)
"""Colours of classes on a light page, a turn of hues at two levels of lightness: white text on each is readable."""
DARK_CLASS_COLOURS: Final = (
    *("#ED756E", "#FFA666", "#C79608", "#BBC949", "#5BB661", "#09DCB8"),
    *("#0DB3C1", "#69CAFF", "#709AFB", "#C3AFFE", "#CC7BD1", "#FE9AC2"),
)
"""The same hues on a dark page: the text on each is the page's colour."""
MARKERS: Final = "osD^vPX*<>p"
"""Markers of matplotlib, one for each colour."""
MOST_SERIES: Final = 6
"""Series of a chart that a reader tells apart."""
READABLE: Final = 4.5
"""Least contrast of text."""
INK, SOFT, GRID = "#1f2328", "#57606a", "#e3e6ea"
"""Text, secondary text and grid lines on white."""
LIGHT_PAGE: Final = {
    "paper": "#ffffff",
    "raised": "#f6f8fa",
    "ink": INK,
    "soft": SOFT,
    "line": "#d5dae0",
    "grid": GRID,
    "accent": "#0058a3",
    "marked": "#eef4fb",
    "warn-paper": "#fff4d6",
    "warn-ink": "#6b4a00",
    "warn-line": "#e0b84a",
}
"""Variables of a page's style sheet."""
DARK_PAGE: Final = {
    "paper": "#12161c",
    "raised": "#1a2029",
    "ink": "#e7ebf0",
    "soft": "#a3adb9",
    "line": "#343d4a",
    "grid": "#2a323d",
    "accent": "#7cc0ff",
    "marked": "#1b2b3d",
    "warn-paper": "#3a2f10",
    "warn-ink": "#ffdf91",
    "warn-line": "#7d6420",
}
"""The same for a dark page."""


def class_colour(name: str) -> int:
    """Choose the colour of a class by its name alone, so that it is the same in every picture and page.

    Returns:
        Index into `CLASS_COLOURS` and `DARK_CLASS_COLOURS`.
    """
    return zlib.crc32(name.encode(errors="replace")) % len(CLASS_COLOURS)


def contrast(one: str, other: str) -> float:
    """Compute the contrast of two colours as WCAG does: 1 to 21.

    Args:
        one: Colour, as in `#0072B2`.
        other: Another one.
    """
    dark, light = sorted(map(_luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def readable(colour: str) -> str:
    """Darken a colour, as in `#E69F00`, until text in it can be read on a light page."""
    parts = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    while contrast(colour, LIGHT_PAGE["paper"]) < READABLE:
        parts = [int(0.95 * part) for part in parts]
        colour = "#" + "".join(f"{part:02X}" for part in parts)
    return colour


def _luminance(colour: str) -> float:
    shares = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def page_variables(*, with_classes: bool = False) -> str:
    """Write the style sheet's variables: light, dark where the reader's system is, or as `data-theme` says.

    Args:
        with_classes: Declare `--class-0`, … as well, the colours of classes.
    """
    light = _declared("light", LIGHT_PAGE | (_numbered(CLASS_COLOURS) if with_classes else {}))
    dark = _declared("dark", DARK_PAGE | (_numbered(DARK_CLASS_COLOURS) if with_classes else {}))
    return (
        f":root {{ {light} }}\n"
        f':root[data-theme="dark"] {{ {dark} }}\n'
        f'@media (prefers-color-scheme: dark) {{ :root:not([data-theme="light"]) {{ {dark} }} }}\n'
    )


def _numbered(colours: Sequence[str]) -> dict[str, str]:
    return {f"class-{place}": colour for place, colour in enumerate(colours)}


def _declared(scheme: str, colours: Mapping[str, str]) -> str:
    return " ".join([f"color-scheme: {scheme};", *(f"--{name}: {colour};" for name, colour in colours.items())])
