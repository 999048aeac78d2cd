"""Names of the files that the commands of a demo write and its page reads."""

from __future__ import annotations

from typing import Final

MAP: Final = "boundary-map"
"""Stem of the files of the network that localises."""
STALE: Final = "stale"
"""Stem of the files of the published network."""
NEAREST_TEXT: Final = "nearest-text"
"""Stem of the results of the reference point without training."""
CEILING: Final = "ceiling"
"""Stem of the results of the reference point with true outputs."""
PLAYER: Final = "player.html"
BENCH: Final = "bench.json"
FILM_COST: Final = "video.json"
WORLD: Final = "world"
STAND_INS: Final = "videos"
"""Folder of the videos that the player plays."""
SHOWN_VIDEOS: Final = 3
"""Videos of seen classes on the page and to play, and as many of unseen ones."""
