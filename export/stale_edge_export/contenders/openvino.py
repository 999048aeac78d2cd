"""OpenVINO as a contender: an exported file on Intel's engine, with the same inputs.

Run as a module, this measures a contender's cold start in a process of its own.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov

from stale_edge_export.contenders.nncf_int8 import SUFFIX, WEIGHTS_SUFFIX, has_nncf, quantize_by_nncf
from stale_edge_runtime.bench.macs import MacCount, count_macs, model_feeds
from stale_edge_runtime.bench.memory import leave_with_parent, report_cold_start
from stale_edge_runtime.contract import BLOCKWISE, Precision
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.heads.registry import output_names
from stale_edge_runtime.session import short_reason
from stale_edge_runtime.synthetic import clip_like_features

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from stale_edge_runtime.bench.vocabulary import Vocabulary
    from stale_edge_runtime.model_file import ModelFile

DEVICE = "CPU"
FULL, HALF, ITS_CHOICE = "f32", "bf16", ""
"""Hints on the precision to compute in; an int8 file is left to the engine."""
HINTS: dict[Precision, tuple[tuple[str, str], ...]] = {
    Precision.FP32: (("fp32", FULL), ("bf16", HALF)),
    Precision.INT8: (("int8", ITS_CHOICE),),
}
"""Name of the contender and precision hint for OpenVINO, for the precision of a file."""


@dataclass
class OpenVinoContender:
    """An exported file on OpenVINO."""

    model: ModelFile
    """The file."""
    name: str
    """Name in tables."""
    precision: str
    """fp32, bf16 or int8."""
    hint: str
    """Precision that OpenVINO is told to compute in."""
    readable: Path
    """The file as OpenVINO can read it."""
    vocabulary: Vocabulary
    """Text inputs, for a file that does not have its classes inside."""
    engine: str = "openvino"
    """Library that runs it."""
    provider: str = "cpu"
    """Device that runs it."""
    windows: None = None
    """No windows: it takes a video in one piece."""
    _compiled: tuple[int, ov.CompiledModel] | None = field(default=None, repr=False)
    _macs: dict[int, MacCount] = field(default_factory=dict, repr=False)

    @property
    def kind(self) -> str:
        """Inputs of the file besides features."""
        return str(self.model.info.kind)

    @property
    def feature_dim(self) -> int:
        """Width of the features it takes."""
        return self.model.info.feature_dim

    def prepare(self, features: NDArray[np.float32], threads: int) -> Callable[[], Sequence[Any]]:
        """Make a function that runs one forward; its outputs are good until the next one.

        Args:
            features: [batch, snippets, D].
            threads: Threads inside an operator.

        Raises:
            BadDataError: OpenVINO cannot run the file.
        """
        if self._compiled is None or self._compiled[0] != threads:
            self._compiled = (threads, compile_file(self.readable, self.hint, threads, subject=self.name))
        feeds = model_feeds(self.model, features, self.vocabulary)
        return _forward(
            self._compiled[1], feeds, output_names(self.model.info.network, self.model.info.kind), subject=self.name
        )

    def macs(self, batch: int, snippets: int) -> int:
        """Multiply-accumulates of one forward of the file."""
        if batch not in self._macs:
            self._macs[batch] = count_macs(self.model, batch=batch, vocabulary=self.vocabulary)
        return self._macs[batch].total(snippets)

    def cold_start_words(self, threads: int, batch: int, snippets: int) -> Sequence[str]:
        """Module and arguments of the process that measures its cold start."""
        text = {tensor.name: tensor.element_type for tensor in self.model.inputs[1:]}
        feeds = model_feeds(self.model, clip_like_features(1, 1, self.feature_dim), self.vocabulary)
        task = OpenVinoColdStart(
            path=str(self.readable),
            hint=self.hint,
            threads=threads,
            batch=batch,
            snippets=snippets,
            feature_dim=self.feature_dim,
            features=self.model.inputs[0].name,
            text={name: (list(feeds[name].shape), element) for name, element in text.items()},
            outputs=list(output_names(self.model.info.network, self.model.info.kind)),
        )
        return (__spec__.name, json.dumps(asdict(task)))


@dataclass(frozen=True)
class OpenVinoColdStart:
    """Task of the measuring process."""

    path: str
    """The file as OpenVINO can read it."""
    hint: str
    """Precision that OpenVINO is told to compute in."""
    threads: int
    """Threads inside an operator."""
    batch: int
    """Videos in one forward."""
    snippets: int
    """Length of each."""
    feature_dim: int
    """Width of a snippet."""
    features: str
    """Name of the input that takes the features."""
    text: dict[str, tuple[list[int], str]]
    """Shape and element type of each other input; zeros cost as much as text."""
    outputs: list[str]
    """Names of the outputs."""


def _graph_of(precision: str) -> str:
    """Say of int8 that the products are those of our graph: OpenVINO's own quantisation makes another file."""
    return " of our graph" if precision == Precision.INT8 else ""


