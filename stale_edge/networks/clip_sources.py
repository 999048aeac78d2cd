"""Weights of both CLIP towers from the files of others, whatever names and form they have there.

Known are a Hugging Face folder or name, OpenAI's `.pt` (TorchScript or a state dict), an open_clip file, a published
STALE checkpoint, and a checkpoint of ours that was converted from one. Sizes are read from the shapes; what shapes do
not tell (heads, activation, preprocessing) from a configuration beside the file, or it is what the form implies.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from stale_edge.networks.clip_image import CLIP_MEAN, CLIP_STD, ImageTowerConfig, VisionTransformer
from stale_edge.networks.clip_layer import ACTIVATIONS, GELU, QUICK_GELU
from stale_edge.networks.clip_names import canonical_towers
from stale_edge.networks.clip_text import TextTower
from stale_edge.networks.clip_vocabulary import VOCABULARY_FILES
from stale_edge.networks.stale.config import TextConfig
from stale_edge.networks.stored_values import draw_values, known_values
from stale_edge.networks.weight_files import (
    MAX_BYTES,
    check_finite,
    check_tensors,
    is_torchscript,
    load_torchscript,
    load_weights,
)
from stale_edge_runtime.errors import BadDataError, InputMissingError, UnavailableError, UsageError
from stale_edge_runtime.formats.files import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

HUGGING_FACE, OPENAI, OPEN_CLIP = "hugging-face", "openai", "open-clip"
STALE_FORM, OURS, SEEDED = "stale", "stale-edge", "seeded"
UNTRAINED: Final = "untrained:"
"""Start of a source that names a size instead of weights."""
UNTRAINED_SIZES: Final = {
    "ViT-B/32": (ImageTowerConfig(), TextConfig()),
    "ViT-B/16": (ImageTowerConfig(patch=16), TextConfig()),
    "ViT-L/14": (
        ImageTowerConfig(patch=14, width=1024, layers=24, heads=16, hidden=4096, embedding_dim=768),
        TextConfig(width=768, heads=12, hidden=3072),
    ),
}
"""Sizes of OpenAI's towers."""
TOWER_PREFIX: Final = "image_tower."
"""Start of the names of an image tower's tensors in a checkpoint of ours."""
TOWER_KEY: Final = "image_tower"
"""Metadata of a checkpoint of ours that holds the sizes of its image tower."""
CONFIG, OPEN_CONFIG, PREPROCESSOR = "config.json", "open_clip_config.json", "preprocessor_config.json"
WEIGHT_FILES: Final = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin")
HUB_NAME: Final = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
CLIP_VOCABULARY: Final = TextConfig.vocabulary
"""Tokens of the vocabulary that the tokenizer knows."""
MAX_CONFIG_BYTES: Final = 1 << 20
HEAD_WIDTH: Final = 64
_HEAD_WIDTHS: Final = {1280: 80, 1408: 88, 1664: 104}
"""Width of an attention head in open_clip's largest towers, by the width of a token; 64 in all others."""
_SIZE_LETTERS: Final = {768: "B", 1024: "L", 1280: "H", 1408: "g", 1664: "bigG"}
_CURE: Final = (
    "name a Hugging Face CLIP folder, OpenAI's .pt, an open_clip .safetensors or a published STALE checkpoint"
)


