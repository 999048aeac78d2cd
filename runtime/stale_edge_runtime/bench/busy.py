"""Warning of a machine that did something else while it was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BUSY_LOAD: Final = 0.7
"""Processes that want the processor before anything is timed, above which a machine is busy."""
BUSY_STEAL_PERCENT: Final = 3.0
"""Share of time that a hypervisor gave to others, above which a machine is busy."""
BUSY_SPREAD: Final = 0.25
"""Interquartile range over median, above which times tell more of the machine than of the files."""


def busy_machine_warning(machine: Mapping[str, Any], spreads: Sequence[float]) -> str:
    """Word a warning where the machine did something else meanwhile; '' where it was quiet.

    Args:
        machine: Description of the machine, with its load.
        spreads: Interquartile range over median of each row.
    """
    load, steal = machine["load_1min"][0] or 0.0, machine["steal_percent"] or 0.0
    spread = sorted(spreads)[len(spreads) // 2] if spreads else 0.0
    found = [
        f"load {load:g} before the first run" if load > BUSY_LOAD else "",
        f"{steal:g} % of the processor's time went to other machines" if steal > BUSY_STEAL_PERCENT else "",
        f"half of the rows spread by {spread:.0%} or more" if spread > BUSY_SPREAD else "",
    ]
    reasons = ", ".join(filter(None, found))
    return f"BUSY MACHINE, DO NOT CITE THESE TIMES: {reasons}" if reasons else ""
