"""Multiply-accumulates of a file as a function of length, counted from what onnxruntime really computes.

The graph is run without any rewriting, and the shapes of every matrix product are read from the profile. Where every
product grows at most with the square of the length, three short lengths give its polynomial, and a fourth and a long
one check it. Where lengths are rounded up or pooled inside, the graph is run at every length that is asked for.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stale_edge_runtime.bench.graph_types import Operands, product_type, read_operands
from stale_edge_runtime.bench.profiles import KERNEL, end_profile
from stale_edge_runtime.bench.vocabulary import CLASSES, Vocabulary, synthetic_vocabulary
from stale_edge_runtime.contract import BLOCK_SNIPPETS, FEATURES, PIXELS, TEXT_EMBEDDINGS, TOKEN_IDS, TOWERS, Kind
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.session import open_session
from stale_edge_runtime.synthetic import clip_like_features, varied_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from stale_edge_runtime.model_file import ModelFile

PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "MatMulInteger", "ConvInteger", "QLinearMatMul"})
STEPS = (3, 8, 15, 26)
"""Lengths beyond the shortest allowed one: three to fit, one to check."""
LONG = 3 * BLOCK_SNIPPETS
"""A long length to check at: whole blocks of attention, so that no padding is counted."""

ProductKind = tuple[str, str]


@dataclass(frozen=True)
class MacTerm:
    """Multiply-accumulates of one operator type in one element type: a + b T + c T² at T snippets."""

    operator: str
    """ONNX operator."""
    element_type: str
    """float32, float16 or int8: what is multiplied."""
    coefficients: tuple[Fraction, Fraction, Fraction]
    """a, b and c."""

    def at(self, snippets: int) -> int:
        """Multiply-accumulates at a length."""
        a, b, c = self.coefficients
        return round(a + b * snippets + c * snippets * snippets)


@dataclass(frozen=True)
class MacCount:
    """Multiply-accumulates of one forward of a file, for any length."""

    batch: int
    """Videos in the forward."""
    terms: tuple[MacTerm, ...]
    """One for each operator and element type; none where they are no polynomials."""
    measured: Callable[[int], Mapping[ProductKind, int]] | None = None
    """Multiply-accumulates by operator and element type at a length, where they are no polynomials."""

    def total(self, snippets: int) -> int:
        """Count all multiply-accumulates at a length."""
        return sum(self._at(snippets).values())

    def by_operator(self, snippets: int) -> dict[str, int]:
        """Multiply-accumulates of each operator at a length."""
        return _sums((operator, count) for (operator, _), count in self._at(snippets).items())

    def by_type(self, snippets: int) -> dict[str, int]:
        """Multiply-accumulates in each element type at a length."""
        return _sums((element_type, count) for (_, element_type), count in self._at(snippets).items())

    def _at(self, snippets: int) -> Mapping[ProductKind, int]:
        if self.measured is not None:
            return self.measured(snippets)
        return {(term.operator, term.element_type): term.at(snippets) for term in self.terms}

    def share(self, element_type: str, snippets: int) -> float:
        """Share of the multiply-accumulates at a length that are in one element type."""
        total = self.total(snippets)
        return self.by_type(snippets).get(element_type, 0) / total if total else 0.0

    def coefficients(self) -> tuple[float, float, float] | None:
        """a, b and c of the total a + b T + c T²; None where it is no polynomial."""
        if self.measured is not None:
            return None
        a, b, c = (float(sum(term.coefficients[power] for term in self.terms)) for power in range(3))
        return a, b, c


def count_macs(
    model: ModelFile, *, batch: int = 1, classes: int = CLASSES, vocabulary: Vocabulary | None = None
) -> MacCount:
    """Count the multiply-accumulates of a file.

    Args:
        model: The file.
        batch: Videos in the forward.
        classes: Number of classes, for a file that does not have them inside.
        vocabulary: Text inputs for such a file; made up where not given.

    Raises:
        BadDataError: The file does not run.
    """
    if model.info.kind in TOWERS:
        return _count_tower(model, batch, vocabulary or synthetic_vocabulary(model.info.feature_dim, classes=classes))
    lengths = [*(model.info.min_snippets + step for step in STEPS), min(LONG, model.info.max_snippets)]
    vocabulary = vocabulary or synthetic_vocabulary(model.info.feature_dim, classes=classes)
    counts = _profiled_counts(model, batch, lengths, vocabulary)
    kinds = sorted({kind for count in counts for kind in count})
    terms = []
    for kind in kinds:
        values = [count[kind] for count in counts]
        term = MacTerm(*kind, _through(lengths[:3], values[:3]))
        if any(term.at(length) != value for length, value in zip(lengths[3:], values[3:], strict=True)):
            measure = cache(lambda snippets: _profiled_counts(model, batch, [snippets], vocabulary)[0])
            return MacCount(batch, (), measure)
        terms.append(term)
    return MacCount(batch, tuple(terms))


def model_feeds(model: ModelFile, features: np.ndarray, vocabulary: Vocabulary) -> dict[str, np.ndarray]:
    """Inputs of a file of any kind, by name.

    Args:
        model: The file.
        features: [batch, snippets, D]; an image tower gets as many images, or these where they are images.
        vocabulary: The text side; a text tower gets as many of its texts as there are videos, where there are any.
    """
    if model.info.kind is Kind.IMAGE_TOWER:
        given = features.dtype == np.uint8
        images = features if given else varied_images(math.prod(features.shape[:2]), model.info.image_size)
        return {PIXELS: images}
    if model.info.kind is Kind.TEXT_TOWER and features.ndim == 3:
        return {TOKEN_IDS: vocabulary.token_ids[: len(features)]}
    inputs = {
        FEATURES: features,
        TEXT_EMBEDDINGS: vocabulary.text_embeddings,
        TOKEN_IDS: vocabulary.token_ids,
    }
    return {tensor.name: inputs[tensor.name] for tensor in model.inputs}


def _count_tower(model: ModelFile, batch: int, vocabulary: Vocabulary) -> MacCount:
    """Count a tower at one image, or one text, for each video and snippet."""
    (count,) = _profiled_counts(model, batch, [1], vocabulary)
    return MacCount(
        batch, tuple(MacTerm(*kind, (Fraction(0), Fraction(value), Fraction(0))) for kind, value in count.items())
    )


def _profiled_counts(
    model: ModelFile, batch: int, lengths: list[int], vocabulary: Vocabulary
) -> list[Counter[ProductKind]]:
    """Multiply-accumulates at each length, from one session's profile."""
    operators = read_operands(model.content)
    with tempfile.TemporaryDirectory(prefix="stale-edge-") as folder:
        session = open_session(model, optimize=False, profile=Path(folder) / "profile")
        for length in lengths:
            features = clip_like_features(batch, length, model.info.feature_dim)
            session.run(None, model_feeds(model, features, vocabulary))
        events = end_profile(session)
    counts: list[Counter[ProductKind]] = [Counter()]
    for event in events:
        if event["name"] == "model_run":  # comes after the operators of its run
            counts.append(Counter())
        elif event["name"].endswith(KERNEL) and event["args"].get("op_name") in PRODUCTS:
            product = operators.get(event["name"].removesuffix(KERNEL))
            if product is None or product.operator != event["args"]["op_name"]:
                raise BadDataError(model.path, "has products without names of their own", "export it again")
            counts[-1][product.operator, product_type(product)] += _product_macs(product, event["args"])
    return counts[: len(lengths)]


