"""Contenders of `stale-edge bench`: exported files, the thesis's PyTorch, and other engines on the same graph."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stale_edge.cli.options import MODELS
from stale_edge_runtime.contract import Kind, Precision
from stale_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stale_edge.checkpoint import Checkpoint
    from stale_edge.cli.console import Reporter
    from stale_edge_runtime.bench.measure import Contender
    from stale_edge_runtime.bench.onnx_contender import OnnxContender
    from stale_edge_runtime.bench.vocabulary import Vocabulary
    from stale_edge_runtime.model_file import ModelFile
    from stale_edge_runtime.windows import WindowPlan

TORCH, OPENVINO = "torch", "openvino"
ENGINES = (TORCH, OPENVINO)


@dataclass(frozen=True)
class ContenderSet:
    """All that is measured in one run."""

    contenders: tuple[Contender, ...]
    """Contenders in the order of the table, references first."""
    files: tuple[OnnxContender, ...]
    """Contenders that are exported files in one piece."""
    reference: Contender
    """The one whose answers count as right."""
    compared: tuple[Contender, ...] = ()
    """Contenders whose answers must agree with the reference's: those of its network."""


@dataclass(frozen=True)
class ContenderRequest:
    """Contenders to prepare."""

    files: Sequence[ModelFile]
    """Exported files."""
    providers: Sequence[str]
    """Providers to run them on."""
    prompts: int
    """Number of classes for files that do not have them inside."""
    engines: Sequence[str]
    """Other engines to measure beside them, of `ENGINES`."""
    checkpoint: Path | None
    """Weights for PyTorch."""
    windows: WindowPlan | None
    """Windows to cut long videos into as well."""


def parse_engines(texts: Sequence[str], known: Sequence[str] = ENGINES) -> tuple[str, ...]:
    """Read engines as in `torch,openvino`.

    Args:
        texts: Names separated by commas, as often as the option was given.
        known: Engines that there are.

    Raises:
        UsageError: One is not known.
    """
    names = [name.strip() for text in texts for name in text.split(",")]
    for name in names:
        if name not in known:
            raise UsageError("--compare", f"{name!r} is not known", f"use --compare {','.join(known)}, or some")
    return tuple(engine for engine in known if engine in names)


