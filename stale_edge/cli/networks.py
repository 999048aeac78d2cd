"""Networks and presets as options name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stale_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from stale_edge.networks.base import NetworkSpec


def network_spec(name: str, preset: str | None = None) -> NetworkSpec:
    """Find a network, and check that it has a preset.

    Raises:
        UsageError: This version knows no such network, or the network no such preset; the message lists them.
    """
    from stale_edge.networks.registry import NETWORKS

    if name not in NETWORKS:
        raise UsageError("--network", f"{name!r} is not known", f"choose from {', '.join(NETWORKS)}")
    spec = NETWORKS[name]
    if preset is not None and preset not in spec.presets:
        known = ", ".join(spec.presets)
        cure = f"choose from {known}" if known else f"leave it out: {name} has one configuration"
        raise UsageError("--preset", f"{preset!r} is not known", cure)
    return spec
