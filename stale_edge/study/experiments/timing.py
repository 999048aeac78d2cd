"""The timing studies: inference (the thesis's Fig. 4a-b) and quantization (Fig. 4c).

In each cell, one length with one random input, all contenders of all networks take turns. Fast ones run several times
in a turn, so they have more samples than PyTorch's whole network, which takes seconds. The first input of a length
warms up; what does not depend on the input is measured with it, once.

On a GPU too, both engines are timed by the clock on the wall from inputs in host memory to answers in host memory, the
copies included: what a program that detects waits for.

Source: docs/protocol.md, section 6; docs/speed.md, "Measuring honestly".
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from stale_edge.study.design import Cell, Measurement, StudyName
from stale_edge.study.experiments.timed_models import (
    CPU,
    CUDA,
    TimedModels,
    check_threads,
    gpu_peak_macs,
    identify,
    name_places,
)
from stale_edge_runtime.contract import STALE_NETWORK, Precision
from stale_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from stale_edge.study.design import Factor
    from stale_edge.study.experiments.timed_models import TimedContender
    from stale_edge_runtime.bench.measure import Timing

SEEDS: Final = (0, 100, 200, 300, 400)
TURNS: Final = 3
QUICK_TURNS: Final = 2
WARM_SECONDS: Final = 0.5
"""Longest warm-up of a contender, in seconds; two runs at least."""
CEILING_SECONDS: Final = 0.2
_ALL: Final = (Precision.FP32, Precision.FP16, Precision.INT8)
_HALF: Final = (Precision.FP32, Precision.FP16)
_OTHERS: Final = (Precision.FP32, Precision.INT8)
_THESIS_LENGTHS: Final = tuple(range(200, 3001, 200))


@dataclass(frozen=True)
class Design:
    """Differences between the timing studies."""

    lengths: tuple[int, ...]
    """Snippets of a video."""
    quick_lengths: tuple[int, ...]
    """Lengths of a short look."""
    torch: Mapping[str, tuple[Precision, ...]]
    """Precisions that PyTorch runs on each provider."""
    onnx: Mapping[str, tuple[Precision, ...]]
    """Precisions of the files that run on each provider."""
    others: Mapping[str, tuple[Precision, ...]]
    """Precisions of files of networks that the thesis did not time; PyTorch runs published ones in fp32."""
    arithmetic: bool
    """Count multiply-accumulates and compare them with what the device reaches; file sizes otherwise."""


DESIGNS: Final[Mapping[StudyName, Design]] = {
    StudyName.INFERENCE: Design(
        _THESIS_LENGTHS,
        (200, 400, 800),
        torch={CPU: (Precision.FP32,), CUDA: (Precision.FP32,)},
        onnx={CPU: _ALL, CUDA: _ALL},
        others={CPU: _OTHERS, CUDA: _HALF},
        arithmetic=True,
    ),
    StudyName.QUANTIZATION: Design(
        (100, *_THESIS_LENGTHS),
        (100, 200, 400),
        torch={CPU: _ALL, CUDA: _HALF},
        onnx={CPU: _ALL, CUDA: _HALF},
        others={CPU: _OTHERS, CUDA: _HALF},
        arithmetic=False,
    ),
}


@dataclass(frozen=True)
class TimingSettings:
    """Contenders to time, and how thoroughly; empty values stand for the study's own."""

    lengths: tuple[int, ...] = ()
    """Snippets of a video."""
    seeds: tuple[int, ...] = ()
    """Seeds of the random inputs."""
    turns: int = 0
    """Turns of each contender with each input: runs of a slow one."""
    providers: tuple[str, ...] = (CPU,)
    """Providers to run on."""
    threads: int = 1
    """Threads inside an operator."""
    networks: tuple[str, ...] | None = None
    """Kinds of network, keys of `NETWORKS`; all where none is given, or that of the weights."""
    checkpoint: Path | None = None
    """Weights; none for untrained networks of the published size."""
    peak_tmacs: float | None = None
    """Peak of the GPU in fp32, in 10^12 multiply-accumulates a second; as the GPU tells where none is given."""
    quick: bool = False
    """Whether this is a short look; recorded."""


