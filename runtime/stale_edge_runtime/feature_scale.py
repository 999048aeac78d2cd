"""Length of feature rows: networks know the one that they learned, and answer nonsense for a very different one.

Features that were divided by their length, as many CLIP examples do, and bytes read as another float type look like
features in everything but their scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.formats.features import median_row_length

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from stale_edge_runtime.contract import ModelInfo
    from stale_edge_runtime.segments import FloatArray

FAR: Final = 3.5
"""Factor beyond which a scale is not the one that was learned; other videos and extractors stay well within."""


def is_far(row_length: float, learned: float) -> bool:
    """Tell whether rows have another scale than the learned one."""
    return not learned / FAR < row_length < learned * FAR


def scale_warning(row_lengths: Collection[float], info: ModelInfo, model: object) -> str:
    """Word the warning about features of another scale than the learned one; '' where there is none."""
    if info.feature_norm is None:
        return ""
    learned = info.feature_norm
    far = [length for length in row_lengths if is_far(length, learned)]
    if not far:
        return ""
    videos = f" in {len(far):,} of {len(row_lengths):,} videos" if len(row_lengths) > 1 else ""
    return (
        f"FEATURES OF ANOTHER SCALE{videos}: rows have a median length of {np.median(far):.3g}, and {model} learned "
        f"rows of {learned:.3g}, so detections mean little; give features as the model's extractor makes them, not "
        "normalised, or use detect --rescale"
    )


def rescaled(features: FloatArray, learned: float) -> FloatArray:
    """Multiply the features of one video so that their rows have the learned median length.

    Args:
        features: `[snippets, width]`; all zero stays all zero.
        learned: Median length of the rows in training.
    """
    length = median_row_length(features)
    return features * np.float32(learned / length) if length > 0 else features


def learned_length(info: ModelInfo, model: object) -> float:
    """Give the median row length that a model learned.

    Raises:
        UsageError: The file does not tell.
    """
    if info.feature_norm is None:
        raise UsageError("--rescale", f"{model} does not say which length of rows it learned", "leave it out")
    return info.feature_norm


def watched(rows: Iterable[FloatArray], count: int, see: Callable[[float], float]) -> Iterator[FloatArray]:
    """Hold rows of a stream back until they tell their scale, and multiply all by the factor that it asks for.

    Args:
        rows: Blocks `[n, width]` as they come.
        count: Rows that tell the scale; the stream's end counts too.
        see: Takes the median length of these rows; returns the factor for all rows.

    Yields:
        `[n, width]`, n from 1 up.

    Raises:
        BadDataError: The stream's own error, after the rows before it.
    """
    held: list[FloatArray] = []
    factor, failure = None, None
    blocks = iter(rows)
    while True:
        try:
            block = next(blocks)
        except StopIteration:
            break
        except BadDataError as error:  # what came before is whole
            failure = error
            break
        if factor is not None:
            yield block * np.float32(factor)
            continue
        held.append(block)
        if sum(map(len, held)) >= count:
            first = np.concatenate(held)
            factor = see(median_row_length(first))
            yield first * np.float32(factor)
    if factor is None and held:
        first = np.concatenate(held)
        yield first * np.float32(see(median_row_length(first)))
    if failure is not None:
        raise failure
