"""What a request may take, and what the server takes at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aasist_deploy.errors import UsageError

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one request, and of all together.

    Attributes:
        max_upload_mib: Bytes of one request's body, in MiB.
        max_files: Files of one request.
        max_seconds: Duration of one file, as it says itself or as it is decoded.
        max_windows: Windows of one file.
        timeout_s: From a request's head to its answer.
        queue: Files that are in the server at once, being received, waiting or being scored; more
            are refused with 503.
        held_uploads: Bodies of the largest size that lie in memory at once; beyond, 503.
        grace_s: After SIGTERM, how long what was taken may take.
    """

    max_upload_mib: float = 64.0
    max_files: int = 32
    max_seconds: float = 600.0
    max_windows: int = 2_000
    timeout_s: float = 30.0
    queue: int = 128
    held_uploads: int = 8
    grace_s: float = 30.0

    def __post_init__(self) -> None:
        """Refuse limits that would let nothing through, or everything."""
        for name in ("max_upload_mib", "max_seconds", "timeout_s", "grace_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} is {value}; it must be above 0 and finite.")
        for name in ("max_files", "max_windows", "queue", "held_uploads"):
            value = getattr(self, name)
            if value < 1:
                raise UsageError(f"{name} is {value}; it must be 1 or more.")
        if self.max_files > self.queue:
            raise UsageError(
                f"A request may have {self.max_files} files, and the queue takes {self.queue}: "
                "such a request would never be let in.",
                fix="a longer queue, or fewer files in a request",
            )

    @property
    def max_upload_bytes(self) -> int:
        """Most bytes of a body."""
        return max(1, int(self.max_upload_mib * MIB))

    @property
    def max_held_bytes(self) -> int:
        """Most bytes of all bodies together."""
        return self.held_uploads * self.max_upload_bytes
