"""Names of CLIP's parameters in the files of others, and in the same order of meaning in ours.

Hugging Face names every projection; OpenAI and open_clip join query, key and value, and store projections transposed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

HUGGING_FACE_LAYER: Final = (
    ("query", "self_attn.q_proj"),
    ("key", "self_attn.k_proj"),
    ("value", "self_attn.v_proj"),
    ("output", "self_attn.out_proj"),
    ("attention_norm", "layer_norm1"),
    ("expand", "mlp.fc1"),
    ("contract", "mlp.fc2"),
    ("feed_forward_norm", "layer_norm2"),
)
"""Parts of a layer: ours, Hugging Face's."""
_OPEN_LAYER: Final = (
    ("output", "attn.out_proj"),
    ("attention_norm", "ln_1"),
    ("expand", "mlp.c_fc"),
    ("contract", "mlp.c_proj"),
    ("feed_forward_norm", "ln_2"),
)
_HUGGING_FACE: Final = {
    "vision_model.embeddings.patch_embedding": "image.patch_embedding",
    "vision_model.embeddings.class_embedding": "image.class_embedding",
    "vision_model.embeddings.position_embedding": "image.position_embedding",
    "vision_model.pre_layrnorm": "image.first_norm",
    **{f"vision_model.encoder.layers.#.{theirs}": f"image.layers.#.{ours}" for ours, theirs in HUGGING_FACE_LAYER},
    "vision_model.post_layernorm": "image.final_norm",
    "visual_projection": "image.projection",
    "text_model.embeddings.token_embedding": "text.token_embedding",
    "text_model.embeddings.position_embedding": "text.position_embedding",
    **{f"text_model.encoder.layers.#.{theirs}": f"text.layers.#.{ours}" for ours, theirs in HUGGING_FACE_LAYER},
    "text_model.final_layer_norm": "text.final_norm",
    "text_projection": "text.projection",
}
_OPEN: Final = {
    "visual.conv1": "image.patch_embedding",
    "visual.class_embedding": "image.class_embedding",
    "visual.positional_embedding": "image.position_embedding.weight",
    "visual.ln_pre": "image.first_norm",
    **{f"visual.transformer.resblocks.#.{theirs}": f"image.layers.#.{ours}" for ours, theirs in _OPEN_LAYER},
    "visual.transformer.resblocks.#.attn.in_proj_weight": "image.layers.#.qkv.weight",
    "visual.transformer.resblocks.#.attn.in_proj_bias": "image.layers.#.qkv.bias",
    "visual.ln_post": "image.final_norm",
    "visual.proj": "image.projection.transposed",
    "token_embedding": "text.token_embedding",
    "positional_embedding": "text.position_embedding.weight",
    **{f"transformer.resblocks.#.{theirs}": f"text.layers.#.{ours}" for ours, theirs in _OPEN_LAYER},
    "transformer.resblocks.#.attn.in_proj_weight": "text.layers.#.qkv.weight",
    "transformer.resblocks.#.attn.in_proj_bias": "text.layers.#.qkv.bias",
    "ln_final": "text.final_norm",
    "text_projection": "text.projection.transposed",
}
_UNUSED: Final = re.compile(
    r"logit_scale|logit_bias|attn_mask|input_resolution|context_length|vocab_size|(\w+\.)*(position_ids|attn_mask)"
)
"""Values beside the weights that the towers do without."""
_ANCHORS: Final = {
    "vision_model.embeddings.patch_embedding.weight": _HUGGING_FACE,
    "visual.conv1.weight": _OPEN,
}
"""A name that every file of a naming has."""


def canonical_towers(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]] | None:
    """Tell the towers of a CLIP apart, under our names.

    Args:
        state: Tensors by the names of Hugging Face, OpenAI or open_clip, with or without a prefix before all of them.

    Returns:
        Tensors of the image tower, those of the text tower, none where there is none, and names of a vision part that
        have no place in a vision transformer; None where the file is no CLIP.
    """
    for anchor, table in _ANCHORS.items():
        for name in state:
            if name == anchor or name.endswith(f".{anchor}"):
                return _renamed(state, name.removesuffix(anchor), table)
    return None


def _renamed(
    state: Mapping[str, Tensor], prefix: str, table: Mapping[str, str]
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    towers: dict[str, dict[str, Tensor]] = {"image": {}, "text": {}}
    odd = []
    for name, value in state.items():
        if not name.startswith(prefix):
            continue
        theirs = name.removeprefix(prefix)
        # open_clip's towers of their own class have the text under a prefix of its own.
        known = _our_name(theirs, table) or _our_name(theirs.removeprefix("text."), table)
        if known:
            tower, _, ours = known.partition(".")
            towers[tower].update(_parts(ours, value))
        elif theirs.startswith(("visual.", "vision_model.")) and not _UNUSED.fullmatch(theirs):
            odd.append(name)
    return towers["image"], towers["text"], odd


def _our_name(theirs: str, table: Mapping[str, str]) -> str | None:
    number = re.search(r"(?<=\.)\d+(?=\.)", theirs)
    general = theirs if number is None else theirs[: number.start()] + "#" + theirs[number.end() :]
    module, dot, leaf = general, "", ""
    if module not in table:
        module, dot, leaf = general.rpartition(".")
        if module not in table or leaf not in {"weight", "bias"}:
            return None
    ours = table[module] + dot + leaf
    return ours.replace("#", number.group()) if number else ours


def _parts(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Give a tensor the form that ours have: joined projections apart, transposed ones turned."""
    if ".qkv." in name:
        for part, third in zip(("query", "key", "value"), torch.chunk(value, 3), strict=False):
            yield name.replace("qkv", part), third
    elif name.endswith(".transposed"):
        yield name.replace("transposed", "weight"), value.T if value.ndim == 2 else value
    else:
        yield name, value
