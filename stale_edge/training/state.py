"""State of a training in one `.safetensors` file: weights, optimiser, random states, position.

The learning rate is a function of the step, so a scheduler has no state of its own. A file is read back only into the
very training that wrote it: settings and data that differ are named and refused.

Source: docs/reliability.md.
"""

from __future__ import annotations

import dataclasses
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from stale_edge.checkpoint import METADATA_KEY, write_tensors
from stale_edge_runtime.contract import STALE_NETWORK
from stale_edge_runtime.errors import BadDataError, InputMissingError, UsageError, reading

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

FORMAT: Final = "stale-edge-training-1"
_FIELDS: Final = {"format", "network", "settings", "data", "processes", "progress"}
_MOMENTS: Final = ("exp_avg", "exp_avg_sq")
_DAMAGED: Final = "it is damaged or not of this program: start again in another folder"
ADDED_SETTINGS: Final = {"average_decay": None, "drop_last": False}
"""Settings that states of earlier versions lack, and what they meant."""
_PYTHON_WORDS: Final = 625
_NUMPY_WORDS: Final = 624


@dataclass(frozen=True)
class TrainingProgress:
    """Position of a training."""

    step: int = 0
    """Steps done in all epochs together; this is the position in the epoch too."""
    validated_step: int = 0
    """Step of the last validation."""
    best_score: float | None = None
    """Best held-out average mAP so far, in [0, 1]."""
    best_step: int = 0
    """Step it was reached at."""
    epochs_since_best: int = 0
    """Validations since then."""
    stopped_early: bool = False
    """Whether patience ran out."""


@dataclass(frozen=True)
class TrainingIdentity:
    """Properties of a training; all but the processes must be the same for it to be resumed."""

    network: Mapping[str, Any]
    """Sizes of the network."""
    settings: Mapping[str, Any]
    """Settings of the training."""
    data: Mapping[str, Any]
    """Summary of the data."""
    processes: int = 1
    """Number of processes; a training may go on with another number."""

    def require_same(self, path: Path, stored: TrainingIdentity) -> None:
        """Check what a file says against this.

        Raises:
            UsageError: They differ; the message names the first difference.
        """
        for group in ("network", "settings", "data"):
            ours, theirs = getattr(self, group), getattr(stored, group)
            for name in sorted(ours.keys() | theirs.keys()):
                if ours.get(name) != theirs.get(name):
                    was, now = (str(side.get(name))[:60] for side in (theirs, ours))
                    problem = f"was trained with another {name.replace('_', ' ')} ({was}, now {now})"
                    raise UsageError(path, problem, "resume with the options of its start, or choose another folder")