def openvino_contenders(
    model: ModelFile, label: str, vocabulary: Vocabulary, folder: Path
) -> tuple[list[OpenVinoContender], list[str]]:
    """Prepare one file on OpenVINO, in every precision that it and the processor have.

    Args:
        model: The file.
        label: Addition to the names, to tell several files apart; may be empty.
        vocabulary: Text inputs, for a file that does not have its classes inside.
        folder: Folder for the file as OpenVINO can read it.

    Returns:
        Contenders, and what is missing and why.
    """
    hints = HINTS.get(model.info.precision, ())
    if not hints:
        return [], [f"OpenVINO: {model.path} is left out, it gets the fp32 file and chooses its own half precision"]
    try:
        readable = _readable(model, folder)
        compile_file(readable, hints[0][1], 1, subject="OpenVINO")
    except BadDataError as error:
        return [], [f"OpenVINO cannot read {model.path}: {error.problem}"]
    capabilities = ov.Core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    found = [
        OpenVinoContender(
            model, f"OpenVINO {precision}{_graph_of(precision)}{label}", precision, hint, readable, vocabulary
        )
        for precision, hint in hints
        if hint != HALF or "BF16" in capabilities
    ]
    if model.info.precision is not Precision.FP32:
        return found, []
    if not has_nncf():
        return found, ["OpenVINO's own int8 is left out: NNCF is not installed; pip install 'stale-edge[peers]'"]
    try:
        return [*found, _its_own_int8(model, label, readable, vocabulary, folder)], []
    except BadDataError as error:
        return found, [f"OpenVINO's own int8 of {model.path} is left out: {error.problem}"]


def _its_own_int8(
    model: ModelFile, label: str, readable: Path, vocabulary: Vocabulary, folder: Path
) -> OpenVinoContender:
    """Quantise a file of fp32 by OpenVINO's own tool, NNCF.

    Raises:
        BadDataError: NNCF or OpenVINO cannot do it.
    """
    name, target = f"OpenVINO int8 by NNCF{label}", folder / f"{len(list(folder.iterdir()))}{SUFFIX}"
    feeds = model_feeds(model, clip_like_features(1, 1, model.info.feature_dim), vocabulary)
    features = model.inputs[0].name
    text = {key: value for key, value in feeds.items() if key != features}
    quantize_by_nncf(readable, target, features, model.info.feature_dim, text)
    compile_file(target, ITS_CHOICE, 1, subject=name)
    return OpenVinoContender(model, name, str(Precision.INT8), ITS_CHOICE, target, vocabulary)


def compile_file(path: Path, hint: str, threads: int, *, subject: str) -> ov.CompiledModel:
    """Make a file ready to run, for one request at a time.

    Args:
        path: A file that OpenVINO can read; the weights of a graph of its own lie beside it.
        hint: Precision to compute in; empty for OpenVINO's own choice.
        threads: Threads inside an operator.
        subject: Name in errors.

    Raises:
        BadDataError: OpenVINO does not accept the file.
    """
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    if hint:
        settings["INFERENCE_PRECISION_HINT"] = hint
    core = ov.Core()
    try:
        weights = path.with_suffix(WEIGHTS_SUFFIX).read_bytes() if path.suffix == SUFFIX else b""
        return core.compile_model(core.read_model(path.read_bytes(), weights), DEVICE, settings)
    except RuntimeError as error:
        raise BadDataError(subject, short_reason(error)) from error


def _readable(model: ModelFile, folder: Path) -> Path:
    """Rewrite the file for OpenVINO, whose reader does not know bodies that refer to values around them.

    Raises:
        BadDataError: It holds blocks that cannot be put together.
    """
    if BLOCKWISE not in model.operators:
        return model.path.resolve()
    from stale_edge_export.graphs.whole_attention import OtherBlocksError, with_whole_attention

    target = folder / f"{len(list(folder.iterdir()))}.onnx"
    try:
        target.write_bytes(with_whole_attention(model.content))
    except OtherBlocksError as error:
        raise BadDataError(model.path, str(error)) from error
    return target


def _forward(
    compiled: ov.CompiledModel, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str], *, subject: str
) -> Callable[[], Sequence[Any]]:
    request = compiled.create_infer_request()
    order = [compiled.output(name) for name in outputs]

    def forward() -> Sequence[Any]:
        try:
            found = request.infer(feeds, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise BadDataError(subject, f"OpenVINO failed ({short_reason(error)})", "bench shorter lengths") from error
        return [found[port] for port in order]

    return forward


def main(words: Sequence[str]) -> None:
    """Measure the cold start that `words` describe and write it to standard output."""
    leave_with_parent()
    task = OpenVinoColdStart(**json.loads(words[0]))
    ov.Core().get_property(DEVICE, "FULL_DEVICE_NAME")  # loads the plug-in, as importing onnxruntime loads all of it
    feeds: dict[str, NDArray[Any]] = {
        task.features: clip_like_features(task.batch, task.snippets, task.feature_dim),
        **{name: np.zeros(shape, dtype=element) for name, (shape, element) in task.text.items()},
    }

    def load() -> Callable[[], Sequence[Any]]:
        compiled = compile_file(Path(task.path), task.hint, task.threads, subject=task.path)
        return _forward(compiled, feeds, task.outputs, subject=task.path)

    report_cold_start(load)


if __name__ == "__main__":
    main(sys.argv[1:])
