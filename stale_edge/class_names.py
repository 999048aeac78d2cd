"""The 200 classes of ActivityNet v1.3, in the order of the published code."""

from __future__ import annotations

from importlib import resources


def activitynet_classes() -> tuple[str, ...]:
    """Class names of ActivityNet v1.3."""
    text = resources.files("stale_edge").joinpath("data/activitynet_classes.txt").read_text(encoding="utf-8")
    return tuple(text.split("\n")[:-1])


THUMOS14_CLASSES = (
    "BaseballPitch",
    "BasketballDunk",
    "Billiards",
    "CleanAndJerk",
    "CliffDiving",
    "CricketBowling",
    "CricketShot",
    "Diving",
    "FrisbeeCatch",
    "GolfSwing",
    "HammerThrow",
    "HighJump",
    "JavelinThrow",
    "LongJump",
    "PoleVault",
    "Shotput",
    "SoccerPenalty",
    "TennisSwing",
    "ThrowDiscus",
    "VolleyballSpiking",
)
"""The 20 classes of THUMOS14's temporal task, in the order of their labels."""
