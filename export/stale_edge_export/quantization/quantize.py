"""From an fp32 file to a smaller one: convert, write, run beside the original, account for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import onnx

from stale_edge_export.exporter import write_model
from stale_edge_export.quantization.fp16 import check_range, to_fp16
from stale_edge_export.quantization.harm import OutputHarm, calibration_features, harm_json, measure_harm
from stale_edge_export.quantization.int8 import TARGETS, Products, to_int8
from stale_edge_runtime.bench.macs import count_macs, model_feeds
from stale_edge_runtime.bench.vocabulary import synthetic_vocabulary
from stale_edge_runtime.contract import ModelInfo, Precision
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.files import atomic_path
from stale_edge_runtime.model_file import read_model
from stale_edge_runtime.synthetic import clip_like_features

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np

    from stale_edge_runtime.model_file import ModelFile

SHARE_LENGTH = 200
LOW_PRECISION = {Precision.INT8: "int8", Precision.FP16: "float16"}


@dataclass(frozen=True)
class QuantizationReport:
    """What became of a file."""

    info: ModelInfo
    """Metadata of the new file."""
    size_bytes: int
    """Its size."""
    original_bytes: int
    """Size of the file it was made from."""
    low_precision_share: float
    """Share of the multiply-accumulates at 200 snippets that are now in low precision."""
    harm: dict[str, OutputHarm]
    """What it does to each output."""


def quantize_file(
    source: Path,
    target: Path,
    precision: Precision,
    *,
    cpu: str = "portable",
    exclude: str | None = None,
    features: Sequence[np.ndarray] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> QuantizationReport:
    """Quantise an exported file.

    Args:
        source: An fp32 file.
        target: Where the new one goes.
        precision: int8 or fp16.
        cpu: For int8, the processors it is made for: a key of `int8.TARGETS`.
        exclude: For int8, products whose names match this regular expression stay in fp32.
        features: float32 [T, D] each, to measure the harm on; CLIP-like ones by default.
        progress: Called after each step.

    Raises:
        BadDataError: The source is not an fp32 file of ours, or its values do not fit the format; no file is left.
        CannotWriteError: The target cannot be written.
    """
    original = read_model(source)
    if original.info.precision is not Precision.FP32:
        raise BadDataError(source, f"is {original.info.precision} already", "quantise the fp32 file")
    model = onnx.load_model_from_string(original.content)
    with atomic_path(target) as temporary:
        if precision is Precision.INT8:
            changed, recipe = _int8(model, cpu, exclude)
        else:
            changed, recipe = to_fp16(model)
            recipe["largest_value"] = _check_longest(original, model)
        progress("quantised")
        info = replace(original.info, precision=precision, recipe=recipe)
        write_model(temporary, changed, info)
        made = read_model(temporary)
        harm = measure_harm(original, made, calibration_features(original, features))
        progress("compared with fp32")
        share = count_macs(made).share(LOW_PRECISION[precision], SHARE_LENGTH)
        recipe = {**recipe, "low_precision_share": float(f"{share:.4g}"), "harm": harm_json(harm)}
        info = replace(info, recipe=recipe)
        write_model(temporary, changed, info)
        size = len(read_model(temporary).content)
        progress("counted")
    return QuantizationReport(info, size, len(original.content), share, harm)


def _int8(model: onnx.ModelProto, cpu: str, exclude: str | None) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The int8 model and its recipe."""
    everything = Products.of(model)
    excluded = everything.matching(exclude) if exclude else []
    products, reduce_range = everything.without(excluded), TARGETS[cpu].reduce_range
    recipe = {
        "method": "dynamic",
        "target": cpu,
        "weights": f"int8, per channel, {7 if reduce_range else 8} bits",
        "activations": "uint8 on the left, int8 around zero on the right, per tensor",
        "weight_products": list(products.weights),
        "activation_products": list(products.activations),
        "kept_fp32": excluded,
        "tool": "onnxruntime.quantization.quantize_dynamic for weight products",
    }
    return to_int8(model, products, reduce_range=reduce_range), recipe


def _check_longest(original: ModelFile, model: onnx.ModelProto) -> dict[str, Any]:
    """Largest inner value at the longest length the file allows."""
    snippets = original.info.max_snippets
    features = clip_like_features(1, snippets, original.info.feature_dim)
    feeds = model_feeds(original, features, synthetic_vocabulary(original.info.feature_dim))
    node, value = check_range(model, feeds)
    return {"node": node, "value": float(f"{value:.4g}"), "snippets": snippets}
