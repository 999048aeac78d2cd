"""Sources of text embeddings in an exported graph, whatever the network.

Symbols: C classes, D feature width, L tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stale_edge.networks.clip_text import tokenize
from stale_edge_runtime.contract import Kind
from stale_edge_runtime.errors import BadDataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from stale_edge.checkpoint import Checkpoint


class StoredText(nn.Module):
    """Text embeddings fixed at export.

    Args:
        embeddings: [C, D].
    """

    embeddings: Tensor

    def __init__(self, embeddings: Tensor) -> None:
        super().__init__()
        self.register_buffer("embeddings", embeddings)

    def forward(self) -> Tensor:
        """[C, D]."""
        return self.embeddings


class GivenText(nn.Module):
    """Text embeddings as an input."""

    def forward(self, text_embeddings: Tensor) -> Tensor:
        """[C, D], as given."""
        return text_embeddings


def text_source(network: Any, kind: Kind, text: Tensor | None) -> nn.Module:
    """Choose where the text embeddings in a graph come from.

    Args:
        network: The network.
        kind: Kind of the file; no text tower.
        text: Text embeddings [C, D] of a baked file.
    """
    if text is not None:
        return StoredText(text)
    tower: nn.Module | None = network.text_tower
    return tower if kind is Kind.FULL and tower is not None else GivenText()


def token_ids(network: Any, class_names: Sequence[str]) -> NDArray[np.int64]:
    """Tokenise the prompts of class names, int64 [C, L], for a network's text tower or one of the published size."""
    text = network.config.text
    return tokenize(class_names, text.context) if text else tokenize(class_names)


def text_embeddings(checkpoint: Checkpoint, class_names: tuple[str, ...]) -> Tensor:
    """Give text embeddings [C, D] of class names: those that the checkpoint stores, else by the network's own tower.

    Raises:
        BadDataError: The checkpoint stores embeddings, and not of one of the names.
    """
    if checkpoint.text_embeddings is not None:
        rows = {name: row for row, name in enumerate(checkpoint.classes)}
        if absent := [name for name in class_names if name not in rows]:
            problem = f"is not among the {len(rows):,} classes whose text the checkpoint stores"
            raise BadDataError(f"class {absent[0]!r}", problem, "train with its text embedding, or use --open")
        return checkpoint.text_embeddings[[rows[name] for name in class_names]]
    network = checkpoint.network
    with torch.inference_mode():
        embeddings = network.encode_text(torch.from_numpy(token_ids(network, class_names)))
    copied: Tensor = embeddings.clone()
    return copied
