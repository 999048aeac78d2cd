"""The simulated world and the videos it gives: endless ones to train on, fixed ones to measure with.

Everything is drawn from numpy generators whose seed is (world, stream, epoch, index): a video depends on nothing but
these, so that any process can draw any video in any order and gets the same, to the rounding of float32.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from stale_edge.data.dataset import TrainingVideo
from stale_edge.simulation.appearance import draw_features
from stale_edge.simulation.config import WorldConfig
from stale_edge.simulation.measured import THUMOS_ONE_INSTANCE_SHARE, THUMOS_TWO_CLASSES_SHARE, TWO_CLASSES_SHARE
from stale_edge.simulation.semantics import Semantics, make_semantics
from stale_edge.simulation.timeline import THUMOS, draw_timeline, jittered
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.formats.annotations import Instance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_WORLD, _SPLIT = 0, 1
STREAMS: Final = {"training": 2, "selection": 3, "seen": 4, "unseen": 5, "finite": 6}
"""Videos of different streams have nothing in common but the world. `training`, `finite` (to train on as well) and
`selection` (to choose the best checkpoint by) and `seen` show the seen classes, `unseen` the others."""
PREFIXES: Final = {"training": "t", "selection": "h", "seen": "s", "unseen": "u", "finite": "f"}


class SimulatedWorld:
    """Classes with their texts, and all videos there could be.

    Args:
        config: Parameters of the world.
    """

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.config = config or WorldConfig()

    @classmethod
    def from_file(cls, path: Path) -> SimulatedWorld:
        """Read the world that a folder was written from, or a file `world.json` describes.

        Raises:
            InputMissingError: There is no such file.
            BadDataError: It does not describe a world of this version.
        """
        from stale_edge.simulation.folder import read_world_config

        return cls(read_world_config(path))

    @cached_property
    def semantics(self) -> Semantics:
        """Meaning and appearance of the classes."""
        return make_semantics(self.config, np.random.default_rng([self.config.seed, _WORLD]))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes, in the order of the text embeddings."""
        return self.config.class_names

    @property
    def text_embeddings(self) -> NDArray[np.float32]:
        """`[C, D]`, not normalised, without a background row."""
        return self.semantics.text_embeddings

    @cached_property
    def seen(self) -> tuple[int, ...]:
        """Indices of the classes that training shows, ascending."""
        order = np.random.default_rng([self.config.seed, _SPLIT]).permutation(self.config.classes)
        return tuple(sorted(order[: self.config.seen_classes].tolist()))

    @cached_property
    def unseen(self) -> tuple[int, ...]:
        """Indices of the other classes, ascending."""
        return tuple(sorted(set(range(self.config.classes)) - set(self.seen)))

    def training(self, videos: int) -> SimulatedVideos:
        """Videos of the seen classes, other ones in every epoch."""
        return SimulatedVideos(self, "training", videos)

    def finite(self, videos: int) -> SimulatedVideos:
        """Videos of the seen classes to train on that are the same in every epoch, as real ones are."""
        return SimulatedVideos(self, "finite", videos)

    def evaluation(self, stream: str, videos: int) -> SimulatedVideos:
        """Videos that are the same in every epoch.

        Args:
            stream: `"seen"`, `"unseen"`, or `"selection"` (seen classes, to choose the best checkpoint by).
            videos: Number of videos.

        Raises:
            UsageError: Unseen videos of a world where all classes are seen.
        """
        if stream == "unseen" and not self.unseen:
            raise UsageError("unseen videos", "cannot be: all classes are seen", "split the classes, as in 75/25")
        return SimulatedVideos(self, stream, videos)


class SimulatedVideos:
    """A number of videos of a world; a `VideoSource`.

    Args:
        world: World of the videos.
        stream: One of `STREAMS`; only `training` depends on the epoch.
        videos: Number of videos in an epoch.
    """

    def __init__(self, world: SimulatedWorld, stream: str, videos: int) -> None:
        if stream not in STREAMS or not 0 <= videos <= 1 << 32:
            raise UsageError("simulated videos", f"of stream {stream!r} and number {videos} cannot be")
        self.world = world
        self.stream = stream
        self.class_indices = world.unseen if stream == "unseen" else world.seen
        self.classes = tuple(world.classes[index] for index in self.class_indices)
        self._videos = videos

    @property
    def text_embeddings(self) -> NDArray[np.float32]:
        """`[classes, D]`, in the order of `classes`."""
        return np.ascontiguousarray(self.world.text_embeddings[list(self.class_indices)])

    def __len__(self) -> int:
        return self._videos

    def __iter__(self) -> Iterator[TrainingVideo]:
        """Yield the videos of the first epoch."""
        return (self.video(index, 0) for index in range(len(self)))

    def video(self, index: int, epoch: int) -> TrainingVideo:
        """Draw one video.

        Args:
            index: 0 … len - 1.
            epoch: Gives other videos in training; the fixed streams ignore it.

        Raises:
            IndexError: There is no such video.
        """
        if not 0 <= index < self._videos:
            raise IndexError(f"video {index} of {self._videos}")
        epoch = epoch if self.stream == "training" else 0
        config = self.world.config
        rng = np.random.default_rng([config.seed, STREAMS[self.stream], epoch, index])
        duration_s, segments = draw_timeline(rng, config.layout)
        labels = self._labels(rng, index, len(segments))
        features = draw_features(rng, config, self.world.semantics, duration_s, segments, labels)
        if config.boundary_jitter:  # last, so that the videos stay those of the exact world
            segments = jittered(rng, duration_s, segments, config.boundary_jitter)
        instances = tuple(
            Instance(start, end, self.world.classes[label])
            for (start, end), label in zip(segments.tolist(), labels.tolist(), strict=True)
        )
        name = f"{PREFIXES[self.stream]}{epoch:03d}_{index:06d}"
        return TrainingVideo(name, duration_s, instances, features)

    def _labels(self, rng: np.random.Generator, index: int, count: int) -> NDArray[np.int64]:
        """Classes of the instances, `[count]`: one for all but for a few videos.

        Fixed videos take the classes in turn: each has as many as any other, as in ActivityNet.
        """
        chosen = np.array(self.class_indices)
        drawn = int(rng.integers(len(chosen)))
        main = drawn if self.stream == "training" else index % len(chosen)
        labels = np.full(count, chosen[main])
        if self.world.config.layout == THUMOS:  # several classes by turns
            if count > 1 and rng.random() < THUMOS_TWO_CLASSES_SHARE / (1 - THUMOS_ONE_INSTANCE_SHARE):
                labels[rng.random(count) < 0.5] = chosen[int(rng.integers(len(chosen)))]
            return labels
        if count > 1 and rng.random() < TWO_CLASSES_SHARE:
            labels[count // 2 :] = chosen[int(rng.integers(len(chosen)))]
        return labels
