"""Merges from the files of others: the same tokens whatever file they come from."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from stale_edge.networks.clip_text import clip_merges
from stale_edge.networks.clip_vocabulary import _byte_names, merges_beside
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.text.tokenizer import decode_merges

PAIRS = [("i", "n"), ("t", "h"), ("th", "e</w>"), ("in", "g</w>")]
SIZE = 512 + len(PAIRS) + 2
LINES = [" ".join(pair) for pair in PAIRS]


def vocabulary(pairs=PAIRS):
    tokens = [*_byte_names(), *("".join(pair) for pair in pairs), "<|startoftext|>", "<|endoftext|>"]
    return {token: number for number, token in enumerate(tokens)}


def write_text(folder, lines=LINES, tokens=None):
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n", encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(tokens or vocabulary()), encoding="utf-8")


def write_tokenizer(folder, merges=PAIRS, **model):
    content = {"model": {"type": "BPE", "vocab": vocabulary(), "merges": [list(pair) for pair in merges], **model}}
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


def write_openai(folder):
    content = '"bpe_simple_vocab_16e6.txt#version: 0.2\n' + "\n".join([*LINES, "a b", "more th"]) + "\n"
    (folder / "bpe_simple_vocab_16e6.txt.gz").write_bytes(gzip.compress(content.encode()))


def test_bytes_are_named_as_vocabularies_write_them():
    names = _byte_names()
    assert list(names.values()) == list(range(512))
    assert (names["!"], names["¡"], names["®"], names["ÿ"]) == (0, 94, 106, 187)
    assert (names["Ā"], names["Ġ"], names["Ń"]) == (188, 220, 255)
    assert names["a</w>"] == 256 + names["a"]


@pytest.mark.parametrize("write", [write_text, write_tokenizer, write_openai])
def test_every_file_gives_the_same_merges(tmp_path, write):
    write(tmp_path)
    ids = vocabulary()
    expected = [[ids[left], ids[right]] for left, right in PAIRS]
    np.testing.assert_array_equal(decode_merges(merges_beside(tmp_path, SIZE)), expected)


def test_a_folder_without_any_has_none(tmp_path):
    assert merges_beside(tmp_path, SIZE) == ""


def test_clip_s_own_come_back_as_they_are(tmp_path):
    names = list(_byte_names())
    pairs = []
    for left, right in decode_merges(clip_merges()).tolist():
        pairs.append((names[left], names[right]))
        names.append(names[left] + names[right])
    write_text(tmp_path, [" ".join(pair) for pair in pairs], vocabulary(pairs))
    assert merges_beside(tmp_path, 49_408) == clip_merges()


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (lambda folder: write_text(folder, LINES[:3]), "holds 3 merges"),
        (lambda folder: write_text(folder, [*LINES[:3], "in g x"]), "as merge 4, of no earlier tokens"),
        (lambda folder: write_text(folder, ["th e</w>", *LINES[:3]]), "as merge 1, of no earlier tokens"),
        (lambda folder: write_text(folder, [*LINES[:3], LINES[0]]), "makes a token by two merges"),
        (lambda folder: write_text(folder, tokens=dict.fromkeys(vocabulary(), 0)), "in another order than CLIP"),
        (lambda folder: write_tokenizer(folder, type="WordPiece"), "holds no byte-pair merges"),
        (lambda folder: write_tokenizer(folder, merges=[*PAIRS[:3], (1, 2)]), "as merge 4"),
        (lambda folder: (folder / "bpe_simple_vocab_16e6.txt.gz").write_bytes(b"no"), "cannot be unpacked"),
        (lambda folder: (folder / "merges.txt").write_bytes(b"\xff"), "is not UTF-8"),
        (lambda folder: (folder / "tokenizer.json").write_text("[]"), "holds no byte-pair merges"),
    ],
)
def test_another_vocabulary_is_refused(tmp_path, write, problem):
    write(tmp_path)
    with pytest.raises(BadDataError, match=problem):
        merges_beside(tmp_path, SIZE)
