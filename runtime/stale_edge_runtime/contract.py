"""Names that other programs rely on: tensors, axes, metadata keys, limits. The only copy of each.

Source: the project's contract; changing one of these is a breaking change and belongs in CHANGELOG.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from stale_edge_runtime.errors import BadDataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = "1"

FEATURES = "features"
TEXT_EMBEDDINGS = "text_embeddings"
TOKEN_IDS = "token_ids"  # noqa: S105 (words, not passwords)
PIXELS = "pixels"
IMAGE_EMBEDDINGS = "image_embeddings"
STALE_NETWORK = "stale"
"""Network of a file that does not name one: files of 0.1 held no other."""
ACTIONFORMER = "actionformer"

CLASS_LOGITS = "class_logits"
MASKS = "masks"
VIDEO_LOGITS = "video_logits"
OFFSETS = "offsets"
SEGMENTS = "segments"
SEGMENTS_S = "segments_s"
LABELS = "labels"
SCORES = "scores"
"""Outputs of a file that decodes inside: starts and ends in snippets and, where known, seconds; classes; scores."""
ACTION = "action"
"""Class of a network that tells when and leaves what to a classifier."""

BATCH = "batch"
SNIPPETS = "snippets"
CLASSES = "classes"
TOKENS = "tokens"
POINTS = "points"
FOUND = "found"
"""Detections of one video, best first."""
IMAGE_SIZE = "image_size"
"""Edge of the square images of an image tower, in pixels; named like the metadata that holds it."""
COLOURS = 3
CHANNELS = ("rgb", "bgr")
"""Orders of colours that an image tower was made for; its input is RGB all the same."""

FEATURE_DIM = 512
ANCHORS = 100
MIN_SNIPPETS = 1
MAX_SNIPPETS = 8192
MAX_CLASSES = 100_000
MAX_TOKENS = 77
MAX_IMAGE_SIZE = 1024
PROMPT = "a video of action "
"""Words before a class name, as STALE was published."""
MAX_MEMORY_MB = 4096.0
"""Memory that a run may take unless told otherwise: enough for the longest video in one piece."""

METADATA_PREFIX = "stale_edge."

IR_VERSION = 8
"""Lowest version of the file format that holds what our files hold; onnxruntime 1.17 refuses 10."""
OPSET = 18
OPERATORS = frozenset(
    {
        *("Abs", "Add", "And", "ArgMax", "Cast", "Clip", "Compress", "Concat", "Constant", "ConstantOfShape", "Conv"),
        *("ConvInteger", "CumSum", "DequantizeLinear", "Div", "DynamicQuantizeLinear", "Equal", "Erf", "Exp", "Expand"),
        *("Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gemm", "Greater", "GreaterOrEqual", "Identity"),
        *("LayerNormalization", "Less", "LessOrEqual", "MatMul", "MatMulInteger", "Max", "Min", "Mod", "Mul", "Neg"),
        *("NonZero", "Not", "Or", "Pad", "Pow", "QLinearMatMul", "QuantizeLinear", "Range", "Reciprocal", "ReduceL2"),
        *("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Resize", "Round"),
        *("ScatterElements", "Shape", "Sigmoid", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tile", "TopK"),
        *("Transpose", "Trilu", "Unsqueeze", "Where"),
    }
)
"""Operators of the default domain that our files may hold; no other domain, no functions."""
BLOCK_SNIPPETS = 200
"""Most snippets that a folded file attends from at once; each is a row of scores for every head."""
BLOCKWISE = "Scan"
"""The one operator with a subgraph: attention by blocks, and soft-NMS. Its body holds `OPERATORS` and no further
subgraph, and it takes as many steps as its input is long, never more."""


class Kind(StrEnum):
    """Inputs of an exported file besides features."""

    BAKED = "baked"  # class list fixed at export, text folded into the weights
    OPEN = "open"  # text embeddings are an input
    FULL = "full"  # the text tower is inside, token ids are an input
    TEXT_TOWER = "text_tower"  # token ids in, text embeddings out; no features
    IMAGE_TOWER = "image_tower"  # pixels in, image embeddings out: the features of a detector


class Role(StrEnum):
    """Work that a file does."""

    DETECTOR = "detector"
    TEXT_TOWER = "text-tower"
    IMAGE_TOWER = "image-tower"


class TextMode(StrEnum):
    """Source of a detector's text."""

    BAKED = "baked"
    OPEN = "open"
    FULL = "full"


