"""CLIP's byte-pair encoding of texts, in pure Python: a device needs no package and no vocabulary file for it.

A text is normalised (NFC), lower case, and cut into words, digits and other marks. The bytes of each become tokens,
and neighbours that were often seen together in training merge, the most frequent pair first. The pairs, the *merges*,
are all that there is to know: token n beyond the first 512 is the n-th pair.

Source: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016), section 3.2; Radford et
al. (2021), section 2.4, and the tokenizer that was published with it.
"""

from __future__ import annotations

import base64
import itertools
import re
import unicodedata
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from stale_edge_runtime.contract import MAX_TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

BYTES: Final = 256
FIRST_MERGED: Final = 2 * BYTES
"""Tokens before the first pair: each byte inside a word, and each byte at the end of one."""
SPECIALS: Final = ("<|startoftext|>", "<|endoftext|>")
MAX_MERGES: Final = 1 << 16
MAX_PACKED: Final = 1 << 19
"""Characters of the longest packed list; CLIP's takes less than half."""
KEPT_WORDS: Final = 4096
"""Words whose tokens are remembered."""
_SPACE: Final = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Characters that Unicode calls white space; Python's own notion has four control characters more."""
_WORD: Final = re.compile(
    rf"{'|'.join(map(re.escape, SPECIALS))}|'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^{_SPACE}a-z0-9]+"
)
"""Words in ASCII: contractions, runs of letters, single digits, and runs of other marks."""
_STAND_INS: Final = {"L": "z", "N": "0"}
"""ASCII characters in place of letters and numbers of other scripts; no contraction holds a z."""


def byte_tokens() -> tuple[int, ...]:
    """Number each byte: printable Latin-1 comes first, in order, then the rest."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    order = printable + [byte for byte in range(BYTES) if byte not in set(printable)]
    tokens = [0] * BYTES
    for token, byte in enumerate(order):
        tokens[byte] = token
    return tuple(tokens)


_TOKENS: Final = byte_tokens()


@dataclass(frozen=True)
class Tokenizer:
    """Turns texts into CLIP's tokens.

    Raises:
        ValueError: A pair names a token that is not there yet.
    """

    merges: NDArray[np.uint16]
    """[M, 2], pairs of tokens, the most frequent first."""

    def __post_init__(self) -> None:
        """Check that every pair is of tokens before it."""
        if self.merges.ndim != 2 or self.merges.shape[1] != 2 or len(self.merges) > MAX_MERGES - FIRST_MERGED - 2:
            raise ValueError(f"merges are {list(self.merges.shape)}, not pairs")
        if (self.merges >= FIRST_MERGED + np.arange(len(self.merges))[:, None]).any():
            raise ValueError("a merge is of tokens that come after it")

    @property
    def start(self) -> int:
        """Token that begins every text."""
        return FIRST_MERGED + len(self.merges)

    @property
    def end(self) -> int:
        """Token that ends every text, and fills it up."""
        return self.start + 1

    @property
    def size(self) -> int:
        """Number of tokens."""
        return self.start + 2

    @cached_property
    def _ranks(self) -> dict[tuple[int, int], int]:
        left, right = self.merges.T.tolist()
        return dict(zip(zip(left, right, strict=True), range(FIRST_MERGED, self.start), strict=True))

    @cached_property
    def _words(self) -> dict[str, tuple[int, ...]]:
        return {}

    def encode(self, text: str, limit: int | None = None) -> list[int]:
        """Turn a text into tokens, without start and end.

        Args:
            text: Any text.
            limit: Stop when there are so many tokens; all of them where None.
        """
        tokens: list[int] = []
        for word in _split(unicodedata.normalize("NFC", text).lower()):
            tokens += self._encode_word(word)
            if limit is not None and len(tokens) >= limit:
                return tokens[:limit]
        return tokens

    def tokenize(self, texts: Iterable[str], context: int = MAX_TOKENS) -> NDArray[np.int64]:
        """Turn texts into the rows that a text tower takes.

        Args:
            texts: Prompts; one that is too long is cut before its end token.
            context: Longest row, start and end included.

        Returns:
            int64 [texts, tokens]: start, tokens, end; filled up with the end token to the longest.
        """
        rows = [[self.start, *self.encode(text, context - 2), self.end] for text in texts]
        ids = np.full((len(rows), max(map(len, rows), default=2)), self.end, dtype=np.int64)
        for row, tokens in zip(ids, rows, strict=True):
            row[: len(tokens)] = tokens
        return ids

    def _encode_word(self, word: str) -> tuple[int, ...]:
        if word in SPECIALS:
            return (self.start + SPECIALS.index(word),)
        if (known := self._words.get(word)) is None:
            tokens = [_TOKENS[byte] for byte in word.encode("utf-8", "replace")]
            tokens[-1] += BYTES
            if len(self._words) >= KEPT_WORDS:
                self._words.clear()
            known = self._words[word] = tuple(self._merged(tokens))
        return known

    def _merged(self, tokens: list[int]) -> list[int]:
        """Merge neighbours, the pair that was most frequent in training first."""
        ranks, none = self._ranks, self.size
        while len(tokens) > 1:
            found = [ranks.get(pair, none) for pair in itertools.pairwise(tokens)]
            best = min(found)
            if best == none:
                break
            merged: list[int] = []
            place = 0
            while place < len(tokens):
                if place < len(found) and found[place] == best:
                    merged.append(best)
                    place += 2
                else:
                    merged.append(tokens[place])
                    place += 1
            tokens = merged
        return tokens


def encode_merges(merges: NDArray[np.uint16]) -> str:
    """Pack merges [M, 2] into text for the metadata of a text tower."""
    planes = np.concatenate([merges.T.ravel() >> 8, merges.T.ravel() & 255]).astype(np.uint8)
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()


def decode_merges(text: str) -> NDArray[np.uint16]:
    """Unpack merges [M, 2] that `encode_merges` packed.

    Raises:
        ValueError: It is not such a text, or unpacks to more than the largest vocabulary.
    """
    if len(text) > MAX_PACKED:
        raise ValueError(f"merges take {len(text):,} characters, more than {MAX_PACKED:,}")
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(base64.b64decode(text, validate=True), 4 * MAX_MERGES)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"merges cannot be unpacked ({error})") from None
    if not unpacker.eof or unpacker.unused_data or len(content) % 4:
        raise ValueError("merges are cut, too many, or no pairs")
    high, low = np.frombuffer(content, np.uint8).reshape(2, -1).astype(np.uint16)
    return ((high << 8) | low).astype(np.uint16).reshape(2, -1).T.copy()


def _split(text: str) -> list[str]:
    """Cut a lower-case text into special tokens, contractions, runs of letters, digits, and runs of other marks."""
    if text.isascii():
        return _WORD.findall(text)
    shape = "".join(
        letter if letter.isascii() else _STAND_INS.get(unicodedata.category(letter)[0], letter) for letter in text
    )
    return [text[found.start() : found.end()] for found in _WORD.finditer(shape)]
