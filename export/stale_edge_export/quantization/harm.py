"""Effect of a change of precision on the outputs, in terms that a user understands."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stale_edge_export.graphs.registry import decisions
from stale_edge_runtime.bench.macs import model_feeds
from stale_edge_runtime.bench.vocabulary import synthetic_vocabulary
from stale_edge_runtime.contract import Role
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.session import open_session
from stale_edge_runtime.synthetic import clip_like_features, varied_images
from stale_edge_runtime.video.tower import ImageTower

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import onnxruntime as ort

    from stale_edge_export.graphs.base import Decision
    from stale_edge_runtime.model_file import ModelFile

LENGTHS = (100, 200, 1000)
HARM_CLASSES = 20
HARM_IMAGES = 24


@dataclass(frozen=True)
class OutputHarm:
    """Change of one output."""

    relative_error: float
    """Root mean square of the change over the standard deviation of the reference; of a tower, over the spread of its
    embeddings around their mean."""
    largest_change: float
    """Largest absolute change."""
    changed_decisions: float | None
    """Share of the decisions taken from it, see `GraphSpec.decisions`, that changed; None where none are taken."""

    def to_json(self) -> dict[str, float | None]:
        """Give the figures, rounded to three digits."""
        return {key: None if value is None else float(f"{value:.3g}") for key, value in asdict(self).items()}


def calibration_features(model: ModelFile, given: Sequence[np.ndarray] = ()) -> list[np.ndarray]:
    """Features to measure harm on: those given, or CLIP-like ones at a few lengths.

    Args:
        model: The file.
        given: float32 [T, D] each.

    Returns:
        float32 [1, T, D] each.
    """
    if given:
        return [features[None] for features in given]
    dim = model.info.feature_dim
    if model.info.role is Role.IMAGE_TOWER:
        return image_groups(varied_images(HARM_IMAGES, model.info.image_size), model)
    return [clip_like_features(1, length, dim, seed=seed) for seed, length in enumerate(LENGTHS)]


def image_groups(images: np.ndarray, model: ModelFile) -> list[np.ndarray]:
    """Group images as an image tower is run on them: numbers of activations are shared by a group.

    Args:
        images: uint8 [B, S, S, 3].
        model: The image tower.

    Returns:
        The same images, a few in each.
    """
    size = ImageTower.batch_of(model.info)
    return [images[first : first + size] for first in range(0, len(images), size)]


def run_outputs(model: ModelFile, features: Iterable[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Run a file on all that its changes are measured on.

    Args:
        model: The file.
        features: Inputs, as for `measure_harm`.

    Returns:
        Outputs by name, for each of the inputs.
    """
    session = open_session(model)
    vocabulary = synthetic_vocabulary(model.info.feature_dim, classes=HARM_CLASSES)
    inputs = [np.empty(0, np.float32)] if model.info.role is Role.TEXT_TOWER else features
    return [_run(session, model_feeds(model, item, vocabulary)) for item in inputs]


def measure_harm(
    reference: ModelFile,
    changed: ModelFile,
    features: Sequence[np.ndarray],
    before: list[dict[str, np.ndarray]] | None = None,
) -> dict[str, OutputHarm]:
    """Compare two files output by output.

    Args:
        reference: The fp32 file.
        changed: The file made from it.
        features: float32 [1, T, D] each, or uint8 [B, S, S, 3] for an image tower; a text tower ignores them.
        before: Outputs of the fp32 file, where they are known.

    Returns:
        Harm of each output.

    Raises:
        BadDataError: The changed file gives NaN or infinity.
    """
    pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    known = run_outputs(reference, features) if before is None else before
    for one, other in zip(known, run_outputs(changed, features), strict=True):
        for name in one:
            pairs.setdefault(name, []).append((one[name], other[name]))
    decided = decisions(reference.info)
    centred = reference.info.role is not Role.DETECTOR
    return {
        name: _harm(changed.path, name, values, decided.get(name), centred=centred) for name, values in pairs.items()
    }


def _run(session: ort.InferenceSession, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def _harm(
    path: Path, name: str, pairs: list[tuple[np.ndarray, np.ndarray]], decision: Decision | None, *, centred: bool
) -> OutputHarm:
    before = np.concatenate([pair[0].ravel() for pair in pairs]).astype(np.float64)
    after = np.concatenate([pair[1].ravel() for pair in pairs]).astype(np.float64)
    if not np.isfinite(after).all():
        raise BadDataError(path, f"{name} is not finite", "keep more in fp32 with --exclude")
    difference = after - before
    spread = (_spread_around_mean(pairs) if centred else float(before.std())) or 1.0
    return OutputHarm(
        relative_error=float(np.sqrt(np.mean(difference**2))) / spread,
        largest_change=float(np.abs(difference).max()),
        changed_decisions=None if decision is None else _changed_share(decision, pairs),
    )


def _spread_around_mean(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Compute what distinguishes embeddings: they share most of their length, which no detector looks at."""
    rows = np.concatenate([pair[0] for pair in pairs]).astype(np.float64)
    return float((rows - rows.mean(axis=0)).std())


def _changed_share(decision: Decision, pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    changed = [(decision.decide(before) != decision.decide(after)).ravel() for before, after in pairs]
    return float(np.mean(np.concatenate(changed)))


def harm_json(harm: dict[str, OutputHarm]) -> dict[str, Any]:
    """Write all harms as JSON values."""
    return {name: item.to_json() for name, item in harm.items()}
