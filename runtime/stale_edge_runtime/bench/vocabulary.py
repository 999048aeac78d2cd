"""The text side of a timing: prompts and embeddings for files that do not have their classes inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLASSES = 200
TOKENS = 12
TOKEN_TABLE = 49_408
TEXT_NORM = 9.0


@dataclass(frozen=True)
class Vocabulary:
    """Inputs that are the same for every video."""

    token_ids: NDArray[np.int64]
    """[classes, tokens]: tokenised prompts, padded with the end token."""
    text_embeddings: NDArray[np.float32]
    """[classes, D]: embeddings of those prompts, not normalised."""


def synthetic_vocabulary(
    feature_dim: int, *, classes: int = CLASSES, tokens: int = TOKENS, token_table: int = TOKEN_TABLE, seed: int = 0
) -> Vocabulary:
    """Prompts of random words and embeddings of the size that CLIP gives: right for timing alone.

    Args:
        feature_dim: Width of an embedding.
        classes: Number of prompts; ActivityNet has 200 classes.
        tokens: Length of the longest prompt; 12 for ActivityNet's classes.
        token_table: Entries of the token table; its last two are CLIP's start and end.
        seed: Seed of the draws.
    """
    generator = np.random.default_rng([seed, classes, tokens])
    start, end = max(0, token_table - 2), token_table - 1
    token_ids = generator.integers(max(1, start), size=(classes, tokens))
    words = generator.integers(1, max(2, tokens - 1), size=(classes, 1))
    token_ids[np.arange(tokens)[None] > words] = end
    token_ids[:, 0], token_ids[:, -1] = start, end
    embeddings = generator.standard_normal((classes, feature_dim))
    embeddings *= TEXT_NORM / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return Vocabulary(token_ids, embeddings.astype(np.float32))
