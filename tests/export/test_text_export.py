"""Vocabulary of a text tower's file: that beside the weights, or CLIP's own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from stale_edge.networks.clip_image import ImageTowerConfig
from stale_edge.networks.clip_sources import seeded_clip
from stale_edge.networks.clip_text import clip_merges, clip_tokenizer
from stale_edge.networks.clip_vocabulary import _byte_names, merges_beside
from stale_edge.networks.stale.config import TextConfig
from stale_edge_export.towers import export_text_tower
from stale_edge_runtime.errors import BadDataError

if TYPE_CHECKING:
    from pathlib import Path


def test_merges_beside_the_weights_go_into_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[dict[str, Any]] = []
    monkeypatch.setattr("stale_edge_export.towers.export_checkpoint", lambda *_, **options: written.append(options))
    image = ImageTowerConfig(width=16, layers=1, heads=2, hidden=16, embedding_dim=8)
    source = seeded_clip(image, TextConfig(width=16, layers=1, heads=2, hidden=16))
    names, lines = list(_byte_names()), []
    for left, right in clip_tokenizer().merges.tolist():
        lines.append(f"{names[left]} {names[right]}")
        names.append(names[left] + names[right])
    assert lines[:2] == ["i n", "t h"]
    (tmp_path / "merges.txt").write_text("\n".join([lines[1], lines[0], *lines[2:]]), encoding="utf-8")
    for folder, merges in ((None, ""), (tmp_path, merges_beside(tmp_path, 49_408))):
        export_text_tower(replace(source, folder=folder), tmp_path / "clip-text.onnx")
        assert written[-1]["merges"] == merges != clip_merges()
    (tmp_path / "merges.txt").write_text("i n\n", encoding="utf-8")
    with pytest.raises(BadDataError, match="holds 1 merges"):
        export_text_tower(replace(source, folder=tmp_path), tmp_path / "clip-text.onnx")
    assert len(written) == 2