def timing_study(
    name: StudyName,
    folder: Path,
    settings: TimingSettings | None = None,
    computing: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> TimingStudy:
    """Make one of the timing studies, with the thesis's lengths and seeds unless others are given.

    Args:
        name: Inference or quantization.
        folder: Place of the models that are measured; exists.
        settings: Contenders to time, and how thoroughly.
        computing: Surrounds work that computes for seconds and writes nothing.

    Raises:
        UnavailableError: There are not that many threads here.
        InputMissingError: There is no such checkpoint.
        UsageError: There is no such network.
    """
    design, settings = DESIGNS[name], settings or TimingSettings()
    check_threads(settings.threads)
    settings = replace(settings, networks=_networks(settings))
    quick = settings.quick
    settings = replace(
        settings,
        lengths=settings.lengths or (design.quick_lengths if quick else design.lengths),
        seeds=settings.seeds or (SEEDS[:1] if quick else SEEDS),
        turns=settings.turns or (QUICK_TURNS if quick else TURNS),
    )
    return TimingStudy(name, settings, folder, computing)


@dataclass
class TimingStudy:
    """Contenders taking turns, cell after cell."""

    name: StudyName
    """Inference or quantization."""
    settings: TimingSettings
    """Settings of the study."""
    folder: Path
    """Folder of the study."""
    computing: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    """Surrounds what computes for seconds and writes nothing."""
    _list: tuple[TimedContender, ...] | None = field(default=None, repr=False)
    _warm: tuple[int, list[float]] | None = field(default=None, repr=False)
    _remarks: list[str] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self._weights = identify(self.settings.checkpoint)

    @property
    def options(self) -> Mapping[str, object]:
        """All that decides what is measured."""
        return {
            "quick": self.settings.quick,
            "lengths": list(self.settings.lengths),
            "seeds": list(self.settings.seeds),
            "repeats": self.settings.turns,
            "providers": list(self.settings.providers),
            "threads": self.settings.threads,
            "networks": list(self.settings.networks or ()),
            "weights": self._weights,
            "peak_tmacs": self.settings.peak_tmacs,
        }

    @property
    def notes(self) -> Sequence[str]:
        """Contenders that were left out, and figures that could not be measured."""
        return tuple(dict.fromkeys(self._remarks))

    def cells(self) -> Sequence[Cell]:
        """List every length with every input."""
        return [
            Cell(f"{length:05d}-seed-{seed}", {"snippets": length}, seed)
            for length in self.settings.lengths
            for seed in self.settings.seeds
        ]

    def prepare(self, note: Callable[[str], None]) -> None:
        """Make the models, or find them made.

        Raises:
            StaleEdgeError: One cannot be made.
        """
        self._contenders(note)

    def measure(self, cell: Cell, note: Callable[[str], None]) -> Sequence[Measurement]:
        """Let all contenders take turns at one length with one input.

        Raises:
            StaleEdgeError: A model cannot be made, or does not run.
        """
        from stale_edge_runtime.bench.machine import within_memory

        contenders = self._contenders(note)
        snippets = int(cell.factors["snippets"])
        first = cell.repeat == self.settings.seeds[0]
        found: list[Measurement] = []
        with within_memory(self.settings.providers):
            before = self._ceilings(contenders)
            timings = self._time(contenders, snippets, cell.repeat)
            ceilings = {key: max(reached, before[key]) for key, reached in self._ceilings(contenders).items()}
        for timed, timing in zip(contenders, timings, strict=True):
            factors = _factors(timed, snippets)
            values = {"time_ms": timing.samples_ms.ravel().tolist()}
            if DESIGNS[self.name].arithmetic:
                values |= self._rates(timed, snippets, float(np.median(timing.samples_ms)), ceilings)
            found += [
                Measurement(factors, metric, value, cell.repeat, run)
                for metric, series in values.items()
                for run, value in enumerate(series)
            ]
            if first:
                once = self._once(timed, snippets, note)
                found += [Measurement(factors, metric, value, 0) for metric, value in once]
        return found

    def _contenders(self, note: Callable[[str], None]) -> tuple[TimedContender, ...]:
        """Prepare the contenders."""
        if self._list is None:
            design, providers = DESIGNS[self.name], self.settings.providers
            found: list[TimedContender] = []
            for network in self.settings.networks or ():
                is_first = network == STALE_NETWORK
                torch = design.torch if is_first else dict.fromkeys(design.torch, (Precision.FP32,))
                onnx = design.onnx if is_first else design.others
                models = TimedModels(self.folder, self.settings.checkpoint, network)
                made = models.contenders(_on(torch, providers), _on(onnx, providers), note)
                found += made.contenders
                self._remarks += made.left_out
                for remark in made.left_out:
                    note(remark)
            self._list = name_places(found)
        return self._list

    def _time(self, contenders: Sequence[TimedContender], snippets: int, seed: int) -> list[Timing]:
        """Time all contenders, in their order."""
        from stale_edge_runtime.bench.measure import Effort, time_together
        from stale_edge_runtime.synthetic import clip_like_features

        features = clip_like_features(1, snippets, contenders[0].contender.feature_dim, seed=seed)
        forwards = [timed.contender.prepare(features, self.settings.threads) for timed in contenders]
        # Every other input goes the other way round, so that odd numbers of turns balance as well.
        step = -1 if self.settings.seeds.index(seed) % 2 else 1
        effort = Effort(seconds=WARM_SECONDS, rounds=self.settings.turns)
        best_s = self._warm[1] if self._warm and self._warm[0] == snippets else None
        with self.computing():
            timings = time_together(forwards[::step], effort, best_s=best_s[::step] if best_s else None)[::step]
        self._warm = snippets, [float(timing.samples_ms.min()) / 1e3 for timing in timings]
        return timings

    def _ceilings(self, contenders: Sequence[TimedContender]) -> dict[str, float]:
        """Multiply-accumulates a second that a product reaches on the CPU now, in 10^9, by precision."""
        if not DESIGNS[self.name].arithmetic:
            return {}
        from stale_edge_runtime.bench.ceiling import ceiling_precision, measure_ceiling

        kinds = {ceiling_precision(each.contender.precision) for each in contenders if each.contender.provider == CPU}
        with self.computing():
            return {
                str(kind): measure_ceiling(kind, self.settings.threads, seconds=CEILING_SECONDS).gmacs_per_s
                for kind in sorted(filter(None, kinds))
            }

    def _rates(
        self, timed: TimedContender, snippets: int, median_ms: float, ceilings: Mapping[str, float]
    ) -> dict[str, list[float]]:
        """Compute the rates that follow from the multiply-accumulates of one forward."""
        from stale_edge_runtime.bench.ceiling import ceiling_precision

        contender = timed.contender
        macs = contender.macs(1, snippets)
        if macs is None:
            return {}
        reached = macs / median_ms / 1e6
        if contender.provider == CPU:
            ceiling = ceilings.get(str(ceiling_precision(contender.precision)))
        else:
            ceiling = self._gpu_peak(contender.precision)
        rates = {"gmacs_per_s": [reached]}
        return rates | {"utilisation": [reached / ceiling]} if ceiling else rates

    def _gpu_peak(self, precision: str) -> float | None:
        """Give the peak of the GPU in 10^9 multiply-accumulates a second; a peak that was given is that of fp32."""
        if self.settings.peak_tmacs and precision == Precision.FP32:
            return self.settings.peak_tmacs * 1e3
        peak = gpu_peak_macs(precision)
        if peak is None:
            cure = "; give --peak-tmacs" if precision == Precision.FP32 else ""
            self._remarks.append(f"no utilisation of the GPU in {precision}: its peak is not known{cure}")
        return peak / 1e9 if peak else None

    def _once(self, timed: TimedContender, snippets: int, note: Callable[[str], None]) -> Iterator[tuple[str, float]]:
        """Measure the figures that do not depend on the input."""
        if not DESIGNS[self.name].arithmetic:
            yield "file_mb", timed.file_mb
        elif macs := timed.contender.macs(1, snippets):
            yield "gmacs", macs / 1e9
        peak = self._peak_mb(timed, snippets, note)
        if peak is not None:
            yield "peak_mb", peak

    def _peak_mb(self, timed: TimedContender, snippets: int, note: Callable[[str], None]) -> float | None:
        """Memory of a forward with the model loaded; what converting a model takes on the way is not its cost."""
        from stale_edge_runtime.bench.memory import ChildError, run_child

        contender, subject = timed.contender, f"{timed.name} at {snippets} snippets"
        on_gpu = contender.provider != CPU
        if on_gpu and contender.engine != "pytorch":
            self._remarks.append("no memory of onnxruntime on the GPU, which does not tell it")
            return None
        try:
            cold = run_child(contender.cold_start_words(self.settings.threads, 1, snippets), subject=subject)
        except ChildError as error:
            note(f"no memory: {error}")
            # What a process said last may name folders of this machine; the report travels.
            self._remarks.append(f"no memory of {subject}: the process that measures it gave no number")
            return None
        if on_gpu:
            self._remarks.append("memory of PyTorch on the GPU is the most that its tensors held, loading included")
            return cold.peak_rss_mb
        if cold.run_peak_rss_mb is None:
            self._remarks.append("no memory: this system cannot tell the peak of a forward from that of loading")
        return cold.run_peak_rss_mb


def _networks(settings: TimingSettings) -> tuple[str, ...]:
    """Choose the networks to time, in the order of `METHODS`."""
    from stale_edge.study.experiments.training_runs import choose_methods

    if settings.checkpoint is None:
        return tuple(choose_methods(settings.networks))
    if settings.networks is not None:
        raise UsageError("--networks", "does not go with --checkpoint, whose network is timed", "leave one out")
    identify(settings.checkpoint)  # is there
    from stale_edge.checkpoint import read_network_name

    return (read_network_name(settings.checkpoint),)


def _on(wanted: Mapping[str, tuple[Precision, ...]], providers: Sequence[str]) -> dict[str, tuple[Precision, ...]]:
    return {provider: wanted[provider] for provider in providers if provider in wanted}


def _factors(timed: TimedContender, snippets: int) -> dict[str, Factor]:
    contender = timed.contender
    return {
        "engine": contender.engine,
        "precision": str(contender.precision),
        "provider": contender.provider,
        "model": timed.name,
        "snippets": snippets,
    }
