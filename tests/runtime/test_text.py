"""Class names to text embeddings: words as CLIP reads them, each answer once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.text.cache import cache_folder, embed_names
from stale_edge_runtime.text.tokenizer import Tokenizer, decode_merges, encode_merges
from stale_edge_runtime.text.tower import TextEncoder

DATA = Path(__file__).parents[1] / "data"
TOWER = DATA / "tiny_text_tower.onnx"
# Bytes of "a", "b", "c" are tokens 64, 65, 66; at the end of a word 320, 321, 322.
AB, ABC_END = 512, 513
MERGES = np.array([[64, 65], [512, 322], [65, 321]], np.uint16)


@pytest.fixture
def tokenizer():
    return Tokenizer(MERGES)


class TestTokenizer:
    @pytest.mark.parametrize(
        ("text", "tokens"),
        [
            ("abc", [ABC_END]),
            ("ABC", [ABC_END]),
            (" abc  ab ", [ABC_END, 64, 321]),
            ("bb", [514]),
            ("", []),
            ("a.b", [320, 13 + 256, 321]),
            ("12", [16 + 256, 17 + 256]),
            ("a's", [320, 6, 338]),
            ("a'x", [320, 6 + 256, 343]),
            ("<|endoftext|>", [516]),
            ("a\x1cb", [320, 216 + 256, 321]),
            ("a\x85b\u2009\u3000c", [320, 321, 322]),
            ("a\u017f", [64, 129, 379]),
        ],
    )
    def test_by_hand(self, tokenizer, text, tokens):
        assert tokenizer.encode(text) == tokens

    def test_the_most_frequent_pair_is_merged_first(self):
        both = Tokenizer(np.array([[65, 322], [64, 65]], np.uint16))
        assert both.encode("abc") == [64, 512]

    def test_rows_begin_and_end_and_are_filled_up(self, tokenizer):
        ids = tokenizer.tokenize(["abc", "bb bb", ""])
        assert ids.tolist() == [[515, 513, 516, 516], [515, 514, 514, 516], [515, 516, 516, 516]]
        assert tokenizer.tokenize(["bb " * 100], 77).shape == (1, 77)
        assert tokenizer.tokenize(["bb " * 100], 77)[0, -1] == tokenizer.end

    @given(st.text())
    def test_any_text_has_tokens_in_the_vocabulary(self, text):
        tokens = Tokenizer(MERGES).encode(text)
        assert all(0 <= token < 517 for token in tokens)
        assert Tokenizer(MERGES).encode(text, 3) == tokens[:3]

    def test_composed_and_decomposed_letters_are_one(self, tokenizer):
        assert tokenizer.encode("e\u0301") == tokenizer.encode("\u00e9")

    def test_merges_survive_packing(self):
        np.testing.assert_array_equal(decode_merges(encode_merges(MERGES)), MERGES)

    @pytest.mark.parametrize(
        "text", ["", "x", "eJw=", "é", encode_merges(np.zeros((70_000, 2), np.uint16)), "A" * 600_000]
    )
    def test_what_cannot_be_unpacked_is_refused(self, text):
        with pytest.raises(ValueError, match="merges"):
            decode_merges(text)

    def test_words_are_remembered_up_to_a_bound(self, tokenizer, monkeypatch):
        monkeypatch.setattr("stale_edge_runtime.text.tokenizer.KEPT_WORDS", 2)
        for word in ("a", "b", "c", "abc", "a"):
            tokenizer.encode(word)
            assert len(tokenizer._words) <= 2
        assert tokenizer.encode("abc a") == [ABC_END, 320]

    def test_a_merge_of_what_comes_later_is_refused(self):
        with pytest.raises(ValueError, match="come after it"):
            Tokenizer(np.array([[512, 64]], np.uint16))


class TestTower:
    def test_each_name_has_the_embedding_that_it_has_alone(self):
        tower = TextEncoder(TOWER)
        names = ["abc", "b" * 40, "ab ab ab", "c"]
        together = tower.embed(names, "a ")
        for name, row in zip(names, together, strict=True):
            np.testing.assert_allclose(tower.embed([name], "a ")[0], row, rtol=1e-5, atol=1e-6)
        assert not np.allclose(together[0], together[1])

    def test_the_prompt_counts(self):
        tower = TextEncoder(TOWER)
        assert not np.allclose(tower.embed(["abc"], "a "), tower.embed(["abc"], "b "))

    def test_a_detector_is_no_tower(self):
        with pytest.raises(UsageError, match="is a detector file"):
            TextEncoder(DATA / "tiny_baked.onnx")


class CountingTower(TextEncoder):
    runs = 0

    def embed(self, names, prompt=""):
        self.runs += 1
        return super().embed(names, prompt)


class TestCache:
    def test_a_list_is_computed_once(self, tmp_path):
        tower = CountingTower(TOWER)
        first, known = embed_names(tower, ["abc", "c"], "a ", tmp_path / "cache")
        again, found = embed_names(tower, ["abc", "c"], "a ", tmp_path / "cache")
        assert (known, found, tower.runs) == (False, True, 1)
        np.testing.assert_array_equal(first, again)
        for names, prompt in ((["c", "abc"], "a "), (["abc"], "a "), (["abc", "c"], "b ")):
            assert not embed_names(tower, names, prompt, tmp_path / "cache")[1]

    @pytest.mark.parametrize(
        "damage",
        [lambda _: b"", lambda _: b"nothing", lambda whole: whole[:-1], lambda whole: whole[:130] + b"?" + whole[131:]],
    )
    def test_a_damaged_entry_is_computed_again(self, damage, tmp_path):
        tower = TextEncoder(TOWER)
        expected, _ = embed_names(tower, ["abc"], "a ", tmp_path)
        [entry] = tmp_path.glob("*.text")
        whole = entry.read_bytes()
        entry.write_bytes(damage(whole))
        np.testing.assert_array_equal(embed_names(tower, ["abc"], "a ", tmp_path)[0], expected)
        assert embed_names(tower, ["abc"], "a ", tmp_path)[1]

    def test_a_place_that_is_not_writable_does_not_matter(self, tmp_path):
        (tmp_path / "file").touch()
        assert embed_names(TextEncoder(TOWER), ["abc"], "a ", tmp_path / "file" / "cache")[1] is False

    def test_the_oldest_entries_go(self, tmp_path, monkeypatch):
        monkeypatch.setattr("stale_edge_runtime.text.cache.KEPT", 2)
        tower = TextEncoder(TOWER)
        for age, name in enumerate("abcd"):
            embed_names(tower, [name], "", tmp_path)
            for path in tmp_path.glob("*.text"):
                os.utime(path, (age, age)) if path.stat().st_mtime > 10 else None
        assert len(list(tmp_path.glob("*.text"))) == 2
        assert embed_names(tower, ["d"], "", tmp_path)[1]
        assert not embed_names(tower, ["a"], "", tmp_path)[1]

    def test_the_size_is_bounded(self, tmp_path, monkeypatch):
        tower = TextEncoder(TOWER)
        embed_names(tower, ["a"], "", tmp_path)
        [entry] = tmp_path.glob("*.text")
        os.utime(entry, (1, 1))
        monkeypatch.setattr("stale_edge_runtime.text.cache.KEPT_BYTES", 2 * entry.stat().st_size - 1)
        embed_names(tower, ["b"], "", tmp_path)
        assert len(list(tmp_path.glob("*.text"))) == 1
        assert embed_names(tower, ["b"], "", tmp_path)[1]

    def test_the_folder_is_the_user_s(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder() == tmp_path / "stale-edge" / "text"
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cache_folder() == tmp_path / "home" / ".cache" / "stale-edge" / "text"
        monkeypatch.delenv("HOME")
        assert cache_folder() is None


def test_hostile_merges_are_bad_data(tmp_path):
    content = TOWER.read_bytes()
    packed = encode_merges(MERGES).encode()
    assert packed in content
    path = tmp_path / "tower.onnx"
    path.write_bytes(content.replace(packed, b"A" * len(packed)))
    with pytest.raises(BadDataError, match="holds merges that cannot be used"):
        TextEncoder(path).embed(["abc"])