@contextlib.contextmanager
def contenders(entry: ContenderRequest, report: Reporter) -> Iterator[ContenderSet]:
    """Make ready what is to be measured.

    Args:
        entry: Contenders to prepare.
        report: Reporter for notes on weights and on contenders that are left out.

    Raises:
        UnavailableError: An engine is not installed.
        UsageError: The files do not have the same weights or classes.
    """
    with tempfile.TemporaryDirectory(prefix="stale-edge-") as name:
        folder = Path(name)
        found: list[Contender] = []
        vocabulary, network = None, ""
        if TORCH in entry.engines:
            found, vocabulary, network = _pytorch(entry, folder, report)
        files = _files(entry, vocabulary)
        thesis = found[0] if TORCH in entry.engines else None
        fp32 = next((file for file in files if file.precision == Precision.FP32), files[0])
        network = network or fp32.model.info.network
        compared = list(found)
        if OPENVINO in entry.engines:
            for file in {file.model.path: file for file in files}.values():
                made = _openvino(file, files, folder, report)
                found += made
                compared += made if file.model.info.network == network else []
        for file in files:
            found.append(file)
            found += _windows(file, entry.windows)
            compared += [file] if file.model.info.network == network else []
        if others := sorted({file.model.info.network for file in files} - {network}):
            report.note(f"answers of {', '.join(others)} are not compared with those of {network}: another network")
        yield ContenderSet(tuple(found), tuple(files), thesis or fp32, tuple(compared))


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Short names of files that tell them apart, without the folders they share.

    Args:
        paths: Files; the same one may come twice.
    """
    names: list[str] = []
    for path in paths:
        parts = path.resolve().parts
        same = [other for other in paths if other.name == path.name and other.resolve() != path.resolve()]
        depth = 1
        while any(other.resolve().parts[-depth:] == parts[-depth:] for other in same):
            depth += 1
        name = "/".join(parts[-depth:])
        copies = sum(known.partition(" #")[0] == name for known in names)
        names.append(f"{name} #{copies + 1}" if copies else name)
    return names


def _files(entry: ContenderRequest, vocabulary: Vocabulary | None) -> list[OnnxContender]:
    """Prepare every file on every provider."""
    from stale_edge_runtime.bench.onnx_contender import OnnxContender, vocabulary_for

    found = []
    for name, file in zip(distinct_names([file.path for file in entry.files]), entry.files, strict=True):
        text = vocabulary or vocabulary_for(file, classes=entry.prompts)
        for provider in entry.providers:
            label = name if len(entry.providers) == 1 else f"{name} ({provider})"
            found.append(OnnxContender(file, label, provider, text))
    return found


def _windows(file: OnnxContender, windows: WindowPlan | None) -> list[Contender]:
    if windows is None:
        return []
    from stale_edge_runtime.bench.windowed import Windowed

    return [Windowed(file, windows)]


def _openvino(file: OnnxContender, files: Sequence[OnnxContender], folder: Path, report: Reporter) -> list[Contender]:
    """Prepare a file once on OpenVINO, in each precision that it has."""
    from stale_edge.extras import require_peers

    require_peers("stale-edge bench --compare openvino")
    from stale_edge_export.contenders.openvino import openvino_contenders

    precisions = {other.model.path: other.precision for other in files}
    label = f" of {file.name}" if list(precisions.values()).count(file.precision) > 1 else ""
    entered, notes = openvino_contenders(file.model, label, file.vocabulary, folder)
    for note in notes:
        report.note(note)
    return list(entered)


def _pytorch(entry: ContenderRequest, folder: Path, report: Reporter) -> tuple[list[Contender], Vocabulary | None, str]:
    """Prepare PyTorch's contenders with the weights of the files, their text inputs, and the name of their network."""
    from stale_edge.extras import require_export

    purpose = "--compare torch"
    require_export(f"stale-edge bench {purpose}")
    from stale_edge.networks.registry import NETWORKS
    from stale_edge_export.contenders.torch import torch_contenders, vocabulary_of
    from stale_edge_export.graphs.text import text_embeddings

    baked = {file.info.classes for file in entry.files if file.info.kind is Kind.BAKED}
    if len(baked) > 1:
        raise UsageError(purpose, "the files have different class lists", "measure them one by one")
    source, weights = _checkpoint(entry, purpose, folder, report)
    names = next(iter(baked), source.classes)
    found: list[Contender] = [*torch_contenders(source, names, weights, with_cached=True)]
    if not NETWORKS[source.network_name].uses_text:
        return found, None, source.network_name
    if source.network.text_tower is None:
        report.note(f"{weights} stores text: for PyTorch a seeded text tower of the published size is run as well")
    return found, vocabulary_of(source.network, names, text_embeddings(source, names)), source.network_name


def _checkpoint(entry: ContenderRequest, purpose: str, folder: Path, report: Reporter) -> tuple[Checkpoint, Path]:
    """Find the weights that the files were exported from."""
    from stale_edge.checkpoint import load_checkpoint, save_checkpoint

    if entry.checkpoint is None and all(file.info.untrained for file in entry.files):
        report.note("the files are untrained: PyTorch gets the same seeded weights")
        source, weights = _seeded(entry.files, purpose), folder / "seeded.safetensors"
        save_checkpoint(weights, source)
        return source, weights
    weights = entry.checkpoint or MODELS / f"{entry.files[0].info.network}.safetensors"
    report.note(f"PyTorch gets the weights of {weights}")
    return load_checkpoint(weights), weights


def _seeded(files: Sequence[ModelFile], purpose: str) -> Checkpoint:
    """Make the untrained network that the files were exported from."""
    from stale_edge.networks.registry import NETWORKS
    from stale_edge.seeded import untrained_checkpoint

    seeds = {file.info.weights.get("seed") for file in files}
    seed = next(iter(seeds))
    if len(seeds) != 1 or not isinstance(seed, int):
        raise UsageError(purpose, "the files have different weights", "name them with --checkpoint")
    info = files[0].info
    if preset := info.weights.get("preset"):
        return untrained_checkpoint(seed, info.network, preset=preset)
    config = NETWORKS[info.network].config
    sizes = {name: getattr(info, name) for name in NETWORKS[info.network].metadata(config())}
    return untrained_checkpoint(seed, info.network, config.from_dict({**sizes, "feature_dim": info.feature_dim}))
