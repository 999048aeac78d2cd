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
from stale_edge_runtime.synthetic import clip_like_features

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import onnxruntime as ort

    from stale_edge_export.graphs.base import Decision
    from stale_edge_runtime.model_file import ModelFile

LENGTHS = (100, 200, 1000)
HARM_CLASSES = 20


@dataclass(frozen=True)
class OutputHarm:
    """Change of one output."""

    relative_error: float
    """Root mean square of the change over the standard deviation of the reference."""
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
    return [clip_like_features(1, length, dim, seed=seed) for seed, length in enumerate(LENGTHS)]


def measure_harm(reference: ModelFile, changed: ModelFile, features: Iterable[np.ndarray]) -> dict[str, OutputHarm]:
    """Compare two files output by output.

    Args:
        reference: The fp32 file.
        changed: The file made from it.
        features: float32 [1, T, D] each; a text tower ignores them.

    Returns:
        Harm of each output.

    Raises:
        BadDataError: The changed file gives NaN or infinity.
    """
    sessions = open_session(reference), open_session(changed)
    vocabulary = synthetic_vocabulary(reference.info.feature_dim, classes=HARM_CLASSES)
    pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    inputs = [np.empty(0, np.float32)] if reference.info.role is Role.TEXT_TOWER else features
    for item in inputs:
        feeds = model_feeds(reference, item, vocabulary)
        outputs = [_run(session, feeds) for session in sessions]
        for name in outputs[0]:
            pairs.setdefault(name, []).append((outputs[0][name], outputs[1][name]))
    decided = decisions(reference.info)
    return {name: _harm(changed.path, name, values, decided.get(name)) for name, values in pairs.items()}


def _run(session: ort.InferenceSession, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def _harm(path: Path, name: str, pairs: list[tuple[np.ndarray, np.ndarray]], decision: Decision | None) -> OutputHarm:
    before = np.concatenate([pair[0].ravel() for pair in pairs]).astype(np.float64)
    after = np.concatenate([pair[1].ravel() for pair in pairs]).astype(np.float64)
    if not np.isfinite(after).all():
        raise BadDataError(path, f"{name} is not finite", "keep more in fp32 with --exclude")
    difference = after - before
    spread = float(before.std()) or 1.0
    return OutputHarm(
        relative_error=float(np.sqrt(np.mean(difference**2))) / spread,
        largest_change=float(np.abs(difference).max()),
        changed_decisions=None if decision is None else _changed_share(decision, pairs),
    )


def _changed_share(decision: Decision, pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    changed = [(decision.decide(before) != decision.decide(after)).ravel() for before, after in pairs]
    return float(np.mean(np.concatenate(changed)))


def harm_json(harm: dict[str, OutputHarm]) -> dict[str, Any]:
    """Write all harms as JSON values."""
    return {name: item.to_json() for name, item in harm.items()}