class Precision(StrEnum):
    """Number format of the heavy products of a file."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


INPUTS: dict[Kind, dict[str, tuple[str | int, ...]]] = {
    Kind.BAKED: {FEATURES: (BATCH, SNIPPETS, "feature_dim")},
    Kind.OPEN: {FEATURES: (BATCH, SNIPPETS, "feature_dim"), TEXT_EMBEDDINGS: (CLASSES, "feature_dim")},
    Kind.FULL: {FEATURES: (BATCH, SNIPPETS, "feature_dim"), TOKEN_IDS: (CLASSES, TOKENS)},
    Kind.TEXT_TOWER: {TOKEN_IDS: (CLASSES, TOKENS)},
    Kind.IMAGE_TOWER: {PIXELS: (BATCH, IMAGE_SIZE, IMAGE_SIZE, COLOURS)},
}
"""Inputs of each kind, in order, with the names of their axes, or of the metadata that holds their size."""
TOWER_OUTPUTS: dict[Kind, tuple[str, tuple[str, ...]]] = {
    Kind.TEXT_TOWER: (TEXT_EMBEDDINGS, (CLASSES, "feature_dim")),
    Kind.IMAGE_TOWER: (IMAGE_EMBEDDINGS, (BATCH, "feature_dim")),
}
"""Output of each tower, with the names of its axes."""
TOWERS: dict[Kind, Role] = {Kind.TEXT_TOWER: Role.TEXT_TOWER, Kind.IMAGE_TOWER: Role.IMAGE_TOWER}
"""Kinds of file that are no detectors, with their role."""


@dataclass(frozen=True)
class ModelInfo:
    """Metadata of a file."""

    kind: Kind
    """Kind of the file by its inputs."""
    precision: Precision
    """Number format of its products."""
    feature_dim: int
    """Width of a snippet's features."""
    created_by: str
    """Program and version that wrote the file."""
    network: str = STALE_NETWORK
    """Network inside, a key of `HEADS`."""
    anchors: int = 0
    """Rows of `masks`: relative positions that an action may cover; 0 for a network without masks."""
    resize_to: int = 0
    """Snippets that a video, or a window of one, is resized to before it is run; 0 runs it as it is."""
    strides: tuple[int, ...] = ()
    """Snippets from one position to the next, on each level of a pyramid, the finest first."""
    offset: float = 0.5
    """Centre of the first snippet, in snippets from the start of the video; more where snippets overlap."""
    decoding: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the decoding that belong to the network; empty for its defaults."""
    detections: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the decoding inside a file that gives detections; empty for one that gives a network's outputs."""
    classes: tuple[str, ...] = ()
    """Class names in the order of the logits, background left out; baked files only."""
    min_snippets: int = MIN_SNIPPETS
    """Shortest video that the file was made for."""
    max_snippets: int = MAX_SNIPPETS
    """Longest video that the file was made for, in one piece."""
    feature_extractor: str = ""
    """Network that made the features, where known."""
    snippet_seconds: float | None = None
    """Seconds of video behind one snippet, where known."""
    feature_norm: float | None = None
    """Median length of the rows of features that were learned, where known."""
    tower_sha256: str = ""
    """Hash of the weights of the image tower that made the features (a detector), or that are inside (a tower)."""
    channels: str = ""
    """Order of colours that the features were made with, one of `CHANNELS`; '' where it is not known."""
    image_size: int = 0
    """Edge of the images that an image tower takes, in pixels."""
    text_sha256: str = ""
    """Hash of the weights of the text tower that made the text that was learned (a detector), or that is inside."""
    prompt: str = ""
    """Words that were put before a class name where text was learned; '' where they are not known."""
    merges: str = ""
    """Byte-pair merges of a text tower, as `tokenizer` encodes them; '' where the file has none."""
    suggested_min_score: float | None = None
    """Score below which detections are more often wrong than right, by videos held out of training."""
    untrained: bool = False
    """Weights are seeded noise: right for timing, useless for detection."""
    weights: Mapping[str, Any] = field(default_factory=dict)
    """Source of the weights: `{"source": "seeded", "seed": 0}` or `{"source": "file", "sha256": …}`."""
    rewrites: tuple[str, ...] = ()
    """Graph rewrites applied at export, in order."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Recipe of the quantisation; empty for fp32."""
    parity: Mapping[str, Any] = field(default_factory=dict)
    """Check against the network: lengths, batches and the largest error of each output."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further `stale_edge.` properties, without the prefix: of the network, or of a later version."""

    @property
    def role(self) -> Role:
        """Work that the file does."""
        return TOWERS.get(self.kind, Role.DETECTOR)

    @property
    def text(self) -> TextMode | None:
        """Source of a detector's text; None for a tower."""
        return None if self.kind in TOWERS else TextMode(self.kind)

    def to_metadata(self) -> dict[str, str]:
        """Give the metadata properties of the file, every value a string."""
        values: dict[str, Any] = {
            **self.extra,
            "network": self.network,
            "role": str(self.role),
            "kind": str(self.kind),
            "precision": str(self.precision),
            "feature_dim": self.feature_dim,
            "min_snippets": self.min_snippets,
            "max_snippets": self.max_snippets,
            "feature_extractor": self.feature_extractor,
            "created_by": self.created_by,
            "untrained": self.untrained,
            "weights": dict(self.weights),
            "rewrites": list(self.rewrites),
            "parity": dict(self.parity),
        }
        if self.text is not None:
            values["text"] = str(self.text)
        for name in (
            *("anchors", "resize_to", "strides", "decoding", "detections"),
            *("tower_sha256", "channels", "image_size", "text_sha256", "prompt", "merges"),
        ):
            if value := getattr(self, name):
                values[name] = list(value) if isinstance(value, tuple) else value
        if self.offset != ModelInfo.offset:
            values["offset"] = self.offset
        if self.kind is Kind.BAKED:
            values["classes"] = list(self.classes)
        for name in ("snippet_seconds", "feature_norm", "suggested_min_score"):
            if (value := getattr(self, name)) is not None:
                values[name] = value
        if self.recipe:
            values["recipe"] = dict(self.recipe)
        values["format"] = FORMAT  # last in the file and required: a file cut off anywhere lacks it
        return {
            METADATA_PREFIX + key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for key, value in values.items()
        }

    @classmethod
    def from_metadata(cls, path: Path, metadata: Mapping[str, str]) -> ModelInfo:
        """Read and check the metadata of the file at `path`.

        Raises:
            BadDataError: A property is missing, or its value is not what it must be.
        """
        reader = _MetadataReader(path, metadata)
        if (found := reader.text("format")) != FORMAT:
            raise BadDataError(path, f"has format {found!r}, this version reads {FORMAT!r}", "use a newer stale-edge")
        kind = reader.kind()
        classes = reader.strings("classes") if kind is Kind.BAKED else ()
        if kind is Kind.BAKED and not 0 < len(classes) <= MAX_CLASSES:
            raise BadDataError(path, f"lists {len(classes)} classes", "export it again")
        return cls(
            kind=kind,
            precision=reader.choice("precision", Precision),
            network=reader.text("network", STALE_NETWORK),
            anchors=reader.integer("anchors", 0, MAX_SNIPPETS, default=0),
            resize_to=reader.integer("resize_to", 0, MAX_SNIPPETS, default=0),
            strides=reader.integers("strides", MAX_SNIPPETS),
            offset=reader.positive_number("offset") or cls.offset,
            decoding=reader.mapping("decoding"),
            detections=reader.mapping("detections"),
            feature_dim=reader.integer("feature_dim", 1, 65_536),
            created_by=reader.text("created_by"),
            classes=classes,
            min_snippets=reader.integer("min_snippets", 1, MAX_SNIPPETS, default=MIN_SNIPPETS),
            max_snippets=reader.integer("max_snippets", 1, MAX_SNIPPETS, default=MAX_SNIPPETS),
            feature_extractor=reader.text("feature_extractor", ""),
            snippet_seconds=reader.positive_number("snippet_seconds"),
            feature_norm=reader.positive_number("feature_norm"),
            tower_sha256=reader.text("tower_sha256", ""),
            channels=reader.optional_choice("channels", CHANNELS),
            image_size=reader.integer("image_size", int(kind is Kind.IMAGE_TOWER), MAX_IMAGE_SIZE, default=0),
            text_sha256=reader.text("text_sha256", ""),
            prompt=reader.text("prompt", ""),
            merges=reader.text("merges", ""),
            suggested_min_score=reader.positive_number("suggested_min_score"),
            untrained=reader.flag("untrained"),
            weights=reader.mapping("weights"),
            rewrites=reader.strings("rewrites"),
            recipe=reader.mapping("recipe"),
            parity=reader.mapping("parity"),
            extra=reader.others(),
        )


