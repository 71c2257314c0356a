"""How the C library hands out memory while networks run on the CPU."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

# Parameters of mallopt in glibc's malloc.h.
_TRIM_THRESHOLD: Final = -1
_MMAP_MAX: Final = -4

KEPT_BYTES: Final = 2**31 - 1  # the largest number that mallopt takes


def keep_freed_memory() -> bool:
    """Let freed memory be used again instead of being given back to the system at once.

    PyTorch takes new memory for the output of each layer. Of 32 MB and more, as those of the first
    layers are for each wave, glibc gets it from the system page by page, zeroed, and gives it back
    when the next layer is through: that was half of the time of AASIST on the CPU (2 cores of an
    EPYC, 3 waves: 3.1 s of CPU time, 1.4 s with this). For the whole process, and for good; at most
    `KEPT_BYTES` at the end of the heap wait to be used again.

    Returns:
        Whether it could be set; False where the C library has no such setting.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, KEPT_BYTES))
