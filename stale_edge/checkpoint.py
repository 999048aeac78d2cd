"""Checkpoints: our `.safetensors`, and the published pickles as something to convert, never to run.

Source: docs/network.md, "Published checkpoints"; docs/reliability.md.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stale_edge.networks.clip_sources import TOWER_KEY, TOWER_PREFIX, tower_of_state
from stale_edge.networks.registry import NETWORKS
from stale_edge.networks.weight_files import check_finite, check_tensors, load_weights
from stale_edge_runtime.contract import STALE_NETWORK
from stale_edge_runtime.errors import BadDataError, InputMissingError, listed, reading
from stale_edge_runtime.feature_origin import FeatureOrigin
from stale_edge_runtime.formats.class_list import is_class_name
from stale_edge_runtime.formats.file_kinds import Wanted, misplaced, read_head
from stale_edge_runtime.formats.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from stale_edge.networks.base import PublishedNames
    from stale_edge.networks.clip_image import ImageTowerConfig

FORMAT_FAMILY = "stale-edge-checkpoint-"
FORMAT = f"{FORMAT_FAMILY}1"
MAX_FEATURE_NORM = 1e6
MAX_SIZE = 1 << 20
"""Largest number in a configuration; the largest of ours is a vocabulary of 49,408."""
METADATA_KEY = "stale_edge"
MAX_SCORE = 1e9
"""Least score that is none: whatever states one is damaged."""
SUGGESTED_MIN_SCORE = "suggested_min_score"
"""Key of the origin: score of the highest F1 on the held-out videos of the training."""
TEXT_KEY = "class_text_embeddings"
_METADATA_FIELDS = {"format", "network", "config", "classes", "origin", "feature_norm", "features", TOWER_KEY}
_TOWER_NAMES = ("txt_model.vision_model.", "txt_model.visual_projection.")


@dataclass(frozen=True)
class Checkpoint:
    """A network with all that is needed to use it."""

    network: Any
    """Network in evaluation mode, on the CPU."""
    classes: tuple[str, ...]
    """Class names it was trained or converted with, in order."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """Source of the weights; `{"source": "seeded", "seed": …}` marks an untrained network."""
    text_embeddings: Tensor | None = None
    """float32 [C, D], of the classes: for a network without a text tower."""
    network_name: str = STALE_NETWORK
    """Kind of network, a key of `NETWORKS`."""
    feature_norm: float | None = None
    """Median length of the rows of features that were learned, where known."""
    features: FeatureOrigin = field(default_factory=FeatureOrigin)
    """The way the features were made that were learned, where known."""
    image_tower: tuple[ImageTowerConfig, Mapping[str, Tensor]] | None = None
    """Sizes and weights of the image tower that a published checkpoint holds; it is written, and read only by
    `clip_sources`: no network needs it."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further metadata that a later version wrote, as it stands in the file."""

    @property
    def untrained(self) -> bool:
        """Whether the weights are seeded noise."""
        return self.origin.get("source") == "seeded"

    @property
    def suggested_min_score(self) -> float | None:
        """Score of the highest F1 on held-out videos, where a training found one."""
        score = self.origin.get(SUGGESTED_MIN_SCORE)
        if not isinstance(score, int | float) or isinstance(score, bool) or not 0 < score < MAX_SCORE:
            return None
        return float(score)