def _product_macs(product: Operands, profile: Mapping[str, Any]) -> int:
    """Multiply-accumulates of one product: every element of its output is a sum over the inner axes."""
    outputs = math.prod(_shape(profile["output_type_shape"][0]))
    left = _shape(profile["input_type_shape"][0])
    if product.operator in {"Conv", "ConvInteger"}:
        weight = product.shapes[1] or _shape(profile["input_type_shape"][1])
        return outputs * math.prod(weight[1:])
    if product.operator == "Gemm":  # the left matrix may be transposed; its rows are those of the output
        rows = _shape(profile["output_type_shape"][0])[0]
        return outputs * math.prod(left) // max(1, rows)
    return outputs * left[-1]


def _shape(entry: Mapping[str, list[int]]) -> list[int]:
    """Shape in one entry of a profile, which looks like `{"float": [1, 100, 512]}`."""
    return next(iter(entry.values()))


def _through(lengths: Sequence[int], values: Sequence[int]) -> tuple[Fraction, Fraction, Fraction]:
    """Find the polynomial a + b T + c T² through three points, exactly."""
    (x0, x1, x2), (y0, y1, y2) = lengths, values
    first, second = Fraction(y1 - y0, x1 - x0), Fraction(y2 - y1, x2 - x1)
    c = (second - first) / (x2 - x0)
    b = first - c * (x0 + x1)
    return y0 - b * x0 - c * x0 * x0, b, c


def _sums(entries: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for name, value in entries:
        sums[name] += value
    return dict(sums.most_common())
