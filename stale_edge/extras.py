"""Commands that need an optional part of the installation say so in one line."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from stale_edge_runtime.errors import missing_extra

_REPORT = ("matplotlib", "plotly")


def require_export(purpose: str) -> None:
    """Make sure that what export, convert and quantize import is installed.

    Args:
        purpose: The command that needs it.

    Raises:
        UnavailableError: A package is missing; the message names the extra that brings it.
    """
    _require(("torch", "onnx", "onnxscript", "safetensors"), "export", purpose)


def require_train(purpose: str) -> None:
    """Make sure that what training imports is installed.

    Raises:
        UnavailableError: A package is missing; the message names the extra that brings it.
    """
    packages = ("torch", "safetensors", "lightning_fabric", "tensorboardX")
    _require(packages, "train", purpose)


def require_simulation(purpose: str) -> None:
    """Make sure that what draws simulated videos, to train on, is installed.

    Raises:
        UnavailableError: PyTorch is missing; the message names the extra of those who train.
    """
    _require(("torch",), "train", purpose)


def require_checkpoint(purpose: str) -> None:
    """Make sure that checkpoints can be read.

    Raises:
        UnavailableError: A package is missing; the message names the extra that brings it.
    """
    _require(("torch", "safetensors"), "export", purpose)


def require_study(purpose: str) -> None:
    """Make sure that what any study imports is installed: to teach, to export and to measure.

    Raises:
        UnavailableError: A package is missing; the message names the extra that brings it.
    """
    require_train(purpose)
    _require(("onnx", "onnxscript"), "train", purpose)


def has_report() -> bool:
    """Whether the pictures and pages of studies can be made."""
    return all(find_spec(package) is not None for package in _REPORT)


def require_plot(purpose: str) -> None:
    """Make sure that pictures can be drawn.

    Raises:
        UnavailableError: Matplotlib is missing; the message names the extra that brings it.
    """
    _require(("matplotlib",), "plot", purpose)
    _keep_out_of_home()


def require_report(purpose: str) -> None:
    """Make sure that a report of studies can be written.

    Raises:
        UnavailableError: A package is missing; the message names the extra that brings it.
    """
    _require(_REPORT, "report", purpose)
    _keep_out_of_home()


def require_video(purpose: str) -> None:
    """Make sure that videos can be read and written.

    Raises:
        UnavailableError: A package is missing; the message names the extra that brings it.
    """
    _require(("av", "PIL"), "video", purpose)


def require_transformers(purpose: str) -> None:
    """Make sure that Hugging Face's CLIP can be measured.

    Raises:
        UnavailableError: A package is missing; the message names the extra that brings it.
    """
    _require(("transformers", "torch", "av"), "peers", purpose)


def require_peers(purpose: str) -> None:
    """Make sure that other engines can be measured.

    Raises:
        UnavailableError: A package is missing; the message names the extra that brings it.
    """
    _require(("openvino", "onnx"), "peers", purpose)


def _keep_out_of_home() -> None:
    """Give matplotlib a folder for its list of fonts until the process ends, unless it has one of its own already."""
    names = {"XDG_CACHE_HOME": ".cache", "XDG_CONFIG_HOME": ".config"}
    usual = [Path(os.environ.get(key) or Path("~", name).expanduser()) / "matplotlib" for key, name in names.items()]
    if "MPLCONFIGDIR" in os.environ or any(folder.is_dir() for folder in usual):
        return
    folder = tempfile.mkdtemp(prefix="stale-edge-")
    os.environ["MPLCONFIGDIR"] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _require(packages: tuple[str, ...], extra: str, purpose: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            raise missing_extra(package, extra, purpose)
