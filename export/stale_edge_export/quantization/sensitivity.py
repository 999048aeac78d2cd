"""Choice of the products to quantise: the cost of each in answers, and its gain in time.

Harm decides, within a budget, and is the same on every run: all products are quantised; while the whole does more harm
than the budget allows, one that does much of it goes back to fp32: of those that alone do at least half as much as the
worst, the one with the least arithmetic. On videos of the user's, harm is what happens to detections and mAP; without
them it is the error of the outputs on CLIP-like features.

Time depends on the machine and the moment. It is measured only when asked for, and then may only veto: a product whose
quantisation saves nothing that can be told from noise stays in fp32, since all of them do some harm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from stale_edge_export.encoding import encode_model
from stale_edge_export.quantization.arithmetic import Judging, exact_products
from stale_edge_export.quantization.harm import measure_harm, run_outputs
from stale_edge_export.quantization.int8 import Products, to_int8
from stale_edge_export.quantization.towers import TowerQuantizer
from stale_edge_runtime.bench.macs import count_macs, model_feeds
from stale_edge_runtime.bench.measure import Effort, time_together
from stale_edge_runtime.bench.statistics import ratio_of_medians
from stale_edge_runtime.bench.vocabulary import synthetic_vocabulary
from stale_edge_runtime.contract import Role
from stale_edge_runtime.model_file import parse_model
from stale_edge_runtime.session import open_session
from stale_edge_runtime.synthetic import clip_like_features
from stale_edge_runtime.video.tower import ImageTower

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx

    from stale_edge_export.quantization.acceptance import Detections, Trial
    from stale_edge_runtime.model_file import ModelFile

MEASURED_VIDEOS = 32
"""Products are tried one by one on at most so many videos."""
GAIN_SNIPPETS = 200
"""Length at which time and arithmetic of products are measured."""
MUCH_HARM = 0.5
"""Share of the worst product's harm from which on another may go back to fp32 in its stead."""


@dataclass(frozen=True)
class HarmBudget:
    """Harm that the quantised products may do together."""

    matched_share: float = 0.97
    """Least share of detections that match those of fp32 (same class, tIoU >= 0.95)."""
    map_drop_points: float = 0.3
    """Most that average mAP may lose, in points."""
    relative_error: float = 0.25
    """Largest error of an output in units of its spread; what counts where detections are not measured."""

    def spent(self, harm: Harm) -> float:
        """Compute the share of the budget that a harm takes, 1 being all of it: the largest share of any figure."""
        if harm.matched_share is None:
            return harm.worst_output / self.relative_error
        shares = [(1 - harm.matched_share) / (1 - self.matched_share)]
        if harm.map_drop_points is not None:
            shares.append(harm.map_drop_points / self.map_drop_points)
        return max(shares)


@dataclass(frozen=True)
class Harm:
    """Effect of quantised products on the answers."""

    outputs: dict[str, float]
    """Error of each output: root mean square over the spread of fp32."""
    matched_share: float | None = None
    """Share of detections that match those of fp32; None where not measured."""
    map_drop_points: float | None = None
    """Loss of average mAP, in points; None without ground truth."""

    @property
    def worst_output(self) -> float:
        """The largest of the errors of outputs."""
        return max(self.outputs.values())

    def to_json(self) -> dict[str, Any]:
        """Give the figures, rounded to three digits."""
        figures = {"matched_share": self.matched_share, "map_drop_points": self.map_drop_points}
        known = {key: value for key, value in figures.items() if value is not None}
        return {
            "relative_error": {name: _rounded(value) for name, value in self.outputs.items()},
            **{key: round(value, 4) for key, value in known.items()},
        }


