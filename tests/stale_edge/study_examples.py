"""Runs of all studies with made-up measurements, the same at every call."""

from __future__ import annotations

import zlib
from itertools import product

from stale_edge.study.design import Measurement, StudyName
from stale_edge.study.store import StudyRun

LENGTHS = (100, 200, 1000, 3000)
XEON = {
    "cpu": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
    "architecture": "x86_64",
    "cpu_flags": ["avx2", "fma", "avx512_vnni", "amx_int8"],
    "cores": 2,
    "cores_allowed": 2,
    "cpu_quota_cores": None,
    "governor": None,
    "memory_mb": 8000,
    "load_1min": [0.4, 1.2],
    "busy_percent": 55.0,
    "steal_percent": 0.3,
    "os": "Linux 6.1",
    "python": "3.11.2",
    "libraries": {"onnxruntime": "1.32.0", "torch": "2.13.0"},
    "providers": ["cpu"],
    "environment": {"OMP_NUM_THREADS": "1"},
    "date": "2026-11-26T20:00:00+00:00",
}
PI = {**XEON, "cpu": "Cortex-A76", "architecture": "aarch64", "cpu_flags": ["asimd", "asimddp"], "memory_mb": 4000}


def wobble(*words, size=0.03):
    """A factor near 1 that depends on nothing but the words."""
    return 1 + size * (zlib.crc32(repr(words).encode()) % 2001 / 1000 - 1)


def open_set():
    base = {("75/25", "with"): 0.21, ("75/25", "without"): 0.09, ("50/50", "with"): 0.20, ("50/50", "without"): 0.03}
    for (split, enhancement), value in base.items():
        for fraction, repeat in product((1.0, 0.5), range(5)):
            factors = {"method": "stale", "split": split, "fraction": fraction, "enhancement": enhancement}
            yield from accuracy(factors, value * fraction**0.1, repeat)


def closed_set():
    for fraction, enhancement, repeat in product((0.1, 0.2, 0.4, 0.6, 0.8, 1.0), ("with", "without"), range(5)):
        value = 0.24 if enhancement == "with" else 0.12 + 0.07 * fraction
        yield from accuracy({"method": "stale", "fraction": fraction, "enhancement": enhancement}, value, repeat)


def accuracy(factors, value, repeat):
    shares = {"map_50": 1.5, "map_75": 0.9, "map_95": 0.2, "average_map": 1.0}
    for metric, share in shares.items():
        yield Measurement(factors, metric, min(1.0, value * share * wobble(factors, repeat, metric)), repeat)
    yield Measurement(factors, "seconds", 40 * wobble(factors, repeat), repeat)


def training():
    for method, repeat in product(("stale", "ours"), range(3)):
        factors = {"method": method}
        values = {"parameters": 79.6e6, "trained_parameters": 16.4e6, "steps": 500, "seconds": 310, "peak_rss_mb": 2100}
        for metric, value in {**values, "average_map": 0.183}.items():
            wobbling = metric in {"seconds", "average_map", "peak_rss_mb"}
            yield Measurement(factors, metric, value * (wobble(method, repeat, metric) if wobbling else 1), repeat)


CONTENDERS = {
    ("pytorch", "fp32", "cpu", "PyTorch fp32"): (1500.0, 0.5, 2100.0, 700.0),
    ("pytorch", "int8", "cpu", "PyTorch dynamic int8"): (800.0, 0.45, 1300.0, 320.0),
    ("onnxruntime", "fp32", "cpu", "stale.onnx"): (3.0, 0.22, 220.0, 17.2),
    ("onnxruntime", "int8", "cpu", "stale.int8.onnx"): (1.0, 0.045, 140.0, 5.5),
}


