"""Every product of a model with its harm, its gain, what old processors make of it, and what was decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stale_edge_export.graphs.registry import quantization_rules
from stale_edge_export.quantization.int8 import Products, to_int8
from stale_edge_export.quantization.saturation import Saturation, emulate
from stale_edge_export.quantization.towers import TowerQuantizer
from stale_edge_runtime.bench.macs import model_feeds
from stale_edge_runtime.bench.vocabulary import synthetic_vocabulary
from stale_edge_runtime.contract import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx

    from stale_edge_export.quantization.sensitivity import Choice, Gain, Harm, SensitivityAnalysis
    from stale_edge_runtime.model_file import ModelFile

EMULATED_SNIPPETS = 200
EMULATED_CLASSES = 20


@dataclass(frozen=True)
class Layer:
    """One product."""

    product: str
    """Name of the product."""
    kind: str
    """Kind of the product: with weights, of activations, of pixels, or the lookup of a table."""
    harm: Harm
    """Harm of quantising the product alone."""
    gain: Gain | None
    """Time that it saves; None where not measured."""
    saturation: Saturation
    """Saturation of the product at 8 bits on a processor without VNNI."""
    decision: str
    """int8 or fp32."""
    reason: str
    """Reason for fp32."""

    def to_json(self) -> dict[str, Any]:
        """Give the layer as JSON values."""
        return {
            "product": self.product,
            "kind": self.kind,
            "harm": self.harm.to_json(),
            "gain_ms": self.gain.to_json() if self.gain else None,
            "saturates_on_avx2": {key: float(f"{value:.3g}") for key, value in vars(self.saturation).items()},
            "decision": self.decision,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class OldProcessors:
    """All products quantised, on x86 without VNNI: what saturation spoils and what keeping to 7 bits costs."""

    saturated: Mapping[str, float]
    """8 bits, saturating: error of each output against fp32."""
    eight_bits: Mapping[str, float]
    """8 bits, exact, as on a newer processor."""
    seven_bits: Mapping[str, float]
    """7 bits, which cannot saturate."""

    def to_json(self) -> dict[str, dict[str, float]]:
        """Give the errors, rounded to three digits."""
        return {
            key: {name: float(f"{value:.3g}") for name, value in errors.items()} for key, errors in vars(self).items()
        }


@dataclass(frozen=True)
class LayerReport:
    """All layers of a model."""

    layers: tuple[Layer, ...]
    """The layers, weight products first."""
    old_processors: OldProcessors
    """Effect of x86 without VNNI on all of them."""


def examine(
    analysis: SensitivityAnalysis,
    model: onnx.ModelProto,
    features: Sequence[np.ndarray],
    choice: Choice,
    gains: Mapping[str, Gain],
) -> LayerReport:
    """Measure every product of a model by itself.

    Args:
        analysis: Measures harm.
        model: The fp32 model.
        features: float32 [1, T, D] each; the first one shows saturation.
        choice: Choice that was made.
        gains: Gain of the products for which it was measured.
    """
    original = analysis.original
    everything = Products.of(model, quantization_rules(original.info))
    shown = features[0][:, :EMULATED_SNIPPETS]
    if original.info.role is not Role.DETECTOR:
        shown = features[0][:1] if original.info.role is Role.IMAGE_TOWER else np.empty(0, np.float32)
    feeds = model_feeds(original, shown, synthetic_vocabulary(original.info.feature_dim, classes=EMULATED_CLASSES))
    convert = _converter(original, model)
    old, saturations = _old_processors(model, everything, feeds, [item.name for item in original.outputs], convert)
    layers = tuple(
        Layer(
            product=name,
            kind=everything.kind_of(name),
            harm=analysis.harm(everything.only([name])),
            gain=gains.get(name),
            saturation=saturations.get(name, Saturation(0.0, 0.0)),
            decision="fp32" if name in choice.kept else "int8",
            reason=choice.kept.get(name, ""),
        )
        for name in everything
    )
    return LayerReport(layers, old)


def _converter(original: ModelFile, model: onnx.ModelProto) -> Callable[[Products, bool], onnx.ModelProto]:
    """Choose how a model is quantised, in 8 or 7 bits, by its role."""
    if original.info.role is Role.DETECTOR:
        return lambda products, reduced: to_int8(model, products, reduce_range=reduced)
    return lambda products, reduced: TowerQuantizer(model, reduce_range=reduced).convert(products)


def _old_processors(
    model: onnx.ModelProto,
    products: Products,
    feeds: dict[str, np.ndarray],
    outputs: Sequence[str],
    convert: Callable[[Products, bool], onnx.ModelProto],
) -> tuple[OldProcessors, dict[str, Saturation]]:
    """Judge all of it on the same inputs and by the same evaluator, so that nothing else differs."""
    exact = emulate(model, feeds).outputs
    eight, seven = (convert(products, reduced) for reduced in (False, True))
    saturated = emulate(eight, feeds)
    variants = (saturated, emulate(eight, feeds, saturate=False), emulate(seven, feeds))
    errors = (
        {name: _relative_error(a, b) for name, a, b in zip(outputs, exact, variant.outputs, strict=True)}
        for variant in variants
    )
    return OldProcessors(*errors), saturated.products


def _relative_error(before: np.ndarray, after: np.ndarray) -> float:
    """Root mean square of the change over the spread of the reference."""
    change = after.astype(np.float64) - before
    return float(np.sqrt(np.mean(change**2)) / (before.std(dtype=np.float64) or 1.0))
