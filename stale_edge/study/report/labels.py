"""Words for what runs hold: machines, configurations, values of factors; what comes from files is made one line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stale_edge.study.design import WHOLE_VIDEO, StudyName
from stale_edge_runtime.errors import BadDataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stale_edge.study.design import Factor, Measurement
    from stale_edge.study.store import StudyRun

TITLES: Final[dict[StudyName, str]] = {
    StudyName.OPEN_SET: "Open set: classes that training never saw",
    StudyName.CLOSED_SET: "Closed set: how much data training needs",
    StudyName.TRAINING: "Training: what it costs",
    StudyName.INFERENCE: "Inference: time, utilisation and memory against length",
    StudyName.QUANTIZATION: "Quantisation: precision and engine",
    StudyName.ABLATION: "Ablation: what holds the network back",
    StudyName.LOCALIZATION: "Localisation: the boundary map in several worlds",
    StudyName.ROBUSTNESS: "Robustness: how far results hang on the simulated world",
}
REFERENCES: Final = ("untrained", "nearest text", "whole video", "ceiling")
"""Methods that nothing was trained for, see `stale_edge.data.reference_points`."""
REFERENCE_OPTION: Final = "reference_points"
"""Option of a run that may name others."""
REFERENCE_MARK: Final = " †"
LONGEST: Final = 160
STALE, OTHER_NETWORKS = "stale", ("actionformer", "boundary-map")
"""Networks that are timed; the names of models of the others begin with theirs."""
PYTORCH, ONNXRUNTIME = "pytorch", "onnxruntime"
"""Engines: that which the thesis measured, and ours."""
_SHARE: Final = "fraction"
_NUMERIC: Final = (_SHARE, "snippets")
_POSITIVE: Final = ("time_ms", "peak_mb")
_SIZES: Final = ("file_mb", "seconds")
_LEAST: Final = 1e-9
"""Smallest accepted value; guards against division by almost zero."""


@dataclass(frozen=True)
class Labelled:
    """A run and what its machine is called in the report."""

    run: StudyRun
    """The run."""
    machine: str
    """Short, and no other machine's."""


def one_line(value: Any) -> str:
    """Turn a value from a file into printable text of one line, cut where it is very long."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(str(value).split()))
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def check_run(subject: object, run: StudyRun) -> None:
    """Refuse measurements that cannot be shown.

    Args:
        subject: Name in the error.
        run: Read from a file, or just measured.

    Raises:
        BadDataError: A length or fraction is not a positive number, a fraction is more than one, or a time or a size
            cannot be.
    """
    cure = "run the study again"
    for measurement in run.measurements:
        for name in _NUMERIC:
            value = measurement.factors.get(name, 1)
            if isinstance(value, str) or value <= 0:
                raise BadDataError(subject, f"{name} {one_line(value)!r} is not a positive number", cure)
            if name == _SHARE and value > 1:
                raise BadDataError(subject, f"{name} {value:g} is more than all, which is 1", cure)
        if measurement.metric in _POSITIVE and measurement.value < _LEAST:
            raise BadDataError(subject, f"{measurement.metric} {measurement.value:g} is too small to be", cure)
        if measurement.metric in _SIZES and measurement.value < 0:
            raise BadDataError(subject, f"{measurement.metric} {measurement.value:g} is below zero", cure)


def label_runs(runs: Sequence[StudyRun]) -> tuple[Labelled, ...]:
    """Give every machine a short name; a second run of the same study on the same machine counts as another."""
    names: dict[tuple[str, int], str] = {}
    seen: dict[tuple[StudyName, str], int] = {}
    labelled = []
    for run in runs:
        identity = _identity(run.machine)
        again = seen.get((run.study, identity), 0)
        seen[run.study, identity] = again + 1
        if (identity, again) not in names:
            wish = names[identity, 0] + f", run {again + 1}" if again else short_cpu(run.machine)
            names[identity, again] = _unused(wish, names.values())
        labelled.append(Labelled(run, names[identity, again]))
    return tuple(labelled)


def short_cpu(machine: Mapping[str, Any]) -> str:
    """Shorten the processor's name by what every processor's name has."""
    text = re.sub(r"\((?:R|TM|C)\)|\bCPU\b|\bProcessor\b|@.*$|\b\d+-Core\b", " ", one_line(machine.get("cpu") or ""))
    return " ".join(text.split())[:60] or "unknown machine"


def percent(value: Factor) -> str:
    """Write a fraction as percent, with as many decimals as it has."""
    return f"{100 * float(value):.3g} %"


def is_reference(method: str, options: Mapping[str, Any]) -> bool:
    """Whether a method is no training of its own, and is there to read the others beside.

    Args:
        method: Value of the factor.
        options: Options of the run; `reference_points` may name more.
    """
    more = options.get(REFERENCE_OPTION)
    if isinstance(more, list) and method in more:
        return True
    plain = re.sub(r"[-_\s]+", " ", method.lower()).strip()
    return plain.startswith(REFERENCES) or plain.endswith(WHOLE_VIDEO)


def method(value: Factor, options: Mapping[str, Any]) -> str:
    """Name a method, with a dagger where it is a reference."""
    return one_line(value) + (REFERENCE_MARK if is_reference(str(value), options) else "")


def engine(value: Factor) -> str:
    """Write the engine's name as its makers do."""
    return "PyTorch" if value == PYTORCH else one_line(value)


def configurations(run: StudyRun) -> dict[tuple[str, ...], str]:
    """Names of what was timed, by engine, precision, provider and model, in the order in which they were measured.

    A provider is named where it is not the CPU, a model where two would have the same name without it.
    """
    found = dict.fromkeys(configuration_of(measurement) for measurement in run.measurements)
    plain = {key: _configuration(key) for key in found}
    names = list(plain.values())
    return {key: _with_model(key, name) if names.count(name) > 1 else name for key, name in plain.items()}


def configuration_of(measurement: Measurement) -> tuple[str, ...]:
    """Engine, precision, provider and model of a timing."""
    factors = measurement.factors
    return tuple(one_line(factors[name]) for name in ("engine", "precision", "provider", "model"))


def _configuration(key: tuple[str, ...]) -> str:
    provider = "" if is_cpu(key) else f", {key[2].upper() if len(key[2]) <= 4 else key[2]}"
    return f"{engine(key[0])} {key[1]}{provider}"


def _with_model(key: tuple[str, ...], name: str) -> str:
    """Name a configuration by its model: a file that onnxruntime ran on the CPU needs no other word."""
    is_file = key[0] == ONNXRUNTIME and is_cpu(key) and key[3].endswith(".onnx")
    return key[3] if is_file else f"{name} ({key[3]})"


def network_of(key: tuple[str, ...]) -> str:
    """Network of a configuration, by the name of its model: STALE where it names no other."""
    return next((name for name in OTHER_NETWORKS if key[3].lower().startswith(name)), STALE)


def is_cpu(key: tuple[str, ...]) -> bool:
    """Whether a configuration runs on the CPU."""
    return key[2] == "cpu"


def _identity(machine: Mapping[str, Any]) -> str:
    keys = ("cpu", "architecture", "cpu_flags", "cores", "cores_allowed", "cpu_quota_cores", "memory_mb", "gpu")
    return repr([machine.get(key) for key in keys])


def _unused(wish: str, taken: Iterable[str]) -> str:
    used, number, name = set(taken), 1, wish
    while name in used:
        number += 1
        name = f"{wish} #{number}"
    return name
