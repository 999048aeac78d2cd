"""Inputs of a training from the options of `train`: videos, text, and the network's first weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stale_edge_runtime.contract import STALE_NETWORK
from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.feature_origin import FeatureOrigin

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from stale_edge.data.dataset import AnnotatedFeatures, VideoSource
    from stale_edge.data.vocabulary import ClassEmbeddings
    from stale_edge.networks.base import NetworkSpec
    from stale_edge.simulation import SimulatedVideos, SimulatedWorld
    from stale_edge.training.run import TrainingRun
    from stale_edge.training.settings import TrainingSettings

DEFAULT_WORLD = Path("default")
_TEXT_CURE = (
    "give --text-embeddings FILE.npy with --classes FILE, or --text-tower MODEL.safetensors, or --initial "
    "MODEL.safetensors; or, with boundary-map and no text at all, --class-means"
)


@dataclass(frozen=True)
class TrainingInputs:
    """Inputs that the user named."""

    annotations: Path | None
    """Ground truth in any form."""
    features: Path | None
    """Folder of feature files, or one HDF5 file."""
    simulated: Path | None
    """A simulated world; `default` for the one that needs no folder."""
    split: Path | None
    """Classes to teach."""
    subset: str | None
    """Subset of the annotations."""
    fraction: float
    """Share of the videos."""
    snippet_s: float | None
    """Seconds of a snippet."""
    held_out: float
    """Share of the videos to choose the best checkpoint by; 0 for none, so that the last weights are kept."""
    videos: int
    """Simulated videos in an epoch."""
    text_embeddings: Path | None
    """Text embeddings [C, D] of `classes`."""
    classes: Path | None
    """Names of the classes of `text_embeddings`."""
    text_tower: Path | None
    """Checkpoint whose text tower to use."""
    initial: Path | None
    """Checkpoint to start from."""
    ours: tuple[str, ...] = ()
    """Names of design options to switch on."""
    network: str = STALE_NETWORK
    """Kind of network, a key of `NETWORKS`; that of the checkpoint where one is given to start from."""
    preset: str | None = None
    """Published configuration to start from; the network's first where none is named."""
    numbered_classes: Path | None = None
    """Names of the classes that the annotations number."""
    class_means: bool = False
    """Whether classes are given by the mean features of their actions instead of text."""
    fit_share: float = 0.0
    """Share of the training videos that only the closed form of the network is fitted on; 0 fits it on those that are
    trained on."""

    def check(self, *, uses_text: bool = True) -> None:
        """Refuse options that do not go together.

        Raises:
            UsageError: The message names them.
        """
        real = {"--annotations": self.annotations, "--features": self.features}
        of_real: dict[str, object] = {
            "--split": self.split,
            "--class-names": self.numbered_classes,
            "--subset": self.subset,
            "--snippet-seconds": self.snippet_s,
        }
        texts: dict[str, object] = {"--text-embeddings": self.text_embeddings, "--text-tower": self.text_tower}
        texts |= {"--class-means": self.class_means or None}
        if self.simulated is not None:
            shares = {
                "--fraction": None if self.fraction == 1 else self.fraction,
                "--fit-share": self.fit_share or None,
            }
            others = {**real, **of_real, **texts, **shares}
            if given := [name for name, value in others.items() if value is not None]:
                raise UsageError(given[0], "does not go with --simulated, which brings its own", "leave one out")
        elif absent := [name for name, value in real.items() if value is None]:
            raise UsageError(absent[0], "is missing", "name annotations and features, or give --simulated default")
        elif len([value for value in texts.values() if value]) > 1:
            given = [name for name, value in texts.items() if value]
            raise UsageError(given[0], f"does not go with {given[1]}", "choose where the classes come from")
        elif (self.text_embeddings is None) != (self.classes is None):
            raise UsageError("--text-embeddings and --classes", "belong together", "give both, or neither")
        elif not uses_text and (given := [name for name, value in texts.items() if value]):
            raise UsageError(given[0], f"plays no part in the network {self.network}", "leave it out")
        elif uses_text and not any((*texts.values(), self.initial)):
            raise UsageError("training", "needs text embeddings of the classes", _TEXT_CURE)
        self._check_start()

    def _check_start(self) -> None:
        """Refuse shares that cannot be, and options that do not go with the weights to start from."""
        if not 0 <= self.held_out < 1:
            raise UsageError("--held-out", f"is {self.held_out:g}", "give 0 up to 1")
        if not 0 <= self.fit_share < 1:
            raise UsageError("--fit-share", f"is {self.fit_share:g}", "give 0 up to 1")
        if self.fit_share and self.initial:
            raise UsageError("--fit-share", "does not go with --initial, which is fitted already", "leave one out")
        if self.ours and self.initial:
            raise UsageError("--design", "does not go with --initial, which has its own design", "leave one out")
        if self.text_tower and self.initial:
            raise UsageError("--text-tower", "does not go with --initial, which has its own", "leave one out")


