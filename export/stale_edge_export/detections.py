"""Files that decode inside: the decoding behind a network's outputs, off them again, and its check against numpy."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from onnx import helper

from stale_edge_export.encoding import encode_model
from stale_edge_export.graphs.base import CLIP_LIKE
from stale_edge_export.graphs.nodes import DOUBLE, FLOAT, INT, NodeWriter, Value
from stale_edge_export.graphs.registry import GRAPHS
from stale_edge_runtime.contract import (
    BATCH,
    FEATURES,
    LABELS,
    SCORES,
    SEGMENTS,
    SEGMENTS_S,
    TEXT_EMBEDDINGS,
    Kind,
    ModelInfo,
)
from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.graph_detections import READ, detection_border
from stale_edge_runtime.heads.base import AnyName
from stale_edge_runtime.heads.registry import HEADS
from stale_edge_runtime.model_file import parse_model
from stale_edge_runtime.session import open_session
from stale_edge_runtime.synthetic import clip_like_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from stale_edge_export.graphs.decoding import Decoding
    from stale_edge_runtime.heads.base import VideoOutputs
    from stale_edge_runtime.model_file import ModelFile

STAGE: Final = "decoding"
"""Start of the names of the nodes that decode."""
LONGEST: Final = 3000
"""Snippets of the longest video of the check."""
DRAWS: Final = 5
SEGMENT_TOLERANCE: Final = 1e-3
"""Largest difference of a start or end, in snippets; votes in float32 add a millionth of the video's length."""
SCORE_TOLERANCE: Final = 1e-5
ROUNDING: Final = 1e-6
"""Rounding of a vote in float32."""
SHAKES: Final = 8
SHAKE: Final = 5e-6
"""Change of outputs that stands for rounding, beside values of one or less; relative to larger ones."""

Rows = list[tuple[float, float, int, float]]


def decoding_of(network: str) -> Decoding:
    """Give the decoding that can be written into the graph of a network.

    Raises:
        UsageError: There is none.
    """
    decoding = GRAPHS[network].decoding
    if decoding is None:
        problem = f"is not there for the network {network}: its decoding has no graph"
        raise UsageError("--detections", problem, "leave it out; `stale-edge detect` decodes")
    return decoding


def with_detections(
    plain: ModelFile, settings: Mapping[str, Any], progress: Callable[[str], None] = lambda _: None
) -> ModelFile:
    """Make the file that decodes inside from one that gives the outputs of its network, and check it against numpy.

    Args:
        plain: The file without the decoding.
        settings: All settings of the decoding.
        progress: Called after each video of the check.

    Raises:
        BadDataError: A detection differs from numpy's.
    """
    info = replace(plain.info, detections=dict(settings))
    model = add_decoding(onnx.load_model_from_string(plain.content), info)
    made = parse_model(encode_model(model, info), plain.path)
    parity = {**info.parity, "detections": check_decoding(plain, made, progress)}
    return parse_model(encode_model(model, replace(info, parity=parity)), plain.path)


def without_detections(file: ModelFile) -> ModelFile:
    """Make the file that gives the outputs of its network from one that decodes inside."""
    if not file.info.detections:
        return file
    parity = {key: value for key, value in file.info.parity.items() if key != "detections"}
    info = replace(file.info, detections={}, parity=parity)
    model = drop_decoding(onnx.load_model_from_string(file.content), info)
    return parse_model(encode_model(model, info), file.path)


def add_decoding(model: onnx.ModelProto, info: ModelInfo) -> onnx.ModelProto:
    """Put the decoding behind the outputs of a network; one video a call.

    Args:
        model: Graph that gives the outputs of the network; it is not changed.
        info: Metadata of the new file, with all settings of the decoding in `detections`.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    writer = NodeWriter(STAGE)
    outputs = {
        name: writer.add("Squeeze", Value(writer, name, FLOAT), np.array([0])) for name in HEADS[info.network].outputs
    }
    snippets = Value(writer, FEATURES, FLOAT).size(1)
    found = decoding_of(info.network).write(writer, outputs, snippets, info, dict(info.detections))
    broken = _broken(writer, outputs)
    segments = writer.concat(
        writer.concat(broken.unsqueeze(1), broken.unsqueeze(1), axis=1), found.segments.cast(FLOAT)
    )
    results = {
        SEGMENTS: segments,
        LABELS: writer.concat(broken.cast(INT) * 0, found.labels),
        SCORES: writer.concat(broken, found.scores.cast(FLOAT)),
    }
    border = detection_border(info)
    if SEGMENTS_S in border:
        results[SEGMENTS_S] = (segments.cast(DOUBLE) * float(info.snippet_seconds or 0.0)).cast(FLOAT)
    ends = [helper.make_node("Identity", [results[name].name], [name], name=f"{STAGE}/{name}") for name in border]
    made.graph.node.extend([*writer.nodes, *ends])
    made.graph.initializer.extend(writer.constants.values())
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    _set_outputs(made, border)
    return made


def _broken(writer: NodeWriter, outputs: Mapping[str, Value]) -> Value:
    """Write one NaN if the network answers with NaN or infinity, which no decoding shows; else nothing `[0]`."""
    sums = [writer.add("ReduceSum", value, keepdims=0) * 0.0 for value in outputs.values()]
    health = sums[0]
    for each in sums[1:]:
        health = health + each
    health = health.unsqueeze(0)
    return health.keep(writer.add("Not", writer.add("Equal", health, health)))


def drop_decoding(model: onnx.ModelProto, info: ModelInfo) -> onnx.ModelProto:
    """Take the decoding off: the graph gives the outputs of its network again, for any batch."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph, start = made.graph, f"{STAGE}/"
    nodes = [node for node in model.graph.node if not node.name.startswith(start)]
    weights = [tensor for tensor in model.graph.initializer if not tensor.name.startswith(start)]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = BATCH
    head = HEADS[info.network]
    _set_outputs(
        made,
        {
            name: ("float32", tuple(f"{name}_{i}" if isinstance(a, AnyName) else a for i, a in enumerate(axes)))
            for name, axes in head.axes(info).items()
        },
    )
    return made


