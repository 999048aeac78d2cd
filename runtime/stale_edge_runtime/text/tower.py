"""CLIP's text tower on the device: class names in, text embeddings out."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from stale_edge_runtime.contract import PROMPT, TEXT_EMBEDDINGS, TOKEN_IDS, Kind
from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.model_file import ModelFile, read_model
from stale_edge_runtime.session import open_session, run_tower
from stale_edge_runtime.text.tokenizer import Tokenizer, decode_merges

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnxruntime as ort
    from numpy.typing import NDArray

    from stale_edge_runtime.contract import ModelInfo

BATCH_TOKENS: Final = 512
"""Tokens that go through the tower at once: bounds memory, and 1,024 or more are slower by a fifth in 8 bits."""


class TextEncoder:
    """Turns class names into the text embeddings of an open-vocabulary detector.

    Args:
        path: A text tower that stale-edge exported, or one that was read already.
        threads: Threads inside one operator.
        provider: Device to run on: `"cpu"` or `"cuda"`.

    Attributes:
        path: The file.
        info: Metadata of the file.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: The file is not what it must be, or holds no merges.
        UsageError: It is no text tower.
        UnavailableError: The provider or the threads cannot be had.
    """

    def __init__(self, path: str | Path | ModelFile, threads: int = 1, provider: str = "cpu") -> None:
        self._model = path if isinstance(path, ModelFile) else read_model(Path(path))
        if self._model.info.kind is not Kind.TEXT_TOWER:
            role = self._model.info.role
            raise UsageError(self._model.path, f"is a {role} file", "name a text tower from `export --text-tower`")
        self.path = self._model.path
        self.info: ModelInfo = self._model.info
        self._threads, self._provider = threads, provider
        if not self.info.merges:
            raise BadDataError(self.path, "holds no merges to read words with", "export it again with this version")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Tokenizer of the tower's vocabulary.

        Raises:
            BadDataError: The merges in the file are not what they must be.
        """
        try:
            return Tokenizer(decode_merges(self.info.merges))
        except ValueError as error:
            raise BadDataError(self.path, f"holds merges that cannot be used: {error}", "export it again") from None

    @cached_property
    def digest(self) -> bytes:
        """Hash of the whole file: what its answers depend on."""
        return hashlib.sha256(self._model.content).digest()

    @cached_property
    def _session(self) -> ort.InferenceSession:
        return open_session(self._model, threads=self._threads, provider=self._provider)

    def embed(self, names: Sequence[str], prompt: str = PROMPT) -> NDArray[np.float32]:
        """Compute the text embeddings of class names.

        Args:
            names: Names as a person writes them.
            prompt: Words before each of them.

        Returns:
            float32 [C, D], not normalised.

        Raises:
            BadDataError: The tower does not answer as it must.
        """
        rows = [self.tokenizer.tokenize([prompt + name])[0] for name in names]
        embeddings = np.empty((len(rows), self.info.feature_dim), np.float32)
        # Rows of like lengths go together, so that none is filled up for long.
        order = sorted(range(len(rows)), key=lambda row: (len(rows[row]), row))
        while order:
            count = 1
            while count < len(order) and (count + 1) * len(rows[order[count]]) <= BATCH_TOKENS:
                count += 1
            chosen, order = order[:count], order[count:]
            ids = np.full((count, len(rows[chosen[-1]])), self.tokenizer.end, np.int64)
            for line, row in zip(ids, chosen, strict=True):
                line[: len(rows[row])] = rows[row]
            width, inputs = self.info.feature_dim, {TOKEN_IDS: ids}
            embeddings[chosen] = run_tower(self._session, self.path, TEXT_EMBEDDINGS, inputs, width)
        return embeddings