def make_training_run(options: TrainingInputs, settings: TrainingSettings, *, train_text: bool | None) -> TrainingRun:
    """Everything that is taught, and to whom.

    Args:
        options: Inputs that the user named; checked.
        settings: Settings of the training.
        train_text: Whether to train the text tower; as the settings say, where there is one, when not given.

    Raises:
        StaleEdgeError: A file is missing or not what it must be, or the options do not fit what is in them.
    """
    import torch

    from stale_edge.data.dataset import OneClass, feature_norm_of
    from stale_edge.data.reference_points import common_feature
    from stale_edge.simulation import SimulatedWorld
    from stale_edge.training.closed_form import fit_closed_form
    from stale_edge.training.run import TrainingRun

    world = None
    if options.simulated is not None:
        world = SimulatedWorld() if options.simulated == DEFAULT_WORLD else SimulatedWorld.from_file(options.simulated)
    first = _First.read(options, world.config.feature_dim if world else None)
    spec, config = first.spec, first.config(1)
    source, held_out, to_fit_on = _videos(options, settings, config, spec, world)
    measured: dict[str, Any] = {
        "feature_norm": feature_norm_of(source),
        "features": _learned_origin(source, spec, config),
    }
    network = first.network(len(source.classes), settings.seed)
    if not spec.uses_text:
        names = spec.class_names(network.config, source.classes)
        if first.classes and first.classes != names:
            problem = f"knows {len(first.classes)} other classes than the {len(names)} of the videos"
            raise UsageError(options.initial, problem, "start anew without --initial")
        if len(names) == 1 and len(source.classes) > 1:
            source, held_out = OneClass(source), OneClass(held_out)
        data = _in_short(options, source, held_out, world)
        return TrainingRun(network, torch.zeros(0, 1), source, held_out, data, names, None, first.name, **measured)
    given = _means_of(options, spec, to_fit_on) or _given_text(options, world, config.feature_dim)
    if given and network.text_tower is not None:
        network = _without_tower(spec, network)
    vocabulary = given or first.stored
    if vocabulary is None and network.text_tower is None:
        raise BadDataError(options.initial, "has neither a text tower nor text embeddings", _TEXT_CURE)
    names = vocabulary.classes if vocabulary else source.classes
    embeddings = vocabulary.embeddings if vocabulary else None
    if vocabulary is not None:
        if train_text:
            raise UsageError("--train-text", "needs a text tower, and text embeddings are given", "leave it out")
        text = vocabulary.rows(source.classes)
    else:
        text = _tower_text(network, source.classes, train=settings.train_text if train_text is None else train_text)
    data = _in_short(options, source, held_out, world)
    if options.initial is None:
        spec.set_statistics(
            network,
            lambda: (torch.from_numpy(common_feature(source)), _embeddings(network, text).mean(dim=0)),
        )
        unused_epoch = None if world is None else settings.epochs
        record = fit_closed_form(spec, network, to_fit_on, _embeddings(network, text), unused_epoch=unused_epoch)
        data |= _fit_record(record, shown=world is None and to_fit_on is source)
    return TrainingRun(network, text, source, held_out, data, names, embeddings, first.name, **measured)


