"""Optional packages: named where they are missing, and kept out of the home folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stale_edge import extras


@pytest.mark.parametrize("require", [extras.require_plot, extras.require_report])
@pytest.mark.parametrize("own", ["", ".cache", ".config"])
def test_matplotlib_keeps_out_of_a_home_that_it_has_no_folder_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require: object, own: str
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MPLCONFIGDIR", "x")
    for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    if own:
        (tmp_path / own / "matplotlib").mkdir(parents=True)
    require("a test")
    assert ("MPLCONFIGDIR" in os.environ) is not bool(own)
    if not own:
        assert Path(os.environ["MPLCONFIGDIR"]).is_dir()
        assert tmp_path not in Path(os.environ["MPLCONFIGDIR"]).parents
