"""Fixtures that all test folders share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden numbers and real annotations, where there is one."""
    folder = Path(os.environ.get("STALE_EDGE_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip("needs the shared/ folder beside the project (or $STALE_EDGE_SHARED)")
    return folder
