"""int8 files: weight products in 8 bits, activations quantised as they come.

The tool is onnxruntime's `quantize_dynamic`: weights per output channel, signed; activations per tensor, unsigned,
quantised once where several products share them. The exporter writes the mask head's convolutions as matrix products,
so these are covered too.
"""

from __future__ import annotations

import logging
import platform
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from stale_edge_runtime.bench.machine import cpu_flags
from stale_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Target:
    """A family of processors, by what its 8-bit products can bear."""

    reduce_range: bool
    """Keep weights to 7 bits, because pairs of 8-bit products overflow a 16-bit sum."""
    reason: str
    """Why, for people."""


TARGETS: Mapping[str, Target] = {
    "vnni": Target(reduce_range=False, reason="x86 with VNNI sums 8-bit products in 32 bits"),
    "arm64": Target(reduce_range=False, reason="ARM sums 8-bit products in 32 bits"),
    "avx2": Target(reduce_range=True, reason="x86 without VNNI sums pairs of 8-bit products in 16 bits"),
    "portable": Target(reduce_range=True, reason="right on every processor"),
}


def this_machine() -> str:
    """The target that fits the processor of this machine; `portable` where that is not known."""
    if platform.machine().lower() in {"aarch64", "arm64"}:
        return "arm64"
    flags = cpu_flags()
    if any("vnni" in flag for flag in flags):
        return "vnni"
    return "avx2" if "avx2" in flags else "portable"


def to_int8(model: onnx.ModelProto, target: str, exclude: str | None = None) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Quantise the weight products of a model.

    Args:
        model: An fp32 model of the exporter; it is not changed.
        target: A key of `TARGETS`.
        exclude: Products whose names match this regular expression stay in fp32.

    Returns:
        The int8 model, and the recipe for its metadata.

    Raises:
        UsageError: `exclude` is no regular expression, or matches nothing.
    """
    products = weight_products(model)
    excluded = _matching(products, exclude)
    with tempfile.TemporaryDirectory() as folder, _quiet_tools():
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=TARGETS[target].reduce_range,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=excluded,
            extra_options={"MatMulConstBOnly": True},
        )
        quantised = onnx.load(path)
    recipe = {
        "method": "dynamic",
        "weights": "int8, per channel, " + ("7 bits" if TARGETS[target].reduce_range else "8 bits"),
        "activations": "uint8, per tensor",
        "target": target,
        "products": [name for name in products if name not in excluded],
        "kept_fp32": excluded,
        "tool": "onnxruntime.quantization.quantize_dynamic",
    }
    return quantised, recipe


def weight_products(model: onnx.ModelProto) -> list[str]:
    """Names of the matrix products whose right operand is a weight."""
    weights = {item.name for item in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights]


def _matching(names: list[str], pattern: str | None) -> list[str]:
    if pattern is None:
        return []
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError("--exclude", f"{pattern!r} is no regular expression ({error})") from error
    matching = [name for name in names if expression.search(name)]
    if not matching:
        raise UsageError("--exclude", f"{pattern!r} matches none of {', '.join(names)}")
    return matching


class _quiet_tools:  # noqa: N801 (reads as a verb where it is used)
    """Keep the advice of onnxruntime's tool to run other tools first from the user."""

    def __enter__(self) -> None:
        self._disabled = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(self._disabled)
