"""One run of the benchmark: every contender at every configuration, into one report."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np

from stale_edge_runtime.bench.ceiling import ceiling_precision, measure_ceiling
from stale_edge_runtime.bench.machine import describe_machine, read_load
from stale_edge_runtime.bench.measure import Effort, Timing, time_together
from stale_edge_runtime.bench.memory import ChildError, ColdStart, run_child
from stale_edge_runtime.bench.records import Ceiling, Comparison, LogitAgreement, Report, Row
from stale_edge_runtime.bench.statistics import ratio_of_medians, summarize
from stale_edge_runtime.contract import Precision
from stale_edge_runtime.errors import BadDataError
from stale_edge_runtime.synthetic import clip_like_features

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stale_edge_runtime.bench.measure import Contender

SAME_ANSWER = 1e-2
"""Difference of logits, relative to the largest, up to which two fp32 computations count as the same."""
MAX_DIFFERING = 0.1
"""Share of snippets that may differ more: one on the edge of the foreground gate may fall on either side."""
CEILING_KEYS = tuple[str, int]


@dataclass(frozen=True)
class Plan:
    """Measurement plan."""

    lengths: tuple[int, ...]
    """Snippets of a video."""
    threads: tuple[int, ...] = (1,)
    """Threads inside an operator."""
    batches: tuple[int, ...] = (1,)
    """Videos in one forward."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the features; each is timed."""
    effort: Effort = field(default_factory=Effort)
    """Measuring time for each contender."""
    cold_start: bool = True
    """Measure load, first run and peak memory in child processes."""
    name: str = "steady"
    """Name of the protocol."""

    @property
    def configurations(self) -> list[tuple[int, int, int]]:
        """Threads, batch and snippets of each configuration."""
        return list(product(self.threads, self.batches, self.lengths))


def run(
    contenders: Sequence[Contender],
    plan: Plan,
    step: Callable[[str], None] = lambda _text: None,
    agreement: Sequence[LogitAgreement] = (),
) -> Report:
    """Measure every contender at every configuration of a plan.

    Args:
        contenders: Contenders to measure, references first.
        plan: Measurement plan.
        step: Called after each configuration, with a word on it.
        agreement: Differences of their answers, for the report.

    Raises:
        UnavailableError: A provider or thread count cannot be had.
        BadDataError: A file does not run.
    """
    before = read_load()
    ceilings = _ceilings(contenders, plan)
    rows: list[Row] = []
    comparisons: list[Comparison] = []
    notes: list[str] = []
    for threads, batch, snippets in plan.configurations:
        racing = [contender for contender in contenders if races_at(contender, snippets)]
        timings = time_contenders(racing, plan, threads, batch, snippets)
        for contender, timing in zip(racing, timings, strict=True):
            cold, words = _cold_start(contender, plan, threads, batch, snippets)
            rows.append(_row(contender, threads, batch, snippets, timing, cold))
            notes.extend(words)
        comparisons += _compare(racing, timings, threads, batch, snippets)
        step(f"{snippets} snippets, batch {batch}, {threads} thread{'s' if threads > 1 else ''}")
    # What the machine could do at its best moment, before or after.
    for key, later in _ceilings(contenders, plan).items():
        ceilings[key] = max(ceilings[key], later, key=lambda ceiling: ceiling.gmacs_per_s)
    counted, words = _with_macs(rows, contenders, ceilings)
    return Report(
        machine=describe_machine(before, read_load(), [contender.provider for contender in contenders]),
        protocol=_protocol(plan),
        rows=tuple(counted),
        comparisons=tuple(comparisons),
        ceilings=tuple(ceilings.values()),
        agreement=tuple(agreement),
        notes=(*notes, *words),
    )


def races_at(contender: Contender, snippets: int) -> bool:
    """Whether a contender is measured at a length: windows are, where a video is longer than one of them."""
    return contender.windows is None or snippets > contender.windows.window


def check_ready(contenders: Sequence[Contender], plan: Plan) -> None:
    """Run every contender once at every thread count, so that what cannot be had shows before anything is timed.

    Args:
        contenders: Contenders to run.
        plan: Measurement plan.

    Raises:
        UnavailableError: A provider or thread count cannot be had.
        BadDataError: A file does not run.
    """
    for threads in plan.threads:
        for contender in contenders:
            if not races_at(contender, plan.lengths[0]):
                continue
            contender.prepare(clip_like_features(1, plan.lengths[0], contender.feature_dim), threads)()


def check_answers(
    contenders: Sequence[Contender], reference: Contender, snippets: int, *, threads: int = 1, seed: int = 0
) -> list[LogitAgreement]:
    """Compare the class logits of all contenders with those of a reference, on one input.

    Args:
        contenders: Contenders to check; the reference itself is passed over, and so are windows, which see less.
        reference: Contender whose logits count as right.
        snippets: Length of the input.
        threads: Threads inside an operator.
        seed: Seed of the input.

    Raises:
        BadDataError: An fp32 contender computes something else: it has other weights or another class list.
    """
    features = clip_like_features(1, snippets, reference.feature_dim, seed=seed)
    expected = np.asarray(reference.prepare(features, threads)()[0], dtype=np.float64)
    found = []
    for contender in contenders:
        if contender is reference or contender.windows:
            continue
        if contender.feature_dim != reference.feature_dim:
            raise _other_network(contender, reference, f"takes {contender.feature_dim} features a snippet")
        logits = np.asarray(contender.prepare(features, threads)()[0], dtype=np.float64)
        if logits.shape != expected.shape:
            raise _other_network(contender, reference, f"gives logits {list(logits.shape)}")
        difference = np.abs(logits - expected).max(axis=2) / np.abs(expected).max()  # [1, T]
        if contender.precision == Precision.FP32 and np.mean(~(difference <= SAME_ANSWER)) > MAX_DIFFERING:
            raise _other_network(contender, reference, f"gives logits {difference.max():.2g} off")
        changed = np.mean(logits.argmax(axis=2) != expected.argmax(axis=2))
        found.append(LogitAgreement(contender.name, reference.name, snippets, float(difference.max()), float(changed)))
    return found


