"""Byte-pair merges of a CLIP's vocabulary from the files that others keep beside its weights."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.formats.files import read_bytes, read_json
from stale_edge_runtime.text.tokenizer import BYTES, FIRST_MERGED, SPECIALS, byte_tokens, encode_merges

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TOKENIZER, MERGES, VOCABULARY = "tokenizer.json", "merges.txt", "vocab.json"
OPENAI_MERGES: Final = "bpe_simple_vocab_16e6.txt.gz"
VOCABULARY_FILES: Final = (TOKENIZER, MERGES, VOCABULARY)
"""Files of a Hugging Face folder that hold a vocabulary."""
MAX_BYTES: Final = 32 << 20
END_OF_WORD: Final = "</w>"
_CURE: Final = "give the files of CLIP's own tokenizer, or take them away: CLIP's own merges are then used"


def merges_beside(folder: Path, vocabulary: int) -> str:
    """Read the merges in a folder with a CLIP's weights.

    Looked for are a Hugging Face tokenizer (`tokenizer.json`, or `merges.txt` with `vocab.json`) and the list that
    OpenAI published (`bpe_simple_vocab_16e6.txt.gz`).

    Args:
        folder: Folder of the weights.
        vocabulary: Tokens of the text tower.

    Returns:
        Merges as `encode_merges` packs them; '' where there are none.

    Raises:
        BadDataError: They are damaged, or the tokens are not numbered as CLIP numbers them.
    """
    for name, read in ((TOKENIZER, _of_tokenizer), (MERGES, _of_text), (OPENAI_MERGES, _of_openai)):
        path = folder / name
        if path.is_file():
            lines, tokens = read(path)
            return encode_merges(_pairs(path, lines[: vocabulary - FIRST_MERGED - len(SPECIALS)], tokens, vocabulary))
    return ""


_Read = tuple["Sequence[Any]", "Mapping[str, Any] | None"]
"""Merges as two texts or a line each, and the numbers of tokens where the files tell them."""


def _of_tokenizer(path: Path) -> _Read:
    content = read_json(path, limit=MAX_BYTES)
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or not isinstance(model.get("merges"), list):
        raise BadDataError(path, "holds no byte-pair merges", _CURE)
    tokens = model.get("vocab")
    return model["merges"], tokens if isinstance(tokens, dict) else None


def _of_text(path: Path) -> _Read:
    beside = path.with_name(VOCABULARY)
    tokens = read_json(beside, limit=MAX_BYTES) if beside.is_file() else None
    lines = _lines(path, read_bytes(path, limit=MAX_BYTES))
    return lines, tokens if isinstance(tokens, dict) else None


def _of_openai(path: Path) -> _Read:
    try:
        # The file is unpacked in one piece, and no more of it than a list may have.
        with gzip.open(path) as stream:
            content = stream.read(MAX_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise BadDataError(path, f"cannot be unpacked ({error})", "get it again") from error
    return _lines(path, content), None


def _lines(path: Path, content: bytes) -> list[str]:
    """Give the lines of a list of merges without its heading."""
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError as error:
        raise BadDataError(path, f"is not UTF-8 text (byte {error.start})", _CURE) from error
    heading = 1 if lines[0].startswith(("#version", '"bpe_simple_vocab')) else 0
    return [line for line in lines[heading:] if line.strip()]


def _pairs(path: Path, merges: Sequence[Any], tokens: Mapping[str, Any] | None, vocabulary: int) -> Any:
    """Number the tokens of merges: uint16 [M, 2]."""
    wanted = vocabulary - FIRST_MERGED - len(SPECIALS)
    if len(merges) != wanted:
        problem = f"holds {len(merges):,} merges, and the text tower's {vocabulary:,} tokens are of {wanted:,}"
        raise BadDataError(path, problem, _CURE)
    numbers = _byte_names()
    pairs = np.empty((wanted, 2), np.uint16)
    for row, merge in enumerate(merges):
        parts = merge.split() if isinstance(merge, str) else merge
        if (
            not isinstance(parts, list)
            or len(parts) != 2
            or not all(isinstance(p, str) and p in numbers for p in parts)
        ):
            raise BadDataError(path, f"has {json.dumps(merge)[:60]} as merge {row + 1:,}, of no earlier tokens", _CURE)
        pairs[row] = numbers[parts[0]], numbers[parts[1]]
        numbers[parts[0] + parts[1]] = FIRST_MERGED + row
    if len(numbers) != FIRST_MERGED + wanted:
        raise BadDataError(path, "makes a token by two merges", _CURE)
    if tokens is not None and any(tokens.get(token) != number for token, number in numbers.items()):
        raise BadDataError(path, "numbers its tokens in another order than CLIP", _CURE)
    return pairs


def _byte_names() -> dict[str, int]:
    """Number the 256 bytes as vocabularies write them, inside a word and at the end of one.

    Printable Latin-1 stands for itself; every other byte is a letter from 256 on, in order.
    """
    others = (chr(letter) for letter in range(BYTES, 2 * BYTES))
    inside = {}
    for byte, token in sorted(enumerate(byte_tokens()), key=lambda item: item[1]):
        printed = 0x21 <= byte <= 0x7E or (0xA1 <= byte <= 0xFF and byte != 0xAD)
        inside[chr(byte) if printed else next(others)] = token
    return inside | {name + END_OF_WORD: BYTES + token for name, token in inside.items()}
