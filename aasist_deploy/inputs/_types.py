"""One thing to score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class AudioInput:
    """One thing to score.

    Attributes:
        path: The file; of audio inside an archive, the archive's path and the name in it.
        content: The bytes of audio that is in no file of its own, or None.
    """

    path: Path
    content: bytes | None = None
