"""Commands that need an optional part of the installation say so in one line."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from stale_edge_runtime.errors import missing_extra

_REPORT = ("matplotlib", "plotly")
_TRAIN = ("torch", "safetensors", "lightning_fabric", "tensorboardX")


def has_report() -> bool:
    """Whether the pictures and pages of studies can be made."""
    return all(find_spec(package) is not None for package in _REPORT)


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
    """Make sure that packages are installed.

    Args:
        packages: Import names.
        extra: Extra that brings them.
        purpose: Command or option that needs them.

    Raises:
        UnavailableError: A package is missing; the message names the extra that brings it.
    """
    for package in packages:
        if find_spec(package) is None:
            raise missing_extra(package, extra, purpose)
    if "matplotlib" in packages:
        _keep_out_of_home()


require_export = partial(_require, ("torch", "onnx", "onnxscript", "safetensors"), "export")
"""Require what export, convert and quantize import."""
require_checkpoint = partial(_require, ("torch", "safetensors"), "export")
"""Require what reads checkpoints."""
require_train = partial(_require, _TRAIN, "train")
"""Require what training imports."""
require_simulation = partial(_require, ("torch",), "train")
"""Require what draws simulated videos, to train on."""
require_study = partial(_require, (*_TRAIN, "onnx", "onnxscript"), "train")
"""Require what any study imports: to teach, to export and to measure."""
require_plot = partial(_require, ("matplotlib",), "plot")
"""Require what draws pictures."""
require_report = partial(_require, _REPORT, "report")
"""Require what writes a report of studies."""
require_video = partial(_require, ("av", "PIL"), "video")
"""Require what reads and writes videos."""
require_transformers = partial(_require, ("transformers", "torch", "av"), "peers")
"""Require what measures Hugging Face's CLIP."""
require_peers = partial(_require, ("openvino", "onnx"), "peers")
"""Require what measures other engines."""
