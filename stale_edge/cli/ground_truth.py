"""Ground truth as commands read it: what could not be used, or looks wrong, is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from stale_edge.cli.console import Reporter
    from stale_edge_runtime.formats.annotations import Annotations


def read_ground_truth(
    path: Path,
    reporter: Reporter,
    *,
    video_info: Path | None = None,
    class_names: Path | None = None,
    strict: bool = False,
) -> Annotations:
    """Read annotations and warn of what was left out of them and of times that are probably not in seconds.

    Raises:
        InputMissingError: A file is missing.
        BadDataError: A file is not what it must be.
    """
    from stale_edge_runtime.formats.annotations import read_annotations
    from stale_edge_runtime.formats.left_out import left_out_lines

    annotations = read_annotations(path, video_info=video_info, class_names=class_names, strict=strict)
    for line in annotations.notes:
        reporter.note(line)
    for line in left_out_lines(annotations.left_out):
        reporter.warn(line)
    if warning := annotations.wrong_unit_warning:
        reporter.warn(warning)
    return annotations
