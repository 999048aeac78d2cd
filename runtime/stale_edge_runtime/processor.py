"""The processor of this machine: its cores, flags that decide which products it can do, and files it answers wrong.

An x86 processor with AVX2 and without VNNI sums pairs of 8-bit products in 16 bits and cuts off what does not fit.
Files for `avx2` and `portable` keep to 7 bits, so that their sums fit everywhere.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stale_edge_runtime.contract import Precision

if TYPE_CHECKING:
    from collections.abc import Collection

    from stale_edge_runtime.contract import ModelInfo

FLAGS: Final = (
    "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx_vnni", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
"""Processor flags that decide which product kernels can run."""
EXACT_TARGETS: Final = frozenset({"vnni", "arm64"})
"""Targets of int8 files whose processors sum 8-bit products in 32 bits; the files use all 8 bits."""
CPUINFO: Final = Path("/proc/cpuinfo")
CPUS: Final = Path("/sys/devices/system/cpu")
QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")


def physical_cores(allowed: Collection[int] | None = None, root: Path = CPUS) -> int | None:
    """Count the physical cores behind some logical processors; None where the system does not tell.

    Two hyper-threads are one core. A virtual machine may be told that they are two.

    Args:
        allowed: Numbers of the logical processors; those that this process may use by default.
        root: Folder where Linux describes its processors.
    """
    if allowed is None:
        allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    try:
        siblings = {(root / f"cpu{number}/topology/thread_siblings_list").read_text().strip() for number in allowed}
    except OSError:
        return None
    return len(siblings) or None


def quota_cores(path: Path = QUOTA) -> float | None:
    """Read how many cores a container may use on average; None where it is not limited.

    Args:
        path: File where Linux says it.
    """
    try:
        quota, _, period = path.read_text().strip().partition(" ")
    except OSError:
        return None
    return round(int(quota) / int(period), 2) if quota.isdigit() and period.isdigit() and int(period) else None


def useful_threads(logical: int, root: Path = CPUS, quota: Path = QUOTA) -> int:
    """Count the threads that can multiply at the same time: one a physical core, within the quota of a container.

    Args:
        logical: Logical processors that this process may use, taken where physical cores are not known.
        root: Folder where Linux describes its processors.
        quota: File where Linux says the quota.
    """
    found = physical_cores(root=root) or logical
    limit = quota_cores(quota)
    return found if limit is None else max(1, min(found, int(limit)))


def flags_of(cpuinfo: str) -> list[str]:
    """List the flags of `FLAGS` that a system's description of its processor names.

    Args:
        cpuinfo: Description, as Linux words it.
    """
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    found = set(match.group(1).split()) if match else set()
    return [flag for flag in FLAGS if flag in found]


def cpu_flags() -> list[str]:
    """List the flags of this processor that matter for speed, where the system tells them."""
    try:
        return flags_of(CPUINFO.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return []


def saturation_warning(info: ModelInfo, path: Path) -> str:
    """Warn of an int8 file that this processor answers wrong; '' where there is nothing to warn of, or no telling."""
    target = info.recipe.get("target")
    if info.precision is not Precision.INT8 or target not in EXACT_TARGETS:
        return ""
    flags = cpu_flags()
    if "avx2" not in flags or any("vnni" in flag for flag in flags):
        return ""
    return (
        f"{path} is an int8 file for {target}, and this processor has AVX2 without VNNI: its sums of 8-bit products "
        "overflow, and answers are up to ten times as far from fp32; make a file with "
        "`stale-edge quantize --int8 --target portable`, which is right on every processor"
    )
