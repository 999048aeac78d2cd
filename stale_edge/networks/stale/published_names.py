"""Names of the published checkpoints, and what of them this network uses.

Source: docs/network.md, "Published checkpoints".
"""

from __future__ import annotations

import re

from stale_edge.networks.clip_names import HUGGING_FACE_LAYER

_ATTENTION = (("query", "w_qs"), ("key", "w_ks"), ("value", "w_vs"), ("output", "fc"), ("norm", "layer_norm"))
_ENCODER_LAYER = (
    ("attention", "self_attn"),
    ("attention_norm", "norm1"),
    ("feed_forward.expand", "linear1"),
    ("feed_forward.contract", "linear2"),
    ("feed_forward_norm", "norm2"),
)
_DECODER_LAYER = (
    ("self_attention", "self_attn"),
    ("self_attention_norm", "norm1"),
    ("cross_attention", "multihead_attn"),
    ("cross_attention_norm", "norm2"),
    ("feed_forward.expand", "linear1"),
    ("feed_forward.contract", "linear2"),
    ("feed_forward_norm", "norm3"),
)
_MODULES = {
    "background_embedding": "bg_embeddings",
    "mask_head.context": "localizer_mask.0",
    "mask_head.anchors": "localizer_mask.2",
    **{f"temporal_embedding.{ours}": f"embedding.{theirs}" for ours, theirs in _ATTENTION},
    **{f"cross_attention.{ours}": f"cross_att.{theirs}" for ours, theirs in _ATTENTION},
    "text_tower.token_embedding": "txt_model.text_model.embeddings.token_embedding",
    "text_tower.position_embedding": "txt_model.text_model.embeddings.position_embedding",
    **{f"text_tower.layers.#.{o}": f"txt_model.text_model.encoder.layers.#.{t}" for o, t in HUGGING_FACE_LAYER},
    "text_tower.final_norm": "txt_model.text_model.final_layer_norm",
    "text_tower.projection": "txt_model.text_projection",
    "representation_mask.input_projection": "masktrans.input_proj",
    **{f"representation_mask.encoder.#.{o}": f"masktrans.transformer.encoder.layers.#.{t}" for o, t in _ENCODER_LAYER},
    "representation_mask.encoder_norm": "masktrans.transformer.encoder.norm",
    **{f"representation_mask.decoder.#.{o}": f"masktrans.transformer.decoder.layers.#.{t}" for o, t in _DECODER_LAYER},
    "representation_mask.decoder_norm": "masktrans.transformer.decoder.norm",
    "representation_mask.query": "masktrans.query_embed",
    "representation_mask.mask_embedding.#": "masktrans.mask_embed.layers.#",
}
"""Our module to the published one; `#` stands for the number of a layer."""

_UNUSED = re.compile(
    r"(proj|classifier|bn1|reduce_mask|mask_MLP|txt_model\.vision_model|txt_model\.visual_projection)\..*"
    r"|contexts|txt_model\.logit_scale|txt_model\.text_model\.embeddings\.position_ids"
)


def published_name(name: str) -> str:
    """Give the published name of one of our parameters.

    Raises:
        KeyError: The network has no such parameter.
    """
    number = re.search(r"\.(\d+)(?=\.|$)", name)
    general = name if number is None else name[: number.start(1)] + "#" + name[number.end(1) :]
    module, leaf = general, ""
    while module not in _MODULES:
        module, dot, last = module.rpartition(".")
        if not dot:
            raise KeyError(name)
        leaf = f".{last}{leaf}"
    return (_MODULES[module] + leaf).replace("#", number.group(1) if number else "#")


def is_unused(name: str) -> bool:
    """Whether a published parameter plays no part in the forward pass."""
    return _UNUSED.fullmatch(name) is not None
