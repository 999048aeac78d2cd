"""A simulated data set that behaves like CLIP features of ActivityNet's videos.

`measured` holds the figures of the real data, `timeline` draws when things happen from them, `semantics` the classes
as text and as image directions, `appearance` the features, `world` the videos, and `folder` writes and reads a world
in the formats of the real data.
"""

from stale_edge.simulation.config import WorldConfig
from stale_edge.simulation.world import SimulatedVideos, SimulatedWorld

__all__ = ["SimulatedVideos", "SimulatedWorld", "WorldConfig"]
