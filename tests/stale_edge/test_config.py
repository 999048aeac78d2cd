"""Configurations check themselves."""

from __future__ import annotations

import json

import pytest

from stale_edge.config import ModelConfig, TextConfig


def test_survives_json() -> None:
    for config in (ModelConfig(anchors=7), ModelConfig(text=None)):
        assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"anchors": 0}, "anchors must be an integer from 1"),
        ({"heads": True}, "heads must be an integer"),
        ({"feature_dim": 10}, "multiple of 4"),
        ({"feature_dim": 12, "representation_heads": 5}, "multiple of 5 heads"),
    ],
)
def test_refuses_sizes_that_do_not_fit(values: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**values)


def test_refuses_text_sizes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="multiple of 7 heads"):
        TextConfig(heads=7)


@pytest.mark.parametrize("change", [{"surplus": 1}, {"text": 3}, {"text": {"width": 4}}])
def test_refuses_a_foreign_dictionary(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not"):
        ModelConfig.from_dict({**ModelConfig().to_dict(), **change})