E = TypeVar("E", bound=StrEnum)


class _MetadataReader:
    """Typed, checked access to metadata properties of untrusted origin."""

    def __init__(self, path: Path, metadata: Mapping[str, str]) -> None:
        self._path = path
        self._metadata = metadata

    def text(self, key: str, default: str | None = None) -> str:
        value = self._metadata.get(METADATA_PREFIX + key, default)
        if value is None:
            raise BadDataError(
                self._path,
                f"has no metadata {METADATA_PREFIX + key!r}: not a file that stale-edge exported",
                "make one with `stale-edge export`",
            )
        return value

    def kind(self) -> Kind:
        """Kind as 0.1 wrote it, or from the role and the text mode that later versions write; both must agree."""
        if METADATA_PREFIX + "role" not in self._metadata:
            return self.choice("kind", Kind)
        role = self.text("role")
        if role not in set(Role):
            problem = f"has the role {role[:40]!r}, this version reads {', '.join(Role)}"
            raise BadDataError(self._path, problem, "use a newer stale-edge")
        named = METADATA_PREFIX + "kind" in self._metadata
        if towers := [kind for kind, work in TOWERS.items() if work == role]:
            kind = towers[0]
        elif named and METADATA_PREFIX + "text" not in self._metadata:
            kind = Kind(self.choice("kind", TextMode))
        else:
            kind = Kind(self.choice("text", TextMode))
        if named and self.choice("kind", Kind) is not kind:
            raise self._bad("kind", f"{str(kind)!r} as its role and text mode say")
        return kind

    def others(self) -> dict[str, str]:
        """Properties that `ModelInfo` has no field for, without the prefix."""
        known = {*ModelInfo.__dataclass_fields__, "format", "role", "text"}
        named = {
            key.removeprefix(METADATA_PREFIX): value
            for key, value in self._metadata.items()
            if key.startswith(METADATA_PREFIX)
        }
        return {key: value for key, value in named.items() if key not in known}

    def choice(self, key: str, options: type[E]) -> E:
        value = self.text(key)
        try:
            return options(value)
        except ValueError:
            raise self._bad(key, f"one of {', '.join(options)}") from None

    def optional_choice(self, key: str, options: tuple[str, ...]) -> str:
        value = self.text(key, "")
        if value and value not in options:
            raise self._bad(key, f"one of {', '.join(options)}")
        return value

    def integer(self, key: str, low: int, high: int, *, default: int | None = None) -> int:
        value = self._json(key, default=default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._bad(key, f"an integer from {low} to {high}")
        return value

    def positive_number(self, key: str) -> float | None:
        if METADATA_PREFIX + key not in self._metadata:
            return None
        value = self._json(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e6:
            raise self._bad(key, "a positive number")
        return float(value)

    def flag(self, key: str) -> bool:
        value = self._json(key, default=False)
        if not isinstance(value, bool):
            raise self._bad(key, "true or false")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        value = self._json(key, default=[])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._bad(key, "a JSON list of strings")
        return tuple(value)

    def integers(self, key: str, high: int) -> tuple[int, ...]:
        value = self._json(key, default=[])
        if not isinstance(value, list) or not all(type(item) is int and 1 <= item <= high for item in value):
            raise self._bad(key, f"a JSON list of integers from 1 to {high}")
        return tuple(value)

    def mapping(self, key: str) -> dict[str, Any]:
        value = self._json(key, default={})
        if not isinstance(value, dict):
            raise self._bad(key, "a JSON object")
        return value

    def _json(self, key: str, default: Any = None) -> Any:
        if default is not None and METADATA_PREFIX + key not in self._metadata:
            return default
        try:
            return json.loads(self.text(key))
        except (ValueError, RecursionError):
            raise self._bad(key, "JSON") from None

    def _bad(self, key: str, wanted: str) -> BadDataError:
        found = self.text(key)[:40]
        return BadDataError(
            self._path, f"metadata {METADATA_PREFIX + key!r} is {found!r}, not {wanted}", "export it again"
        )