def timing(study, speed=1.0):
    for (key, (fixed, slope, memory, size)), snippets in product(CONTENDERS.items(), LENGTHS):
        factors = dict(zip(("engine", "precision", "provider", "model"), key, strict=True)) | {"snippets": snippets}
        middle = speed * (fixed + slope * snippets)
        for repeat, run in product(range(5), range(3)):
            yield Measurement(factors, "time_ms", middle * wobble(factors, repeat, run), repeat, run)
        yield Measurement(factors, "peak_mb", memory + 0.1 * snippets, 0)
        if study is StudyName.QUANTIZATION:
            yield Measurement(factors, "file_mb", size, 0)
        else:
            gmacs = 75 + 0.01 * snippets
            yield Measurement(factors, "gmacs", gmacs, 0)
            for repeat in range(5):
                rate = 1000 * gmacs / middle * wobble(factors, repeat)
                yield Measurement(factors, "gmacs_per_s", rate, repeat)
                yield Measurement(factors, "utilisation", min(0.95, rate / 5000), repeat)


def ablation():
    methods = {
        "published": (0.151, 0.083, 400),
        "centred": (0.192, 0.131, 400),
        "centred, ungated": (0.221, 0.142, 400),
        "untrained": (0.021, 0.024, 0),
        "nearest text": (0.152, 0.148, 0),
        "whole video": (0.101, 0.099, 0),
        "ceiling": (0.93, 0.92, 0),
    }
    for (method, (seen, unseen, steps)), repeat in product(methods.items(), range(3)):
        for subset, value in (("seen", seen), ("unseen", unseen)):
            factors = {"method": method, "subset": subset}
            yield from accuracy(factors, value, repeat)
            yield Measurement(factors, "steps", steps, repeat)


def localization():
    methods = {
        "nearest text": (0.23, 0.27),
        "boundary map": (0.51, 0.5),
        "whole video, same labels": (0.25, 0.26),
        "wrong vocabulary": (0.02, 0.01),
    }
    for world, (method, values), repeat in product(("base", "another seed"), methods.items(), range(3)):
        for subset, value in zip(("seen", "unseen"), values, strict=True):
            factors = {"world": world, "method": method, "subset": subset}
            yield from (found for found in accuracy(factors, value, repeat) if found.metric != "seconds")
            if method.startswith("w"):
                yield Measurement(factors, "kept", value / methods["boundary map"][0], repeat)


def robustness():
    methods = {
        "nearest text": (0.23, 0.27),
        "ceiling": (0.93, 0.94),
        "stale": (0.28, 0.31),
        "actionformer": (0.33, 0.3),
        "boundary-map": (0.5, 0.49),
        "stale, whole video": (0.25, 0.28),
        "actionformer, whole video": (0.24, 0.22),
        "boundary-map, whole video": (0.25, 0.26),
    }
    for world, (method, values), repeat in product(("base", "no shared cue"), methods.items(), range(3)):
        for subset, value in zip(("seen", "unseen"), values, strict=True):
            factors = {"world": world, "method": method, "subset": subset}
            yield from (found for found in accuracy(factors, value, repeat) if found.metric != "seconds")
            if method.endswith(", whole video"):
                whole = methods[method.removesuffix(", whole video")][subset == "unseen"]
                yield Measurement(factors, "kept", value / whole, repeat)


def run_of(study, machine=XEON, **changes):
    """A whole run of a study."""
    speed = 6.0 if machine.get("architecture") == "aarch64" else 1.0
    measured = {
        StudyName.OPEN_SET: open_set,
        StudyName.CLOSED_SET: closed_set,
        StudyName.TRAINING: training,
        StudyName.INFERENCE: lambda: timing(StudyName.INFERENCE, speed),
        StudyName.QUANTIZATION: lambda: timing(StudyName.QUANTIZATION, speed),
        StudyName.ABLATION: ablation,
        StudyName.LOCALIZATION: localization,
        StudyName.ROBUSTNESS: robustness,
    }[study]
    measurements = tuple(changes.pop("measurements", None) or measured())
    fields = {
        "study": study,
        "machine": machine,
        "options": {"repeats": 5, "lengths": list(LENGTHS), "data": "simulated"},
        "commit": "0123456789ab",
        "started": "2026-11-26T20:00:00+00:00",
        "cells": 20,
        "finished": 20,
        "measurements": measurements,
    }
    return StudyRun(**{**fields, **changes})


def all_runs():
    """Every study, and the timings on a second machine."""
    return [
        *(run_of(study) for study in StudyName),
        run_of(StudyName.INFERENCE, PI),
        run_of(StudyName.QUANTIZATION, PI),
    ]
