"""Which arithmetic this CPU computes natively, read from the kernel and not from a runtime.

A runtime's own list does not tell: OpenVINO 2026.4 lists BF16 also where it emulates it (measured
with oneDNN held to AVX512_CORE: 462 ms a window in place of 89, and of 195 in fp32).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

CPUINFO: Final = Path("/proc/cpuinfo")
# Names of the Linux kernel (arch/x86/include/asm/cpufeatures.h; arch/arm64 hwcaps for the last).
# AVX-NE-CONVERT is not among them: it converts bf16 and multiplies nothing.
_BF16: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_INT8: Final = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})
# oneDNN, which computes for OpenVINO, keeps below the instruction set that these name
# (oneDNN's documentation, "CPU Dispatcher Control").
_LIMITS: Final = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_LIMITED_WITHOUT_INT8: Final = frozenset({"SSE41", "AVX", "AVX2", "AVX512_CORE"})
_LIMITED_WITHOUT_BF16: Final = _LIMITED_WITHOUT_INT8 | {
    "AVX2_VNNI",
    "AVX2_VNNI_2",
    "AVX512_CORE_VNNI",
}


def cpu_flags() -> frozenset[str]:
    """Flags of the first CPU as the kernel names them; empty where it does not tell."""
    return frozenset(_field("flags", "Features").split())


def cpu_name() -> str:
    """Model name of the CPU, or "unknown CPU"."""
    return _field("model name") or "unknown CPU"


def lacks_bf16() -> str | None:
    """Why bf16 products would be emulated here, or None where the CPU computes them."""
    return _lacks(_BF16, _LIMITED_WITHOUT_BF16, "neither AVX512_BF16 nor AMX")


def lacks_int8() -> str | None:
    """Why int8 products would be emulated here, or None where the CPU computes them."""
    return _lacks(_INT8, _LIMITED_WITHOUT_INT8, "neither VNNI nor AMX")


def _lacks(wanted: frozenset[str], limits: frozenset[str], words: str) -> str | None:
    flags = cpu_flags()
    if not flags:
        return f"{CPUINFO} does not say what this CPU computes"
    if not wanted & flags:
        return f"this CPU ({cpu_name()}) has {words}"
    for variable in _LIMITS:
        if (limit := os.environ.get(variable, "").upper()) in limits:
            return f"{variable}={limit} keeps the arithmetic below it"
    return None


def _field(*names: str) -> str:
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""