@dataclass(frozen=True)
class ClipSource:
    """Both towers of a CLIP."""

    subject: str
    """Name under which they were asked for."""
    form: str
    """Form of the file: hugging-face, openai, open-clip, stale or stale-edge."""
    image_config: ImageTowerConfig
    """Sizes of the image tower."""
    image_state: Mapping[str, Tensor]
    """Weights of the image tower by the names of `VisionTransformer`, float32."""
    text_config: TextConfig | None = None
    """Sizes of the text tower; None where there is none."""
    text_state: Mapping[str, Tensor] | None = None
    """Weights of the text tower by the names of `TextTower`, float32."""
    notes: tuple[str, ...] = ()
    """Assumptions that were made."""
    folder: Path | None = None
    """Folder of the weights, which may hold a vocabulary as well."""

    @property
    def name(self) -> str:
        """Name of the image tower, as in `CLIP ViT-B/32`."""
        config = self.image_config
        letter = _SIZE_LETTERS.get(config.width, str(config.width))
        size = "" if config.image_size == 224 else f"@{config.image_size}"
        return f"CLIP ViT-{letter}/{config.patch}{size}"

    @property
    def untrained(self) -> bool:
        """Whether the weights are seeded noise."""
        return self.form == SEEDED

    @property
    def tower_sha256(self) -> str:
        """Hash of the image tower's weights, the same in whatever form they came."""
        return weights_sha256(self.image_config, self.image_state)

    def image_tower(self) -> VisionTransformer:
        """Build the image tower, in evaluation mode."""
        with torch.device("meta"):
            tower = VisionTransformer(self.image_config)
        _fill(tower, self.image_state)
        return tower

    def text_tower(self) -> TextTower | None:
        """Build the text tower, in evaluation mode; None where there is none."""
        if self.text_config is None or self.text_state is None:
            return None
        with torch.device("meta"):
            tower = TextTower(self.text_config, self.text_state["projection.weight"].shape[0])
        _fill(tower, self.text_state)
        return tower


@dataclass(frozen=True)
class _Beside:
    """Facts that a configuration beside the weights tells; empty where there is none."""

    vision: Mapping[str, Any]
    text: Mapping[str, Any]
    preprocessing: Mapping[str, Any]


def read_clip(source: str, activation: str | None = None) -> ClipSource:
    """Read the towers of a CLIP.

    Args:
        source: A folder, a file, or a name on Hugging Face's hub.
        activation: Activation inside the feed-forward parts, one of `ACTIVATIONS`, where the files do not tell it or
            tell it wrong.

    Raises:
        InputMissingError: There is no such file, and it is no name on the hub.
        UnavailableError: It is a name on the hub, which cannot be reached.
        BadDataError: It holds no vision transformer of CLIP.
        UsageError: The activation, or the size of untrained towers, is not known.
    """
    if activation is not None and activation not in ACTIVATIONS:
        raise UsageError("--activation", f"{activation!r} is not known", f"use {', '.join(ACTIVATIONS)}")
    if source.startswith(UNTRAINED):
        name = source.removeprefix(UNTRAINED)
        if name not in UNTRAINED_SIZES:
            raise UsageError(f"--clip {source}", "is not known", f"use {', '.join(UNTRAINED_SIZES)}")
        return seeded_clip(*UNTRAINED_SIZES[name])
    path = Path(source)
    if not path.exists():
        path = _from_hub(source)
    weights = _weight_file(path) if path.is_dir() else path
    state, ours = _read_state(weights)
    if ours is not None:
        return _of_checkpoint(source, weights, state, ours, activation)
    towers = canonical_towers(state)
    if towers is None:
        raise BadDataError(weights, "holds no vision transformer of CLIP", _CURE)
    image, text, odd = towers
    if odd:
        problem = f"is no plain vision transformer of CLIP: it has {', '.join(sorted(odd)[:3])[:120]}"
        raise BadDataError(weights, problem, _CURE)
    form = _form(weights, state)
    beside = _read_beside(weights.parent, form) if form in {HUGGING_FACE, OPEN_CLIP} else _Beside({}, {}, {})
    chosen, notes = _activation(form, weights, beside, activation)
    try:
        image_config = _image_config(image, chosen, beside)
        text_config = _text_config(text, chosen, beside) if text else None
    except (KeyError, ValueError, TypeError, IndexError) as error:
        problem = f"lacks {error}" if isinstance(error, KeyError) else f"has sizes that do not fit ({error})"
        raise BadDataError(weights, problem, _CURE) from error
    made = ClipSource(
        source,
        form,
        image_config,
        _floats(weights, image),
        text_config,
        _floats(weights, text) if text else None,
        notes,
        weights.parent,
    )
    return _checked(weights, made)


