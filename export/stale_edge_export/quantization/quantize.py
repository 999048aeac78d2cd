"""Conversion of an fp32 file to a smaller one: convert, run beside the original, account for it, write.

Weight products are quantised dynamically. Static quantisation (MinMax over videos of 1 to 1000 snippets, QDQ) was tried
and does not earn its place: on the published size it is 1 to 5 % slower at 100 and 200 snippets, does a third more
harm to masks, and depends on the features it was calibrated on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from stale_edge_export.detections import with_detections, without_detections
from stale_edge_export.encoding import encode_model
from stale_edge_export.graphs.registry import quantization_rules
from stale_edge_export.quantization.arithmetic import Judging, exact_products, judging_for
from stale_edge_export.quantization.fp16 import check_range, to_fp16
from stale_edge_export.quantization.harm import OutputHarm, calibration_features, harm_json, image_groups, measure_harm
from stale_edge_export.quantization.int8 import TARGETS, Products, this_machine
from stale_edge_export.quantization.layers import LayerReport, examine
from stale_edge_export.quantization.sensitivity import (
    Choice,
    Gain,
    HarmBudget,
    SensitivityAnalysis,
    choose,
    measure_gains,
    veto,
)
from stale_edge_runtime.bench.macs import count_macs, model_feeds
from stale_edge_runtime.bench.vocabulary import synthetic_vocabulary
from stale_edge_runtime.contract import ModelInfo, Precision, Role
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.formats.files import check_target, write_bytes
from stale_edge_runtime.model_file import parse_model, read_model
from stale_edge_runtime.synthetic import clip_like_features

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stale_edge_export.quantization.acceptance import Acceptance, Trial
    from stale_edge_runtime.model_file import ModelFile

SHARE_LENGTH = 200
TOWER_BUDGET = HarmBudget(relative_error=0.10)
"""Harm that a tower may do: features are the input of all that follows."""
LOW_PRECISION = {Precision.INT8: "int8", Precision.FP16: "float16"}


@dataclass(frozen=True)
class QuantizationReport:
    """Result of a quantisation."""

    info: ModelInfo
    """Metadata of the new file."""
    size_bytes: int
    """Size of the file."""
    original_bytes: int
    """Size of the file it was made from."""
    low_precision_share: float
    """Share of the multiply-accumulates at 200 snippets that are now in low precision."""
    harm: dict[str, OutputHarm]
    """Effect on each output."""
    acceptance: Acceptance | None = None
    """Effect on detections; None where there were no videos to try."""
    layers: LayerReport | None = None
    """Products one by one; None unless asked for."""


@dataclass(frozen=True)
class Int8Options:
    """Choices for an int8 file."""

    cpu: str = "portable"
    """The processors it is made for: a key of `int8.TARGETS`."""
    exclude: str | None = None
    """Products whose names match this regular expression stay in fp32."""
    host: str = field(default_factory=this_machine)
    """The target that fits the machine that quantises; it decides how answers are found, never what they are."""
    budget: HarmBudget | None = None
    """Harm that the quantised products may do together; by default what suits the role of the file."""
    gain_seconds: float | None = None
    """Measure the gain of each product for so long, and keep in fp32 what saves nothing; not measured without."""
    report: bool = False
    """Measure every product by itself; the file is the same."""


def quantize_file(
    source: Path,
    target: Path,
    precision: Precision,
    *,
    int8: Int8Options | None = None,
    trial: Trial | None = None,
    images: np.ndarray | None = None,
    max_drop_points: float | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> QuantizationReport:
    """Quantise an exported file; one that decodes inside goes on doing so.

    Args:
        source: An fp32 file.
        target: File to write.
        precision: int8 or fp16.
        int8: Options of an int8 file.
        trial: Videos to measure the change on; CLIP-like features by default.
        images: uint8 [B, S, S, 3] to measure the change of an image tower on; synthetic ones by default.
        max_drop_points: Refuse a file that loses more average mAP than this, in points.
        progress: Called after each step.

    Raises:
        BadDataError: The source is not an fp32 file of ours, its values do not fit the format, or the new file loses
            more than it may; no file is left.
        CannotWriteError: The target cannot be written.
        UsageError: The target is the source.
    """
    original = read_model(source)
    if original.info.precision is not Precision.FP32:
        raise BadDataError(source, f"is {original.info.precision} already", "quantise the fp32 file")
    check_target(target, [source])
    settings = original.info.detections
    original = without_detections(original)
    model = onnx.load_model_from_string(original.content)
    features = calibration_features(original, [video.features for video in trial.videos] if trial else ())
    if images is not None:
        features = image_groups(images, original)
    if trial and not trial.fits(original.info) and max_drop_points is None:
        trial = None  # the features still serve, detections cannot be had
    layers = None
    if precision is Precision.INT8:
        measured_on = "given videos" if trial or images is not None else _synthetic(original)
        changed, recipe, layers = _int8(original, model, int8 or Int8Options(), features, trial, progress, measured_on)
    else:
        changed, recipe = to_fp16(model, quantization_rules(original.info))
        recipe["largest_value"] = _check_longest(original, model, features[0])
    progress("quantised")
    info = replace(original.info, precision=precision, recipe=recipe)
    made = judged = parse_model(encode_model(changed, info), target)
    if recipe.get("judged") == Judging.COMPUTED:
        judged = parse_model(encode_model(exact_products(changed), info), target)
    harm = measure_harm(original, judged, features)
    progress("compared with fp32")
    share = count_macs(made).share(LOW_PRECISION[precision], SHARE_LENGTH)
    recipe = {**recipe, "low_precision_share": float(f"{share:.4g}"), "harm": harm_json(harm)}
    progress("counted")
    acceptance = None
    if trial:
        acceptance = trial.compare(trial.detect(original), trial.detect(judged))
        recipe["detections"] = acceptance.to_json()
        if max_drop_points is not None:
            acceptance.require(target, max_drop_points)
        progress("tried on the videos")
    made = parse_model(encode_model(changed, replace(info, recipe=recipe)), target)
    if settings:
        made = with_detections(made, settings)
        progress("detections compared with numpy")
    write_bytes(target, made.content)
    return QuantizationReport(made.info, made.size_bytes, original.size_bytes, share, harm, acceptance, layers)


def _int8(
    original: ModelFile,
    model: onnx.ModelProto,
    options: Int8Options,
    features: list[np.ndarray],
    trial: Trial | None,
    progress: Callable[[str], None],
    measured_on: str,
) -> tuple[onnx.ModelProto, dict[str, Any], LayerReport | None]:
    """Make the int8 model, its recipe, and the reports that were asked for."""
    everything = Products.of(model, quantization_rules(original.info))
    reduce_range = TARGETS[options.cpu].reduce_range
    judging = judging_for(TARGETS[options.cpu], options.host)
    choice, gains, layers = Choice(everything), dict[str, Gain](), None
    for name in everything.matching(options.exclude) if options.exclude else ():
        choice = choice.without(name, f"--exclude {options.exclude}")
    analysis = SensitivityAnalysis(original, model, features, reduce_range=reduce_range, judging=judging, trial=trial)
    budget = options.budget or (HarmBudget() if trial or not analysis.is_tower else TOWER_BUDGET)
    choice = choose(analysis, choice, budget)
    if options.gain_seconds is not None:
        gains = measure_gains(analysis, choice.products, seconds=options.gain_seconds)
        choice = veto(choice, gains)
        progress("timed")
    if options.report:
        layers = examine(analysis, model, features, choice, gains)
        progress("examined the products")
    recipe = {
        "method": "dynamic",
        "target": options.cpu,
        "judged": str(judging),
        "weights": f"int8, per channel, {7 if reduce_range else 8} bits",
        "activations": f"uint8 on the left, {7 if reduce_range else 8} bits around zero on the right, per tensor",
        "weight_products": list(choice.products.weights),
        "activation_products": list(choice.products.activations),
        "kept_fp32": list(choice.kept),
        "kept_because": choice.kept,
        "budget": {**asdict(budget), "measured_on": measured_on},
        "tool": "onnxruntime.quantization.quantize_dynamic for weight products",
    }
    if analysis.is_tower:
        recipe |= {"pixel_products": list(choice.products.pixels), "tables": list(choice.products.tables)}
        recipe["tool"] = "stale-edge"
    if gains:
        recipe["timed_on"] = options.host
        recipe["gain_ms"] = {name: gain.to_json() for name, gain in gains.items()}
    return analysis.convert(choice.products), recipe, layers


def _synthetic(original: ModelFile) -> str:
    """Name what stands for the user's videos."""
    names = {Role.IMAGE_TOWER: "synthetic images", Role.TEXT_TOWER: "random words"}
    return names.get(original.info.role, "CLIP-like features")


def _check_longest(original: ModelFile, model: onnx.ModelProto, features: np.ndarray) -> dict[str, Any]:
    """Largest inner value at the longest length the file allows; of a tower, on its usual inputs."""
    snippets = 1 if original.info.role is not Role.DETECTOR else original.info.max_snippets
    if original.info.role is Role.TEXT_TOWER:
        features = np.empty(0, np.float32)
    elif original.info.role is Role.DETECTOR:
        features = clip_like_features(1, snippets, original.info.feature_dim)
    feeds = model_feeds(original, features, synthetic_vocabulary(original.info.feature_dim))
    node, value = check_range(model, feeds, quantization_rules(original.info))
    return {"node": node, "value": float(f"{value:.4g}"), "snippets": snippets}