@dataclass(frozen=True)
class Conversion:
    """Result of converting a published checkpoint."""

    checkpoint: Checkpoint
    """The result."""
    epoch: int | None
    """Training epoch that the file states."""
    used: int
    """Parameters taken over."""
    skipped: Mapping[str, int]
    """Parameters left out because nothing uses them, by the first parts of their names."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        CannotWriteError: The target cannot be written.
        StorageError: The disk is full or failed.
    """
    metadata = {
        **checkpoint.extra,
        "format": FORMAT,
        "network": checkpoint.network_name,
        "config": checkpoint.network.config.to_dict(),
        "classes": list(checkpoint.classes),
        "origin": dict(checkpoint.origin),
    }
    if checkpoint.feature_norm is not None:
        metadata["feature_norm"] = round(checkpoint.feature_norm, 4)
    if known := checkpoint.features.to_dict():
        metadata["features"] = known
    tensors = dict(checkpoint.network.state_dict())
    if checkpoint.text_embeddings is not None:
        tensors[TEXT_KEY] = checkpoint.text_embeddings
    if checkpoint.image_tower is not None:
        config, state = checkpoint.image_tower
        metadata[TOWER_KEY] = config.to_dict()
        tensors.update({TOWER_PREFIX + name: value for name, value in state.items()})
    write_tensors(path, tensors, metadata)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON metadata to a `.safetensors` file, whole or not at all.

    Raises:
        CannotWriteError: The target cannot be written.
        StorageError: The disk is full or failed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # One entry: the library writes several in an order that changes from run to run.
    entry = {METADATA_KEY: json.dumps(metadata, ensure_ascii=False)}
    with atomic_path(path) as temporary:
        try:
            save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, temporary, entry)
        except SafetensorError as error:
            # The library hides the operating system's error number in its text.
            raise OSError(_errno_in(str(error)), str(error)) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint that `save_checkpoint` wrote.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: It is not one of our checkpoints, or a tensor in it is not what the configuration says.
    """
    with _opened(path) as (file, stored):
        _check_sizes(path, stored.config.to_dict(), len(file.keys()))
        network, config, classes = _meta_network(stored.network_name, stored.config), stored.config, stored.classes
        expected = network.state_dict()
        if TEXT_KEY in file.keys():  # noqa: SIM118 (a safetensors file is no mapping)
            expected[TEXT_KEY] = torch.empty(len(classes), config.feature_dim, device="meta")
        found = {name for name in file.keys() if not name.startswith(TOWER_PREFIX)}  # noqa: SIM118 (no mapping)
        _check_names(path, expected.keys(), found)
        for name, value in expected.items():
            part = file.get_slice(name)
            _check_shape(path, name, value, tuple(part.get_shape()), str(part.get_dtype()), "F32")
        state = {name: file.get_tensor(name) for name in expected}
    check_finite(path, state)
    text = state.pop(TEXT_KEY, None)
    network.load_state_dict(state, assign=True)
    network = network.requires_grad_(requires_grad=False).eval()
    return Checkpoint(
        network,
        classes,
        stored.origin,
        text,
        stored.network_name,
        feature_norm=stored.feature_norm,
        features=stored.features,
        extra=stored.extra,
    )


def read_network_name(path: Path) -> str:
    """Read which network a checkpoint holds.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: It is not one of our checkpoints.
    """
    with _opened(path) as (_, stored):
        return stored.network_name


def read_published(path: Path, classes: tuple[str, ...] = (), config: Any | None = None) -> Conversion:
    """Read a checkpoint in the published format, running no code from it.

    Args:
        path: A `.pth.tar` file: a pickle with a `state_dict`, with or without DataParallel's prefix. Averaged
            weights, `state_dict_ema`, are taken where there are some: the published evaluation does.
        classes: Class names to store beside the weights; those of the network's data set by default.
        config: Sizes that the file's tensors do not tell; the published ones by default.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: It is not such a checkpoint; the message names the keys that do not fit.
    """
    path = _existing(path)
    content = _load_pickle(path)
    stored: dict[str, Tensor] = content[_weights_key(content)]
    names = _without_parallel_prefix(stored)
    state = {names[key]: value for key, value in stored.items()}
    name, published = _published_network(state)
    network = _meta_network(name, published.config(state, config))
    classes = _class_names(path, name, network.config, classes or published.classes(network.config))
    expected = {published.name(ours): (ours, value) for ours, value in network.state_dict().items()}
    unused = [key for key in state if key not in expected and published.is_unused(key)]
    tower = tower_of_state(state)
    _check_names(path, expected.keys(), state.keys() - set(unused))
    for key, (_, value) in expected.items():
        found = state[key]
        _check_shape(path, key, value, tuple(found.shape), str(found.dtype), "torch.float32")
    used = {ours: state[key].detach().contiguous() for key, (ours, _) in expected.items()}
    check_finite(path, used)
    network.load_state_dict(used, assign=True)
    origin: dict[str, Any] = {"source": "published", "file": path.name, "sha256": file_sha256(path)}
    if isinstance(content.get("seed"), int):
        origin = {"source": "seeded", "seed": content["seed"], "sha256": origin["sha256"]}
    epoch = content.get("epoch")
    kept = _TOWER_NAMES if tower else ()
    skipped = Counter(".".join(key.split(".")[:2]) for key in unused if not key.startswith(kept))
    network = network.requires_grad_(requires_grad=False).eval()
    known = origin["source"] == "published"
    norm = published.feature_norm if known else None
    features = FeatureOrigin(extractor=published.feature_extractor if known else "")
    checkpoint = Checkpoint(
        network, classes, origin, network_name=name, feature_norm=norm, features=features, image_tower=tower
    )
    return Conversion(checkpoint, epoch if isinstance(epoch, int) else None, len(used), skipped)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits.

    Raises:
        InputMissingError: There is no such file, or it cannot be read.
        StorageError: The disk failed.
    """
    with reading(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


_REPEATED = ("layers", "blocks", "levels", "depth")
"""Ends of the names of numbers in a configuration that repeat a part of the network."""
_RECONVERT = "make one with `stale-edge convert` or `stale-edge train`"
_NEWER = "use a newer stale-edge"
_AS_PUBLISHED = "it must be a file of the published code of STALE or ActionFormer"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, _Stored]]:
    """Open a checkpoint of ours; give the file and its metadata, checked."""
    from safetensors import SafetensorError, safe_open

    path = _existing(path)
    try:
        with reading(path), safe_open(path, framework="pt") as file:
            yield file, _read_metadata(path, file.metadata() or {})
    except SafetensorError as error:
        other = misplaced(path, read_head(path), Wanted.CHECKPOINT)
        raise other or BadDataError(path, f"is not a safetensors file ({error})", _RECONVERT) from error