def random_states() -> dict[str, Tensor]:
    """States of all generators of this process: Python's, numpy's, torch's, and those of its GPUs."""
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002 (libraries may use the global one)
    numpy_words = (*numpy_state["state"]["key"], numpy_state["state"]["pos"])
    _, python_words, python_gauss = random.getstate()
    states = {
        "random.python": _numbers(*python_words, python_gauss is not None, python_gauss or 0.0),
        "random.numpy": _numbers(*numpy_words, numpy_state["has_gauss"], numpy_state["gauss"]),
        "random.torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():
        states["random.cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: Mapping[str, Tensor]) -> None:
    """Go back to what `random_states` gave.

    Raises:
        ValueError: The states cannot be those of a generator.
        RuntimeError: The same, as torch says it.
    """
    python, numpy_words = (states[name].tolist() for name in ("random.python", "random.numpy"))
    if len(python) != _PYTHON_WORDS + 2 or len(numpy_words) != _NUMPY_WORDS + 3:
        raise ValueError("states of random generators have another length")
    words = tuple(_whole(python[:_PYTHON_WORDS]))
    random.setstate((random.getstate()[0], words, python[-1] if python[-2] else None))
    key = np.array(_whole(numpy_words[:_NUMPY_WORDS]), dtype=np.uint32)
    (position,), (has_gauss,) = _whole([numpy_words[-3]], _NUMPY_WORDS + 1), _whole([numpy_words[-2]], 2)
    state, gauss = {"key": key, "pos": position}, numpy_words[-1]
    np.random.set_state(  # noqa: NPY002
        {"bit_generator": "MT19937", "state": state, "has_gauss": has_gauss, "gauss": gauss}
    )
    torch.set_rng_state(states["random.torch"])
    if "random.cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["random.cuda"])


def save_state(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    states: Mapping[str, Tensor],
    progress: TrainingProgress,
    identity: TrainingIdentity,
    beside: Mapping[str, nn.Module] | None = None,
) -> None:
    """Write where a training stands, whole or not at all.

    Args:
        path: Target.
        network: Network whose weights are saved.
        optimizer: Adam or AdamW over the network's parameters.
        states: States of the random generators, one row for each process.
        progress: Position of the training.
        identity: Properties of the training.
        beside: Further modules whose tensors are part of it, by name.

    Raises:
        CannotWriteError: The target cannot be written.
        StorageError: The disk is full or failed.
    """
    tensors = _state({"network": network, **(beside or {})})
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value
    metadata = {"format": FORMAT, **dataclasses.asdict(identity), "progress": dataclasses.asdict(progress)}
    write_tensors(path, {**tensors, **states}, metadata)


def load_state(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    identity: TrainingIdentity,
    beside: Mapping[str, nn.Module] | None = None,
) -> tuple[TrainingProgress, dict[str, Tensor]]:
    """Read what `save_state` wrote into a network and its optimiser.

    Args:
        path: The file.
        network: Gets its weights.
        optimizer: Gets its state.
        identity: Properties that the training must have.
        beside: Further modules that get their tensors, by name.

    Returns:
        Position of the training, and the states of the random generators.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: It is not such a file, or a tensor in it is not what the network says.
        UsageError: It is of another training.
    """
    metadata, tensors = _read(path)
    stored, progress = _described(path, metadata)
    identity.require_same(path, stored)
    modules = {"network": network, **(beside or {})}
    expected = _state(modules)
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    for name, parameter in trained.items():
        if f"optimizer.step.{name}" in tensors:
            expected[f"optimizer.step.{name}"] = torch.tensor(0.0)
            expected |= {f"optimizer.{key}.{name}": parameter for key in _MOMENTS}
    states = {name: tensors.pop(name) for name in list(tensors) if name.startswith("random.")}
    _check(path, expected, tensors)
    for prefix, module in modules.items():
        module.load_state_dict({name: tensors[f"{prefix}.{name}"] for name in module.state_dict()})
    for name, parameter in trained.items():
        if f"optimizer.step.{name}" in tensors:
            moments = {key: tensors[f"optimizer.{key}.{name}"].to(parameter.device) for key in _MOMENTS}
            optimizer.state[parameter] = {"step": tensors[f"optimizer.step.{name}"], **moments}
    rows = {"random.python", "random.numpy", "random.torch"}
    if not rows <= states.keys() <= rows | {"random.cuda"} or any(
        value.ndim != 2 or len(value) != stored.processes for value in states.values()
    ):
        raise BadDataError(path, "lacks states of random generators", _DAMAGED)
    return progress, states


def _state(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Name all tensors of modules by module."""
    return {
        f"{prefix}.{name}": value for prefix, module in modules.items() for name, value in module.state_dict().items()
    }


def _numbers(*values: float) -> Tensor:
    """Convert to float64, in which whole numbers below 2^32 are exact."""
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def _whole(values: list[float], limit: int = 1 << 32) -> list[int]:
    if not all(0 <= value < limit and value == int(value) for value in values):
        raise ValueError("a word of a random state is out of range")
    return [int(value) for value in values]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputMissingError(path, "no such file", "there is nothing to resume: leave --resume out")
    try:
        with reading(path), safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get(METADATA_KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, ValueError, RecursionError) as error:
        raise BadDataError(path, f"cannot be read ({error})", _DAMAGED) from error
    return metadata, tensors


def _described(path: Path, metadata: Any) -> tuple[TrainingIdentity, TrainingProgress]:
    if not isinstance(metadata, dict) or metadata.keys() != _FIELDS or metadata["format"] != FORMAT:
        raise BadDataError(path, f"does not say format {FORMAT!r}: not a training of stale-edge", _DAMAGED)
    network, settings, data, progress = (metadata[name] for name in ("network", "settings", "data", "progress"))
    groups = (network, settings, data, progress)
    if not all(isinstance(group, dict) for group in groups) or type(metadata["processes"]) is not int:
        raise BadDataError(path, "has metadata of another form", _DAMAGED)
    fields = {field.name for field in dataclasses.fields(TrainingProgress)}
    score = progress.get("best_score")
    counts = [progress.get(name) for name in fields - {"best_score", "stopped_early"}]
    if (
        progress.keys() != fields
        or not all(type(count) is int and count >= 0 for count in counts)
        or not (score is None or (isinstance(score, float) and 0 <= score <= 1))
        or not isinstance(progress["stopped_early"], bool)
    ):
        raise BadDataError(path, "has a progress of another form", _DAMAGED)
    network = {"network": STALE_NETWORK, **network}  # states of 0.1 name none
    settings = {**ADDED_SETTINGS, **settings}
    return TrainingIdentity(network, settings, data, metadata["processes"]), TrainingProgress(**progress)


def _check(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    if odd := sorted(expected.keys() ^ found.keys()):
        problem = "lacks" if odd[0] in expected else "holds a surplus"
        raise BadDataError(path, f"{problem} {odd[0]}", _DAMAGED)
    for name, value in expected.items():
        if found[name].shape != value.shape or found[name].dtype != value.dtype:
            raise BadDataError(path, f"{name} is {list(found[name].shape)}, not {list(value.shape)}", _DAMAGED)
        if not bool(found[name].isfinite().all()):
            raise BadDataError(path, f"{name} holds NaN or infinity", _DAMAGED)