def _learned_origin(source: VideoSource, spec: NetworkSpec, config: Any) -> FeatureOrigin:
    """Give the way the features were made, without the step where every video is resized to one length."""
    origin: FeatureOrigin = getattr(source, "origin", FeatureOrigin())
    return origin if spec.training_length(config) is None else replace(origin, step_s=None)


def _videos(
    options: TrainingInputs, settings: TrainingSettings, config: Any, spec: NetworkSpec, world: SimulatedWorld | None
) -> tuple[VideoSource, VideoSource, VideoSource]:
    """Open the videos to train on, those to choose the best checkpoint by, and those to fit a closed form on."""
    if world is not None:
        source, held_out = _drawn_videos(options, world)
        return source, held_out, source
    taught, selected = _real_videos(options, settings, config, spec)
    if not options.fit_share:
        return taught, selected, taught
    if spec.fit is None:
        raise UsageError("--fit-share", f"the network {options.network} fits nothing before training", "leave it out")
    taught, to_fit_on = taught.hold_out(options.fit_share, settings.seed + 1, "--fit-share")
    return taught, selected, to_fit_on


def _means_of(options: TrainingInputs, spec: NetworkSpec, source: VideoSource) -> ClassEmbeddings | None:
    """Take mean features in the place of text embeddings where that is asked for."""
    import torch

    from stale_edge.data.vocabulary import ClassEmbeddings
    from stale_edge.training.closed_form import class_means, videos_to_fit_on

    if not options.class_means:
        return None
    if spec.fit is None:
        raise UsageError("--class-means", f"does not go with the network {options.network}", "give it text")
    means = class_means(videos_to_fit_on(source, unused_epoch=None), source.classes)
    return ClassEmbeddings(source.classes, torch.from_numpy(means))


def _fit_record(record: dict[str, Any], *, shown: bool) -> dict[str, Any]:
    """Put the record of a fit, where there is one, into the summary of the data."""
    return {"fit": {**record, "videos are trained on too": shown}} if record else {}


def _in_short(
    options: TrainingInputs, source: VideoSource, held_out: VideoSource, world: SimulatedWorld | None
) -> dict[str, Any]:
    """Summarise the data as JSON: a training is resumed only with the same."""
    return {
        "classes": list(source.classes),
        "videos": len(source),
        "held-out videos": len(held_out),
        "fraction": options.fraction,
        "first weights": _digest(options.initial or options.text_tower),
        "text embeddings": _digest(options.text_embeddings),
        "world": world.config.to_dict() if world else None,
    }


def _given_text(options: TrainingInputs, world: SimulatedWorld | None, width: int) -> ClassEmbeddings | None:
    """Text embeddings from a file or from the simulated world."""
    import torch

    from stale_edge.data.vocabulary import ClassEmbeddings, read_vocabulary
    from stale_edge_runtime.formats.features import check_features

    if world is not None:
        rows = check_features(world.text_embeddings, width, subject="text embeddings of the world", row="text row")
        return ClassEmbeddings(world.classes, torch.from_numpy(rows))
    if options.text_embeddings is None or options.classes is None:
        return None
    return read_vocabulary(options.classes, options.text_embeddings, width)


@dataclass(frozen=True)
class _First:
    """The network that a training starts from."""

    name: str
    """Kind of network."""
    spec: NetworkSpec
    config: Callable[[int], Any]
    """Configuration for so many classes."""
    network: Callable[[int, int], Any]
    """Network with its first weights, for so many classes and a seed."""
    stored: ClassEmbeddings | None = None
    """Text embeddings that its checkpoint stores."""
    classes: tuple[str, ...] = ()
    """Classes that its checkpoint names."""

    @classmethod
    def read(cls, options: TrainingInputs, width: int | None) -> _First:
        """Read a checkpoint, or choose a configuration.

        Args:
            options: Inputs that the user named.
            width: Width of the features, where the data tell.
        """
        from stale_edge.checkpoint import load_checkpoint
        from stale_edge.data.vocabulary import ClassEmbeddings
        from stale_edge.networks.base import FirstSizes
        from stale_edge.networks.registry import NETWORKS
        from stale_edge.training.first_weights import first_network

        if options.initial is not None:
            checkpoint = load_checkpoint(options.initial)
            text, network = checkpoint.text_embeddings, checkpoint.network
            vocabulary = ClassEmbeddings(checkpoint.classes, text) if text is not None else None
            spec = NETWORKS[checkpoint.network_name]
            name, classes = checkpoint.network_name, checkpoint.classes
            return cls(name, spec, lambda _: network.config, lambda *_: network, vocabulary, classes)
        spec = NETWORKS[options.network]
        tower = None if options.text_tower is None else _tower_network(options)
        sizes = FirstSizes(width or spec.feature_dim(options.preset), 1, options.ours, options.preset)
        if tower is not None:
            sizes = replace(sizes, feature_dim=tower.config.feature_dim)

        def config(classes: int) -> Any:
            first: Any = spec.first_config(replace(sizes, classes=classes))
            return first if tower is None else replace(tower.config, ours=first.ours)

        def network_of(classes: int, seed: int) -> Any:
            made: Any = first_network(spec, config(classes), seed)
            if tower is not None:
                made.text_tower = tower.text_tower
            return made

        return cls(options.network, spec, config, network_of)


def _tower_network(options: TrainingInputs) -> Any:
    """Load the network whose text tower to use.

    Raises:
        BadDataError: It has none.
        UsageError: It is of another kind.
    """
    from stale_edge.checkpoint import load_checkpoint

    assert options.text_tower is not None  # noqa: S101 (the caller checks)
    checkpoint = load_checkpoint(options.text_tower)
    if checkpoint.network.text_tower is None:
        raise BadDataError(options.text_tower, "has no text tower", _TEXT_CURE)
    if checkpoint.network_name != options.network:
        problem = f"is of the network {checkpoint.network_name}, not {options.network}"
        raise UsageError(options.text_tower, problem, f"add --network {checkpoint.network_name}")
    return checkpoint.network


def _without_tower(spec: NetworkSpec, network: Any) -> Any:
    """Rebuild a network without its text tower, to run on text embeddings."""
    smaller = spec.build(replace(network.config, text=None))
    state = network.state_dict()
    smaller.load_state_dict({name: state[name] for name in smaller.state_dict()})
    return smaller


def _real_videos(
    options: TrainingInputs, settings: TrainingSettings, config: Any, spec: NetworkSpec
) -> tuple[AnnotatedFeatures, AnnotatedFeatures]:
    from stale_edge.data.dataset import AnnotatedFeatures

    assert options.annotations is not None and options.features is not None  # noqa: S101, PT018 (TrainingInputs.check)
    videos = AnnotatedFeatures.open(
        options.annotations,
        options.features,
        numbered_classes=options.numbered_classes,
        split=options.split,
        subset=options.subset,
        fraction=options.fraction,
        seed=settings.seed,
        compat=settings.compat,
        feature_dim=config.feature_dim,
        length=spec.training_length(config),
        snippet_s=options.snippet_s,
    )
    return videos.hold_out(options.held_out, settings.seed)


def _drawn_videos(options: TrainingInputs, world: SimulatedWorld) -> tuple[SimulatedVideos, SimulatedVideos]:
    """Endless videos, and others of the same classes: one of each class at least, where any are wanted."""
    held_out = options.held_out and max(round(options.held_out * options.videos), len(world.seen))
    return world.training(options.videos), world.evaluation("selection", int(held_out))


def _tower_text(network: Any, classes: tuple[str, ...], *, train: bool) -> Tensor:
    """Token ids of the classes for a tower that is trained; else their embeddings, computed once."""
    import torch

    from stale_edge.networks.clip_text import tokenize

    config = network.config.text
    token_ids = torch.from_numpy(tokenize(classes, config.context if config else 77))
    return token_ids if train else _embeddings(network, token_ids)


def _embeddings(network: Any, text: Tensor) -> Tensor:
    """Embeddings [C, D] of the text of a training: those, or token ids."""
    import torch

    if text.is_floating_point():
        return text
    with torch.inference_mode():
        embeddings: Tensor = network.eval().encode_text(text).clone()
        return embeddings


def _digest(path: Path | None) -> str | None:
    if path is None:
        return None
    from stale_edge.checkpoint import file_sha256

    return file_sha256(path)
