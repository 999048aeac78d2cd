"""Export of CLIP's towers from the weights of others, each to one checked file."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from stale_edge import __version__
from stale_edge.checkpoint import Checkpoint
from stale_edge.networks.clip_vocabulary import merges_beside
from stale_edge.networks.stale.config import ModelConfig
from stale_edge_export.encoding import encode_model
from stale_edge_export.exporter import ExportReport, export_checkpoint
from stale_edge_export.graphs.clip_image import REWRITES, ImageTowerGraph, PlainImageTower, best_batch
from stale_edge_export.parity import Arrays, check_image_tower
from stale_edge_export.tracing import trace_graph
from stale_edge_runtime.bench.macs import count_macs
from stale_edge_runtime.contract import (
    BATCH,
    CHANNELS,
    IMAGE_EMBEDDINGS,
    MAX_IMAGE_SIZE,
    PIXELS,
    Kind,
    ModelInfo,
    Precision,
)
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.feature_origin import FeatureOrigin
from stale_edge_runtime.formats.files import check_target, write_bytes
from stale_edge_runtime.model_file import parse_model
from stale_edge_runtime.session import open_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from stale_edge.networks.clip_image import ImageTowerConfig
    from stale_edge.networks.clip_sources import ClipSource
    from stale_edge.networks.clip_text import TextTower

TRACE_IMAGES = 3
"""Images to trace with: more than one, and no size of a tower."""


def export_image_tower(
    source: ClipSource,
    target: Path,
    *,
    channels: str = CHANNELS[0],
    fold: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> ExportReport:
    """Export an image tower, check the file against PyTorch, and write it.

    Args:
        source: The weights.
        target: File to write.
        channels: Order of colours that the tower is to see, one of `CHANNELS`; the file takes RGB all the same.
        fold: Apply the exact rewrites; without them the plain graph is written, for comparison.
        progress: Called with a line on each step.

    Raises:
        BadDataError: The tower is too large for a file of ours, or the file does not agree with PyTorch; nothing is
            written.
        CannotWriteError: The target cannot be written.
    """
    config = source.image_config
    if config.image_size > MAX_IMAGE_SIZE:
        raise BadDataError(source.subject, f"takes images of {config.image_size} pixels, more than {MAX_IMAGE_SIZE}")
    check_target(target)
    tower = source.image_tower()
    progress("tracing the image tower")
    graph = ImageTowerGraph(tower, channels) if fold else PlainImageTower(tower, channels)
    size = config.image_size
    model = trace_graph(
        graph.eval(),
        {PIXELS: torch.zeros(TRACE_IMAGES, size, size, 3, dtype=torch.uint8)},
        [IMAGE_EMBEDDINGS],
        ({0: BATCH},),
        name="clip-image",
    )
    info = ModelInfo(
        kind=Kind.IMAGE_TOWER,
        precision=Precision.FP32,
        feature_dim=config.embedding_dim,
        created_by=f"stale-edge {__version__}",
        feature_extractor=source.name,
        tower_sha256=source.tower_sha256,
        channels=channels,
        image_size=size,
        untrained=source.untrained,
        weights=_origin(source),
        rewrites=REWRITES if fold else (),
        extra=_facts(config),
    )
    file = parse_model(encode_model(model, info), target)
    session = open_session(file)

    def run(inputs: Arrays) -> Arrays:
        return {IMAGE_EMBEDDINGS: session.run([IMAGE_EMBEDDINGS], inputs)[0]}

    def reference(pixels: Tensor) -> Tensor:
        return tower.encode_pixels(pixels.flip(3) if channels == CHANNELS[1] else pixels)

    progress("checking the image tower against PyTorch")
    parity = check_image_tower(run, reference, size)
    parity.require(target)
    gmacs = count_macs(file).total(1) / 1e9
    info = replace(info, parity=parity.to_metadata(), extra={**info.extra, "gmacs_per_image": f"{gmacs:.6g}"})
    made = parse_model(encode_model(model, info), target)
    write_bytes(target, made.content)
    return ExportReport(made.info, parity, made.size_bytes)


def export_text_tower(
    source: ClipSource, target: Path, *, fold: bool = True, progress: Callable[[str], None] = lambda _: None
) -> ExportReport | None:
    """Export a text tower as `export_checkpoint` does; None where the source has none.

    The merges of its vocabulary are those beside the weights, or CLIP's own.

    Raises:
        BadDataError: The vocabulary beside the weights is not of CLIP's kind, or the file does not agree with PyTorch;
            nothing is written.
        CannotWriteError: The target cannot be written.
    """
    tower = source.text_tower()
    if tower is None or source.text_config is None:
        return None
    merges = merges_beside(source.folder, source.text_config.vocabulary) if source.folder else ""
    checkpoint = Checkpoint(
        _TextNetwork(tower, source),
        classes=(),
        origin=_origin(source),
        features=FeatureOrigin(extractor=source.name, tower_sha256=source.tower_sha256),
    )
    return export_checkpoint(checkpoint, target, kind=Kind.TEXT_TOWER, fold=fold, merges=merges, progress=progress)


class _TextNetwork(nn.Module):
    """A text tower in the place of a network that has one."""

    def __init__(self, tower: TextTower, source: ClipSource) -> None:
        super().__init__()
        self.text_tower = tower
        self.config = ModelConfig(feature_dim=source.image_config.embedding_dim, text=source.text_config)

    def encode_text(self, token_ids: Tensor) -> Tensor:
        embeddings: Tensor = self.text_tower(token_ids)
        return embeddings


def _origin(source: ClipSource) -> dict[str, Any]:
    if source.untrained:
        return {"source": "seeded", "seed": 0}
    return {"source": "clip", "form": source.form}


def _facts(config: ImageTowerConfig) -> dict[str, str]:
    """Properties of an image tower that readers of the file can do without."""
    preprocessing = {
        "resize": "shorter edge, bicubic with antialiasing",
        "crop": "centre",
        "mean": list(config.mean),
        "std": list(config.std),
    }
    vision = {
        "hidden_size": config.width,
        "intermediate_size": config.hidden,
        "projection_dim": config.embedding_dim,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "image_size": config.image_size,
        "patch_size": config.patch,
        "hidden_act": config.activation,
        "layer_norm_eps": config.norm_epsilon,
    }
    return {
        "best_batch": str(best_batch(config)),
        "preprocessing": json.dumps(preprocessing),
        "vision_config": json.dumps(vision),
    }