def _set_outputs(model: onnx.ModelProto, border: Mapping[str, tuple[str, tuple[str | int, ...]]]) -> None:
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(element)), axes)
        for name, (element, axes) in border.items()
    )


def check_decoding(
    plain: ModelFile, made: ModelFile, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Compare the detections of a file with what numpy decodes from the outputs of its network, row by row.

    Where numpy's own rows change when outputs change by rounding, another video is drawn.

    Returns:
        Record for the metadata: lengths, videos, rows, and the largest difference of a score.

    Raises:
        BadDataError: A row differs.
    """
    info, settings = made.info, dict(made.info.detections)
    decoding = decoding_of(info.network)
    networks, decoders = open_session(plain), open_session(made)
    names = HEADS[info.network].outputs
    cases = _cases(info.network)
    rows, largest = 0, 0.0
    for case, (snippets, kind) in enumerate(cases):
        for seed in range(DRAWS):
            feeds = _feeds(info, snippets, kind, case, seed)
            values = networks.run(list(names), feeds)
            outputs = {name: value[0] for name, value in zip(names, values, strict=True)}
            expected = _numpy_rows(decoding, outputs, snippets, info, settings)
            found = _graph_rows(decoders.run(list(READ), feeds))
            if (difference := compare_rows(expected, found, snippets)) is None:
                break
            if seed == DRAWS - 1 or _is_decided(decoding, outputs, snippets, info, settings):
                cure = "no file was written; leave --detections out and report this"
                raise BadDataError(made.path, f"{difference} at {snippets} snippets, {kind} features", cure)
        rows += len(expected)
        largest = max([largest, *(abs(a[3] - b[3]) for a, b in zip(expected, found, strict=True))])
        progress(f"detections at {snippets} snippets, {kind} features")
    lengths = list(dict.fromkeys(snippets for snippets, _ in cases))
    return {"lengths": lengths, "videos": len(cases), "rows": rows, "max_score_error": float(f"{largest:.3g}")}


def decoding_cases(network: str) -> int:
    """Count the videos of `check_decoding`."""
    return len(_cases(network))


def _cases(network: str) -> list[tuple[int, str]]:
    cases = GRAPHS[network].cases
    return list(product(sorted({*cases.lengths, LONGEST}), cases.inputs))


def compare_rows(expected: Rows, found: Rows, snippets: int) -> str | None:
    """Tell the first difference between rows that should be equal, in words; None where there is none.

    Args:
        expected: Start, end, class index and score of each detection, by numpy.
        found: The same, by the graph.
        snippets: Length of the video.
    """
    tolerance = SEGMENT_TOLERANCE + ROUNDING * snippets
    for place, (want, have) in enumerate(zip(expected, found, strict=False)):
        apart = max(abs(want[0] - have[0]), abs(want[1] - have[1]))
        if not (apart <= tolerance and want[2] == have[2] and abs(want[3] - have[3]) <= SCORE_TOLERANCE):
            return f"detection {place + 1} is {_shown(have)}, by numpy {_shown(want)},"
    if len(expected) != len(found):
        return f"gives {len(found)} detections, numpy {len(expected)},"
    return None


def _shown(row: tuple[float, float, int, float]) -> str:
    return f"{row[0]:g} to {row[1]:g} of class {row[2]} at {row[3]:.6f}"


def _numpy_rows(
    decoding: Decoding, outputs: VideoOutputs, snippets: int, info: ModelInfo, settings: dict[str, Any]
) -> Rows:
    found = decoding.decode(outputs, snippets, info, settings)
    return [(row.start_s, row.end_s, int(row.label), row.score) for row in found]


def _graph_rows(arrays: Iterable[NDArray[Any]]) -> Rows:
    segments, labels, scores = (array.tolist() for array in arrays)
    return [(*segment, label, score) for segment, label, score in zip(segments, labels, scores, strict=True)]


def _is_decided(
    decoding: Decoding, outputs: VideoOutputs, snippets: int, info: ModelInfo, settings: dict[str, Any]
) -> bool:
    """Tell whether numpy finds the same rows in outputs that differ by rounding."""
    wanted = _numpy_rows(decoding, outputs, snippets, info, settings)
    for seed in range(SHAKES):
        rng = np.random.default_rng(seed)
        shaken = {
            name: (value + SHAKE * rng.uniform(-1, 1, value.shape) * np.maximum(np.abs(value), 1)).astype(np.float32)
            for name, value in outputs.items()
        }
        if compare_rows(wanted, _numpy_rows(decoding, shaken, snippets, info, settings), snippets) is not None:
            return False
    return True


def _feeds(info: ModelInfo, snippets: int, kind: str, case: int, seed: int) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng([seed, case, snippets])
    if kind == CLIP_LIKE:
        features = clip_like_features(1, snippets, info.feature_dim, seed=seed)
    else:
        features = rng.standard_normal((1, snippets, info.feature_dim)).astype(np.float32)
    if info.kind is not Kind.OPEN:
        return {FEATURES: features}
    texts = rng.standard_normal((case % 5 + 1, info.feature_dim)).astype(np.float32)
    return {FEATURES: features, TEXT_EMBEDDINGS: texts}
