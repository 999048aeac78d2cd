"""The check that ends every export: the written file against the network, at lengths chosen to hurt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stale_edge_runtime.contract import CLASS_LOGITS, FEATURES, MASKS, TEXT_EMBEDDINGS, TOKEN_IDS, VIDEO_LOGITS
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.synthetic import clip_like_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from stale_edge.networks.stale.model import STALE

LENGTHS = (1, 2, 3, 99, 100, 101, 257, 1000)
BATCHES = (1, 3)
INPUTS = ("random", "clip_like")
TOLERANCE = {CLASS_LOGITS: 1e-4, VIDEO_LOGITS: 1e-4, MASKS: 1e-5, TEXT_EMBEDDINGS: 1e-4}
GATE_MARGIN = 2e-6
MAX_DRAWS = 50

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One comparison of a file with the network."""

    size: str
    """What makes it hard, as in `257 snippets`."""
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
    """What was covered: lengths, batches, kinds of input."""

    @property
    def max_error(self) -> dict[str, float]:
        """Largest absolute difference of each output."""
        return self._largest(self.cases)

    def by_size(self) -> dict[str, dict[str, float]]:
        """Largest absolute difference of each output at each size."""
        sizes = dict.fromkeys(case.size for case in self.cases)
        return {size: self._largest(case for case in self.cases if case.size == size) for size in sizes}

    def to_metadata(self) -> dict[str, Any]:
        """What the file's metadata records."""
        return {
            **self.covered,
            "max_error": {name: float(f"{error:.3g}") for name, error in self.max_error.items()},
            "tolerance": {name: TOLERANCE[name] for name in self.max_error},
        }

    def require(self, path: Path) -> None:
        """Refuse a file whose outputs differ from the network's.

        Raises:
            BadDataError: An output is beyond its tolerance, or not finite.
        """
        for case in self.cases:
            for name, error in case.errors.items():
                if not error <= TOLERANCE[name]:
                    raise BadDataError(
                        path,
                        f"{name} differs from PyTorch by {error:.2g} at {case.size}, {case.detail}, "
                        f"more than {TOLERANCE[name]:.0e}",
                        "no file was written; try --no-fold and report this",
                    )

    @staticmethod
    def _largest(cases: Iterable[Case]) -> dict[str, float]:
        listed = list(cases)
        return {name: max(case.errors[name] for case in listed) for name in listed[0].errors}


def check_detection(
    run: Callable[[Arrays], Arrays],
    network: STALE,
    texts: Callable[[int], tuple[torch.Tensor, Arrays]],
    progress: Callable[[str], None] = lambda _: None,
) -> Parity:
    """Compare a file that takes features with the network.

    Args:
        run: Runs the file: inputs by name to outputs by name.
        network: The network.
        texts: From the number of a case to text embeddings [C, D] and the file's text inputs.
        progress: Called after each case.
    """
    cases: list[Case] = []
    for kind in INPUTS:
        for batch in BATCHES:
            for snippets in LENGTHS:
                embeddings, text_inputs = texts(len(cases))
                features, reference = _decided_case(network, embeddings, kind, batch, snippets)
                outputs = run({FEATURES: features, **text_inputs})
                errors = {name: _difference(outputs[name], reference[name]) for name in reference}
                case = Case(f"{snippets} snippets", f"batch {batch}, {kind} features", errors)
                cases.append(case)
                progress(f"{case.size}, {case.detail}")
    return Parity(tuple(cases), {"lengths": list(LENGTHS), "batches": list(BATCHES), "inputs": list(INPUTS)})


def check_text_tower(run: Callable[[Arrays], Arrays], network: STALE, token_ids: Mapping[str, np.ndarray]) -> Parity:
    """Compare a text tower with the network's.

    Args:
        run: Runs the file.
        network: The network.
        token_ids: int64 [classes, tokens] of each case, by label.
    """
    cases = []
    for label, ids in token_ids.items():
        with torch.inference_mode():
            reference = network.encode_text(torch.from_numpy(ids)).numpy()
        outputs = run({TOKEN_IDS: ids})
        errors = {TEXT_EMBEDDINGS: _difference(outputs[TEXT_EMBEDDINGS], reference)}
        cases.append(Case(label, "as a text", errors))
    return Parity(tuple(cases), {"vocabularies": [list(ids.shape) for ids in token_ids.values()]})


def _decided_case(
    network: STALE, embeddings: torch.Tensor, kind: str, batch: int, snippets: int
) -> tuple[np.ndarray, Arrays]:
    """Features whose gate is decided, and what the network says of them.

    A snippet within rounding of the gate's threshold may fall on either side, and both are right; such a draw says
    nothing about the file and is replaced by the next.
    """
    for seed in range(MAX_DRAWS):
        features = _draw(kind, batch, snippets, network.config.feature_dim, seed)
        with torch.inference_mode():
            tensors = network.detect(torch.from_numpy(features), embeddings)
        if snippets == 1 or _gate_margin(tensors.masks) > GATE_MARGIN:
            break
    named = {CLASS_LOGITS: tensors.class_logits, MASKS: tensors.masks, VIDEO_LOGITS: tensors.video_logits}
    return features, {name: value.numpy() for name, value in named.items()}


def _draw(kind: str, batch: int, snippets: int, feature_dim: int, seed: int) -> np.ndarray:
    if kind == "clip_like":
        return clip_like_features(batch, snippets, feature_dim, seed=seed)
    rng = np.random.default_rng([seed, batch, snippets])
    return rng.standard_normal((batch, snippets, feature_dim)).astype(np.float32)


def _gate_margin(masks: torch.Tensor) -> float:
    strength = masks.mean(dim=2)[:, None]
    strength = torch.nn.functional.interpolate(strength, size=masks.shape[2], mode="linear", align_corners=False)
    return float((strength - strength.mean(dim=2, keepdim=True)).abs().min())


def _difference(found: np.ndarray, reference: np.ndarray) -> float:
    if found.shape != reference.shape:
        raise BadDataError("exported file", f"gives shape {found.shape}, the network {reference.shape}")
    difference = float(np.abs(found - reference).max())
    return difference if np.isfinite(difference) else float("inf")
