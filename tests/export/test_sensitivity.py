"""Choice of the products to quantise: by harm within a budget, the same on every run; timings may only veto."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from stale_edge_export.graphs.registry import TOWER_RULES
from stale_edge_export.graphs.stale_spec import STALE_GRAPH
from stale_edge_export.quantization.harm import calibration_features
from stale_edge_export.quantization.int8 import TARGETS, Products
from stale_edge_export.quantization.quantize import Int8Options, quantize_file
from stale_edge_export.quantization.sensitivity import (
    GAIN_SNIPPETS,
    Choice,
    Gain,
    Harm,
    HarmBudget,
    SensitivityAnalysis,
    choose,
    measure_gains,
    veto,
)
from stale_edge_runtime.bench.macs import count_macs
from stale_edge_runtime.contract import Kind, Precision
from stale_edge_runtime.model_file import read_model

TinyExport = Callable[..., Path]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def analysis(tiny_export: TinyExport) -> SensitivityAnalysis:
    original = read_model(tiny_export(Kind.BAKED))
    features = [item[:, :100] for item in calibration_features(original)]
    return SensitivityAnalysis(original, onnx.load_model_from_string(original.content), features)


@pytest.fixture(scope="module")
def products(tiny_export: TinyExport) -> Products:
    return Products.of(onnx.load(tiny_export(Kind.BAKED)), STALE_GRAPH.quantization)


def test_a_harm_is_measured_where_it_is_done(analysis: SensitivityAnalysis, products: Products) -> None:
    for name in products:
        errors = analysis.harm(products.only([name])).outputs
        assert set(errors) == {"class_logits", "masks", "video_logits"}
        assert (errors["masks"] == 0) == name.startswith("cross_attention/")
        assert max(errors.values()) > 0
    assert analysis.harm(Products((), ())).worst_output == 0


def test_what_fits_the_budget_is_all_quantised(analysis: SensitivityAnalysis, products: Products) -> None:
    total = analysis.harm(products).worst_output
    choice = choose(analysis, Choice(products), HarmBudget(relative_error=total * 1.01))
    assert choice == Choice(products)


class GivenFigures:
    """An analysis whose figures are given: harms add up, and each product has its share of the arithmetic."""

    def __init__(self, harms: dict[str, float], shares: dict[str, float]) -> None:
        self.harms, self.shares = harms, shares

    def harm(self, products: Products) -> Harm:
        return Harm({"masks": sum(self.harms[name] for name in products)})

    def arithmetic(self, products: Products) -> dict[str, float]:
        return {name: self.shares[name] for name in products}


def test_of_those_that_harm_most_the_smallest_goes_first_and_the_rest_fits() -> None:
    figures = GivenFigures(
        {"large": 0.4, "small": 0.3, "harmless": 0.01, "middle": 0.25},
        {"large": 0.5, "small": 0.1, "harmless": 0.05, "middle": 0.35},
    )
    products = Products(tuple(figures.harms), ())
    budget = HarmBudget(relative_error=0.5)
    choice = choose(figures, Choice(products), budget)  # type: ignore[arg-type]
    assert list(choice.kept) == ["small", "middle"]
    assert list(choice.products) == ["large", "harmless"]
    assert choice.kept["small"].startswith(
        "in int8 all together change 1.92 times as much as is allowed, this one alone 0.60 times, with 10 %"
    )
    assert budget.spent(figures.harm(choice.products)) <= 1


def test_the_arithmetic_of_all_products_is_that_of_the_file(analysis: SensitivityAnalysis, products: Products) -> None:
    together = count_macs(analysis.make(products)).share("int8", GAIN_SNIPPETS)
    assert sum(analysis.arithmetic(products).values()) == pytest.approx(together)
    assert min(analysis.arithmetic(products).values()) > 0


def test_a_budget_of_nothing_keeps_all_in_fp32(analysis: SensitivityAnalysis, products: Products) -> None:
    choice = choose(analysis, Choice(products), HarmBudget(relative_error=1e-9))
    assert not list(choice.products)
    assert set(choice.kept) == set(products)


def test_detections_count_where_they_are_known() -> None:
    budget = HarmBudget(matched_share=0.9, map_drop_points=0.5, relative_error=0.1)
    outputs = {"masks": 0.2, "class_logits": 0.01}
    assert budget.spent(Harm(outputs)) == pytest.approx(2)
    assert budget.spent(Harm(outputs, matched_share=0.95)) == pytest.approx(0.5)
    assert budget.spent(Harm(outputs, matched_share=0.95, map_drop_points=0.75)) == pytest.approx(1.5)
    assert budget.spent(Harm(outputs, matched_share=1.0, map_drop_points=-1.0)) == 0


def test_gains_are_intervals_around_what_was_measured(analysis: SensitivityAnalysis, products: Products) -> None:
    gains = measure_gains(analysis, products, snippets=50, seconds=0.02)
    assert list(gains) == list(products)
    assert all(gain.low_ms <= gain.saved_ms <= gain.high_ms for gain in gains.values())


def test_what_saves_nothing_for_certain_is_vetoed(products: Products) -> None:
    fast, unsure, slow, *rest = products
    gains = {fast: Gain(1.0, 0.5, 1.5), unsure: Gain(0.2, -0.1, 0.5), slow: Gain(-0.3, -0.4, -0.2)}
    choice = veto(Choice(products), gains)
    assert list(choice.kept) == [unsure, slow]
    assert choice.kept[unsure] == "saves 0.200 ms (-0.100 to 0.500)"
    assert list(choice.products) == [fast, *rest]


def test_a_tight_budget_is_recorded_and_deterministic(tiny_export: TinyExport, tmp_path: Path) -> None:
    options = Int8Options(budget=HarmBudget(relative_error=0.01))
    paths = [tmp_path / name for name in ("a.onnx", "b.onnx")]
    reports = [
        quantize_file(tiny_export(Kind.BAKED), path, Precision.INT8, int8=item)
        for path, item in zip(paths, (options, replace(options, report=True)), strict=True)
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    recipe = reports[0].info.recipe
    assert recipe["kept_fp32"] == list(recipe["kept_because"])
    assert len(recipe["kept_fp32"]) > 0
    assert recipe["budget"]["relative_error"] == 0.01
    assert reports[0].layers is None
    layers = reports[1].layers.layers
    assert [layer.product for layer in layers if layer.decision == "fp32"] == [
        layer.product for layer in layers if layer.product in recipe["kept_fp32"]
    ]


class TestCommand:
    def test_report_lists_every_product(
        self, tiny_export: TinyExport, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("stale_edge.cli.quantize.GAIN_SECONDS", 0.05)
        words = ("quantize", tiny_export(Kind.BAKED), "--int8", "-o", tmp_path / "a.onnx", "--report")
        code, out, err = command(*words, "--exclude", "mask_head", "--measure-gain")
        assert code == 0, err
        for text in ("temporal/MatMul_0", "saturates on AVX2", "saves, ms", "fp32", "7 bits"):
            assert text in out
        recipe = read_model(tmp_path / "a.onnx").info.recipe
        assert (recipe["timed_on"] in TARGETS, set(recipe["gain_ms"]) > set(recipe["weight_products"])) == (True, True)
        assert "mask_head/MatMul_1 stays in fp32: --exclude mask_head" in err

    def test_report_as_json(self, tiny_export: TinyExport, tmp_path: Path, command: Command) -> None:
        words = ("quantize", tiny_export(Kind.OPEN), "--int8", "-o", tmp_path / "a.onnx", "--report", "--json")
        code, out, err = command(*words)
        assert code == 0, err
        said = json.loads(out)
        everything = Products.of(onnx.load(tiny_export(Kind.OPEN)), STALE_GRAPH.quantization)
        assert [layer["product"] for layer in said["layers"]] == list(everything)
        for layer in said["layers"]:
            assert layer["kind"] == ("weights" if layer["product"] in everything.weights else "activations")
            assert set(layer["saturates_on_avx2"]) == {"share", "relative_error"}
            assert layer["gain_ms"] is None
        old = said["old_processors"]
        assert old["saturated"]["masks"] > old["seven_bits"]["masks"] > 0

    @pytest.mark.parametrize("option", ["--report", "--measure-gain"])
    def test_goes_with_int8_only(self, option: str, tiny_export: TinyExport, tmp_path: Path, command: Command) -> None:
        code, out, err = command("quantize", tiny_export(Kind.BAKED), "--fp16", option, "-o", tmp_path / "a.onnx")
        assert (code, out) == (2, "")
        assert "go with --int8 only" in err


def test_a_text_tower_can_be_examined(tiny_export: TinyExport, tmp_path: Path) -> None:
    options = Int8Options(report=True)
    made = quantize_file(tiny_export(Kind.TEXT_TOWER), tmp_path / "a.onnx", Precision.INT8, int8=options)
    assert made.layers is not None
    assert [layer.product for layer in made.layers.layers] == list(
        Products.of(onnx.load(tiny_export(Kind.TEXT_TOWER)), TOWER_RULES)
    )
    assert all(np.isfinite(layer.harm.worst_output) for layer in made.layers.layers)
