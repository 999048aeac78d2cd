"""Configurations check themselves."""

from __future__ import annotations

import dataclasses
import json

import pytest

from stale_edge.networks.stale.config import DesignOptions, ModelConfig, TextConfig


def test_survives_json() -> None:
    ours = ModelConfig(ours=DesignOptions(centring=True, no_gate=True))
    for config in (ModelConfig(anchors=7), ModelConfig(text=None), ours):
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


@pytest.mark.parametrize(
    "change",
    [{"text": 3}, {"text": {"width": 4}}, {"ours": 3}, {"ours": {"centring": 1}}],
)
def test_refuses_a_foreign_dictionary(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not"):
        ModelConfig.from_dict({**ModelConfig().to_dict(), **change})


def test_missing_keys_take_defaults_and_unknown_ones_are_left_out() -> None:
    assert ModelConfig.from_dict({}) == ModelConfig()
    assert ModelConfig.from_dict({"text": None, "later": 1}) == ModelConfig(text=None)
    assert ModelConfig.from_dict({"ours": {"centring": True, "later": 1}}).ours == DesignOptions(centring=True)


class TestOurOptions:
    def test_are_off_by_default_and_in_older_configurations(self) -> None:
        older = ModelConfig().to_dict()
        del older["ours"]
        assert ModelConfig.from_dict(older) == ModelConfig()
        assert ModelConfig().ours.names == ()

    def test_every_option_is_every_field(self) -> None:
        every = DesignOptions.every()
        assert all(getattr(every, item.name) is True for item in dataclasses.fields(DesignOptions))
        assert DesignOptions.named(every.names) == every

    def test_go_by_the_names_of_the_command_line(self) -> None:
        options = DesignOptions(centring=True, signed_similarity=True)
        assert options.names == ("centring", "signed-similarity")
        assert DesignOptions.named(options.names) == options

    def test_refuse_what_they_are_not(self) -> None:
        with pytest.raises(ValueError, match="there is no 'gating' among centring, signed-similarity, no-gate"):
            DesignOptions.named(["gating"])
        with pytest.raises(ValueError, match="no_gate must be true or false, not 1"):
            DesignOptions(no_gate=1)  # type: ignore[arg-type]
