"""Finding the CLIP tower that goes with a model: beside it, or where `export` writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from stale_edge_runtime.contract import Kind
from stale_edge_runtime.errors import BadDataError, InputMissingError, UsageError
from stale_edge_runtime.model_file import read_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.model_file import ModelFile

PATTERNS: Final = {
    Kind.IMAGE_TOWER: ("clip-image*.onnx", "*.image-tower*.onnx"),
    Kind.TEXT_TOWER: ("clip-text*.onnx", "*.text-tower*.onnx"),
}
"""Names of tower files."""
OPTIONS: Final = {Kind.IMAGE_TOWER: "--image-tower", Kind.TEXT_TOWER: "--text-tower"}
_ORDER: Final = (".int8.onnx", ".onnx")
"""Ends of names, the most wanted first: 8 bits are the fastest."""


def read_tower(path: Path, kind: Kind) -> ModelFile:
    """Read a tower file that was named.

    Raises:
        StaleEdgeError: It cannot be read.
        UsageError: It is of another kind.
    """
    model = read_model(path)
    if model.info.kind is not kind:
        raise UsageError(path, f"is a {model.info.role} file", f"name a {kind.value.replace('_', ' ')}")
    return model


def find_tower(kind: Kind, folders: Sequence[Path], *, sha256: str = "", text_sha256: str = "") -> ModelFile:
    """Find and read the tower that goes with a model.

    Args:
        kind: Kind of tower.
        folders: Folders to look in, the first first.
        sha256: Hash that the weights of the CLIP's image tower must have; any where empty.
        text_sha256: Hash that the weights of its text tower must have; any where empty.

    Raises:
        InputMissingError: There is none, or none with that hash; the message says where it was looked for.
    """
    others: list[str] = []
    for path in _candidates(kind, folders):
        try:
            model = read_tower(path, kind)
        except (BadDataError, UsageError) as error:
            others.append(str(error))
            continue
        if has_weights(model.info, sha256, text_sha256):
            return model
        others.append(f"{path} has other weights than the model learned with")
    what = kind.value.replace("_", " ")
    places = " and ".join(dict.fromkeys(f"{folder}/{PATTERNS[kind][0]}" for folder in folders))
    cure = f"make one with `stale-edge export --clip SOURCE`, or name it with {OPTIONS[kind]}"
    raise InputMissingError(what, "; ".join(others) or f"is not found: no {places}", cure)


def has_weights(tower: ModelInfo, sha256: str, text_sha256: str = "") -> bool:
    """Tell whether a tower can be that of a model, as far as the hashes of both are known.

    The hash of a text tower decides alone where both are known; else that of the image tower of the same CLIP does.

    Args:
        tower: Metadata of the tower.
        sha256: Hash of the image tower that the model learned with; '' where it is not known.
        text_sha256: Hash of the text tower that the model learned with; '' where it is not known.
    """
    if text_sha256 and tower.text_sha256:
        return text_sha256 == tower.text_sha256
    return not sha256 or not tower.tower_sha256 or sha256 == tower.tower_sha256


def _candidates(kind: Kind, folders: Sequence[Path]) -> Iterator[Path]:
    """Files that could be towers: by folder, then by pattern, 8 bits first."""
    seen: set[Path] = set()
    for folder in dict.fromkeys(folders):
        for pattern in PATTERNS[kind]:
            found = sorted(folder.glob(pattern), key=lambda path: (_rank(path), path))
            for path in found:
                if path not in seen and path.is_file():
                    seen.add(path)
                    yield path


def _rank(path: Path) -> int:
    return next(rank for rank, end in enumerate((*_ORDER, "")) if path.name.endswith(end))
