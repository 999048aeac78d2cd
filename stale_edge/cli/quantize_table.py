"""Tables of `stale-edge quantize`: change of the outputs, of detections, and product by product."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stale_edge.cli.console import number_columns
from stale_edge_runtime.contract import Role

if TYPE_CHECKING:
    from rich.table import Table

    from stale_edge_export.quantization.layers import Layer, LayerReport
    from stale_edge_export.quantization.quantize import QuantizationReport


_MADE_UP = {
    Role.DETECTOR: "CLIP-like features",
    Role.IMAGE_TOWER: "synthetic images",
    Role.TEXT_TOWER: "random words",
}
_GIVEN = {Role.IMAGE_TOWER: "frames"}


def harm_table(made: QuantizationReport, *, on_given: bool) -> Table:
    """Change of each output."""
    from rich.table import Table

    from stale_edge_export.graphs.registry import decisions

    role = made.info.role
    shown = f"the given {_GIVEN.get(role, 'features')}" if on_given else _MADE_UP[role]
    columns = number_columns("relative error", "largest change", "changed decisions")
    table = Table("output", *columns, title=f"Change against fp32, on {shown}")
    for name, harm in made.harm.items():
        changed = "" if harm.changed_decisions is None else f"{100 * harm.changed_decisions:.2f} %"
        table.add_row(name, _percent(harm.relative_error), f"{harm.largest_change:.3g}", changed)
    table.caption_justify = "left"
    taken = "; ".join(f"{name}, {decision.description}" for name, decision in decisions(made.info).items())
    changed = f" Changed decisions: {taken}." if taken else ""
    table.caption = f"Relative error: root mean square of the change, in percent of the spread of fp32.{changed}"
    return table


def layer_table(report: LayerReport) -> Table:
    """Change of the output, gain, saturation and decision of each product."""
    from rich.table import Table

    on_videos = any(layer.harm.matched_share is not None for layer in report.layers)
    with_map = any(layer.harm.map_drop_points is not None for layer in report.layers)
    timed = any(layer.gain for layer in report.layers)
    table = Table(title="Products, each quantised alone")
    columns = ["product", "right operand", "worst relative error", *(["detections matched"] if on_videos else [])]
    columns += [*(["change of mAP, points"] if with_map else []), *(["saves, ms"] if timed else [])]
    for column in (*columns, "saturates on AVX2", "decision"):
        is_text = column in {"product", "right operand", "decision"}
        table.add_column(column, justify="left" if is_text else "right", no_wrap=column == "product")
    for layer in report.layers:
        table.add_row(*_cells(layer, on_videos=on_videos, with_map=with_map, timed=timed))
    table.caption_justify = "left"
    saves = "Saves: at 200 snippets on this machine, all else in int8, with a 95 % interval. " if timed else ""
    table.caption = (
        f"Worst relative error: of the outputs. {saves}Saturates on AVX2: share of the pairs of bytes whose sum does "
        "not fit 16 bits on x86 without VNNI, and the relative error of the product, at 8 bits."
    )
    return table


def old_processors_table(report: LayerReport) -> Table:
    """Show the outputs as processors without VNNI compute them."""
    from rich.table import Table

    old = report.old_processors
    columns = number_columns("8 bits, x86 without VNNI", "8 bits, elsewhere", "7 bits (--target avx2, portable)")
    table = Table("output", *columns, title="Everything in int8: relative error of the outputs")
    for name in old.saturated:
        errors = (old.saturated[name], old.eight_bits[name], old.seven_bits[name])
        table.add_row(name, *map(_percent, errors))
    return table


def detections_line(made: QuantizationReport) -> str:
    """Sum up the change of detections and mAP in one line; empty where no videos were tried."""
    seen = made.acceptance
    if seen is None:
        return ""
    text = f"{seen.videos} videos: {100 * seen.matched_share:.1f} % of the detections match those of fp32"
    if seen.map_before is not None and seen.map_after is not None and seen.drop_points is not None:
        precision = made.info.precision
        text += (
            f"; average mAP {100 * seen.map_before:.2f} in fp32, {100 * seen.map_after:.2f} in {precision} "
            f"({0.0 - seen.drop_points:+.2f} points)"
        )
    return text


def _percent(share: float) -> str:
    """Write a share with two digits, as a percentage."""
    return f"{100 * share:.2g} %"


def _cells(layer: Layer, *, on_videos: bool, with_map: bool, timed: bool) -> list[str]:
    harm, gain, saturation = layer.harm, layer.gain, layer.saturation
    cells = [layer.product, layer.kind, _percent(harm.worst_output)]
    if on_videos:
        cells.append("" if harm.matched_share is None else f"{100 * harm.matched_share:.1f} %")
    if with_map:
        cells.append("" if harm.map_drop_points is None else f"{0.0 - harm.map_drop_points:+.2f}")
    if timed:
        cells.append(f"{gain.saved_ms:.2f} ({gain.low_ms:.2f} to {gain.high_ms:.2f})" if gain else "")
    wrong = (
        f"{_percent(saturation.share)} of pairs, error {_percent(saturation.relative_error)}"
        if saturation.happens
        else "no"
    )
    return [*cells, wrong, layer.decision]
