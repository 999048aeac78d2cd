"""Ids of videos: what is one, and which spellings of two sources mean the same video."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_edge_runtime.formats.video_ids import IdIndex, is_video_id, match_ids, respelled


@pytest.mark.parametrize(
    "text",
    ["a", "-0edUL8zmA", "bench press_1", "kid's room+stairs", "lat pulldown (2)", "客厅 03", "a\u202fPM", "x" * 255],
)
def test_what_files_are_called_is_an_id(text: str) -> None:
    assert is_video_id(text)


@pytest.mark.parametrize("text", ["", "a/b", "a\nb", "\x1b[2J", "\x9b2J", "a\x00", "\ud800", "\u202eabc", "x" * 256])
def test_what_no_file_or_terminal_can_bear_is_none(text: str) -> None:
    assert not is_video_id(text)


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ("v_00000000", "v_00000000"),
        ("v_a", "a"),
        ("v_v_a", "v_a"),
        ("a", "v_a"),
        ("talk.mp4", "talk"),
        ("talk", "talk.MP4"),
        ("v_talk.npy", "talk.webm"),
        ("e\u0301te", "\u00e9te"),
    ],
)
def test_spellings_of_one_video_match_on_both_sides(given: str, known: str) -> None:
    assert match_ids([given], [known]) == {given: known}
    assert IdIndex([known, "another"]).find(given) == known


@pytest.mark.parametrize(("given", "known"), [("a", "b"), ("a.b", "a"), ("A", "a"), (".mp4", "")])
def test_other_names_do_not_match(given: str, known: str) -> None:
    assert match_ids([given], [known]) == {}
    assert IdIndex([known]).find(given) is None


def test_exact_spellings_come_first() -> None:
    assert match_ids(["v_a", "a"], ["a", "v_a"]) == {"v_a": "v_a", "a": "a"}
    assert match_ids(["v_a", "a"], ["a"]) == {"a": "a"}
    assert match_ids(["v_a", "a.mp4"], ["a"]) == {"v_a": "a"}
    assert IdIndex(["a", "v_a"]).find("v_a") == "v_a"


def test_what_is_ambiguous_matches_nothing() -> None:
    assert match_ids(["a"], ["a.mp4", "a.avi"]) == {}
    assert match_ids(["a.mp4", "a.avi"], ["a"]) == {}
    assert IdIndex(["a.mp4", "a.avi"]).find("a") is None


def test_entries_take_the_known_spelling_and_strangers_keep_theirs() -> None:
    assert respelled({"v_a": 1, "b": 2, "c": 3}, ["a", "v_b"]) == {"a": 1, "v_b": 2, "c": 3}


SPELLINGS = st.sampled_from(["a", "v_a", "v_v_a", "a.mp4", "v_a.npy", "a.avi", "b", "v_b", "b.mp4"])


@given(given=st.lists(SPELLINGS, unique=True), known=st.lists(SPELLINGS, unique=True))
def test_no_entry_is_lost(given: list[str], known: list[str]) -> None:
    pairs = match_ids(given, known)
    assert len(set(pairs.values())) == len(pairs)
    assert all(pairs[one] == one for one in given if one in known)
    assert len(respelled(dict.fromkeys(given), known)) == len(given)
