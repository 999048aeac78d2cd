"""Profiles of onnxruntime: cut off where the disk was full."""

from __future__ import annotations

import pytest

from stale_edge_runtime.bench.profiles import end_profile
from stale_edge_runtime.errors import StorageError


class Session:
    """A session whose profile is a file that is there already."""

    def __init__(self, path):
        self.end_profiling = lambda: str(path)


@pytest.mark.parametrize("content", ["", '[{"name": "model_r'])
def test_a_profile_that_is_cut_off_names_the_folder_and_the_cure(tmp_path, content):
    (tmp_path / "profile.json").write_text(content)
    with pytest.raises(StorageError, match=r"no room for a profile.*TMPDIR") as told:
        end_profile(Session(tmp_path / "profile.json"))
    assert str(tmp_path) in str(told.value)


def test_a_whole_profile_is_read(tmp_path):
    (tmp_path / "profile.json").write_text('[{"name": "model_run"}]')
    assert end_profile(Session(tmp_path / "profile.json")) == [{"name": "model_run"}]
