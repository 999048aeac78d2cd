"""Files in the published format of STALE, filled by the seeding rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from stale_edge.networks.stale.config import ModelConfig
from stale_edge.networks.stale.published_names import published_name
from stale_edge.networks.stale.seeding import seeded_values
from stale_edge.seeded import seeded_network
from stale_edge_runtime.formats.files import atomic_path

if TYPE_CHECKING:
    from pathlib import Path


def write_published_checkpoint(path: Path, seed: int, config: ModelConfig | None = None) -> None:
    """Write a file in the published format, image tower and DataParallel prefix included, filled by the rule.

    Beside the published entries it holds the seed, so that nobody takes its weights for trained ones.

    Args:
        path: Where it goes, usually `….pth.tar`.
        seed: Seed of the rule.
        config: Sizes; the published ones by default.
    """
    network = seeded_network(config or ModelConfig(), seed)
    state = {f"module.{published_name(name)}": value for name, value in network.state_dict().items()}
    for name, shape in image_tower_shapes().items():
        state[f"module.{name}"] = torch.from_numpy(seeded_values(name, shape, seed))
    with atomic_path(path) as temporary:
        torch.save({"epoch": 0, "seed": seed, "state_dict": state}, temporary)


def image_tower_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of the unused parameters that a published file carries: CLIP ViT-B/32's image tower and remnants."""
    width, hidden, layers, patch, positions = 768, 3072, 12, 32, 50
    prefix = "txt_model.vision_model."
    linear = {
        **{f"self_attn.{part}_proj": (width, width) for part in ("k", "v", "q", "out")},
        "mlp.fc1": (hidden, width),
        "mlp.fc2": (width, hidden),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "contexts": (1, 30),
        "txt_model.logit_scale": (),
        f"{prefix}embeddings.class_embedding": (width,),
        f"{prefix}embeddings.patch_embedding.weight": (width, 3, patch, patch),
        f"{prefix}embeddings.position_embedding.weight": (positions, width),
        "txt_model.visual_projection.weight": (512, width),
        "classifier.0.weight": (202, 512, 1),
        "classifier.0.bias": (202,),
    }
    for layer in range(layers):
        for name, shape in linear.items():
            shapes[f"{prefix}encoder.layers.{layer}.{name}.weight"] = shape
            shapes[f"{prefix}encoder.layers.{layer}.{name}.bias"] = shape[:1]
    norms = [f"encoder.layers.{layer}.layer_norm{k}" for layer in range(layers) for k in (1, 2)]
    for norm in (*norms, "pre_layrnorm", "post_layernorm"):
        shapes[f"{prefix}{norm}.weight"] = shapes[f"{prefix}{norm}.bias"] = (width,)
    return shapes
