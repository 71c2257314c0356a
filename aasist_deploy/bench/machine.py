"""The machine that a measurement was made on, as far as an ordinary process can know it."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from aasist_deploy.engines.base import usable_cores

PACKAGES: Final = ("aasist-deploy", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "torch")
# What decides how fast matrix products can be, by the kernel's names for it.
_FEATURES: Final = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "amx_int8", "asimd", "asimddp", "bf16", "i8mm"),
)


def machine() -> dict[str, Any]:
    """CPU, cores that this process may use, clock policy, load and memory; null: not known here.

    The load average is that of the last minute before the run: what else the machine was doing.
    """
    fields = _cpuinfo()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    governors = {
        text
        for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
        if (text := _text(path)) is not None
    }
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "features": [name for name in _FEATURES if name in flags],
        "cores": usable_cores(),
        "affinity": affinity,
        "cores_of_machine": os.cpu_count(),
        "cpu_quota": _quota(),
        "governor": ", ".join(sorted(governors)) or None,
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "memory_bytes": _memory_bytes(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Python and the packages that a time may depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def peak_memory_bytes() -> int | None:
    """The largest resident memory that this process has had.

    From VmHWM, which belongs to the program that runs now: the figure of getrusage is inherited
    from the process that started this one (Linux, exec_mmap), and so is no lower than that one's.
    """
    for line in (_text(Path("/proc/self/status")) or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def _cpuinfo() -> dict[str, str]:
    """Fields of the first processor."""
    lines = (_text(Path("/proc/cpuinfo")) or "").split("\n\n")[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _quota() -> float | None:
    """Cores' worth of time that a container may use, or None for no such limit."""
    quota, _, period = (_text(Path("/sys/fs/cgroup/cpu.max")) or "").partition(" ")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