def seeded_clip(image: ImageTowerConfig, text: TextConfig | None, *, seed: int = 0) -> ClipSource:
    """Make towers of any size with seeded weights, norms and biases spread so that images differ.

    Args:
        image: Sizes of the image tower.
        text: Sizes of the text tower; None for none.
        seed: Seed of the weights.
    """
    with torch.device("meta"):
        image_tower = VisionTransformer(image)
        text_tower = TextTower(text, image.embedding_dim) if text else None
    texts = _drawn(text_tower, seed) if text_tower else None
    return ClipSource(f"seed {seed}", SEEDED, image, _drawn(image_tower, seed), text, texts)


def _drawn(tower: nn.Module, seed: int) -> dict[str, Tensor]:
    """Draw weights for a tower that has none."""
    return {name: torch.from_numpy(_values(name, tuple(part.shape), seed)) for name, part in tower.state_dict().items()}


def _values(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    values = draw_values(f"clip.{name}", shape, seed)
    if name.endswith("norm.weight"):
        values = 1 + 0.3 * values
    elif len(shape) == 1 or name.endswith(("token_embedding.weight", "position_embedding.weight")):
        values *= 0.3
    else:
        values /= math.sqrt(math.prod(shape[1:]))
    return values.astype("float32")


def tower_of_state(state: Mapping[str, Tensor]) -> tuple[ImageTowerConfig, dict[str, Tensor]] | None:
    """Find the image tower in the state dict of a published STALE checkpoint.

    Args:
        state: Tensors by their published names.

    Returns:
        Its sizes, and its weights under our names; None where there is none.
    """
    towers = canonical_towers(state)
    if towers is None or towers[2]:
        return None
    try:
        config = _image_config(towers[0], QUICK_GELU, _Beside({}, {}, {}))
        with torch.device("meta"):
            wanted = VisionTransformer(config).state_dict()
    except (KeyError, ValueError, IndexError):
        return None
    if {name: value.shape for name, value in wanted.items()} != {name: part.shape for name, part in towers[0].items()}:
        return None
    return config, {name: value.float().contiguous() for name, value in towers[0].items()}


def weights_sha256(config: ImageTowerConfig | TextConfig, state: Mapping[str, Tensor]) -> str:
    """Hash the weights of a tower, with what shapes do not tell of the function that they are used in.

    Args:
        config: Sizes.
        state: Weights by the names of `VisionTransformer` or `TextTower`.

    Returns:
        Hexadecimal digits.
    """
    header = {"heads": config.heads, "activation": config.activation, "norm_epsilon": config.norm_epsilon}
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, value in sorted(state.items()):
        digest.update(f"{name} {list(value.shape)}\n".encode())
        digest.update(value.float().contiguous().numpy().astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def _fill(tower: nn.Module, state: Mapping[str, Tensor]) -> None:
    tower.load_state_dict(dict(state), assign=True)
    tower.requires_grad_(requires_grad=False).eval()


def _from_hub(source: str) -> Path:
    """Download a model by its name on Hugging Face's hub.

    Raises:
        InputMissingError: It does not look like such a name.
        UnavailableError: The client is not installed, or the hub does not give it.
    """
    if not HUB_NAME.fullmatch(source) or source.endswith((".pt", ".bin", ".safetensors", ".tar")):
        raise InputMissingError(source, "no such file or folder", _CURE)
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        cure = "check the path; for names on Hugging Face's hub: pip install transformers"
        raise UnavailableError(source, "is no file, and names on the hub need huggingface_hub", cure) from error
    wanted = [CONFIG, OPEN_CONFIG, PREPROCESSOR, *VOCABULARY_FILES, *WEIGHT_FILES[:2]]
    try:
        return Path(snapshot_download(source, allow_patterns=wanted))
    except Exception as error:  # the client raises errors of several libraries
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        cure = "check the name and the network, or name a local folder"
        raise UnavailableError(
            source, f"is no file, and Hugging Face's hub does not give it ({reason})", cure
        ) from error


def _weight_file(folder: Path) -> Path:
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    if (folder / "model.safetensors.index.json").is_file():
        raise BadDataError(folder, "has its weights in several files", "save it in one: max_shard_size='20GB'")
    raise InputMissingError(folder, f"has none of {', '.join(WEIGHT_FILES)}", _CURE)


def _read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Read the tensors of a file, and the metadata of one of ours.

    Raises:
        StaleEdgeError: It cannot be read, or is of no known form.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if is_torchscript(path):
        state: Any = load_torchscript(path, _CURE)
    else:
        content = load_weights(path, _CURE)
        state = content.get("state_dict", content) if isinstance(content, dict) else {}
    # OpenAI's state dicts have three plain numbers among the tensors of some versions.
    state = {name: value for name, value in state.items() if not isinstance(value, int | float)}
    if not state:
        raise BadDataError(path, "holds no weights", _CURE)
    check_tensors(path, "state_dict", state, _CURE)
    return state, None


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    from safetensors import SafetensorError, safe_open

    if path.stat().st_size > MAX_BYTES:
        raise BadDataError(path, f"is {path.stat().st_size:,} bytes", _CURE)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get("stale_edge")
            wanted = (TOWER_PREFIX, "text_tower.") if metadata else ("",)
            state = {name: file.get_tensor(name) for name in file.keys() if name.startswith(wanted)}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadDataError(path, f"is not a safetensors file ({str(error)[:120]})", _CURE) from error
    if metadata is None:
        return state, None
    try:
        values = json.loads(metadata)
    except (ValueError, RecursionError) as error:
        raise BadDataError(path, "has metadata that cannot be read", _CURE) from error
    return state, values if isinstance(values, dict) else {}


def _of_checkpoint(
    source: str, path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any], activation: str | None
) -> ClipSource:
    """Read the towers of a checkpoint of ours, which says their sizes."""
    image = {name.removeprefix(TOWER_PREFIX): value for name, value in state.items() if name.startswith(TOWER_PREFIX)}
    text = {name.removeprefix("text_tower."): value for name, value in state.items() if name.startswith("text_tower.")}
    if not image:
        raise BadDataError(path, "holds no image tower", "convert the published checkpoint again, or name a CLIP")
    try:
        sizes = dict(metadata[TOWER_KEY]) | ({"activation": activation} if activation else {})
        config = ImageTowerConfig.from_dict(sizes)
        stored = metadata.get("config", {}).get("text") or {}
        text_config = TextConfig(**known_values(TextConfig, stored)) if text else None
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BadDataError(path, f"says sizes of its towers that cannot be read ({error})", _CURE) from error
    made = ClipSource(source, OURS, config, _floats(path, image), text_config, _floats(path, text) if text else None)
    return _checked(path, made)


def _form(path: Path, state: Mapping[str, Tensor]) -> str:
    if any(name.endswith("vision_model.embeddings.patch_embedding.weight") for name in state):
        plain = any(name.startswith("vision_model.") for name in state)
        return HUGGING_FACE if plain else STALE_FORM
    return OPEN_CLIP if path.suffix == ".safetensors" or path.name == "open_clip_pytorch_model.bin" else OPENAI


def _read_beside(folder: Path, form: str) -> _Beside:
    """Read the configurations beside a file."""
    if form == HUGGING_FACE:
        config = _read_json(folder / CONFIG)
        vision = config.get("vision_config") or config
        return _Beside(vision, config.get("text_config") or {}, _read_json(folder / PREPROCESSOR))
    model = _read_json(folder / OPEN_CONFIG)
    config, preprocessing = model.get("model_cfg") or {}, model.get("preprocess_cfg") or {}
    vision, text = dict(config.get("vision_cfg") or {}), dict(config.get("text_cfg") or {})
    if vision:  # open_clip's default is the exact GELU
        hidden_act = QUICK_GELU if config.get("quick_gelu") else GELU
        vision["hidden_act"] = text["hidden_act"] = hidden_act
    names = {"image_mean": "mean", "image_std": "std"}
    return _Beside(vision, text, {ours: preprocessing[key] for ours, key in names.items() if key in preprocessing})


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    values = read_json(path, limit=MAX_CONFIG_BYTES)
    if not isinstance(values, dict) or not all(
        isinstance(values.get(key, {}), dict | None) for key in ("vision_config", "text_config", "model_cfg")
    ):
        raise BadDataError(path, "is no configuration of a CLIP", "get it again")
    return values


def _activation(form: str, path: Path, beside: _Beside, asked: str | None) -> tuple[str, tuple[str, ...]]:
    """Choose the activation, and say so where it had to be guessed."""
    if asked is not None:
        return asked, ()
    if form != OPEN_CLIP:
        return str(beside.vision.get("hidden_act", QUICK_GELU)), ()
    if beside.vision:
        return str(beside.vision["hidden_act"]), ()
    quick = re.search(r"openai|quick_?gelu", path.name, re.IGNORECASE)
    found = QUICK_GELU if quick else GELU
    return found, (f"{path} does not say its activation: {found} by its name; --activation chooses another",)


def _image_config(state: Mapping[str, Tensor], activation: str, beside: _Beside) -> ImageTowerConfig:
    """Read the sizes of an image tower from its shapes, and the rest from its configuration."""
    width, _, patch, _ = state["patch_embedding.weight"].shape
    side = math.isqrt(state["position_embedding.weight"].shape[0] - 1)
    return ImageTowerConfig(
        image_size=side * patch,
        patch=patch,
        width=width,
        layers=_layers(state),
        heads=_heads(width, beside.vision, _HEAD_WIDTHS.get(width, HEAD_WIDTH)),
        hidden=state["layers.0.expand.weight"].shape[0],
        embedding_dim=state["projection.weight"].shape[0],
        activation=activation,
        norm_epsilon=float(beside.vision.get("layer_norm_eps", ImageTowerConfig.norm_epsilon)),
        mean=_three(beside.preprocessing.get("image_mean", CLIP_MEAN)),
        std=_three(beside.preprocessing.get("image_std", CLIP_STD)),
    )


def _text_config(state: Mapping[str, Tensor], activation: str, beside: _Beside) -> TextConfig:
    vocabulary, width = state["token_embedding.weight"].shape
    return TextConfig(
        vocabulary=vocabulary,
        context=state["position_embedding.weight"].shape[0],
        width=width,
        layers=_layers(state),
        heads=_heads(width, beside.text, HEAD_WIDTH),
        hidden=state["layers.0.expand.weight"].shape[0],
        activation=str(beside.text.get("hidden_act", activation)),
        norm_epsilon=float(beside.text.get("layer_norm_eps", TextConfig.norm_epsilon)),
    )


def _heads(width: int, config: Mapping[str, Any], head_width: int) -> int:
    """Read the number of attention heads: Hugging Face's name, open_clip's, or by the width of a head."""
    for name in ("num_attention_heads", "heads"):
        if name in config:
            return int(config[name])
    return max(1, width // int(config.get("head_width", head_width)))


def _layers(state: Mapping[str, Tensor]) -> int:
    return len({name.split(".")[1] for name in state if name.startswith("layers.")})


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = map(float, values)
    return first, second, third


def _floats(path: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy weights as float32, all finite."""
    floats = {name: value.detach().to(torch.float32).contiguous() for name, value in state.items()}
    check_finite(path, floats)
    return floats


def _checked(path: Path, source: ClipSource) -> ClipSource:
    """Refuse weights that do not fit the sizes, before anything is built of them.

    Raises:
        BadDataError: Tensors are missing, left over, or of another shape.
    """
    with torch.device("meta"):
        _check_fit(path, VisionTransformer(source.image_config), source.image_state)
        if source.text_config is not None and source.text_state is not None:
            projection = source.text_state.get("projection.weight")
            if projection is None:
                raise BadDataError(path, "has a text tower without a projection", _CURE)
            _check_fit(path, TextTower(source.text_config, projection.shape[0]), source.text_state)
    return source


def _check_fit(path: Path, tower: nn.Module, state: Mapping[str, Tensor]) -> None:
    wanted = tower.state_dict()
    if missing := sorted(wanted.keys() - state.keys()):
        raise BadDataError(path, f"lacks {', '.join(missing[:3])} of a tower", _CURE)
    if surplus := sorted(state.keys() - wanted.keys()):
        raise BadDataError(path, f"holds {', '.join(surplus[:3])}, which no tower of CLIP has", _CURE)
    for name, value in wanted.items():
        if value.shape != state[name].shape:
            raise BadDataError(path, f"{name} is {list(state[name].shape)}, not {list(value.shape)}", _CURE)
