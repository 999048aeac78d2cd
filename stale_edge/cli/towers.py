"""The image tower that a command uses: named by an option, or found beside a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stale_edge.cli.options import MODELS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stale_edge_runtime.contract import ModelInfo


@dataclass(frozen=True)
class TowerFile:
    """An image tower that passed every check; its weights are not in memory."""

    path: Path
    """The file."""
    info: ModelInfo
    """Metadata of the file."""


def find_image_tower(named: Path | None, beside: Sequence[Path], *, sha256: str = "") -> TowerFile:
    """Find the image tower that was named, or the one that goes with a model.

    Raises:
        StaleEdgeError: There is none, or it cannot be used.
    """
    from stale_edge_runtime.contract import Kind
    from stale_edge_runtime.tower_files import find_tower, read_tower

    kind = Kind.IMAGE_TOWER
    model = read_tower(named, kind) if named else find_tower(kind, [*beside, MODELS], sha256=sha256)
    return TowerFile(model.path, model.info)
