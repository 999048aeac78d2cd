"""Text embeddings by the names of the classes that they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.formats.class_list import read_class_list
from stale_edge_runtime.formats.features import read_features

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


@dataclass(frozen=True)
class ClassEmbeddings:
    """Text embeddings by class name."""

    classes: tuple[str, ...]
    """Names."""
    embeddings: Tensor
    """float32 [C, D]."""

    def rows(self, names: tuple[str, ...]) -> Tensor:
        """Embeddings of some classes [N, D].

        Raises:
            BadDataError: There is none of a class.
        """
        index = {name: row for row, name in enumerate(self.classes)}
        if absent := [name for name in names if name not in index]:
            problem = f"have no row for {absent[0]!r} and {len(absent) - 1} other classes of the videos"
            raise BadDataError("text embeddings", problem, "the names must be those of the annotations")
        return self.embeddings[[index[name] for name in names]]


def read_vocabulary(classes: Path, embeddings: Path, width: int) -> ClassEmbeddings:
    """Read a list of classes and their text embeddings.

    Args:
        classes: Names, one a line.
        embeddings: A row for each, in the same order.
        width: Width D of a row.

    Raises:
        InputMissingError: A file is missing.
        BadDataError: A file is not what it must be, or the two do not belong together.
    """
    names, rows = read_class_list(classes), read_features(embeddings, width)
    if len(names) != len(rows):
        problem = f"has {len(rows)} rows, and {classes} has {len(names)} names"
        raise BadDataError(embeddings, problem, "one row for each name, in the same order")
    return ClassEmbeddings(names, torch.from_numpy(rows))
