"""`bench --explain` of a file with 8-bit products."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stale_edge_export.quantization.quantize import quantize_file
from stale_edge_runtime.bench.explain import explain
from stale_edge_runtime.bench.onnx_contender import OnnxContender, vocabulary_for
from stale_edge_runtime.bench.product_parts import PartKind
from stale_edge_runtime.contract import BLOCK_SNIPPETS, Kind, Precision
from stale_edge_runtime.model_file import read_model

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.usefixtures("brief_ceiling")
def test_products_of_bytes_are_split_and_counted_with_blocks(tiny_export: Callable[..., Path], tmp_path: Path) -> None:
    quantize_file(tiny_export(Kind.BAKED), tmp_path / "int8.onnx", Precision.INT8)
    model = read_model(tmp_path / "int8.onnx")
    vocabulary = vocabulary_for(model)
    short, long = explain(model, "int8", (BLOCK_SNIPPETS, 2 * BLOCK_SNIPPETS), vocabulary)
    macs = OnnxContender(model, "int8", "cpu", vocabulary).macs
    for item in (short, long):
        assert sum(part.ms for part in item.parts) == pytest.approx(item.run_ms)
        assert sum(one.gmacs for one in item.products) == pytest.approx(macs(1, item.snippets) / 1e9)
        ms = {part.kind: part.ms for part in item.parts}
        assert ms[PartKind.QUANTISING] > 0
        assert ms[PartKind.ARITHMETIC] > 0
        eight = [one for one in item.products if one.precision is Precision.INT8]
        assert eight
        assert all(one.of_ceiling_alone is not None for one in eight)
        for one in eight:
            assert one.ms == pytest.approx(one.quantising_ms + one.product_ms + one.rescaling_ms)
        assert any(one.quantising_ms > 0 for one in eight)
        assert {"ReduceMax", "ReduceMin"}.isdisjoint(part.operator for part in item.parts)  # they look for a range
    blocks = [
        sum(one.times for one in item.products if one.precision is Precision.INT8 and one.stages == ("temporal",))
        for item in (short, long)
    ]
    assert blocks[1] == 4 * blocks[0] > 0  # one block of 200 snippets, four of 100
