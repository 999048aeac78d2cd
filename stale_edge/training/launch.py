"""Processes and devices of a training."""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING

import torch

from stale_edge_runtime.errors import UnavailableError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def accelerator() -> str:
    """Name the device that networks are trained on here: `cuda` where PyTorch has it, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def launch(device: str, devices: int = 1, precision: str = "fp32") -> Fabric:
    """Start all processes of this machine, or join those of torchrun.

    Args:
        device: `cpu` or `cuda`.
        devices: Processes, or GPUs, of this machine; torchrun sets its own.
        precision: `fp32`, or `bf16` for mixed precision.

    Raises:
        UnavailableError: There are fewer GPUs.
    """
    from lightning_fabric import Fabric

    for name in ("lightning_fabric", "lightning.fabric"):  # it says what it starts, and on stderr
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*all_gather is deprecated", category=FutureWarning)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    nodes = max(1, int(os.environ.get("WORLD_SIZE", local)) // local) if "LOCAL_WORLD_SIZE" in os.environ else 1
    if device == "cuda" and local > torch.cuda.device_count():
        raise UnavailableError("--devices", f"asks for {local} GPUs of {torch.cuda.device_count()}", "give fewer")
    fabric = Fabric(
        accelerator=device,
        devices=local,
        num_nodes=nodes,
        strategy="ddp" if local * nodes > 1 else "auto",
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric
