"""CLIP towers that commands open: named by an option, or found beside a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stale_edge.cli.options import MODELS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stale_edge_runtime.video.tower import ImageTower


def open_image_tower(
    named: Path | None, beside: Sequence[Path], *, sha256: str = "", threads: int = 1, provider: str = "cpu"
) -> ImageTower:
    """Open the image tower that was named, or the one that goes with a model.

    Args:
        named: File that the user named.
        beside: Folders to look in before `models/`.
        sha256: Hash of the weights that it must have; any where empty.
        threads: Threads inside an operator.
        provider: Device to run on.

    Raises:
        StaleEdgeError: There is none, or it cannot be opened.
    """
    from stale_edge_runtime.contract import Kind
    from stale_edge_runtime.tower_files import find_tower, read_tower
    from stale_edge_runtime.video.tower import ImageTower

    kind = Kind.IMAGE_TOWER
    model = read_tower(named, kind) if named else find_tower(kind, [*beside, MODELS], sha256=sha256)
    return ImageTower(model, threads=threads, provider=provider)