def _other_network(contender: Contender, reference: Contender, problem: str) -> BadDataError:
    return BadDataError(
        contender.name,
        f"{problem}, unlike {reference.name}: other weights or another class list",
        "name the checkpoint that it was exported from with --checkpoint",
    )


def time_contenders(
    contenders: Sequence[Contender], plan: Plan, threads: int, batch: int, snippets: int
) -> list[Timing]:
    """Time all contenders at one configuration, taking turns, over all seeds of a plan."""
    by_seed = []
    for seed in plan.seeds:
        inputs = {
            width: clip_like_features(batch, snippets, width, seed=seed)
            for width in {contender.feature_dim for contender in contenders}
        }
        forwards = [contender.prepare(inputs[contender.feature_dim], threads) for contender in contenders]
        by_seed.append(time_together(forwards, plan.effort))
    return [
        Timing(np.concatenate([timing.samples_ms for timing in timings]), timings[0].warmup_runs)
        for timings in zip(*by_seed, strict=True)
    ]


def _cold_start(
    contender: Contender, plan: Plan, threads: int, batch: int, snippets: int
) -> tuple[ColdStart | None, list[str]]:
    if not plan.cold_start:
        return None, []
    subject = f"{contender.name} at {snippets} snippets"
    try:
        return run_child(contender.cold_start_words(threads, batch, snippets), subject=subject), []
    except ChildError as error:
        return None, [f"no cold start: {error}"]


def _row(contender: Contender, threads: int, batch: int, snippets: int, timing: Timing, cold: ColdStart | None) -> Row:
    return Row(
        model=contender.name,
        kind=contender.kind,
        engine=contender.engine,
        precision=str(contender.precision),
        provider=contender.provider,
        threads=threads,
        batch=batch,
        snippets=snippets,
        warmup_runs=timing.warmup_runs,
        samples_ms=tuple(tuple(burst) for burst in timing.samples_ms.tolist()),
        window=contender.windows.window if contender.windows else None,
        hop=contender.windows.hop if contender.windows else None,
        gmacs=None,
        gmacs_per_s=None,
        utilisation=None,
        **asdict(summarize(timing.samples_ms)),
        **(asdict(cold) if cold else dict.fromkeys(ColdStart.__dataclass_fields__)),
    )


def _compare(
    contenders: Sequence[Contender], timings: Sequence[Timing], threads: int, batch: int, snippets: int
) -> list[Comparison]:
    found = []
    for a, b in combinations(range(len(contenders)), 2):
        ratio = ratio_of_medians(timings[a].samples_ms, timings[b].samples_ms)
        names = contenders[a].name, contenders[b].name
        found.append(Comparison(*names, threads, batch, snippets, ratio.value, ratio.low, ratio.high))
    return found


def _ceilings(contenders: Sequence[Contender], plan: Plan) -> dict[CEILING_KEYS, Ceiling]:
    """Ceilings of the CPU; on another device nothing is known of them."""
    precisions = {ceiling_precision(each.precision) for each in contenders if each.provider == "cpu"}
    return {
        (str(precision), threads): measure_ceiling(precision, threads)
        for precision in sorted(filter(None, precisions))
        for threads in plan.threads
    }


def _with_macs(
    rows: Sequence[Row], contenders: Sequence[Contender], ceilings: dict[CEILING_KEYS, Ceiling]
) -> tuple[list[Row], list[str]]:
    """Add to the rows what their multiply-accumulates tell, and a note for each file where they cannot be counted."""
    by_name = {contender.name: contender for contender in contenders}
    counted: list[Row] = []
    failed: dict[str, str] = {}
    totals: dict[str, dict[tuple[int, int], int | None]] = defaultdict(dict)
    for row in rows:
        key = row.batch, row.snippets
        if key not in totals[row.model]:
            try:
                totals[row.model][key] = by_name[row.model].macs(*key)
            except BadDataError as error:
                totals[row.model][key] = None
                failed[row.model] = f"no multiply-accumulates: {error}"
        macs = totals[row.model][key]
        ceiling = ceilings.get((str(ceiling_precision(row.precision)), row.threads))
        counted.append(row if macs is None else _row_with_macs(row, macs, ceiling))
    return counted, list(failed.values())


def _row_with_macs(row: Row, macs: int, ceiling: Ceiling | None) -> Row:
    per_second = macs / row.median_ms / 1e6
    utilisation = per_second / ceiling.gmacs_per_s if ceiling and row.provider == "cpu" else None
    return replace(row, gmacs=macs / 1e9, gmacs_per_s=per_second, utilisation=utilisation)


def _protocol(plan: Plan) -> dict[str, Any]:
    effort = plan.effort
    return {
        "name": plan.name,
        "warm_up": effort.warm_up,
        "order": "ABBA" if effort.warm_up else "in turn",
        "seconds": None if effort.runs else effort.seconds,
        "runs": effort.runs,
        "seeds": list(plan.seeds),
        "cold_start": plan.cold_start,
    }