def _existing(path: Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise InputMissingError(path, "no such file", "check the path")
    if not path.is_file():
        raise BadDataError(path, "is not a regular file", "name a checkpoint file")
    return path


def _check_sizes(path: Path, config: Mapping[str, Any], tensors: int) -> None:
    """Refuse a configuration that is too large for its file, before a network of it is built.

    Every layer has tensors, so there cannot be more layers, levels or blocks than tensors.
    """
    for name, value in config.items():
        if isinstance(value, dict):
            _check_sizes(path, value, tensors)
            continue
        parts = value if isinstance(value, list | tuple) else [value]
        numbers = [part for part in parts if isinstance(part, int)]
        count = max(numbers, default=0) if name.endswith(_REPEATED) else len(parts)
        if count > max(tensors, 1) or any(abs(number) > MAX_SIZE for number in numbers):
            raise BadDataError(path, f"metadata 'config' says {name} {str(value)[:40]}: too large", _RECONVERT)


def _meta_network(name: str, config: Any) -> Any:
    """Make a network of these sizes without memory for its weights."""
    with torch.device("meta"):
        return NETWORKS[name].build(config)


def _published_network(state: Mapping[str, Tensor]) -> tuple[str, PublishedNames]:
    """Find the network whose published names fit a file best, by the share of its own names that are there."""

    def fit(entry: tuple[str, PublishedNames]) -> float:
        name, published = entry
        wanted = [published.name(ours) for ours in _meta_network(name, published.config(state, None)).state_dict()]
        return sum(key in state for key in wanted) / len(wanted)

    known = [(name, spec.published) for name, spec in NETWORKS.items() if spec.published is not None]
    return max(known, key=fit) if len(known) > 1 else known[0]


def _class_names(path: Path, network_name: str, config: Any, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of a network's classes, one for each of its outputs where it has one for each.

    Raises:
        BadDataError: There are more or fewer.
    """
    spec = NETWORKS[network_name]
    wanted = spec.outputs_of(config)
    if wanted is not None and len(names) != wanted:
        raise BadDataError(path, f"has {wanted} classes, not {len(names)}", "give as many names with --classes FILE")
    return names


def _without_parallel_prefix(names: Iterable[str]) -> dict[str, str]:
    """Map names as stored to names without the `module.` that DataParallel puts before all of them."""
    stored = list(names)
    wrapped = bool(stored) and all(name.startswith("module.") for name in stored)
    return {name: name.removeprefix("module.") if wrapped else name for name in stored}


def _load_pickle(path: Path) -> dict[str, Any]:
    """Content of a published file, its state dict checked; sizes are checked before anything is unpacked."""
    content = load_weights(path, _AS_PUBLISHED)
    key = _weights_key(content) if isinstance(content, dict) else ""
    state = content.get(key) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state:
        raise BadDataError(path, "has no 'state_dict'", _AS_PUBLISHED)
    check_tensors(path, key, state, _AS_PUBLISHED)
    return dict(content)


def _weights_key(content: Mapping[str, Any]) -> str:
    """Name the averaged weights, or the last ones where there are no others."""
    return "state_dict_ema" if "state_dict_ema" in content else "state_dict"


@dataclass(frozen=True)
class _Stored:
    """Metadata of a checkpoint, checked."""

    network_name: str
    config: Any
    classes: tuple[str, ...]
    origin: dict[str, Any]
    feature_norm: float | None
    features: FeatureOrigin
    extra: dict[str, Any]


def _metadata_values(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Read the JSON object of a checkpoint of this format, of values that can be written again."""
    try:
        values = json.loads(metadata.get(METADATA_KEY, "null"))
        json.dumps(values, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        problem = f"metadata cannot be read, or holds NaN or text that is not Unicode ({error})"
        raise BadDataError(path, problem, _RECONVERT) from error
    if not isinstance(values, dict) or not str(values.get("format")).startswith(FORMAT_FAMILY):
        raise BadDataError(path, f"does not say format {FORMAT!r}: not a checkpoint of stale-edge", _RECONVERT)
    if values["format"] != FORMAT:
        raise BadDataError(path, f"has format {str(values['format'])[:40]!r}, this version reads {FORMAT!r}", _NEWER)
    return values


def _stored_classes(path: Path, values: Mapping[str, Any]) -> tuple[str, ...]:
    classes = values.get("classes")
    if not isinstance(classes, list) or not all(isinstance(item, str) for item in classes):
        raise BadDataError(path, "metadata 'classes' is not a list of names", _RECONVERT)
    if odd := [item for item in classes if not is_class_name(item)]:
        raise BadDataError(path, f"metadata 'classes' holds {odd[0][:40]!r}, which is no printable name", _RECONVERT)
    return tuple(classes)


def _unknown_values(given: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the values of a configuration, and of the parts inside it, whose keys this version does not know."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        inside = known.get(key)
        if key not in known:
            found[key] = value
        elif isinstance(value, dict) and isinstance(inside, dict) and (unknown := _unknown_values(value, inside)):
            found[key] = unknown
    return found


def _read_metadata(path: Path, metadata: dict[str, str]) -> _Stored:
    values = _metadata_values(path, metadata)
    name = values.get("network", STALE_NETWORK)
    if not isinstance(name, str) or name not in NETWORKS:
        raise BadDataError(
            path, f"holds the network {str(name)[:40]!r}; this version knows {', '.join(NETWORKS)}", _NEWER
        )
    classes, origin = _stored_classes(path, values), values.get("origin", {})
    try:
        config = NETWORKS[name].config.from_dict(values.get("config", {}))
    except (ValueError, TypeError, AttributeError) as error:
        raise BadDataError(path, f"metadata 'config' cannot be read ({error})", _RECONVERT) from error
    if not isinstance(origin, dict):
        raise BadDataError(path, "metadata 'origin' is not a JSON object", _RECONVERT)
    extra = {key: value for key, value in values.items() if key not in _METADATA_FIELDS}
    if unknown := _unknown_values(values.get("config", {}), config.to_dict()):
        extra["unknown_config"] = unknown
    norm = values.get("feature_norm")
    if norm is not None and (type(norm) not in {int, float} or not 0 < norm < MAX_FEATURE_NORM):
        raise BadDataError(path, f"metadata 'feature_norm' is {str(norm)[:40]!r}, not a positive number", _RECONVERT)
    features = _stored_features(path, name, values)
    return _Stored(name, config, classes, origin, None if norm is None else float(norm), features, extra)


def _stored_features(path: Path, name: str, values: Mapping[str, Any]) -> FeatureOrigin:
    """Read how the features were made that were learned; files of 0.2 leave it to the network's description."""
    stored = values.get("features", {})
    try:
        features = FeatureOrigin.from_dict(stored if isinstance(stored, dict) else {"extractor": stored})
    except ValueError as error:
        raise BadDataError(path, f"metadata 'features' cannot be read: {error}", _RECONVERT) from None
    published, source = NETWORKS[name].published, values.get("origin", {}).get("source")
    if not features.extractor and published is not None and source == "published":
        return replace(features, extractor=published.feature_extractor)
    return features


def _check_names(path: Path, expected: Any, found: Any) -> None:
    if missing := sorted(expected - found):
        raise BadDataError(path, f"lacks {listed(missing)}", _AS_PUBLISHED)
    if surplus := sorted(found - expected):
        raise BadDataError(path, f"holds {listed(surplus)}, which the network does not have", _AS_PUBLISHED)


def _check_shape(path: Path, name: str, expected: Tensor, shape: tuple[int, ...], dtype: str, wanted: str) -> None:
    if shape != tuple(expected.shape):
        raise BadDataError(path, f"{name} is {list(shape)}, not {list(expected.shape)}", _AS_PUBLISHED)
    if dtype != wanted:
        raise BadDataError(path, f"{name} is {dtype}, not {wanted}", _AS_PUBLISHED)


def _errno_in(text: str) -> int:
    match = re.search(r"os error (\d+)", text)
    return int(match.group(1)) if match else errno.EIO
