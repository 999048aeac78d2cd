"""Machine description beside every timing: processor, GPU, load, libraries. No names, no paths."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stale_edge_runtime.memory_limit import limited_memory
from stale_edge_runtime.processor import flags_of, physical_cores, quota_cores
from stale_edge_runtime.session import cores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "KMP_AFFINITY", "GOMP_CPU_AFFINITY")
LIBRARIES = ("stale-edge", "numpy", "onnxruntime", "onnxruntime-gpu", "torch", "openvino", "nncf")


@dataclass(frozen=True)
class LoadReading:
    """Load of the machine at one moment."""

    load_1min: float | None
    """Average number of running processes over the last minute."""
    ticks: tuple[int, ...]
    """Processor ticks since boot: user, nice, system, idle, iowait, irq, softirq, steal; empty where unknown."""


def read_load() -> LoadReading:
    """Read the machine's current load."""
    try:
        load: float | None = round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        load = None
    words = _first_line("/proc/stat").split()
    return LoadReading(load, tuple(map(int, words[1:9])) if words[:1] == ["cpu"] else ())


def describe_machine(before: LoadReading, after: LoadReading, providers: Sequence[str]) -> dict[str, Any]:
    """Describe the machine for a report.

    Args:
        before: Reading at the start of the run.
        after: Reading at its end.
        providers: Execution providers that sessions of this run said they used.

    Returns:
        JSON values; what cannot be known here is null.
    """
    cpuinfo = _text("/proc/cpuinfo")
    return {
        "cpu": _cpu_model(cpuinfo),
        "architecture": platform.machine(),
        "cpu_flags": flags_of(cpuinfo),
        "cores": os.cpu_count(),
        "cores_allowed": cores(),
        "physical_cores": physical_cores(),
        "cpu_quota_cores": quota_cores(),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None,
        "memory_mb": total // 1_000_000 if (total := memory_bytes()) else None,
        "gpu": gpu(),
        "load_1min": [before.load_1min, after.load_1min],
        "busy_percent": _share(before, after, without={3, 4}),
        "steal_percent": _share(before, after, only={7}),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": _library_versions(),
        "providers": sorted(set(providers)),
        "environment": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


@lru_cache(maxsize=1)
def gpu() -> dict[str, Any] | None:
    """Name and memory of the first NVIDIA GPU that this process may use, in 10^6 bytes; none where there is none."""
    program = shutil.which("nvidia-smi")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    if program is None or visible in {"", "-1"}:
        return None
    words = (program, f"--id={visible}", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
    try:
        told = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30)  # noqa: S603 (no shell)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    name, _, mebibytes = told.stdout.partition("\n")[0].rpartition(",")
    memory_mb = int(mebibytes) * (1 << 20) // 1_000_000 if mebibytes.strip().isdecimal() else None
    return {"name": name.strip(), "memory_mb": memory_mb} if name.strip() else None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _first_line(path: str) -> str:
    return _text(path).partition("\n")[0].strip()


def _cpu_model(cpuinfo: str) -> str:
    match = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return match.group(1).strip() if match else platform.processor() or platform.machine()


def memory_bytes() -> int | None:
    """Memory of this machine; none where the system cannot tell."""
    match = re.search(r"^MemTotal:\s*(\d+) kB", _text("/proc/meminfo"), re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None


@contextlib.contextmanager
def within_memory(providers: Sequence[str]) -> Iterator[None]:
    """Let a file that asks for more memory than the machine has get an error, and not the machine.

    Args:
        providers: Providers of files that run meanwhile; a driver maps more than it uses, so the limit holds for the
            CPU alone.
    """
    total = memory_bytes() if set(providers) <= {"cpu"} else None
    with limited_memory(total) if total else contextlib.nullcontext():
        yield


def _share(
    before: LoadReading, after: LoadReading, *, only: set[int] | None = None, without: set[int] | None = None
) -> float | None:
    """Percent of all processor time between two readings that went to some kinds of work."""
    spent = [b - a for a, b in zip(before.ticks, after.ticks, strict=False)]
    if not spent or sum(spent) <= 0:
        return None
    picked = (only or set(range(len(spent)))) - (without or set())
    return round(100 * sum(spent[kind] for kind in picked if kind < len(spent)) / sum(spent), 1)


def _library_versions() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
