"""The check that ends every export: the written file against the network, at lengths chosen to hurt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stale_edge_export.graphs.base import CLIP_LIKE
from stale_edge_runtime.contract import FEATURES, IMAGE_EMBEDDINGS, PIXELS, TEXT_EMBEDDINGS, TOKEN_IDS
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.synthetic import clip_like_features, varied_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from stale_edge_export.graphs.base import GraphSpec

TEXT_TOLERANCE = 1e-4
"""Largest absolute difference that a text tower may have."""
IMAGE_TOLERANCE = 1e-5
"""Largest error that an image tower may have, in units of the spread of embeddings over images."""
IMAGE_BATCHES = (1, 2, 5)
PEAK = 255
MAX_DRAWS = 50

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One comparison of a file with the network."""

    size: str
    """Property that makes the size hard, as in `257 snippets`."""
    detail: str
    """The rest, as in `batch 3, random features`."""
    errors: Mapping[str, float]
    """Largest absolute difference of each output."""


@dataclass(frozen=True)
class Parity:
    """Largest differences between a file and the network."""

    cases: tuple[Case, ...]
    """All comparisons."""
    covered: Mapping[str, Any]
    """Cases that were covered: lengths, batches, kinds of input."""
    tolerance: Mapping[str, float]
    """Largest absolute difference that each output may have."""

    @property
    def max_error(self) -> dict[str, float]:
        """Largest absolute difference of each output."""
        return self._largest(self.cases)

    def by_size(self) -> dict[str, dict[str, float]]:
        """Largest absolute difference of each output at each size."""
        sizes = dict.fromkeys(case.size for case in self.cases)
        return {size: self._largest(case for case in self.cases if case.size == size) for size in sizes}

    def to_metadata(self) -> dict[str, Any]:
        """Give the record for the file's metadata."""
        return {
            **self.covered,
            "max_error": {name: float(f"{error:.3g}") for name, error in self.max_error.items()},
            "tolerance": {name: self.tolerance[name] for name in self.max_error},
        }

    def require(self, path: Path) -> None:
        """Refuse a file whose outputs differ from the network's.

        Raises:
            BadDataError: An output is beyond its tolerance, or not finite.
        """
        for case in self.cases:
            for name, error in case.errors.items():
                if not error <= self.tolerance[name]:
                    raise BadDataError(
                        path,
                        f"{name} differs from PyTorch by {error:.2g} at {case.size}, {case.detail}, "
                        f"more than {self.tolerance[name]:.0e}",
                        "no file was written; try --no-fold and report this",
                    )

    @staticmethod
    def _largest(cases: Iterable[Case]) -> dict[str, float]:
        listed = list(cases)
        return {name: max(case.errors[name] for case in listed) for name in listed[0].errors}


def check_detection(
    run: Callable[[Arrays], Arrays],
    reference: Callable[[torch.Tensor, torch.Tensor], Mapping[str, torch.Tensor]],
    spec: GraphSpec,
    feature_dim: int,
    texts: Callable[[int], tuple[torch.Tensor, Arrays]],
    progress: Callable[[str], None] = lambda _: None,
) -> Parity:
    """Compare a file that takes features with the network.

    Args:
        run: Runs the file: inputs by name to outputs by name.
        reference: The network: features [B, T, D] and text embeddings [C, D] to outputs by name.
        spec: Cases and tolerances of its kind.
        feature_dim: D.
        texts: Function from the number of a case to text embeddings [C, D] and the file's text inputs.
        progress: Called after each case.
    """
    cases: list[Case] = []
    for kind, batch, snippets in spec.cases:
        embeddings, text_inputs = texts(len(cases))
        for seed in range(MAX_DRAWS):
            features = _draw(kind, batch, snippets, feature_dim, seed)
            with torch.inference_mode():
                expected = reference(torch.from_numpy(features), embeddings)
            if spec.is_decided(expected):
                break
        outputs = run({FEATURES: features, **text_inputs})
        errors = {name: _difference(outputs[name], value.numpy()) for name, value in expected.items()}
        case = Case(f"{snippets} snippets", f"batch {batch}, {kind} features", errors)
        cases.append(case)
        progress(f"{case.size}, {case.detail}")
    return Parity(tuple(cases), {key: list(values) for key, values in vars(spec.cases).items()}, spec.tolerance)


def check_text_tower(run: Callable[[Arrays], Arrays], network: Any, token_ids: Mapping[str, np.ndarray]) -> Parity:
    """Compare a text tower with the network's.

    Args:
        run: Runs the file.
        network: The network, with a text tower.
        token_ids: int64 [classes, tokens] of each case, by label.
    """
    cases = []
    for label, ids in token_ids.items():
        with torch.inference_mode():
            reference = network.encode_text(torch.from_numpy(ids)).numpy()
        outputs = run({TOKEN_IDS: ids})
        errors = {TEXT_EMBEDDINGS: _difference(outputs[TEXT_EMBEDDINGS], reference)}
        cases.append(Case(label, "as a text", errors))
    covered = {"vocabularies": [list(ids.shape) for ids in token_ids.values()]}
    return Parity(tuple(cases), covered, {TEXT_EMBEDDINGS: TEXT_TOLERANCE})


def check_image_tower(
    run: Callable[[Arrays], Arrays], reference: Callable[[torch.Tensor], torch.Tensor], size: int
) -> Parity:
    """Compare an image tower with the network's, relative to what distinguishes images.

    CLIP's embeddings share most of their length: an error is measured against the distance of an image's embedding
    from the mean over all images of the check.

    Args:
        run: Runs the file.
        reference: The network: uint8 [B, S, S, 3] to [B, D].
        size: Edge S of the images, in pixels.
    """
    images = varied_images(sum(IMAGE_BATCHES), size)
    images[0], images[-1] = 0, PEAK
    with torch.inference_mode():
        expected = reference(torch.from_numpy(images)).numpy().astype(np.float64)
    spread = float(np.sqrt(np.mean((expected - expected.mean(axis=0)) ** 2)))
    cases, first = [], 0
    for batch in IMAGE_BATCHES:
        rows = slice(first, first + batch)
        found, first = run({PIXELS: images[rows]})[IMAGE_EMBEDDINGS], first + batch
        _difference(found, expected[rows].astype(np.float32))
        error = float(np.sqrt(np.mean((found - expected[rows]) ** 2))) / spread
        cases.append(Case(f"{batch} images", "relative to their spread", {IMAGE_EMBEDDINGS: error}))
    return Parity(tuple(cases), {"batches": list(IMAGE_BATCHES)}, {IMAGE_EMBEDDINGS: IMAGE_TOLERANCE})


def _draw(kind: str, batch: int, snippets: int, feature_dim: int, seed: int) -> np.ndarray:
    if kind == CLIP_LIKE:
        return clip_like_features(batch, snippets, feature_dim, seed=seed)
    rng = np.random.default_rng([seed, batch, snippets])
    return rng.standard_normal((batch, snippets, feature_dim)).astype(np.float32)


def _difference(found: np.ndarray, reference: np.ndarray) -> float:
    if found.shape != reference.shape:
        raise BadDataError("exported file", f"gives shape {found.shape}, the network {reference.shape}")
    difference = float(np.abs(found - reference).max())
    return difference if np.isfinite(difference) else float("inf")
