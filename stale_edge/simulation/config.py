"""All parameters of a simulated world. Together with the seeds of `world` they give every video again.

Three kinds of numbers are in here, and each field says which it is:

* *measured*: taken from the real data, see `measured`;
* *calibrated*: chosen so that a figure of the simulated videos meets a measured or published one (which one is said);
* *assumed*: nothing at hand measures it. These are the ones to vary when a conclusion might hang on them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from stale_edge.class_names import activitynet_classes
from stale_edge.simulation.timeline import ACTIVITYNET, LAYOUTS
from stale_edge_runtime.contract import MAX_CLASSES
from stale_edge_runtime.errors import UsageError

_WHOLE_NUMBERS = {"classes": 1, "seen_classes": 1, "classes_per_group": 1, "feature_dim": 8, "semantic_dim": 1}
_SHARES = ("group_share", "text_common_share", "alignment", "shared_share", "semantic_share", "distractor_group_share")
_LARGEST = 1e6
ADDED = frozenset({"boundary_jitter", "layout"})
"""Parameters that worlds of earlier versions lack."""


@dataclass(frozen=True)
class WorldConfig:
    """Configuration of a simulated world."""

    classes: int = 200
    """Number of classes C, as ActivityNet has."""
    seen_classes: int = 150
    """Classes that training shows; the others are for the open set."""
    seed: int = 0
    """Seed of everything."""
    feature_dim: int = 512
    """Width D of features and text embeddings, as CLIP ViT-B has."""
    snippet_s: float = 16 / 30
    """Seconds of a snippet: 16 frames at 30 a second, as the published features."""

    classes_per_group: int = 4
    """Classes that mean something similar; ActivityNet's taxonomy has about 50 lowest groups for its 200 classes."""
    semantic_dim: int = 128
    """Directions in which meanings differ; unequally strong, worth about 80 equal ones. Assumed."""
    group_share: float = 0.45
    """Share of a class's meaning (in variance) that its group has in common. Assumed."""

    text_norm: float = 8.0
    """Mean norm of a text embedding before normalisation (7 to 10 in CLIP ViT-B/32)."""
    text_common_share: float = 0.75
    """Cosine of two texts of different groups: all prompts start with the same words. Assumed."""

    common_norm: float = 8.5
    """Norm of what all images have in common. Gives a cosine of about 0.6 between frames of different videos."""
    outlier_value: float = -7.2
    """Largest channel of that outlier. Measured."""
    modality_cosine: float = 0.28
    """Cosine between the common directions of images and texts: the modality gap. Calibrated: raw cosines of images
    and texts come out at 0.2 to 0.3, as CLIP's do."""
    class_norm: float = 2.5
    """Norm of a class's direction while its action is in full view. Calibrated, see `alignment`."""
    alignment: float = 0.72
    """Cosine of that direction and of the class's text, both without what all have in common. With `class_norm` and
    `semantic_share` calibrated to what CLIP does without training: the mean of a video's raw cosines with 200 texts
    names the right class for about 64 % of the videos, that of single snippets within actions for about 61 %. Published
    for trimmed actions: 38 % of 700 classes (Kinetics-700, CLIP ViT-B/32, openai/CLIP issue 125); 65 % of 160 and 72 %
    of 101 classes (Kinetics-600 and UCF101, X-CLIP B/16, tuned on other classes)."""
    shared_share: float = 0.6
    """Share (in variance) of the rest of a class's direction that follows from its text by one linear map, the same for
    all classes, seen and unseen; what is left is its own. Assumed; a linear classifier trained on 20 videos of each of
    150 classes then names the right one for about 86 % of other videos."""
    scene_norm: float = 5.3
    """Norm of what is particular to a video. Calibrated: mean norm of features, and norm of a clip's mean."""
    semantic_share: float = 0.6
    """Share (in variance) of scenes, shots and noise that lies in the directions of meaning, where it can be mistaken
    for another class. Calibrated, see `alignment`."""

    context_mean: float = 0.65
    """Share of its class that a video shows while nothing happens: places and things stay. Assumed."""
    context_spread: float = 0.2
    """Spread of that share between videos. Assumed; the cosine with the right text then tells action from surroundings
    within a video with an area under the curve of 0.73."""
    visibility_spread: float = 0.35
    """Spread between shots of how much of the class is in view, action or not. Assumed."""
    actionness_norm: float = 0.3
    """Norm of what all actions have in common against what surrounds them, the same for unseen classes, because
    class-agnostic proposals do generalise to unseen classes (Lin et al., "BMN", ICCV 2019). Assumed; a linear
    classifier then tells snippets of actions from others of the same video with an area under the curve of 0.77
    (unseen: 0.75)."""
    actionness_spread: float = 0.7
    """Spread of that strength between videos, in its own units: in a part of them it points the other way. Assumed."""
    shot_mean_s: float = 14.0
    """Mean length of a shot. Assumed."""
    shot_norm: float = 2.9
    """Norm of what is particular to a shot. Calibrated: similarity of neighbours."""
    noise_norm: float = 2.6
    """Norm of what changes from snippet to snippet. Calibrated: norm around the mean."""
    noise_correlation: float = 0.1
    """Correlation of the noise at 2 s; shorter and longer spans follow a first-order process. Calibrated: correlation
    of neighbours."""

    distractors_per_minute: float = 0.5
    """Other short actions outside the annotated ones. Assumed."""
    distractor_group_share: float = 0.5
    """Share of the distractors from the video's own semantic group: the hardest negatives. Assumed."""
    distractor_norm: float = 2.0
    """Norm of their direction. Assumed."""

    boundary_jitter: float = 0.0
    """Standard deviation of each annotated boundary around the true one, in lengths of its instance: annotators
    disagree. Assumed; with 0, annotations are exact."""

    layout: str = ACTIVITYNET
    """Data set whose timelines videos have, one of `LAYOUTS`: `activitynet`, few long actions of one class, or
    `thumos14`, many short ones, of two classes in every seventh video. Measured."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self._check(field.name, getattr(self, field.name))
        if self.classes > MAX_CLASSES or self.feature_dim > 1 << 14 or self.semantic_dim > 1 << 14:
            raise UsageError("simulated world", f"is too large ({self.classes:,} classes, width {self.feature_dim:,})")
        if self.seen_classes > self.classes:
            raise UsageError("seen classes", f"are {self.seen_classes}, more than the {self.classes} classes")

    def _check(self, name: str, value: Any) -> None:
        if name == "layout":
            if value not in LAYOUTS:
                raise UsageError("world parameter layout", f"is {value!r}", f"give {' or '.join(LAYOUTS)}")
            return
        least = _WHOLE_NUMBERS.get(name)
        if name == "seed" or least is not None:
            if type(value) is not int or not (least or 0) <= value <= 1 << 62:
                raise UsageError(f"world parameter {name}", f"is {value!r}", f"give a whole number from {least or 0}")
        elif type(value) not in {int, float} or not abs(value) <= _LARGEST:
            raise UsageError(f"world parameter {name}", f"is {value!r}", "give a finite number")
        elif name in _SHARES and not 0.0 <= value <= 1.0:
            raise UsageError(f"world parameter {name}", f"is {value!r}", "give 0 to 1")
        elif value < 0.0 and name != "outlier_value":
            raise UsageError(f"world parameter {name}", f"is {value!r}", "give 0 or more")
        elif value == 0.0 and name in {"snippet_s", "text_norm", "shot_mean_s"}:
            raise UsageError(f"world parameter {name}", "is 0", "give more than 0")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes: ActivityNet's, in its order, then made-up ones."""
        known = activitynet_classes()[: self.classes]
        return known + tuple(f"Action {number}" for number in range(len(known) + 1, self.classes + 1))

    def to_dict(self) -> dict[str, Any]:
        """Give the parameters as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> WorldConfig:
        """Read what `to_dict` wrote; parameters that earlier versions lack take the value that they meant.

        Raises:
            UsageError: Unknown or missing parameters, or values that cannot be.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if odd := (names ^ set(values)) - (ADDED - set(values)):
            raise UsageError("world parameters", f"are not as expected: {', '.join(sorted(odd))[:200]}")
        return cls(**values)
