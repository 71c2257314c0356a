"""One thing to score."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aasist_deploy.inputs._address import Address

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class AudioInput:
    """One thing to score.

    Attributes:
        path: The file, or the address of one; of audio inside an archive, the archive's path and
            the name in it.
        content: The bytes of audio that is in no file of its own, or None.
        error: Why there is nothing to decode, or None.
    """

    path: Path | Address
    content: bytes | None = None
    error: str | None = None

    def stamp(self) -> str:
        """What tells this input from another one of another time.

        That is its name and, of a file, its size and time of change; of audio inside an archive its
        checksum.
        """
        if self.content is not None:
            return f"{self.path}\0{len(self.content)}\0{zlib.crc32(self.content)}"
        if isinstance(self.path, Address):
            # To ask a store about every object, one after the other, takes as long as scoring.
            return f"{self.path}\0address"
        try:
            status = self.path.stat()
        except (OSError, ValueError):
            return f"{self.path}\0none"
        return f"{self.path}\0{status.st_size}\0{status.st_mtime_ns}"
