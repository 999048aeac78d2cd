"""OpenVINO's own int8: a graph of fp32 quantised by NNCF, in a process of its own.

NNCF prints as it goes, which nobody reads there.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stale_edge_runtime.child import Child, ChildDiedError, Parent
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.session import short_reason
from stale_edge_runtime.synthetic import clip_like_features

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIX: Final = ".xml"
"""Ending of a graph of OpenVINO, whose weights lie beside it."""
WEIGHTS_SUFFIX: Final = ".bin"
LENGTHS: Final = (50, 100, 200, 400)
"""Snippets of the videos to calibrate on."""
SEEDS: Final = range(4)
"""Seeds of the videos of each length."""
LIMIT_S: Final = 900.0


@dataclass(frozen=True)
class Calibration:
    """Task of the process."""

    source: str
    """The fp32 file as OpenVINO can read it."""
    target: str
    """Graph to write; its weights go beside it."""
    text: dict[str, tuple[Any, str]]
    """Values and element type of each other input."""
    features: str
    """Name of the input that takes the features."""
    feature_dim: int
    """Width of a snippet."""


def has_nncf() -> bool:
    """Whether NNCF is installed."""
    return find_spec("nncf") is not None


def quantize_by_nncf(
    source: Path, target: Path, features: str, feature_dim: int, text: Mapping[str, NDArray[Any]]
) -> None:
    """Quantise a graph by NNCF's post-training quantisation with its settings for transformers, on CLIP-like features.

    Args:
        source: The fp32 file as OpenVINO can read it.
        target: Graph to write, ending in `SUFFIX`.
        features: Name of the input that takes the features.
        feature_dim: Width of a snippet.
        text: Other inputs by name.

    Raises:
        BadDataError: NNCF cannot quantise the graph, or takes too long.
    """
    listed = {name: (value.tolist(), str(value.dtype)) for name, value in text.items()}
    task = Calibration(str(source), str(target), listed, features, feature_dim)
    child = Child(f"from {__spec__.name} import main; main()")
    try:
        child.send(json.dumps(asdict(task)).encode())
        child.receive(LIMIT_S)
    except TimeoutError:
        raise BadDataError(source, f"NNCF did not end within {LIMIT_S:g} s") from None
    except ChildDiedError as error:
        raise BadDataError(source, f"NNCF's process ended ({error})") from None
    finally:
        child.close()


def main() -> None:
    """Quantise what the parent process asks for."""
    parent = Parent()
    task = Calibration(**json.loads(parent.receive()))
    parent.answer(lambda: _quantized(task))


def _quantized(task: Calibration) -> dict[str, Any]:
    from pathlib import Path

    import nncf
    import openvino as ov

    text = {name: np.array(values, dtype=element) for name, (values, element) in task.text.items()}
    videos = [
        {task.features: clip_like_features(1, snippets, task.feature_dim, seed=seed), **text}
        for seed in SEEDS
        for snippets in LENGTHS
    ]
    failures = (
        RuntimeError,
        ValueError,
        TypeError,
        nncf.ValidationError,
        nncf.InternalError,
        nncf.UnsupportedModelError,
    )
    try:
        graph = ov.Core().read_model(Path(task.source).read_bytes(), b"")
        made = nncf.quantize(
            graph,
            nncf.Dataset(videos),
            subset_size=len(videos),
            target_device=nncf.TargetDevice.CPU,
            model_type=nncf.ModelType.TRANSFORMER,
        )
        ov.save_model(made, task.target, compress_to_fp16=False)
    except failures as error:
        raise BadDataError(task.source, f"NNCF cannot quantise it ({short_reason(error)})") from error
    return {}
