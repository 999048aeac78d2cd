"""Videos that belong to results: found in a folder, addressed from a page, embedded, looked into."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from stale_edge.pages.player.content import VideoMedia
from stale_edge.pages.player.frames import has_frame_reader, look_into_all
from stale_edge_runtime.corpus import VIDEO_SUFFIXES
from stale_edge_runtime.errors import InputMissingError, StaleEdgeError
from stale_edge_runtime.formats import files
from stale_edge_runtime.formats.video_ids import match_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MAX_EMBEDDED_BYTES: Final = 16 << 20
"""Largest video that is embedded."""
MAX_EMBEDDED_SUM_BYTES: Final = 192 << 20
"""Most bytes of videos that are embedded in one page."""
MAX_SPRITES: Final = 200
"""Videos that get small frames; browsers make those of others themselves."""
_PLAYED_EVERYWHERE: Final = (".mp4", ".webm", ".m4v")


def find_media(folder: Path, ids: Iterable[str]) -> dict[str, Path]:
    """Find the videos of some ids in a folder and those below it.

    Returns:
        Files by id; of several with one name, one that browsers play. Ids without a file are absent.

    Raises:
        InputMissingError: There is no such folder.
    """
    if not folder.is_dir():
        raise InputMissingError(folder, "is no folder", "name the folder that holds the videos")
    found = [path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]
    found.sort(key=lambda path: (path.suffix.lower() not in _PLAYED_EVERYWHERE, str(path)))
    by_name: dict[str, Path] = {}
    for path in found:
        by_name.setdefault(path.stem, path)
    return {known: by_name[name] for name, known in match_ids(by_name, ids).items()}


def media_of(
    paths: Mapping[str, Path],
    page: Path,
    *,
    embed: bool = False,
    thumbnails: int = 0,
    step: Callable[[str], None] = lambda _text: None,
) -> tuple[dict[str, VideoMedia], list[str]]:
    """Prepare videos for a page.

    Args:
        paths: Files by id.
        page: File of the page, which addresses are relative to.
        embed: Put small videos into the page.
        thumbnails: Frames of a video to put into the page; 0 for none.
        step: Called with an id after each video.

    Returns:
        Media by id, and what was left out, a line each.

    Raises:
        StorageError: The disk failed.
    """
    folder = Path(os.path.realpath(page)).parent
    looked_into = list(paths.values())[:MAX_SPRITES] if thumbnails > 0 and has_frame_reader() else []
    looks = look_into_all(looked_into, thumbnails) if looked_into else iter(())
    made: dict[str, VideoMedia] = {}
    too_large, unreadable, total = 0, [], 0
    for video, path in paths.items():
        media = VideoMedia(path, address_from(folder, path))
        if embed:
            size = path.stat().st_size
            if size <= MAX_EMBEDDED_BYTES and total + size <= MAX_EMBEDDED_SUM_BYTES:
                media = VideoMedia(path, embedded=files.read_bytes(path, limit=MAX_EMBEDDED_BYTES))
                total += size
            else:
                too_large += 1
        found = next(looks, None)
        if isinstance(found, StaleEdgeError):
            unreadable.append(str(found))
        elif found is not None:
            media = replace(media, length_s=found[0], sprite=found[1])
        made[video] = media
        step(video)
    notes = [f"{too_large} videos are too large to embed; they are linked"] if too_large else []
    if unreadable:
        notes.append(f"{len(unreadable)} videos have no thumbnails in the page, as {unreadable[0]}")
    return made, notes


def address_from(folder: Path, path: Path) -> str:
    """Write the address of a file for a page in a folder: relative, or absolute where there is no way between them."""
    real = Path(os.path.realpath(path))
    try:
        relative = os.path.relpath(real, folder)
    except ValueError:  # another drive
        return real.as_uri()
    return quote(Path(relative).as_posix())