@dataclass(frozen=True)
class Gain:
    """Time that quantising one product saves when all others are quantised."""

    saved_ms: float
    """Difference of the medians."""
    low_ms: float
    """Lower end of its 95 % interval."""
    high_ms: float
    """Upper end of its 95 % interval."""

    @property
    def certain(self) -> bool:
        """Whether something is saved, beyond the noise."""
        return self.low_ms > 0

    def to_json(self) -> dict[str, float]:
        """Give the figures, rounded to three digits."""
        return {key: _rounded(value) for key, value in vars(self).items()}


@dataclass(frozen=True)
class Choice:
    """Products that are quantised, and why the rest is not."""

    products: Products
    """Products to be quantised."""
    kept: dict[str, str] = field(default_factory=dict)
    """Products that stay in fp32, in the order of the decisions, and the reason of each."""

    def without(self, name: str, reason: str) -> Choice:
        """Keep one more product in fp32."""
        return Choice(self.products.without([name]), {**self.kept, name: reason})


class SensitivityAnalysis:
    """Makes int8 variants of a model and measures them against it.

    Args:
        original: The fp32 file.
        model: The same, decoded.
        features: float32 [1, T, D] each, to measure the error of outputs on.
        reduce_range: Keep right operands to 7 bits.
        judging: Way to find the answers that the target gives.
        trial: Videos to measure detections on.
    """

    def __init__(
        self,
        original: ModelFile,
        model: onnx.ModelProto,
        features: Sequence[np.ndarray],
        *,
        reduce_range: bool = False,
        judging: Judging = Judging.RUN,
        trial: Trial | None = None,
    ) -> None:
        self.original = original
        self._model = model
        self._features = _thinned(features, MEASURED_VIDEOS)
        self._to_int8: Callable[[Products], onnx.ModelProto] = partial(to_int8, model, reduce_range=reduce_range)
        self.is_tower = original.info.role is not Role.DETECTOR
        if self.is_tower:
            self._to_int8 = TowerQuantizer(model, reduce_range=reduce_range).convert
        self._before: list[dict[str, np.ndarray]] | None = None
        self._judging = judging
        self._trial = trial.thinned(MEASURED_VIDEOS) if trial else None
        self._found: Detections | None = None
        self._harms: dict[Products, Harm] = {}

    def convert(self, products: Products) -> onnx.ModelProto:
        """Make the graph in which these products are int8.

        Args:
            products: Products to quantise.
        """
        return self._to_int8(products)

    def make(self, products: Products) -> ModelFile:
        """Make the variant in which these products are int8.

        Args:
            products: Products to quantise.
        """
        return self._encoded(self.convert(products))

    def make_judged(self, products: Products) -> ModelFile:
        """Give a file with the answers that the variant gives on its target.

        Args:
            products: Products to quantise.
        """
        variant = self.convert(products)
        return self._encoded(exact_products(variant) if self._judging is Judging.COMPUTED else variant)

    def harm(self, products: Products) -> Harm:
        """Measure the effect of quantising these products.

        Args:
            products: Products to quantise.

        Raises:
            BadDataError: The variant gives NaN, or a video does not fit the model.
        """
        if products not in self._harms:
            made = self.make_judged(products)
            if self._before is None:
                self._before = run_outputs(self.original, self._features)
            outputs = measure_harm(self.original, made, self._features, self._before)
            errors = {name: item.relative_error for name, item in outputs.items()}
            self._harms[products] = self._with_detections(made, errors)
        return self._harms[products]

    def arithmetic(self, products: Products) -> dict[str, float]:
        """Share of the multiply-accumulates at 200 snippets that each product makes up.

        Args:
            products: Products to count.
        """
        if self.is_tower:
            return self._weight_shares(products)
        alone = ((name, count_macs(self.make(products.only([name])))) for name in products)
        return {name: count.share("int8", GAIN_SNIPPETS) for name, count in alone}

    def _weight_shares(self, products: Products) -> dict[str, float]:
        """Share of the weights of a tower that each product has: every token is multiplied with all of them."""
        sizes = {item.name: float(np.prod(item.dims)) for item in self._model.graph.initializer}
        nodes = {node.name: node for node in self._model.graph.node}
        counts = {name: max(sizes.get(part, 0.0) for part in nodes[name].input) for name in products}
        total = sum(counts.values()) or 1.0
        return {name: count / total for name, count in counts.items()}

    def _encoded(self, variant: onnx.ModelProto) -> ModelFile:
        return parse_model(encode_model(variant, self.original.info), self.original.path)

    def _with_detections(self, made: ModelFile, errors: dict[str, float]) -> Harm:
        if self._trial is None:
            return Harm(errors)
        if self._found is None:
            self._found = self._trial.detect(self.original)
        seen = self._trial.compare(self._found, self._trial.detect(made))
        return Harm(errors, seen.matched_share, seen.drop_points)


