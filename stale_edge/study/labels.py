"""Words for what runs hold: machines, configurations, values of factors; what comes from files is made one line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stale_edge.study.design import StudyName
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
}
REFERENCES: Final = ("untrained", "nearest text", "whole video", "ceiling")
"""Methods that nothing was trained for, see `stale_edge.reference_points`."""
REFERENCE_OPTION: Final = "reference_points"
"""Option of a run that may name others."""
REFERENCE_MARK: Final = " †"
LONGEST: Final = 160
_ENGINES: Final = {"pytorch": "PyTorch", "torch": "PyTorch", "openvino": "OpenVINO"}
_YES: Final = {"with", "yes", "on", "true", "enhanced", "1"}
_NO: Final = {"without", "no", "off", "false", "none", "plain", "0"}
_TIMED: Final = {StudyName.INFERENCE, StudyName.QUANTIZATION}
_NUMERIC: Final = ("fraction", "snippets")
_POSITIVE: Final = ("time_ms", "peak_mb")
_SIZES: Final = ("file_mb", "seconds")
_LEAST: Final = 1e-9
"""Nothing measured is smaller; what divides by less has no end."""


@dataclass(frozen=True)
class Labelled:
    """A run and what its machine is called in the report."""

    run: StudyRun
    """The run."""
    machine: str
    """Short, and no other machine's."""


def one_line(value: Any) -> str:
    """A value from a file as printable text of one line, cut where it is very long."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(str(value).split()))
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def check_run(subject: object, run: StudyRun) -> None:
    """Refuse measurements that cannot be shown.

    Args:
        subject: What to name in the error.
        run: Read from a file, or just measured.

    Raises:
        BadDataError: A length or fraction is not a positive number, or a time or a size cannot be.
    """
    cure = "run the study again"
    for measurement in run.measurements:
        for name in _NUMERIC:
            value = measurement.factors.get(name, 1)
            if isinstance(value, str) or value <= 0:
                raise BadDataError(subject, f"{name} {one_line(value)!r} is not a positive number", cure)
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
    """The processor's name without what every processor's name has."""
    text = re.sub(r"\((?:R|TM|C)\)|\bCPU\b|\bProcessor\b|@.*$|\b\d+-Core\b", " ", one_line(machine.get("cpu") or ""))
    return " ".join(text.split())[:60] or "unknown machine"


def is_enhanced(value: Factor) -> bool | None:
    """Whether a value of the factor `enhancement` means with it; none where it is neither."""
    word = one_line(value).lower()
    return True if word in _YES else False if word in _NO else None


def enhancement(value: Factor) -> str:
    """`with` or `without`, or the value itself."""
    known = is_enhanced(value)
    return one_line(value) if known is None else ("with" if known else "without")


def split(value: Factor) -> str:
    """`75/25` or `50/50`, whatever stands between the numbers, or the value itself."""
    word = one_line(value)
    numbers = re.search(r"(?<!\d)(75|50)\D?(25|50)?(?!\d)", word)
    return {"75": "75/25", "50": "50/50"}[numbers.group(1)] if numbers else word


def share(value: Factor) -> float:
    """A fraction of the data in (0, 1], given as such or in percent."""
    number = float(value)
    return number / 100 if number > 1 else number


def percent(value: float) -> str:
    """A fraction as percent, with as many decimals as it has."""
    return f"{100 * value:.3g} %"


def is_reference(method: str, options: Mapping[str, Any]) -> bool:
    """Whether a method was not trained, and is there to read the others beside.

    Args:
        method: Value of the factor.
        options: Of the run; `reference_points` may name more.
    """
    more = options.get(REFERENCE_OPTION)
    if isinstance(more, list) and method in more:
        return True
    return re.sub(r"[-_\s]+", " ", method.lower()).strip().startswith(REFERENCES)


def method(value: Factor, options: Mapping[str, Any]) -> str:
    """A method's name, with a dagger where it was not trained."""
    return one_line(value) + (REFERENCE_MARK if is_reference(str(value), options) else "")


def engine(value: Factor) -> str:
    """The engine as its makers write it."""
    word = one_line(value)
    return _ENGINES.get(word.lower(), word)


def configurations(run: StudyRun) -> dict[tuple[str, ...], str]:
    """Names of what was timed, by engine, precision, provider and model, in the order in which they were measured.

    A provider is named where it is not the CPU, a model where two would have the same name without it.
    """
    found = dict.fromkeys(configuration_of(measurement) for measurement in run.measurements)
    plain = {key: _configuration(key) for key in found}
    names = list(plain.values())
    return {key: f"{name} ({key[3]})" if names.count(name) > 1 else name for key, name in plain.items()}


def configuration_of(measurement: Measurement) -> tuple[str, ...]:
    """Engine, precision, provider and model of a timing."""
    factors = measurement.factors
    return tuple(one_line(factors[name]) for name in ("engine", "precision", "provider", "model"))


def is_timed(study: StudyName) -> bool:
    """Whether a study times forwards, so that medians and quartiles say more than means."""
    return study in _TIMED


def _configuration(key: tuple[str, ...]) -> str:
    provider = "" if is_cpu(key) else f", {key[2].upper() if len(key[2]) <= 4 else key[2]}"
    return f"{engine(key[0])} {key[1]}{provider}"


def is_cpu(key: tuple[str, ...]) -> bool:
    """Whether a configuration runs on the CPU."""
    return key[2].lower().startswith("cpu")


def _identity(machine: Mapping[str, Any]) -> str:
    keys = ("cpu", "architecture", "cpu_flags", "cores", "cores_allowed", "cpu_quota_cores", "memory_mb")
    return repr([machine.get(key) for key in keys])


def _unused(wish: str, taken: Iterable[str]) -> str:
    used, number, name = set(taken), 1, wish
    while name in used:
        number += 1
        name = f"{wish} #{number}"
    return name
