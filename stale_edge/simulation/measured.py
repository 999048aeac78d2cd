"""Figures of the real data that the simulated world is drawn from, and how each was measured.

Annotations: the 9,649 training videos of ActivityNet v1.3 in `anet_anno_action.json` with the subsets of
`video_info_new.csv` (docs/protocol.md §1 (a)), 14,859 instances, segments cut to the video. `LEVELS` are the quantiles
that were taken, over videos except for the gaps' share. Groups are by the number of instances of a video: how long it
is and how its instances lie depends on that number more than on anything else.

Left out on purpose: overlapping instances (2.8 % of neighbouring pairs), segments of length zero, exact
duplicates and segments past the end of their video: dirt of annotators, not of the world.

Features: the one real file at hand, CLIP ViT-B/32 features of a 30 s clip, 15 snippets of 2 s, 512 wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LEVELS: Final = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Quantiles of every table; above the last one its value is repeated (the longest video lasts 755 s)."""

INSTANCE_COUNTS: Final = {
    1: 0.7539,
    2: 0.1312,
    3: 0.0479,
    4: 0.0266,
    5: 0.0155,
    6: 0.0099,
    7: 0.0051,
    8: 0.0035,
    9: 0.0020,
    10: 0.0015,
    11: 0.0011,
    12: 0.0004,
    13: 0.0004,
    15: 0.0003,
    18: 0.0002,
    19: 0.0001,
    20: 0.0001,
    23: 0.0002,
}
"""Share of the videos with so many instances; the mean is 1.54."""

TWO_CLASSES_SHARE: Final = 0.0021
"""Share of the videos with two classes among those with several instances (0.05 % of all)."""

SHORTEST_S: Final = 0.6
"""Half a percent of the instances are shorter."""


@dataclass(frozen=True)
class TimelineFigures:
    """Layout of videos with a similar number of instances."""

    durations_s: tuple[float, ...]
    """Length of the video, quantiles."""
    coverage: tuple[float, ...]
    """Share of the video that its instances cover, quantiles."""
    length_variation: tuple[float, ...]
    """Standard deviation over mean of the lengths within one video, quantiles; none for one instance."""
    starts_at_once: float
    """Share of the videos whose first instance starts in the first 0.5 %."""
    ends_at_last: float
    """Share of the videos whose last instance ends in the last 0.5 %."""
    border_weight: float
    """Mean time before the first and after the last instance, in gaps between two."""


ONE: Final = TimelineFigures(
    durations_s=(1.6, 7.1, 15.5, 25.6, 44.0, 63.1, 81.1, 103.7, 127.5, 153.0, 179.6, 207.9, 223.3, 236.3),
    coverage=(0.0, 0.022, 0.133, 0.259, 0.46, 0.603, 0.708, 0.792, 0.858, 0.906, 0.952, 0.996, 1.0, 1.0),
    length_variation=(),
    starts_at_once=0.245,
    ends_at_last=0.175,
    border_weight=1.0,
)
LEAD_SHARE: Final = (0.0, 0.0, 0.001, 0.012, 0.16, 0.307, 0.415, 0.505, 0.591, 0.679, 0.784, 0.917, 0.993, 1.0)
"""Share of the uncovered time before the instance of a video with one, quantiles."""
TWO: Final = TimelineFigures(
    durations_s=(5.1, 15.9, 32.1, 46.5, 65.8, 85.9, 107.0, 126.8, 145.5, 168.9, 189.0, 212.3, 224.1, 237.1),
    coverage=(0.002, 0.043, 0.091, 0.161, 0.264, 0.37, 0.469, 0.565, 0.655, 0.722, 0.796, 0.87, 0.91, 0.984),
    length_variation=(0.0, 0.0, 0.027, 0.055, 0.125, 0.207, 0.273, 0.363, 0.448, 0.55, 0.679, 0.816, 0.905, 0.971),
    starts_at_once=0.150,
    ends_at_last=0.081,
    border_weight=1.2,
)
FEW: Final = TimelineFigures(
    durations_s=(6.0, 31.2, 52.6, 64.1, 89.3, 106.8, 123.3, 143.0, 163.1, 181.2, 199.6, 215.1, 225.3, 236.0),
    coverage=(0.033, 0.058, 0.087, 0.129, 0.193, 0.252, 0.324, 0.392, 0.466, 0.549, 0.641, 0.743, 0.824, 0.986),
    length_variation=(0.041, 0.075, 0.157, 0.225, 0.298, 0.388, 0.467, 0.537, 0.606, 0.68, 0.776, 0.911, 1.066, 1.247),
    starts_at_once=0.111,
    ends_at_last=0.089,
    border_weight=1.4,
)
MANY: Final = TimelineFigures(
    durations_s=(25.5, 33.5, 73.3, 90.8, 114.1, 133.2, 151.9, 168.6, 182.2, 195.3, 208.7, 221.8, 229.6, 237.7),
    coverage=(0.055, 0.102, 0.141, 0.188, 0.264, 0.322, 0.373, 0.42, 0.495, 0.556, 0.611, 0.71, 0.783, 0.998),
    length_variation=(0.049, 0.118, 0.195, 0.286, 0.379, 0.446, 0.531, 0.595, 0.677, 0.756, 0.865, 1.118, 1.358, 1.921),
    starts_at_once=0.138,
    ends_at_last=0.087,
    border_weight=1.6,
)