def choose(analysis: SensitivityAnalysis, choice: Choice, budget: HarmBudget) -> Choice:
    """Take out products until the rest stays within the budget.

    Args:
        analysis: Measures them.
        choice: Products that may be quantised.
        budget: Harm that they may do together.
    """
    allowed, shares = choice.products, dict[str, float]()
    while list(choice.products) and (spent := budget.spent(analysis.harm(choice.products))) > 1:
        alone = {name: budget.spent(analysis.harm(allowed.only([name]))) for name in choice.products}
        shares = shares or analysis.arithmetic(allowed)
        harmful = [name for name, harm in alone.items() if harm >= MUCH_HARM * max(alone.values())]
        name = min(harmful, key=lambda name: shares[name])
        choice = choice.without(
            name,
            f"in int8 all together change {spent:.2f} times as much as is allowed, this one alone {alone[name]:.2f} "
            f"times, with {100 * shares[name]:.2g} % of the arithmetic",
        )
    return choice


def measure_gains(
    analysis: SensitivityAnalysis, products: Products, *, snippets: int = GAIN_SNIPPETS, seconds: float = 2.0
) -> dict[str, Gain]:
    """Time that each product saves: all quantised, against all but this one, taking turns on one thread.

    Args:
        analysis: Makes the variants.
        products: Products that are quantised.
        snippets: Length to measure at.
        seconds: Time for each variant.
    """
    variants = [products, *(products.without([name]) for name in products)]
    forwards = [_forward(analysis.make(variant), snippets) for variant in variants]
    everything, *others = (timing.samples_ms for timing in time_together(forwards, Effort(seconds=seconds)))
    base_ms = float(np.median(everything))
    gains = {}
    for name, without in zip(products, others, strict=True):
        ratio = ratio_of_medians(without, everything)
        gains[name] = Gain(*(base_ms * (value - 1) for value in (ratio.value, ratio.low, ratio.high)))
    return gains


def veto(choice: Choice, gains: dict[str, Gain]) -> Choice:
    """Keep in fp32 what saves no time for certain.

    Args:
        choice: Choice that harm allows.
        gains: Measured gain of each product in it.
    """
    for name, gain in gains.items():
        if not gain.certain:
            choice = choice.without(name, f"saves {gain.saved_ms:.3f} ms ({gain.low_ms:.3f} to {gain.high_ms:.3f})")
    return choice


def _forward(made: ModelFile, snippets: int) -> Callable[[], object]:
    session = open_session(made)
    dim = made.info.feature_dim
    is_tower = made.info.role is Role.IMAGE_TOWER
    features = clip_like_features(1, ImageTower.batch_of(made.info) if is_tower else snippets, dim)
    if made.info.role is Role.TEXT_TOWER:
        features = np.empty(0, np.float32)
    feeds = model_feeds(made, features, synthetic_vocabulary(dim))
    return lambda: session.run(None, feeds)


def _thinned(items: Sequence[np.ndarray], most: int) -> list[np.ndarray]:
    count = len(items)
    return [items[index * count // most] for index in range(most)] if count > most else list(items)


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
