"""Exports of the tiny network, each made once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stale_edge_export.exporter import export_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from stale_edge.checkpoint import Checkpoint
    from stale_edge_runtime.contract import Kind


@pytest.fixture(scope="session")
def tiny_export(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """From a kind, and whether to fold, to a file that no test may change."""

    @cache
    def exported(kind: Kind, *, fold: bool = True) -> Path:
        path = tmp_path_factory.mktemp("export") / f"{kind}.onnx"
        export_checkpoint(tiny_checkpoint, path, kind=kind, fold=fold)
        return path

    return exported