def figures(instances: int) -> TimelineFigures:
    """Figures of videos with so many instances: one, two, three or four, five or more."""
    return {1: ONE, 2: TWO, 3: FEW, 4: FEW}.get(instances, MANY)


# THUMOS14: the 412 videos of validation and test with annotated actions, 5,799 instances of 20 classes; `Ambiguous` is
# left out, and of overlapping instances (two names of one moment, as Diving and CliffDiving) the first is taken.
THUMOS_COUNTS: Final = (1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 14.0, 21.0, 33.9, 47.0, 77.7)
"""Instances of a video, quantiles; the mean is 14.1."""
THUMOS_TWO_CLASSES_SHARE: Final = 0.148
"""Share of the videos with several classes; two, but for one video, mostly by turns."""
THUMOS_ONE_INSTANCE_SHARE: Final = 0.075
"""Share of the videos with one instance, by the quantiles above."""
THUMOS_SHORTEST_S: Final = 0.5
"""One percent of the instances are shorter; half are shorter than 3.2 s."""
THUMOS_FEW: Final = TimelineFigures(
    durations_s=(8.9, 15.7, 20.3, 28.0, 34.8, 47.1, 65.0, 78.3, 98.6, 121.1, 145.8, 178.2, 228.2, 380.1),
    coverage=(0.003, 0.007, 0.028, 0.037, 0.055, 0.073, 0.107, 0.163, 0.211, 0.265, 0.358, 0.582, 0.84, 0.968),
    length_variation=(0.0, 0.022, 0.061, 0.083, 0.119, 0.162, 0.203, 0.251, 0.287, 0.422, 0.472, 0.591, 0.812, 0.911),
    starts_at_once=0.072,
    ends_at_last=0.014,
    border_weight=1.0,
)
THUMOS_SOME: Final = TimelineFigures(
    durations_s=(32.6, 35.0, 50.6, 67.6, 98.4, 114.1, 127.3, 152.4, 177.9, 201.9, 231.9, 295.9, 427.9, 540.0),
    coverage=(0.037, 0.063, 0.083, 0.104, 0.139, 0.17, 0.195, 0.221, 0.251, 0.318, 0.359, 0.456, 0.556, 0.827),
    length_variation=(0.116, 0.135, 0.168, 0.208, 0.238, 0.282, 0.33, 0.365, 0.409, 0.509, 0.599, 0.737, 0.967, 1.188),
    starts_at_once=0.065,
    ends_at_last=0.026,
    border_weight=1.4,
)
THUMOS_MANY: Final = TimelineFigures(
    durations_s=(90.6, 103.7, 137.0, 151.1, 183.0, 197.3, 215.3, 235.4, 294.1, 381.8, 593.3, 848.4, 966.0, 1390.6),
    coverage=(0.095, 0.121, 0.152, 0.178, 0.21, 0.255, 0.315, 0.37, 0.412, 0.445, 0.516, 0.649, 0.705, 0.86),
    length_variation=(0.173, 0.178, 0.207, 0.247, 0.281, 0.313, 0.34, 0.383, 0.447, 0.483, 0.553, 0.68, 0.78, 1.177),
    starts_at_once=0.215,
    ends_at_last=0.074,
    border_weight=2.3,
)


def thumos_figures(instances: int) -> TimelineFigures:
    """Figures of videos of THUMOS14 with so many instances: up to four, up to fourteen, more."""
    return THUMOS_FEW if instances < 5 else THUMOS_SOME if instances < 15 else THUMOS_MANY


# Of the real clip. `tests/stale_edge/test_simulation.py` takes the same figures of simulated clips.
SNIPPET_NORM: Final = 11.05
"""Mean norm of a snippet's features; its spread within the clip is 0.20."""
CLIP_MEAN_NORM: Final = 10.5
"""Norm of the clip's mean."""
AROUND_MEAN_NORM: Final = 3.34
"""Root mean square of the distance from that mean."""
NEIGHBOUR_COSINE: Final = 0.937
"""Mean cosine of snippets 2 s apart."""
NEIGHBOUR_CORRELATION: Final = 0.276
"""Correlation around the mean of snippets 2 s apart; 0.21 at 4 s, 0.13 at 6 s, 0 at 8 s (all pulled down by
subtracting the mean of 15)."""
OUTLIER_VALUE: Final = -7.2
"""Mean of the channel that holds most of the mean's norm; the next one holds 2.5, half of them less than 0.18."""
CLIP_SNIPPET_S: Final = 2.0
"""Seconds from one snippet of the clip to the next."""
CLIP_SNIPPETS: Final = 15
"""Snippets of the clip."""
