"""Ids of videos: what may be one, and which of two sources' spellings mean the same video.

Sources spell ids differently: feature files of ActivityNet begin with `v_` and its annotations do not, other data sets
have ids that begin with `v_` themselves, and files of own videos keep an ending (`talk.mp4.npy`). Spellings are matched
exactly first, then without `v_`, then without the ending of a video or feature file, on both sides.

Ids come from files of anyone and never become a path.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Final, TypeVar

from stale_edge_runtime.errors import BadDataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

Entry = TypeVar("Entry")

MAX_ID_LENGTH: Final = 255
ID_RULE: Final = f"an id is 1 to {MAX_ID_LENGTH} printable characters without '/'"

PREFIX: Final = "v_"
_VIDEO_ENDINGS: Final = ("mp4", "mkv", "webm", "avi", "mov", "m4v", "mpg", "mpeg", "wmv", "flv", "3gp", "ogv")
_FEATURE_ENDINGS: Final = ("npy", "npz", "h5", "hdf5", "pt", "pth", "pkl")
_ENDINGS: Final = frozenset((*_VIDEO_ENDINGS, *_FEATURE_ENDINGS))


def is_video_id(text: str) -> bool:
    """Tell whether a text can be the id of a video; see `ID_RULE`."""
    if not 0 < len(text) <= MAX_ID_LENGTH or "/" in text:
        return False
    # Spaces other than the usual one are in names of files too; Python does not count them as printable.
    return text.isprintable() or all(one.isprintable() or unicodedata.category(one) == "Zs" for one in text)


def check_video_id(path: Path, text: str) -> None:
    """Refuse a file that names a video by what is no id (BadDataError)."""
    if not is_video_id(text):
        raise BadDataError(path, f"{text[:40]!r} is no id of a video", f"{ID_RULE}; rename the video")


def bare_id(text: str) -> str:
    """Cut off the `v_` of the published feature files."""
    return text.removeprefix(PREFIX)


def _composed(text: str) -> str:
    while text.startswith(PREFIX):  # files of ids that begin with `v_` have it twice
        text = bare_id(text)
    return unicodedata.normalize("NFC", text)  # some file systems take accents apart


def _without_ending(text: str) -> str:
    stem, dot, ending = _composed(text).rpartition(".")
    return stem if dot and stem and ending.lower() in _ENDINGS else _composed(text)


_SPELLINGS: Final[tuple[Callable[[str], str], ...]] = (str, _composed, _without_ending)
"""Forms in which two spellings of one id are equal, the strictest first."""


class IdIndex:
    """Looks ids up among known ones.

    Args:
        known: The ids of one source, each once.
    """

    def __init__(self, known: Iterable[str]) -> None:
        ids = list(known)
        self._forms = [_unique(ids, spelling) for spelling in _SPELLINGS]

    def find(self, video_id: str) -> str | None:
        """Find the known id that means the same video, as it is written there; None where none does, or several do."""
        for spelling, forms in zip(_SPELLINGS, self._forms, strict=True):
            form = spelling(video_id)
            if form in forms:
                return forms[form]
        return None


def match_ids(given: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Pair the ids of two sources, each id at most once.

    Args:
        given: Ids of one source.
        known: Ids of the other, whose spelling is kept.

    Returns:
        Known id by given id, in the order given; ids without a partner, or with several equally good ones, are absent.
    """
    left, right = dict.fromkeys(given), dict.fromkeys(known)
    order, pairs = list(left), dict[str, str]()
    for spelling in _SPELLINGS:
        here, there = _unique(left, spelling), _unique(right, spelling)
        found = {here[form]: there[form] for form in here if form in there}
        pairs.update(found)
        for one, other in found.items():
            del left[one], right[other]
    return {one: pairs[one] for one in order if one in pairs}


def respelled(entries: Mapping[str, Entry], known: Iterable[str]) -> dict[str, Entry]:
    """Put entries under the ids of another source; ids that it does not know stay as they are.

    Args:
        entries: Anything by video id.
        known: Ids of the other source.
    """
    # No entry replaces another: new ids are known ones, and an entry that has a known id keeps it.
    pairs = match_ids(entries, known)
    return {pairs.get(video_id, video_id): entry for video_id, entry in entries.items()}


def _unique(ids: Iterable[str], spelling: Callable[[str], str]) -> dict[str, str]:
    """Map forms to ids; forms that several ids share are left out."""
    forms = [(spelling(one), one) for one in ids]
    counts = Counter(form for form, _ in forms)
    return {form: one for form, one in forms if counts[form] == 1}
