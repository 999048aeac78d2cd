"""Classes that a command looks for: from embeddings in a file, or from names by a text tower."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stale_edge.cli.options import MODELS, TEXT_TOWER
from stale_edge_runtime.errors import BadDataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from stale_edge.cli.console import Reporter
    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.text.tower import TextEncoder

ClassWords = Annotated[
    list[str] | None,
    typer.Option("--class", metavar="NAME", help="Class to look for, in words; repeatable. Needs a text tower."),
]
TextTowerFile = Annotated[
    Path | None,
    typer.Option(
        TEXT_TOWER,
        metavar="FILE.onnx",
        help="CLIP text tower for class names; by default clip-text*.onnx or *.text-tower*.onnx beside the model or in "
        "models/.",
    ),
]
Cache = Annotated[
    bool, typer.Option("--cache/--no-cache", help="Keep text embeddings in the user's cache, and take them from it.")
]


@dataclass(frozen=True)
class VocabularyOptions:
    """Options that say what to look for."""

    text_embeddings: Path | None = None
    """File of text embeddings [C, D]."""
    classes: Path | None = None
    """File of class names."""
    names: tuple[str, ...] = ()
    """Class names."""
    tower: Path | None = None
    """File of the text tower."""
    cache: bool = True
    """Whether embeddings are kept and taken from the user's cache."""

    @property
    def named(self) -> bool:
        """Whether classes are named at all."""
        return bool(self.text_embeddings or self.classes or self.names)


@dataclass(frozen=True)
class NamedClasses:
    """Classes with their text embeddings."""

    classes: tuple[str, ...]
    """Names, each once."""
    text_embeddings: NDArray[np.float32]
    """[C, D]."""


def read_vocabulary(
    options: VocabularyOptions, info: ModelInfo, model: Path, reporter: Reporter, *, threads: int = 1
) -> NamedClasses | None:
    """Give the classes that the options name; None where they name none.

    Raises:
        UsageError: The options do not go together, or the model has its classes inside.
        StaleEdgeError: A file cannot be used.
    """
    from stale_edge_runtime.contract import PROMPT, Kind
    from stale_edge_runtime.formats.features import read_features
    from stale_edge_runtime.heads.registry import HEADS
    from stale_edge_runtime.tower_files import has_weights

    names = given_names(options.classes, options.names)
    if options.text_embeddings is not None:
        if not names:
            raise UsageError("--text-embeddings", "needs the names of its rows", "give --classes or --class as well")
        return NamedClasses(names, read_features(options.text_embeddings, info.feature_dim))
    if not names:
        if info.kind is Kind.OPEN:
            raise UsageError(model, "is an open-vocabulary file", "name classes with --class or --classes")
        return None
    if info.kind is not Kind.OPEN and not HEADS[info.network].is_class_agnostic(info):
        raise UsageError(model, "has its classes baked in", "export it with --open to choose them freely")
    tower = open_text_tower(options.tower, [model.parent], info, threads=threads)
    if not has_weights(tower.info, info.tower_sha256, info.text_sha256):  # one that was named
        cure = "name the text tower that it learned with, or give other text on purpose with --text-embeddings"
        raise BadDataError(tower.path, f"has other weights than the CLIP that {model} learned with", cure)
    if tower.info.feature_dim != info.feature_dim:
        problem = f"gives embeddings of width {tower.info.feature_dim}, and {model} takes {info.feature_dim}"
        raise BadDataError(tower.path, problem, "name the text tower of the model's CLIP")
    embeddings = embedded(tower, names, info.prompt or PROMPT, reporter, cache=options.cache)
    return NamedClasses(names, embeddings)


def given_names(classes: Path | None, names: Sequence[str]) -> tuple[str, ...]:
    """Give the class names of a file or of the command line.

    Raises:
        UsageError: Both are given, or a name is none.
        StaleEdgeError: The file cannot be used.
    """
    from stale_edge_runtime.formats.class_list import is_class_name, read_class_list

    if classes is not None and names:
        raise UsageError("--class and --classes", "both name classes", "leave one out")
    if classes is not None:
        return read_class_list(classes)
    stripped = tuple(dict.fromkeys(name.strip() for name in names))
    if odd := [name for name in stripped if not is_class_name(name)]:
        raise UsageError("--class", f"{odd[0][:40]!r} is no class name", "write one printable name")
    return stripped


def open_text_tower(
    named: Path | None, beside: Sequence[Path], model: ModelInfo | None = None, *, threads: int = 1
) -> TextEncoder:
    """Open the text tower that was named, or the one that is found.

    Args:
        named: File that the user named.
        beside: Folders to look in before `models/`.
        model: Metadata of the model that the text is for; one with its weights is looked for.
        threads: Threads inside an operator.

    Raises:
        StaleEdgeError: There is none, or it cannot be used.
    """
    from stale_edge_runtime.contract import Kind
    from stale_edge_runtime.text.tower import TextEncoder
    from stale_edge_runtime.tower_files import find_tower, read_tower

    kind = Kind.TEXT_TOWER
    if named:
        return TextEncoder(read_tower(named, kind), threads=threads)
    wanted = {"sha256": model.tower_sha256, "text_sha256": model.text_sha256} if model else {}
    return TextEncoder(find_tower(kind, [*beside, MODELS], **wanted), threads=threads)


def embedded(
    tower: TextEncoder, names: Sequence[str], prompt: str, reporter: Reporter, *, cache: bool = True
) -> NDArray[np.float32]:
    """Compute text embeddings [C, D] of class names, or take them from the user's cache.

    Raises:
        BadDataError: The tower does not answer as it must.
    """
    from stale_edge_runtime.text.cache import cache_folder, embed_names

    embeddings, known = embed_names(tower, names, prompt, cache_folder() if cache else None)
    count = f"{len(names):,} class" + ("" if len(names) == 1 else "es")
    reporter.note(f"text of {count} {'from the cache' if known else f'by {tower.path}'}, as in {prompt + names[0]!r}")
    return embeddings
