"""The player page as one HTML file: its shell, scripts and data."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Final

from stale_edge.page_parts import script_json, theme_script
from stale_edge.pages.player.content import pack
from stale_edge.palette import page_variables
from stale_edge_runtime.formats import files

if TYPE_CHECKING:
    from pathlib import Path

    from stale_edge.pages.player.content import PlayerContent

SCRIPTS: Final = ("content.js", "list.js", "thumbnails.js", "lanes.js", "player.js")
"""Scripts in the order in which they need each other; together they are one."""
_KINDS: Final = {".webm": "video/webm", ".ogv": "video/ogg"}


def write_player(target: Path, content: PlayerContent, *, title: str) -> None:
    """Write a player page.

    Raises:
        UsageError: See `pack`.
        CannotWriteError: The file cannot be created.
        StorageError: The disk is full or failed.
    """
    files.write_text(target, player_page(content, title=title))


def player_page(content: PlayerContent, *, title: str, first: str = "", style: str = "") -> str:
    """Write a player page as text.

    Args:
        content: Results and what goes with them.
        title: Title of the page.
        first: Script that runs before the player reads its content.
        style: Rules that come after those of the player.

    Raises:
        UsageError: See `pack`.
    """
    rules = page_variables() + _asset("player.css") + style
    script = first + '(() => {\n"use strict";\n' + "".join(map(_asset, SCRIPTS)) + "})();\n"
    theme = theme_script()
    packed = pack(content)
    return Template(_asset("player.html")).substitute(
        policy=_policy((script, theme), rules),
        title=escape(title),
        style=rules,
        content=script_json(packed),
        embedded=_embedded(content, packed["ids"]),
        theme=theme,
        script=script,
    )


def _policy(scripts: tuple[str, ...], style: str) -> str:
    """Allow the page's own scripts and style by their hashes, videos beside it, and nothing else."""
    allowed = " ".join(map(_hash, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data: blob:; "
        "media-src 'self' file: blob:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return resources.files("stale_edge.pages.player").joinpath(name).read_text(encoding="utf-8")


def _embedded(content: PlayerContent, ids: list[str]) -> str:
    """Write embedded videos as texts that no browser runs or draws."""
    texts = []
    for place, video in enumerate(ids):
        media = content.media.get(video)
        if media is not None and media.embedded:
            kind = _KINDS.get(media.path.suffix.lower(), "video/mp4")
            text = base64.b64encode(media.embedded).decode()
            texts.append(f'<script type="text/plain" id="embedded-{place}" data-kind="{kind}">{text}</script>')
    return "\n".join(texts)
